"""A stored row is a sound probe: level, scale, and errors that budgets and tests allow for."""

from __future__ import annotations

from dataclasses import replace
from math import log2

import numpy as np
import pytest

from tests.oracles.blocks import block_of_rows, bulk_block
from tests.oracles.ceremonies import Finished, finished, joint_secret
from tests.oracles.seal_evaluation import U32, unit_vectors
from tests.oracles.seal_keys import decrypt, secret_to_seal
from underseal_auditor.keys.flooding import error_bound
from underseal_auditor.policy.budget import score_deviation
from underseal_auditor.policy.check_budget import NORM_DEVIATION
from underseal_core.errors import InvalidInput
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import PROFILES
from underseal_core.scheme.rerandomise import TERMS, probe_of
from underseal_core.scheme.zero_test import fresh_variance

DIMENSION = 32
TOLERANCE = 0.3
"""In bits, as for uploaded probes."""
every_profile = pytest.mark.parametrize("name", PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_rows_and_probes_have_the_same_level_and_scale(name: str) -> None:
    profile = PROFILES[name]
    for dimension in (32, 128, 512):
        row, probe = Kind.TEMPLATE_ROW, Kind.PROBE_ROW
        assert row.level(profile) == probe.level(profile)
        assert row.scale(profile, dimension) == probe.scale(profile, dimension)


def opened(ceremony: Finished, kind: Kind, residues: U32) -> np.ndarray:
    """Open exactly, as no auditor does."""
    profile = ceremony.bundle.profile
    key = secret_to_seal(profile, joint_secret(ceremony.shares[: ceremony.bundle.threshold]))
    message = decrypt(profile, key, residues)
    return decode_coefficients(
        message, profile, kind.level(profile), kind.scale(profile, DIMENSION)
    )


@pytest.mark.parametrize("members", [1, 3])
@every_profile
def test_errors_of_scores_and_checks_stay_within_what_is_budgeted(name: str, members: int) -> None:
    ceremony = finished(name, members // 2 + 1, members, DIMENSION)
    bundle = ceremony.bundle
    profile, rng = bundle.profile, np.random.default_rng(members)
    encryptor = Encryptor(profile, DIMENSION, bundle.public_key)
    templates = unit_vectors(rng, profile.degree, DIMENSION)
    owner = rng.permutation(profile.degree) % 8
    slots = [np.flatnonzero(owner == index) for index in range(8)]
    squares = []
    with Evaluator(profile, DIMENSION, bundle.keys) as evaluator:
        rows = block_of_rows(evaluator, encryptor, [templates[i][None] for i in range(8)], slots)
        columns = bulk_block(evaluator, encryptor, templates)
        for seed in range(3):
            vector = templates[seed]
            probe = probe_of(encryptor.encrypt_row(vector[None]), bundle.public_key, b"%d" % seed)
            ready = evaluator.prepare(probe)
            for tiles, held in ((rows, templates[owner]), (columns, templates)):
                scores = opened(ceremony, Kind.RESULT, evaluator.score(ready.probe, tiles).residues)
                error = scores - held @ vector
                assert np.abs(error).max() < error_bound(score_deviation(profile, members))
            rest = opened(ceremony, Kind.NORM, ready.norm.residues)[1:]
            squares.append(float(np.mean(rest**2)))
    measured = log2(float(np.mean(squares)) ** 0.5)
    assert abs(measured - log2(NORM_DEVIATION[name] * members**0.5)) < TOLERANCE


@every_profile
def test_randomness_of_a_request_adds_little_and_zero_tests_allow_for_it(name: str) -> None:
    ceremony = finished(name, 1, 1, DIMENSION)
    bundle, profile = ceremony.bundle, ceremony.bundle.profile
    encryptor = Encryptor(profile, DIMENSION, bundle.public_key)
    row = encryptor.encrypt_row(unit_vectors(np.random.default_rng(1), 1, DIMENSION))
    scale = Kind.PROBE_ROW.scale(profile, DIMENSION)
    variances = []
    for seed in range(4):
        probe = probe_of(row, bundle.public_key, b"%d" % seed)
        before = opened(ceremony, Kind.TEMPLATE_ROW, row.residues) * scale
        added = opened(ceremony, Kind.PROBE_ROW, probe.residues) * scale - before
        variances.append(float(np.var(np.rint(added))))
    assert np.mean(variances) == pytest.approx(TERMS * 10.5, rel=0.1)
    assert max(variances) < fresh_variance(profile, 1) / 4


def test_each_request_has_a_probe_of_its_own_that_everybody_computes() -> None:
    ceremony = finished("swift", 1, 1, DIMENSION)
    bundle = ceremony.bundle
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    row = encryptor.encrypt_row(unit_vectors(np.random.default_rng(1), 1, DIMENSION))
    first, again, other = (probe_of(row, bundle.public_key, seed) for seed in (b"a", b"a", b"b"))
    assert first.kind is Kind.PROBE_ROW
    np.testing.assert_array_equal(first.residues, again.residues)
    assert not np.array_equal(first.residues[1], other.residues[1])
    assert not np.array_equal(first.residues[1], row.residues[1])


def test_nothing_else_becomes_a_probe() -> None:
    ceremony = finished("swift", 1, 1, DIMENSION)
    bundle = ceremony.bundle
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    vector = unit_vectors(np.random.default_rng(1), 1, DIMENSION)
    with pytest.raises(InvalidInput, match="stored probe_row of swift is no probe"):
        probe_of(encryptor.encrypt_probe(vector[0]), bundle.public_key, b"a")
    uneven = replace(bundle.profile, template_bits=24)
    row = encryptor.encrypt_row(vector)
    with pytest.raises(InvalidInput, match="no probe"):
        probe_of(Ciphertext(uneven, row.kind, row.residues), bundle.public_key, b"a")
