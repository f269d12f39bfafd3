"""The rounds of a ceremony or re-sharing that test whether the new shares open."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from underseal_auditor.keys.decryption import partial_decryption
from underseal_auditor.keys.known_answer import (
    SIGMA,
    DummySearch,
    DummyZeros,
    subsets,
    subsets_with,
)
from underseal_auditor.keys.member import Phase
from underseal_auditor.keys.messages import Round, parse_all
from underseal_auditor.keys.whole_share import WholeShareTest, spanning, spanning_with
from underseal_core.scheme.fields import FieldReader, pack_residues

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_auditor.keys.participant import Participant
    from underseal_auditor.keys.share import Share
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.evaluation import EvaluationKeys


T = TypeVar("T")


class DummySearches(Phase[T]):
    """Joint randomness for the known-answer test.

    Parameters
    ----------
    public_key, keys
        Of the key epoch.
    share
        The new one, closed with this phase.
    sign
        Makes the phase after the test, from the share and the transcript.
    """

    round = Round.DUMMY_SEARCH

    def __init__(
        self,
        participant: Participant,
        seed: bytes,
        public_key: Residues,
        keys: EvaluationKeys,
        share: Share,
        sign: Callable[[Share, bytes], Phase[T]],
    ) -> None:
        self._me = participant
        self._seed = seed
        self._public_key = public_key
        self._keys = keys
        self._share = share
        self._sign = sign

    def payload(self) -> bytes:
        """Encrypt zeros."""
        me = self._me
        zeros = DummyZeros.make(me.file, self._public_key, me.point, me.stream)
        return zeros.to_bytes(me.file.profile)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[T]:
        """Run the search."""
        file = self._me.file
        zeros = parse_all(payloads, lambda point, payload: DummyZeros.parse(payload, file, point))
        search = DummySearch(file, self._keys, self._seed, zeros)
        whole = WholeShareTest(file.profile, [part.whole for part in zeros])
        return Answers(self._me, self._share, search, whole, self._sign)

    def close(self) -> None:
        """See :class:`Phase`."""
        self._share.close()


class Answers(Phase[T]):
    """Partial decryptions of the dummy search by every group of k, and of a zero at key level."""

    round = Round.PARTIAL_DECRYPTION

    def __init__(
        self,
        participant: Participant,
        share: Share,
        search: DummySearch,
        whole: WholeShareTest,
        sign: Callable[[Share, bytes], Phase[T]],
    ) -> None:
        self._me = participant
        self._share = share
        self._search = search
        self._whole = whole
        self._sign = sign

    def payload(self) -> bytes:
        """Answer for every group that this member is in."""
        me, share = self._me, self._share
        file, stream = me.file, me.stream
        answers = [
            partial_decryption(
                share, active, self._search.masked(active), file.dimension, SIGMA, stream
            )
            for active in subsets_with(file, me.point)
        ]
        answers += [
            self._whole.answer(share, active, stream) for active in spanning_with(file, me.point)
        ]
        return pack_residues(file.profile, answers)

    def next(self, payloads: Sequence[bytes], transcript: bytes) -> Phase[T]:
        """Check every group's opening."""
        file = self._me.file
        parsed = parse_all(payloads, self._parse)
        for active in subsets(file):
            self._search.check(active, [parsed[point - 1][0][active] for point in active])
        for active in spanning(file):
            self._whole.check(active, [parsed[point - 1][1][active] for point in active])
        return self._sign(self._share, transcript)

    def close(self) -> None:
        """See :class:`Phase`."""
        self._share.close()

    def _parse(
        self, point: int, payload: bytes
    ) -> tuple[dict[tuple[int, ...], Residues], dict[tuple[int, ...], Residues]]:
        file, profile = self._me.file, self._me.file.profile
        primes = profile.data_primes[: profile.result_level]
        reader = FieldReader(payload)
        shape = (len(primes), profile.degree)
        answers = {a: reader.residues(primes, shape) for a in subsets_with(file, point)}
        whole = {a: reader.key_residues(profile, ()) for a in spanning_with(file, point)}
        reader.finish()
        return answers, whole
