"""What auditors signed about units that they redacted, as another auditor checks it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from underseal_auditor.verify.catalogue import AmendedUnit, CatalogueUnit
from underseal_core.amendment import Amendment, open_amendment
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.provenance import EnrolReceipt
from underseal_core.roster import Roster
from underseal_core.statements import Pin


@dataclass(frozen=True, slots=True)
class Amenders:
    """Who may amend units of a gallery: ``rosters`` are all generations of all its key epochs."""

    gallery: str
    pin: Pin
    rosters: Sequence[Roster]

    def check(self, unit: CatalogueUnit, amended: AmendedUnit) -> Amendment:
        """Return a unit's amendment after checking that it stands for what was enrolled.

        Parameters
        ----------
        unit
            As it was mirrored last.

        Raises
        ------
        Damaged
            It is not signed by k auditors of the gallery's keys, of another unit, or older than
            one that is known.
        """
        try:
            statement = open_amendment(amended.amendment, self.rosters)
        except PermissionRefused as error:
            raise Damaged(
                "the server's catalogue has an amendment that auditors did not sign"
            ) from (error)
        redaction, known = statement.redaction(), unit.redaction
        enrolled = EnrolReceipt.parse(unit.receipt.payload).unit_sha256
        epoch = statement.pin.key_epoch
        sound = (
            (statement.gallery, statement.token) == (self.gallery, unit.token.hex())
            and statement.pin == self.pin.model_copy(update={"key_epoch": epoch})
            and statement.enrolled_sha256 == enrolled
            and redaction.erased[-1] < unit.placement.count
            and amended.version > unit.added_version
            and (known is None or redaction.count > known.count)
            and (known is None or set(known.erased) <= set(redaction.erased))
        )
        # Of an earlier key epoch, a replica re-encrypts what was signed and so learns the hash.
        current = epoch != self.pin.key_epoch or statement.new_sha256 == amended.sha256.hex()
        if not sound or not current:
            raise Damaged("the server's catalogue has an amendment of another unit")
        return statement
