"""Amendments: k auditors say what has taken the place of a unit's ciphertexts.

An enroller's receipt names the ciphertexts by their hash. When k auditors have erased some of the
unit's templates (docs/explanation/keys.md, "Redaction"), an amendment maps that hash to the new
one. It is in the transparency log, and in the server's feed beside the receipt. The last one of a
unit stands for all before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from pydantic import Field

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.gallery.unit import Redaction
from underseal_core.signing import signers_of
from underseal_core.statements import Id, Name, Pin, Sha256, Statement, Time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from underseal_core.roster import Roster
    from underseal_core.signing import Envelope

MAX_PLACES: Final = 1 << 14
"""Templates of a unit, at most."""
_HINT: Final = "who was away while shares were dealt anew needs the file of successions"


class Amendment(Statement):
    """Signed by k members of the key epoch of ``pin``, of one generation of shares.

    ``enrolled_sha256``: what the enroller's receipt names. ``old_sha256``: the ciphertexts as they
    were, of the pin's key epoch. ``erased``: all places that were erased so far, as hexadecimal
    digits of bytes; place ``r`` is bit ``r % 8``, from the lowest, of byte ``r // 8``. ``count``:
    how often the unit was redacted, this time included. ``members``: how many contributed.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.amendment.v1+json"
    max_bytes: ClassVar[int] = 8 << 10

    gallery: Name
    pin: Pin
    generation: Sha256
    token: Id
    enrolled_sha256: Sha256
    old_sha256: Sha256
    new_sha256: Sha256
    erased: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=MAX_PLACES // 4)]
    count: Annotated[int, Field(ge=1, le=2**31 - 1)]
    members: Annotated[int, Field(ge=1, le=32)]
    issued_at: Time

    def redaction(self) -> Redaction:
        """Return what it says about the unit."""
        return Redaction(read_places(self.erased), self.count, self.members)


def write_places(places: Iterable[int]) -> str:
    """Return places as an amendment writes them.

    Raises
    ------
    InvalidInput
        None, or one that no unit has.
    """
    number = 0
    for place in places:
        if not 0 <= place < MAX_PLACES:
            raise InvalidInput("a unit has no such place")
        number |= 1 << place
    if not number:
        raise InvalidInput("nothing is to be erased")
    return number.to_bytes((number.bit_length() + 7) // 8, "little").hex()


def read_places(text: str) -> tuple[int, ...]:
    """Inverse of :func:`write_places`: ascending.

    Raises
    ------
    Damaged
        Written otherwise.
    """
    data = bytes.fromhex(text)
    if not data or not data[-1]:
        raise Damaged("an amendment's places are not written as they should be")
    bits = (
        8 * index + bit for index, byte in enumerate(data) for bit in range(8) if byte >> bit & 1
    )
    return tuple(bits)


def open_amendment(envelope: Envelope, rosters: Sequence[Roster]) -> Amendment:
    """Return an amendment after checking who signed it.

    Parameters
    ----------
    rosters
        All generations of the key epochs that it may be of.

    Raises
    ------
    Damaged
        Not an amendment, or of an unknown key epoch or generation.
    PermissionRefused
        Fewer members signed it than are needed to open anything.
    """
    if envelope.payload_type != Amendment.payload_type:
        raise Damaged("not an amendment")
    amendment = Amendment.parse(envelope.payload)
    named = (amendment.pin.key_epoch, amendment.generation)
    roster = next((r for r in rosters if (r.epoch, r.generation.sha256) == named), None)
    if roster is None:
        raise Damaged("an amendment is of other keys, or of shares not known here", hint=_HINT)
    if len(signers_of(envelope, roster.members)) < roster.threshold:
        raise PermissionRefused(f"an amendment is not signed by {roster.threshold} auditors")
    read_places(amendment.erased)
    return amendment
