"""Ed25519 identities and DSSE-style envelopes.

What is signed is the pre-authentication encoding of the DSSE specification,
``"DSSEv1" SP len(type) SP type SP len(payload) SP payload``, so a signature for one payload type
is worthless for another.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused


@dataclass(frozen=True, slots=True)
class Signature:
    """``public_key``: 32 raw bytes; ``signature``: 64 bytes."""

    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload with its type and the signatures over both."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def payload_sha256(self) -> str:
        """Return the hex SHA-256 of the payload: the name of the statement opened from it."""
        return hashlib.sha256(self.payload).hexdigest()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed (DSSE protocol, version 1)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


class Identity:
    """An Ed25519 key pair that signs statements. Never shows its key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: bytes = key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"Identity({self.public_key.hex()[:16]}...)"

    @classmethod
    def generate(cls) -> Identity:
        """Make a new identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read an unencrypted PKCS #8 PEM file.

        Raises
        ------
        InvalidInput
            The file is missing or is not an Ed25519 private key.
        """
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise InvalidInput(f"cannot read the identity file {path.name}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput(f"{path.name} is not an Ed25519 identity")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write PKCS #8 PEM, readable by the owner only; never overwrites."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message``; callers separate domains."""
        return self._key.sign(message)

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """Return ``payload`` in an envelope with one signature."""
        signature = self.sign_bytes(pre_authentication_encoding(payload_type, payload))
        return Envelope(payload_type, payload, (Signature(self.public_key, signature),))


def verify_bytes(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether ``signature`` is the key's over ``message``; False for malformed keys too."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def signers_of(envelope: Envelope, members: Iterable[bytes]) -> frozenset[bytes]:
    """Return those of these members whose signature in an envelope is valid."""
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    known = frozenset(members)
    return frozenset(
        entry.public_key
        for entry in envelope.signatures
        if entry.public_key in known and verify_bytes(entry.public_key, entry.signature, message)
    )


def open_envelope(envelope: Envelope, payload_type: str, signer: bytes) -> bytes:
    """Return the payload after checking type and the signature of ``signer``.

    Raises
    ------
    Damaged
        Another payload type.
    PermissionRefused
        No valid signature by ``signer``.
    """
    if envelope.payload_type != payload_type:
        raise Damaged(f"statement is not a {payload_type}")
    message = pre_authentication_encoding(payload_type, envelope.payload)
    for entry in envelope.signatures:
        if entry.public_key == signer and verify_bytes(signer, entry.signature, message):
            return envelope.payload
    raise PermissionRefused("the statement is not signed by the expected key")
