"""What the members of a protocol in rounds agree on before the first one.

A key ceremony is such a protocol, and so is the making of a switching key. Rounds, journal, and the
service through which members fetch each other's messages know no more of them than this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from enum import IntEnum


class Assembly(Protocol):
    """A file that all members hold, byte for byte the same.

    ``digest``: 32 bytes, names it and with it the protocol; ``signing_keys``: the members' Ed25519
    keys, member ``i`` (from 1) at index ``i - 1``; ``rounds``: numbered from 1.
    """

    @property
    def digest(self) -> bytes:
        """See the class."""
        ...

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """See the class."""
        ...

    @property
    def rounds(self) -> type[IntEnum]:
        """See the class."""
        ...

    def to_bytes(self) -> bytes:
        """Return the canonical form."""
        ...


def point_of(assembly: Assembly, signing: bytes) -> int:
    """Return the point of the member with this Ed25519 key.

    Raises
    ------
    InvalidInput
        There is none.
    """
    keys = assembly.signing_keys
    if signing not in keys:
        raise InvalidInput("the file that the members agreed on does not name this identity")
    return keys.index(signing) + 1
