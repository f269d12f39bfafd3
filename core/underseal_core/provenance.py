"""Who enrolled what: receipts that an enroller signs, and proofs that one template is in one.

    leaf            template id (16 bytes) || subject id (16 bytes) || SHA-256(sealed label)
    templates root  root of the Merkle tree of RFC 6962 over a unit's leaves, in slot order

A receipt names a unit's ciphertexts by their hash and its templates by their root, so nobody can
plant a template, swap two labels or move a template to another slot of its unit: the ``r``-th leaf
belongs to slot ``first_slot + r * step``, wherever the unit is. Where that is, the server's
snapshot says, and re-folding the unit proves it (docs/adr/0010-guardians-hold-a-replica.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from underseal_core.errors import Damaged, InvalidInput, Mismatch, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.signing import Envelope
from underseal_core.statements import (
    Count,
    Id,
    Match,
    MatchedTemplate,
    Name,
    Pin,
    Release,
    Sha256,
    Statement,
    Time,
)
from underseal_core.tlog.tree import inclusion_proof
from underseal_core.tlog.verifier import check_inclusion, hash_entry, layers, root_of

ID_BYTES: Final = 16
HASH_BYTES: Final = 32
MAX_PATH: Final = 14
"""Hashes of a proof: a unit holds at most 2**14 templates."""
_OF_LABELS: Final = frozenset({"templates_root", "issued_at", "revision"})
"""What a later receipt of a unit says otherwise than an earlier one."""


class EnrolReceipt(Statement):
    """Signed by the enroller, a client, for each unit.

    ``templates``: how many; ``templates_root``: see above; ``unit_sha256``: over the unit's
    ciphertexts as sent, one after another; ``keep_until``: when the templates must be gone, empty
    for never; ``revision``: 0 at enrolment, one more whenever labels of the unit have changed.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.enrol-receipt.v1+json"
    max_bytes: ClassVar[int] = 4 << 10

    gallery: Name
    pin: Pin
    client: Name
    token: Id
    shape: Shape
    templates: Annotated[int, Field(ge=1, le=1 << MAX_PATH)]
    templates_root: Sha256
    unit_sha256: Sha256
    issued_at: Time
    keep_until: Time | Literal[""] = ""
    revision: Count = 0

    def relabelled(self, leaves: Sequence[bytes], issued_at: str) -> EnrolReceipt:
        """Return the unit's next receipt for its enroller to sign."""
        changes = {
            "templates_root": templates_root(leaves),
            "issued_at": issued_at,
            "revision": self.revision + 1,
        }
        return self.model_copy(update=changes)

    def check_follows(self, earlier: EnrolReceipt) -> None:
        """Check that this may take the place of a unit's earlier receipt.

        Raises
        ------
        Damaged
            It is not a later one, or speaks of something else than other labels.
        """
        if self.revision <= earlier.revision:
            raise Damaged("an enroller's receipt is not later than the one before")
        for name in EnrolReceipt.model_fields.keys() - _OF_LABELS:
            if getattr(self, name) != getattr(earlier, name):
                raise Damaged(f"a later receipt changes more than labels: {name} differs")

    def check_probe(self, key_epoch: str) -> None:
        """Check that the unit's row can be searched with, in a key epoch.

        Raises
        ------
        InvalidInput
            It holds several templates, or is of columns: others' coefficients would mix in.
        Mismatch
            It is of keys of before. A row that was re-encrypted has several hundred times the
            error, and the budget for the checks of probes does not allow for that.
        """
        again = "enrol the photo again on its own: underseal enroll --single --again"
        if self.shape is not Shape.ROW or self.templates != 1:
            raise InvalidInput("the template was enrolled together with others", hint=again)
        if self.pin.key_epoch != key_epoch:
            raise Mismatch("the template was enrolled under the keys of before", hint=again)

    def over(self, moment: str) -> bool:
        """Tell whether the templates' time is over at ``moment``, a time as statements write it."""
        return bool(self.keep_until) and self.keep_until <= moment


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a receipt must say of a unit.

    ``leaves``: of :func:`template_leaf`, in slot order. ``unit_sha256``: 32 bytes.
    """

    gallery: str
    pin: Pin
    token: bytes
    shape: Shape
    leaves: Sequence[bytes]
    unit_sha256: bytes

    def receipt(self, client: str, issued_at: str, keep_until: str = "") -> EnrolReceipt:
        """Return the statement for ``client`` to sign."""
        return EnrolReceipt(
            gallery=self.gallery,
            pin=self.pin,
            client=client,
            token=self.token.hex(),
            shape=self.shape,
            templates=len(self.leaves),
            templates_root=templates_root(self.leaves),
            unit_sha256=self.unit_sha256.hex(),
            issued_at=issued_at,
            keep_until=keep_until,
        )

    def check(self, receipt: EnrolReceipt, client: str) -> None:
        """Check that ``receipt`` is ``client``'s for exactly this.

        Raises
        ------
        Damaged
            A field differs; the text names it.
        """
        expected = self.receipt(client, receipt.issued_at, receipt.keep_until)
        expected = expected.model_copy(update={"revision": receipt.revision})
        for name in EnrolReceipt.model_fields:
            if getattr(receipt, name) != getattr(expected, name):
                raise Damaged(f"the enroller's receipt is of another unit: {name} differs")


def template_leaf(template_id: bytes, subject_id: bytes, label_sha256: bytes) -> bytes:
    """Return a template's leaf, 64 bytes.

    Raises
    ------
    InvalidInput
        Other lengths than 16, 16 and 32: bytes could move from one field to the next.
    """
    lengths = (len(template_id), len(subject_id), len(label_sha256))
    if lengths != (ID_BYTES, ID_BYTES, HASH_BYTES):
        raise InvalidInput("a template's ids have 16 bytes, its label's hash 32")
    return template_id + subject_id + label_sha256


def templates_root(leaves: Sequence[bytes]) -> str:
    """Return the hex root over a unit's leaves."""
    return root_of([hash_entry(leaf) for leaf in leaves]).hex()


class UnitTree:
    """The Merkle tree over a unit's leaves, to prove as many of its templates as needed."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._nodes = layers([hash_entry(leaf) for leaf in leaves])

    def prove(self, place: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of leaf ``place``, from 0.

        Raises
        ------
        InvalidInput
            There is no such leaf.
        """
        nodes = self._nodes
        return inclusion_proof(lambda level, index: nodes[level][index], place, len(nodes[0]))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a template comes from: its enroller's receipt, and its place in the unit.

    ``path``: inclusion proof of its leaf. ``label_sha256``: of its sealed label.
    """

    receipt: Envelope
    place: int
    path: tuple[bytes, ...]
    label_sha256: bytes

    def open(self, key: bytes, template_id: bytes, subject_id: bytes) -> EnrolReceipt:
        """Check that ``key`` signed for this template and return the receipt.

        Raises
        ------
        PermissionRefused
            Signed by nobody with this key.
        Damaged
            Not a receipt, or not one for this template.
        """
        receipt = EnrolReceipt.open(self.receipt, key)
        leaf = hash_entry(template_leaf(template_id, subject_id, self.label_sha256))
        root = bytes.fromhex(receipt.templates_root)
        check_inclusion(leaf, self.place, receipt.templates, self.path, root)
        return receipt


def open_matches(release: Release, origins: Sequence[Origin]) -> tuple[EnrolReceipt, ...]:
    """Return the receipts of a release's templates, checked against what the auditors signed.

    Parameters
    ----------
    origins
        One for each template, in the order of the release.

    Raises
    ------
    PermissionRefused, Damaged
        One is missing, or see :func:`open_match`.
    """
    named = [(match, template) for match in release.matches for template in match.templates]
    if len(origins) != len(named):
        raise Damaged("the release came without the enrolment of each template that it names")
    return tuple(
        open_match(match, template, origin, release.released_at)
        for (match, template), origin in zip(named, origins, strict=True)
    )


def open_match(
    match: Match, template: MatchedTemplate, origin: Origin, released_at: str
) -> EnrolReceipt:
    """Return the receipt of a template of a match, checked against what the auditors signed.

    Raises
    ------
    PermissionRefused
        Its enroller, by the key in the release, did not sign it, or not for so long.
    Damaged
        It is of another template, or not the receipt that the release names.
    """
    ids = bytes.fromhex(template.template_id), bytes.fromhex(match.subject_id)
    receipt = origin.open(bytes.fromhex(template.enroller_key), *ids)
    if receipt.sha256() != template.enrolment_sha256:
        raise Damaged("the enrolment of a match is not the one that the release names")
    if receipt.over(released_at):
        raise PermissionRefused("a template was released after the time that it was enrolled for")
    return receipt
