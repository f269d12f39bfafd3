"""A participant's credentials: TLS certificate, authority and signing identity in one folder.

ca.crt        the authority that the other side's certificate must come from
tls.crt       own certificate; its URI name is underseal://ROLE/NAME?key=ED25519_HEX
tls.key       its private key
identity.pem  Ed25519 key for statements; its public half is in the certificate's name
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from underseal_core.errors import InvalidInput, PermissionRefused
from underseal_core.signing import Identity

_PEER_URI = re.compile(
    r"^underseal://(?P<role>[a-z]+)/(?P<name>[a-z0-9][a-z0-9._-]{0,62})\?key=(?P<key>[0-9a-f]{64})$"
)


class Role(StrEnum):
    """What a certificate entitles to."""

    CLIENT = "client"
    SERVER = "server"
    AUDITOR = "auditor"
    OPERATOR = "operator"
    APPROVER = "approver"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other side of a connection. ``key``: raw Ed25519 public key, 32 bytes."""

    role: Role
    name: str
    key: bytes

    def uri(self) -> str:
        """Return the certificate's URI name."""
        return f"underseal://{self.role}/{self.name}?key={self.key.hex()}"

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """Parse a certificate's URI name.

        Raises
        ------
        PermissionRefused
            Not an Underseal name, or an unknown role.
        """
        match = _PEER_URI.fullmatch(uri)
        if match is None or match["role"] not in set(Role):
            raise PermissionRefused("the certificate does not name an Underseal role")
        return cls(Role(match["role"]), match["name"], bytes.fromhex(match["key"]))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The folder's content. Private parts stay out of ``repr``."""

    authority: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    identity: Identity

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the four files.

        Raises
        ------
        InvalidInput
            One of them is missing or unreadable.
        """
        try:
            return cls(
                authority=(folder / "ca.crt").read_bytes(),
                certificate=(folder / "tls.crt").read_bytes(),
                private_key=(folder / "tls.key").read_bytes(),
                identity=Identity.load(folder / "identity.pem"),
            )
        except OSError as error:
            raise InvalidInput(
                f"cannot read {Path(str(error.filename)).name} of the credentials",
                hint="the folder must hold ca.crt, tls.crt, tls.key and identity.pem",
            ) from error
