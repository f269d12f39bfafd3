"""Attacks that only show in opened numbers, the budget, and what stays inside."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog

from tests.auditor_attacks import (
    Watching,
    key_as_result,
    plain,
    refused_by,
    too_long_probe,
    two_probes,
)
from tests.auditor_world import (
    AGENCY,
    DIMENSION,
    Desk,
    at_cosine,
    desk,
    policy,
    result_for,
    with_label,
    world,
)
from underseal_auditor.fusion import Values, fuse
from underseal_auditor.guardian import Guardian
from underseal_auditor.policy.document import parse_policy
from underseal_auditor.policy.rules import Terms
from underseal_auditor.release import OpenedBlock
from underseal_core.errors import (
    Conflict,
    PermissionRefused,
    StorageFull,
)
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.profiles import PROFILES


@pytest.fixture
def guardian() -> Watching:
    return Watching(world())


@pytest.fixture
def office(tmp_path: Path, guardian: Guardian) -> Iterator[Desk]:
    with desk(tmp_path, world(), policy(), guardian=guardian) as opened:
        yield opened


# --- probes that are not one unit vector ---------------------------------------------------


def test_probe_of_norm_1_3(office: Desk) -> None:
    assert refused_by(office, too_long_probe(world(), 1.3)) == "norm"


def test_short_probe(office: Desk) -> None:
    assert refused_by(office, too_long_probe(world(), 0.9)) == "norm"


FACES = {
    "beside": (DIMENSION, 1.0, 1.0),
    "faint": (DIMENSION, 1.0, 1e-5),
    # At offset N/2 the second enters the norm with a minus sign: 2 - 1 = 1.
    "cancelling": (-1, 2.0, 1.0),
}


@pytest.mark.parametrize("faces", FACES)
@pytest.mark.parametrize("profile", PROFILES)
def test_two_faces_in_one_probe(tmp_path: Path, profile: str, faces: str) -> None:
    """The squared norm of each is 1: zero tests find what lies beyond one template."""
    of, (offset, first, second) = world(profile), FACES[faces]
    place = of.bundle.profile.degree // 2 if offset < 0 else offset
    with (
        desk(tmp_path, of, policy(profile)) as office,
        pytest.raises(PermissionRefused, match="the probe holds something"),
    ):
        office.submit(two_probes(of, place, first, second))


def test_norm_that_wraps_around_the_modulus(tmp_path: Path) -> None:
    """compact has room for a squared norm below 2: 5 looks like 1, but the scores spread."""
    of = world("compact")
    with desk(tmp_path, of, policy("compact")) as office:
        assert refused_by(office, too_long_probe(of, np.sqrt(5.0))) == "spread"


# --- results that are not scores -----------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "rule"),
    [(0.7, "positives"), (0.4, "spread"), (1.5, "range"), (0.02, "canary"), (0.003, "canaries")],
)
def test_key_as_result(office: Desk, height: float, rule: str) -> None:
    of = world()
    answer = plain().changed(Kind.RESULT, 0, key_as_result(of, height))
    assert refused_by(office, answer) == rule


def test_net_that_is_too_wide(tmp_path: Path) -> None:
    of = world()
    mean = of.people[0] + of.people[1] + of.people[2]
    probe = mean / np.linalg.norm(mean)
    low = "larger_galleries = []\nthreshold = 0.4"
    source = policy(max_positives=2).source.decode().replace("threshold = 0.6", low)
    with desk(tmp_path, of, parse_policy(source.encode())) as office:
        assert refused_by(office, of.ask(probe)) == "positives"


def test_scores_too_close_to_the_threshold(tmp_path: Path) -> None:
    of = world()
    answer = of.ask(at_cosine(of.people[3], 0.595))
    with desk(tmp_path, of, policy(max_near=0)) as office:
        assert refused_by(office, answer) == "near"


def test_near_miss_is_charged(office: Desk) -> None:
    release = office.submit(world().ask(at_cosine(world().people[3], 0.592)))
    assert release.matches == ()
    assert release.values_charged == 1


# --- budget --------------------------------------------------------------------------------


def test_budget_is_used_up(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy(budget=2)) as office:
        assert office.submit(of.ask(of.people[3])).epoch_total == 1
        assert office.submit(of.ask(of.people[4])).epoch_total == 2
        with pytest.raises(PermissionRefused, match="budget"):
            office.submit(of.ask(of.people[5]))
    with desk(tmp_path, of, policy(budget=2)) as office, pytest.raises(PermissionRefused):
        office.submit(of.ask(of.people[5]))


def test_answer_that_would_overrun_the_budget(tmp_path: Path) -> None:
    of = world()
    both = of.people[0] + 0.9 * of.people[1]
    with desk(tmp_path, of, policy(budget=1)) as office:
        answer = of.ask(both / np.linalg.norm(both))
        assert refused_by(office, answer) == "budget-overrun"
        assert office.ledger.epoch_total(of.bundle.epoch) == 1


def test_refusals_cost_and_are_bounded(tmp_path: Path) -> None:
    of = world()
    with desk(tmp_path, of, policy(max_refusals=2)) as office:
        for _ in range(2):
            refused_by(office, too_long_probe(of, 1.3))
        assert office.ledger.epoch_total(of.bundle.epoch) == 2
        with pytest.raises(PermissionRefused, match="too many"):
            office.submit(plain())


# --- what stays inside ---------------------------------------------------------------------


def test_scores_are_overwritten(office: Desk, guardian: Watching) -> None:
    office.submit(world().ask(world().people[3]))
    assert len(guardian.opened) == 3
    assert not any(array.any() for array in guardian.opened)


def test_copies_of_scores_are_overwritten(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[OpenedBlock] = []
    values: list[Values] = []

    def watched(opened: Sequence[OpenedBlock], terms: Terms) -> Values:
        seen.extend(opened)
        values.append(fuse(opened, terms))
        return values[-1]

    monkeypatch.setattr("underseal_auditor.opening.fuse", watched)
    assert office.submit(world().ask(world().people[3])).matches
    assert len(seen) == 2
    assert not any(one.live.any() for one in seen)
    assert not values[0].scores.any()


def test_logs_hold_no_score_and_no_label(office: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    of = world()
    with structlog.testing.capture_logs() as logs:
        release = office.submit(of.ask(at_cosine(of.people[3], 0.8)))
        with pytest.raises(PermissionRefused):
            office.submit(too_long_probe(of, 1.3))
    text = repr(logs) + "".join(capsys.readouterr())
    assert "released" in text
    for secret in (*release.matches[0].score.split("\n"), "person-of", "0.8", "1.69"):
        assert secret not in text
    for entry in of.operator.entries:
        assert entry.template_id.hex() not in text
    answer = of.ask(of.people[3])
    admitted = office.registrar.admit(AGENCY, *answer.envelopes)
    assert "array" not in repr(admitted)


def test_power_cut_between_opening_and_answer(office: Desk, guardian: Watching) -> None:
    of = world()
    answer = of.ask(of.people[3])
    guardian.fails = True
    with pytest.raises(RuntimeError):
        office.submit(answer)
    guardian.fails = False
    fresh = answer.request.model_copy(update={"request_id": secrets.token_hex(16)})
    other = replace(answer, request=fresh, result=result_for(fresh, answer.result, answer.sealed))
    with pytest.raises(Conflict):
        office.submit(other)
    assert len(office.submit(answer).matches) == 1


def test_label_of_another_template_does_not_open(tmp_path: Path) -> None:
    """Its enroller mixed them up, and signed for it: the match stands, without a wrong name."""
    of = world()
    operator = of.operator.copy()
    other = operator.entries[4]
    operator.entries[3] = replace(
        operator.entries[3], sealed_label=other.sealed_label, label_sha256=other.label_sha256
    )
    operator.sign(0)
    with desk(tmp_path, of, policy(), operator) as office:
        (match,) = office.submit(of.ask(of.people[3], operator)).matches
    assert match.templates[0].label == ""


def test_label_that_is_no_text(tmp_path: Path) -> None:
    of = world()
    operator = of.operator.copy()
    entry = operator.entries[3]
    operator.entries[3] = with_label(entry, of.bundle.label_key, b"\xff\xfe")
    operator.sign(0)
    with desk(tmp_path, of, policy(), operator) as office:
        (match,) = office.submit(of.ask(of.people[3], operator)).matches
    assert match.templates[0].label == ""


def test_removed_template_is_not_released(tmp_path: Path) -> None:
    """Neither from a newer snapshot nor from an older result that still holds its score."""
    of = world()
    operator = of.operator.copy()
    with desk(tmp_path, of, policy(), operator) as office:
        before = of.ask(of.people[3], operator)
        operator.remove(3)
        assert office.submit(before).matches == ()
        assert office.submit(of.ask(of.people[3], operator)).matches == ()


def test_full_disk_opens_nothing(office: Desk, guardian: Watching) -> None:
    answer = world().ask(world().people[3])
    with office.database.transaction() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull):
        office.submit(answer)
    assert not guardian.opened
    assert office.mirror.galleries() == []
    with office.database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    assert len(office.submit(answer).matches) == 1
