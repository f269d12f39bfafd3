"""Messages of redactions, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from underseal_auditor.keys.zero_opening import DIGEST_BYTES, answer_size
from underseal_auditor.redacting import Admitted, Errand
from underseal_auditor.redaction_round import SALT_BYTES
from underseal_auditor.wire import HASH_BYTES, ID_BYTES, session_from_wire
from underseal_core.amendment import MAX_PLACES, read_places, write_places
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.scheme.profiles import Profile
from underseal_proto.v1 import guardian_pb2, redaction_pb2

MAX_MEMBERS: Final = 32
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HEX: Final = re.compile(r"([0-9a-f]{2})+")
_GENERATION: Final = re.compile(r"[0-9a-f]{64}")


def errand_to_wire(errand: Errand) -> redaction_pb2.BeginRedactionRequest:
    """Return the message."""
    return redaction_pb2.BeginRedactionRequest(
        server=errand.server,
        gallery=errand.gallery,
        token=errand.token,
        erased=write_places(errand.erased),
        old_sha256=errand.old_sha256,
        active=errand.active,
        generation=errand.generation,
    )


def errand_from_wire(message: redaction_pb2.BeginRedactionRequest) -> Errand:
    """Return what a registrar asks for.

    Raises
    ------
    InvalidInput
        A field out of its range.
    """
    sound = (
        _NAME.fullmatch(message.server)
        and _NAME.fullmatch(message.gallery)
        and len(message.token) == ID_BYTES
        and len(message.erased) <= MAX_PLACES // 4
        and _HEX.fullmatch(message.erased)
        and len(message.old_sha256) == HASH_BYTES
        and 1 <= len(message.active) <= MAX_MEMBERS
        and all(point <= MAX_MEMBERS for point in message.active)
        and _GENERATION.fullmatch(message.generation)
    )
    if not sound:
        raise InvalidInput("the redaction that is asked for is malformed")
    try:
        erased = read_places(message.erased)
    except Damaged as error:
        raise InvalidInput("the redaction that is asked for is malformed") from error
    return Errand(
        server=message.server,
        gallery=message.gallery,
        token=message.token,
        erased=erased,
        old_sha256=message.old_sha256,
        active=tuple(message.active),
        generation=message.generation,
    )


def admitted_to_wire(admitted: Admitted) -> redaction_pb2.BeginRedactionResponse:
    """Return the message."""
    return redaction_pb2.BeginRedactionResponse(
        session=admitted.session,
        unit_salt=admitted.unit_salt,
        difference_salt=admitted.difference_salt,
        sound=admitted.sound,
    )


def admitted_from_wire(message: redaction_pb2.BeginRedactionResponse) -> Admitted:
    """Return a guardian's answer.

    Raises
    ------
    InvalidInput
        A field of the wrong length.
    """
    if {len(message.unit_salt), len(message.difference_salt)} != {DIGEST_BYTES}:
        raise InvalidInput("a guardian's commitment to a salt has 32 bytes")
    session = session_from_wire(message.session)
    return Admitted(session, message.unit_salt, message.difference_salt, message.sound)


def digests_from_wire(parts: Sequence[guardian_pb2.TestPart]) -> dict[int, bytes]:
    """Return commitments or salts by point, 32 bytes each.

    Raises
    ------
    InvalidInput
        Too many, one twice, or of the wrong length.
    """
    return _parts(parts, SALT_BYTES)


def answers_from_wire(parts: Sequence[guardian_pb2.TestPart], profile: Profile) -> dict[int, bytes]:
    """Return answers by point; raises like :func:`digests_from_wire`."""
    return _parts(parts, answer_size(profile, 1))


def _parts(parts: Sequence[guardian_pb2.TestPart], size: int) -> dict[int, bytes]:
    found = {int(part.point): bytes(part.content) for part in parts}
    sound = all(len(content) == size for content in found.values())
    if len(found) != len(parts) or len(parts) > MAX_MEMBERS or not sound:
        raise InvalidInput("a message of a redaction is malformed")
    return found
