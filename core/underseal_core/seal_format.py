"""Residues in and out of Microsoft SEAL's objects (``tenseal.sealapi``), scheme.md section 6.

Nothing that a peer sent reaches SEAL's loading code: what is loaded here is written here, from
residues that were checked before. SEAL's own format (``seal/serialization.h``,
``Ciphertext::save_members``), all little-endian:

    object      u16 magic 0xA15E, u8 header size 16, u8 major, u8 minor, u8 compression, u16 0,
                u64 size with this header; then the body
    ciphertext  u64[4] parms id, u8 is NTT, u64 components, u64 degree, u64 primes, f64 scale,
                u64 correction factor, then the residues as an object: u64 count, u64[] values

Objects go through an anonymous file in memory because the binding only takes paths.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from tenseal import sealapi

if TYPE_CHECKING:
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile

_MAGIC: Final = 0xA15E
_HEADER: Final = struct.Struct("<HBBBBHQ")
_CIPHERTEXT: Final = struct.Struct("<4QBQQQdQ")
_NO_COMPRESSION: Final = 0


@dataclass(frozen=True, slots=True, eq=False)
class SealCiphertext:
    """Content of a SEAL ciphertext: ``residues`` (components, primes, degree), ``uint32``."""

    residues: Residues
    scale: float
    is_ntt: bool


@cache
def seal_context(profile: Profile) -> Any:
    """Return SEAL's CKKS context with exactly the profile's primes, at 128-bit security.

    SEAL enforces its own security table on the parameters; a failure to build is a bug in the
    profile, hence an assertion error and no public one.
    """
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(profile.degree)
    primes = profile.key_primes
    parameters.set_coeff_modulus([sealapi.Modulus(prime) for prime in primes])
    context = sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise AssertionError(f"SEAL refuses profile {profile.name}")
    return context


@cache
def parameters_id(profile: Profile, level: int) -> tuple[int, int, int, int]:
    """Return SEAL's id of the parameters with the first ``level`` data primes.

    ``level = fresh_level + 1`` is the key level, which has the special prime too.
    """
    context = seal_context(profile)
    data = context.key_context_data()
    for _ in range(profile.fresh_level + 1 - level):
        data = data.next_context_data()
    first, second, third, fourth = data.parms_id()
    return first, second, third, fourth


def ciphertext_from_seal(ciphertext: Any) -> SealCiphertext:
    """Copy the residues out of a SEAL ciphertext."""
    count = ciphertext.size() * ciphertext.coeff_modulus_size() * ciphertext.poly_modulus_degree()
    values = ciphertext.dyn_array()
    flat = np.fromiter(map(values.__getitem__, range(count)), dtype=np.uint32, count=count)
    shape = (ciphertext.size(), ciphertext.coeff_modulus_size(), ciphertext.poly_modulus_degree())
    return SealCiphertext(flat.reshape(shape), float(ciphertext.scale), ciphertext.is_ntt_form())


def ciphertext_to_seal(profile: Profile, residues: Residues, scale: float) -> Any:
    """Build a SEAL ciphertext in NTT form from residues (components, level, degree)."""
    ciphertext = sealapi.Ciphertext()
    load(ciphertext, ciphertext_body(profile, residues, scale), seal_context(profile))
    return ciphertext


def public_key_to_seal(profile: Profile, residues: Residues) -> Any:
    """Build a SEAL public key from residues (2, fresh_level + 1, degree); last prime special."""
    key = sealapi.PublicKey()
    load(key, ciphertext_body(profile, residues, 1.0), seal_context(profile))
    return key


def ciphertext_body(profile: Profile, residues: Residues, scale: float) -> bytes:
    """Serialise residues (components, primes, degree) as SEAL's ciphertext body."""
    components, primes, degree = residues.shape
    identity = parameters_id(profile, primes)
    head = _CIPHERTEXT.pack(*identity, 1, components, degree, primes, scale, 1)
    return head + object_bytes(array_body(residues))


def array_body(values: Residues) -> bytes:
    """Serialise values as the body of SEAL's ``DynArray``."""
    return struct.pack("<Q", values.size) + values.astype("<u8").tobytes()


def object_bytes(body: bytes) -> bytes:
    """Put SEAL's header, without compression, before a body."""
    major, minor = _seal_version()
    size = _HEADER.size + len(body)
    header = _HEADER.pack(_MAGIC, _HEADER.size, major, minor, _NO_COMPRESSION, 0, size)
    return header + body


def load(target: Any, body: bytes, *context: Any) -> None:
    """Let SEAL load a body that this process wrote."""
    descriptor = os.memfd_create("underseal", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(object_bytes(body))
        file.flush()
        target.load(*context, f"/proc/self/fd/{descriptor}")


@cache
def _seal_version() -> tuple[int, int]:
    """Major and minor version that this SEAL writes, and so accepts, in its headers."""
    descriptor = os.memfd_create("underseal", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS).save(f"/proc/self/fd/{descriptor}")
        _, _, major, minor, _, _, _ = _HEADER.unpack(file.read(_HEADER.size))
    return major, minor
