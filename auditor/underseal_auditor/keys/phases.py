"""What a member sends in each round of the ceremony, and what it makes of all answers.

The last round yields the :class:`Outcome`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.contribution import (
    CommonPolynomials,
    Contribution,
    JointKeys,
    SecretPart,
)
from underseal_auditor.keys.dealing import Delivery, sealed_size
from underseal_auditor.keys.decryption import partial_decryption
from underseal_auditor.keys.elements import key_primes, total
from underseal_auditor.keys.known_answer import (
    SIGMA,
    DummySearch,
    DummyZeros,
    subsets,
    subsets_with,
)
from underseal_auditor.keys.member import Ended, Phase
from underseal_auditor.keys.messages import CeremonyFailed, OutOfTurn, Round
from underseal_auditor.keys.pairs import SEED_BYTES, PairSecrets, half_for
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.sharing import deal
from underseal_core.bundle import PublicBundle
from underseal_core.errors import UndersealError
from underseal_core.scheme.evaluation import galois_elements
from underseal_core.scheme.fields import FieldReader
from underseal_core.signing import verify_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum
    from typing import TypeVar

    from underseal_auditor.keys.ceremony_file import CeremonyFile
    from underseal_auditor.keys.sampling import Stream
    from underseal_core.labels import OpeningKey
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.evaluation import EvaluationKeys
    from underseal_core.signing import Identity

    T = TypeVar("T")

NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_SEED_DOMAIN: Final = b"underseal/v1/ceremony-seed\x00"
_NO_EPOCH: Final = "0" * 64
"""The share's epoch until there is one."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a member brings: the file, its point, its keys and its source of randomness.

    ``secret_seed`` returns the 32 bytes that its secret comes from, the same in every life of this
    member, or None once its shares are dealt; ``forget_secret`` deletes them for good.
    """

    file: CeremonyFile
    point: int
    identity: Identity
    opening: OpeningKey
    stream: Stream
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


def parse_all(payloads: Sequence[bytes], parse: Callable[[int, bytes], T]) -> list[T]:
    """Parse every member's message, given its point.

    Raises
    ------
    CeremonyFailed
        A message is malformed; names its sender.
    """
    parsed = []
    for point, payload in enumerate(payloads, start=1):
        try:
            parsed.append(parse(point, payload))
        except UndersealError as error:
            raise CeremonyFailed(f"the message of member {point} is malformed") from error
    return parsed


def _needed(secret: SecretPart | None) -> SecretPart:
    if secret is None:
        raise OutOfTurn("this member has dealt its shares and holds no secret any more")
    return secret


def payload_size(file: CeremonyFile, round_: IntEnum, point: int) -> int:
    """Exact number of bytes of a member's message: bounds what is taken from it."""
    profile = file.profile
    polynomial = 4 * profile.degree
    element = polynomial * len(key_primes(profile))
    digits = profile.fresh_level
    groups = len(subsets_with(file, point))
    rotations = len(galois_elements(profile, file.dimension))
    return {
        Round.NONCE: NONCE_BYTES,
        Round.CONTRIBUTION: element * (1 + digits * (2 + rotations)),
        Round.RELINEARISATION: element * digits + len(file.members) * sealed_size(profile),
        Round.DUMMY_SEARCH: 2 * polynomial * (2 * digits + groups * profile.result_level),
        Round.PARTIAL_DECRYPTION: polynomial * groups * profile.result_level,
        Round.SIGNATURE: SIGNATURE_BYTES,
    }[Round(round_)]


class Nonces(Phase[Outcome]):
    """Everyone draws a nonce; their hash seeds the common polynomials."""

    round = Round.NONCE

    def __init__(self, context: Context) -> None:
        self._context = context

    def payload(self) -> bytes:
        """Draw the nonce."""
        return secrets.token_bytes(NONCE_BYTES)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Derive the seed."""
        for point, nonce in enumerate(payloads, start=1):
            if len(nonce) != NONCE_BYTES:
                raise CeremonyFailed(f"the message of member {point} is malformed")
        digest = self._context.file.digest
        return Contributions(
            self._context, hashlib.sha256(_SEED_DOMAIN + digest + b"".join(payloads)).digest()
        )


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
        return secret.contribute(self._common, self._context.file.dimension).to_bytes()

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Add up the contributions."""
        profile, dimension = self._context.file.profile, self._context.file.dimension
        parts = parse_all(
            payloads, lambda _, payload: Contribution.parse(payload, profile, dimension)
        )
        joint = JointKeys.combine(parts, self._common, profile, dimension)
        return Relinearisation(self._context, self._seed, self._secret, joint)


class Relinearisation(Phase[Outcome]):
    """Round 2 of the relinearisation key, and the sealed shares."""

    round = Round.RELINEARISATION

    def __init__(
        self, context: Context, seed: bytes, secret: SecretPart | None, joint: JointKeys
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
        return part.astype("<u4", copy=False).tobytes() + b"".join(sealed)

    def kept(self) -> None:
        """Forget the secret: the shares that come from it are on their way."""
        self._context.forget_secret()

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Finish the relinearisation key and add up the shares dealt to this member."""
        profile = self._context.file.profile
        parsed = parse_all(payloads, self._parse)
        keys = self._joint.finish([part for part, _, _ in parsed], profile)
        dealt = [value for _, value, _ in parsed]
        halves = [half for _, _, half in parsed]
        file, point = self._context.file, self._context.point
        joint = total(dealt, key_primes(profile))
        secret = joint.copy()
        for value in (*dealt, joint):
            value.fill(0)
        pairs = PairSecrets.join(point, halves[point - 1], halves)
        share = Share(profile, _NO_EPOCH, file.threshold, secret, pairs)
        return DummySearches(self._context, self._seed, self._joint.public_key, keys, share)

    def _deal(self, secret: SecretPart) -> list[bytes]:
        file = self._context.file
        primes = key_primes(file.profile)
        values = deal(
            secret.element, file.threshold, len(file.members), primes, self._context.stream
        )
        master = secrets.token_bytes(SEED_BYTES)
        sealed = []
        for recipient, (member, value) in enumerate(
            zip(file.members, values, strict=True), start=1
        ):
            delivery = Delivery(file, self._seed, self._context.point, recipient)
            own = recipient == self._context.point
            half = master if own else half_for(master, recipient)
            sealed.append(delivery.seal(member.sealing, value, half))
            value.fill(0)
        return sealed

    def _parse(self, sender: int, payload: bytes) -> tuple[Residues, Residues, bytes]:
        file = self._context.file
        reader = FieldReader(payload)
        part = reader.key_residues(file.profile, (file.profile.fresh_level,))
        sealed = [reader.take(sealed_size(file.profile)) for _ in file.members]
        reader.finish()
        point = self._context.point
        delivery = Delivery(file, self._seed, sender, point)
        return part, *delivery.open(self._context.opening, sealed[point - 1])


class DummySearches(Phase[Outcome]):
    """Joint randomness for the known-answer test."""

    round = Round.DUMMY_SEARCH

    def __init__(
        self,
        context: Context,
        seed: bytes,
        public_key: Residues,
        keys: EvaluationKeys,
        share: Share,
    ) -> None:
        self._context = context
        self._seed = seed
        self._public_key = public_key
        self._keys = keys
        self._share = share

    def payload(self) -> bytes:
        """Encrypt zeros."""
        context = self._context
        zeros = DummyZeros.make(context.file, self._public_key, context.point, context.stream)
        return zeros.to_bytes()

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Run the search."""
        file = self._context.file
        zeros = parse_all(payloads, lambda point, payload: DummyZeros.parse(payload, file, point))
        search = DummySearch(file, self._keys, self._seed, zeros)
        return Answers(self._context, self._public_key, self._keys, self._share, search)


class Answers(Phase[Outcome]):
    """Partial decryptions of the dummy search by every group of k."""

    round = Round.PARTIAL_DECRYPTION

    def __init__(
        self,
        context: Context,
        public_key: Residues,
        keys: EvaluationKeys,
        share: Share,
        search: DummySearch,
    ) -> None:
        self._context = context
        self._public_key = public_key
        self._keys = keys
        self._share = share
        self._search = search

    def payload(self) -> bytes:
        """Answer for every group that this member is in."""
        file, stream = self._context.file, self._context.stream
        answers = []
        for active in subsets_with(file, self._context.point):
            masked = self._search.masked(active)
            answers.append(
                partial_decryption(self._share, active, masked, file.dimension, SIGMA, stream)
            )
        return b"".join(answer.astype("<u4", copy=False).tobytes() for answer in answers)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[Outcome]:
        """Check every group's opening."""
        parsed = parse_all(payloads, self._parse)
        for active in subsets(self._context.file):
            self._search.check(active, [parsed[point - 1][active] for point in active])
        return Signatures(self._context, self._bundle(transcript), self._share)

    def _parse(self, point: int, payload: bytes) -> dict[tuple[int, ...], Residues]:
        profile = self._context.file.profile
        primes = profile.data_primes[: profile.result_level]
        reader = FieldReader(payload)
        shape = (len(primes), profile.degree)
        groups = subsets_with(self._context.file, point)
        answers = {active: reader.residues(primes, shape) for active in groups}
        reader.finish()
        return answers

    def _bundle(self, transcript: bytes) -> PublicBundle:
        file = self._context.file
        return PublicBundle(
            profile=file.profile,
            dimension=file.dimension,
            threshold=file.threshold,
            members=tuple(member.signing for member in file.members),
            label_key=file.label_key,
            transcript=transcript,
            public_key=self._public_key,
            keys=self._keys,
        )


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
        return Ended(Outcome(bundle, self._share.bound_to(bundle.epoch)))
