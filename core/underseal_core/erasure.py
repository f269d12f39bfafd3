"""What a server says of a removed template: that its ciphertexts are erased, how and since when.

The server speaks of its own storage, which nobody else can see into. Where k auditors erased a
template out of a unit that others are still in, their amendment comes along and can be checked:
see :meth:`ErasureReceipt.check_amended`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from underseal_core.errors import Damaged
from underseal_core.statements import Count, Id, Name, Part, Pin, Sha256, Statement, Time

if TYPE_CHECKING:
    from underseal_core.amendment import Amendment
    from underseal_core.provenance import EnrolReceipt, Origin

MAX_ARCHIVES: Final = 1000
"""Archives that a receipt names; it counts all of them."""


class HeldBy(Part):
    """An archive that holds the template's ciphertexts still, by its id and its seal's digest."""

    archive_id: Id
    sha256: Sha256


class ByAmendment(Part):
    """The amendment that erased it, by its hash; the unit's ciphertexts before and after."""

    sha256: Sha256
    old_sha256: Sha256
    new_sha256: Sha256


class ErasureReceipt(Statement):
    """Signed by the server for one template.

    ``pin``: of the gallery when this was issued. ``removed_version``: the first that no search
    finds the template in; ``removed_at`` is empty when the catalogue does not know. ``how``: its
    unit's file is deleted and the unit subtracted from its block, or an amendment erased it.
    ``erased_version``: the first for which that holds, or that of a later amendment of the unit.
    ``archives``: the newest of ``archives_count``.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.erasure-receipt.v1+json"
    max_bytes: ClassVar[int] = 256 << 10

    server: Name
    gallery: Name
    pin: Pin
    template_id: Id
    subject_id: Id
    unit_token: Id
    removed_version: Annotated[Count, Field(ge=1)]
    removed_at: Time | Literal[""]
    how: Literal["unit-deleted", "amended"]
    amendment: ByAmendment | None
    erased_version: Annotated[Count, Field(ge=1)]
    archives: Annotated[tuple[HeldBy, ...], Field(max_length=MAX_ARCHIVES)]
    archives_count: Count
    issued_at: Time

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.how == "amended") != (self.amendment is not None):
            raise ValueError("an amendment is named exactly where it erased the template")
        if self.erased_version < self.removed_version:
            raise ValueError("a template is erased before it is removed")
        if self.archives_count < len(self.archives):
            raise ValueError("it names more archives than it counts")
        return self

    def check_amended(self, amendment: Amendment, origin: Origin, enroller: bytes) -> EnrolReceipt:
        """Check that an amendment erased this template, and return its enrolment.

        Parameters
        ----------
        amendment
            Opened, so that k auditors signed it.
        origin
            Says where in the unit the template is: the amendment speaks of places only.
        enroller
            The key that the enrolment must be signed with.

        Raises
        ------
        PermissionRefused
            The enrolment is signed with another key.
        Damaged
            The amendment is not the one that this names, is of other ciphertexts, or left the
            template as it was.
        """
        told = ByAmendment(
            sha256=amendment.sha256(),
            old_sha256=amendment.old_sha256,
            new_sha256=amendment.new_sha256,
        )
        if told != self.amendment:
            raise Damaged("a receipt of erasure names another amendment")
        ids = bytes.fromhex(self.template_id), bytes.fromhex(self.subject_id)
        receipt = origin.open(enroller, *ids)
        enrolled = (receipt.gallery, receipt.token, receipt.unit_sha256)
        if enrolled != (amendment.gallery, amendment.token, amendment.enrolled_sha256):
            raise Damaged("an amendment is not of the unit that the template was enrolled in")
        if (self.gallery, self.unit_token) != (receipt.gallery, receipt.token):
            raise Damaged("a receipt of erasure is of another unit")
        if origin.place not in amendment.redaction().erased:
            raise Damaged("the auditors have not erased this template")
        return receipt
