"""How much the opened norms of probes say, and that their errors are as measured."""

from __future__ import annotations

from fractions import Fraction
from math import log, log2
from pathlib import Path

import numpy as np
import pytest

from tests.auditor_guardians import panel_of
from tests.auditor_world import book_of, desk, policy, unit, world
from tests.oracles.ceremonies import finished, joint_secret
from tests.oracles.seal_keys import decrypt, secret_to_seal
from underseal_auditor.policy import check_budget
from underseal_auditor.policy.budget import LEAK_LIMIT
from underseal_auditor.policy.check_budget import (
    CHECK_NOISE,
    NORM_DEVIATION,
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
PROBES = 40
TOLERANCE = 0.5
"""In bits: 4.4 standard deviations of what is measured with so many probes."""


@pytest.mark.parametrize(("name", "members"), [*((name, 1) for name in PROFILES), ("swift", 3)])
def test_error_of_the_norm_is_as_measured(name: str, members: int) -> None:
    """Of the first coefficient, which is opened, over many probes; all others alike."""
    ceremony = finished(name, members // 2 + 1, members, DIMENSION)
    bundle = ceremony.bundle
    profile = bundle.profile
    key = secret_to_seal(profile, joint_secret(ceremony.shares[: bundle.threshold]))
    encryptor = Encryptor(profile, DIMENSION, bundle.public_key)
    level, scale = Kind.NORM.level(profile), Kind.NORM.scale(profile, DIMENSION)
    rng, errors = np.random.default_rng(members), []
    with Evaluator(profile, DIMENSION, bundle.keys) as evaluator:
        for _ in range(PROBES):
            vector = rng.standard_normal(DIMENSION)
            norm = evaluator.prepare(encryptor.encrypt_probe(vector / np.linalg.norm(vector))).norm
            message = decrypt(profile, key, norm.residues)
            error = decode_coefficients(message, profile, level, scale)
            error[0] -= 1.0
            errors.append(error)
    wanted = log2(NORM_DEVIATION[name] * members**0.5)
    for some in (np.stack(errors)[:, :1], np.stack(errors[:3])[:, 1:]):
        assert abs(log2(float(np.mean(some**2)) ** 0.5) - wanted) < TOLERANCE


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("members", [2, 3, 5])
def test_leak_is_the_capacity_of_a_gaussian_channel(name: str, members: int) -> None:
    noise = Fraction(CHECK_NOISE) ** 2
    ratio = members * Fraction(NORM_DEVIATION[name]) ** 2 / noise
    ratios = [ratio]
    if name == "guarded":
        ratios += [Fraction(1, 4096**2)] * 16  # the values of two zero tests
    # log2(1 + x) / 2 for a small x, as the first terms of its series.
    nats = sum((x - x**2 / 2 + x**3 / 3) / 2 for x in ratios)
    assert check_leak(PROFILES[name], members) == pytest.approx(float(nats) / log(2.0), rel=1e-9)


def test_openings_stay_within_the_limit() -> None:
    most = most_openings(GUARDED, 3)
    assert most is not None
    assert 49e6 < most < 50e6
    assert most * check_leak(GUARDED, 3) <= LEAK_LIMIT < (most + 1) * check_leak(GUARDED, 3)
    assert most_openings(GUARDED, 1) is None
    assert 13e6 < (most_openings(SWIFT, 3) or 0) < 14e6


def test_guardians_stop_when_the_norms_have_said_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registrar has forgotten; each guardian counts what it began to answer."""
    monkeypatch.setattr(check_budget, "LEAK_LIMIT", 30.5 * check_leak(SWIFT, 3))
    of, rules = world("swift", 2, 3), policy("swift")
    with (
        book_of(tmp_path) as book,
        panel_of(tmp_path, of, rules, book) as (panel, links),
        desk(tmp_path, of, rules, guardian=panel, logbook=book) as office,
    ):
        assert office.submit(of.ask(unit(1, 5)[0])).matches == ()
        most = most_openings(of.bundle.profile, 3) or 0
        with links[0].database.transaction() as connection:
            connection.executemany(
                "INSERT INTO answers (client, request_id, request_sha256, result_sha256, key_epoch,"
                " state, began_at) VALUES ('agency', ?, '', '', ?, 'released', '2026')",
                [(f"{number:032x}", of.bundle.epoch) for number in range(most)],
            )
        with pytest.raises(PermissionRefused, match="opened as many searches"):
            panel.begin(office.dossier(of.ask(unit(1, 6)[0])))
