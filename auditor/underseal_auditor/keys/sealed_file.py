"""Secrets at rest: Argon2id, then AES-256-GCM, in a file that only its owner can read.

    magic "USS1" | u32 header length | header | ciphertext and tag

The header is canonical JSON (RFC 8785): what is inside (``kind``, ``about``), the parameters of
the derivation, salt and nonce. It is public, and authenticated together with magic and length as
the additional data of the encryption.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from underseal_core.canonical import canonical_json
from underseal_core.durable import create_file
from underseal_core.errors import Damaged, InvalidInput, NotFound, PermissionRefused, StorageFull

MAGIC: Final = b"USS1"
SHORTEST_PASSPHRASE: Final = 12
"""Characters: whoever has a file may guess as long as he likes."""

_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_LENGTH_BYTES: Final = 4
_MAX_HEADER_BYTES: Final = 4096
_MAX_FILE_BYTES: Final = 1 << 24


class WrongPassphrase(PermissionRefused):
    """The passphrase does not open the file, or the file was changed. Try again."""


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """Parameters of Argon2id (RFC 9106).

    Bounded by 256 MiB, 16 passes and 4 lanes, so that a hostile file cannot exhaust us.

    Raises
    ------
    InvalidInput
        Out of bounds.
    """

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 1

    def __post_init__(self) -> None:
        """Check the bounds."""
        bounded = (
            8 * self.lanes <= self.memory_kib <= 1 << 18
            and 1 <= self.passes <= 16
            and 1 <= self.lanes <= 4
        )
        if not bounded:
            raise InvalidInput("the parameters of the key derivation are out of bounds")


@dataclass(frozen=True, slots=True)
class SealedContent:
    """An opened file: public facts ``about`` the secret, and the secret."""

    about: dict[str, str | int]
    secret: bytes

    def __repr__(self) -> str:
        return f"SealedContent(about={self.about!r})"


def save_sealed(
    path: Path,
    kind: str,
    content: SealedContent,
    passphrase: bytes,
    cost: Argon2Cost | None = None,
) -> None:
    """Seal a secret into a new file: mode 0600, written at once or not at all, never overwritten.

    Parameters
    ----------
    kind
        What is inside; :func:`load_sealed` insists on it.
    cost
        64 MiB, three passes and one lane when left out.

    Raises
    ------
    InvalidInput
        The passphrase has less than 12 characters, or the file exists already.
    StorageFull
        The file cannot be written.
    """
    data = _seal(kind, content, passphrase, cost or Argon2Cost())
    try:
        create_file(path, data)
    except FileExistsError:
        raise InvalidInput(f"{path.name} exists already", hint="choose another name") from None
    except OSError as error:
        raise StorageFull(f"cannot write {path.name}") from error


def load_sealed(path: Path, kind: str, passphrase: bytes) -> SealedContent:
    """Open a file that :func:`save_sealed` wrote.

    Raises
    ------
    NotFound
        The file cannot be read.
    Damaged
        It is not a sealed file of this kind.
    WrongPassphrase
        It does not open: another passphrase, or a changed file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read {path.name}") from error
    header, sealed = _split(data, path.name)
    facts = _parse_header(header, kind, path.name)
    key = _derive(passphrase, facts.salt, facts.cost)
    associated = data[: len(data) - len(sealed)]
    try:
        secret = AESGCM(key).decrypt(facts.nonce, sealed, associated)
    except InvalidTag:
        raise WrongPassphrase(
            f"{path.name} does not open",
            hint="the passphrase is wrong, or the file was changed",
        ) from None
    return SealedContent(facts.about, secret)


@dataclass(frozen=True, slots=True)
class _Header:
    about: dict[str, str | int]
    cost: Argon2Cost
    salt: bytes
    nonce: bytes


def _seal(kind: str, content: SealedContent, passphrase: bytes, cost: Argon2Cost) -> bytes:
    if len(passphrase.decode(errors="replace")) < SHORTEST_PASSPHRASE:
        raise InvalidInput(
            f"the passphrase has less than {SHORTEST_PASSPHRASE} characters",
            hint="take six or more random words",
        )
    salt = os.urandom(_SALT_BYTES)
    nonce = os.urandom(_NONCE_BYTES)
    header = canonical_json(
        {
            "about": dict(content.about),
            "argon2id": asdict(cost),
            "cipher": "AES-256-GCM",
            "kind": kind,
            "nonce": nonce.hex(),
            "salt": salt.hex(),
        }
    )
    associated = MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + header
    key = _derive(passphrase, salt, cost)
    return associated + AESGCM(key).encrypt(nonce, content.secret, associated)


def _derive(passphrase: bytes, salt: bytes, cost: Argon2Cost) -> bytes:
    return Argon2id(
        salt=salt,
        length=_KEY_BYTES,
        iterations=cost.passes,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    ).derive(passphrase)


def _split(data: bytes, name: str) -> tuple[bytes, bytes]:
    start = len(MAGIC) + _LENGTH_BYTES
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    sound = (
        data.startswith(MAGIC)
        and len(data) <= _MAX_FILE_BYTES
        and length <= min(_MAX_HEADER_BYTES, len(data) - start)
    )
    if not sound:
        raise Damaged(f"{name} is not an Underseal sealed file")
    return data[start : start + length], data[start + length :]


def _parse_header(header: bytes, kind: str, name: str) -> _Header:
    try:
        fields: Any = json.loads(header)
        if fields["kind"] != kind or fields["cipher"] != "AES-256-GCM":
            raise Damaged(f"{name} is not a sealed {kind}")
        facts = _Header(
            about=_check_about(fields["about"]),
            cost=_check_cost(fields["argon2id"]),
            salt=bytes.fromhex(fields["salt"]),
            nonce=bytes.fromhex(fields["nonce"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
        raise Damaged(f"the header of {name} is damaged") from error
    if len(facts.salt) != _SALT_BYTES or len(facts.nonce) != _NONCE_BYTES:
        raise Damaged(f"the header of {name} is damaged")
    return facts


def _check_cost(cost: Any) -> Argon2Cost:
    if not isinstance(cost, dict) or not all(type(value) is int for value in cost.values()):
        raise TypeError
    return Argon2Cost(**cost)


def _check_about(about: object) -> dict[str, str | int]:
    if not isinstance(about, dict):
        raise TypeError
    if not all(type(value) in (str, int) for value in about.values()):
        raise TypeError
    return about
