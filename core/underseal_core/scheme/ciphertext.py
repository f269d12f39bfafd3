"""Ciphertexts and their wire format.

The format is ours and parsed here, in Python, with exact length, kind, level, component count and
``residue < prime`` checks: no foreign byte reaches SEAL's deserialiser (scheme.md section 6).

    offset  size  field
    0       4     magic "USC1"
    4       1     profile number
    5       1     kind
    6       1     components
    7       1     level (number of data primes)
    8       ...   residues, uint32 little-endian, [component][prime][coefficient], NTT order of SEAL

The scale is not on the wire: profile, kind and gallery dimension determine it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import MalformedCiphertext
from underseal_core.scheme.profiles import Profile

Residues = npt.NDArray[np.uint32]

MAGIC: Final = b"USC1"
HEADER_BYTES: Final = 8


class Kind(IntEnum):
    """What a ciphertext is for; fixes its level and component count."""

    PROBE_ROW = 1
    TEMPLATE_ROW = 2
    COLUMN = 3
    RESULT = 4
    NORM = 5
    PROJECTION = 6

    def level(self, profile: Profile) -> int:
        """Number of data primes a ciphertext of this kind has."""
        match self:
            case Kind.PROBE_ROW | Kind.TEMPLATE_ROW:
                return profile.fresh_level
            case Kind.COLUMN:
                return profile.gallery_level
            case Kind.PROJECTION:
                return profile.check_level
            case Kind.RESULT | Kind.NORM:
                return profile.result_level

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
            case Kind.PROJECTION:
                return profile.check_scale


COMPONENTS: Final = 2
"""Every ciphertext on the wire is relinearised."""


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
        header = bytes((self.profile.wire_id, self.kind, COMPONENTS, self.kind.level(self.profile)))
        return MAGIC + header + self.residues.astype("<u4", copy=False).tobytes()


def wire_size(profile: Profile, kind: Kind) -> int:
    """Exact number of bytes of a ciphertext of this kind."""
    return HEADER_BYTES + COMPONENTS * kind.level(profile) * profile.degree * 4


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
    level = kind.level(profile)
    if len(data) < HEADER_BYTES or bytes(data[:4]) != MAGIC:
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
    expected = wire_size(profile, kind)
    if len(data) != expected:
        raise MalformedCiphertext(f"ciphertext has {len(data)} bytes, wanted exactly {expected}")
    own = bytes(data)  # a caller's buffer could change after the check below
    flat = np.frombuffer(own, dtype="<u4", offset=HEADER_BYTES)
    residues = flat.reshape(COMPONENTS, level, profile.degree)
    primes = np.array(profile.data_primes[:level], dtype=np.uint32)
    if not bool((residues < primes[None, :, None]).all()):
        raise MalformedCiphertext("ciphertext holds a residue that is not below its prime")
    return Ciphertext(profile, kind, np.ascontiguousarray(residues, dtype=np.uint32))
