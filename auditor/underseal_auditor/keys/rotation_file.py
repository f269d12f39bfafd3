"""The rotation file: who moves which key epoch to which."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final, Self

from underseal_core.bundle import MAX_MEMBERS
from underseal_core.canonical import canonical_json
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.switching import check_successor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_core.bundle import PublicBundle
    from underseal_core.roster import Roster

MAX_FILE_BYTES: Final = 1 << 14
_DOMAIN: Final = b"underseal/v1/rotation-file\x00"


class RotationRound(IntEnum):
    """What is sent in each round, in order."""

    CONTRIBUTION = 1
    PARTIAL_DECRYPTION = 2
    SIGNATURE = 3


@dataclass(frozen=True)
class RotationFile:
    """Both key epochs, and everybody who takes part: an :class:`Assembly`.

    ``active``: points of the old members who contribute, ascending; ``holders``: their Ed25519
    keys; ``members``: those of all new members, in order. Who is both takes part once.

    Raises
    ------
    InvalidInput
        Impossible points or keys.
    """

    rounds: ClassVar[type[RotationRound]] = RotationRound

    old_epoch: str
    new_epoch: str
    active: tuple[int, ...]
    holders: tuple[bytes, ...]
    members: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Check points and keys."""
        points = self.active
        if not points or list(points) != sorted(set(points)) or points[0] < 1:
            raise InvalidInput("the old members' points are not in order")
        counts = len(self.holders) == len(points) <= MAX_MEMBERS >= len(self.members) >= 1
        sides = (self.holders, self.members)
        distinct = all(len(set(keys)) == len(keys) for keys in sides)
        if not counts or not distinct or any(len(key) != 32 for keys in sides for key in keys):
            raise InvalidInput("the rotation file's members are impossible")

    @classmethod
    def plan(
        cls, old: PublicBundle, holders: Roster, active: Sequence[int], new: PublicBundle
    ) -> Self:
        """Return the file for a rotation.

        Parameters
        ----------
        holders
            Who holds the old epoch's shares now.
        active
            Points of the old members who will contribute, as many as open the old epoch.

        Raises
        ------
        InvalidInput
            Not that many points of different members.
        Mismatch
            The new epoch cannot succeed the old one.
        """
        points = tuple(sorted(active))
        known = set(points) <= set(range(1, len(holders.members) + 1))
        if not known or len(set(points)) != len(points) or len(points) != old.threshold:
            raise InvalidInput(
                f"exactly {old.threshold} different old members make the switching key",
                hint=f"name {old.threshold} of 1..{len(holders.members)}",
            )
        check_successor(old, new)
        keys = tuple(holders.members[point - 1] for point in points)
        return cls(old.epoch, new.epoch, points, keys, new.members)

    def check(self, old: PublicBundle, holders: Roster, new: PublicBundle) -> None:
        """Check that the file is what these bundles and active members make.

        Raises
        ------
        InvalidInput, Mismatch
            It is not.
        """
        if self != RotationFile.plan(old, holders, self.active, new):
            raise Mismatch(
                "the rotation file is for other key epochs or members than the bundles'",
                hint="compare the files with the other members'",
            )

    @cached_property
    def signing_keys(self) -> tuple[bytes, ...]:
        """Everybody who takes part: the old members, then the new ones that are not among them."""
        return self.holders + tuple(key for key in self.members if key not in self.holders)

    def old_point(self, participant: int) -> int | None:
        """Return a participant's point in the old epoch; None without a contribution to make."""
        key = self.signing_keys[participant - 1]
        return self.active[self.holders.index(key)] if key in self.holders else None

    def new_point(self, participant: int) -> int | None:
        """Return a participant's point in the new epoch; None for one who leaves."""
        key = self.signing_keys[participant - 1]
        return self.members.index(key) + 1 if key in self.members else None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form (RFC 8785)."""
        return hashlib.sha256(_DOMAIN + self.to_bytes()).digest()

    def to_bytes(self) -> bytes:
        """Return the canonical form; the exact inverse of :meth:`parse`."""
        return canonical_json(
            {
                "active": list(self.active),
                "holders": [key.hex() for key in self.holders],
                "members": [key.hex() for key in self.members],
                "new_epoch": self.new_epoch,
                "old_epoch": self.old_epoch,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse what :meth:`to_bytes` returned.

        Raises
        ------
        InvalidInput
            Not a rotation file, an impossible one, or not in canonical form.
        """
        try:
            if len(data) > MAX_FILE_BYTES:
                raise ValueError
            fields = json.loads(data)
            file = cls(
                old_epoch=bytes.fromhex(fields["old_epoch"]).hex(),
                new_epoch=bytes.fromhex(fields["new_epoch"]).hex(),
                active=tuple(int(point) for point in fields["active"]),
                holders=tuple(bytes.fromhex(key) for key in fields["holders"]),
                members=tuple(bytes.fromhex(key) for key in fields["members"]),
            )
            if file.to_bytes() != data or len(file.old_epoch + file.new_epoch) != 128:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput("not a rotation file") from error
        return file
