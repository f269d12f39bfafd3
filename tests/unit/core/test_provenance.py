"""Receipts of enrolment: every field counts, and one template of a unit can be shown."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace

import pytest

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import (
    Enrolled,
    EnrolReceipt,
    Origin,
    UnitTree,
    open_match,
    template_leaf,
    templates_root,
)
from underseal_core.signing import Identity
from underseal_core.statements import Match, MatchedTemplate, Pin

AGENCY, OTHER = Identity.generate(), Identity.generate()
AT = "2026-05-01T08:00:00Z"
IDS = [(secrets.token_bytes(16), secrets.token_bytes(16), secrets.token_bytes(32)) for _ in "abcde"]
PIN = Pin(model_id="model", model_dimension=128, profile="guarded", key_epoch="ab" * 32)
ENROLLED = Enrolled(
    gallery="missing",
    pin=PIN,
    token=b"t" * 16,
    shape=Shape.ROW,
    leaves=[template_leaf(*entry) for entry in IDS],
    unit_sha256=b"u" * 32,
)


def test_receipt_says_what_was_enrolled() -> None:
    receipt = ENROLLED.receipt("agency", AT)
    ENROLLED.check(receipt, "agency")
    assert EnrolReceipt.open(receipt.sign(AGENCY), AGENCY.public_key) == receipt
    assert EnrolReceipt.parse(receipt.payload()).shape is Shape.ROW
    with pytest.raises(PermissionRefused):
        EnrolReceipt.open(receipt.sign(AGENCY), OTHER.public_key)
    with pytest.raises(Damaged, match="client differs"):
        ENROLLED.check(receipt, "bureau")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gallery": "wanted"}, "gallery"),
        ({"pin": PIN.model_copy(update={"key_epoch": "cd" * 32})}, "pin"),
        ({"token": b"x" * 16}, "token"),
        ({"shape": Shape.COLUMNS}, "shape"),
        ({"leaves": ENROLLED.leaves[:-1]}, "templates"),
        ({"leaves": ENROLLED.leaves[::-1]}, "templates_root"),
        ({"unit_sha256": b"x" * 32}, "unit_sha256"),
    ],
)
def test_receipt_of_something_else(change: dict[str, object], text: str) -> None:
    other = replace(ENROLLED, **change)  # type: ignore[arg-type]  # by name
    with pytest.raises(Damaged, match=f"{text} differs"):
        ENROLLED.check(other.receipt("agency", AT), "agency")


def test_root_is_that_of_the_standard() -> None:
    """RFC 6962, section 2.1: leaves after a zero byte, nodes after a one."""
    leaves = ENROLLED.leaves[:3]
    hashed = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    left = hashlib.sha256(b"\1" + hashed[0] + hashed[1]).digest()
    assert templates_root(leaves) == hashlib.sha256(b"\1" + left + hashed[2]).hexdigest()


@pytest.mark.parametrize("lengths", [(15, 17, 32), (16, 15, 33), (17, 16, 31)])
def test_bytes_cannot_move_between_the_fields_of_a_leaf(lengths: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput):
        template_leaf(*(bytes(length) for length in lengths))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 64, 100])
def test_every_template_of_a_unit_can_be_shown_and_no_other(count: int) -> None:
    many = [(secrets.token_bytes(16), secrets.token_bytes(16), bytes(32)) for _ in range(count)]
    enrolled = replace(ENROLLED, leaves=[template_leaf(*entry) for entry in many])
    receipt = enrolled.receipt("agency", AT)
    signed, tree = receipt.sign(AGENCY), UnitTree(enrolled.leaves)
    for place, (template_id, subject_id, label) in enumerate(many):
        origin = Origin(signed, place, tree.prove(place), label)
        assert origin.open(AGENCY.public_key, template_id, subject_id) == receipt
        wrong = [
            (replace(origin, place=place + 1), template_id, subject_id),
            (replace(origin, path=(*origin.path, bytes(32))), template_id, subject_id),
            (replace(origin, label_sha256=b"x" * 32), template_id, subject_id),
            (origin, bytes(16), subject_id),
            (origin, template_id, bytes(16)),
        ]
        for hurt, template, subject in wrong:
            with pytest.raises(Damaged):
                hurt.open(AGENCY.public_key, template, subject)
    with pytest.raises(InvalidInput):
        tree.prove(count)


def test_match_shows_the_receipt_that_the_release_names() -> None:
    receipt = ENROLLED.receipt("agency", AT)
    template_id, subject_id, label = IDS[2]
    named = MatchedTemplate(
        template_id=template_id.hex(),
        label="Ada",
        enrolment_sha256=receipt.sha256(),
        enroller_key=AGENCY.public_key.hex(),
    )
    match = Match(subject_id=subject_id.hex(), rank=1, score="0.71", templates=(named,))
    origin = Origin(receipt.sign(AGENCY), 2, UnitTree(ENROLLED.leaves).prove(2), label)
    assert open_match(match, named, origin, AT) == receipt
    with pytest.raises(PermissionRefused):
        open_match(match, named, replace(origin, receipt=receipt.sign(OTHER)), AT)
    later = ENROLLED.receipt("agency", "2026-05-02T08:00:00Z")
    with pytest.raises(Damaged, match="not the one"):
        open_match(match, named, replace(origin, receipt=later.sign(AGENCY)), AT)


@pytest.mark.parametrize(
    ("keep_until", "over"),
    [("", False), ("2026-05-01T08:00:01Z", False), (AT, True), ("2026-04-30T09:00:00Z", True)],
)
def test_templates_are_over_from_the_very_second(keep_until: str, over: bool) -> None:
    receipt = ENROLLED.receipt("agency", "2026-04-01T00:00:00Z", keep_until)
    ENROLLED.check(receipt, "agency")
    assert receipt.over(AT) is over
