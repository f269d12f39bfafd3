"""Several templates of one subject: answers that would say more than is charged for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AUDITOR,
    NOW,
    Desk,
    Operator,
    World,
    at_cosine,
    book_of,
    desk,
    policy,
    policy_text,
    unit,
    world,
)
from underseal_auditor.fusion import fuse
from underseal_auditor.guardian import Dossier
from underseal_auditor.panel import Panel
from underseal_auditor.policy.document import Policy, parse_policy
from underseal_auditor.policy.rules import Terms
from underseal_auditor.policy.sections import QuotaSection
from underseal_auditor.release import OpenedBlock
from underseal_auditor.verify.catalogue import block_of
from underseal_core.errors import PermissionRefused
from underseal_core.signing import Envelope
from underseal_core.snapshot import LiveEntry
from underseal_core.statements import Match, MatchedTemplate, Release, Targets, utc_text

SIGMA = 2**-10.2


def rules_with(fusion: str, profile: str = "swift") -> Policy:
    text = policy_text(profile).replace(
        'enrollers = ["agency"]', f'enrollers = ["agency"]\nfusion = "{fusion}"', 1
    )
    return parse_policy(text.encode())


def as_one(of: World, *numbers: int) -> Operator:
    """An operator of whom the agency enrolled these templates under one subject id."""
    made = of.operator.copy()
    for number in numbers:
        subject_id = made.entries[numbers[0]].subject_id
        made.entries[number] = replace(made.entries[number], subject_id=subject_id)
    made.sign(0)
    return made


def terms(fusion: str) -> Terms:
    text = policy(profile="guarded")
    section = text.document.release
    return Terms(
        threshold=text.document.models["test-model"].threshold,
        fusion="mean" if fusion == "mean" else "max",
        top_k=100,
        decimals=section.decimals,
        max_positives=8,
        max_near=3,
        max_spread=0.1,
        noise_std=SIGMA,
        band=16 * SIGMA,
        strict=False,
        quotas=QuotaSection(),
        approvals=0,
        warrant_hours=0,
    )


def opened(subjects: int, templates: int, score: float, seed: int) -> OpenedBlock:
    """Subjects with as many templates each; all true scores are the same, and noisy."""
    noise = np.random.default_rng(seed).normal(0.0, SIGMA, subjects * templates)
    entries = tuple(
        LiveEntry(
            0,
            slot,
            slot.to_bytes(16, "big"),
            (slot % subjects).to_bytes(16, "big"),
            bytes(32),
        )
        for slot in range(len(noise))
    )
    all_of_them = np.ones(len(noise), np.bool_)
    block = block_of((entry, True) for entry in entries)
    return OpenedBlock(block, score + noise, all_of_them)


@pytest.mark.parametrize("templates", [1, 2, 8])
def test_mean_says_no_more_than_one_score(templates: int) -> None:
    """The noise of n scores averages out in their mean, but one value is charged for it."""
    count = 20_000
    values = fuse([opened(count, templates, 0.7, seed=templates)], terms("mean"))
    assert values.scores.shape == (count,)
    assert values.scores.mean() == pytest.approx(0.7, abs=6 * SIGMA / count**0.5)
    assert values.scores.std() == pytest.approx(SIGMA, rel=0.03)
    assert {len(some) for some in values.entries} == {templates}


def test_the_noise_that_a_mean_gets_is_not_the_same_twice() -> None:
    first, second = (fuse([opened(50, 4, 0.7, seed=1)], terms("mean")).scores for _ in range(2))
    assert not np.isin(first, second).any()


def test_maximum_is_charged_with_all_scores_that_decide_it(tmp_path: Path) -> None:
    """Templates 3 and 4 both reach the threshold: one match, of the better one, and two values."""
    of = world()
    operator = as_one(of, 3, 4)
    both = of.people[3] + 0.9 * of.people[4]
    with desk(tmp_path, of, rules_with("max", "guarded"), operator) as office:
        release = office.submit(of.ask(both / np.linalg.norm(both), operator))
        (match,) = release.matches
        (named,) = match.templates
        assert named.template_id == operator.entries[3].template_id.hex()
        assert float(match.score) == pytest.approx(score(of, 3, both), abs=0.011)
        assert (release.values_charged, release.fusion) == (2, "max")


def score(of: World, number: int, probe: np.ndarray) -> float:
    return float(of.people[number] @ probe / np.linalg.norm(probe))


def test_mean_of_the_compared_templates_is_released(tmp_path: Path) -> None:
    of = world()
    operator = as_one(of, 3, 4)
    both = of.people[3] + 0.8 * of.people[4]
    ids = [operator.entries[number].template_id.hex() for number in (3, 4)]
    with desk(tmp_path, of, rules_with("mean", "guarded"), operator) as office:
        release = office.submit(of.ask(both / np.linalg.norm(both), operator))
        (match,) = release.matches
        assert [one.template_id for one in match.templates] == ids
        mean = (score(of, 3, both) + score(of, 4, both)) / 2
        assert float(match.score) == pytest.approx(mean, abs=0.011)
        assert (release.values_charged, release.compared) == (1, 75)
        # One template of the two is like the photo: their mean stays below the threshold.
        assert office.submit(of.ask(of.people[3], operator)).matches == ()
        only = Targets(template_ids=(ids[0],))
        (match,) = office.submit(of.ask(of.people[3], operator, targets=only)).matches
        assert [one.template_id for one in match.templates] == ids[:1]


@contextmanager
def council(folder: Path, fusion: str) -> Iterator[tuple[World, Operator, Desk, Panel]]:
    of, rules = world("swift", 2, 3), rules_with(fusion)
    operator = as_one(of, 3, 4)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book, operator) as (panel, _),
        desk(folder, of, rules, operator, guardian=panel, logbook=book) as office,
    ):
        yield of, operator, office, panel


def named(of: World, operator: Operator, number: int) -> MatchedTemplate:
    entry = operator.entries[number]
    receipt = operator.unit_of(entry).receipt
    return MatchedTemplate(
        template_id=entry.template_id.hex(),
        label=of.labels[number],
        enrolment_sha256=hashlib.sha256(receipt.payload).hexdigest(),
        enroller_key=receipt.signatures[0].public_key.hex(),
    )


def release_of(office: Desk, dossier: Dossier, fusion: str, *matches: Match) -> Envelope:
    chain, request = dossier.chain, dossier.chain.request
    return Release(
        request_id=request.request_id,
        request_sha256=chain.request_sha256,
        result_sha256=chain.result_sha256,
        policy_sha256=office.rules.sha256,
        key_epoch=request.pin.key_epoch,
        client=request.client,
        purpose=request.purpose,
        case_reference=request.case_reference,
        matches=matches,
        fusion="mean" if fusion == "mean" else "max",
        compared=75,
        threshold="0.6",
        noise_std="0.1",
        values_charged=2,
        epoch_total=2,
        released_at=utc_text(NOW),
    ).sign(AUDITOR)


@pytest.mark.parametrize("fusion", ["max", "mean"])
def test_registrar_that_shows_more_than_one_value_of_a_subject(fusion: str, tmp_path: Path) -> None:
    with council(tmp_path, fusion) as (of, operator, office, panel):
        dossier = office.dossier(of.ask(of.people[3], operator))
        opening = panel.begin(dossier)
        opening.open(dossier.sealed.norm, 0.1)
        subject_id = operator.entries[3].subject_id.hex()
        both = (named(of, operator, 3), named(of, operator, 4))

        def match(rank: int, *templates: MatchedTemplate) -> Match:
            return Match(subject_id=subject_id, rank=rank, score="", templates=templates)

        wrong: list[tuple[str, tuple[Match, ...]]] = [
            (fusion, (match(1, both[0]), match(2, both[1]))),
            (fusion, (match(1, both[0], both[0]),)),
            ("mean" if fusion == "max" else "max", (match(1, both[0]),)),
        ]
        if fusion == "max":
            wrong.append((fusion, (match(1, *both),)))
        for stated, matches in wrong:
            with pytest.raises(PermissionRefused, match="does not countersign"):
                opening.countersign(release_of(office, dossier, stated, *matches))
        right = match(1, *both) if fusion == "mean" else match(1, both[0])
        signed = opening.countersign(release_of(office, dossier, fusion, right))
        assert len(signed.signatures) == 2


def test_a_subject_counts_once_however_many_templates_match(tmp_path: Path) -> None:
    of = world()
    operator = as_one(of, 3, 4, 5)
    text = rules_with("max", "guarded").source.decode() + "[quotas]\nhits_per_subject = 2\n"
    both = of.people[3] + of.people[4]
    with desk(tmp_path, of, parse_policy(text.encode()), operator) as office:
        first = office.submit(of.ask(both / np.linalg.norm(both), operator))
        assert [len(match.templates) for match in first.matches] == [1]
        assert len(office.submit(of.ask(of.people[5], operator)).matches) == 1
        with pytest.raises(PermissionRefused, match="the auditors refuse"):
            office.submit(of.ask(at_cosine(of.people[3], 0.7, seed=5), operator))
        assert office.submit(of.ask(unit(1, 5)[0], operator)).matches == ()
