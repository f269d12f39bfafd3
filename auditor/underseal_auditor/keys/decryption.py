"""Partial decryption with noise, and combination (OVERSIGHT section 5, "Partial decryption").

Pure functions for the distributed protocol, and :class:`Opener`, which runs all of it for shares
held in one process. The caller keeps the rule that no ciphertext is ever answered twice: repeated
answers to the same ciphertext average the noise away and leak the share.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_auditor.keys.elements import (
    divide_by_special,
    times_integers,
    total,
    transform,
)
from underseal_auditor.keys.sampling import SecretStream, error, gaussian, ternary, uniform
from underseal_auditor.keys.sharing import lagrange
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import COMPONENTS, Ciphertext, Kind
from underseal_core.scheme.encoding import decode_coefficients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.sampling import Stream
    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.encoding import Real
    from underseal_core.scheme.profiles import Profile

OPENABLE: Final = frozenset({Kind.RESULT, Kind.NORM})
"""A stored column or a probe is never opened, whoever calls it a result."""
VEILED: Final = frozenset({Kind.NORM})
"""Of these coefficient 0 is opened, and no other (docs/adr/0026-the-norm-is-one-coefficient.md)."""
LARGEST_NOISE: Final = 2.0**53
"""In units of a coefficient; float64 has no finer rounding than integers beyond."""
SMALLEST_NOISE: Final = 2.0**8
"""In units of a coefficient: above the rounding error that every rescaled ciphertext has,
``sqrt(N / 18)`` = 21 at N = 8192, by the factor 2^3.5 of the flooding bound."""


def encrypt_zero(public_key: Residues, profile: Profile, level: int, stream: Stream) -> Residues:
    """Encrypt zero under the joint public key, as SEAL does: with the special prime, then rounded.

    Parameters
    ----------
    public_key
        ``(2, fresh_level + 1, degree)``.

    Returns
    -------
    Residues
        ``(2, level, degree)`` in NTT form.
    """
    primes = (*profile.data_primes[:level], profile.special_prime)
    mask = transform(ternary(stream, profile.degree), primes)
    noise = transform(error(stream, (2, profile.degree)), primes)
    components = []
    for key, small in zip(public_key, noise, strict=True):
        selected = np.concatenate((key[:level], key[-1:]))
        masked = kernel.add(kernel.multiply(selected, mask, primes), small, primes)
        components.append(divide_by_special(masked, profile, level))
    return np.stack(components)


def rerandomise(ciphertext: Ciphertext, zeros: Sequence[Residues]) -> Ciphertext:
    """Add all active members' encryptions of zero, each ``(2, level, degree)``."""
    primes = ciphertext.profile.data_primes[: ciphertext.residues.shape[1]]
    return Ciphertext(
        ciphertext.profile, ciphertext.kind, total([ciphertext.residues, *zeros], primes)
    )


def noise_deviation(ciphertext: Ciphertext, dimension: int, sigma: float) -> float:
    """Return ``sigma`` in units of a coefficient.

    Raises
    ------
    InvalidInput
        So little noise that it would not cover the rounding error, or more than the modulus or
        the arithmetic takes.
    """
    profile = ciphertext.profile
    deviation = sigma * ciphertext.kind.scale(profile, dimension)
    modulus = profile.modulus(ciphertext.kind.level(profile))
    if not isfinite(deviation) or not SMALLEST_NOISE <= deviation <= LARGEST_NOISE:
        raise InvalidInput("the noise parameter is out of range")
    if 32.0 * deviation > modulus:
        raise InvalidInput("the noise would wrap around the modulus")
    return deviation


def partial_decryption(
    share: Share,
    active: Sequence[int],
    ciphertext: Ciphertext,
    dimension: int,
    sigma: float,
    stream: Stream,
) -> Residues:
    """Return ``(lambda_i S_i) c1 + NTT(e_i) + mask_i``, one member's answer.

    The noise ``e_i`` has standard deviation ``sigma * scale / sqrt(k)`` per coefficient, so that
    the combined value carries ``sigma``; it is added after the Lagrange factor, which would
    otherwise blow it up. The masks of all active members cancel in the sum of the answers, and hide
    each of them (see ``pairs.py`` for what a bare answer would show). The answer to a NORM has a
    veil, too, which does not cancel; see :func:`veil`.

    Parameters
    ----------
    active
        Points of the ``threshold`` members who answer, this one among them, fixed beforehand.
    ciphertext
        Re-randomised by all active members.
    sigma
        In units of the opened value.

    Returns
    -------
    Residues
        ``(level, degree)`` in NTT form.

    Raises
    ------
    InvalidInput
        A ciphertext of a kind that is never opened or not of its kind's shape, a wrong active
        set or noise out of range.
    """
    _check_openable(share, active, ciphertext)
    deviation = noise_deviation(ciphertext, dimension, sigma) / sqrt(len(active))
    primes = ciphertext.profile.data_primes[: ciphertext.residues.shape[1]]
    mask = share.pairs.mask(active, ciphertext)
    answer = masked_answer(share, active, ciphertext.residues[1], primes, deviation, mask, stream)
    if ciphertext.kind not in VEILED:
        return answer
    return kernel.add(answer, veil(primes, share.profile.degree, stream), primes)


def veil(primes: tuple[int, ...], degree: int, stream: Stream) -> Residues:
    """Return a polynomial that is uniform modulo the primes, but 0 in coefficient 0.

    Whatever it is added to tells its coefficient 0 and nothing of the others, whoever chose these.

    Returns
    -------
    Residues
        ``(len(primes), degree)`` in NTT form.
    """
    coefficients = uniform(stream, primes, degree)
    coefficients[:, 0] = 0
    return kernel.ntt_forward(coefficients, primes)


def masked_answer(
    share: Share,
    active: Sequence[int],
    element: Residues,
    primes: tuple[int, ...],
    deviation: float,
    mask: Residues,
    stream: Stream,
) -> Residues:
    """Return ``(lambda_i S_i) element + NTT(e_i) + mask``, and overwrite the mask.

    Parameters
    ----------
    element
        ``(len(primes), degree)``; the primes are the first ones of the key level.
    deviation
        Of the noise ``e_i``, per coefficient.
    """
    weighted = weigh(share, active, primes)
    answer = kernel.multiply(weighted, np.ascontiguousarray(element), primes)
    weighted.fill(0)
    noise = transform(gaussian(stream, deviation, share.profile.degree), primes)
    masked = total([answer, noise, mask], primes)
    for secret in (answer, noise, mask):
        secret.fill(0)
    return masked


def weigh(share: Share, active: Sequence[int], primes: tuple[int, ...]) -> Residues:
    """Return ``lambda_i S_i`` modulo the first primes of the key level, to be overwritten."""
    factors = tuple(lagrange(share.point, active, prime) for prime in primes)
    return times_integers(share.secret[: len(primes)], factors, primes)


def combine(ciphertext: Ciphertext, partials: Sequence[Residues], dimension: int) -> Real:
    """Return the noisy message: all active members' answers plus ``c0``, decoded.

    Returns
    -------
    Real
        ``float64``, shape ``(degree,)``; of a NORM every coefficient but the first is random.
    """
    profile = ciphertext.profile
    level = ciphertext.residues.shape[1]
    primes = profile.data_primes[:level]
    opened = total([ciphertext.residues[0], *partials], primes)
    scale = ciphertext.kind.scale(profile, dimension)
    return decode_coefficients(opened, profile, level, scale)


class Opener:
    """Opens ciphertexts with the shares of one process, always re-randomised and flooded.

    Parameters
    ----------
    shares
        At least ``threshold`` shares of the bundle's key epoch; the first ``threshold`` are used.
    bundle
        The key epoch's public half.

    Raises
    ------
    Mismatch
        A share is of another key epoch, or they are of different generations.
    InvalidInput
        Too few shares, or one twice.
    """

    def __init__(self, shares: Sequence[Share], bundle: PublicBundle) -> None:
        if any(share.epoch != bundle.epoch for share in shares):
            raise Mismatch("a key share is of another key epoch than the bundle")
        if len({share.generation for share in shares}) > 1:
            raise Mismatch("the key shares are of different generations")
        if len({share.point for share in shares}) != len(shares):
            raise InvalidInput("the same key share was given twice")
        if len(shares) < bundle.threshold:
            raise InvalidInput(f"{bundle.threshold} key shares are needed, got {len(shares)}")
        self.shares = tuple(shares[: bundle.threshold])
        """Those that are used."""
        self.bundle = bundle

    def open(self, ciphertext: Ciphertext, sigma: float) -> Real:
        """Return the coefficients of a RESULT, or the first one of a NORM, with noise ``sigma``.

        Parameters
        ----------
        sigma
            Standard deviation of the noise per coefficient, in units of the opened value.

        Returns
        -------
        Real
            ``float64``, shape ``(degree,)``; see :func:`combine`.

        Raises
        ------
        InvalidInput
            A ciphertext of a kind that is never opened, or noise out of range.
        Mismatch
            The ciphertext is of another profile.
        """
        bundle = self.bundle
        if ciphertext.profile != bundle.profile:
            raise Mismatch("the ciphertext is of another profile than the keys")
        active = [share.point for share in self.shares]
        level = ciphertext.residues.shape[1]
        streams = [SecretStream() for _ in active]
        zeros = [
            encrypt_zero(bundle.public_key, bundle.profile, level, stream) for stream in streams
        ]
        fresh = rerandomise(ciphertext, zeros)
        partials = [
            partial_decryption(share, active, fresh, bundle.dimension, sigma, stream)
            for share, stream in zip(self.shares, streams, strict=True)
        ]
        return combine(fresh, partials, bundle.dimension)


def _check_openable(share: Share, active: Sequence[int], ciphertext: Ciphertext) -> None:
    if ciphertext.kind not in OPENABLE:
        raise InvalidInput(f"a {ciphertext.kind.name.lower()} is never opened")
    if ciphertext.profile != share.profile:
        raise Mismatch("the ciphertext is of another profile than the key share")
    level = ciphertext.kind.level(share.profile)
    if ciphertext.residues.shape != (COMPONENTS, level, share.profile.degree):
        raise InvalidInput("the ciphertext does not have the shape of its kind")
    points = set(active)
    if len(points) != len(active) or len(points) != share.threshold:
        raise InvalidInput(f"exactly {share.threshold} members must answer")
    if share.point not in points or not points <= set(range(1, share.members + 1)):
        raise InvalidInput("the active members do not fit the key share")
