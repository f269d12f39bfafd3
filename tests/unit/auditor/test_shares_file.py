from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.ceremonies import finished
from underseal_auditor.keys import share_file
from underseal_auditor.keys.sealed_file import (
    Argon2Cost,
    SealedContent,
    WrongPassphrase,
    load_sealed,
    save_sealed,
)
from underseal_auditor.keys.share import Share
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound, StorageFull
from underseal_core.labels import OpeningKey

PASSPHRASE = b"correct horse"
CHEAP = Argon2Cost(memory_kib=64, passes=1)


def share() -> Share:
    return finished(threshold=2, count=3).shares[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "guardian.share"
    share_file.save(path, share(), PASSPHRASE, CHEAP)
    return path


def test_share_round_trip(path: Path) -> None:
    loaded = share_file.load(path, PASSPHRASE, share().epoch)
    assert np.array_equal(loaded.secret, share().secret)
    assert (loaded.point, loaded.threshold, loaded.members) == (2, 2, 3)
    assert (loaded.profile, loaded.epoch) == (share().profile, share().epoch)


def test_default_cost_is_that_of_the_documentation(tmp_path: Path) -> None:
    path = tmp_path / "default.share"
    share_file.save(path, share(), PASSPHRASE)
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[4:8], "big")])
    assert header["argon2id"] == {"lanes": 1, "memory_kib": 65536, "passes": 3}
    assert np.array_equal(share_file.load(path, PASSPHRASE).secret, share().secret)


def test_file_is_for_its_owner_only(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_file_shows_neither_share_nor_passphrase(path: Path) -> None:
    data = path.read_bytes()
    assert share().secret[0, :4].astype("<u4").tobytes() not in data
    assert PASSPHRASE not in data


def test_same_share_never_seals_to_the_same_bytes(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.share"
    share_file.save(other, share(), PASSPHRASE, CHEAP)
    assert other.read_bytes()[-64:] != path.read_bytes()[-64:]


@pytest.mark.parametrize("passphrase", [b"wrong", b"", PASSPHRASE + b" "])
def test_wrong_passphrase_is_a_clear_error(path: Path, passphrase: bytes) -> None:
    with pytest.raises(WrongPassphrase, match=r"guardian\.share does not open") as caught:
        share_file.load(path, passphrase)
    assert "passphrase is wrong" in caught.value.hint
    assert str(path.parent) not in caught.value.public


def test_existing_file_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="exists already"):
        share_file.save(path, share(), b"another passphrase", CHEAP)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("passphrase", ["", "eleven char", "ääääää"])
def test_short_passphrase_is_refused(tmp_path: Path, passphrase: str) -> None:
    with pytest.raises(InvalidInput, match="less than 12 characters"):
        share_file.save(tmp_path / "x", share(), passphrase.encode(), CHEAP)
    assert list(tmp_path.iterdir()) == []
    share_file.save(tmp_path / "x", share(), b"twelve chars", CHEAP)


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFull, match="cannot write x"):
        share_file.save(tmp_path / "x", share(), PASSPHRASE, CHEAP)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cannot read none\.share"):
        share_file.load(tmp_path / "none.share", PASSPHRASE)


def test_share_of_another_epoch_is_a_mismatch(path: Path) -> None:
    with pytest.raises(Mismatch, match="another key epoch"):
        share_file.load(path, PASSPHRASE, "00" * 32)


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the header, keeping the file well-formed."""
    data = path.read_bytes()
    length = int.from_bytes(data[4:8], "big")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    path.write_bytes(data[:4] + len(text).to_bytes(4, "big") + text + data[8 + length :])


def about(**changes: object) -> Callable[[dict[str, object]], None]:
    def change(header: dict[str, object]) -> None:
        facts = header["about"]
        assert isinstance(facts, dict)
        facts.update(changes)

    return change


def field(**changes: object) -> Callable[[dict[str, object]], None]:
    return lambda header: header.update(changes)


def test_rewriting_without_a_change_keeps_the_file(path: Path) -> None:
    rewrite(path, lambda _: None)
    assert share_file.load(path, PASSPHRASE).point == 2


@pytest.mark.parametrize(
    "change",
    [
        about(epoch="00" * 32),
        about(point=1),
        about(threshold=1),
        about(members=2),
        about(profile="guarded"),
        about(extra=1),
        field(salt="00" * 16),
        field(nonce="00" * 12),
        field(argon2id={"memory_kib": 64, "passes": 2, "lanes": 1}),
        field(argon2id={"memory_kib": 65, "passes": 1, "lanes": 1}),
        field(argon2id={"memory_kib": 64, "passes": 1, "lanes": 2}),
        field(extra=1),
    ],
)
def test_changed_header_field_does_not_open(
    path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    rewrite(path, change)
    with pytest.raises(WrongPassphrase):
        share_file.load(path, PASSPHRASE)


@pytest.mark.parametrize(
    "change",
    [
        field(kind="label key"),
        field(cipher="none"),
        field(salt="00"),
        field(nonce="00"),
        field(salt=5),
        field(argon2id={"memory_kib": 1 << 30, "passes": 1, "lanes": 1}),
        field(argon2id={"memory_kib": (256 << 10) + 1, "passes": 1, "lanes": 1}),
        field(argon2id={"memory_kib": 64, "passes": 10**9, "lanes": 1}),
        field(argon2id={"memory_kib": 64, "passes": 17, "lanes": 1}),
        field(argon2id={"memory_kib": 64, "passes": 1, "lanes": 5}),
        field(argon2id={"memory_kib": 64, "passes": 1, "lanes": 0}),
        field(argon2id={"memory_kib": 64, "passes": True, "lanes": 1}),
        field(argon2id={"memory_kib": 64}.__or__({"what": 1})),
        field(argon2id=None),
        field(about=None),
        field(about={"epoch": [1]}),
        lambda header: header.clear(),
    ],
)
def test_malformed_header_is_damaged(
    path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    rewrite(path, change)
    with pytest.raises(Damaged):
        share_file.load(path, PASSPHRASE)


@pytest.mark.parametrize("position", [-1, -17, -1000])
def test_changed_ciphertext_does_not_open(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WrongPassphrase):
        share_file.load(path, PASSPHRASE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"USS1",
        b"USS1\xff\xff\xff\xff",
        b"XXXX\x00\x00\x00\x00",
        b"USS1\x00\x00\x10\x00" + b"[" * 4096,
    ],
)
def test_other_bytes_are_not_a_share_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(Damaged):
        share_file.load(path, PASSPHRASE)


def test_well_sealed_content_that_is_no_share_is_damaged(tmp_path: Path) -> None:
    facts: dict[str, str | int] = {
        "epoch": "a",
        "members": 1,
        "point": 1,
        "profile": "swift",
        "threshold": 1,
    }
    short = tmp_path / "short"
    save_sealed(short, share_file.SHARE_KIND, SealedContent(facts, b"abcd"), PASSPHRASE, CHEAP)
    empty = tmp_path / "empty"
    save_sealed(empty, share_file.SHARE_KIND, SealedContent({}, b""), PASSPHRASE, CHEAP)
    for path in (short, empty):
        with pytest.raises(Damaged, match="does not hold a key share"):
            share_file.load(path, PASSPHRASE)


def test_label_key_round_trip(tmp_path: Path) -> None:
    key = OpeningKey.generate()
    path = tmp_path / "registrar.label-key"
    share_file.save_label_key(path, key, "ab" * 32, PASSPHRASE, CHEAP)
    loaded = share_file.load_label_key(path, PASSPHRASE, "ab" * 32)
    assert loaded.to_secret_bytes() == key.to_secret_bytes()
    assert key.to_secret_bytes()[:32] not in path.read_bytes()
    with pytest.raises(Mismatch):
        share_file.load_label_key(path, PASSPHRASE, "cd" * 32)
    with pytest.raises(WrongPassphrase):
        share_file.load_label_key(path, b"wrong")
    with pytest.raises(Damaged, match="not a sealed key share"):
        share_file.load(path, PASSPHRASE)


def test_sealed_content_does_not_show_its_secret(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_sealed(path, "note", SealedContent({"a": 1}, b"secret"), PASSPHRASE, CHEAP)
    content = load_sealed(path, "note", PASSPHRASE)
    assert content.secret == b"secret"
    assert "secret" not in repr(content).replace("SealedContent", "")
