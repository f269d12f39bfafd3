"""A re-sharing: k members deal their shares anew, to the same members or to others (keys.md).

    DEALING     dealer i: f_i(X) = lambda_i S_i + sum_{m=1}^{k-1} r_m X^m, r_m uniform; f_i(x_l)
                goes to l, sealed; everybody: halves of new pair secrets. S'_l = sum_i f_i(x_l)
    DUMMY_SEARCH, PARTIAL_DECRYPTION    the ceremony's known-answer test, with the new shares
    SIGNATURE   everybody has its new share on disk, and signs the succession

The sum of the f_i is a fresh polynomial with the key at 0, independent of the one before: k - 1 old
shares and k - 1 new ones say nothing together. Nobody learns another's old share, since fewer than
k members see fewer than k values of its f_i. Sources: Desmedt and Jajodia, "Redistributing secret
shares to new access structures" (1997); Herzberg, Jarecki, Krawczyk and Yung, "Proactive secret
sharing" (CRYPTO 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from underseal_auditor.keys.dealing import (
    Delivery,
    Parcels,
    seal_parcels,
    sealed_size,
    take_parcel,
)
from underseal_auditor.keys.decryption import weigh
from underseal_auditor.keys.member import Ended, Member, Phase
from underseal_auditor.keys.memory import ShortMemory
from underseal_auditor.keys.messages import CeremonyFailed, parse_all
from underseal_auditor.keys.participant import Nonces, Participant
from underseal_auditor.keys.phases import payload_size
from underseal_auditor.keys.proving import DummySearches
from underseal_auditor.keys.resharing_file import ResharingFile, ResharingRound
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.sharing import deal
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.log_entries import Succession
from underseal_core.roster import Generation
from underseal_core.scheme.fields import FieldReader
from underseal_core.signing import (
    Envelope,
    Signature,
    pre_authentication_encoding,
    verify_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from underseal_auditor.keys.memory import Memory
    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.labels import OpeningKey
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.signing import Identity


@dataclass(frozen=True, slots=True)
class Holding:
    """What a member brings to a re-sharing, and where it puts what it gets.

    ``old_share`` opens the share of the generation before; called by dealers only, who close it.
    ``keep`` puts the new one on disk for good before it returns; again with the same does nothing.
    """

    bundle: PublicBundle
    old_share: Callable[[], Share]
    keep: Callable[[Share], None]


@dataclass(frozen=True, slots=True)
class Reshared:
    """The end for one member: the succession, signed by all, and its new share."""

    succession: Envelope
    share: Share


@dataclass(frozen=True, slots=True)
class Context(Participant):
    """A member of a re-sharing."""

    file: ResharingFile
    holding: Holding


def resharing_member(
    file: ResharingFile,
    point: int,
    identity: Identity,
    opening: OpeningKey,
    holding: Holding,
    memory: Memory | None = None,
) -> Member[Reshared]:
    """Return a member at the start, or where an earlier one with its memory was.

    Parameters
    ----------
    identity, opening
        Its private keys, whose public halves are in the file.
    memory
        Of this re-sharing; left out for one that ends in this process or not at all.

    Raises
    ------
    InvalidInput
        The keys are not those at this position of the file.
    CeremonyFailed
        What is remembered contradicts itself.
    """
    if not 1 <= point <= len(file.members):
        raise InvalidInput(f"the re-sharing has no member {point}")
    keys = file.members[point - 1]
    if (keys.signing, keys.sealing) != (identity.public_key, opening.public):
        raise InvalidInput(f"these are not the keys of member {point} in the re-sharing's file")
    context = Context(file, point, identity, opening, SecretStream(), holding)
    return Member(file, point, Nonces(file, partial(Dealing, context)), memory or ShortMemory())


def resharing_payload_size(file: ResharingFile, round_: IntEnum, point: int) -> int:
    """Exact number of bytes of a member's message: bounds what is taken from it."""
    if round_ == ResharingRound.DEALING:
        size = sealed_size(file.profile, with_value=point in file.dealers)
        return len(file.members) * size
    return payload_size(file, round_, point)


class Dealing(Phase[Reshared]):
    """Dealers deal their weighted shares; everybody deals halves of new pair secrets."""

    round = ResharingRound.DEALING

    def __init__(self, context: Context, seed: bytes) -> None:
        self._context = context
        self._seed = seed

    def payload(self) -> bytes:
        """Deal."""
        context = self._context
        values = self._deal() if context.point in context.file.dealers else None
        return b"".join(seal_parcels(context.file, self._seed, context.point, values))

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Reshared]:
        """Add up what was dealt to this member."""
        context = self._context
        bundle = context.holding.bundle
        with Parcels() as parcels:
            parse_all(payloads, partial(self._parse, parcels))
            share = parcels.share(context.file, context.point)
        sign = partial(_signing, context)
        return DummySearches(context, self._seed, bundle.public_key, bundle.keys, share, sign)

    def _deal(self) -> list[Residues]:
        context = self._context
        file = context.file
        primes = file.profile.key_primes
        with context.holding.old_share() as share:
            _check_old(share, file, context.point)
            weighted = weigh(share, file.dealers, primes)
        values = deal(weighted, file.threshold, len(file.members), primes, context.stream)
        weighted.fill(0)
        return values

    def _parse(self, parcels: Parcels, sender: int, payload: bytes) -> None:
        context = self._context
        reader = FieldReader(payload)
        sealed = take_parcel(reader, context.file, sender, context.point)
        reader.finish()
        delivery = Delivery(context.file, self._seed, sender, context.point)
        parcels.open(delivery, context.opening, sealed)


class Successions(Phase[Reshared]):
    """Everyone signs that it holds its new share."""

    round = ResharingRound.SIGNATURE

    def __init__(self, context: Context, statement: Succession, share: Share) -> None:
        self._context = context
        self._statement = statement
        self._share = share

    def payload(self) -> bytes:
        """Put the share on disk, then sign."""
        context = self._context
        context.holding.keep(self._share)
        return context.identity.sign_bytes(self._message())

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Ended[Reshared]:
        """Check all signatures: from here on the old shares may go."""
        message = self._message()
        signatures = []
        for point, signature in enumerate(payloads, start=1):
            key = self._context.file.signing_keys[point - 1]
            if not verify_bytes(key, signature, message):
                raise CeremonyFailed(f"member {point} did not sign the same succession")
            signatures.append(Signature(key, signature))
        payload = self._statement.payload()
        envelope = Envelope(Succession.payload_type, payload, tuple(signatures))
        return Ended(Reshared(envelope, self._share))

    def close(self) -> None:
        """See :class:`Phase`."""
        self._share.close()

    def _message(self) -> bytes:
        return pre_authentication_encoding(Succession.payload_type, self._statement.payload())


def _signing(context: Context, share: Share, transcript: bytes) -> Successions:
    file = context.file
    statement = Succession(
        key_epoch=file.epoch,
        generation=file.generation,
        previous=file.previous,
        members=tuple(key.hex() for key in file.signing_keys),
        dealers=file.dealers,
        transcript=transcript.hex(),
    )
    generation = Generation(file.generation, statement.sha256())
    return Successions(context, statement, share.bound_to(file.epoch, generation))


def _check_old(share: Share, file: ResharingFile, point: int) -> None:
    """Check that a share is what this member is to deal.

    Raises
    ------
    Mismatch
        It is another member's, or of another epoch or generation.
    """
    generation = Generation(file.generation - 1, file.previous)
    if (share.epoch, share.point, share.generation) != (file.epoch, point, generation):
        raise Mismatch(
            "the key share is not of the generation that is to be dealt anew",
            hint="use the newest share of this member, and today's file of successions",
        )
