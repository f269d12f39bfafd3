"""How much the opened checks of probes say, and that their errors are as measured."""

from __future__ import annotations

from math import log2
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import book_of, desk, policy, unit, world
from tests.oracles.ceremonies import finished, joint_secret
from tests.oracles.seal_keys import decrypt, secret_to_seal
from underseal_auditor.policy.budget import LEAK_LIMIT
from underseal_auditor.policy.check_budget import (
    NORM_DEVIATION,
    PROJECTION_DEVIATION,
    check_leak,
    most_openings,
)
from underseal_core.errors import PermissionRefused
from underseal_core.scheme.ciphertext import Kind
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import GUARDED, PROFILES, SWIFT

DIMENSION = 32
TOLERANCE = 0.3
"""In bits."""


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", PROFILES)
def test_errors_of_the_checks_are_as_measured(name: str, members: int) -> None:
    ceremony = finished(name, members // 2 + 1, members, DIMENSION)
    bundle = ceremony.bundle
    profile = bundle.profile
    key = secret_to_seal(profile, joint_secret(ceremony.shares[: bundle.threshold]))
    encryptor = Encryptor(profile, DIMENSION, bundle.public_key)
    squares: dict[Kind, list[float]] = {Kind.NORM: [], Kind.PROJECTION: []}
    with Evaluator(profile, DIMENSION, bundle.keys) as evaluator:
        for seed in range(3):
            vector = np.random.default_rng(seed).standard_normal(DIMENSION)
            probe = encryptor.encrypt_probe(vector / np.linalg.norm(vector))
            ready = evaluator.prepare(probe)
            for check in (ready.norm, ready.projection):
                kind, message = check.kind, decrypt(profile, key, check.residues)
                level, scale = kind.level(profile), kind.scale(profile, DIMENSION)
                error = decode_coefficients(message, profile, level, scale)[1:]
                squares[kind].append(float(np.mean(error**2)))
    wanted = {
        Kind.NORM: NORM_DEVIATION[name] * members**0.5,
        Kind.PROJECTION: PROJECTION_DEVIATION[name] * (DIMENSION * members) ** 0.5,
    }
    for kind, deviation in wanted.items():
        measured = log2(float(np.mean(squares[kind])) ** 0.5)
        assert abs(measured - log2(deviation)) < TOLERANCE, kind


def test_openings_stay_within_the_limit() -> None:
    most = most_openings(GUARDED, 128, 3)
    assert most == 775
    assert most * check_leak(GUARDED, 128, 3) <= LEAK_LIMIT
    assert (most + 1) * check_leak(GUARDED, 128, 3) > LEAK_LIMIT
    assert most_openings(GUARDED, 128, 1) is None
    assert (most_openings(SWIFT, 128, 3) or 0) < 200


def test_guardians_stop_when_the_checks_have_said_enough(tmp_path: Path) -> None:
    """The registrar has forgotten; each guardian counts what it began to answer."""
    of, rules = world("swift", 2, 3), policy("swift")
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules, book) as (panel, links),
        desk(tmp_path, of, rules, guardian=panel, logbook=book) as office,
    ):
        assert office.submit(of.ask(unit(1, 5)[0])).matches == ()
        most = most_openings(of.bundle.profile, of.bundle.dimension, 3) or 0
        with links[0].database.transaction() as connection:
            connection.executemany(
                "INSERT INTO answers (client, request_id, request_sha256, result_sha256, key_epoch,"
                " state, began_at) VALUES ('agency', ?, '', '', ?, 'released', '2026')",
                [(f"{number:032x}", of.bundle.epoch) for number in range(most)],
            )
        with pytest.raises(PermissionRefused, match="opened as many searches"):
            panel.begin(office.dossier(of.ask(unit(1, 6)[0])))
