"""Opening ciphertexts by k members elsewhere: what each does, and how the answers are combined.

For an active set that is fixed first, each member commits to encryptions of zero, one for every
ciphertext, then reveals them given all commitments, then answers on the sum. Commitments are
signed, so that whoever carries the messages cannot choose an encryption of zero after it saw
another. Nobody but the caller of :meth:`MemberOpening.answer` keeps the rule that a ciphertext is
answered once, ever.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_auditor.keys.decryption import (
    OPENABLE,
    encrypt_zero,
    partial_decryption,
    rerandomise,
)
from underseal_auditor.keys.sampling import SecretStream
from underseal_core.errors import Damaged, InvalidInput, Mismatch, UndersealError
from underseal_core.scheme.ciphertext import COMPONENTS
from underseal_core.scheme.fields import FieldReader, pack_residues, residues_size
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.roster import Roster
    from underseal_core.scheme.ciphertext import Ciphertext, Residues
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Identity

SALT_BYTES: Final = 32
_COMMITMENT_DOMAIN: Final = b"underseal/v1/opening-commitment\x00"
_SIGNATURE_DOMAIN: Final = b"underseal/v1/opening-commitment-signature\x00"


class OpeningFailed(Damaged):
    """A member's message in an opening is wrong. Nothing was opened."""


class OpeningOutOfTurn(UndersealError):
    """A step of an opening was asked for before the one that it follows, or twice."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What is opened, and by whom: bound into every commitment.

    ``roster``: who holds the shares of the bundle's key now; ``subject``: 32 bytes that name the
    request and its result; ``active``: points, ascending.

    Raises
    ------
    InvalidInput
        Not exactly as many members as the threshold, or impossible ones.
    """

    bundle: PublicBundle
    roster: Roster
    subject: bytes
    active: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the active set."""
        members = len(self.roster.members)
        sound = (
            len(self.active) == self.roster.threshold
            and list(self.active) == sorted(set(self.active))
            and all(1 <= point <= members for point in self.active)
        )
        if not sound:
            raise InvalidInput(f"exactly {self.roster.threshold} members open, in order")

    def digest(self) -> bytes:
        """Return the hash of everything."""
        generation = bytes.fromhex(self.roster.generation.sha256)
        head = bytes.fromhex(self.bundle.epoch) + generation + self.subject
        return hashlib.sha256(head + bytes((len(self.active), *self.active))).digest()


@dataclass(frozen=True, slots=True)
class ZeroCommitment:
    """A member's signed commitment to its encryptions of zero: 32 and 64 bytes."""

    point: int
    digest: bytes
    signature: bytes


def commitment_digest(occasion: Occasion, point: int, zeros: bytes) -> bytes:
    """Return the commitment to a member's salt and encryptions of zero."""
    head = _COMMITMENT_DOMAIN + occasion.digest() + bytes((point,))
    return hashlib.sha256(head + zeros).digest()


def check_commitments(occasion: Occasion, commitments: Sequence[ZeroCommitment]) -> None:
    """Check that there is one commitment of every active member, signed by it.

    Raises
    ------
    OpeningFailed
        One is missing, superfluous or not signed by its member.
    """
    if tuple(commitment.point for commitment in commitments) != occasion.active:
        raise OpeningFailed("an opening needs one commitment of every active member")
    for commitment in commitments:
        key = occasion.roster.members[commitment.point - 1]
        message = _signed(occasion, commitment.point, commitment.digest)
        if not verify_bytes(key, commitment.signature, message):
            raise OpeningFailed(f"the commitment of member {commitment.point} is not signed by it")


def zeros_size(profile: Profile, ciphertexts: Sequence[Ciphertext]) -> int:
    """Exact number of bytes of a member's salt and encryptions of zero."""
    sizes = (residues_size(profile, ciphertext.residues.shape[1]) for ciphertext in ciphertexts)
    return SALT_BYTES + COMPONENTS * sum(sizes)


def mask_all(
    occasion: Occasion,
    ciphertexts: Sequence[Ciphertext],
    commitments: Sequence[ZeroCommitment],
    revealed: Mapping[int, bytes],
) -> tuple[Ciphertext, ...]:
    """Return the ciphertexts as re-randomised by all active members.

    Raises
    ------
    OpeningFailed
        A member revealed something else than it committed to, or no encryptions of zero.
    """
    if tuple(sorted(revealed)) != occasion.active:
        raise OpeningFailed("an opening needs the encryptions of zero of every active member")
    parsed = []
    for commitment in commitments:
        zeros = revealed[commitment.point]
        if commitment_digest(occasion, commitment.point, zeros) != commitment.digest:
            raise OpeningFailed(
                f"member {commitment.point} revealed something else than it committed to"
            )
        try:
            parsed.append(_parse(zeros, ciphertexts))
        except InvalidInput as error:
            raise OpeningFailed(f"the message of member {commitment.point} is malformed") from error
    return tuple(
        rerandomise(ciphertext, [zeros[index] for zeros in parsed])
        for index, ciphertext in enumerate(ciphertexts)
    )


class MemberOpening:
    """One active member's side of one opening.

    Parameters
    ----------
    ciphertexts
        Everything that may be opened on this occasion, in an order that all know.

    Raises
    ------
    InvalidInput
        This member is not active, or a ciphertext is of a kind that is never opened.
    Mismatch
        A ciphertext is of another profile, or the share of another generation.
    """

    def __init__(
        self,
        share: Share,
        identity: Identity,
        occasion: Occasion,
        ciphertexts: Sequence[Ciphertext],
    ) -> None:
        if share.point not in occasion.active:
            raise InvalidInput(f"member {share.point} is not active in this opening")
        if share.generation != occasion.roster.generation:
            raise Mismatch("the key share is of another generation than the opening")
        if any(ciphertext.kind not in OPENABLE for ciphertext in ciphertexts):
            raise InvalidInput("a ciphertext of this kind is never opened")
        if any(ciphertext.profile != occasion.bundle.profile for ciphertext in ciphertexts):
            raise Mismatch("a ciphertext is of another profile than the keys")
        self._share = share
        self._occasion = occasion
        self._ciphertexts = tuple(ciphertexts)
        self._stream = SecretStream()
        self._zeros = self._make_zeros()
        self._commitments: tuple[ZeroCommitment, ...] | None = None
        self._masked: tuple[Ciphertext, ...] | None = None
        self._salts: dict[int, bytes] = {}
        self._answered: set[int] = set()
        digest = commitment_digest(occasion, share.point, self._zeros)
        signature = identity.sign_bytes(_signed(occasion, share.point, digest))
        self.commitment = ZeroCommitment(share.point, digest, signature)

    def reveal(self, commitments: Sequence[ZeroCommitment]) -> bytes:
        """Return salt and encryptions of zero, given all commitments.

        Raises
        ------
        OpeningOutOfTurn
            Revealed before.
        OpeningFailed
            A commitment is missing or forged.
        """
        if self._commitments is not None:
            raise OpeningOutOfTurn("the encryptions of zero were revealed before")
        check_commitments(self._occasion, commitments)
        if self.commitment not in commitments:
            raise OpeningFailed(f"the commitment of member {self._share.point} was changed")
        self._commitments = tuple(commitments)
        return self._zeros

    def take(self, revealed: Mapping[int, bytes]) -> None:
        """Take in what the other active members revealed.

        Raises
        ------
        OpeningOutOfTurn
            Not revealed yet, or taken before.
        OpeningFailed
            See :func:`mask_all`.
        """
        if self._commitments is None or self._masked is not None:
            raise OpeningOutOfTurn("encryptions of zero are taken once, after the own are shown")
        everyone = {**revealed, self._share.point: self._zeros}
        self._masked = mask_all(self._occasion, self._ciphertexts, self._commitments, everyone)
        self._salts = {point: zeros[:SALT_BYTES] for point, zeros in everyone.items()}

    @property
    def salts(self) -> dict[int, bytes]:
        """Every active member's salt: random, and committed to before another's was seen.

        Raises
        ------
        OpeningOutOfTurn
            Before :meth:`take`.
        """
        if not self._salts:
            raise OpeningOutOfTurn("salts are known after all zeros were taken")
        return dict(self._salts)

    def answer(self, index: int, sigma: float) -> Residues:
        """Return the masked and noised partial decryption of a ciphertext, once.

        Parameters
        ----------
        sigma
            Standard deviation of the combined noise, in units of the opened value.

        Raises
        ------
        OpeningOutOfTurn
            Before :meth:`take`, or a second time.
        InvalidInput
            No such ciphertext, or noise out of range.
        """
        if self._masked is None or index in self._answered:
            raise OpeningOutOfTurn("a ciphertext is answered once, after all zeros were taken")
        if not 0 <= index < len(self._masked):
            raise InvalidInput("the opening has no such ciphertext")
        self._answered.add(index)
        occasion = self._occasion
        return partial_decryption(
            self._share,
            occasion.active,
            self._masked[index],
            occasion.bundle.dimension,
            sigma,
            self._stream,
        )

    def _make_zeros(self) -> bytes:
        bundle = self._occasion.bundle
        parts = [secrets.token_bytes(SALT_BYTES)]
        for ciphertext in self._ciphertexts:
            level = ciphertext.residues.shape[1]
            zero = encrypt_zero(bundle.public_key, bundle.profile, level, self._stream)
            parts.append(pack_residues(bundle.profile, [zero]))
        return b"".join(parts)


def parse_answer(data: bytes, ciphertext: Ciphertext) -> Residues:
    """Parse a partial decryption, ``(level, degree)``.

    Raises
    ------
    InvalidInput
        Wrong length, or a residue that is not below its prime.
    """
    level, degree = ciphertext.residues.shape[1:]
    reader = FieldReader(data)
    answer = reader.residues(ciphertext.profile.data_primes[:level], (level, degree))
    reader.finish()
    return answer


def _parse(zeros: bytes, ciphertexts: Sequence[Ciphertext]) -> list[Residues]:
    reader = FieldReader(zeros)
    reader.take(SALT_BYTES)
    parsed = []
    for ciphertext in ciphertexts:
        level = ciphertext.residues.shape[1]
        primes = ciphertext.profile.data_primes[:level]
        zero = reader.residues(primes, ciphertext.residues.shape)
        if not np.any(zero):
            raise InvalidInput("an encryption of zero is empty")
        parsed.append(zero)
    reader.finish()
    return parsed


def _signed(occasion: Occasion, point: int, digest: bytes) -> bytes:
    return _SIGNATURE_DOMAIN + occasion.digest() + bytes((point,)) + digest
