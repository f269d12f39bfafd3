from __future__ import annotations

import pytest

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.labels import (
    MAX_LABEL_BYTES,
    PADDING_BYTES,
    PRIVATE_KEY_BYTES,
    PUBLIC_KEY_BYTES,
    SEALING_OVERHEAD_BYTES,
    OpeningKey,
    SealingKey,
    label_context,
    open_label,
    seal_label,
)

KEY = OpeningKey.generate()


@pytest.mark.parametrize(
    "label", [b"", b"\x80", b"\x00" * 5, b"x" * 255, b"x" * 256, b"\x80" * MAX_LABEL_BYTES]
)
def test_label_round_trip(label: bytes) -> None:
    sealed = seal_label(KEY.public, label, b"gallery")
    assert open_label(KEY, sealed, b"gallery") == label
    assert label == b"" or label not in sealed or len(label) < 8


def test_sealed_length_shows_a_class_only() -> None:
    lengths = {
        len(seal_label(KEY.public, bytes(size), b"g")) for size in range(0, PADDING_BYTES, 15)
    }
    assert lengths == {SEALING_OVERHEAD_BYTES + PADDING_BYTES}


def test_same_label_never_seals_to_the_same_bytes() -> None:
    assert seal_label(KEY.public, b"a", b"g") != seal_label(KEY.public, b"a", b"g")


def test_context_names_gallery_and_template() -> None:
    contexts = {
        label_context("a", b"\x01"),
        label_context("b", b"\x01"),
        label_context("a", b"\x02"),
    }
    assert len(contexts) == 3


def test_too_long_label_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 4096"):
        seal_label(KEY.public, b"x" * (MAX_LABEL_BYTES + 1), b"g")


def test_label_does_not_open_under_another_context_or_key() -> None:
    sealed = seal_label(KEY.public, b"name", b"one")
    with pytest.raises(Damaged):
        open_label(KEY, sealed, b"two")
    with pytest.raises(Damaged):
        open_label(OpeningKey.generate(), sealed, b"one")


@pytest.mark.parametrize("position", [0, 1087, 1088, 1119, 1120, -17, -1])
def test_changed_label_does_not_open(position: int) -> None:
    sealed = bytearray(seal_label(KEY.public, b"name", b"g"))
    sealed[position] ^= 1
    with pytest.raises(Damaged):
        open_label(KEY, bytes(sealed), b"g")


@pytest.mark.parametrize("length", [0, 1, 1120, -1])
def test_truncated_label_does_not_open(length: int) -> None:
    with pytest.raises(Damaged):
        open_label(KEY, seal_label(KEY.public, b"name", b"g")[:length], b"g")


@pytest.mark.parametrize(
    "padded", [b"", b"\x00" * 256, b"a\x80" + bytes(255), b"a\x80" + bytes(253) + b"b"]
)
def test_unpadded_content_is_not_a_label(padded: bytes) -> None:
    sealed = KEY.public.seal(padded, b"underseal/v1/label\x00g")
    with pytest.raises(Damaged, match="something else"):
        open_label(KEY, sealed, b"g")


def test_private_half_round_trip() -> None:
    secret = KEY.to_secret_bytes()
    assert len(secret) == PRIVATE_KEY_BYTES
    again = OpeningKey.from_secret_bytes(secret)
    assert again.public == KEY.public
    assert open_label(again, seal_label(KEY.public, b"name", b"g"), b"g") == b"name"
    with pytest.raises(InvalidInput):
        OpeningKey.from_secret_bytes(secret[:-1])


def test_private_half_is_not_shown() -> None:
    secret = KEY.to_secret_bytes().hex()
    assert secret[:16] not in repr(KEY) + str(vars(KEY))


@pytest.mark.parametrize(
    "raw",
    [b"", bytes(PUBLIC_KEY_BYTES - 1), bytes(PUBLIC_KEY_BYTES + 1), b"\xff" * PUBLIC_KEY_BYTES],
)
def test_malformed_public_half_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput):
        SealingKey(raw)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_curve_point_of_small_order_is_refused(point: bytes) -> None:
    """With it the curve would add nothing, and sealing would fail much later."""
    with pytest.raises(InvalidInput, match="not a label key"):
        SealingKey(KEY.public.raw[:1184] + point)
