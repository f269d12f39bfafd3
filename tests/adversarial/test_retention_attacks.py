"""A server that keeps a template past the time that it was enrolled for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import (
    AGENCY,
    NOW,
    Desk,
    Operator,
    World,
    at_cosine,
    book_of,
    desk,
    policy,
    world,
)
from underseal_client.release import open_origins
from underseal_core.errors import PermissionRefused
from underseal_core.statements import Release, utc_text

PROFILE = "swift"


def keeping(of: World, keep_until: str) -> Operator:
    """An operator that still has, and finds, what its enroller signed for until ``keep_until``."""
    lying = of.operator.copy()
    lying.sign(0, keep_until=keep_until)
    return lying


def found(of: World, operator: Operator, office: Desk) -> Release:
    """What is released of a search for person 3, who is in the first unit."""
    return office.submit(of.ask(at_cosine(of.people[3], 0.9), operator))


@pytest.mark.parametrize(
    ("left", "matches"),
    [
        (timedelta(), 0),
        (timedelta(minutes=5), 0),  # over before the guardians would have signed
        (timedelta(minutes=11), 1),
        (timedelta(days=-1), 0),
    ],
)
def test_template_past_its_time_is_not_released(
    left: timedelta, matches: int, tmp_path: Path
) -> None:
    of = world(PROFILE)
    lying = keeping(of, utc_text(NOW + left))
    with desk(tmp_path, of, policy(PROFILE), lying) as office:
        release = found(of, lying, office)
        assert len(release.matches) == matches
        assert release.compared == 75 - (0 if matches else 70)


def test_the_others_are_still_found(tmp_path: Path) -> None:
    of = world(PROFILE)
    lying = keeping(of, utc_text(NOW))
    with desk(tmp_path, of, policy(PROFILE), lying) as office:
        assert len(office.submit(of.ask(of.people[72], lying)).matches) == 1


def test_registrar_that_releases_it_all_the_same_is_stopped_by_the_guardians(
    tmp_path: Path,
) -> None:
    """It goes along with the server; each guardian has the enroller's receipt of its own."""
    of, rules = world(PROFILE, 2, 3), policy(PROFILE)
    lying = keeping(of, utc_text(NOW - timedelta(seconds=1)))
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules, book, lying) as (panel, links),
        desk(tmp_path, of, rules, lying, guardian=panel, logbook=book) as office,
    ):
        assert found(of, lying, office).matches == ()
        with office.database.transaction() as connection:
            connection.execute("UPDATE units SET keep_until = ''")
        with pytest.raises(PermissionRefused, match="the auditors refuse"):
            found(of, lying, office)
        assert "countersign" in links[0].calls


def test_client_refuses_a_release_of_it(tmp_path: Path) -> None:
    """Server and auditors together: the receipt that comes with the match says otherwise."""
    of = world(PROFILE)
    kept = keeping(of, utc_text(NOW + timedelta(days=1)))
    with desk(tmp_path, of, policy(PROFILE), kept) as office:
        delivery = office.delivery(of.ask(of.people[3], kept))
    release = Release.parse(delivery.release.payload)
    assert len(open_origins(release, delivery.origins, AGENCY)) == 1
    late = release.model_copy(update={"released_at": utc_text(NOW + timedelta(days=1))})
    with pytest.raises(PermissionRefused, match="after the time"):
        open_origins(late, delivery.origins, AGENCY)
