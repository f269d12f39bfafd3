"""Labels that change: none that its enroller did not sign, and none that was replaced before."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.auditor_world import (
    AGENCY,
    CLIENT,
    OTHER,
    OTHER_CLIENT,
    SERVER,
    Answer,
    Desk,
    Operator,
    World,
    at_cosine,
    desk,
    policy,
    with_label,
    world,
)
from underseal_auditor.feed import Changes, StagedFeed
from underseal_client.records import Leaf, ListedUnit
from underseal_client.relabelling import check_named, open_unit
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.provenance import EnrolReceipt
from underseal_core.signing import Identity
from underseal_core.statements import Release

PROFILE = "swift"
NEW = json.dumps({"name": "corrected"}).encode()
NEWER = json.dumps({"name": "corrected again"}).encode()
MADE_UP = json.dumps({"name": "somebody else"}).encode()


@pytest.fixture
def of() -> World:
    return world(PROFILE)


@pytest.fixture
def lying(of: World) -> Operator:
    """An operator whose catalogue the tests change."""
    return of.operator.copy()


@pytest.fixture
def office(of: World, lying: Operator, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, of, policy(PROFILE), lying) as opened:
        yield opened


def ask(of: World, operator: Operator) -> Answer:
    """A search that finds person 3."""
    return of.ask(at_cosine(of.people[3], 0.9), operator)


def label_of(release: Release) -> str:
    (match,) = release.matches
    return str(json.loads(match.templates[0].label)["name"])


def follow(lying: Operator, office: Desk) -> None:
    office.mirror.update("server", "missing", lying, lying.pin_, {"agency": AGENCY.key})


def refused(lying: Operator, office: Desk, text: str) -> None:
    with pytest.raises(Damaged, match=text):
        follow(lying, office)


def test_changed_label_is_released_also_for_an_earlier_search(
    of: World, lying: Operator, office: Desk
) -> None:
    before, earlier = ask(of, lying), lying.snapshot()
    assert label_of(office.submit(ask(of, lying))) == "person-of-0-3"
    lying.relabel(3, NEW)
    assert label_of(office.submit(ask(of, lying))) == "corrected"
    assert label_of(office.submit(before)) == "corrected"
    assert earlier.version < lying.version
    lying.relabel(3, NEWER)
    delivery = office.delivery(ask(of, lying))
    release = Release.parse(delivery.release.payload)
    assert label_of(release) == "corrected again"
    receipt = EnrolReceipt.open(delivery.origins[0].receipt, AGENCY.key)
    assert (receipt.revision, receipt.sha256()) == (
        2,
        release.matches[0].templates[0].enrolment_sha256,
    )


def test_auditor_that_comes_later_takes_the_present_labels(
    of: World, lying: Operator, office: Desk
) -> None:
    lying.relabel(3, NEW)
    lying.relabel(4, NEWER)
    assert label_of(office.submit(ask(of, lying))) == "corrected"


def test_removed_template_stays_removed_when_its_unit_is_relabelled(
    of: World, lying: Operator, office: Desk
) -> None:
    follow(lying, office)
    lying.relabel(3, NEW)
    lying.remove(3)
    lying.relabel(4, NEW)
    assert office.submit(ask(of, lying)).matches == ()


# --- a server that changes labels by itself ------------------------------------------------


@pytest.mark.parametrize(
    ("signer", "changes", "text"),
    [
        (SERVER, {}, "no enroller signed"),
        (OTHER_CLIENT, {}, "no enroller signed"),
        (OTHER_CLIENT, {"client": "bureau"}, "no enroller signed"),
        (CLIENT, {"revision": 0}, "not later"),
        (CLIENT, {"templates_root": "0" * 64}, "no enroller signed"),
        (CLIENT, {"unit_sha256": "0" * 64}, "unit_sha256 differs"),
        (CLIENT, {"keep_until": "2027-01-01T00:00:00Z"}, "keep_until differs"),
        (CLIENT, {"gallery": "wanted"}, "gallery differs"),
        (CLIENT, {"token": "0" * 32}, "token differs"),
        (CLIENT, {"templates": 69}, "templates differs"),
    ],
)
def test_label_that_its_enroller_did_not_sign_for(
    lying: Operator, office: Desk, signer: Identity, changes: dict[str, object], text: str
) -> None:
    follow(lying, office)
    lying.relabel(3, MADE_UP, signer, **changes)
    refused(lying, office, text)


def test_label_changed_without_a_receipt(lying: Operator, office: Desk) -> None:
    """Stated as if it had been so, beside a removal that is real."""
    follow(lying, office)
    lying.entries[3] = with_label(lying.entries[3], world(PROFILE).bundle.label_key, MADE_UP)
    lying.remove(3)
    refused(lying, office, "contradicts")


@pytest.mark.parametrize("field", ["subject_id", "template_id"])
def test_relabelled_template_of_somebody_else(lying: Operator, office: Desk, field: str) -> None:
    follow(lying, office)
    lying.relabel(3, NEW)
    lying.entries[3] = replace(lying.entries[3], **{field: secrets.token_bytes(16)})  # type: ignore[arg-type]  # by name
    refused(lying, office, "contradicts")


def test_label_under_the_hash_of_another(lying: Operator, office: Desk) -> None:
    follow(lying, office)
    lying.relabel(3, NEW)
    lying.entries[3] = replace(lying.entries[3], sealed_label=lying.entries[4].sealed_label)
    refused(lying, office, "label of another hash")


# --- what was replaced ---------------------------------------------------------------------


def test_old_label_brought_back(lying: Operator, office: Desk) -> None:
    """The enroller did sign for it, once."""
    old, receipt = lying.entries[3], lying.units[0].receipt
    lying.relabel(3, NEW)
    new = lying.entries[3]
    follow(lying, office)
    lying.entries[3] = old
    lying.show_receipt(0, receipt)
    refused(lying, office, "not later")
    kept = office.mirror.sealed_label("server", "missing", old.template_id)
    assert kept == new.sealed_label


def test_enroller_that_is_shown_an_old_receipt_brings_nothing_back(
    lying: Operator, office: Desk
) -> None:
    """It relabels another template of the unit, on top of what is no longer so; the time is new."""
    first = lying.copy()
    lying.relabel(3, NEW)
    follow(lying, office)
    first.relabel(4, NEW, issued_at="2026-05-05T12:00:00Z")
    lying.entries[3], lying.entries[4] = first.entries[3], first.entries[4]
    lying.show_receipt(0, first.units[0].receipt)
    refused(lying, office, "not later")


@pytest.mark.parametrize(("version", "text"), [(2, "not there before"), (4, "from the future")])
def test_change_that_is_said_to_be_of_another_time(
    lying: Operator, version: int, text: str
) -> None:
    known = lying.version
    lying.relabel(3, NEW)
    late = replace(lying.relabelled[0], version=version)
    with pytest.raises(Damaged, match=text):
        StagedFeed([Changes((), tuple(lying.entries[:70]), lying.version, (), (late,))], known)


# --- a server that has an enroller sign ----------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What a server shows an enroller of the unit that is to be relabelled."""

    unit: ListedUnit
    template_id: bytes
    subject_id: bytes


def shown(lying: Operator) -> Shown:
    entries = [entry for entry in lying.entries if entry.unit_token == lying.units[0].token]
    leaves = tuple(Leaf(e.template_id, e.subject_id, e.label_sha256) for e in entries)
    unit = ListedUnit(lying.units[0].receipt, leaves)
    return Shown(unit, entries[3].template_id, entries[3].subject_id)


def planted(unit: ListedUnit) -> ListedUnit:
    leaf = Leaf(secrets.token_bytes(16), secrets.token_bytes(16), bytes(32))
    return replace(unit, leaves=(*unit.leaves, leaf))


def with_another_label(unit: ListedUnit) -> ListedUnit:
    swapped = replace(unit.leaves[5], label_sha256=hashlib.sha256(MADE_UP).digest())
    return replace(unit, leaves=(*unit.leaves[:5], swapped, *unit.leaves[6:]))


def forged(unit: ListedUnit) -> ListedUnit:
    receipt = EnrolReceipt.parse(unit.receipt.payload)
    return replace(unit, receipt=receipt.sign(SERVER))


def in_other_order(unit: ListedUnit) -> ListedUnit:
    return replace(unit, leaves=unit.leaves[::-1])


@pytest.mark.parametrize("change", [planted, with_another_label, forged, in_other_order])
def test_enroller_signs_for_nothing_that_it_did_not_enrol(
    lying: Operator, change: Callable[[ListedUnit], ListedUnit]
) -> None:
    unit = shown(lying).unit
    assert open_unit(unit, AGENCY, "missing").client == "agency"
    with pytest.raises((Damaged, PermissionRefused)):
        open_unit(change(unit), AGENCY, "missing")


def test_enroller_signs_for_no_unit_of_another_enroller_or_gallery(lying: Operator) -> None:
    """It could not tell a real receipt of theirs from a made up one."""
    unit = shown(lying).unit
    with pytest.raises(PermissionRefused, match="agency enrolled the template"):
        open_unit(unit, OTHER, "missing")
    with pytest.raises(Damaged, match="other templates"):
        open_unit(unit, AGENCY, "wanted")


@pytest.mark.parametrize("units", [0, 2])
def test_other_templates_than_were_named_are_not_relabelled(lying: Operator, units: int) -> None:
    """A server that says which templates are a subject's could name somebody else's."""
    it = shown(lying)
    check_named([it.unit], [it.template_id], it.subject_id)
    some: Sequence[ListedUnit] = [it.unit] * units
    with pytest.raises(Damaged, match="other templates"):
        check_named(some, [it.template_id], b"")
    with pytest.raises(Damaged, match="other templates"):
        check_named([it.unit], [it.template_id], secrets.token_bytes(16))
