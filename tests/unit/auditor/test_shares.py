from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from underseal_auditor.keys.pairs import PairSecrets
from underseal_auditor.keys.sampling import SecretStream, uniform
from underseal_auditor.keys.share import Share, ShareClosed
from underseal_auditor.keys.sharing import deal, lagrange
from underseal_core.errors import InvalidInput
from underseal_core.roster import Generation
from underseal_core.scheme.profiles import SWIFT

PRIMES = SWIFT.key_primes
EPOCH = "ab" * 32


def secret() -> npt.NDArray[np.uint32]:
    return uniform(SecretStream(bytes(32)), PRIMES, SWIFT.degree)


def interpolated(
    values: list[npt.NDArray[np.uint32]], active: tuple[int, ...]
) -> npt.NDArray[np.uint32]:
    result = np.zeros((len(PRIMES), SWIFT.degree), dtype=object)
    for point in active:
        for row, prime in enumerate(PRIMES):
            weight = lagrange(point, active, prime)
            result[row] = (result[row] + weight * values[point - 1][row].astype(object)) % prime
    return result.astype(np.uint32)


@pytest.mark.parametrize(("threshold", "count"), [(1, 1), (1, 3), (2, 3), (3, 4)])
def test_every_group_of_k_interpolates_the_secret(threshold: int, count: int) -> None:
    values = deal(secret(), threshold, count, PRIMES, SecretStream())
    assert len(values) == count
    for active in combinations(range(1, count + 1), threshold):
        assert np.array_equal(interpolated(values, active), secret())


def test_fewer_than_k_interpolate_something_else() -> None:
    values = deal(secret(), 3, 4, PRIMES, SecretStream())
    for active in combinations(range(1, 5), 2):
        assert (interpolated(values, active) == secret()).mean() < 1e-3


def test_single_values_are_uniform_whatever_the_secret() -> None:
    constant = np.ones_like(secret())
    for value in deal(constant, 2, 3, PRIMES, SecretStream(b"x" * 32)):
        for row, prime in zip(value, PRIMES, strict=True):
            cells, _ = np.histogram(row, bins=8, range=(0, prime))
            assert float(((cells - 512) ** 2 / 512).sum()) < 35  # 7 degrees of freedom: 1e-5


def test_dealing_does_not_change_the_secret() -> None:
    mine = secret()
    deal(mine, 2, 3, PRIMES, SecretStream())
    assert np.array_equal(mine, secret())


def test_lagrange_factors_are_those_of_the_formula() -> None:
    prime = PRIMES[0]
    assert lagrange(1, (1,), prime) == 1
    assert lagrange(1, (1, 2), prime) == 2
    assert lagrange(2, (1, 2), prime) == prime - 1
    assert lagrange(3, (1, 3), prime) == -pow(2, -1, prime) % prime


def share() -> Share:
    return Share(SWIFT, EPOCH, 2, secret(), PairSecrets(2, 3, bytearray(b"p" * 64)))


def test_closed_share_is_overwritten() -> None:
    mine = share()
    array, pairs = mine.secret, mine.pairs
    with mine:
        assert array.any() and any(pairs.content)
    assert not array.any() and not any(pairs.content)
    with pytest.raises(ShareClosed):
        _ = mine.secret
    with pytest.raises(ShareClosed):
        _ = mine.pairs
    mine.close()


def test_binding_to_an_epoch_hands_the_secret_over() -> None:
    mine = share()
    bound = mine.bound_to("cd" * 32, Generation(3, "ef" * 32))
    assert (bound.epoch, bound.point) == ("cd" * 32, 2)
    assert bound.generation == Generation(3, "ef" * 32)
    assert np.array_equal(bound.secret, secret())
    with pytest.raises(ShareClosed):
        _ = mine.secret


def test_share_does_not_show_itself() -> None:
    mine = share()
    assert str(mine.secret[0, 0]) not in repr(mine) + str(mine)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(mine)


@pytest.mark.parametrize(
    ("point", "threshold", "members"), [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1)]
)
def test_impossible_share_is_refused(point: int, threshold: int, members: int) -> None:
    with pytest.raises(InvalidInput):
        Share(SWIFT, EPOCH, threshold, secret(), PairSecrets(point, members, bytearray()))


def test_share_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="shape"):
        Share(SWIFT, EPOCH, 1, secret()[:3], PairSecrets(1, 1, bytearray()))


def test_share_without_a_pair_secret_for_everyone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="pair secret"):
        PairSecrets(1, 3, bytearray(32))
