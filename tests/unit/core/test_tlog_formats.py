from __future__ import annotations

import subprocess
import sys

import pytest

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.signing import Identity
from underseal_core.tlog.checkpoint import (
    Checkpoint,
    add_cosignatures,
    open_checkpoint,
    sign_checkpoint,
)
from underseal_core.tlog.layout import (
    decode_bundle,
    encode_bundle,
    index_path,
    split_tile,
    tile_path,
)
from underseal_core.tlog.note import MAX_SIGNATURES, KeyKind, Note, NoteSigner, VerifierKey
from underseal_core.tlog.proof import Receipt
from underseal_core.tlog.witness_request import WitnessRequest

ROOT = bytes(range(32))
ROOT64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def signer(name: str = "log.example/one", kind: KeyKind = KeyKind.ED25519) -> NoteSigner:
    return NoteSigner(name, Identity.generate(), kind)


@pytest.fixture(scope="module")
def line() -> str:
    return signer().sign("text\n").line()


@pytest.mark.parametrize(
    "shape",
    [
        "{text}",
        "{text}\n",
        "\n{line}",
        "{text}{line}",
        "{text}\n{line}{text}",
        "{text}\n{cut}",
        "\x01{text}\n{line}",
        "{text}\r\n\n{line}",
        "{text}\n\u2014 Bad Name AAAAAAAA\n",
        "{text}\n\u2014 a+b AAAAAAAA\n",
        "{text}\n\u2014 name AAAAAA==\n",
        "{text}\n\u2014 name AAAAAAB=\n",
        "{text}\n\u2014 name AAAA AAAA\n",
        "{text}\n- name AAAAAAAA\n",
        "{text}\n\u2014 na\u2003me AAAAAAAA\n",
    ],
)
def test_malformed_notes_are_refused(shape: str, line: str) -> None:
    raw = shape.format(text="text\n", line=line, cut=line[:-1]).encode()
    with pytest.raises(Damaged):
        Note.parse(raw)


def test_note_must_be_utf8_and_bounded(line: str) -> None:
    with pytest.raises(Damaged):
        Note.parse(b"\xfftext\n\n" + line.encode())
    assert len(Note.parse(("text\n\n" + line * 16).encode()).signatures) == 16
    with pytest.raises(Damaged):
        Note.parse(("text\n\n" + line * (MAX_SIGNATURES + 1)).encode())
    with pytest.raises(Damaged):
        Note.parse(b"t" * (1 << 20) + b"\n\n" + line.encode())


def test_text_ends_at_the_last_empty_line() -> None:
    key = signer()
    text = "first\n\n\u2014 not a signature\n\nlast\n"
    note = Note.parse(Note(text, (key.sign(text),)).to_bytes())
    assert note.text == text
    assert key.key in note.verified((key.key,))


def test_same_key_of_another_type_or_name_is_unknown() -> None:
    identity = Identity.generate()
    plain = NoteSigner("name", identity)
    witness = VerifierKey("name", identity.public_key, KeyKind.COSIGNATURE)
    other = VerifierKey("other", identity.public_key)
    note = Note("text\n", (plain.sign("text\n"),))
    assert witness.key_id != plain.key.key_id
    assert note.verified((witness, other)) == {}
    assert not witness.verifies("text\n", note.signatures[0])


def test_cosignature_covers_time_and_text() -> None:
    key = signer("witness.example/w", KeyKind.COSIGNATURE)
    text = Checkpoint("log", 3, ROOT).text()
    made = key.cosign(text, 1679315147)
    assert key.key.verifies(text, made)
    assert made.timestamp() == 1679315147
    later = type(made)(made.name, made.key_id, (1679315148).to_bytes(8, "big") + made.signature[8:])
    assert not key.key.verifies(text, later)
    assert not key.key.verifies(Checkpoint("log", 4, ROOT).text(), made)
    with pytest.raises(InvalidInput):
        key.sign(text)
    with pytest.raises(InvalidInput):
        key.cosign(text, 1 << 63)
    with pytest.raises(InvalidInput):
        signer().cosign(text, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n3\n",
        f"log\n3\n{ROOT64}",
        f"\n3\n{ROOT64}\n",
        f"log\n03\n{ROOT64}\n",
        f"log\n-3\n{ROOT64}\n",
        f"log\n+3\n{ROOT64}\n",
        f"log\n\u0663\n{ROOT64}\n",
        f"log\n3 \n{ROOT64}\n",
        f"log\n{1 << 63}\n{ROOT64}\n",
        f"log\n{'9' * 5000}\n{ROOT64}\n",
        "log\n3\nAAAA\n",
        f"log\n3\n{ROOT64[:-1]}\n",
        f"log\n3\n{ROOT64[:-2]}9=\n",
        f"log\n3\n{ROOT64}\n\n",
        f"log\n3\n{ROOT64}\n\nmore\n",
        f"cosignature/v1\n3\n{ROOT64}\n",
    ],
)
def test_malformed_checkpoints_are_refused(text: str) -> None:
    with pytest.raises(Damaged):
        Checkpoint.parse(text)


def test_checkpoint_with_extension_lines() -> None:
    text = f"log\n3\n{ROOT64}\nmore\n"
    assert Checkpoint.parse(text) == Checkpoint("log", 3, ROOT, ("more",))
    assert Checkpoint.parse(text).text() == text


def test_checkpoint_is_of_this_log_and_key_only() -> None:
    key, stranger = signer(), signer()
    raw = sign_checkpoint(Checkpoint(key.key.name, 3, ROOT), key)
    assert open_checkpoint(raw, key.key).checkpoint.root == ROOT
    with pytest.raises(PermissionRefused):
        open_checkpoint(raw, stranger.key)
    with pytest.raises(InvalidInput):
        sign_checkpoint(Checkpoint("log.example/two", 3, ROOT), key)
    text = Checkpoint("log.example/two", 3, ROOT).text()
    with pytest.raises(PermissionRefused, match="another log"):
        open_checkpoint(Note(text, (key.sign(text),)).to_bytes(), key.key)


def test_quorum_counts_witness_keys_once() -> None:
    log, first, second = (
        signer(),
        signer("w/1", KeyKind.COSIGNATURE),
        signer("w/2", KeyKind.COSIGNATURE),
    )
    raw = sign_checkpoint(Checkpoint(log.key.name, 3, ROOT), log)
    text = Note.parse(raw).text
    answer = first.cosign(text, 10).line() + first.cosign(text, 11).line()
    answer += signer("w/9", KeyKind.COSIGNATURE).cosign(text, 12).line()
    keys = (first.key, second.key)
    cosigned = add_cosignatures(raw, answer.encode(), keys)
    assert len(Note.parse(cosigned).signatures) == 2
    assert open_checkpoint(cosigned, log.key, keys, quorum=1).witnessed == {first.key: 10}
    with pytest.raises(PermissionRefused, match="too few"):
        open_checkpoint(cosigned, log.key, keys, quorum=2)
    # One key under two names is one witness: the message does not hold the cosigner's name.
    alias = VerifierKey("w/alias", first.key.public_key, KeyKind.COSIGNATURE)
    made = first.cosign(text, 10)
    aliased = type(made)(alias.name, alias.key_id, made.signature)
    both = add_cosignatures(cosigned, aliased.line().encode(), (alias,))
    with pytest.raises(PermissionRefused, match="too few"):
        open_checkpoint(both, log.key, (first.key, alias), quorum=2)


def test_a_log_key_is_no_witness() -> None:
    log = signer()
    raw = sign_checkpoint(Checkpoint(log.key.name, 3, ROOT), log)
    with pytest.raises(InvalidInput):
        open_checkpoint(raw, log.key, (log.key,), quorum=1)


def test_wrong_cosignature_of_a_known_witness_is_refused() -> None:
    log, witness = signer(), signer("w/1", KeyKind.COSIGNATURE)
    raw = sign_checkpoint(Checkpoint(log.key.name, 3, ROOT), log)
    wrong = witness.cosign(Checkpoint(log.key.name, 4, ROOT).text(), 10).line().encode()
    with pytest.raises(PermissionRefused):
        add_cosignatures(raw, wrong, (witness.key,))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"wrong-header\nindex 0\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 05\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (ROOT64.encode() + b"\n") * 64 + b"\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex \xc3\xa9\n\ncheckpoint\n",
    ],
)
def test_malformed_receipts_are_refused(raw: bytes) -> None:
    with pytest.raises(Damaged):
        Receipt.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"old 3\n",
        b"old 3\n\n",
        b"old 03\n\ncheckpoint\n",
        b"new 3\n\ncheckpoint\n",
        b"old 3\nAAAA\n\ncheckpoint\n",
        b"old 3\n?\n\ncheckpoint\n",
        b"old 3\n" + (ROOT64.encode() + b"\n") * 64 + b"\ncheckpoint\n",
    ],
)
def test_malformed_witness_requests_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        WitnessRequest.parse(raw)


def test_witness_request_round_trip() -> None:
    request = WitnessRequest(20852014, (ROOT, ROOT[::-1]), b"checkpoint\n")
    assert request.to_bytes().startswith(f"old 20852014\n{ROOT64}\n".encode())
    assert WitnessRequest.parse(request.to_bytes()) == request


def test_bundles_and_tiles_hold_what_they_say() -> None:
    entries = [b"", b"a", b"b" * 65535]
    data = encode_bundle(entries)
    assert data[:5] == b"\x00\x00\x00\x01a"
    assert decode_bundle(data, 3) == entries
    for damaged, count in ((data[:-1], 3), (data + b"\x00", 3), (data, 2), (data, 4), (b"\x00", 0)):
        with pytest.raises(Damaged):
            decode_bundle(damaged, count)
    assert split_tile(ROOT * 2, 2) == [ROOT, ROOT]
    with pytest.raises(Damaged):
        split_tile(ROOT * 2, 3)


def test_paths_outside_the_layout_are_refused() -> None:
    for level, index, width in ((64, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)):
        with pytest.raises(InvalidInput):
            tile_path(level, index, width)
    assert index_path(999_999_999) == "x999/x999/999"


def test_verifying_imports_nothing_of_the_prover() -> None:
    code = (
        "import sys, underseal_core.tlog.audit, underseal_core.tlog.proof\n"
        "names = [m for m in sys.modules if m.startswith('underseal_core.tlog.')]\n"
        "used = {name.rsplit('.', 1)[1] for name in names}\n"
        "print(sorted(used & {'tree', 'builder', 'tiles', 'log', 'recovery', 'journal'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_keys_do_not_show_secrets() -> None:
    key = signer()
    assert key.key.vkey() in repr(key)
    assert "rivate" not in repr(key)
