"""Redaction: k auditors take some templates out of a unit together, without opening it.

The protocol is collective public-key switching to the same key (Mouchet, Troncoso-Pastoriza,
Bossuat and Hubaux, PETS 2021), with a projection ``P`` that zeroes coefficients in between. Their
way from encryption to shares and back would hide each answer behind a uniform ``M_i``, and give
``P M_i`` back encrypted. But ``P`` is linear, so the ``M_i`` cancel whatever they are::

    P(c0 + sum_i (lambda_i S_i c1 - M_i)) + sum_i Enc(P M_i) = P c0 + sum_i Enc(P(lambda_i S_i c1))

So each auditor sends the right-hand term alone, a public-key encryption under the joint key, and
keeps no secret between two messages that could be learnt or used twice.

What a contribution shows. Fewer than k auditors cannot open it. What it holds is no more than k - 1
of them and the plaintext ``m = c0 + c1 s`` determine: they write ``lambda_i S_i`` as ``beta s``
plus what they know (see ``pairs.py``), so it is ``P(beta m)`` plus what they know. The plaintext
of a sound unit depends on the key through its error only; beyond that, security rests on
encryptions of functions of the key under itself, as it does for the evaluation keys. No noise is
added, since nobody opens a contribution. The sum is opened in results only, flooded, and in zero
tests, with noise; it holds the error of ``c`` where ``P`` keeps it, and that of k fresh ones.

Two uses of it would be misuse, and have their own defence:

- Somebody could enrol a single contribution as a unit, which passes zero tests, and have a search
  show ``beta m`` with ``beta`` not 1. So contributions carry masks that cancel in the sum, as
  answers do (docs/adr/0008-masked-answers.md). A mask is the same when the same auditors redact the
  same again; the encryption under it is not, so that shows a difference of encryptions of zero.
- ``P`` zeroes the coefficients by which a hidden ``K s`` is found, and keeps those that a search
  shows. So nothing is contributed to a unit that has not passed its zero test.

A member can spoil the sum: add ``K s`` to it, or leave out a template that should stay. So nobody
signs before all active auditors have opened a zero test of the difference (``redaction_test``).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_auditor.keys.decryption import encrypt_zero, weigh
from underseal_auditor.keys.elements import total
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.errors import InvalidInput
from underseal_core.gallery.unit import Shape
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.redaction import project

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.gallery.unit import Unit
    from underseal_core.scheme.profiles import Profile
    from underseal_core.scheme.zero_test import Mask

STORED: Final = frozenset({Kind.TEMPLATE_ROW, Kind.COLUMN})
_MASK_DOMAIN: Final = b"underseal/v1/redaction-mask\x00"
EXTRA_ERROR: Final = 16
"""Redactions may add this part, 1/16, to the variance that units bring into a block's scores."""


def contributions(
    share: Share,
    active: Sequence[int],
    bundle: PublicBundle,
    ciphertexts: Iterable[Ciphertext],
    held: Mask,
) -> Iterator[Ciphertext]:
    """Yield this auditor's masked encryptions of ``P(lambda_i S_i c1)``, one per ciphertext.

    Parameters
    ----------
    active
        Points of the k auditors who redact, this one among them.
    ciphertexts
        Of one unit.
    held
        ``(degree,)``: the coefficients that stay.

    Raises
    ------
    InvalidInput
        A wrong active set, or a ciphertext that is not a stored one of these keys.
    """
    points = set(active)
    if share.point not in points or len(points) != len(active) or len(points) != share.threshold:
        raise InvalidInput(f"exactly {share.threshold} members redact")
    stream, weighted = SecretStream(), None
    try:
        for one in ciphertexts:
            if one.profile != bundle.profile or one.kind not in STORED:
                raise InvalidInput("only stored rows and columns are redacted")
            level = one.kind.level(bundle.profile)
            primes = bundle.profile.data_primes[:level]
            if weighted is None:
                weighted = weigh(share, active, primes)
            part = kernel.multiply(weighted, np.ascontiguousarray(one.residues[1]), primes)
            kept = project(part, held, primes)
            fresh = encrypt_zero(bundle.public_key, bundle.profile, level, stream)
            opening = _opening(one, held, active)
            mask = share.pairs.mask_values(active, opening, primes, bundle.profile.degree)
            fresh[0] = total([np.ascontiguousarray(fresh[0]), kept, mask], primes)
            for secret in (part, kept, mask):
                secret.fill(0)
            yield Ciphertext(bundle.profile, one.kind, fresh)
    finally:
        if weighted is not None:
            weighted.fill(0)


def _opening(ciphertext: Ciphertext, held: Mask, active: Sequence[int]) -> bytes:
    """Name what is redacted, and by whom: a mask is for nothing else."""
    head = _MASK_DOMAIN + bytes((len(active), *sorted(active), int(ciphertext.kind)))
    return hashlib.sha256(head + held.tobytes() + ciphertext.to_bytes()).digest()


def most_encryptions(profile: Profile) -> int:
    """Return how many encryptions redactions may add to the columns of one block, in all.

    A unit of columns brings the error of one encryption into every score of its block, and the
    noisiest block of which the error was measured holds ``degree`` units. So this many add at most
    1/16 to the variance that a profile's stated error allows for units: 0.044 bits. A row's error
    is divided by a prime before it is folded in, so redactions of rows do not show.
    """
    return profile.degree // EXTRA_ERROR


def added_encryptions(units: Iterable[Unit]) -> int:
    """Return how many encryptions redactions have added to the columns of some units so far."""
    return sum(
        unit.redaction.count * unit.redaction.encryptions
        for unit in units
        if unit.redaction is not None and unit.shape is Shape.COLUMNS
    )
