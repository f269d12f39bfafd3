"""The ceremony file: what all members agree on before the first round."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from math import comb
from typing import ClassVar, Final, Self, TypeVar

from underseal_auditor.keys.messages import Round
from underseal_core.bundle import MAX_MEMBERS
from underseal_core.canonical import canonical_json
from underseal_core.errors import InvalidInput
from underseal_core.labels import SealingKey
from underseal_core.quorum import check_quorum
from underseal_core.scheme.profiles import Profile, profile_named, require_dimension

T = TypeVar("T")

MAX_FILE_BYTES: Final = 1 << 18
"""32 members take 88 kB: bounds the parser's work."""
SIGNING_KEY_BYTES: Final = 32
MAX_SUBSETS: Final = 1000
"""The known-answer test opens a ciphertext with every k-subset of the members."""
_DOMAIN: Final = b"underseal/v1/ceremony-file\x00"


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """A member's public keys: Ed25519 (32 bytes) and the one that shares are sealed to."""

    signing: bytes
    sealing: SealingKey


@dataclass(frozen=True)
class CeremonyFile:
    """Parameters and members. Member ``i`` (from 1) has the Shamir point ``i``.

    ``dimension`` is a power of two; ``label_key`` is the registrar's.

    Raises
    ------
    InvalidInput
        Impossible threshold or dimension, a member twice, or too many subsets to test.
    """

    rounds: ClassVar[type[Round]] = Round

    profile: Profile
    dimension: int
    threshold: int
    members: tuple[MemberKeys, ...]
    label_key: SealingKey

    def __post_init__(self) -> None:
        """Check the parameters."""
        count = len(self.members)
        if count > MAX_MEMBERS:
            raise InvalidInput(f"{count} members are more than {MAX_MEMBERS}")
        check_quorum(self.threshold, count)
        if comb(count, self.threshold) > MAX_SUBSETS:
            raise InvalidInput(
                f"{count} members have too many groups of {self.threshold} to test each",
                hint=f"choose members and threshold with at most {MAX_SUBSETS} groups",
            )
        require_dimension(self.dimension)
        if len({member.signing for member in self.members}) != count:
            raise InvalidInput("the ceremony file names a member twice")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form (RFC 8785)."""
        return hashlib.sha256(_DOMAIN + self.to_bytes()).digest()

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The members' Ed25519 keys, in order."""
        return tuple(member.signing for member in self.members)

    @property
    def dealers(self) -> tuple[int, ...]:
        """All points: every member deals its secret."""
        return tuple(range(1, len(self.members) + 1))

    def to_bytes(self) -> bytes:
        """Return the canonical form; the exact inverse of :meth:`parse`."""
        return canonical_json(
            {
                "dimension": self.dimension,
                "label_key": self.label_key.raw.hex(),
                "members": [
                    {"sealing": member.sealing.raw.hex(), "signing": member.signing.hex()}
                    for member in self.members
                ],
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
            Not a ceremony file, an impossible one, or not in canonical form.
        """
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput("the ceremony file is too long")
        try:
            fields = json.loads(data)
            file = cls(
                profile=profile_named(typed(fields["profile"], str)),
                dimension=typed(fields["dimension"], int),
                threshold=typed(fields["threshold"], int),
                members=tuple(member_from(entry) for entry in typed(fields["members"], list)),
                label_key=SealingKey(bytes.fromhex(fields["label_key"])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput("not a ceremony file") from error
        if file.to_bytes() != data:
            raise InvalidInput("the ceremony file is not in its canonical form")
        return file


def member_from(entry: dict[str, str]) -> MemberKeys:
    """Return a member's keys from an entry of the file; ValueError and the like if it is none."""
    signing = bytes.fromhex(entry["signing"])
    if len(signing) != SIGNING_KEY_BYTES:
        raise ValueError
    return MemberKeys(signing, SealingKey(bytes.fromhex(entry["sealing"])))


def typed(value: object, kind: type[T]) -> T:
    """Return a value of exactly this type; TypeError otherwise."""
    if type(value) is not kind:
        raise TypeError
    return value
