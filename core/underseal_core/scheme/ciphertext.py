"""Ciphertexts and their wire format.

The format is ours and parsed here, in Python, with exact length, kind, level, component count and
``residue < prime`` checks: no foreign byte reaches SEAL's deserialiser (scheme.md section 6).

    offset  size  field
    0       4     magic "USC2"
    4       1     profile number
    5       1     kind
    6       1     components
    7       1     level (number of data primes)
    8       ...   residues, packed (see ``ring/packing``), [component][prime][coefficient], NTT
                  order of SEAL

The scale is not on the wire: profile, kind and gallery dimension determine it.

In the **plain form**, magic "USC1", residues are uint32 little-endian. It is what hashes of units
are over, so that a unit's signed name does not depend on how it is stored or sent, and how
archives of version 1 hold them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.ring.packing import pack, packed_size, unpack
from underseal_core.scheme.fields import FieldReader
from underseal_core.scheme.profiles import Profile

Residues = npt.NDArray[np.uint32]

MAGIC: Final = b"USC2"
PLAIN_MAGIC: Final = b"USC1"
HEADER_BYTES: Final = 8


class Kind(IntEnum):
    """What a ciphertext is for; fixes its level and component count."""

    PROBE_ROW = 1
    TEMPLATE_ROW = 2
    COLUMN = 3
    RESULT = 4
    NORM = 5

    def level(self, profile: Profile) -> int:
        """Number of data primes a ciphertext of this kind has."""
        match self:
            case Kind.PROBE_ROW | Kind.TEMPLATE_ROW:
                return profile.fresh_level
            case Kind.COLUMN:
                return profile.gallery_level
            case Kind.RESULT | Kind.NORM:
                return profile.result_level

    def primes(self, profile: Profile) -> tuple[int, ...]:
        """Moduli of its residues."""
        return profile.data_primes[: self.level(profile)]

    def scale(self, profile: Profile, dimension: int) -> float:
        """Scale of the message, given the gallery's dimension."""
        match self:
            case Kind.PROBE_ROW:
                return profile.row_scale(profile.probe_scale, dimension)
            case Kind.TEMPLATE_ROW:
                return profile.row_scale(profile.template_scale, dimension)
            case Kind.COLUMN:
                return profile.template_scale
            case Kind.RESULT:
                return profile.result_scale
            case Kind.NORM:
                return profile.norm_scale


COMPONENTS: Final = 2
"""Every ciphertext on the wire is relinearised."""


class Digest(Protocol):
    """A hash that is being computed, as ``hashlib`` has them."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Take more bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Ciphertext:
    """Residues of a two-component ciphertext in SEAL's NTT order.

    ``residues`` has shape ``(2, level, degree)``, dtype ``uint32``, C-contiguous, each residue
    below its prime. Never changed in place.
    """

    profile: Profile
    kind: Kind
    residues: Residues

    def to_bytes(self) -> bytes:
        """Serialise; the exact inverse of :func:`parse_ciphertext`."""
        packed = pack(self.residues, self.kind.primes(self.profile))
        return b"".join((MAGIC, self._header(), packed.data))

    def hash_plain(self, digest: Digest) -> None:
        """Let a hash take the plain form."""
        digest.update(PLAIN_MAGIC + self._header())
        digest.update(np.ascontiguousarray(self.residues, dtype="<u4").data.cast("B"))

    def _header(self) -> bytes:
        return bytes((self.profile.wire_id, self.kind, COMPONENTS, self.kind.level(self.profile)))


def plain_sha256(ciphertexts: Iterable[Ciphertext]) -> bytes:
    """Return the SHA-256 of the plain forms one after another: what a unit is signed by."""
    digest = hashlib.sha256()
    for ciphertext in ciphertexts:
        ciphertext.hash_plain(digest)
    return digest.digest()


def wire_size(profile: Profile, kind: Kind) -> int:
    """Exact number of bytes of a ciphertext of this kind."""
    return HEADER_BYTES + packed_size(kind.primes(profile), _shape(profile, kind))


def plain_size(profile: Profile, kind: Kind) -> int:
    """Exact number of bytes of its plain form."""
    return HEADER_BYTES + 4 * prod(_shape(profile, kind))


def _shape(profile: Profile, kind: Kind) -> tuple[int, int, int]:
    return COMPONENTS, kind.level(profile), profile.degree


def parse_ciphertext(data: bytes | memoryview, profile: Profile, kind: Kind) -> Ciphertext:
    """Parse bytes that a peer sent.

    Parameters
    ----------
    data
        The whole message.
    profile, kind
        What the receiver expects; nothing is taken from the bytes on trust.

    Raises
    ------
    MalformedCiphertext
        Wrong magic, profile, kind, component count, level, length, or a residue that is not
        below its prime.
    """
    _check_header(data, MAGIC, profile, kind)
    _check_length(len(data), wire_size(profile, kind))
    try:
        residues = unpack(data[HEADER_BYTES:], kind.primes(profile), _shape(profile, kind))
    except InvalidInput as error:
        raise _out_of_range() from error
    return Ciphertext(profile, kind, residues)


def parse_plain_ciphertext(data: bytes, profile: Profile, kind: Kind) -> Ciphertext:
    """Parse the plain form, which old archives hold; see :func:`parse_ciphertext`."""
    _check_header(data, PLAIN_MAGIC, profile, kind)
    _check_length(len(data), plain_size(profile, kind))
    reader = FieldReader(data, HEADER_BYTES)
    try:
        residues = reader.plain_residues(kind.primes(profile), _shape(profile, kind))
    except InvalidInput as error:
        raise _out_of_range() from error
    return Ciphertext(profile, kind, residues)


def _check_header(data: bytes | memoryview, magic: bytes, profile: Profile, kind: Kind) -> None:
    level = kind.level(profile)
    if len(data) < HEADER_BYTES or bytes(data[:4]) != magic:
        raise MalformedCiphertext("not an Underseal ciphertext")
    wire_id, wire_kind, components, wire_level = data[4:HEADER_BYTES]
    if wire_id != profile.wire_id:
        raise MalformedCiphertext(f"ciphertext is not of profile {profile.name}")
    if wire_kind != kind:
        raise MalformedCiphertext(f"ciphertext is not a {kind.name.lower()}")
    if components != COMPONENTS:
        raise MalformedCiphertext(f"ciphertext has {components} components, wanted {COMPONENTS}")
    if wire_level != level:
        raise MalformedCiphertext(f"ciphertext has level {wire_level}, wanted {level}")


def _check_length(length: int, expected: int) -> None:
    if length != expected:
        raise MalformedCiphertext(f"ciphertext has {length} bytes, wanted exactly {expected}")


def _out_of_range() -> MalformedCiphertext:
    return MalformedCiphertext("ciphertext holds a residue that is not below its prime")
