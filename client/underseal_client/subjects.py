"""Opaque subject ids: the server can tell that two templates are of one person, never of whom."""

from __future__ import annotations

import hmac
import os
import secrets
import unicodedata
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32
ID_BYTES: Final = 16
MAX_NAME_BYTES: Final = 200
_DOMAIN: Final = b"underseal subject v1"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The client's secret from which subject ids follow."""

    _key: bytes = field(repr=False)

    def subject_id(self, gallery: str, name: str) -> bytes:
        """Return the 16-byte id of ``name`` in ``gallery``.

        HMAC-SHA256 over both, each preceded by its length. Another gallery gives another id, so
        galleries cannot be linked by their subjects.

        Raises
        ------
        InvalidInput
            The name is empty, too long, or holds control characters.
        """
        encoded = checked_name(name).encode()
        place = gallery.encode()
        message = b"".join((_DOMAIN, _length(place), place, _length(encoded), encoded))
        return hmac.digest(self._key, message, sha256)[:ID_BYTES]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the key, or make it when the file does not exist yet (mode 0600).

        Raises
        ------
        InvalidInput
            The file cannot be read or written, or does not hold 32 bytes.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path)
            key = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"cannot use the subject key in {path}") from error
        if len(key) != KEY_BYTES:
            raise InvalidInput(
                f"{path} does not hold a subject key of {KEY_BYTES} bytes",
                hint="restore it from a backup: with another key, known people get new ids",
            )
        return cls(key)


def checked_name(name: str) -> str:
    """Return a subject's name as it goes into ids and labels: trimmed, in Unicode's form NFC.

    Raises
    ------
    InvalidInput
        It is empty, longer than 200 bytes, or holds control characters.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name.encode()) > MAX_NAME_BYTES or not name.isprintable():
        raise InvalidInput(f"a subject's name has 1..{MAX_NAME_BYTES} printable bytes")
    return name


def _length(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big")


def _create(path: Path) -> None:
    """Write a new key in full under another name, then link it into place unless one is there."""
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
    finally:
        draft.unlink()
