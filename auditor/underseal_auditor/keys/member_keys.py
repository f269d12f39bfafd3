"""The keys that a member makes for one ceremony, sealed in a file, and their public halves.

The public halves go to whoever writes the ceremony file, as canonical JSON. The registrar's member
also makes the label key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from underseal_auditor.keys.ceremony_file import SIGNING_KEY_BYTES, MemberKeys
from underseal_auditor.keys.sealed_file import SealedContent, load_sealed, save_sealed
from underseal_core.canonical import canonical_json
from underseal_core.errors import Damaged, InvalidInput
from underseal_core.labels import PRIVATE_KEY_BYTES, OpeningKey, SealingKey

if TYPE_CHECKING:
    from pathlib import Path

KIND: Final = "ceremony keys"
MAX_CARD_BYTES: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """``opening`` opens dealt shares; ``label`` opens labels, at the registrar's member only."""

    opening: OpeningKey
    label: OpeningKey | None

    @classmethod
    def generate(cls, label: OpeningKey | None) -> Self:
        """Make a new key that opens shares, beside the registrar's label key."""
        return cls(OpeningKey.generate(), label)

    def save(self, path: Path, passphrase: bytes) -> None:
        """Write them sealed; see :func:`underseal_auditor.keys.sealed_file.save_sealed`."""
        secret = self.opening.to_secret_bytes()
        if self.label is not None:
            secret += self.label.to_secret_bytes()
        save_sealed(path, KIND, SealedContent({}, secret), passphrase)

    @classmethod
    def load(cls, path: Path, passphrase: bytes) -> Self:
        """Read what :meth:`save` wrote; errors of ``load_sealed``."""
        secret = load_sealed(path, KIND, passphrase).secret
        if len(secret) not in (PRIVATE_KEY_BYTES, 2 * PRIVATE_KEY_BYTES):
            raise Damaged(f"{path.name} does not hold a member's keys")
        label = secret[PRIVATE_KEY_BYTES:]
        return cls(
            OpeningKey.from_secret_bytes(secret[:PRIVATE_KEY_BYTES]),
            OpeningKey.from_secret_bytes(label) if label else None,
        )

    def card(self, signing: bytes) -> MemberCard:
        """Return the public halves; ``signing`` is the identity's Ed25519 key."""
        label = None if self.label is None else self.label.public
        return MemberCard(MemberKeys(signing, self.opening.public), label)


@dataclass(frozen=True, slots=True)
class MemberCard:
    """What a member hands to whoever writes the ceremony file."""

    keys: MemberKeys
    label: SealingKey | None

    def to_bytes(self) -> bytes:
        """Return canonical JSON; the inverse of :meth:`parse`."""
        fields = {
            "sealing": self.keys.sealing.raw.hex(),
            "signing": self.keys.signing.hex(),
        }
        if self.label is not None:
            fields["label"] = self.label.raw.hex()
        return canonical_json(fields)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a card.

        Raises
        ------
        InvalidInput
            Not a member's card.
        """
        try:
            if len(data) > MAX_CARD_BYTES:
                raise ValueError
            fields = json.loads(data)
            signing = bytes.fromhex(fields["signing"])
            label = fields.get("label")
            card = cls(
                MemberKeys(signing, SealingKey(bytes.fromhex(fields["sealing"]))),
                None if label is None else SealingKey(bytes.fromhex(label)),
            )
            if len(signing) != SIGNING_KEY_BYTES or card.to_bytes() != data.strip():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput("not a member's card", hint="see `ceremony prepare`") from error
        return card
