"""Re-encryption of stored ciphertexts under a new key epoch, without decryption (scheme.md, 7).

Like the evaluator, public, deterministic integer arithmetic: whoever holds the switching key and a
unit gets the same new unit, bit for bit.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Self

import numpy as np

from underseal_core.errors import MalformedCiphertext
from underseal_core.ring import kernel
from underseal_core.ring.kernel import LANES, check_residues
from underseal_core.scheme.ciphertext import Ciphertext, Kind, Residues
from underseal_core.scheme.keyswitch import prepare_key, rescale, switch_key
from underseal_core.scheme.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from underseal_core.scheme.profiles import Profile


def raise_level(residues: Residues, level: int, profile: Profile) -> Residues:
    """Multiply by the primes between the residues' level and ``level``: rescaling undoes it.

    Parameters
    ----------
    residues
        ``(..., lower, degree)`` in NTT form.

    Returns
    -------
    Residues
        ``(..., level, degree)``: the same message and error times ``q_lower .. q_(level-1)``,
        modulo ``level`` primes. The product is 0 modulo each new prime.
    """
    lower = residues.shape[-2]
    factor = prod(profile.data_primes[lower:level])
    primes = np.array(profile.data_primes[:lower], dtype=np.uint64)[:, None]
    factors = np.array([factor % int(prime) for prime in primes[:, 0]], dtype=np.uint64)[:, None]
    raised = np.zeros((*residues.shape[:-2], level, residues.shape[-1]), dtype=np.uint32)
    raised[..., :lower, :] = residues * factors % primes
    return raised


class Reencryptor:
    """Re-encrypts rows and columns with one switching key.

    With the key's digits ``(b_j, a_j)``, ``b_j + a_j s_new = [P s_old]_j + e_j``, and ``D_j(x)``
    the residues of ``x`` modulo the data prime ``q_j`` as integers in ``[0, q_j)``::

        (c0, c1)  ->  (c0, 0) + round(sum_j D_j(c1) (b_j, a_j) / P)

    at fresh level. Columns have one prime less, and a message too small for the error of that
    division: they are first multiplied by the missing prime ``q`` and afterwards divided by it
    again, so that the error is divided too, and what remains is that of a rounding. In effect
    ``q P`` is the special modulus.

    Thread-safe. Owns a pool of threads; close it, or use it as a context manager.

    Parameters
    ----------
    profile
        Of both key epochs.
    key
        ``(fresh_level, 2, fresh_level + 1, degree)``, as an evaluation key.
    threads
        Threads per call; 1 computes in the caller's.

    Raises
    ------
    InvalidInput
        The key does not fit the profile.
    """

    def __init__(self, profile: Profile, key: Residues, threads: int = 1) -> None:
        self._profile = profile
        self._key = prepare_key(key, profile)
        self._workers = Workers(threads)

    def close(self) -> None:
        """End the threads. It must not be used afterwards."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def unit(self, ciphertexts: Iterable[Ciphertext]) -> Iterator[Ciphertext]:
        """Re-encrypt a unit's ciphertexts, in order: a row, or columns.

        Takes and yields a few at a time, so that a unit of many columns is never all in memory.

        Raises
        ------
        MalformedCiphertext
            Not a template row or columns of this profile.
        """
        batch: list[Ciphertext] = []
        for ciphertext in ciphertexts:
            self._check(ciphertext)
            batch.append(ciphertext)
            if len(batch) == LANES * self._workers.threads:
                yield from self._batch(batch)
                batch.clear()
        if batch:
            yield from self._batch(batch)

    def _batch(self, batch: list[Ciphertext]) -> Iterator[Ciphertext]:
        profile, kind = self._profile, batch[0].kind
        if any(ciphertext.kind is not kind for ciphertext in batch):
            raise MalformedCiphertext("a unit holds a row or columns, not both")
        stacked = np.stack([ciphertext.residues for ciphertext in batch])
        raised = raise_level(stacked, profile.fresh_level, profile)
        switched = switch_key(raised, self._key, profile, self._workers)
        for residues in rescale(switched, kind.level(profile), profile, self._workers):
            yield Ciphertext(profile, kind, np.ascontiguousarray(residues))

    def _check(self, ciphertext: Ciphertext) -> None:
        profile, kind = self._profile, ciphertext.kind
        if ciphertext.profile != profile or kind not in (Kind.TEMPLATE_ROW, Kind.COLUMN):
            raise MalformedCiphertext("only stored ciphertexts of the key's profile are switched")
        level = kind.level(profile)
        kernel.check_array(ciphertext.residues, "ciphertext", (2, level, profile.degree))
        check_residues(ciphertext.residues, profile.data_primes[:level], "ciphertext")
