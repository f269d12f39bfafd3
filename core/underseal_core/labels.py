"""Sealed labels: HPKE to the registrar, stored by the server unread.

RFC 9180 in base mode with ML-KEM-768 + X25519, HKDF-SHA256 and AES-256-GCM, so that a recorded
database stays closed to a later quantum computer. Labels are padded to whole multiples of
``PADDING_BYTES`` before sealing: the server learns a length class and no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from underseal_core.errors import Damaged, InvalidInput

PADDING_BYTES: Final = 256
MAX_LABEL_BYTES: Final = 4096
PUBLIC_KEY_BYTES: Final = 1184 + 32
PRIVATE_KEY_BYTES: Final = 64 + 32
SEALING_OVERHEAD_BYTES: Final = 1088 + 32 + 16
"""ML-KEM-768 ciphertext, X25519 point, AES-GCM tag."""

_DOMAIN: Final = b"underseal/v1/label\x00"
_MLKEM_PUBLIC_BYTES: Final = 1184
_MLKEM_SEED_BYTES: Final = 64
_END: Final = b"\x80"
_SUITE: Final = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """Public half: ML-KEM-768 encapsulation key (1184 bytes), then X25519 point (32 bytes)."""

    raw: bytes
    _key: hpke.MLKEM768X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check length and both parts.

        Raises
        ------
        InvalidInput
            Not a public key.
        """
        object.__setattr__(self, "_key", self._parse())

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """Seal any bytes; ``info`` must be repeated to open them."""
        return bytes(_SUITE.encrypt(plaintext, self._key, info=info))

    def _parse(self) -> hpke.MLKEM768X25519PublicKey:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise InvalidInput(f"a label key has {PUBLIC_KEY_BYTES} bytes, not {len(self.raw)}")
        try:
            lattice = MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_PUBLIC_BYTES])
            curve = X25519PublicKey.from_public_bytes(self.raw[_MLKEM_PUBLIC_BYTES:])
            X25519PrivateKey.generate().exchange(curve)  # refuses a point of small order
        except ValueError:
            raise InvalidInput("not a label key") from None
        return hpke.MLKEM768X25519PublicKey(lattice, curve)


class OpeningKey:
    """Private half. Never shows its key."""

    def __init__(self, lattice: MLKEM768PrivateKey, curve: X25519PrivateKey) -> None:
        self._lattice = lattice
        self._curve = curve
        self._key = hpke.MLKEM768X25519PrivateKey(lattice, curve)
        self.public = SealingKey(
            lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        )

    def __repr__(self) -> str:
        return f"OpeningKey(public={self.public.raw[:8].hex()}...)"

    @classmethod
    def generate(cls) -> Self:
        """Make a new key pair from the operating system's randomness."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_secret_bytes(cls, secret: bytes) -> Self:
        """Rebuild the key from :meth:`to_secret_bytes`.

        Raises
        ------
        InvalidInput
            Wrong length.
        """
        if len(secret) != PRIVATE_KEY_BYTES:
            raise InvalidInput("not a label key's private half")
        lattice = MLKEM768PrivateKey.from_seed_bytes(secret[:_MLKEM_SEED_BYTES])
        return cls(lattice, X25519PrivateKey.from_private_bytes(secret[_MLKEM_SEED_BYTES:]))

    def to_secret_bytes(self) -> bytes:
        """Return ML-KEM seed (64 bytes) and X25519 scalar (32 bytes): for a sealed file only."""
        return self._lattice.private_bytes_raw() + self._curve.private_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Open what :meth:`SealingKey.seal` sealed with the same ``info``.

        Raises
        ------
        Damaged
            Changed bytes, another ``info`` or another recipient.
        """
        try:
            return bytes(_SUITE.decrypt(sealed, self._key, info=info))
        except (InvalidTag, ValueError):
            raise Damaged("sealed bytes do not open under this key") from None


def label_context(gallery: str, template_id: bytes) -> bytes:
    """Return what binds a label to its template; gallery names hold no zero byte.

    A label moved to another template or gallery does not open.
    """
    return gallery.encode() + b"\x00" + template_id


def seal_label(key: SealingKey, label: bytes, context: bytes) -> bytes:
    """Seal one label of at most ``MAX_LABEL_BYTES``, bound to ``context``.

    Raises
    ------
    InvalidInput
        The label is too long.
    """
    if len(label) > MAX_LABEL_BYTES:
        raise InvalidInput(f"a label has at most {MAX_LABEL_BYTES} bytes, this one {len(label)}")
    padding = -(len(label) + 1) % PADDING_BYTES
    return key.seal(label + _END + bytes(padding), _DOMAIN + context)


def open_label(key: OpeningKey, sealed: bytes, context: bytes) -> bytes:
    """Open one label.

    Raises
    ------
    Damaged
        Changed bytes, another context or key, or padding that no sealer makes.
    """
    padded = key.open(sealed, _DOMAIN + context)
    label, end, padding = padded.rpartition(_END)
    if not end or any(padding) or len(padded) % PADDING_BYTES or len(label) > MAX_LABEL_BYTES:
        raise Damaged("a sealed label holds something else")
    return label
