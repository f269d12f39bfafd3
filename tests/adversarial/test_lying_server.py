"""A server that signs what it did not compute, before 2 of 3 guardians who compute it again.

The server is the real evaluator on a real gallery, its result changed and signed with its own key;
guardians and registrar are the product's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_attacks import key_as_result, secret_of, shift, too_long_probe, two_probes
from tests.auditor_guardians import Link, panel_of
from tests.auditor_world import (
    DIMENSION,
    FIRST_BLOCK,
    SERVER,
    Answer,
    Desk,
    Operator,
    World,
    book_of,
    desk,
    policy,
    result_for,
    unit,
    world,
)
from underseal_auditor.panel import Panel
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.gallery.tiles import tiles_root
from underseal_core.log_entries import Alarm, Intent, LogStatement, Outcome, open_entry
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.evaluation import tiles_shape

PROFILE = "swift"
OF = (PROFILE, 2, 3)


@dataclass
class Bench:
    desk: Desk
    panel: Panel
    links: list[Link]

    def nothing_left(self) -> bool:
        """No guardian got further than its first look."""
        answered = any({"reveal", "answer"} & set(link.calls) for link in self.links)
        return not answered and all(link.total == 0 for link in self.links)

    def entries(self) -> list[LogStatement]:
        log = self.desk.logbook.log
        return [open_entry(entry) for _, entry in log.reader.entries(log.size)][1:]


@contextmanager
def bench_of(folder: Path, operator: Operator | None = None) -> Iterator[Bench]:
    of, rules = world(*OF), policy(PROFILE)
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book, operator) as (panel, links),
        desk(folder, of, rules, operator, guardian=panel, logbook=book) as office,
    ):
        yield Bench(office, panel, links)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_of(tmp_path) as made:
        yield made


def missing(of: World) -> Answer:
    return of.ask(unit(1, 5)[0])


# --- what the server may try ---------------------------------------------------------------


def key_in_every_coefficient(of: World) -> Answer:
    return missing(of).changed(Kind.RESULT, 0, key_as_result(of, 0.9))


def cut(ciphertext: Ciphertext) -> Ciphertext:
    """The same residues in the form of a result: what the parser can know is right."""
    level = Kind.RESULT.level(ciphertext.profile)
    residues = np.ascontiguousarray(ciphertext.residues[:, :level])
    return Ciphertext(ciphertext.profile, Kind.RESULT, residues)


def stored_column(of: World) -> Answer:
    first = of.operator.sent[of.operator.units[0].token][0]
    column = parse_ciphertext(first, of.bundle.profile, Kind.COLUMN)
    return missing(of).changed(Kind.RESULT, 0, cut(column))


def the_probe(of: World) -> Answer:
    answer = missing(of)
    data = answer.sealed[Kind.PROBE_ROW, 0]
    probe = parse_ciphertext(data, of.bundle.profile, Kind.PROBE_ROW)
    return answer.changed(Kind.RESULT, 0, cut(probe))


def forged_match(of: World) -> Answer:
    answer = missing(of)
    return answer.changed(Kind.RESULT, 0, shift(of, answer.sealed[Kind.RESULT, 0], 0.9))


def hidden_match(of: World) -> Answer:
    answer = of.ask(of.people[0])
    return answer.changed(Kind.RESULT, 0, shift(of, answer.sealed[Kind.RESULT, 0], -0.95))


def result_of_another_search(of: World) -> Answer:
    other = missing(of).sealed[Kind.RESULT, 0]
    return missing(of).changed(
        Kind.RESULT, 0, parse_ciphertext(other, of.bundle.profile, Kind.RESULT)
    )


def norm_of_another_probe(of: World) -> Answer:
    other = missing(of).sealed[Kind.NORM, 0]
    norm = parse_ciphertext(other, of.bundle.profile, Kind.NORM)
    return too_long_probe(of, 1.3).changed(Kind.NORM, 0, norm)


def block_left_out(of: World) -> Answer:
    answer = of.ask(of.people[FIRST_BLOCK])
    sealed = {place: data for place, data in answer.sealed.items() if place != (Kind.RESULT, 1)}
    return replace(answer, sealed=sealed, result=result_for(answer.request, answer.result, sealed))


def moved_by_one_slot(of: World) -> Operator:
    """Everybody's template in the next one's slot."""
    operator, profile = of.operator.copy(), of.bundle.profile
    tiles = np.zeros(tiles_shape(profile, DIMENSION), np.uint32)
    for index, part in enumerate(operator.sent[operator.units[0].token]):
        column = parse_ciphertext(part, profile, Kind.COLUMN)
        operator.evaluator.add_column(tiles, index, column.residues, 1)
    operator.tiles = {**operator.tiles, 0: tiles}
    return operator


def planted(of: World) -> Operator:
    """A face that nobody enrolled is added to the block."""
    operator = of.operator.copy()
    tiles = operator.tiles[0].copy()
    for index, column in enumerate(of.encryptor.encrypt_columns(unit(1, 5))):
        operator.evaluator.add_column(tiles, index, column.residues, 3)
    operator.tiles = {**operator.tiles, 0: tiles}
    return operator


def moved_template(of: World) -> Answer:
    return of.ask(of.people[3], moved_by_one_slot(of))


def planted_template(of: World) -> Answer:
    return of.ask(unit(1, 5)[0], planted(of))


def owning_up(operator: Operator) -> Operator:
    """States the roots of the blocks that it has."""
    operator.roots = {number: tiles_root(tiles) for number, tiles in operator.tiles.items()}
    return operator


def moved_template_with_its_root(of: World) -> Answer:
    return of.ask(of.people[3], owning_up(moved_by_one_slot(of)))


def planted_block_with_its_root(of: World) -> Answer:
    return of.ask(unit(1, 5)[0], owning_up(planted(of)))


def roots_of_other_blocks(of: World) -> Answer:
    """The result is honest, the statement about the blocks is not."""
    operator = of.operator.copy()
    operator.roots = {0: operator.roots[1], 1: operator.roots[0]}
    return of.ask(unit(1, 5)[0], operator)


def snapshot_without_a_template(of: World) -> Answer:
    operator = of.operator.copy()
    operator.entries = operator.entries[1:]
    return missing(of).stated(operator)


Lie = Callable[[World], Answer]
LIES: list[tuple[Lie, Rule]] = [
    (key_in_every_coefficient, Rule.RESULT),
    (stored_column, Rule.RESULT),
    (the_probe, Rule.RESULT),
    (forged_match, Rule.RESULT),
    (hidden_match, Rule.RESULT),
    (result_of_another_search, Rule.RESULT),
    (moved_template, Rule.RESULT),
    (planted_template, Rule.RESULT),
    (norm_of_another_probe, Rule.CHECKS),
    (block_left_out, Rule.BLOCKS),
    (moved_template_with_its_root, Rule.TILES),
    (planted_block_with_its_root, Rule.TILES),
    (roots_of_other_blocks, Rule.TILES),
    (snapshot_without_a_template, Rule.CATALOGUE),
]
IDS = [lie.__name__ for lie, _ in LIES]


# --- what it would gain --------------------------------------------------------------------


def test_without_reexecution_one_result_opens_to_the_whole_key() -> None:
    """What the defence is for: every coefficient of ``(0, K)`` opens to ``K`` times the key's."""
    of, height = world("guarded"), 0.9
    opened = of.opener().open(key_as_result(of, height), 2.0**-10.2)
    assert np.array_equal(np.round(opened / height), secret_of(of))


def test_without_reexecution_a_forged_score_is_a_match() -> None:
    of = world(PROFILE)
    data = forged_match(of).sealed[Kind.RESULT, 0]
    ciphertext = parse_ciphertext(data, of.bundle.profile, Kind.RESULT)
    assert of.opener().open(ciphertext, 2.0**-10.2)[0] > 0.6


# --- and does not --------------------------------------------------------------------------


@pytest.mark.parametrize(("lie", "rule"), LIES, ids=IDS)
def test_guardians_open_nothing_of_a_result_that_is_not_computed(
    bench: Bench, lie: Lie, rule: Rule
) -> None:
    """Even if the registrar helps: it checks nothing here."""
    dossier = bench.desk.dossier(lie(world(*OF)))
    with pytest.raises(ServerFault) as fault:
        bench.panel.begin(dossier)
    assert fault.value.rule is rule
    assert bench.nothing_left()


@pytest.mark.parametrize(
    ("lie", "rule"), [LIES[0], LIES[9], LIES[12]], ids=[IDS[0], IDS[9], IDS[12]]
)
def test_caught_server_is_frozen_and_the_log_says_so(
    bench: Bench, tmp_path: Path, lie: Lie, rule: Rule
) -> None:
    of = world(*OF)
    lying = lie(of)
    with pytest.raises(ServerFault):
        bench.desk.envelope(lying)
    assert bench.nothing_left()
    *before, last = bench.entries()
    alarm = next(entry for entry in (*before, last) if isinstance(entry, Alarm))
    assert (alarm.server, alarm.rule) == ("server", rule.value)
    assert alarm.request_sha256 == lying.request.sha256()
    assert alarm.result_sha256 == lying.result.sha256()
    announced = any(isinstance(entry, Intent) for entry in before)
    assert announced == (isinstance(last, Outcome) and last.outcome == "refused")
    (frozen,) = bench.desk.frozen.all()
    assert (frozen.key, frozen.rule) == (SERVER.public_key, rule.value)
    honest = missing(of)
    with pytest.raises(ServerFault, match="do not trust this server"):
        bench.desk.envelope(honest)
    assert sum(isinstance(entry, Alarm) for entry in bench.entries()) == 1
    bench.desk.frozen.unfreeze("server")
    for link in bench.links:
        if link.frozen.all():
            link.frozen.unfreeze("server")
    assert bench.desk.submit(honest).matches == ()


def test_guardians_stay_frozen_over_a_restart_and_whatever_the_registrar_says(
    bench: Bench,
) -> None:
    of = world(*OF)
    with pytest.raises(ServerFault):
        bench.desk.envelope(forged_match(of))
    bench.desk.frozen.unfreeze("server")
    for link in bench.links:
        link.stop()
        link.start()
    with pytest.raises(ServerFault, match="do not trust this server"):
        bench.desk.envelope(missing(of))
    for link in bench.links[:2]:
        link.frozen.unfreeze("server")
    assert bench.desk.submit(missing(of)).matches == ()


def test_refused_submission_stays_refused_when_the_server_is_trusted_again(bench: Bench) -> None:
    lying = forged_match(world(*OF))
    with pytest.raises(ServerFault):
        bench.desk.envelope(lying)
    bench.desk.frozen.unfreeze("server")
    for link in bench.links[:2]:
        link.frozen.unfreeze("server")
    with pytest.raises(PermissionRefused, match="the auditors refuse"):
        bench.desk.envelope(lying)


def test_server_that_sends_another_unit_than_was_enrolled(tmp_path: Path) -> None:
    """Its catalogue is honest, its ciphertexts are not: the guardians fold nothing of them."""
    of = world(*OF)
    operator = of.operator.copy()
    token = operator.units[0].token
    first, second, *others = operator.sent[token]
    operator.sent = {**operator.sent, token: [second, first, *others]}
    with bench_of(tmp_path, operator) as bench:
        with pytest.raises(Damaged, match="another unit than was enrolled"):
            bench.panel.begin(bench.desk.dossier(missing(of)))
        assert bench.nothing_left()
        assert not any(link.frozen.all() for link in bench.links)


def test_scaled_probe_shows_its_norm_and_nothing_else(bench: Bench) -> None:
    """Computed honestly, so it is opened; the norm alone, and the client pays."""
    of = world(*OF)
    with pytest.raises(PermissionRefused, match="the auditors refuse"):
        bench.desk.envelope(too_long_probe(of, 1.3))
    assert [link.calls.count("answer") for link in bench.links] == [1, 1, 0]
    assert bench.desk.ledger.refusals("agency", of.bundle.epoch) == 1


def test_double_probe_shows_nothing(bench: Bench) -> None:
    """The guardians see for themselves that there is more than one template in it."""
    of = world(*OF)
    with pytest.raises(PermissionRefused, match="the probe holds something"):
        bench.desk.envelope(two_probes(of, DIMENSION, 1.0, 0.69))
    assert not any("answer" in link.calls for link in bench.links)


def test_honest_results_pass(bench: Bench) -> None:
    of = world(*OF)
    assert len(bench.desk.submit(of.ask(of.people[3])).matches) == 1
    assert bench.desk.submit(missing(of)).matches == ()
    assert not any(isinstance(entry, Alarm) for entry in bench.entries())
