"""The making of a switching key, in rounds, between k old members and all new ones.

    1. Old members: their contributions (switching.py). Everybody: an encryption of zero under the
       old key, for the known answer. New members: zeros under the new key, one for each group of k.
    2. Everybody sums up the key and re-encrypts a known message; new members answer for every group
       of k that they are in.
    3. Every group's opening is checked; everybody signs the key.

So a key that leads elsewhere is never signed. A bad contribution is detected, not attributed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from underseal_auditor.keys.ceremony import run_round
from underseal_auditor.keys.decryption import combine, encrypt_zero, partial_decryption, rerandomise
from underseal_auditor.keys.elements import total
from underseal_auditor.keys.known_answer import SIGMA, check_opened, subsets, subsets_with
from underseal_auditor.keys.member import Ended, Member, Phase
from underseal_auditor.keys.memory import ShortMemory
from underseal_auditor.keys.messages import CeremonyFailed, parse_all
from underseal_auditor.keys.phases import SIGNATURE_BYTES
from underseal_auditor.keys.rotation_file import RotationFile, RotationRound
from underseal_auditor.keys.sampling import PublicStream
from underseal_auditor.keys.switching import combine_contributions, contribute
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.encoding import encode_polynomials
from underseal_core.scheme.fields import FieldReader, pack_residues, residues_size
from underseal_core.scheme.keyswitch import prepare_key, rescale, switch_key
from underseal_core.scheme.reencryption import raise_level
from underseal_core.scheme.workers import Workers
from underseal_core.signing import verify_bytes
from underseal_core.switching import SwitchingKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from enum import IntEnum

    from underseal_auditor.keys.memory import Memory
    from underseal_auditor.keys.sampling import Stream
    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.roster import Generation
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.encoding import Real
    from underseal_core.scheme.profiles import Profile
    from underseal_core.signing import Identity


@dataclass(frozen=True, slots=True)
class RotationContext:
    """What a participant brings.

    ``old_share``, ``new_share``: of the epochs that it is a member of, each only where the file
    gives it a point; ``generation``: of the old shares that are in force. ``once`` is handed the
    maker of the contribution and returns the one that was ever made for these two epochs, kept for
    good.
    """

    file: RotationFile
    participant: int
    old: PublicBundle
    new: PublicBundle
    identity: Identity
    old_share: Share | None
    new_share: Share | None
    generation: Generation
    once: Callable[[Callable[[], Residues]], Residues]
    stream: Stream


def rotation_member(context: RotationContext, memory: Memory | None = None) -> Member[SwitchingKey]:
    """Return a participant at the start, or where an earlier one with its memory was.

    Raises
    ------
    InvalidInput
        Not the participant's identity, or not exactly the shares that it needs.
    Mismatch
        A share is of another key epoch or member.
    CeremonyFailed
        What is remembered contradicts itself.
    """
    file, participant = context.file, context.participant
    if file.signing_keys[participant - 1] != context.identity.public_key:
        raise InvalidInput("this is not the identity of that participant of the rotation")
    sides = (
        (context.old_share, file.old_epoch, file.old_point(participant)),
        (context.new_share, file.new_epoch, file.new_point(participant)),
    )
    for share, epoch, point in sides:
        if (share is None) != (point is None):
            raise InvalidInput("a participant brings the shares of the epochs that it is in")
        if share is not None and (share.epoch, share.point) != (epoch, point):
            raise Mismatch("a key share is of another key epoch or member than the rotation's")
    if context.old_share is not None and context.old_share.generation != context.generation:
        raise Mismatch(
            "the old key share is not of today's generation",
            hint="a contribution is made once: use the newest share, and today's successions",
        )
    return Member(file, participant, Contributions(context), memory or ShortMemory())


def rotation_payload_size(
    file: RotationFile, new: PublicBundle, round_: IntEnum, participant: int
) -> int:
    """Exact number of bytes of a participant's message: bounds what is taken from it."""
    profile = new.profile
    point = file.new_point(participant)
    groups = 0 if point is None else len(subsets_with(new, point))
    level, digits = profile.result_level, profile.fresh_level
    contribution = 2 * digits * residues_size(profile, digits + 1)
    mask = groups * residues_size(profile, level)
    holds_old = file.old_point(participant) is not None
    return {
        RotationRound.CONTRIBUTION: holds_old * contribution
        + 2 * (residues_size(profile, digits) + mask),
        RotationRound.PARTIAL_DECRYPTION: mask,
        RotationRound.SIGNATURE: SIGNATURE_BYTES,
    }[RotationRound(round_)]


@dataclass(frozen=True, slots=True, eq=False)
class Opening:
    """One participant's message of the first round.

    ``contribution``: ``(fresh_level, 2, fresh_level + 1, degree)``, of an old member; ``zero``:
    ``(2, fresh_level, degree)`` under the old key; ``masks``: for each group that a new member is
    in, ``(2, result_level, degree)`` under the new key.
    """

    contribution: Residues | None
    zero: Residues
    masks: dict[tuple[int, ...], Residues]

    def to_bytes(self, profile: Profile) -> bytes:
        """Serialise; the exact inverse of :meth:`parse`."""
        first = () if self.contribution is None else (self.contribution,)
        return pack_residues(profile, (*first, self.zero, *self.masks.values()))

    @classmethod
    def parse(
        cls, payload: bytes, file: RotationFile, new: PublicBundle, participant: int
    ) -> Opening:
        """Parse a participant's message.

        Raises
        ------
        InvalidInput
            Wrong length, or a residue that is not below its prime.
        """
        profile = new.profile
        reader = FieldReader(payload)
        contribution = None
        if file.old_point(participant) is not None:
            contribution = reader.key_residues(profile, (profile.fresh_level, 2))
        zero = reader.residues(profile.data_primes, (2, profile.fresh_level, profile.degree))
        low = profile.data_primes[: profile.result_level]
        masks = {
            active: reader.residues(low, (2, len(low), profile.degree))
            for active in _groups(file, new, participant)
        }
        reader.finish()
        return cls(contribution, zero, masks)


def _groups(file: RotationFile, new: PublicBundle, participant: int) -> list[tuple[int, ...]]:
    point = file.new_point(participant)
    return [] if point is None else subsets_with(new, point)


class Contributions(Phase[SwitchingKey]):
    """The old members' parts of the key, and randomness for the known answer."""

    round = RotationRound.CONTRIBUTION

    def __init__(self, context: RotationContext) -> None:
        self._context = context

    def payload(self) -> bytes:
        """Encrypt the weighted share, and zeros."""
        context = self._context
        new, profile, stream = context.new, context.new.profile, context.stream
        contribution = None
        if context.old_share is not None:
            contribution = context.once(self._contribute)
        masks = {
            active: encrypt_zero(new.public_key, profile, profile.result_level, stream)
            for active in _groups(context.file, new, context.participant)
        }
        zero = encrypt_zero(context.old.public_key, profile, profile.fresh_level, stream)
        return Opening(contribution, zero, masks).to_bytes(profile)

    def _contribute(self) -> Residues:
        context = self._context
        if context.old_share is None:
            raise InvalidInput("only an old member contributes")
        active = context.file.active
        return contribute(context.old_share, active, context.new, context.stream)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[SwitchingKey]:
        """Sum up the key, and re-encrypt the known message with it."""
        context = self._context
        file, new = context.file, context.new
        openings = parse_all(
            payloads, lambda point, payload: Opening.parse(payload, file, new, point)
        )
        parts = [one.contribution for one in openings if one.contribution is not None]
        key = combine_contributions(parts, new.profile)
        return Answers(context, key, KnownMessage(context, key, openings))


class KnownMessage:
    """A public message, encrypted under the old key by all together and re-encrypted."""

    def __init__(
        self, context: RotationContext, key: Residues, openings: Sequence[Opening]
    ) -> None:
        self._file = context.file
        self._openings = openings
        self.wanted = _known_values(context.file, context.new.profile.degree)
        self._result = _reencrypted(context, key, self.wanted, [one.zero for one in openings])

    def masked(self, active: tuple[int, ...]) -> Ciphertext:
        """Return the ciphertext as re-randomised by the new members of one group."""
        keys = {self._file.members[point - 1] for point in active}
        masks = [
            opening.masks[active]
            for opening, key in zip(self._openings, self._file.signing_keys, strict=True)
            if key in keys
        ]
        return rerandomise(self._result, masks)


def _known_values(file: RotationFile, degree: int) -> Real:
    """Return values in [-1, 1), shape ``(degree,)``."""
    stream = PublicStream(file.digest, "underseal/v1/rotation-message")
    return np.frombuffer(stream.read(2 * degree), dtype="<i2").astype(np.float64) / 2.0**15


def _reencrypted(
    context: RotationContext, key: Residues, wanted: Real, zeros: list[Residues]
) -> Ciphertext:
    """Encrypt at fresh level, so that every digit of the key is used; switch; rescale."""
    profile = context.new.profile
    scale = Kind.RESULT.scale(profile, context.new.dimension)
    low = encode_polynomials(wanted, profile, profile.result_level, scale)
    fresh = total(zeros, profile.data_primes).copy()
    message = raise_level(low, profile.fresh_level, profile)
    fresh[0] = kernel.add(np.ascontiguousarray(fresh[0]), message, profile.data_primes)
    workers = Workers(1)
    switched = switch_key(fresh[None], prepare_key(key, profile), profile, workers)
    residues = rescale(switched, profile.result_level, profile, workers)[0]
    return Ciphertext(profile, Kind.RESULT, np.ascontiguousarray(residues))


class Answers(Phase[SwitchingKey]):
    """Partial decryptions of the known message by every group of new members."""

    round = RotationRound.PARTIAL_DECRYPTION

    def __init__(self, context: RotationContext, key: Residues, known: KnownMessage) -> None:
        self._context = context
        self._key = key
        self._known = known

    def payload(self) -> bytes:
        """Answer for every group that this participant is in."""
        context = self._context
        if context.new_share is None:
            return b""
        answers = [
            partial_decryption(
                context.new_share,
                active,
                self._known.masked(active),
                context.new.dimension,
                SIGMA,
                context.stream,
            )
            for active in _groups(context.file, context.new, context.participant)
        ]
        return pack_residues(context.new.profile, answers)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[SwitchingKey]:
        """Check every group's opening."""
        context = self._context
        parsed = parse_all(payloads, self._parse)
        for active in subsets(context.new):
            partials = [answers[active] for answers in parsed if active in answers]
            opened = combine(self._known.masked(active), partials, context.new.dimension)
            check_opened(opened, self._known.wanted, active)
        return Signatures(context, self._key, transcript)

    def _parse(self, participant: int, payload: bytes) -> dict[tuple[int, ...], Residues]:
        profile = self._context.new.profile
        primes = profile.data_primes[: profile.result_level]
        reader = FieldReader(payload)
        answers = {
            active: reader.residues(primes, (len(primes), profile.degree))
            for active in _groups(self._context.file, self._context.new, participant)
        }
        reader.finish()
        return answers


class Signatures(Phase[SwitchingKey]):
    """Everybody signs the key, which covers the transcript."""

    round = RotationRound.SIGNATURE

    def __init__(self, context: RotationContext, key: Residues, transcript: bytes) -> None:
        self._context = context
        file = context.file
        self._unsigned = SwitchingKey(
            profile=context.new.profile,
            old_epoch=file.old_epoch,
            new_epoch=file.new_epoch,
            active=file.active,
            transcript=transcript,
            key=key,
            new_members=len(file.members),
        )

    def payload(self) -> bytes:
        """Sign."""
        return self._context.identity.sign_bytes(self._unsigned.signing_message())

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Ended[SwitchingKey]:
        """Check all signatures: all participants hold the same key and transcript."""
        file, message = self._context.file, self._unsigned.signing_message()
        by_key = dict(zip(file.signing_keys, payloads, strict=True))
        for participant, (member, signature) in enumerate(by_key.items(), start=1):
            if not verify_bytes(member, signature, message):
                raise CeremonyFailed(f"member {participant} did not sign the same switching key")
        return Ended(
            replace(
                self._unsigned,
                old_signatures=tuple(by_key[key] for key in file.holders),
                new_signatures=tuple(by_key[key] for key in file.members),
            )
        )


def run_rotation(members: Sequence[Member[SwitchingKey]]) -> SwitchingKey:
    """Run all rounds with all participants in this process.

    Raises
    ------
    CeremonyFailed
        A check failed; the key must not be used.
    """
    for _ in RotationRound:
        run_round(members)
    return members[0].outcome
