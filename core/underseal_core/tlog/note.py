"""Signed notes and verifier keys, c2sp.org/signed-note, with Ed25519.

Two signature types: 0x01 signs the note's text, 0x04 signs a checkpoint together with a time
(c2sp.org/tlog-cosignature, ``cosignature/v1``). Other types are unknown keys and are ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.signing import Identity, verify_bytes

MAX_NOTE = 1 << 20
MAX_SIGNATURES = 64
"""Bounds on hostile notes; the specification asks for at least 16 signatures."""


class KeyKind(IntEnum):
    """Signature type identifier bytes."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def decode_base64(text: str) -> bytes:
    """Decode standard base64, refusing anything that does not encode back to ``text``.

    Raises
    ------
    Damaged
        Not canonical base64.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Damaged("not valid base64") from error
    if base64.b64encode(data).decode() != text:
        raise Damaged("not canonical base64")
    return data


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(data).decode()


def valid_name(name: str) -> bool:
    """Tell whether ``name`` may be a key name: not empty, no space, plus or control character."""
    return bool(name) and not any(c.isspace() or c == "+" or ord(c) < 0x20 for c in name)


def cosigned_message(text: str, timestamp: int) -> bytes:
    """Return what a cosignature signs: header, time line, then the checkpoint's note text."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line. ``key_id``: 4 bytes; ``signature``: what follows them."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return the line, newline included."""
        return f"\u2014 {self.name} {encode_base64(self.key_id + self.signature)}\n"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Parse a line without its newline.

        Raises
        ------
        Damaged
            Not a signature line.
        """
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "\u2014" or not valid_name(parts[1]):
            raise Damaged("malformed signature line")
        data = decode_base64(parts[2])
        if len(data) < 5:
            raise Damaged("malformed signature line")
        return cls(parts[1], data[:4], data[4:])

    def timestamp(self) -> int:
        """Return the POSIX time of a cosignature that has been verified."""
        return int.from_bytes(self.signature[:8], "big")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A named public key; ``public_key`` is 32 bytes (RFC 8032)."""

    name: str
    public_key: bytes
    kind: KeyKind = KeyKind.ED25519

    def __post_init__(self) -> None:
        if not valid_name(self.name) or len(self.public_key) != 32:
            raise InvalidInput("a note key needs a name without spaces and plus, and 32 bytes")

    @property
    def key_id(self) -> bytes:
        """``SHA-256(name || 0x0A || type || key)[:4]``."""
        material = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return hashlib.sha256(material).digest()[:4]

    def vkey(self) -> str:
        """Return the text form, ``<name>+<hex id>+<base64 of type and key>``."""
        material = encode_base64(bytes([self.kind]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Parse the text form.

        Raises
        ------
        InvalidInput
            Not a vkey, another key type, or an id that does not belong to the key.
        """
        try:
            name, key_id, material = vkey.split("+", 2)
            data = decode_base64(material)
            key = cls(name, data[1:], KeyKind(data[0]))
        except (ValueError, IndexError, Damaged) as error:
            raise InvalidInput("not an Ed25519 verifier key") from error
        if key.key_id.hex() != key_id:
            raise InvalidInput("the verifier key's id does not match its name and key")
        return key

    def made(self, signature: NoteSignature) -> bool:
        """Tell whether the signature line claims to be by this key."""
        return (signature.name, signature.key_id) == (self.name, self.key_id)

    def verifies(self, text: str, signature: NoteSignature) -> bool:
        """Tell whether ``signature`` is this key's over the note text ``text``."""
        if not self.made(signature):
            return False
        if self.kind is KeyKind.ED25519:
            return verify_bytes(self.public_key, signature.signature, text.encode())
        if len(signature.signature) != 72 or signature.timestamp() >= 1 << 63:
            return False
        message = cosigned_message(text, signature.timestamp())
        return verify_bytes(self.public_key, signature.signature[8:], message)


@dataclass(frozen=True, slots=True)
class Note:
    """A text, ending in a newline, and signatures over it."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_bytes(self) -> bytes:
        """Return text, empty line, signature lines."""
        return (self.text + "\n" + "".join(s.line() for s in self.signatures)).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Parse a note; its text means nothing before a signature is verified.

        Raises
        ------
        Damaged
            Not a note: encoding, control characters, no signature, too long.
        """
        if len(raw) > MAX_NOTE:
            raise Damaged("the note is too long")
        try:
            whole = raw.decode()
        except UnicodeDecodeError as error:
            raise Damaged("the note is not UTF-8") from error
        if any(c < " " and c != "\n" for c in whole):
            raise Damaged("the note has control characters")
        cut = whole.rfind("\n\n")
        text, lines = whole[: cut + 1], whole[cut + 2 :].split("\n")
        if cut < 1 or len(lines) < 2 or lines.pop() != "" or len(lines) > MAX_SIGNATURES:
            raise Damaged("malformed note")
        return cls(text, tuple(NoteSignature.parse(line) for line in lines))

    def verified(self, keys: Sequence[VerifierKey]) -> dict[VerifierKey, NoteSignature]:
        """Return the first signature of each key of ``keys`` that signed this note.

        Raises
        ------
        PermissionRefused
            A line claims to be by a known key and does not verify: reject the whole note.
        """
        found: dict[VerifierKey, NoteSignature] = {}
        for signature in self.signatures:
            for key in keys:
                if not key.made(signature):
                    continue
                if not key.verifies(self.text, signature):
                    raise PermissionRefused("a signature of a known key is not valid")
                found.setdefault(key, signature)
        return found


class NoteSigner:
    """Signs notes under a name. A key serves one name and one type only."""

    def __init__(self, name: str, identity: Identity, kind: KeyKind = KeyKind.ED25519) -> None:
        self._identity = identity
        self.key = VerifierKey(name, identity.public_key, kind)

    def __repr__(self) -> str:
        return f"NoteSigner({self.key.vkey()})"

    def sign(self, text: str) -> NoteSignature:
        """Sign a note text, which must end in a newline (type 0x01)."""
        if self.key.kind is not KeyKind.ED25519 or not text.endswith("\n"):
            raise InvalidInput("this key does not sign such a note")
        return NoteSignature(
            self.key.name, self.key.key_id, self._identity.sign_bytes(text.encode())
        )

    def cosign(self, text: str, timestamp: int) -> NoteSignature:
        """Cosign a checkpoint's note text at a POSIX time in seconds (type 0x04)."""
        if self.key.kind is not KeyKind.COSIGNATURE or not 0 < timestamp < 1 << 63:
            raise InvalidInput("this key does not cosign, or the time is out of range")
        signature = self._identity.sign_bytes(cosigned_message(text, timestamp))
        return NoteSignature(
            self.key.name, self.key.key_id, timestamp.to_bytes(8, "big") + signature
        )
