"""Templates to polynomials and back: coefficients, not slots (scheme.md section 2).

A *row* holds component ``i`` of template ``r`` as the coefficient of ``X^(r*d + i)``; *column*
``i`` holds component ``i`` of the template in slot ``j`` as the coefficient of ``X^j``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import InvalidInput
from underseal_core.ring import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

Real = npt.NDArray[np.float64]

NORM_TOLERANCE: Final = 1e-3
"""How far a template's norm may be from 1; float16 embeddings stay well inside."""
_COLUMNS_AT_ONCE: Final = 16


def check_templates(templates: npt.ArrayLike, dimension: int) -> Real:
    """Return templates as unit rows padded with zeros to ``dimension``.

    Parameters
    ----------
    templates
        Shape ``(m, k)`` with ``m >= 1`` and ``k <= dimension``; each row a unit vector.
    dimension
        The gallery's dimension, a power of two.

    Returns
    -------
    Real
        ``float64``, shape ``(m, dimension)``, a copy.

    Raises
    ------
    InvalidInput
        Wrong shape, a value that is not finite, or a norm outside ``1 +- NORM_TOLERANCE``.
    """
    try:
        given = np.asarray(templates)
    except (TypeError, ValueError):
        raise InvalidInput("a template is not an array of numbers") from None
    if given.dtype.kind not in "fiu":
        raise InvalidInput("a template is not an array of numbers")
    values = given.astype(np.float64)
    if values.ndim != 2 or values.shape[0] == 0:
        raise InvalidInput("templates must form an array of one row per template")
    if not 0 < values.shape[1] <= dimension:
        raise InvalidInput(
            f"a template has {values.shape[1]} components, the keys are for {dimension}",
            hint="use the model that the gallery was made for",
        )
    if not bool(np.isfinite(values).all()):
        raise InvalidInput("a template holds a value that is not finite")
    deviation = np.abs(np.linalg.norm(values, axis=1) - 1.0)
    if float(deviation.max()) > NORM_TOLERANCE:
        raise InvalidInput("a template is not a unit vector", hint="normalise the embedding")
    return np.pad(values, ((0, 0), (0, dimension - values.shape[1])))


def encode_row(
    templates: npt.ArrayLike, profile: Profile, dimension: int, scale: float
) -> Residues:
    """Encode up to ``degree / dimension`` templates as one row at fresh level.

    Returns
    -------
    Residues
        ``(fresh_level, degree)`` in NTT form.

    Raises
    ------
    InvalidInput
        Bad templates (see :func:`check_templates`) or more than fit.
    """
    values = check_templates(templates, dimension)
    capacity = profile.degree // dimension
    if len(values) > capacity:
        raise InvalidInput(f"{len(values)} templates do not fit a row of {capacity}")
    coefficients = np.zeros(profile.degree)
    coefficients[: values.size] = values.ravel()
    return encode_polynomials(coefficients, profile, profile.fresh_level, scale)


def encode_columns(
    templates: npt.ArrayLike, profile: Profile, dimension: int, scale: float
) -> Iterator[Residues]:
    """Encode up to ``degree`` templates as ``dimension`` columns at gallery level.

    Bad input is refused at the call, before the first column.

    Returns
    -------
    Iterator of Residues
        ``dimension`` times ``(gallery_level, degree)`` in NTT form, in order.

    Raises
    ------
    InvalidInput
        Bad templates (see :func:`check_templates`) or more than a block holds.
    """
    values = check_templates(templates, dimension)
    if len(values) > profile.degree:
        raise InvalidInput(f"{len(values)} templates do not fit a block of {profile.degree}")
    return _columns(values, profile, scale)


def _columns(values: Real, profile: Profile, scale: float) -> Iterator[Residues]:
    dimension = values.shape[1]
    for start in range(0, dimension, _COLUMNS_AT_ONCE):
        chunk = values[:, start : start + _COLUMNS_AT_ONCE].T
        coefficients = np.zeros((chunk.shape[0], profile.degree))
        coefficients[:, : chunk.shape[1]] = chunk
        yield from encode_polynomials(coefficients, profile, profile.gallery_level, scale)


def encode_polynomials(coefficients: Real, profile: Profile, level: int, scale: float) -> Residues:
    """Scale, round and transform real coefficients.

    The product with the scale and the rounding are done in ``float64`` (relative error
    ``2^-53``); the reduction by each prime is exact, because ``fmod`` is.

    Parameters
    ----------
    coefficients
        ``float64``, shape ``(..., degree)``.

    Returns
    -------
    Residues
        Shape ``(..., level, degree)`` in NTT form.
    """
    primes = profile.data_primes[:level]
    scaled = np.rint(coefficients * scale)
    modulus = np.array(primes, dtype=np.float64)[:, None]
    remainder = np.fmod(scaled[..., None, :], modulus)
    residues = np.where(remainder < 0, remainder + modulus, remainder).astype(np.uint32)
    return kernel.ntt_forward(residues, primes)


def decode_coefficients(residues: Residues, profile: Profile, level: int, scale: float) -> Real:
    """Return the centred coefficients of a polynomial, divided by the scale.

    Parameters
    ----------
    residues
        ``(level, degree)`` in NTT form, at data primes ``0..level-1``.

    Returns
    -------
    Real
        ``float64``, shape ``(degree,)``; relative error a few times ``2^-53``.

    Notes
    -----
    Garner's algorithm with *balanced* digits ``|v_i| <= (q_i - 1) / 2``: for odd primes the
    balanced mixed-radix expansion is that of the centred representative, so no subtraction of the
    modulus, and with it no cancellation, is needed (Knuth, TAOCP 2, 4.3.2, with balanced digits).
    """
    if residues.shape != (level, profile.degree):
        raise InvalidInput("residues do not have the shape of the level")
    primes = profile.data_primes[:level]
    coefficients = kernel.ntt_inverse(residues, primes).astype(np.int64)
    digits = _balanced_digits(coefficients, primes)
    value = np.zeros(profile.degree)
    for digit, prime in zip(reversed(digits), reversed(primes), strict=True):
        value = value * prime + digit
    return value / scale


def _balanced_digits(
    coefficients: npt.NDArray[np.int64], primes: tuple[int, ...]
) -> list[npt.NDArray[np.int64]]:
    digits: list[npt.NDArray[np.int64]] = []
    for row, prime in zip(coefficients, primes, strict=True):
        rest = row
        for digit, smaller in zip(digits, primes, strict=False):
            rest = (rest - digit) % prime * pow(smaller, -1, prime) % prime
        digits.append(np.where(rest > prime // 2, rest - prime, rest))
    return digits
