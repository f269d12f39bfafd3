"""Answers about somebody whom the signed request did not ask to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AGENCY,
    AUDITOR,
    NOW,
    Answer,
    Desk,
    World,
    at_cosine,
    book_of,
    desk,
    policy,
    policy_text,
    result_for,
    world,
)
from underseal_auditor.guardian import Dossier
from underseal_auditor.policy.document import parse_policy
from underseal_auditor.verify.fault import ServerFault
from underseal_core.errors import NotFound, PermissionRefused
from underseal_core.scheme.ciphertext import Kind
from underseal_core.signing import Envelope
from underseal_core.statements import Match, MatchedTemplate, Release, Targets, utc_text

PROFILE = "swift"


@pytest.fixture
def of() -> World:
    return world(PROFILE)


@pytest.fixture
def office(of: World, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, of, policy(PROFILE)) as opened:
        yield opened


def subset(of: World, *numbers: int) -> Targets:
    entries = of.operator.entries
    return Targets(subject_ids=tuple(entries[number].subject_id.hex() for number in numbers))


def match_of(of: World, number: int) -> Match:
    """What a registrar would release about a person: everything in it is true."""
    entry = of.operator.entries[number]
    receipt = of.operator.unit_of(entry).receipt
    named = MatchedTemplate(
        template_id=entry.template_id.hex(),
        label=of.labels[number],
        enrolment_sha256=hashlib.sha256(receipt.payload).hexdigest(),
        enroller_key=receipt.signatures[0].public_key.hex(),
    )
    return Match(subject_id=entry.subject_id.hex(), rank=1, score="", templates=(named,))


def test_person_outside_of_the_subset_is_not_released(of: World, office: Desk) -> None:
    """A client asks about persons 3 and 5 with a photo of person 4, whose score is opened too."""
    photo = at_cosine(of.people[4], 0.9)
    release = office.submit(of.ask(photo, targets=subset(of, 3, 5)))
    assert (release.matches, release.compared, release.values_charged) == ((), 2, 0)
    (match,) = office.submit(of.ask(photo, targets=subset(of, 5, 4))).matches
    assert match.subject_id == of.operator.entries[4].subject_id.hex()


def test_server_that_answers_for_the_whole_gallery(of: World, office: Desk) -> None:
    probe = of.encryptor.encrypt_probe(of.people[4])
    asked = of.request(probe, targets=subset(of, 3, 5))
    everything = of.operator.search(asked.model_copy(update={"targets": Targets()}), probe)
    assert (Kind.RESULT, 1) in everything.sealed
    signed = result_for(asked, everything.result, everything.sealed)
    with pytest.raises(ServerFault, match="exactly the blocks"):
        office.submit(Answer(asked, signed, everything.sealed))


def test_registrar_that_releases_somebody_outside_of_the_subset(tmp_path: Path) -> None:
    """All that it says is true, but nobody asked: no guardian signs for it."""
    of, rules = world(PROFILE, 2, 3), policy(PROFILE)
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules, book) as (panel, _),
        desk(tmp_path, of, rules, guardian=panel, logbook=book) as office,
    ):
        dossier = office.dossier(of.ask(of.people[4], targets=subset(of, 3, 5)))
        opening = panel.begin(dossier)
        opening.open(dossier.sealed.norm, 0.1)
        with pytest.raises(PermissionRefused, match="does not sign"):
            opening.countersign(release_of(of, dossier, match_of(of, 4)))
        signed = opening.countersign(release_of(of, dossier, match_of(of, 3)))
        assert len(signed.signatures) == 2


def release_of(of: World, dossier: Dossier, match: Match) -> Envelope:
    chain, request = dossier.chain, dossier.chain.request
    return Release(
        request_id=request.request_id,
        request_sha256=chain.request_sha256,
        result_sha256=chain.result_sha256,
        policy_sha256=policy(PROFILE).sha256,
        key_epoch=of.bundle.epoch,
        client=request.client,
        purpose=request.purpose,
        case_reference=request.case_reference,
        matches=(match,),
        compared=2,
        threshold=str(policy(PROFILE).document.models[request.pin.model_id].threshold),
        noise_std="0.1",
        values_charged=1,
        epoch_total=1,
        released_at=utc_text(NOW),
    ).sign(AUDITOR)


def test_subset_with_somebody_who_is_not_enrolled_is_not_answered(of: World, office: Desk) -> None:
    """Whatever the server makes of it: a misspelt name must not read "no match"."""
    targets = Targets(subject_ids=(*subset(of, 3).subject_ids, "0" * 32))
    with pytest.raises(NotFound, match="1 of the 2 subjects"):
        office.submit(of.ask(of.people[3], targets=targets))


def test_scope_of_a_purpose(of: World, tmp_path: Path) -> None:
    everybody = of.ask(at_cosine(of.people[4], 0.9))
    some = of.ask(at_cosine(of.people[4], 0.9), targets=subset(of, 4, 5))
    for scope, allowed, refused, text in (
        ("named", some, everybody, "compares only with whom"),
        ("everybody", everybody, some, "the whole gallery only"),
    ):
        rules = policy_text(PROFILE).replace(
            'approvals = "none"', f'approvals = "none"\nscope = "{scope}"', 1
        )
        folder = tmp_path / scope
        folder.mkdir()
        with desk(folder, of, parse_policy(rules.encode())) as office:
            with pytest.raises(PermissionRefused, match=text):
                office.registrar.admit(AGENCY, *refused.envelopes)
            assert len(office.submit(allowed).matches) == 1
