"""A registrar without memory asks other guardians each time, and finds each total spent once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations, cycle
from pathlib import Path

import pytest

from tests.auditor_guardians import Link, panel_of
from tests.auditor_world import Desk, World, book_of, desk, policy, unit, world
from underseal_auditor.logs.audit import EntryAudit
from underseal_auditor.panel import Panel
from underseal_auditor.policy import check_budget
from underseal_auditor.policy.check_budget import check_leak, most_openings
from underseal_core.errors import PermissionRefused
from underseal_core.log_entries import Intent, open_entry_as
from underseal_core.roster import Roster
from underseal_core.scheme.profiles import SWIFT
from underseal_core.tlog.audit import verify_log

PROFILE = "swift"
BUDGET = 6
ADVANCE = 1 + 1
"""What the policy of these tests may charge at most for one answer."""
THRESHOLD, MEMBERS = 2, 3


@contextmanager
def council(folder: Path, budget: int = 16) -> Iterator[tuple[World, Desk, Panel, list[Link]]]:
    of = world(PROFILE, THRESHOLD, MEMBERS)
    rules = policy(PROFILE, budget=budget, max_positives=1, top_k=1, max_near=1)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book) as (panel, links),
        desk(folder, of, rules, guardian=panel, logbook=book) as office,
    ):
        yield of, office, panel, links


def opened_by_all_groups(
    of: World, office: Desk, panel: Panel, links: list[Link], rule: str
) -> int:
    """Open searches with each group in turn, and release nothing, until every group refuses."""
    groups = cycle(combinations(range(1, MEMBERS + 1), THRESHOLD))
    opened, refused = 0, 0
    while refused < MEMBERS:
        group = next(groups)
        for link in links:
            link.down = link.point not in group
        dossier = office.dossier(of.ask(unit(1, 5)[0]))
        try:
            panel.begin(dossier).open(dossier.sealed.norm, 0.1)
            opened, refused = opened + 1, 0
        except PermissionRefused as error:
            refused += 1
            if rule not in error.public:
                raise
    return opened


def test_registrar_that_rotates_groups_spends_the_release_budget_once(tmp_path: Path) -> None:
    with council(tmp_path, BUDGET) as (of, office, panel, links):
        opened = opened_by_all_groups(of, office, panel, links, "release budget")
        charged = sum(link.total for link in links) // THRESHOLD
        assert opened * ADVANCE == charged == BUDGET


def test_registrar_that_rotates_groups_opens_no_more_norms_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_budget, "LEAK_LIMIT", 6.5 * check_leak(SWIFT, MEMBERS))
    with council(tmp_path) as (of, office, panel, links):
        most = most_openings(of.bundle.profile, MEMBERS) or 0
        before = most * THRESHOLD // MEMBERS - 2
        for link in links:
            with link.database.transaction() as connection:
                connection.executemany(
                    "INSERT INTO answers (client, request_id, request_sha256, result_sha256,"
                    " key_epoch, state, began_at)"
                    " VALUES ('agency', ?, '', '', ?, 'released', '2026')",
                    [(f"{number:032x}", of.bundle.epoch) for number in range(before)],
                )
        opened = opened_by_all_groups(of, office, panel, links, "opened as many searches")
        assert opened == MEMBERS
        assert before * MEMBERS / THRESHOLD + opened <= most


def test_log_shows_a_registrar_that_announces_too_many_searches(tmp_path: Path) -> None:
    with council(tmp_path) as (of, office, _, _):
        office.submit(of.ask(unit(1, 5)[0]))
        first = office.dossier(of.ask(unit(1, 6)[0])).intent.entry
        office.dossier(of.ask(unit(1, 7)[0]))
        epoch = open_entry_as(Intent, first).key_epoch
        for most, expected in ((3, set[str]()), (2, {"openings"})):
            audit = EntryAudit((Roster.first(of.bundle),), {epoch: most})
            verify_log(office.logbook.log.reader.directory, office.logbook.key, visit=audit.visit)
            assert {finding.rule for finding in audit.findings} == expected
