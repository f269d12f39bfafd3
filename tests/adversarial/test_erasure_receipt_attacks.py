"""A server that says of templates that they are erased, which they are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.auditor_world import (
    AGENCY,
    AUDITOR,
    CLIENT,
    GALLERY,
    NOW,
    OTHER,
    OTHER_CLIENT,
    SERVER,
    Operator,
    World,
    world,
)
from tests.redaction_oracle import amendment_of
from underseal_client.erasures import Erasure, ErasureVerifier
from underseal_client.records import SentErasure
from underseal_core.amendment import Amendment
from underseal_core.erasure import ByAmendment, ErasureReceipt
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.provenance import EnrolReceipt, Origin, UnitTree, template_leaf
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import utc_text

UNIT = 1
ERASED = (1, 2)
REMOVED = 3
"""Its place: removed, not erased. The template at place 0 is live."""


def prepared() -> tuple[World, Operator, Envelope]:
    """Three templates are removed; auditors erased two of them."""
    of = world("swift", 2, 3)
    operator = of.operator.copy()
    token = operator.units[UNIT].token
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == token and entry.place in (*ERASED, REMOVED):
            operator.remove(index)
    return of, operator, amendment_of(of, operator, UNIT, ERASED)[1]


def named(envelope: Envelope) -> ByAmendment:
    statement = Amendment.parse(envelope.payload)
    return ByAmendment(
        sha256=statement.sha256(),
        old_sha256=statement.old_sha256,
        new_sha256=statement.new_sha256,
    )


def sent(
    of: World,
    operator: Operator,
    amendment: Envelope,
    place: int,
    signer: Identity = SERVER,
    **changes: Any,
) -> SentErasure:
    """What a server that follows the protocol would send of the template at this place."""
    unit = operator.units[UNIT]
    entries = sorted(
        (one for one in operator.entries if one.unit_token == unit.token), key=lambda e: e.place
    )
    entry = entries[place]
    leaves = [template_leaf(e.template_id, e.subject_id, e.label_sha256) for e in entries]
    fields: dict[str, Any] = {
        "server": "server",
        "gallery": GALLERY,
        "pin": of.pin,
        "template_id": entry.template_id.hex(),
        "subject_id": entry.subject_id.hex(),
        "unit_token": unit.token.hex(),
        "removed_version": entry.removed_version or 9,
        "removed_at": utc_text(NOW),
        "how": "amended",
        "amendment": named(amendment),
        "erased_version": operator.version + 9,
        "archives": (),
        "archives_count": 0,
        "issued_at": utc_text(NOW),
    }
    receipt = ErasureReceipt(**{**fields, **changes})
    path = UnitTree(leaves).prove(place)
    return SentErasure(
        entry.template_id,
        entry.subject_id,
        receipt.removed_version,
        receipt.removed_at,
        receipt.sign(signer),
        amendment,
        Origin(unit.receipt, place, path, entry.label_sha256),
    )


def check(of: World, told: SentErasure, server: Identity = SERVER) -> Erasure:
    verifier = ErasureVerifier(GALLERY, lambda epoch: [of.roster], server.public_key, AGENCY)
    return verifier.open(told)


def test_an_honest_receipt_is_taken() -> None:
    of, operator, amendment = prepared()
    for place in ERASED:
        found = check(of, sent(of, operator, amendment, place))
        assert found.receipt is not None
        assert found.amendment == amendment


@pytest.mark.parametrize("place", [0, REMOVED])
def test_what_is_live_or_only_removed_is_not_erased(place: int) -> None:
    of, operator, amendment = prepared()
    with pytest.raises(Damaged, match="have not erased this template"):
        check(of, sent(of, operator, amendment, place))


def test_a_place_that_is_another_templates() -> None:
    """The one that is only removed, said to be where an erased one was."""
    of, operator, amendment = prepared()
    honest = sent(of, operator, amendment, ERASED[0])
    lie = sent(of, operator, amendment, REMOVED)
    assert honest.origin is not None
    assert lie.origin is not None
    for origin in (honest.origin, replace(lie.origin, place=ERASED[0])):
        with pytest.raises(Damaged):
            check(of, replace(lie, origin=origin))


def test_an_enrolment_that_is_made_up() -> None:
    """A unit with the template in an erased place, signed in the enroller's name."""
    of, operator, amendment = prepared()
    lie = sent(of, operator, amendment, REMOVED)
    assert lie.origin is not None
    entry = next(e for e in operator.entries if e.template_id == lie.template_id)
    unit = EnrolReceipt.parse(lie.origin.receipt.payload)
    leaf = template_leaf(entry.template_id, entry.subject_id, entry.label_sha256)
    tree = [leaf] * unit.templates
    forged = unit.relabelled(tree, unit.issued_at).sign(SERVER)
    place = ERASED[0]
    origin = Origin(forged, place, UnitTree(tree).prove(place), entry.label_sha256)
    with pytest.raises(PermissionRefused, match="enrolled from here"):
        check(of, replace(lie, origin=origin))


def test_an_amendment_that_too_few_signed() -> None:
    of, operator, amendment = prepared()
    alone = Amendment.parse(amendment.payload).sign(AUDITOR)
    for few in (replace(amendment, signatures=amendment.signatures[:1]), alone):
        with pytest.raises(PermissionRefused, match="not signed by 2 auditors"):
            check(of, sent(of, operator, few, ERASED[0]))


def test_without_the_amendment_or_with_another_one() -> None:
    of, operator, amendment = prepared()
    told = sent(of, operator, amendment, ERASED[0])
    with pytest.raises(Damaged, match="without what the auditors signed"):
        check(of, replace(told, amendment=None))
    _, other = amendment_of(of, operator, UNIT, ERASED, count=7)
    with pytest.raises(Damaged, match="names another amendment"):
        check(of, replace(told, amendment=other))


@pytest.mark.parametrize("number", [0, UNIT])
def test_an_amendment_of_another_unit(number: int) -> None:
    """That auditors did sign, of another token or of ciphertexts that nobody enrolled so."""
    of, operator, _ = prepared()
    changes = {} if number != UNIT else {"enrolled_sha256": "ab" * 32}
    other = operator.units[number].token.hex()
    _, amendment = amendment_of(of, operator, UNIT, ERASED, token=other, **changes)
    with pytest.raises(Damaged, match="not of the unit"):
        check(of, sent(of, operator, amendment, ERASED[0]))


@pytest.mark.parametrize(
    "changes", [{"gallery": "another"}, {"template_id": "ab" * 16}, {"subject_id": "ab" * 16}]
)
def test_a_receipt_of_something_else(changes: dict[str, Any]) -> None:
    of, operator, amendment = prepared()
    told = sent(of, operator, amendment, ERASED[0])
    assert told.receipt is not None
    honest = ErasureReceipt.parse(told.receipt.payload)
    deleted = {"how": "unit-deleted", "amendment": None}
    plain = replace(told, receipt=honest.model_copy(update=deleted).sign(SERVER))
    assert check(of, plain).receipt is not None
    other = honest.model_copy(update={**deleted, **changes}).sign(SERVER)
    with pytest.raises(Damaged, match="of another erasure"):
        check(of, replace(plain, receipt=other))


def test_a_receipt_that_the_server_did_not_sign() -> None:
    of, operator, amendment = prepared()
    told = sent(of, operator, amendment, ERASED[0], Identity.generate())
    with pytest.raises(PermissionRefused, match="not signed by the expected key"):
        check(of, told)


def test_another_clients_enrolment_is_checked_by_its_own_key() -> None:
    """This client is not its enroller: whoever signed it, the amendment must be of that unit."""
    of, operator, amendment = prepared()
    operator.sign(UNIT, OTHER_CLIENT, OTHER.name)
    assert check(of, sent(of, operator, amendment, ERASED[0])).receipt is not None
    told = sent(of, operator, amendment, ERASED[0])
    assert told.origin is not None
    broken = replace(told.origin.receipt.signatures[0], public_key=CLIENT.public_key)
    receipt = replace(told.origin.receipt, signatures=(broken,))
    with pytest.raises(PermissionRefused):
        check(of, replace(told, origin=replace(told.origin, receipt=receipt)))


def test_the_statement_contradicts_itself() -> None:
    of, operator, amendment = prepared()
    for changes in (
        {"how": "unit-deleted"},
        {"removed_version": 10**9},
        {"archives_count": -1},
    ):
        with pytest.raises(ValueError, match="ErasureReceipt"):
            sent(of, operator, amendment, ERASED[0], **changes)
