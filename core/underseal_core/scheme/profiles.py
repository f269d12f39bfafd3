"""Parameter sets of the scheme. One is chosen at the key ceremony and named in every message.

Primes are what SEAL's ``CoeffModulus.Create(degree, bits)`` returns for the bit sizes in
``bits``; a test compares them with SEAL. They have at most 29 bits, so a residue fits ``uint32``
and 128 dimensions of products can be added in ``uint64`` before one reduction.

Security: ePrint 2024/463, Table 5.2, ternary secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from underseal_core.errors import InvalidInput

MAX_DIMENSION: Final = 1024
MIN_DIMENSION: Final = 2


@dataclass(frozen=True, slots=True)
class Profile:
    """One parameter set.

    A *level* is the number of data primes a ciphertext still has: fresh rows have all of them,
    the gallery ``gallery_level``, results ``result_level``. ``check_level`` is where a
    probe's norm is computed: the columns are rescaled once more where the modulus allows it, so
    that a norm far above 1 cannot wrap around the modulus.
    """

    name: str
    wire_id: int
    degree: int
    data_primes: tuple[int, ...]
    special_prime: int
    gallery_level: int
    check_level: int
    result_level: int
    probe_bits: int
    template_bits: int
    security_bits: int

    @property
    def fresh_level(self) -> int:
        """Number of data primes of a fresh row."""
        return len(self.data_primes)

    @property
    def key_primes(self) -> tuple[int, ...]:
        """Moduli of keys: the data primes, then the special one."""
        return (*self.data_primes, self.special_prime)

    def modulus(self, level: int) -> int:
        """Product of the first ``level`` data primes."""
        return prod(self.data_primes[:level])

    def dropped(self, start: int, stop: int) -> float:
        """Product of the primes that rescaling from level ``start`` to ``stop`` divides by."""
        return float(prod(self.data_primes[stop:start]))

    @property
    def probe_scale(self) -> float:
        """Scale of an expanded probe's columns at gallery level."""
        return 2.0**self.probe_bits

    @property
    def template_scale(self) -> float:
        """Scale of a block's columns at gallery level."""
        return 2.0**self.template_bits

    def row_scale(self, column_scale: float, dimension: int) -> float:
        """Scale of a fresh row whose expansion has ``column_scale`` at gallery level.

        Expansion multiplies by ``dimension``; the rescale to gallery level divides by the primes
        it drops (scheme.md section 2).
        """
        return column_scale * self.dropped(self.fresh_level, self.gallery_level) / dimension

    @property
    def result_scale(self) -> float:
        """Scale of a score at result level."""
        product = self.probe_scale * self.template_scale
        return product / self.dropped(self.gallery_level, self.result_level)

    @property
    def check_scale(self) -> float:
        """Scale of the probe's columns at check level."""
        return self.probe_scale / self.dropped(self.gallery_level, self.check_level)

    @property
    def norm_scale(self) -> float:
        """Scale of the squared norm at result level."""
        return self.check_scale**2 / self.dropped(self.check_level, self.result_level)


GUARDED: Final = Profile(
    name="guarded",
    wire_id=1,
    degree=8192,
    data_primes=(268091393, 268189697, 268238849, 268271617, 268369921),
    special_prime=536690689,
    gallery_level=4,
    check_level=3,
    result_level=2,
    probe_bits=55,
    template_bits=55,
    security_bits=128,
)
COMPACT: Final = Profile(
    name="compact",
    wire_id=2,
    degree=8192,
    data_primes=(268238849, 268271617, 268369921),
    special_prime=536690689,
    gallery_level=2,
    check_level=2,
    result_level=1,
    probe_bits=27,
    template_bits=27,
    security_bits=256,
)
SWIFT: Final = Profile(
    name="swift",
    wire_id=3,
    degree=4096,
    data_primes=(66994177, 67043329, 67084289),
    special_prime=134176769,
    gallery_level=2,
    check_level=2,
    result_level=1,
    probe_bits=25,
    template_bits=25,
    security_bits=128,
)
PROFILES: Final = {p.name: p for p in (GUARDED, COMPACT, SWIFT)}
_BY_WIRE_ID: Final = {p.wire_id: p for p in PROFILES.values()}


def profile_named(name: str) -> Profile:
    """Return the profile called ``name``.

    Raises
    ------
    InvalidInput
        No such profile.
    """
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(PROFILES)
        raise InvalidInput(f"unknown profile {name!r}", hint=f"use one of: {known}") from None


def profile_by_wire_id(wire_id: int) -> Profile:
    """Return the profile with this number in the wire format.

    Raises
    ------
    InvalidInput
        No such profile.
    """
    try:
        return _BY_WIRE_ID[wire_id]
    except KeyError:
        raise InvalidInput(f"unknown profile number {wire_id}") from None


def require_dimension(dimension: int) -> None:
    """Check that a gallery can have this dimension.

    Raises
    ------
    InvalidInput
        Not a power of two, or outside ``MIN_DIMENSION``..``MAX_DIMENSION``.
    """
    if padded_dimension(dimension) != dimension:
        raise InvalidInput(f"dimension {dimension} is not a power of two")


def padded_dimension(model_dimension: int) -> int:
    """Smallest power of two that holds a model's embedding.

    Raises
    ------
    InvalidInput
        Outside ``MIN_DIMENSION``..``MAX_DIMENSION``.
    """
    if not MIN_DIMENSION <= model_dimension <= MAX_DIMENSION:
        raise InvalidInput(
            f"dimension {model_dimension} is outside {MIN_DIMENSION}..{MAX_DIMENSION}"
        )
    return 1 << (model_dimension - 1).bit_length()
