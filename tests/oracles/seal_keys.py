"""Keys in SEAL's format, and SEAL's decryptor: only tests ever hold a whole secret."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tenseal import sealapi

from underseal_core.scheme.profiles import Profile
from underseal_core.seal_format import (
    array_body,
    ciphertext_body,
    ciphertext_from_seal,
    ciphertext_to_seal,
    load,
    object_bytes,
    parameters_id,
    seal_context,
)

U32 = npt.NDArray[np.uint32]


def relinearisation_to_seal(profile: Profile, digits: U32) -> Any:
    """``digits``: (L, 2, L + 1, N)."""
    keys = sealapi.RelinKeys()
    load(keys, _switching_body(profile, [digits]), seal_context(profile))
    return keys


def galois_to_seal(profile: Profile, galois: Mapping[int, U32]) -> Any:
    """SEAL keeps the key of element ``g`` at index ``(g - 1) / 2``."""
    slots: list[U32 | None] = [None] * profile.degree
    for element, digits in galois.items():
        slots[(element - 1) // 2] = digits
    keys = sealapi.GaloisKeys()
    load(keys, _switching_body(profile, slots), seal_context(profile))
    return keys


def secret_to_seal(profile: Profile, secret: U32) -> Any:
    """``secret``: (L + 1, N) in NTT form."""
    identity = parameters_id(profile, profile.fresh_level + 1)
    head = struct.pack("<4QQd", *identity, secret.size, 1.0)
    key = sealapi.SecretKey()
    load(key, head + object_bytes(array_body(secret)), seal_context(profile))
    return key


def decrypt(profile: Profile, key: Any, residues: U32, scale: float = 2.0**20) -> U32:
    """Return the message, (level, N) in NTT form, as SEAL's ``Decryptor`` opens it."""
    ciphertext = ciphertext_to_seal(profile, residues, scale)
    message = sealapi.Plaintext()
    sealapi.Decryptor(seal_context(profile), key).decrypt(ciphertext, message)
    values = message.dyn_array()
    count = message.coeff_count()
    flat = np.fromiter(map(values.__getitem__, range(count)), dtype=np.uint32, count=count)
    return flat.reshape(-1, profile.degree)


def generated(profile: Profile) -> tuple[Any, U32]:
    """Return a secret key and a public key, (2, L + 1, N), made by SEAL itself."""
    generator = sealapi.KeyGenerator(seal_context(profile))
    public = sealapi.PublicKey()
    generator.create_public_key(public)
    return generator.secret_key(), ciphertext_from_seal(public.data()).residues


def _switching_body(profile: Profile, slots: list[U32] | list[U32 | None]) -> bytes:
    identity = parameters_id(profile, profile.fresh_level + 1)
    parts = [struct.pack("<4QQ", *identity, len(slots))]
    for digits in slots:
        parts.append(struct.pack("<Q", 0 if digits is None else len(digits)))
        for digit in () if digits is None else digits:
            parts.append(object_bytes(ciphertext_body(profile, digit, 1.0)))
    return b"".join(parts)
