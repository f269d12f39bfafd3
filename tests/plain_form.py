"""What units are named by, from their bytes: the SHA-256 of their ciphertexts' plain form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from underseal_core.scheme.ciphertext import (
    Ciphertext,
    Kind,
    parse_ciphertext,
    plain_sha256,
    wire_size,
)
from underseal_core.scheme.profiles import profile_by_wire_id


def any_ciphertext(data: bytes) -> Ciphertext:
    """Parse a ciphertext of whatever profile and kind it says it is."""
    return parse_ciphertext(data, profile_by_wire_id(data[4]), Kind(data[5]))


def unit_digest(parts: Iterable[bytes]) -> bytes:
    """Hash the ciphertexts of a unit, given as they are sent."""
    return plain_sha256(any_ciphertext(part) for part in parts)


def file_digest(data: bytes) -> bytes:
    """Hash the ciphertexts of a unit, given as its file."""
    return unit_digest(_parts(data))


def _parts(data: bytes) -> Iterator[bytes]:
    size = wire_size(profile_by_wire_id(data[4]), Kind(data[5]))
    for start in range(0, len(data), size):
        yield data[start : start + size]
