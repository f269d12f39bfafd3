"""A client that asks until it knows, and a registrar that forgets how often it was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_attacks import refused_by
from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    OTHER,
    OTHER_CLIENT,
    Answer,
    World,
    at_cosine,
    book_of,
    desk,
    policy_text,
    unit,
    world,
)
from underseal_auditor.policy.document import Policy, parse_policy
from underseal_core.errors import PermissionRefused

PROFILE = "swift"


def rules(extra: str, profile: str = PROFILE) -> Policy:
    return parse_policy((policy_text(profile) + extra).encode())


def stranger(of: World) -> Answer:
    """A search that finds nobody."""
    return of.ask(unit(1, 5)[0])


def test_client_that_asks_all_day_is_stopped(tmp_path: Path) -> None:
    of = world(PROFILE)
    few = rules("[quotas]\nsearches_per_day = 3\nnear_duplicate_weight = 1\n")
    first = stranger(of)
    with desk(tmp_path, of, few) as office:
        for answer in (first, stranger(of), stranger(of)):
            office.submit(answer)
        with pytest.raises(PermissionRefused, match="searches of the last 24 hours"):
            office.submit(stranger(of))
        assert office.submit(first).matches == ()  # a stored answer costs nothing


def test_registrar_that_forgot_the_day_is_stopped_by_the_guardians(tmp_path: Path) -> None:
    """It checks nothing any more: only the guardians' own counts are left."""
    of = world(PROFILE, 2, 3)
    few = rules("[quotas]\nsearches_per_day = 2\nnear_duplicate_weight = 1\n")
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, few, book) as (panel, _),
        desk(tmp_path, of, few, guardian=panel, logbook=book) as office,
    ):
        for _ in range(2):
            office.submit(stranger(of))
        forgetful = office.dossier(stranger(of))
        with pytest.raises(PermissionRefused, match="searches of the last 24 hours"):
            panel.begin(forgetful)


def climb(of: World, step: int) -> Answer:
    """Another probe of the same person, as different from the others as another photo."""
    return of.ask(at_cosine(of.people[3], 0.8, seed=100 + step))


def test_scores_of_one_subject_run_out_and_then_its_hits(tmp_path: Path) -> None:
    """Hill climbing lives on scores: the first 3 of a subject show one, then 2 hits do not."""
    of = world("guarded")
    few = rules(
        "[quotas]\nscores_per_subject = 3\nhits_per_subject = 5\nnear_duplicate_weight = 1\n",
        "guarded",
    )
    with desk(tmp_path, of, few) as office:
        releases = [office.submit(climb(of, step)) for step in range(5)]
        scores = [match.score for release in releases for match in release.matches]
        assert len(scores) == 5
        assert [bool(score) for score in scores] == [True, True, True, False, False]
        assert refused_by(office, climb(of, 5)) == "subject-quota"
        other = office.submit(of.ask(of.people[4]))  # of another subject nothing was said
        assert [bool(match.score) for match in other.matches] == [True]


def test_subject_quota_holds_over_all_clients(tmp_path: Path) -> None:
    of = world(PROFILE)
    text = policy_text(PROFILE) + "[quotas]\nhits_per_subject = 1\n"
    both = text.replace('purposes = ["border"]', 'purposes = ["missing-person"]')
    with desk(tmp_path, of, parse_policy(both.encode())) as office:
        assert len(office.submit(of.ask(of.people[3])).matches) == 1
        second = replace(of.ask(of.people[3], client="bureau"), signer=OTHER_CLIENT)
        with pytest.raises(PermissionRefused, match="the auditors refuse"):
            office.submit(second, OTHER)


def test_small_steps_count_as_several_searches(tmp_path: Path) -> None:
    """A climber changes its probe a little at a time; the registrar sees it in the scores."""
    of = world(PROFILE)
    few = rules("[quotas]\nsearches_per_day = 6\nnear_duplicate_weight = 4\n")
    start = at_cosine(of.people[3], 0.9)
    with desk(tmp_path, of, few) as office:
        first = office.submit(of.ask(start))
        step = office.submit(of.ask(at_cosine(start, 0.98)))
        assert (first.searches_charged, step.searches_charged) == (1, 4)
        assert (first.values_charged, step.values_charged) == (1, 4)
        elsewhere = office.submit(of.ask(at_cosine(of.people[9], 0.7)))
        assert elsewhere.searches_charged == 1
        with pytest.raises(PermissionRefused, match="searches of the last 24 hours"):
            office.submit(stranger(of))


def test_registrar_that_forgot_the_subjects_is_stopped_by_the_guardians(tmp_path: Path) -> None:
    """Its own record of what was said is gone: each guardian has countersigned, and counted."""
    of = world(PROFILE, 2, 3)
    few = rules("[quotas]\nhits_per_subject = 1\n")
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, few, book) as (panel, links),
        desk(tmp_path, of, few, guardian=panel, logbook=book) as office,
    ):
        assert len(office.submit(of.ask(of.people[3])).matches) == 1
        with office.database.transaction() as connection:
            connection.execute("DELETE FROM subjects")
            connection.execute("DELETE FROM sketches")
        assert refused_by(office, of.ask(at_cosine(of.people[3], 0.8))) == "guardian"
        assert links[0].total > 1  # what was opened and not released stays charged
