"""Redaction, public half: what takes the place of a ciphertext of which a part is erased.

``P`` keeps some coefficients of a polynomial and zeroes the others: linear over the integers,
prime by prime, though not in the ring. With ``c0 + c1 s = m`` and encryptions of
``P(lambda_i S_i c1)`` by k auditors, whose ``lambda_i S_i`` add up to ``s``, ::

    c' = (P c0, 0) + sum_i Enc(P(lambda_i S_i c1))

encrypts ``P(c0 + s c1) = P m`` (docs/explanation/keys.md, "Redaction").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from underseal_core.errors import MalformedCiphertext
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.zero_test import Claim, zero_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from underseal_core.ring.kernel import Residues
    from underseal_core.scheme.evaluation import Evaluator
    from underseal_core.scheme.zero_test import Mask, ZeroTest


def project(element: Residues, held: Mask, primes: tuple[int, ...]) -> Residues:
    """Return ``P element``.

    Parameters
    ----------
    element
        ``(len(primes), degree)`` in NTT form.
    held
        ``(degree,)``: the coefficients that stay.
    """
    plain = kernel.ntt_inverse(element, primes)
    plain[:, ~held] = 0
    projected = kernel.ntt_forward(plain, primes)
    plain.fill(0)
    return projected


def redacted(ciphertext: Ciphertext, held: Mask, contributions: Iterable[Ciphertext]) -> Ciphertext:
    """Return ``(P c0, 0)`` plus the contributions of all active auditors.

    Raises
    ------
    MalformedCiphertext
        A contribution is of another kind or profile.
    """
    profile, kind = ciphertext.profile, ciphertext.kind
    primes = profile.data_primes[: ciphertext.residues.shape[1]]
    total = np.zeros_like(ciphertext.residues)
    total[0] = project(np.ascontiguousarray(ciphertext.residues[0]), held, primes)
    for contribution in contributions:
        if (contribution.profile, contribution.kind) != (profile, kind):
            raise MalformedCiphertext("a contribution to a redaction is of another kind")
        total = kernel.add(total, contribution.residues, primes)
    return Ciphertext(profile, kind, total)


def redaction_test(
    evaluator: Evaluator,
    seed: bytes,
    old: Callable[[], Iterator[Ciphertext]],
    new: Callable[[], Iterator[Ciphertext]],
    held: Mask,
    encryptions: int,
) -> ZeroTest:
    """Return the zero test of a redaction: what it opens is noise if ``new`` is right.

    Every coefficient of every ciphertext counts once: where ``held``, that of ``new - old`` must
    be zero, elsewhere that of ``new``. Of a sound redaction each is the error of k fresh
    encryptions, whatever ``old`` holds: its own error is in ``new`` as well.

    Parameters
    ----------
    seed
        Unpredictable to whoever had a part in making ``new``.
    old, new
        Yield a unit's ciphertexts, in order. Each of ``new`` is read twice.
    encryptions
        How many auditors contributed.
    """
    kind = next(old()).kind
    claims = (
        Claim(kind, ~held, new(), encryptions),
        Claim(kind, held, _differences(old(), new()), encryptions),
    )
    return zero_test(evaluator, seed, claims)


def _differences(old: Iterator[Ciphertext], new: Iterator[Ciphertext]) -> Iterator[Ciphertext]:
    for before, after in zip(old, new, strict=True):
        primes = after.profile.data_primes[: after.residues.shape[1]]
        difference = kernel.subtract(after.residues, before.residues, primes)
        yield Ciphertext(after.profile, after.kind, difference)
