"""Templates taken out of units by k auditors, against SEAL's decryption."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import pytest

from tests.auditor_world import DIMENSION, council, unit
from tests.redaction_oracle import opened, redact, verified
from underseal_auditor.keys.redaction import added_encryptions, contributions, most_encryptions
from underseal_core.errors import InvalidInput
from underseal_core.gallery.unit import Mask, Placement, Redaction, Shape, Unit, coefficients
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import PROFILES
from underseal_core.scheme.zero_test import fresh_variance

QUORUMS = [(1, 1), (2, 3), (3, 5)]


def row_of(profile: str, quorum: tuple[int, int]) -> tuple[Ciphertext, Mask]:
    """A row of five templates, of which the second and the fourth are to go."""
    bundle = council(profile, *quorum)[0].bundle
    row = Encryptor(bundle.profile, DIMENSION, bundle.public_key).encrypt_row(unit(5, 3))
    held = coefficients(Placement(0, 0, DIMENSION, 5), (1, 3), bundle.profile.degree)
    return row, held


@pytest.mark.parametrize(
    ("profile", "quorum"),
    [*(("swift", quorum) for quorum in QUORUMS), ("guarded", (2, 3)), ("compact", (2, 3))],
)
def test_a_row_keeps_the_others(profile: str, quorum: tuple[int, int]) -> None:
    """SEAL opens the templates that stay, and nothing where the others were."""
    keys, shares, _ = council(profile, *quorum)
    bundle, (row, held) = keys.bundle, row_of(profile, quorum)
    (new,) = redact(shares[: quorum[0]], bundle, [row], held)
    found = opened(shares[-quorum[0] :], bundle, new)
    people = unit(5, 3)
    people[[1, 3]] = 0.0
    tolerance = 2.0**-28 if profile == "swift" else 2.0**-30
    assert np.abs(found[: 5 * DIMENSION] - people.ravel()).max() < tolerance
    assert np.abs(found[~held]).max() < tolerance


@pytest.mark.parametrize("quorum", [(2, 3), (3, 5)])
def test_any_members_do(quorum: tuple[int, int]) -> None:
    keys, shares, _ = council("swift", *quorum)
    row, held = row_of("swift", quorum)
    for active in combinations(shares, quorum[0]):
        (new,) = redact(active, keys.bundle, [row], held)
        found = opened(active, keys.bundle, new)
        assert np.abs(found[~held]).max() < 2.0**-28
        assert np.abs(found[held]).max() > 0.01


@pytest.mark.parametrize("profile", ["guarded", "swift"])
def test_columns_keep_the_others(profile: str) -> None:
    keys, shares, _ = council(profile, 2, 3)
    bundle, people = keys.bundle, unit(40, 4)
    columns = list(Encryptor(bundle.profile, DIMENSION, bundle.public_key).encrypt_columns(people))
    held = coefficients(Placement(0, 0, 1, 40), (0, 7, 39), bundle.profile.degree)
    new = redact(shares[1:], bundle, columns[:3], held)
    people[[0, 7, 39]] = 0.0
    for index, column in enumerate(new):
        found = opened(shares[:2], bundle, column)
        bound = 8.0 * sqrt(6.0 * fresh_variance(bundle.profile, 3)) / bundle.profile.template_scale
        assert np.abs(found[:40] - people[:, index]).max() < bound
        assert np.abs(found[~held]).max() < bound


@pytest.mark.parametrize("quorum", QUORUMS)
def test_error_is_that_of_fresh_encryptions(quorum: tuple[int, int]) -> None:
    """k of them where something was erased; k more each time where something stays."""
    keys, shares, _ = council("swift", *quorum)
    bundle, scale = keys.bundle, keys.bundle.profile.template_scale
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    column = next(iter(encryptor.encrypt_columns(unit(9, 5))))
    held = np.arange(bundle.profile.degree) < 2048
    fresh = fresh_variance(bundle.profile, quorum[1])
    before = opened(shares, bundle, column)
    for times in range(1, 4):
        (column,) = redact(shares[: quorum[0]], bundle, [column], held)
        change = (opened(shares, bundle, column) - before)[held] * scale
        erased = opened(shares, bundle, column)[~held] * scale
        # 2,048 coefficients, of which powers of X s couple neighbours: within a tenth of 1/sqrt.
        assert 0.8 < change.var() / (times * quorum[0] * fresh) < 1.2
        assert 0.8 < erased.var() / (quorum[0] * fresh) < 1.2


def test_what_was_erased_leaves_no_trace() -> None:
    """The difference of what is left of two unlike templates is noise, uncorrelated with both."""
    keys, shares, _ = council("swift", 2, 3)
    bundle = keys.bundle
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    held = coefficients(Placement(0, 0, DIMENSION, 2), (1,), bundle.profile.degree)
    place = slice(DIMENSION, 2 * DIMENSION)
    for seed in (11, 12):
        people = unit(2, seed)
        (new,) = redact(shares[:2], bundle, [encryptor.encrypt_row(people)], held)
        rest = opened(shares[:2], bundle, new)[place]
        scale = Kind.TEMPLATE_ROW.scale(bundle.profile, DIMENSION)
        deviation = sqrt(2.0 * fresh_variance(bundle.profile, 3)) / scale
        assert np.abs(rest).max() < 6.0 * deviation
        assert abs(float(rest @ people[1])) < 5.0 * deviation


@pytest.mark.parametrize("shape", ["row", "columns"])
@pytest.mark.parametrize("profile", ["guarded", "compact", "swift"])
def test_the_zero_test_is_passed(profile: str, shape: str) -> None:
    """Also the second time, when the unit has the error of five encryptions, and by others."""
    keys, shares, _ = council(profile, 2, 3)
    bundle, count = keys.bundle, 4
    encryptor = Encryptor(bundle.profile, DIMENSION, bundle.public_key)
    step = DIMENSION if shape == "row" else 1
    people = unit(count, 6)
    given = [encryptor.encrypt_row(people)] if step > 1 else list(encryptor.encrypt_columns(people))
    unit_now = given[:8]
    with Evaluator(bundle.profile, DIMENSION, bundle.keys) as evaluator:
        for erased in ((2,), (0, 2)):
            held = coefficients(Placement(0, 0, step, count), erased, bundle.profile.degree)
            new = redact(shares[:2], bundle, unit_now, held)
            assert verified(shares[1:], bundle, evaluator, unit_now, new, held)
            unit_now = new


def test_contributions_are_of_an_exact_active_set_and_of_stored_kinds() -> None:
    keys, shares, _ = council("swift", 2, 3)
    row, held = row_of("swift", (2, 3))
    for active in [(1,), (2, 3), (1, 2, 3), (1, 1)]:
        with pytest.raises(InvalidInput):
            next(contributions(shares[0], active, keys.bundle, [row], held))
    probe = Ciphertext(row.profile, Kind.PROBE_ROW, row.residues)
    with pytest.raises(InvalidInput, match="stored"):
        next(contributions(shares[0], (1, 2), keys.bundle, [probe], held))


def test_redactions_of_a_block_are_bounded() -> None:
    """A sixteenth of the units of the noisiest block; rows do not count."""

    def redacted(shape: Shape, count: int) -> Unit:
        placement = Placement(0, 0, 1 if shape is Shape.COLUMNS else DIMENSION, 3)
        left = Redaction((1,), count, 2)
        return Unit(
            token=bytes(16), shape=shape, placement=placement, sha256=bytes(32), redaction=left
        )

    assert most_encryptions(PROFILES["guarded"]) == 512
    assert most_encryptions(PROFILES["swift"]) == 256
    units = [redacted(Shape.COLUMNS, 3), redacted(Shape.COLUMNS, 1), redacted(Shape.ROW, 50)]
    assert added_encryptions(units) == 8
