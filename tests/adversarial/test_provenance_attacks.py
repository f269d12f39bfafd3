"""A server that enrols by itself: no template counts that no enroller of the policy signed for."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_world import (
    CLIENT,
    OTHER_CLIENT,
    SERVER,
    Desk,
    Operator,
    World,
    at_cosine,
    desk,
    policy,
    unit,
    with_label,
    world,
)
from tests.catalogue_fixtures import signed_unit, templates
from underseal_auditor.books import Delivery
from underseal_auditor.verify.catalogue import CatalogueEntry
from underseal_client.release import open_origins
from underseal_core.credentials import Peer, Role
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.gallery.unit import Placement
from underseal_core.provenance import EnrolReceipt, Origin
from underseal_core.signing import Identity
from underseal_core.statements import Release

ME = Peer(Role.CLIENT, "agency", CLIENT.public_key)
STRANGER = Peer(Role.CLIENT, "stranger", Identity.generate().public_key)


@pytest.fixture
def of() -> World:
    return world("swift")


@pytest.fixture
def lying(of: World) -> Operator:
    """An operator whose catalogue the tests change."""
    return of.operator.copy()


@pytest.fixture
def office(of: World, lying: Operator, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, of, policy("swift"), lying) as opened:
        yield opened


def ask(of: World, operator: Operator, office: Desk) -> Delivery:
    """A search that finds person 3, answered by the lying operator, which signs what it states."""
    return office.delivery(of.ask(at_cosine(of.people[3], 0.9), operator))


def refused(of: World, operator: Operator, office: Desk, text: str) -> None:
    with pytest.raises(Damaged, match=text):
        ask(of, operator, office)
    assert office.mirror.galleries() == []
    assert office.logbook.log.size == 1, "an intent: something was to be opened"


def test_the_honest_catalogue_is_searched(of: World, lying: Operator, office: Desk) -> None:
    delivery = ask(of, lying, office)
    release = Release.parse(delivery.release.payload)
    (receipt,) = open_origins(release, delivery.origins, ME)
    assert (receipt.client, receipt.gallery, receipt.templates) == ("agency", "missing", 70)
    assert receipt.sha256() == release.matches[0].templates[0].enrolment_sha256


# --- planted templates ---------------------------------------------------------------------


def plant(of: World, operator: Operator, identity: Identity, client: str) -> None:
    """A new unit in a block of its own, encrypted and folded like an honest one."""
    planted = templates(secrets.token_bytes(16), [b"sealed by the server"])
    operator.version += 1
    place, version = Placement(2, 0, 1, 1), operator.version
    operator.units.append(
        signed_unit("missing", operator.pin_, place, planted, identity, version=version)
    )
    operator.entries += planted
    number = len(operator.units) - 1
    columns = of.encryptor.encrypt_columns(unit(1, seed=21))
    operator.enrol_again(number, [column.to_bytes() for column in columns])
    operator.sign(number, identity, client)


@pytest.mark.parametrize(
    ("identity", "client", "text"),
    [
        (SERVER, "agency", "did not sign"),
        (OTHER_CLIENT, "agency", "did not sign"),
        (OTHER_CLIENT, "bureau", "bureau, whom the policy does not let enrol"),
        (SERVER, "server", "server, whom the policy does not let enrol"),
    ],
)
def test_template_planted_by_the_server(
    of: World, lying: Operator, office: Desk, identity: Identity, client: str, text: str
) -> None:
    plant(of, lying, identity, client)
    refused(of, lying, office, text)


def test_template_planted_into_a_signed_unit(of: World, lying: Operator, office: Desk) -> None:
    """The receipt is real, of fewer templates."""
    unit = lying.units[1]
    (planted,) = templates(unit.token, [b"sealed by the server"])
    count = unit.placement.count
    lying.units[1] = replace(unit, placement=replace(unit.placement, count=count + 1))
    lying.entries.append(replace(planted, place=count))
    refused(of, lying, office, "templates differs")


def test_template_planted_beside_the_catalogue(of: World, lying: Operator, office: Desk) -> None:
    """The feed is honest, the signed snapshot counts one more."""
    honest = lying.copy()
    answer = of.ask(of.people[3], honest)
    plant(of, lying, SERVER, "agency")
    result = answer.result.model_copy(update={"snapshot": lying.snapshot()})
    lying.units.pop(), lying.entries.pop()
    with pytest.raises(Damaged, match="not the one that its result was signed for"):
        office.delivery(replace(answer, result=result))


def test_ciphertexts_planted_under_a_receipt(of: World, lying: Operator, office: Desk) -> None:
    """Labels and ids as signed, another face behind them."""
    lying.units[0] = replace(lying.units[0], sha256=hashlib.sha256(b"another face").digest())
    refused(of, lying, office, "unit_sha256 differs")


# --- swapped labels, other people's slots --------------------------------------------------


def swap(
    operator: Operator, change: Callable[[CatalogueEntry, CatalogueEntry], CatalogueEntry]
) -> None:
    a, b = operator.entries[3], operator.entries[4]
    operator.entries[3], operator.entries[4] = change(a, b), change(b, a)


def test_swapped_labels(of: World, lying: Operator, office: Desk) -> None:
    """Both are sealed by the enroller, for these two templates."""
    swap(
        lying,
        lambda mine, other: replace(
            mine, sealed_label=other.sealed_label, label_sha256=other.label_sha256
        ),
    )
    refused(of, lying, office, "templates_root differs")


def test_label_under_the_hash_of_another(of: World, lying: Operator, office: Desk) -> None:
    """All hashes are as signed, only the label itself is not."""
    swap(lying, lambda mine, other: replace(mine, sealed_label=other.sealed_label))
    refused(of, lying, office, "label of another hash")


def test_label_made_up_by_the_server(of: World, lying: Operator, office: Desk) -> None:
    """It seals to the auditors' public key like anybody: it opens, with the name of its choice."""
    made_up = with_label(lying.entries[3], of.bundle.label_key, b'{"name": "somebody else"}')
    lying.entries[3] = made_up
    refused(of, lying, office, "templates_root differs")


def test_template_in_another_ones_slot(of: World, lying: Operator, office: Desk) -> None:
    swap(lying, lambda mine, other: replace(mine, place=other.place))
    refused(of, lying, office, "templates_root differs")


def test_subject_of_another(of: World, lying: Operator, office: Desk) -> None:
    swap(lying, lambda mine, other: replace(mine, subject_id=other.subject_id))
    refused(of, lying, office, "templates_root differs")


@pytest.mark.parametrize(
    ("placement", "text"),
    [
        (Placement(0, 3, 1, 5), "one slot"),
        (Placement(0, 69, 1, 5), "one slot"),
        (Placement(1, 0, 2, 5), "where none can be"),
        (Placement(1, 4092, 1, 5), "where none can be"),
        (Placement(1, 4000, 1, 5), "one slot, or one in none"),
        (Placement(1, 0, 1, 4), "without exactly its templates"),
    ],
)
def test_unit_where_it_cannot_be(
    of: World, lying: Operator, office: Desk, placement: Placement, text: str
) -> None:
    lying.units[1] = replace(lying.units[1], placement=placement)
    lying.roots = {0: lying.roots[0], 1: lying.roots[1]}
    refused(of, lying, office, text)


# --- the past ------------------------------------------------------------------------------


def test_removed_template_brought_back(of: World, lying: Operator, office: Desk) -> None:
    assert len(Release.parse(ask(of, lying, office).release.payload).matches) == 1
    alive = list(lying.entries)
    lying.remove(3)
    assert Release.parse(ask(of, lying, office).release.payload).matches == ()
    lying.entries = alive  # the snapshot counts it again, under a new version
    lying.version += 1
    with pytest.raises(Damaged, match="not the one that its result was signed for"):
        ask(of, lying, office)


@pytest.mark.parametrize(("token", "text"), [(None, "contradicts"), (b"t" * 16, "token differs")])
def test_removed_unit_brought_back_by_its_old_receipt(
    of: World, lying: Operator, office: Desk, token: bytes | None, text: str
) -> None:
    """The receipt is real, and stays with the token that it names."""
    unit = lying.units[1]
    name = token or unit.token
    alive = [
        replace(entry, unit_token=name) for entry in lying.entries if entry.unit_token == unit.token
    ]
    for index, entry in enumerate(lying.entries):
        if entry.unit_token == unit.token:
            lying.remove(index)
    ask(of, lying, office)
    lying.version += 1
    lying.units = [replace(unit, token=name, added_version=lying.version)]
    lying.entries = alive
    with pytest.raises(Damaged, match=text):
        office.mirror.update("server", "missing", lying, lying.pin_, {"agency": ME.key})


@pytest.mark.parametrize("what", ["gallery", "pin"])
def test_receipt_of_another_gallery_or_pin(
    of: World, lying: Operator, office: Desk, what: str
) -> None:
    """An enroller signed for these very templates, elsewhere."""
    unit = lying.units[0]
    mine = [entry for entry in lying.entries if entry.unit_token == unit.token]
    gallery = "wanted" if what == "gallery" else "missing"
    pin = lying.pin_ if what == "gallery" else lying.pin_.model_copy(update={"model_id": "other"})
    lying.units[0] = signed_unit(
        gallery, pin, unit.placement, mine, CLIENT, sha256=unit.sha256, version=1
    )
    refused(of, lying, office, f"{what} differs")


def test_enroller_that_does_not_count_any_more(of: World, tmp_path: Path) -> None:
    """It did when its templates were mirrored; the policy changed since."""
    rules = policy("swift")
    with desk(tmp_path, of, rules) as opened:
        ask(of, of.operator, opened)
        with pytest.raises(Damaged, match="agency, whom the policy does not let enrol"):
            opened.mirror.update(
                "server", "missing", of.operator, of.pin, {"bureau": OTHER_CLIENT.public_key}
            )


# --- what a client is shown ----------------------------------------------------------------


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Release, tuple[Origin, ...]]:
    of = world("swift")
    with desk(tmp_path_factory.mktemp("office"), of, policy("swift")) as opened:
        delivery = ask(of, of.operator, opened)
    return Release.parse(delivery.release.payload), delivery.origins


def test_match_without_its_receipt(delivered: tuple[Release, tuple[Origin, ...]]) -> None:
    release, origins = delivered
    open_origins(release, origins, ME)
    for wrong in ((), origins * 2):
        with pytest.raises(Damaged, match="without the enrolment"):
            open_origins(release, wrong, ME)


def test_match_with_the_receipt_of_another(delivered: tuple[Release, tuple[Origin, ...]]) -> None:
    """A registrar shows another enrolment than the auditors signed for."""
    release, (origin,) = delivered
    receipt = EnrolReceipt.parse(origin.receipt.payload)
    later = receipt.model_copy(update={"issued_at": "2026-05-02T00:00:00Z"})
    with pytest.raises(Damaged, match="not the one that the release names"):
        open_origins(release, (replace(origin, receipt=later.sign(CLIENT)),), ME)
    for wrong in (
        replace(origin, place=origin.place + 1),
        replace(origin, path=origin.path[:-1]),
        replace(origin, path=(bytes(32), *origin.path[1:])),
        replace(origin, label_sha256=bytes(32)),
    ):
        with pytest.raises(Damaged):
            open_origins(release, (wrong,), ME)


def test_match_that_its_enroller_did_not_sign_for(
    delivered: tuple[Release, tuple[Origin, ...]],
) -> None:
    release, (origin,) = delivered
    receipt = EnrolReceipt.parse(origin.receipt.payload)
    with pytest.raises(PermissionRefused):
        open_origins(release, (replace(origin, receipt=receipt.sign(SERVER)),), ME)


def test_match_of_a_template_that_the_receipt_does_not_hold(
    delivered: tuple[Release, tuple[Origin, ...]],
) -> None:
    release, origins = delivered
    (match,) = release.matches
    other = match.templates[0].model_copy(update={"template_id": "00" * 16})
    for change in ({"templates": (other,)}, {"subject_id": "00" * 16}):
        match = match.model_copy(update=change)
        with pytest.raises(Damaged):
            open_origins(release.model_copy(update={"matches": (match,)}), origins, ME)


def test_match_that_is_said_to_be_enrolled_from_here(
    delivered: tuple[Release, tuple[Origin, ...]],
) -> None:
    """Even if the auditors were told a wrong key: a client knows its own."""
    release, (origin,) = delivered
    receipt = EnrolReceipt.parse(origin.receipt.payload)
    forged = replace(origin, receipt=receipt.sign(SERVER))
    (match,) = release.matches
    other = match.templates[0].model_copy(update={"enroller_key": SERVER.public_key.hex()})
    match = match.model_copy(update={"templates": (other,)})
    signed = release.model_copy(update={"matches": (match,)})
    assert open_origins(signed, (forged,), STRANGER)[0] == receipt
    with pytest.raises(PermissionRefused, match="enrolled from here"):
        open_origins(signed, (forged,), ME)
