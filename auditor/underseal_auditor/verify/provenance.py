"""Who enrolled a template, as an auditor checks it for itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from underseal_auditor.verify.catalogue import CatalogueEntry, CatalogueUnit
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.gallery.slots import SlotMap
from underseal_core.gallery.unit import Unit, usable_slots
from underseal_core.provenance import Enrolled, EnrolReceipt, Origin, open_matches, template_leaf
from underseal_core.scheme.profiles import padded_dimension, profile_named
from underseal_core.signing import Envelope, open_envelope
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Pin, Release

Enrollers = Mapping[str, bytes]
"""Ed25519 keys by name of client, from the auditors' policy."""


def check_unit(
    gallery: str,
    pin: Pin,
    unit: CatalogueUnit,
    templates: Sequence[CatalogueEntry],
    enrollers: Enrollers,
    earlier: frozenset[str] = frozenset(),
    *,
    amended: bool = False,
) -> str:
    """Check that an enroller of the policy signed for this unit, as it stands in the catalogue.

    Parameters
    ----------
    templates
        All that were ever in the unit, in the order of their places.
    earlier
        Key epochs that the pin's follows. A unit that was enrolled under one of them was
        re-encrypted since: its hash is no longer the one that was signed, and only a replica
        that re-encrypts the signed one for itself can tell whether it is the right one.
    amended
        Whether auditors have signed for other ciphertexts since.

    Returns
    -------
    str
        The enroller's name.

    Raises
    ------
    Damaged
        The receipt is missing, of another unit, gallery or pin, or of somebody else; templates
        are missing or in other places; or the unit cannot be where the server says.
    """
    if [template.place for template in templates] != list(range(unit.placement.count)):
        raise Damaged("the server's catalogue has a unit without exactly its templates")
    _check_placement(pin, unit)
    leaves = [template_leaf(t.template_id, t.subject_id, t.label_sha256) for t in templates]
    try:
        receipt = EnrolReceipt.parse(unit.receipt.payload)
        client = receipt.client
        if client not in enrollers:
            raise Damaged(
                f"the gallery holds templates of {client}, whom the policy does not let enrol",
                hint="name it among the gallery's enrollers, or have its templates removed",
            )
        open_envelope(unit.receipt, EnrolReceipt.payload_type, enrollers[client])
        epoch, sha256 = receipt.pin.key_epoch, unit.sha256
        if epoch in earlier:
            pin = pin.model_copy(update={"key_epoch": epoch})
        if epoch in earlier or amended:
            sha256 = bytes.fromhex(receipt.unit_sha256)
        enrolled = Enrolled(gallery, pin, unit.token, unit.shape, leaves, sha256)
        enrolled.check(receipt, client)
    except PermissionRefused as error:
        raise Damaged("the server's catalogue has a unit that its enroller did not sign") from error
    return client


def check_later_receipt(earlier: EnrolReceipt, envelope: Envelope, enrollers: Enrollers) -> None:
    """Check that the enroller of a unit signed another receipt for it, with other labels only.

    Raises
    ------
    Damaged
        It did not, or the receipt is an earlier one or changes more, or the policy does not let
        that client enrol any more.
    """
    if earlier.client not in enrollers:
        raise Damaged(
            f"the gallery holds templates of {earlier.client}, whom the policy does not let enrol",
            hint="name it among the gallery's enrollers, or have its templates removed",
        )
    try:
        EnrolReceipt.open(envelope, enrollers[earlier.client]).check_follows(earlier)
    except PermissionRefused as error:
        raise Damaged("the server's catalogue has labels that no enroller signed") from error


def _check_placement(pin: Pin, unit: Unit) -> None:
    profile, dimension = profile_named(pin.profile), padded_dimension(pin.model_dimension)
    placement = unit.placement
    sound = (
        placement.step == unit.shape.step(dimension)
        and 1 <= placement.count <= unit.shape.capacity(profile, dimension)
        and placement.slots()[-1] < profile.degree
    )
    if not sound:
        raise Damaged("the server's catalogue has a unit in a place where none can be")


def check_occupancy(pin: Pin, timeline: Iterable[tuple[int, bool, Unit]]) -> None:
    """Check that no two units are ever in one slot at the same version.

    Parameters
    ----------
    pin
        The gallery's.
    timeline
        Changes: version, whether the unit comes (or goes), and the unit.

    Raises
    ------
    Damaged
        Two units share a slot, or one is where slots must stay empty.
    """
    degree, dimension = profile_named(pin.profile).degree, padded_dimension(pin.model_dimension)
    slots = SlotMap(degree, usable_slots(degree, dimension))
    # Of one version, what goes is gone before something else comes.
    for _, comes, unit in sorted(timeline, key=lambda change: change[:2]):
        change = slots.take if comes else slots.free
        change(unit.placement, unit.erased)


def check_matches(
    release: Release,
    gallery: str,
    compared: Mapping[bytes, LiveEntry],
    origins: Sequence[Origin],
    enrollers: Enrollers,
) -> None:
    """Check that every match was asked about, is live, and signed for by an enroller, for so long.

    Parameters
    ----------
    compared
        The templates that the answer may speak of, by id, from the auditor's own view.
    origins
        From the auditor's own catalogue, one for each template that the release names.

    Raises
    ------
    Damaged, PermissionRefused
        A match is not what it claims to be.
    """
    receipts = iter(open_matches(release, origins))
    for match in release.matches:
        for template in match.templates:
            entry, receipt = compared.get(bytes.fromhex(template.template_id)), next(receipts)
            known = entry is not None and entry.subject_id.hex() == match.subject_id
            if not known or receipt.gallery != gallery:
                raise Damaged("the release names a template that was not to be compared with")
            if enrollers.get(receipt.client, b"").hex() != template.enroller_key:
                raise PermissionRefused("a released template is of no enroller of the policy")
