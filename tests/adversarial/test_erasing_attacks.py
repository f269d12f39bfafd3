"""Redactions that a registrar, a guardian or an enroller tries to misuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.auditor_world import World, world
from tests.redaction_council import Council, council_of
from underseal_auditor.erasing import Eraser, JointRedaction
from underseal_auditor.keys.joint_opening import OpeningOutOfTurn
from underseal_auditor.redacting import SPOILT_TEXT, Errand, RedactionDesk
from underseal_auditor.store.tested import MAX_UNPROVEN, Standing, Suspect, Trial
from underseal_auditor.zero_tests import GALLERY_TEXT
from underseal_core.errors import Mismatch, PermissionRefused, UndersealError
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext

UNIT = 1


@pytest.fixture(scope="module")
def of() -> World:
    return world("swift", 2, 3)


@pytest.fixture
def council(of: World, tmp_path: Path) -> Iterator[Council]:
    """Two templates of a unit are removed and wait."""
    operator = of.operator.copy()
    for index, entry in enumerate(operator.entries):
        if entry.unit_token == operator.units[UNIT].token and entry.place in (1, 2):
            operator.remove(index)
    with council_of(of, operator, tmp_path) as council:
        yield council


def errand(council: Council, **changes: Any) -> Errand:
    """What an honest registrar asks for, but for ``changes``."""
    (due,) = council.eraser.due()
    honest = Errand(
        due.server,
        due.gallery,
        due.unit.token,
        due.removed,
        due.unit.sha256,
        (1, 2),
        council.office.roster.generation.sha256,
    )
    return replace(honest, **changes)


def with_key(data: bytes, of: World, factor: int) -> bytes:
    """``factor`` times the key more in a column's plaintext."""
    column = parse_ciphertext(data, of.bundle.profile, Kind.COLUMN)
    primes = of.bundle.profile.data_primes[: column.residues.shape[1]]
    residues = column.residues.copy()
    hidden = np.array([[factor % prime] for prime in primes], np.uint32)
    added = np.ascontiguousarray(np.broadcast_to(hidden, residues.shape[1:]))
    residues[1] = kernel.add(np.ascontiguousarray(residues[1]), added, primes)
    return Ciphertext(column.profile, column.kind, residues).to_bytes()


class Liar(RedactionDesk):
    """Adds a multiple of the key to its contribution to the last column."""

    def contribute(self, session: bytes) -> Any:
        parts = list(super().contribute(session))
        of = world("swift", 2, 3)
        yield from parts[:-1]
        yield with_key(parts[-1], of, 1 << 20)


def with_liar(council: Council) -> Eraser:
    links = dict(council.office.links)
    links[2] = Liar(council.desks[2]._bench)
    return Eraser(replace(council.office, links=links))


def test_only_what_is_removed_is_erased(council: Council) -> None:
    """A registrar that would have somebody's templates vanish, or a projection of its choice."""
    for erased in ((1, 2, 3), (0,), (0, 1, 2, 3, 4)):
        with pytest.raises(PermissionRefused, match="only what is removed"):
            council.desks[1].begin(errand(council, erased=erased))
    council.desks[1].begin(errand(council, erased=(1,)))


def test_a_unit_that_is_not_in_the_replica(council: Council) -> None:
    with pytest.raises(Mismatch):
        council.desks[1].begin(errand(council, old_sha256=bytes(32)))
    with pytest.raises(Mismatch):
        council.desks[1].begin(errand(council, token=bytes(16)))
    with pytest.raises(UndersealError):
        council.desks[1].begin(errand(council, gallery="other"))


def test_nothing_is_contributed_to_an_untested_unit(council: Council) -> None:
    """A projection removes the coefficients by which a hidden multiple of the key is found."""
    desk = council.desks[1]
    admitted = desk.begin(errand(council))
    assert not admitted.sound
    with pytest.raises(OpeningOutOfTurn):
        next(desk.contribute(admitted.session))


def test_a_unit_that_hides_the_key_is_not_laundered(of: World, council: Council) -> None:
    """An enroller's ``K s`` stays where zero tests find it; no new ciphertexts come to be."""
    operator = council.server.operator
    parts = list(operator.sent[operator.units[UNIT].token])
    parts[5] = with_key(parts[5], of, 1 << 20)
    operator.enrol_again(UNIT, parts)
    (done,) = council.eraser.run()
    assert done.failure == GALLERY_TEXT
    assert (council.logged, council.server.amended) == ([], [])


def test_a_guardian_that_hides_the_key_gets_no_signature(council: Council) -> None:
    (done,) = with_liar(council).run()
    assert done.failure == SPOILT_TEXT
    assert (council.logged, council.server.amended) == ([], [])
    assert council.records[1].standings() == [Standing(Suspect("erasure", "server/missing"), 1, 0)]


def test_spoilt_redactions_are_not_tried_for_ever(council: Council) -> None:
    """Each shows a few numbers that depend on the key: the guardian stops, for its auditor."""
    record, suspect = council.records[1], Suspect("erasure", "server/missing")
    for number in range(MAX_UNPROVEN):
        record.begin([Trial(suspect, frozenset((bytes((number,)) * 32,)))])
    (done,) = council.eraser.run()
    assert "of erasure server/missing were abandoned" in done.failure
    record.forgive(suspect)
    assert [one.failure for one in council.eraser.run()] == [""]


def test_two_guardians_shown_different_ciphertexts(council: Council) -> None:
    """Each judges what it was shown: masks of different tests do not cancel, and none passes."""
    first = council.desks[1].take

    def other(session: bytes, ciphertexts: Any) -> None:
        shown = list(ciphertexts)
        first(session, [shown[1], shown[0], *shown[2:]])

    council.desks[1].take = other  # type: ignore[method-assign]  # the registrar's lie to one
    (done,) = council.eraser.run()
    assert "committed to" in done.failure
    assert council.logged == []


def test_nothing_is_signed_untested(council: Council, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JointRedaction, "_test", lambda *_: None)
    (done,) = council.eraser.run()
    assert done.failure
    assert council.logged == []
    for point in (1, 2):
        admitted = council.desks[point].begin(errand(council))
        with pytest.raises(OpeningOutOfTurn):
            council.desks[point].sign(admitted.session, "2026-05-04T12:00:00Z")
