"""Operations on batches of ciphertexts that need the special prime or drop one.

They agree with SEAL residue for residue: ``relinearize``, ``rescale_to_next`` (SEAL's
``native/src/seal/evaluator.cpp`` and ``util/rns.cpp``). The ciphertexts of a batch run in parallel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_core.errors import InvalidInput
from underseal_core.ring import _kernel
from underseal_core.ring.kernel import Residues, aligned, basis, check_array, check_residues

if TYPE_CHECKING:
    from collections.abc import Callable

    from underseal_core.scheme.profiles import Profile
    from underseal_core.scheme.workers import Workers


_AT_ONCE: Final = 8
"""Most ciphertexts of a batch that a thread takes at a time."""


def prepare_key(key: Residues, profile: Profile, out: Residues | None = None) -> Residues:
    """Bring a key-switching key into the kernel's form.

    Parameters
    ----------
    key
        Shape ``(fresh_level, 2, fresh_level + 1, degree)``, the special prime last.
    out
        Where to write it, if not to a new array; same shape.

    Returns
    -------
    Residues
        Same shape, times ``2^32`` modulo each prime (Montgomery form).

    Raises
    ------
    InvalidInput
        Wrong shape, or a residue that is not below its prime.
    """
    levels = profile.fresh_level
    check_array(key, "evaluation key", (levels, 2, levels + 1, profile.degree))
    ring = check_residues(key, profile.key_primes, "evaluation key")
    if out is None:
        out = aligned(key.shape)
    ring.scale_key(key, out)
    return out


def relinearise(
    ciphertexts: Residues, key: Residues, profile: Profile, workers: Workers
) -> Residues:
    """Bring three components, shape ``(count, 3, level, degree)``, back to two."""
    if ciphertexts.ndim != 4 or ciphertexts.shape[1] != 3:
        raise InvalidInput("relinearisation wants ciphertexts of three components")
    return _switch(ciphertexts, key, profile, workers)


def switch_key(
    ciphertexts: Residues, key: Residues, profile: Profile, workers: Workers
) -> Residues:
    """Re-encrypt under the secret that the switching key leads to (scheme.md section 7).

    Parameters
    ----------
    ciphertexts
        Shape ``(count, 2, level, degree)``.
    key
        From :func:`prepare_key`: encryptions, under the new secret, of the old one.
    """
    if ciphertexts.ndim != 4 or ciphertexts.shape[1] != 2:
        raise InvalidInput("key switching wants ciphertexts of two components")
    return _switch(ciphertexts, key, profile, workers)


def rescale(ciphertexts: Residues, stop: int, profile: Profile, workers: Workers) -> Residues:
    """Divide by the last primes, one after the other, down to level ``stop``.

    Parameters
    ----------
    ciphertexts
        Shape ``(count, components, level, degree)`` with ``level >= stop``.

    Returns
    -------
    Residues
        Shape ``(count, components, stop, degree)``.
    """
    ring = basis(profile.degree, profile.key_primes)
    components, level = ciphertexts.shape[1:3]
    if not 1 <= stop <= level:
        raise InvalidInput(f"cannot rescale from level {level} to level {stop}")
    if stop == level:
        return ciphertexts

    def work(one: Residues, out: Residues) -> None:
        for below in range(level - 1, stop, -1):
            lower = aligned((components, below, profile.degree))
            _kernel.rescale(ring, one, lower)
            one = lower
        _kernel.rescale(ring, one, out)

    return _each(ciphertexts, (components, stop), work, profile, workers)


def _switch(ciphertexts: Residues, key: Residues, profile: Profile, workers: Workers) -> Residues:
    ring = basis(profile.degree, profile.key_primes)

    def work(one: Residues, out: Residues) -> None:
        _kernel.switch_key(ring, one, key, out)

    shape = (2, ciphertexts.shape[2])
    return _each(ciphertexts, shape, work, profile, workers)


def _each(
    ciphertexts: Residues,
    shape: tuple[int, ...],
    work: Callable[[Residues, Residues], None],
    profile: Profile,
    workers: Workers,
) -> Residues:
    check_array(ciphertexts, "batch of ciphertexts")
    result = aligned((len(ciphertexts), *shape, profile.degree))
    at_once = max(1, min(_AT_ONCE, -(-len(ciphertexts) // workers.threads)))

    def piece(first: int) -> None:
        for i in range(first, min(first + at_once, len(ciphertexts))):
            work(ciphertexts[i], result[i])

    workers.run(piece, range(0, len(ciphertexts), at_once))
    return result
