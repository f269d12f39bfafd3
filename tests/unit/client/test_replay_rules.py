"""The replay's policy is one that auditors' programs accept, with no more room than keys have."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from underseal_auditor.policy.budget import budget_rule
from underseal_auditor.policy.document import parse_policy
from underseal_auditor.policy.starter import Starter, starter_policy
from underseal_client.replay.report import Thresholds
from underseal_client.replay.rules import Room, check_room, widened
from underseal_client.replay.run import Options, thresholds_for
from underseal_core.credentials import Peer, Role
from underseal_core.errors import InvalidInput
from underseal_core.scheme.profiles import profile_named


def starter(profile: str, decimals: int) -> str:
    peers = [Peer(Role.CLIENT, "agency", b"\1" * 32), Peer(Role.SERVER, "server", b"\2" * 32)]
    models = {"zoo-sface": Decimal("0.363")}
    named = profile_named(profile)
    purposes = {"replay": "none"}
    return starter_policy(Starter("p", named, 1, decimals, purposes, ["g"], models, peers))


def room_of(profile: str, decimals: int) -> Room:
    rule = budget_rule(profile_named(profile), decimals, strict=False, members=1)
    return Room(rule.max_values, rule.band)


@pytest.mark.parametrize(("profile", "decimals"), [("guarded", 2), ("compact", 0)])
def test_the_widened_policy_is_sound_and_spends_what_the_keys_allow(
    profile: str, decimals: int
) -> None:
    room = room_of(profile, decimals)
    policy = parse_policy(
        widened(starter(profile, decimals), 535, room, numeric=decimals > 0).encode()
    )
    release, quotas = policy.document.release, policy.document.quotas
    assert (release.top_k, release.max_positives, release.max_near) == (100, 1000, 1000)
    assert release.budget == policy.limits.max_values == room.budget
    assert release.decimals == decimals
    assert quotas.searches_per_day == 535
    assert quotas.near_duplicate_weight == 4
    assert quotas.scores_per_subject == (1000 if decimals else 0)
    assert policy.document.models["zoo-sface"].threshold == Decimal("0.363")


def test_another_text_than_the_starter_is_not_rewritten() -> None:
    with pytest.raises(InvalidInput, match="does not say top_k once"):
        widened("version = 1\n", 535, Room(1000, 0.01), numeric=True)


def test_a_test_that_the_auditors_would_break_off_is_not_begun() -> None:
    """Ten people, each of whom has a score of exactly 0.5 with each of a hundred templates."""
    probes = np.tile([1.0, 0.0], (10, 1))
    templates = np.tile([0.5, np.sqrt(0.75)], (100, 1))
    check_room(probes, templates, 0.5, Room(1021, 0.01))
    check_room(probes, templates, 0.52, Room(10, 0.01))
    with pytest.raises(InvalidInput, match="would show 1,000 values, up to 100 in a search"):
        check_room(probes, templates, 0.505, Room(1000, 0.01))
    many = np.tile(templates, (10, 1))
    with pytest.raises(InvalidInput, match="up to 1,000 in a search"):
        check_room(probes, many, 0.5, Room(1_000_000, 0.01))


def options(**changes: float) -> Options:
    return Options(Path(), 100, 10, **changes)  # type: ignore[arg-type]


def test_thresholds_are_the_published_ones_unless_given() -> None:
    assert thresholds_for("zoo-sface", options()) == Thresholds(0.363, 0.55)
    assert thresholds_for("zoo-sface", options(policy_threshold=0.6)) == Thresholds(0.363, 0.6)
    given = options(default_threshold=0.3, policy_threshold=0.4)
    assert thresholds_for("other-0123", given) == Thresholds(0.3, 0.4)
    with pytest.raises(InvalidInput, match="policy threshold of other-0123"):
        thresholds_for("other-0123", options(default_threshold=0.3))
