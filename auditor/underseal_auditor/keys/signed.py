"""A commitment with its sender's signature: what members take from each other over a network.

The certificate of a connection is checked by TLS; that it is this member's is not, so messages
carry a signature by the key in the ceremony file. The commitment fixes salt and payload, so its
signature covers the whole message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.messages import CeremonyFailed, Commitment
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from underseal_auditor.keys.assembly import Assembly
    from underseal_core.signing import Identity

_DOMAIN: Final = b"underseal/v1/ceremony-commitment-signature\x00"


@dataclass(frozen=True, slots=True)
class SignedCommitment:
    """``signature``: 64 bytes, by the sender."""

    commitment: Commitment
    signature: bytes

    @classmethod
    def make(cls, commitment: Commitment, file: Assembly, identity: Identity) -> SignedCommitment:
        """Sign a commitment in the protocol of this file."""
        return cls(commitment, identity.sign_bytes(_message(commitment, file)))

    def verified(self, file: Assembly) -> Commitment:
        """Return the commitment.

        Raises
        ------
        CeremonyFailed
            The member did not sign it.
        """
        sender = self.commitment.sender
        key = file.signing_keys[sender - 1]
        if not verify_bytes(key, self.signature, _message(self.commitment, file)):
            raise CeremonyFailed(
                f"the commitment of member {sender} is not signed by it",
                hint="is this the address of that member?",
            )
        return self.commitment


def _message(commitment: Commitment, file: Assembly) -> bytes:
    head = bytes((commitment.round, commitment.sender))
    return _DOMAIN + file.digest + head + commitment.digest
