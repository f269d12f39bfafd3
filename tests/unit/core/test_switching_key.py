"""The switching key's file: strict parsing, and who must have signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.oracles.ceremonies import finished
from tests.oracles.rotations import Rotated, rotated
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound, UndersealError
from underseal_core.scheme.profiles import PROFILES
from underseal_core.signing import Identity
from underseal_core.switching import (
    MAX_SWITCHING_KEY_BYTES,
    SwitchingKey,
    load_switching_key,
    parse_switching_key,
    switching_key_size,
    verify_switching_key,
)


@pytest.fixture(scope="module")
def move() -> Rotated:
    return rotated()


def test_bytes_return_as_they_went(move: Rotated, tmp_path: Path) -> None:
    data = move.key.to_bytes()
    parsed = parse_switching_key(data)
    assert parsed.to_bytes() == data
    assert parsed.id == move.key.id
    assert (parsed.active, parsed.new_members) == ((2, 3), 3)
    np.testing.assert_array_equal(parsed.key, move.key.key)
    verify_switching_key(parsed, move.old.bundle, move.new.bundle)
    move.key.save(tmp_path / "switching.usk")
    assert load_switching_key(tmp_path / "switching.usk").id == move.key.id
    with pytest.raises(NotFound):
        load_switching_key(tmp_path / "other.usk")


def test_largest_key_fits_the_limit() -> None:
    assert max(switching_key_size(p, 32, 32) for p in PROFILES.values()) <= MAX_SWITCHING_KEY_BYTES


Change = Callable[[bytearray], bytes]


def put(offset: int, value: bytes) -> Change:
    def change(data: bytearray) -> bytes:
        data[offset : offset + len(value)] = value
        return bytes(data)

    return change


MALFORMED: dict[str, Change] = {
    "empty": lambda _: b"",
    "prefix only": lambda data: bytes(data[:8]),
    "one byte short": lambda data: bytes(data[:-1]),
    "one byte long": lambda data: bytes(data) + b"\0",
    "magic": put(0, b"USB1"),
    "unknown profile": put(4, b"\x09"),
    "another profile": put(4, b"\x01"),
    "no old member": put(5, b"\x00"),
    "too many old members": put(5, b"\x21"),
    "no new member": put(6, b"\x00"),
    "too many new members": put(6, b"\x21"),
    "reserved byte": put(7, b"\x01"),
    "a member twice": put(104, b"\x03\x03"),
    "members out of order": put(104, b"\x03\x02"),
    "member zero": put(104, b"\x00\x02"),
    "residue at its prime": put(106, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_malformed_keys_are_refused(move: Rotated, change: Change) -> None:
    with pytest.raises(InvalidInput):
        parse_switching_key(change(bytearray(move.key.to_bytes())))


def flipped(signatures: tuple[bytes, ...], index: int) -> tuple[bytes, ...]:
    broken = bytes((signatures[index][0] ^ 1,)) + signatures[index][1:]
    return (*signatures[:index], broken, *signatures[index + 1 :])


def outsider(key: SwitchingKey) -> bytes:
    return Identity.generate().sign_bytes(key.signing_message())


REFUSED: dict[str, tuple[Callable[[SwitchingKey], SwitchingKey], type[UndersealError]]] = {
    "one old signature short": (
        lambda key: replace(key, active=(2,), old_signatures=key.old_signatures[:1]),
        Damaged,
    ),
    "old signature broken": (
        lambda key: replace(key, old_signatures=flipped(key.old_signatures, 1)),
        Damaged,
    ),
    "old signature by an outsider": (
        lambda key: replace(key, old_signatures=(key.old_signatures[0], outsider(key))),
        Damaged,
    ),
    "old member that does not exist": (lambda key: replace(key, active=(2, 4)), Damaged),
    "another old member's name": (lambda key: replace(key, active=(1, 3)), Damaged),
    "one new signature short": (
        lambda key: replace(key, new_members=2, new_signatures=key.new_signatures[:2]),
        Damaged,
    ),
    "new signature broken": (
        lambda key: replace(key, new_signatures=flipped(key.new_signatures, 0)),
        Damaged,
    ),
    "residue changed": (lambda key: replace(key, key=changed(key)), Damaged),
    "transcript changed": (lambda key: replace(key, transcript=bytes(32)), Damaged),
    "old epoch": (lambda key: replace(key, old_epoch="0" * 64), Mismatch),
    "new epoch": (lambda key: replace(key, new_epoch="0" * 64), Mismatch),
}


def changed(key: SwitchingKey) -> np.ndarray:
    values = key.key.copy()
    values[0, 0, 0, 0] = (values[0, 0, 0, 0] + 1) % 7
    return values


@pytest.mark.parametrize(("change", "error"), REFUSED.values(), ids=REFUSED)
def test_keys_without_all_signatures_are_refused(
    move: Rotated,
    change: Callable[[SwitchingKey], SwitchingKey],
    error: type[UndersealError],
) -> None:
    forged = parse_switching_key(change(move.key).to_bytes())
    with pytest.raises(error):
        verify_switching_key(forged, move.old.bundle, move.new.bundle)


def test_epochs_with_other_labels_do_not_follow_each_other(move: Rotated) -> None:
    other = replace(move.new.bundle, label_key=finished("swift").bundle.label_key)
    key = replace(move.key, new_epoch=other.epoch)
    with pytest.raises(Mismatch, match="label key"):
        verify_switching_key(key, move.old.bundle, other)
