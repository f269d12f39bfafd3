"""What a member sends in each round of the ceremony, and what it makes of all answers.

The last round yields the :class:`Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.contribution import (
    CommonPolynomials,
    Contribution,
    JointKeys,
    SecretPart,
)
from underseal_auditor.keys.dealing import (
    Delivery,
    Parcels,
    seal_parcels,
    sealed_size,
    take_parcel,
)
from underseal_auditor.keys.known_answer import subsets_with
from underseal_auditor.keys.member import Ended, Phase
from underseal_auditor.keys.messages import CeremonyFailed, OutOfTurn, Round, parse_all
from underseal_auditor.keys.participant import NONCE_BYTES, Nonces, Participant, Sharing
from underseal_auditor.keys.proving import DummySearches
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.sharing import deal
from underseal_auditor.keys.whole_share import spanning_with
from underseal_core.bundle import PublicBundle
from underseal_core.roster import Generation
from underseal_core.scheme.evaluation import galois_elements
from underseal_core.scheme.fields import FieldReader, pack_residues, residues_size
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from underseal_auditor.keys.ceremony_file import CeremonyFile
    from underseal_auditor.keys.share import Share
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.evaluation import EvaluationKeys

SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Context(Participant):
    """A member of a ceremony.

    ``secret_seed`` returns the 32 bytes that its secret comes from, the same in every life of this
    member, or None once its shares are dealt; ``forget_secret`` deletes them for good.
    """

    file: CeremonyFile
    secret_seed: Callable[[], bytes | None]
    forget_secret: Callable[[], None]

    def secret_part(self) -> SecretPart | None:
        """Return this member's secret, None once its shares are dealt."""
        seed = self.secret_seed()
        if seed is None:
            return None
        return SecretPart(self.file.profile, SecretStream(seed), self.stream)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the ceremony for one member."""

    bundle: PublicBundle
    share: Share


def first_phase(context: Context) -> Phase[Outcome]:
    """Return the ceremony's first round."""
    return Nonces(context.file, partial(Contributions, context))


def _needed(secret: SecretPart | None) -> SecretPart:
    if secret is None:
        raise OutOfTurn("this member has dealt its shares and holds no secret any more")
    return secret


def payload_size(file: Sharing, round_: IntEnum, point: int) -> int:
    """Exact number of bytes of a member's message: bounds what is taken from it."""
    profile = file.profile
    digits = profile.fresh_level
    element = residues_size(profile, digits + 1)
    masks = len(subsets_with(file, point)) * residues_size(profile, profile.result_level)
    parcels = len(file.members) * sealed_size(profile, with_value=point in file.dealers)
    rotations = len(galois_elements(profile, file.dimension))
    return {
        Round.NONCE: NONCE_BYTES,
        Round.CONTRIBUTION: element * (1 + digits * (2 + rotations)),
        Round.RELINEARISATION: element * digits + parcels,
        Round.DUMMY_SEARCH: 2 * (element + 2 * residues_size(profile, digits) + masks),
        Round.PARTIAL_DECRYPTION: masks + element * len(spanning_with(file, point)),
        Round.SIGNATURE: SIGNATURE_BYTES,
    }[Round(round_)]


class Contributions(Phase[Outcome]):
    """Parts of the public and Galois keys, and of round 1 of the relinearisation key."""

    round = Round.CONTRIBUTION

    def __init__(self, context: Context, seed: bytes) -> None:
        file = context.file
        self._context = context
        self._seed = seed
        self._common = CommonPolynomials.derive(seed, file.profile, file.dimension)
        self._secret = context.secret_part()

    def payload(self) -> bytes:
        """Mask the secret."""
        secret = _needed(self._secret)
        file = self._context.file
        return secret.contribute(self._common, file.dimension).to_bytes(file.profile)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Add up the contributions."""
        profile, dimension = self._context.file.profile, self._context.file.dimension
        parts = parse_all(
            payloads, lambda _, payload: Contribution.parse(payload, profile, dimension)
        )
        joint = JointKeys.combine(parts, self._common, profile, dimension)
        return Relinearisation(self._context, self._seed, self._secret, joint)

    def close(self) -> None:
        """See :class:`Phase`."""
        if self._secret is not None:
            self._secret.erase()


class Relinearisation(Phase[Outcome]):
    """Round 2 of the relinearisation key, and the sealed shares."""

    round = Round.RELINEARISATION

    def __init__(
        self,
        context: Context,
        seed: bytes,
        secret: SecretPart | None,
        joint: JointKeys,
    ) -> None:
        self._context = context
        self._seed = seed
        self._secret = secret
        self._joint = joint

    def payload(self) -> bytes:
        """Make both, then overwrite the secret: from here on there are only shares."""
        secret = _needed(self._secret)
        part = secret.relinearise(self._joint.first, self._joint.second)
        sealed = self._deal(secret)
        secret.erase()
        return pack_residues(self._context.file.profile, [part]) + b"".join(sealed)

    def kept(self) -> None:
        """Forget the secret: the shares that come from it are on their way."""
        self._context.forget_secret()

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Finish the relinearisation key and add up the shares dealt to this member."""
        context, public_key = self._context, self._joint.public_key
        with Parcels() as parcels:
            parts = parse_all(payloads, partial(self._parse, parcels))
            keys = self._joint.finish(parts, context.file.profile)
            share = parcels.share(context.file, context.point)

        def sign(share: Share, transcript: bytes) -> Phase[Outcome]:
            return Signatures(context, self._bundle(keys, transcript), share)

        return DummySearches(context, self._seed, public_key, keys, share, sign)

    def close(self) -> None:
        """See :class:`Phase`."""
        if self._secret is not None:
            self._secret.erase()

    def _deal(self, secret: SecretPart) -> list[bytes]:
        context = self._context
        file = context.file
        primes = file.profile.key_primes
        values = deal(secret.element, file.threshold, len(file.members), primes, context.stream)
        return seal_parcels(file, self._seed, context.point, values)

    def _bundle(self, keys: EvaluationKeys, transcript: bytes) -> PublicBundle:
        file = self._context.file
        return PublicBundle(
            profile=file.profile,
            dimension=file.dimension,
            threshold=file.threshold,
            members=tuple(member.signing for member in file.members),
            label_key=file.label_key,
            transcript=transcript,
            public_key=self._joint.public_key,
            keys=keys,
        )

    def _parse(self, parcels: Parcels, sender: int, payload: bytes) -> Residues:
        context = self._context
        file = context.file
        reader = FieldReader(payload)
        part = reader.key_residues(file.profile, (file.profile.fresh_level,))
        sealed = take_parcel(reader, file, sender, context.point)
        reader.finish()
        parcels.open(Delivery(file, self._seed, sender, context.point), context.opening, sealed)
        return part


class Signatures(Phase[Outcome]):
    """Everyone signs the key epoch, which covers the transcript."""

    round = Round.SIGNATURE

    def __init__(self, context: Context, bundle: PublicBundle, share: Share) -> None:
        self._context = context
        self._bundle = bundle
        self._share = share

    def payload(self) -> bytes:
        """Sign."""
        return self._context.identity.sign_bytes(self._bundle.signing_message())

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Ended[Outcome]:
        """Check all signatures: all members hold the same bundle and transcript."""
        message = self._bundle.signing_message()
        signers = zip(self._bundle.members, payloads, strict=True)
        for point, (member, signature) in enumerate(signers, start=1):
            if not verify_bytes(member, signature, message):
                raise CeremonyFailed(f"member {point} did not sign the same key epoch")
        bundle = replace(self._bundle, signatures=tuple(payloads))
        share = self._share.bound_to(bundle.epoch, Generation(0, bundle.epoch))
        return Ended(Outcome(bundle, share))

    def close(self) -> None:
        """See :class:`Phase`."""
        self._share.close()
