"""What the members of a re-sharing agree on: which shares become which, and whose."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import ClassVar, Final, Self

from underseal_auditor.keys.ceremony_file import (
    MAX_FILE_BYTES,
    MemberKeys,
    member_from,
    typed,
)
from underseal_auditor.keys.messages import Round
from underseal_core.bundle import PublicBundle
from underseal_core.canonical import canonical_json
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.quorum import check_quorum
from underseal_core.roster import Roster
from underseal_core.scheme.profiles import Profile, profile_named

_DOMAIN: Final = b"underseal/v1/resharing-file\x00"
_FIELDS: Final = frozenset(
    {"dealers", "dimension", "generation", "key_epoch", "members", "previous", "profile",
     "threshold"}
)  # fmt: skip


class ResharingRound(IntEnum):
    """What is sent in each round; numbers as in a ceremony's round of the same kind."""

    NONCE = Round.NONCE
    DEALING = Round.CONTRIBUTION
    DUMMY_SEARCH = Round.DUMMY_SEARCH
    PARTIAL_DECRYPTION = Round.PARTIAL_DECRYPTION
    SIGNATURE = Round.SIGNATURE


@dataclass(frozen=True)
class ResharingFile:
    """A re-sharing: ``dealers``, members before and after, deal their shares anew to ``members``.

    ``epoch``: the key epoch's id; ``generation``: number of the new shares, ``previous`` the hash
    that names the old ones (see :class:`underseal_core.roster.Generation`).

    Raises
    ------
    InvalidInput
        Not a re-sharing that could be held.
    """

    profile: Profile
    dimension: int
    threshold: int
    epoch: str
    generation: int
    previous: str
    members: tuple[MemberKeys, ...]
    dealers: tuple[int, ...]

    rounds: ClassVar[type[ResharingRound]] = ResharingRound

    def __post_init__(self) -> None:
        """Check members and dealers."""
        count = len(self.members)
        check_quorum(self.threshold, count)
        sound = (
            self.threshold >= 2
            and self.generation >= 1
            and len(self.dealers) == self.threshold
            and list(self.dealers) == sorted(set(self.dealers))
            and all(1 <= point <= count for point in self.dealers)
            and len(set(self.signing_keys)) == count
        )
        if not sound:
            raise InvalidInput("the file describes no possible re-sharing")

    @classmethod
    def plan(
        cls, bundle: PublicBundle, roster: Roster, members: tuple[MemberKeys, ...]
    ) -> ResharingFile:
        """Return the re-sharing from today's members to these.

        Raises
        ------
        InvalidInput
            Not as many members as today, fewer than k of today's, or k is 1: then every share is
            the key itself, and dealing it anew would change nothing.
        """
        if roster.threshold == 1:
            raise InvalidInput(
                "with a threshold of 1 every share is the key itself",
                hint="old shares stay good whatever is dealt: make a new key epoch instead",
            )
        if len(members) != len(roster.members):
            raise InvalidInput(
                f"{len(roster.members)} members' cards are needed, got {len(members)}",
                hint="the key epoch fixes the number of members",
            )
        stay = [
            point
            for point, (new, old) in enumerate(zip(members, roster.members, strict=True), start=1)
            if new.signing == old
        ]
        if len(stay) < roster.threshold:
            raise InvalidInput(
                f"{len(stay)} members keep their places; {roster.threshold} are needed to deal",
                hint="give the cards in the order of the points; replace fewer at a time",
            )
        return cls(
            profile=bundle.profile,
            dimension=bundle.dimension,
            threshold=roster.threshold,
            epoch=roster.epoch,
            generation=roster.generation.number + 1,
            previous=roster.generation.sha256,
            members=members,
            dealers=tuple(stay[: roster.threshold]),
        )

    def check_follows(self, bundle: PublicBundle, roster: Roster) -> None:
        """Check that this is a re-sharing of these keys, from their newest generation on.

        Raises
        ------
        Mismatch
            It is of other keys, or of an earlier generation.
        InvalidInput
            A dealer is not the member of today at its point.
        """
        epoch = (self.epoch, self.profile, self.dimension, self.threshold, len(self.members))
        count = len(roster.members)
        if epoch != (roster.epoch, bundle.profile, bundle.dimension, roster.threshold, count):
            raise Mismatch("the re-sharing is of other keys than the bundle")
        generation = roster.generation
        if (self.generation, self.previous) != (generation.number + 1, generation.sha256):
            raise Mismatch(
                f"the re-sharing is to make generation {self.generation}, "
                f"and the newest one here is {generation.number}",
                hint="plan it again with today's file of successions",
            )
        keys = self.signing_keys
        if any(keys[point - 1] != roster.members[point - 1] for point in self.dealers):
            raise InvalidInput("a dealer is no member of today", hint="plan the re-sharing again")

    def replaced(self, roster: Roster) -> tuple[int, ...]:
        """Return the points whose member changes."""
        pairs = enumerate(zip(self.signing_keys, roster.members, strict=True), start=1)
        return tuple(point for point, (new, old) in pairs if new != old)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form (RFC 8785)."""
        return hashlib.sha256(_DOMAIN + self.to_bytes()).digest()

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The new members' Ed25519 keys, in order."""
        return tuple(member.signing for member in self.members)

    def to_bytes(self) -> bytes:
        """Return the canonical form; the exact inverse of :meth:`parse`."""
        return canonical_json(
            {
                "dealers": list(self.dealers),
                "dimension": self.dimension,
                "generation": self.generation,
                "key_epoch": self.epoch,
                "members": [
                    {"sealing": member.sealing.raw.hex(), "signing": member.signing.hex()}
                    for member in self.members
                ],
                "previous": self.previous,
                "profile": self.profile.name,
                "threshold": self.threshold,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse what :meth:`to_bytes` returned.

        Raises
        ------
        InvalidInput
            Not a re-sharing's file, an impossible one, or not in canonical form.
        """
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput("the re-sharing's file is too long")
        try:
            fields = json.loads(data)
            if fields.keys() != _FIELDS:
                raise ValueError
            file = cls(
                profile=profile_named(typed(fields["profile"], str)),
                dimension=typed(fields["dimension"], int),
                threshold=typed(fields["threshold"], int),
                epoch=typed(fields["key_epoch"], str),
                generation=typed(fields["generation"], int),
                previous=typed(fields["previous"], str),
                members=tuple(member_from(entry) for entry in typed(fields["members"], list)),
                dealers=tuple(typed(point, int) for point in typed(fields["dealers"], list)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput("not a re-sharing's file") from error
        if file.to_bytes() != data:
            raise InvalidInput("the re-sharing's file is not in its canonical form")
        return file
