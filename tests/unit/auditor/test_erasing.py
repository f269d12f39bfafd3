"""What was removed is erased by k guardians, unit by unit, without anything being opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_world import CLIENT, GALLERY, World, world
from tests.redaction_council import Council, council_of
from tests.redaction_oracle import opened
from underseal_auditor.erasing import Eraser
from underseal_auditor.keys import redaction
from underseal_auditor.redacting import RedactionDesk
from underseal_core.amendment import open_amendment
from underseal_core.errors import Busy
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext

ENROLLERS = {"agency": CLIENT.public_key}
UNIT = 1


@pytest.fixture(scope="module")
def of() -> World:
    return world("swift", 2, 3)


@pytest.fixture
def council(of: World, tmp_path: Path) -> Iterator[Council]:
    with council_of(of, of.operator.copy(), tmp_path) as council:
        yield council


def remove(council: Council, *places: int) -> None:
    operator = council.server.operator
    token = operator.units[UNIT].token
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == token and entry.place in places and not entry.removed_version:
            operator.remove(index)


class Away(RedactionDesk):
    def generation(self) -> str:
        raise Busy("out of reach")


def without(council: Council, *points: int) -> Eraser:
    links = dict(council.office.links)
    for point in points:
        links[point] = Away(council.desks[point]._bench)
    return Eraser(replace(council.office, links=links))


def test_nothing_removed_nothing_to_do(council: Council) -> None:
    assert council.eraser.run() == []


def test_removed_templates_are_gone_for_all_keys_together(of: World, council: Council) -> None:
    operator = council.server.operator
    old = operator.sent[operator.units[UNIT].token]
    remove(council, 0, 3)
    (due,) = council.eraser.due()
    assert (due.removed, due.templates) == ((0, 3), 2)
    (done,) = council.eraser.run()
    assert done.failure == ""
    (amendment,) = council.logged
    assert council.server.amended == [amendment]
    statement = open_amendment(amendment, [of.roster])
    assert statement.sha256() == done.amendment_sha256
    new = operator.sent[operator.units[UNIT].token]
    live = np.ones(5, dtype=bool)
    live[[0, 3]] = False
    for before, after in list(zip(old, new, strict=True))[:4]:
        parsed = [parse_ciphertext(p, of.bundle.profile, Kind.COLUMN) for p in (before, after)]
        first, second = (opened(of.shares, of.bundle, one)[:5] for one in parsed)
        assert np.abs((first - second)[live]).max() < 2.0**-16
        assert np.abs(second[~live]).max() < 2.0**-16
        assert np.abs(first[~live]).max() > 2.0**-12
    assert council.eraser.run() == []
    for point, one in council.replicas.items():
        one.follow("server", GALLERY, of.pin, ENROLLERS)
        with one.at("server", operator.snapshot(), of.pin, ENROLLERS) as (_, folded):
            assert np.array_equal(folded.tiles[1], operator.tiles[1])
        known = council.records[point].untested([operator.units[UNIT]])
        assert len(known) == (0 if point in (1, 2) else 1)


def test_any_two_do_and_take_turns(council: Council) -> None:
    """Who was not there the first time finds the unit sound by a test of its own."""
    remove(council, 1)
    assert [one.failure for one in without(council, 1).run()] == [""]
    remove(council, 2)
    assert [one.failure for one in without(council, 2).run()] == [""]
    assert council.server.operator.units[UNIT].redaction is not None
    assert len(council.logged) == 2


def test_one_alone_does_nothing(council: Council) -> None:
    remove(council, 1)
    (done,) = without(council, 1, 2).run()
    assert "too few guardians" in done.failure
    assert (council.logged, council.server.amended) == ([], [])
    assert [one.failure for one in council.eraser.run()] == [""]


def test_a_guardian_that_drops_out_is_made_up_for(
    council: Council, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers that it is there, and is away when its contribution is due."""
    remove(council, 1)

    def gone(session: bytes) -> Iterator[bytes]:
        raise Busy("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr(council.desks[2], "contribute", gone)
        (done,) = council.eraser.run()
        assert done.failure == "out of reach"
        assert council.logged == []
    assert [one.failure for one in without(council, 2).run()] == [""]
    assert [one.failure for one in council.eraser.run()] == []


def test_a_block_bears_so_many_redactions(
    council: Council, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound of two redactions instead of 128, the third is refused by the guardians."""
    monkeypatch.setattr(redaction, "EXTRA_ERROR", 1024)
    for place in (0, 1):
        remove(council, place)
        assert [one.failure for one in council.eraser.run()] == [""]
    remove(council, 2)
    (done,) = council.eraser.run()
    assert "as often as its scores bear" in done.failure


def test_a_unit_that_is_gone_is_not_waited_for(council: Council) -> None:
    remove(council, 0, 1, 2, 3, 4)
    assert council.eraser.run() == []
