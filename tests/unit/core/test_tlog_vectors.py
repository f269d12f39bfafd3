"""Published values of the formats: RFC 6962 reference tree, C2SP examples, live logs."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.signing import Identity
from underseal_core.tlog.checkpoint import Checkpoint, open_checkpoint
from underseal_core.tlog.layout import bundle_path, index_path, tile_path, tile_width
from underseal_core.tlog.note import KeyKind, Note, NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.tree import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from underseal_core.tlog.verifier import check_consistency, check_inclusion, hash_entry, root_of

# The reference tree of Certificate Transparency: leaves and the root after each of them.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
N10 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
N20 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
N21 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
N13 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
N12 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
L0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
L1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
L4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
L6 = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
P01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"

INCLUSION = [
    (0, 1, []),
    (0, 8, [L1, N10, N21]),
    (5, 8, [L4, N13, N20]),
    (2, 3, [P01]),
    (1, 5, [L0, N10, L4]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [L1, N10, N21]),
    (6, 8, [N12, N13, N20]),
    (2, 5, [N10, L4]),
    (6, 7, [N12, L6, N20]),
]

# Google's Argon 2020 log, answers of get-sth, get-proof-by-hash and get-sth-consistency.
ARGON_SIZE = 961984013
ARGON_ROOT = "dwlueapdd7LaOEnX2W2Wp9v2XE+KzejHRQGHwEx0oaM="
ARGON_OLD = (3654490, "AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ=")
ARGON_CONSISTENCY = """
80Sfbj6UQEdVSZCSIgh9NMPj3vCBzcc1A48B2crJSWg= FZcrgAHUk6nNPviJZq8kEK6jCG1d18pJOFE45ZDc1TQ=
Q67reWXmPBo1UfmwBap4Xi9PMPfFdUSSw3WGlRZdG7k= eJ7CyhR4PxzBxDIsWgrVYW1eFUb9ndgf46tFmiqVrxA=
QrDwp062Grm5WY8KdrhFsBuuNjGzRox2Jb8PmVL5OYw= XM4YMjMEdLH/XJam/ZWyaP14k3cmsOtnPsOWQ54lW1s=
SGiBh+jOTGccXU48ZzgQ88lRcBmtB4wz4oSDndv2QTg= WAS6txqNLYKGL1GdBdpqmV42TTfn6cJsuDsqLXuTCNI=
QFmRS0rirUA7ZN3lxFjDncV+E1OCrn3NUB4RCp+5fzc= Hdbp7It2XBNZmNDBpCN/KPd7vfVqxgzwOosqVIaEA9E=
mxvHL0ZiblBdD7j7pIa1jlfB0gSqfJ6oX0UGo7L0VsU= q5hjyvoW6TL/PThgcitpDcSTrnKX2p1+aqscqH2euRA=
jTOWDqt3IHj2NVFeezyBz2ofpru+ztEywqKUAfFclKI= GIRn0w3HqJdvU9j1WVD//eR6lk2AaTVjyzjsJNP8U88=
x52GJvxG81fnQBrgOTbll1A5tz95/LXK0Ag1NhB0r1I= 6/0OqrcTgc3o5dD5PymmoC96lB9yLPFuTHVvLy8fSGk=
Gf+iKLfcXO5l4JEFmsZvSdG5q1uEeWPfYLrds6pmjz0= DGuaco+McyM3AfRSF6qX7RwSetwe2ieYJmxw5e9rVx0=
2tQJ9V32hnYp+fdpP6TcjmgJmLeNVOMKM0Ml1kk4cNU= 3PapK+IkyJr8I9yAErAmzuZezzLMzsg+PfeRCgNW8NQ=
s6xiYeejb+wtqHA+URJZ2I/SCPyIW8coP6aB00FJbMY= z9lSpmdTcr5M5ZzKlc4EPh3SrSypKFdk6JUF/UccaZU=
GXIElfmnRuWfbA4z7ubV/UwlpSRUbUeec7oL5HDDnh0= pR0SH/NYP6s9+8azWwaeUXA4Ze/3WCIgMfh5YW6wvcE=
f3GuAKYVrF8RBg3s15jvA/YvV9oAliWtzP/imwPhQVA= WHn8zDxlVgkV+lSlmzaOdfSBrTHoRr5nT3d76q0KKWE=
f2uV2ZxVgULzLPKuZcowRY3ZY7fRlX59iDBjV1R8kNQ= NzQVjJsvQwbi7WStMr9oFkh9VbHfK7LB6o7WwAqwNTs=
C0LttBeYHZHgL+032JIcJC3CTBIyza/hsbmJUgJfmDI= nixU5CWTFVDlF4BGdcU6kA7WSYurEpe9jRWc+F/7sOc=
"""

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
PROVERB = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXg"
    "KvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "\u2014 EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01"
    "oOTGwnWLox33WWd1RvMc+QQ=\n"
)

# A checkpoint of a public log, with a signature of a type unknown here and four cosignatures.
LIVE_LOG = (
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
)
LIVE_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]
LIVE_CHECKPOINT = """\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

\u2014 arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMH\
bdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
\u2014 arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3Ny\
gNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
\u2014 transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2\
rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
\u2014 witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ\
75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
\u2014 remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sX\
Tynk5XeU/zZ0WBxtqB0DrAWfBw==
\u2014 witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJm\
IY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
"""


def test_hashes_are_those_of_rfc_6962() -> None:
    assert leaf_hash(b"L123456").hex() == (
        "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    )
    assert node_hash(b"N123", b"N456").hex() == (
        "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )
    assert EMPTY_ROOT.hex() == ROOTS[0] == root_of([]).hex()


def test_reference_roots_from_frontier_and_verifier() -> None:
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES):
        assert frontier.root().hex() == ROOTS[size]
        frontier.append(leaf_hash(leaf))
        assert root_of([hash_entry(entry) for entry in LEAVES[: size + 1]]) == frontier.root()
    assert frontier.root().hex() == ROOTS[8]


def _broken(path: list[bytes]) -> list[list[bytes]]:
    """Paths that must not verify: cut, longer, reordered, one bit flipped."""
    extra = bytes.fromhex(ROOTS[5])
    flipped = [
        [*path[:i], bytes([value[0] ^ 16]) + value[1:], *path[i + 1 :]]
        for i, value in enumerate(path)
    ]
    others = [[*path, extra], [extra, *path], [*path, b""], path[:-1], path[1:], path[::-1]]
    return flipped + [other for other in others if other != path]


@pytest.mark.parametrize(("index", "size", "hashes"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, hashes: list[str]) -> None:
    leaf, root = hash_entry(LEAVES[index]), bytes.fromhex(ROOTS[size])
    path = [bytes.fromhex(value) for value in hashes]
    check_inclusion(leaf, index, size, path, root)
    for broken in _broken(path):
        with pytest.raises(Damaged):
            check_inclusion(leaf, index, size, broken, root)
    for other_index, other_size in ((index + 1, size), (index - 1, size), (index, size * 2)):
        with pytest.raises(Damaged):
            check_inclusion(leaf, other_index, other_size, path, root)
    for other_leaf, other_root in ((b"", root), (root[::-1], root), (leaf, b""), (b"", b"")):
        with pytest.raises(Damaged):
            check_inclusion(other_leaf, index, size, path, other_root)


@pytest.mark.parametrize(("old", "new", "hashes"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, hashes: list[str]) -> None:
    old_root, new_root = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    path = [bytes.fromhex(value) for value in hashes]
    check_consistency(old, new, path, old_root, new_root)
    for broken in _broken(path):
        with pytest.raises(Damaged):
            check_consistency(old, new, broken, old_root, new_root)
    for sizes in ((old - 1, new), (old + 1, new), (old, new * 2), (new + 1, new), (0, 0)):
        with pytest.raises(Damaged):
            check_consistency(*sizes, path, old_root, new_root)
    for roots in ((new_root, old_root[::-1]), (old_root, b""), (b"", new_root)):
        with pytest.raises(Damaged):
            check_consistency(old, new, path, *roots)


def test_consistency_of_a_public_log_with_a_billion_entries() -> None:
    path = [base64.b64decode(value) for value in ARGON_CONSISTENCY.split()]
    old_size, old_root = ARGON_OLD[0], base64.b64decode(ARGON_OLD[1])
    root = base64.b64decode(ARGON_ROOT)
    check_consistency(old_size, ARGON_SIZE, path, old_root, root)
    with pytest.raises(Damaged, match="forked"):
        check_consistency(old_size, ARGON_SIZE, path, old_root[::-1], root)


def test_note_of_the_go_checksum_database_packages() -> None:
    peter, enoch = VerifierKey.parse(PETER), VerifierKey.parse(ENOCH)
    note = Note.parse((PROVERB + "\n" + PETER_LINE + ENOCH_LINE).encode())
    assert note.text == PROVERB
    assert list(note.verified((peter,))) == [peter]
    assert list(note.verified((peter, enoch))) == [peter, enoch]
    assert note.verified(()) == {}


def test_signing_gives_the_published_bytes() -> None:
    seed = base64.b64decode(PETER_SECRET)[1:]
    signer = NoteSigner("PeterNeumann", Identity(Ed25519PrivateKey.from_private_bytes(seed)))
    assert signer.key.vkey() == PETER
    assert Note(PROVERB, (signer.sign(PROVERB),)).to_bytes() == (
        (PROVERB + "\n" + PETER_LINE).encode()
    )


def test_example_of_the_signed_note_specification() -> None:
    key = VerifierKey.parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    raw = (
        "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6T"
        "fXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    )
    assert key in Note.parse(raw.encode()).verified((key,))
    with pytest.raises(PermissionRefused):
        Note.parse(raw.replace("an example", "no example").encode()).verified((key,))


@pytest.mark.parametrize("start", range(0, len(PETER), 7))
def test_no_part_of_a_verifier_key_is_one(start: int) -> None:
    for end in range(start + 1, len(PETER) + (start > 0)):
        with pytest.raises(InvalidInput):
            VerifierKey.parse(PETER[start:end])


def test_no_changed_verifier_key_is_accepted() -> None:
    for place, letter in enumerate(PETER):
        with pytest.raises(InvalidInput):
            VerifierKey.parse(PETER[:place] + chr(ord(letter) + 1) + PETER[place + 1 :])
    with pytest.raises(InvalidInput):  # an unknown type with a matching id
        VerifierKey.parse("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    with pytest.raises(InvalidInput):  # a key of another length with a matching id
        VerifierKey.parse(
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY=="
        )


def test_checkpoint_of_a_public_log_with_its_cosignatures() -> None:
    witnesses = [VerifierKey.parse(text) for text in LIVE_WITNESSES]
    assert {key.kind for key in witnesses} == {KeyKind.COSIGNATURE}
    raw = LIVE_CHECKPOINT.encode()
    signed = open_checkpoint(raw, VerifierKey.parse(LIVE_LOG), witnesses, quorum=4)
    assert signed.checkpoint.size == 1432088532
    assert set(signed.witnessed.values()) == {0x6A122120}
    changed = raw.replace(b"1432088532", b"1432088533")
    with pytest.raises(PermissionRefused):
        open_checkpoint(changed, VerifierKey.parse(LIVE_LOG))
    with pytest.raises(PermissionRefused):
        Note.parse(changed).verified(witnesses[2:3])


def test_checkpoint_text_of_the_go_checksum_database() -> None:
    text = "go.sum database tree\n123456789012\nTszzRgjTG6xce+z2AG31kAXYKBgQVtCSCE40HmuwBb0=\n"
    checkpoint = Checkpoint("go.sum database tree", 123456789012, leaf_hash(b"hello world"))
    assert checkpoint.text() == text
    assert Checkpoint.parse(text) == checkpoint


def test_receipt_text() -> None:
    first, second = hashlib.sha256(b"hash1").digest(), hashlib.sha256(b"hash2").digest()
    texts = [base64.b64encode(value).decode() for value in (first, second)]
    receipt = Receipt(5, (first, second), b"test checkpoint\n")
    assert receipt.to_bytes().decode() == (
        f"c2sp.org/tlog-proof@v1\nindex 5\n{texts[0]}\n{texts[1]}\n\ntest checkpoint\n"
    )
    extra = Receipt(10, (first,), b"checkpoint data\n", b"extra information")
    assert extra.to_bytes().decode() == (
        "c2sp.org/tlog-proof@v1\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 10\n"
        f"{texts[0]}\n\ncheckpoint data\n"
    )
    bare = Receipt(0, (), b"checkpoint\n")
    assert bare.to_bytes() == b"c2sp.org/tlog-proof@v1\nindex 0\n\ncheckpoint\n"
    for one in (receipt, extra, bare):
        assert Receipt.parse(one.to_bytes()) == one


def test_paths_of_the_tiles_specification() -> None:
    assert index_path(1234067) == "x001/x234/067"
    assert index_path(0) == "000"
    assert tile_path(0, 1000) == "tile/0/x001/000"
    assert tile_path(1, 17, 5) == "tile/1/017.p/5"
    assert bundle_path(273, 112) == "tile/entries/273.p/112"


def test_tiles_of_a_tree_of_70000() -> None:
    assert [tile_width(0, n, 70_000) for n in (272, 273, 274)] == [256, 112, 0]
    assert [tile_width(1, n, 70_000) for n in (0, 1, 2)] == [256, 17, 0]
    assert [tile_width(2, n, 70_000) for n in (0, 1)] == [1, 0]
    assert (tile_width(0, 0, 256), tile_width(1, 0, 256)) == (256, 1)
