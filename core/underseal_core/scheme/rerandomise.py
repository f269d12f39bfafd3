"""A stored row as a probe: the same message, under randomness that belongs to one request.

A ciphertext is opened once, ever, and everything that follows from a probe is deterministic: the
same row searched with twice would give the same norm. So the probe is

    row + u * (b, a)

where ``(b, a)`` is the public key modulo the data primes, an encryption of zero, and ``u`` a sum of
``TERMS`` signed powers of ``X`` that follows from ``seed``. Everybody can compute it, so server and
auditors do, each from its own copy of the row. It is what a client could encrypt if it knew the
template: nobody learns more from it than from another fresh encryption whose randomness he chose.

``u`` is sparse because its error is all that this adds: ``u * e`` has the variance
``TERMS * 10.5 * members`` per coefficient, a fresh row about ``members * N / 18``.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_core.errors import InvalidInput
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind

if TYPE_CHECKING:
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

TERMS: Final = 4
"""2^50 different ``u`` at N = 4096 and more beyond."""

_DOMAIN: Final = b"underseal/v1/enrolled-probe\x00"


def probe_of(row: Ciphertext, public_key: Residues, seed: bytes) -> Ciphertext:
    """Return a row of one template as the probe of one request.

    Parameters
    ----------
    row
        Of kind ``TEMPLATE_ROW``; level and scale are those of a probe in every profile.
    public_key
        ``(2, fresh_level + 1, degree)``, of the key epoch that the row is encrypted for.
    seed
        Names the request; another one gives another probe.

    Raises
    ------
    InvalidInput
        Not such a row, or of a profile whose rows and probes have other scales.
    """
    profile = row.profile
    same = profile.probe_scale == profile.template_scale
    if row.kind is not Kind.TEMPLATE_ROW or not same:
        raise InvalidInput(f"a stored {row.kind.name.lower()} of {profile.name} is no probe")
    primes = profile.data_primes
    key = np.ascontiguousarray(public_key[:, : len(primes)])
    factor = np.stack([_sparse(profile, seed)] * 2)
    residues = kernel.add(row.residues, kernel.multiply(key, factor, primes), primes)
    return Ciphertext(profile, Kind.PROBE_ROW, residues)


def _sparse(profile: Profile, seed: bytes) -> Residues:
    """Return ``u``, ``(fresh_level, degree)`` in NTT form: different powers, each with a sign."""
    material = hashlib.shake_256(_DOMAIN + seed).digest(16 * TERMS)
    words = np.frombuffer(material, dtype="<u4").tolist()
    signs = {word % profile.degree: word >> 31 for word in words}
    primes = np.array(profile.data_primes, dtype=np.uint32)
    values = np.zeros((len(primes), profile.degree), dtype=np.uint32)
    for power in list(signs)[:TERMS]:
        values[:, power] = primes - 1 if signs[power] else 1
    return kernel.ntt_forward(values, profile.data_primes)
