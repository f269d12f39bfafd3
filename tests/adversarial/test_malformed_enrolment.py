"""An enroller that hides a multiple of the secret key in a template, to read the key from scores.

A template is encrypted as ``(c0, c1)`` with ``c0 + c1 s`` its plaintext: whoever enrols
``(c0, c1 + K)`` adds ``K s`` to it without knowing ``s``. The server folds it honestly, auditors
compute the same, and each score of a slot then shows a coefficient of ``s``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_attacks import Watching, refused_by, secret_of
from tests.auditor_guardians import Link, Releases, panel_of
from tests.auditor_world import (
    DIMENSION,
    FIRST_BLOCK,
    GALLERY,
    Answer,
    Desk,
    Operator,
    World,
    book_of,
    desk,
    policy,
    unit,
    world,
)
from underseal_auditor.keys.joint_opening import OpeningFailed, OpeningOutOfTurn
from underseal_auditor.keys.zero_opening import (
    Conditions,
    MemberZeroTests,
    fresh_occasion,
    seed_of,
)
from underseal_auditor.store.tested import (
    MAX_FAILED,
    MAX_UNPROVEN,
    SoundUnits,
    Standing,
    Suspect,
)
from underseal_auditor.verify.chain import Place
from underseal_core.errors import Busy, InvalidInput, PermissionRefused
from underseal_core.gallery.unit import usable_slots
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.zero_test import VALUES, Claim, beyond, zero_test

FIRST_AXIS = np.eye(DIMENSION)[0]
"""A unit vector: passes every check of a probe, and picks one component of each template."""


CLIENT, UNITS = Suspect("client", "agency"), Suspect("gallery", f"server/{GALLERY}")


def with_key(ciphertext: Ciphertext, amplitude: float) -> Ciphertext:
    """``amplitude * s`` in the plaintext, put there by somebody who does not know ``s``."""
    profile, kind = ciphertext.profile, ciphertext.kind
    primes = profile.data_primes[: kind.level(profile)]
    constant = round(amplitude * kind.scale(profile, DIMENSION))
    values = np.array([constant % prime for prime in primes], np.uint32)[:, None]
    hidden = np.ascontiguousarray(np.broadcast_to(values, ciphertext.residues.shape[1:]))
    residues = ciphertext.residues.copy()
    residues[1] = kernel.add(np.ascontiguousarray(residues[1]), hidden, primes)
    return Ciphertext(profile, kind, residues)


def poisoned(of: World, amplitude: float) -> Operator:
    """Everybody else is honest: ``amplitude * s`` is in component 0 of what was enrolled."""
    operator = of.operator.copy()
    first, *others = operator.sent[operator.units[0].token]
    column = parse_ciphertext(first, of.bundle.profile, Kind.COLUMN)
    operator.enrol_again(0, [with_key(column, amplitude).to_bytes(), *others])
    return operator


def overreaching(of: World) -> Operator:
    """The first unit's plaintext goes on after its own slots, into those of others."""
    operator = of.operator.copy()
    vectors = np.concatenate((of.people[:FIRST_BLOCK], unit(1, 5)))
    columns = of.encryptor.encrypt_columns(vectors)
    operator.enrol_again(0, [column.to_bytes() for column in columns])
    return operator


@pytest.mark.parametrize("profile", ["guarded", "swift"])
def test_scores_of_such_templates_are_the_key(profile: str) -> None:
    """What the defence is for: the score of each slot, even at two decimals, is a coefficient."""
    of = world(profile)
    operator = poisoned(of, 0.05)
    evaluator = operator.evaluator
    probe = evaluator.prepare(of.encryptor.encrypt_probe(FIRST_AXIS)).probe
    opened = of.opener().open(evaluator.score(probe, operator.tiles[0]), 2.0**-10.2)
    scores = np.round(opened[:FIRST_BLOCK], 2)
    own = of.people[:FIRST_BLOCK, 0]
    assert np.array_equal(np.round((scores - own) / 0.05), secret_of(of)[:FIRST_BLOCK])
    # The slots that no template may take show the key as well: that is what gives it away.
    canaries = opened[usable_slots(of.bundle.profile.degree, DIMENSION) :]
    assert np.abs(canaries).max() > 0.045


@pytest.mark.parametrize("amplitude", [0.05, 0.02, 0.003])
@pytest.mark.parametrize("profile", ["guarded", "swift"])
def test_such_templates_show_in_the_canaries(
    tmp_path: Path, profile: str, amplitude: float
) -> None:
    of, operator = world(profile), poisoned(world(profile), amplitude)
    careless = Watching(of)
    with desk(tmp_path, of, policy(profile), operator, careless) as office:
        assert refused_by(office, of.ask(FIRST_AXIS, operator)) in ("canary", "canaries")


# --- zero tests: by whoever holds shares, before anything is opened ----------------------------


@pytest.mark.parametrize("amplitude", [0.05, 2.0**-11])
@pytest.mark.parametrize("profile", ["guarded", "compact", "swift"])
def test_nothing_of_a_malformed_enrolment_is_opened(
    tmp_path: Path, profile: str, amplitude: float
) -> None:
    of, operator = world(profile), poisoned(world(profile), amplitude)
    with desk(tmp_path, of, policy(profile), operator) as office:
        answer = of.ask(FIRST_AXIS, operator)
        with pytest.raises(PermissionRefused, match="template that is malformed"):
            office.submit(answer)
        with pytest.raises(PermissionRefused):
            office.submit(answer)  # stored: the same submission is not tested again
        assert office.ledger.epoch_total(of.bundle.epoch) == 0


def test_far_smaller_multiples_are_found_where_scores_are_released(tmp_path: Path) -> None:
    """``guarded`` has room: 2^-26, where the noise of a released score is 2^-10."""
    of, operator = world(), poisoned(world(), 2.0**-26)
    with (
        desk(tmp_path, of, policy(), operator) as office,
        pytest.raises(PermissionRefused, match="template that is malformed"),
    ):
        office.submit(of.ask(FIRST_AXIS, operator))


def test_template_in_anothers_slot(tmp_path: Path) -> None:
    """To frame somebody: the face of one person in the slot, and under the label, of another."""
    of, operator = world("swift"), overreaching(world("swift"))
    with (
        desk(tmp_path, of, policy("swift"), operator) as office,
        pytest.raises(PermissionRefused, match="template that is malformed"),
    ):
        office.submit(of.ask(unit(1, 5)[0], operator))


@pytest.mark.parametrize("amplitude", [0.009, 0.0005])
@pytest.mark.parametrize("profile", ["guarded", "swift"])
def test_key_in_a_probe(tmp_path: Path, profile: str, amplitude: float) -> None:
    """Too small to show in a norm; 64 own templates would make it 8 times
    as large in a score."""
    of = world(profile)
    probe = with_key(of.encryptor.encrypt_probe(unit(1, 5)[0]), amplitude / 12)
    with (
        desk(tmp_path, of, policy(profile)) as office,
        pytest.raises(PermissionRefused, match="the probe holds something"),
    ):
        office.submit(of.ask_with(probe))


def test_sound_units_are_tested_once_and_under_one_key(tmp_path: Path) -> None:
    of = world("swift")
    with desk(tmp_path, of, policy("swift")) as office:
        answer = of.ask(of.people[3])
        assert office.submit(answer).matches
        replica = of.replica(tmp_path, office.mirror)
        units = replica.units("server", answer.result.snapshot, [0, 1]).values()
        assert len(units) == 2
        assert SoundUnits(office.database, of.bundle.epoch).untested(units) == []
        assert len(SoundUnits(office.database, "another epoch").untested(units)) == 2


# --- k of n: every guardian sees for itself ----------------------------------------------------


@contextmanager
def council_of(folder: Path, operator: Operator | None = None) -> Iterator[tuple[Desk, list[Link]]]:
    of, rules, releases = world("swift", 2, 3), policy("swift"), Releases()
    with (
        book_of(folder) as book,
        panel_of(folder, of, rules, book, operator, releases) as (panel, links),
        desk(folder, of, rules, operator, panel, logbook=book) as office,
    ):
        releases.ledger = office.ledger
        yield office, links


def test_guardians_refuse_a_malformed_enrolment(tmp_path: Path) -> None:
    of = world("swift", 2, 3)
    operator = poisoned(of, 0.02)
    with council_of(tmp_path, operator) as (office, links):
        with pytest.raises(PermissionRefused, match="template that is malformed"):
            office.submit(of.ask(FIRST_AXIS, operator))
        for link in links[:2]:
            assert "conclude_tests" in link.calls
            assert "answer" not in link.calls
            assert link.tested.standings() == [Standing(UNITS, 1, 0)]


def test_guardians_answer_no_registrar_that_skips_the_tests(tmp_path: Path) -> None:
    of = world("swift", 2, 3)
    operator = poisoned(of, 0.02)
    with council_of(tmp_path, operator) as (office, links):
        dossier = office.dossier(of.ask(FIRST_AXIS, operator))
        begun = {link.point: link.commit(dossier, (1, 2), ()) for link in links[:2]}
        commitments = tuple(one.commitment for one in begun.values())
        size = links[0].desk.zeros_size(begun[1].session)
        zeros = {
            link.point: link.reveal(begun[link.point].session, commitments, size)
            for link in links[:2]
        }
        first, mine, norm = links[0], begun[1].session, Place(Kind.NORM, 0)
        with pytest.raises(InvalidInput, match="left out"):
            first.take(mine, {2: zeros[2]}, frozenset())
        with pytest.raises(OpeningOutOfTurn, match="zero tests"):
            first.answer(mine, norm)
        untested = begun[1].untested | begun[2].untested
        tests = {
            2: links[1].take(begun[2].session, {1: zeros[1]}, untested),
            1: first.desk._session(mine).tests.prepare(  # zeros are taken
                first.desk._session(mine).opening.salts, untested
            ),
        }
        answers = {
            link.point: link.reveal_tests(begun[link.point].session, tests) for link in links[:2]
        }
        with pytest.raises(OpeningOutOfTurn, match="zero tests"):
            first.answer(mine, norm)
        with pytest.raises(PermissionRefused, match="template that is malformed"):
            first.conclude_tests(mine, answers)
        with pytest.raises(OpeningOutOfTurn, match="zero tests"):
            first.answer(mine, norm)


def abandon(office: Desk, links: list[Link], answer: Answer) -> None:
    """Two guardians show their values, and are never told those of the other."""
    links[2].down = True
    for link in links[:2]:
        link.dies_before = "conclude_tests"
    with pytest.raises(Busy):
        office.submit(answer)
    for link in links[:2]:
        link.start()
    links[2].down = False


def with_hidden_key(of: World) -> Answer:
    return of.ask_with(with_key(of.encryptor.encrypt_probe(unit(1, 5)[0]), 0.001))


def test_key_is_not_read_from_tests_that_are_abandoned(tmp_path: Path) -> None:
    """A registrar and a client abandon tests of bad probes, and pass one of a good probe each time.

    What passes shows nothing about what was abandoned: they get so many tests, and no more.
    """
    of = world("swift", 2, 3)
    with council_of(tmp_path) as (office, links):
        for number in range(MAX_UNPROVEN):
            assert office.submit(of.ask(unit(1, 20 + number)[0])).matches == ()
            abandon(office, links, with_hidden_key(of))
            for link in links[:2]:
                assert link.tested.standings() == [Standing(CLIENT, 0, number + 1)]
        for answer in (of.ask(of.people[3]), with_hidden_key(of)):
            with pytest.raises(PermissionRefused, match="abandoned"):
                office.submit(answer)


def test_new_units_of_a_gallery_are_not_tested_in_vain_for_ever(tmp_path: Path) -> None:
    """The same, by an enroller: each client of the gallery is tested with its units."""
    of = world("swift", 2, 3)
    operator = poisoned(of, 0.02)
    with council_of(tmp_path, operator) as (office, links):
        for _ in range(MAX_UNPROVEN):
            abandon(office, links, of.ask(FIRST_AXIS, operator))
            for link in links[:2]:
                if link.tested.standings():
                    link.tested.forgive(CLIENT)
                link.calls.clear()
        with pytest.raises(PermissionRefused):
            office.submit(of.ask(FIRST_AXIS, operator))
        assert not any("reveal_tests" in link.calls for link in links)


def test_failed_tests_end_whatever_passes_in_between(tmp_path: Path) -> None:
    of = world("swift", 2, 3)
    with council_of(tmp_path) as (office, links):
        for number in range(MAX_FAILED):
            with pytest.raises(PermissionRefused, match="the probe holds something"):
                office.submit(with_hidden_key(of))
            for link in links[:2]:
                assert link.tested.standings() == [Standing(CLIENT, number + 1, 0)]
            if number + 1 < MAX_FAILED:
                assert office.submit(of.ask(unit(1, 20 + number)[0])).matches == ()
        with pytest.raises(PermissionRefused, match="client agency were malformed"):
            office.submit(of.ask(of.people[3]))
        for link in links[:2]:
            link.tested.forgive(CLIENT)
        assert office.submit(of.ask(unit(1, 5)[0])).matches == ()


def test_guardians_that_crash_in_a_test_refuse_nobody_for_it(tmp_path: Path) -> None:
    """The client sends the same again, as its program does: others pass it, and all learn so."""
    of = world("swift", 2, 3)
    with council_of(tmp_path) as (office, links):
        for number in range(MAX_UNPROVEN + 1):
            answer = of.ask(unit(1, 20 + number)[0])
            abandon(office, links, answer)
            assert office.submit(answer).matches == ()
        for group in ((0, 1), (1, 2)):
            for number, link in enumerate(links):
                link.down = number not in group
            assert office.submit(of.ask(unit(1, 50 + sum(group))[0])).matches == ()
        assert [link.tested.standings() for link in links] == [[], [], []]


def test_guardians_take_no_registrars_word_for_a_test(tmp_path: Path) -> None:
    """A release by one guardian, of another request, or changed proves nothing to the others."""
    of = world("swift", 2, 3)
    with council_of(tmp_path) as (office, links):
        answer, other = (of.ask(unit(1, seed)[0]) for seed in (21, 22))
        abandon(office, links, answer)
        elsewhere = office.envelope(other)
        released = office.envelope(answer)  # by 1 and 3
        victim, left = links[1], [Standing(CLIENT, 0, 1), Standing(UNITS, 0, 1)]
        alone = replace(released, signatures=released.signatures[:1] * 2)
        forged = replace(released, payload=elsewhere.payload)
        for wrong in (alone, forged):
            with pytest.raises(PermissionRefused, match="not signed by enough"):
                victim.take_release(wrong)
        victim.take_release(elsewhere)
        assert victim.tested.standings() == left
        victim.take_release(released)
        assert victim.tested.standings() == []


def test_a_guardian_cannot_hide_what_it_knows() -> None:
    """It would have to answer the negative of the other's answer before it has seen that."""
    of = world("swift", 2, 3)
    probe = with_key(of.encryptor.encrypt_probe(unit(1, 5)[0]), 1.0)
    claims = [Claim(Kind.PROBE_ROW, beyond(of.bundle.profile, DIMENSION), [probe])]
    occasion = fresh_occasion(bytes(32), {1: b"1" * 32, 2: b"2" * 32})
    test = zero_test(of.operator.evaluator, seed_of(occasion, "probe"), claims)
    conditions = Conditions(occasion, (1, 2), 3, (test,))
    honest, liar = (MemberZeroTests(of.shares[i], conditions) for i in range(2))
    shown = honest.reveal({1: honest.commitment, 2: liar.commitment})
    profile = of.bundle.profile
    primes = np.array(profile.data_primes[: profile.gallery_level])
    seen = np.frombuffer(shown[32:], "<u4").reshape(VALUES, -1)
    negative = bytes(32) + ((primes - seen) % primes).astype("<u4").tobytes()
    with pytest.raises(OpeningFailed, match="committed"):
        honest.conclude({1: shown, 2: negative})
