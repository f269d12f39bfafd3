"""Streams of random bytes and the distributions of RLWE keys.

Secret values come from :class:`SecretStream`, a ChaCha20 stream that the operating system seeds;
public ones, on which all members must agree, from :class:`PublicStream`, SHAKE256 in counter mode.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

if TYPE_CHECKING:
    from underseal_core.scheme.ciphertext import Residues

Small = npt.NDArray[np.int64]

_BINOMIAL_BITS: Final = 21
"""A difference of two sums of 21 bits has variance 10.5, standard deviation 3.24, as in SEAL."""
_PUBLIC_BLOCK_BYTES: Final = 1 << 16


class Stream(Protocol):
    """Anything that random bytes can be read from."""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        ...


class SecretStream:
    """ChaCha20 keystream under a key from the operating system.

    Parameters
    ----------
    seed
        32 random bytes, never used for two purposes: a member's ceremony secret, which must be
        found again after an interruption. The operating system's randomness when left out.
    """

    def __init__(self, seed: bytes | None = None) -> None:
        key = os.urandom(32) if seed is None else seed
        self._cipher = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def __repr__(self) -> str:
        return "SecretStream(...)"

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        return self._cipher.update(bytes(size))


class PublicStream:
    """``SHAKE256(label || 0 || seed || counter)``, 64 KiB per counter value.

    Parameters
    ----------
    seed
        32 bytes that all members know.
    label
        What the bytes are for; no zero byte in it.
    """

    def __init__(self, seed: bytes, label: str) -> None:
        self._prefix = label.encode() + b"\x00" + seed
        self._counter = 0
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        blocks = [self._rest]
        missing = size - len(self._rest)
        while missing > 0:
            message = self._prefix + self._counter.to_bytes(8, "little")
            blocks.append(hashlib.shake_256(message).digest(_PUBLIC_BLOCK_BYTES))
            self._counter += 1
            missing -= _PUBLIC_BLOCK_BYTES
        data = b"".join(blocks)
        self._rest = data[size:]
        return data[:size]


def uniform(stream: Stream, primes: tuple[int, ...], degree: int) -> Residues:
    """Return uniform residues, shape ``(len(primes), degree)``, by rejection."""
    return np.stack([_uniform_below(stream, prime, degree) for prime in primes])


def _uniform_below(stream: Stream, prime: int, count: int) -> Residues:
    mask = np.uint32((1 << prime.bit_length()) - 1)
    accepted = np.empty(0, dtype=np.uint32)
    while len(accepted) < count:
        drawn = np.frombuffer(stream.read(4 * count), dtype="<u4") & mask
        accepted = np.concatenate((accepted, drawn[drawn < prime]))
    return accepted[:count].astype(np.uint32)


def ternary(stream: Stream, degree: int) -> Small:
    """Return values uniform in {-1, 0, 1}, shape ``(degree,)``."""
    accepted = np.empty(0, dtype=np.uint8)
    while len(accepted) < degree:
        drawn = np.frombuffer(stream.read(degree), dtype=np.uint8)
        accepted = np.concatenate((accepted, drawn[drawn < 255]))
    return accepted[:degree].astype(np.int64) % 3 - 1


def error(stream: Stream, shape: tuple[int, ...]) -> Small:
    """Return centred binomial values of standard deviation 3.24."""
    count = int(np.prod(shape))
    words = np.frombuffer(stream.read(8 * count), dtype="<u8")
    mask = np.uint64((1 << _BINOMIAL_BITS) - 1)
    heads = np.bitwise_count(words & mask).astype(np.int64)
    tails = np.bitwise_count((words >> np.uint64(_BINOMIAL_BITS)) & mask).astype(np.int64)
    values: Small = heads - tails
    return values.reshape(shape)


def gaussian(stream: Stream, deviation: float, count: int) -> Small:
    """Return rounded Gaussian values, shape ``(count,)``.

    Box-Muller in ``float64``. The radius comes from a logarithm that is accurate to about 52
    significant bits in the tail and around zero alike (see :func:`_exponential`), because both
    values of a pair may be seen: a radius from a coarse grid would let them be solved for it. The
    tail ends at 12 standard deviations (probability ``2^-107``). The angle is a multiple of
    ``2 pi 2^-53``, so the steps of a value are below ``2^-46`` standard deviations.

    Parameters
    ----------
    deviation
        At most ``2^58``, so that no value leaves ``int64``.
    """
    pairs = (count + 1) // 2
    radius = deviation * np.sqrt(2.0 * _exponential(stream, pairs))
    angle = 2.0 * np.pi * 2.0**-53 * _words(stream, pairs).astype(np.float64)
    values = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    return np.rint(values[:count]).astype(np.int64)


def _words(stream: Stream, count: int) -> npt.NDArray[np.uint64]:
    """Return uniform integers below ``2^53``."""
    return np.frombuffer(stream.read(8 * count), dtype="<u8") >> np.uint64(11)


def _exponential(stream: Stream, count: int) -> npt.NDArray[np.float64]:
    """Return values of the standard exponential distribution, ``float64``, shape ``(count,)``.

    ``-log u`` for ``u`` uniform in (0, 1), where ``u`` or ``1 - u``, whichever is at most 1/2, is
    drawn with 106 bits and so has full precision however small it is.
    """
    high, low = _words(stream, count).astype(np.float64), _words(stream, count).astype(np.float64)
    small = (high + (low + 0.5) * 2.0**-53) * 2.0**-54
    upper = np.frombuffer(stream.read(count), dtype=np.uint8) & np.uint8(1)
    return np.where(upper == 1, -np.log1p(-small), -np.log(small))
