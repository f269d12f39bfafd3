"""Encryption under the joint public key, by SEAL.

A fresh encryption is SEAL's encryption of zero plus the message's NTT in component 0 (scheme.md,
section 6), so SEAL's encoder, and with it its limits on scales, is not involved.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tenseal import sealapi

from underseal_core.errors import InvalidInput
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import encode_columns, encode_row
from underseal_core.seal_format import (
    ciphertext_from_seal,
    parameters_id,
    public_key_to_seal,
    seal_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


class Encryptor:
    """Encrypts probes and templates under one public key.

    Thread-safe; SEAL's binding keeps the interpreter lock, so more threads give no more speed.

    Parameters
    ----------
    profile, dimension
        Of the bundle that the key is from; the dimension is a power of two.
    public_key
        ``(2, fresh_level + 1, degree)``, checked against the primes here because SEAL loads it.

    Raises
    ------
    InvalidInput
        The key has another shape or type, or a residue that is not below its prime.
    """

    def __init__(self, profile: Profile, dimension: int, public_key: Residues) -> None:
        _check_key(profile, public_key)
        self._profile = profile
        self._dimension = dimension
        key = public_key_to_seal(profile, public_key)
        self._encryptor = sealapi.Encryptor(seal_context(profile), key)
        self._zero = sealapi.Ciphertext()
        self._lock = threading.Lock()

    def encrypt_probe(self, vector: npt.ArrayLike) -> Ciphertext:
        """Encrypt one unit vector, shape ``(k,)`` with ``k <= dimension``, as a probe.

        Raises
        ------
        InvalidInput
            See :func:`underseal_core.scheme.encoding.check_templates`.
        """
        if np.ndim(vector) != 1:
            raise InvalidInput("a probe is one vector")
        return self._encrypt_row(np.asarray(vector)[None, :], Kind.PROBE_ROW)

    def encrypt_row(self, templates: npt.ArrayLike) -> Ciphertext:
        """Encrypt templates, shape ``(m, k)`` with ``m <= degree / dimension``, as one row.

        Raises
        ------
        InvalidInput
            See :func:`underseal_core.scheme.encoding.encode_row`.
        """
        return self._encrypt_row(templates, Kind.TEMPLATE_ROW)

    def encrypt_columns(self, templates: npt.ArrayLike) -> Iterable[Ciphertext]:
        """Encrypt templates, shape ``(m, k)`` with ``m <= degree``, as ``dimension`` columns.

        The columns are made one by one as they are asked for; bad input is refused at the call.

        Raises
        ------
        InvalidInput
            See :func:`underseal_core.scheme.encoding.encode_columns`.
        """
        scale = Kind.COLUMN.scale(self._profile, self._dimension)
        messages = encode_columns(templates, self._profile, self._dimension, scale)
        return self._encrypt_all(messages, Kind.COLUMN)

    def _encrypt_row(self, templates: npt.ArrayLike, kind: Kind) -> Ciphertext:
        scale = kind.scale(self._profile, self._dimension)
        return self._encrypt(encode_row(templates, self._profile, self._dimension, scale), kind)

    def _encrypt_all(self, messages: Iterator[Residues], kind: Kind) -> Iterator[Ciphertext]:
        for message in messages:
            yield self._encrypt(message, kind)

    def _encrypt(self, message: Residues, kind: Kind) -> Ciphertext:
        level = kind.level(self._profile)
        with self._lock:
            self._encryptor.encrypt_zero(parameters_id(self._profile, level), self._zero)
            residues = ciphertext_from_seal(self._zero).residues
        primes = self._profile.data_primes[:level]
        residues[0] = kernel.add(residues[0], message, primes)
        return Ciphertext(self._profile, kind, residues)


def _check_key(profile: Profile, public_key: Residues) -> None:
    primes = np.array(profile.key_primes, dtype=np.uint32)
    if public_key.shape != (2, len(primes), profile.degree) or public_key.dtype != np.uint32:
        raise InvalidInput(f"the public key is not one of profile {profile.name}")
    if not bool((public_key < primes[None, :, None]).all()):
        raise InvalidInput("the public key holds a residue that is not below its prime")
