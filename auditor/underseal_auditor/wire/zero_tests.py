"""Messages of the zero tests, checked field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from underseal_auditor.keys.zero_opening import DIGEST_BYTES, answer_size
from underseal_auditor.zero_tests import MAX_UNTESTED
from underseal_core.errors import InvalidInput
from underseal_core.scheme.profiles import Profile
from underseal_proto.v1 import guardian_pb2

TOKEN_BYTES: Final = 16
MAX_TESTS: Final = 2
"""One of the probe, one of the units."""

_MAX_MEMBERS: Final = 64


def tokens_to_wire(tokens: Iterable[bytes]) -> bytes:
    """Return tokens one after another, in order."""
    return b"".join(sorted(tokens))


def tokens_from_wire(data: bytes, guardians: int) -> frozenset[bytes]:
    """Return the tokens of what one guardian, or several, want tested.

    Raises
    ------
    InvalidInput
        Too many, one twice, or half of one.
    """
    count = len(data) // TOKEN_BYTES
    tokens = frozenset(data[i * TOKEN_BYTES : (i + 1) * TOKEN_BYTES] for i in range(count))
    if len(data) != TOKEN_BYTES * len(tokens) or count > MAX_UNTESTED * guardians:
        raise InvalidInput("the list of units to be tested is malformed")
    return tokens


def parts_to_wire(parts: Mapping[int, bytes]) -> list[guardian_pb2.TestPart]:
    """Return what every guardian sent."""
    return [guardian_pb2.TestPart(point=point, content=part) for point, part in parts.items()]


def commitments_from_wire(parts: Sequence[guardian_pb2.TestPart]) -> dict[int, bytes]:
    """Return commitments to answers by point.

    Raises
    ------
    InvalidInput
        Too many, one twice, or of the wrong length.
    """
    return _parts(parts, (DIGEST_BYTES,))


def answers_from_wire(parts: Sequence[guardian_pb2.TestPart], profile: Profile) -> dict[int, bytes]:
    """Return answers by point; raises like :func:`commitments_from_wire`."""
    return _parts(parts, [answer_size(profile, tests) for tests in range(1, MAX_TESTS + 1)])


def _parts(parts: Sequence[guardian_pb2.TestPart], sizes: Sequence[int]) -> dict[int, bytes]:
    found = {int(part.point): bytes(part.content) for part in parts}
    sound = all(len(content) in sizes for content in found.values())
    if len(found) != len(parts) or len(parts) > _MAX_MEMBERS or not sound:
        raise InvalidInput("a message of the zero tests is malformed")
    return found
