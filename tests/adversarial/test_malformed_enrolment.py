"""An enroller that hides a multiple of the secret key in a template, to read the key from scores.

A template is encrypted as ``(c0, c1)`` with ``c0 + c1 s`` its plaintext: whoever enrols
``(c0, c1 + K)`` adds ``K s`` to it without knowing ``s``. The server folds it honestly, auditors
compute the same, and each score of a slot then shows a coefficient of ``s``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.auditor_attacks import refused_by, secret_of
from tests.auditor_world import (
    DIMENSION,
    FIRST_BLOCK,
    Operator,
    World,
    desk,
    policy,
    world,
)
from underseal_core.gallery.unit import usable_slots
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext

FIRST_AXIS = np.eye(DIMENSION)[0]
"""A unit vector: passes every check of a probe, and picks one component of each template."""


def poisoned(of: World, amplitude: float) -> Operator:
    """Everybody else is honest: ``amplitude * s`` is in component 0 of what was enrolled."""
    profile = of.bundle.profile
    constant = round(amplitude * Kind.COLUMN.scale(profile, DIMENSION))
    hidden = np.zeros((2, profile.gallery_level, profile.degree), np.uint32)
    for index, prime in enumerate(profile.data_primes[: profile.gallery_level]):
        hidden[1, index] = constant % prime
    operator = of.operator.copy()
    first, *others = operator.sent[operator.units[0].token]
    column = parse_ciphertext(first, profile, Kind.COLUMN)
    primes = profile.data_primes[: profile.gallery_level]
    residues = np.stack([kernel.add(column.residues[i], hidden[i], primes) for i in range(2)])
    changed = Ciphertext(profile, Kind.COLUMN, residues)
    operator.enrol_again(0, [changed.to_bytes(), *others])
    return operator


@pytest.mark.parametrize("profile", ["guarded", "swift"])
def test_scores_of_such_templates_are_the_key(profile: str) -> None:
    """What the defence is for: the score of each slot, even at two decimals, is a coefficient."""
    of = world(profile)
    operator = poisoned(of, 0.05)
    evaluator = operator.evaluator
    probe = evaluator.prepare(evaluator.expand(of.encryptor.encrypt_probe(FIRST_AXIS)))
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
    of = world(profile)
    with desk(tmp_path, of, policy(profile), operator := poisoned(of, amplitude)) as office:
        assert refused_by(office, of.ask(FIRST_AXIS, operator)) in ("canary", "canaries")
