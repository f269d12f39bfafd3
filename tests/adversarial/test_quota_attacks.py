"""A client that asks until it knows, and a registrar that forgets how often it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import Answer, World, book_of, desk, policy_text, unit, world
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
    few = rules("[quotas]\nsearches_per_day = 3\n")
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
    few = rules("[quotas]\nsearches_per_day = 2\n")
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
