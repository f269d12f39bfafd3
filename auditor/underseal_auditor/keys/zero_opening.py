"""Opening zero tests by k members: what each answers, and what all learn from the answers.

Like an opening (see ``joint_opening.py``), but what comes out are a few weighted sums, masked until
all answers are added, and every member sees them: none relies on another one, or on the registrar,
to say that a test was passed. Answers are committed to before any is shown, so that nobody can
choose its own as the negative of the others'.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_auditor.keys.elements import times_integers
from underseal_auditor.keys.joint_opening import OpeningFailed, OpeningOutOfTurn
from underseal_auditor.keys.sampling import SecretStream, gaussian
from underseal_auditor.keys.sharing import lagrange
from underseal_core.errors import InvalidInput
from underseal_core.ring import kernel
from underseal_core.scheme.fields import FieldReader, plain_bytes
from underseal_core.scheme.zero_test import VALUES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from underseal_auditor.keys.share import Share
    from underseal_core.scheme.profiles import Profile
    from underseal_core.scheme.zero_test import ZeroTest

SALT_BYTES: Final = 32
DIGEST_BYTES: Final = 32
_COMMITMENT_DOMAIN: Final = b"underseal/v1/zero-commitment\x00"
_OCCASION_DOMAIN: Final = b"underseal/v1/zero-occasion\x00"
_SEED_DOMAIN: Final = b"underseal/v1/zero-seed\x00"
_MASK_DOMAIN: Final = b"underseal/v1/zero-mask\x00"


def fresh_occasion(occasion: bytes, salts: Mapping[int, bytes]) -> bytes:
    """Return 32 bytes that are never the same again, and that nobody could foresee.

    Parameters
    ----------
    occasion
        32 bytes that name the submission and who opens it.
    salts
        32 random bytes of every active member, which each committed to before it saw another's.
    """
    parts = b"".join(salts[point] for point in sorted(salts))
    return hashlib.sha256(_OCCASION_DOMAIN + occasion + parts).digest()


def seed_of(occasion: bytes, name: str) -> bytes:
    """Return the seed of one test of a fresh occasion, by the test's name."""
    return hashlib.sha256(_SEED_DOMAIN + occasion + name.encode()).digest()


@dataclass(frozen=True, slots=True)
class Conditions:
    """Who opens what: ``occasion`` is 32 bytes that are never the same for two openings.

    ``active``: points, ascending. ``makers``: members of the ceremony, for the size of errors.
    """

    occasion: bytes
    active: tuple[int, ...]
    makers: int
    tests: tuple[ZeroTest, ...]


def answer_size(profile: Profile, tests: int) -> int:
    """Exact number of bytes of a salted answer to so many tests."""
    return SALT_BYTES + 4 * VALUES * tests * profile.gallery_level


class MemberZeroTests:
    """One active member's side of the zero tests of one opening.

    ``commitment``: 32 bytes, to be shown first.
    """

    def __init__(self, share: Share, conditions: Conditions) -> None:
        if share.point not in conditions.active:
            raise InvalidInput(f"member {share.point} is not active in this opening")
        self._conditions = conditions
        self._point = share.point
        stream = SecretStream()
        answers = (
            _answer(share, conditions, index, stream) for index in range(len(conditions.tests))
        )
        packed = b"".join(plain_bytes(answer.astype(np.uint32)) for answer in answers)
        self._answer = secrets.token_bytes(SALT_BYTES) + packed
        self._commitments: dict[int, bytes] | None = None
        self.commitment = _commitment(conditions, share.point, self._answer)

    def reveal(self, commitments: Mapping[int, bytes]) -> bytes:
        """Return the salted answer, given everybody's commitments.

        Raises
        ------
        OpeningOutOfTurn
            Revealed before.
        OpeningFailed
            A commitment is missing, or the own one was changed.
        """
        if self._commitments is not None:
            raise OpeningOutOfTurn("the answers to the zero tests were revealed before")
        if tuple(sorted(commitments)) != self._conditions.active:
            raise OpeningFailed("zero tests need the commitment of every active member")
        if commitments[self._point] != self.commitment:
            raise OpeningFailed(f"the commitment of member {self._point} was changed")
        self._commitments = dict(commitments)
        return self._answer

    def conclude(self, answers: Mapping[int, bytes]) -> tuple[bool, ...]:
        """Return for each test whether it was passed, given everybody's salted answers.

        Raises
        ------
        OpeningOutOfTurn
            Before :meth:`reveal`.
        OpeningFailed
            See :func:`verdicts`.
        """
        if self._commitments is None:
            raise OpeningOutOfTurn("zero tests are concluded after the own answer was shown")
        return verdicts(self._conditions, self._commitments, answers)


def verdicts(
    conditions: Conditions, commitments: Mapping[int, bytes], answers: Mapping[int, bytes]
) -> tuple[bool, ...]:
    """Return for each test whether the sum of all answers is noise.

    Raises
    ------
    OpeningFailed
        An answer is missing, malformed, or not what its member committed to.
    """
    if tuple(sorted(answers)) != conditions.active:
        raise OpeningFailed("zero tests need the answer of every active member")
    for point, answer in answers.items():
        if _commitment(conditions, point, answer) != commitments[point]:
            raise OpeningFailed(f"member {point} answered something else than it committed to")
    try:
        parsed = [_parse(conditions, answer) for answer in answers.values()]
    except InvalidInput as error:
        raise OpeningFailed("an answer to a zero test is malformed") from error
    return tuple(
        test.passes(
            test.integers(np.sum([answer[index] for answer in parsed], axis=0)),
            conditions.makers,
        )
        for index, test in enumerate(conditions.tests)
    )


def _answer(
    share: Share, conditions: Conditions, index: int, stream: SecretStream
) -> npt.NDArray[np.int64]:
    """Return ``lambda S`` times the sums, projected, with noise and mask: ``(VALUES, level)``.

    The member with the lowest point adds the public part, so that the sum of all answers is all.
    """
    test, active = conditions.tests[index], conditions.active
    level = test.profile.gallery_level
    primes = test.profile.data_primes[:level]
    factors = tuple(lagrange(share.point, active, prime) for prime in primes)
    weighted = times_integers(share.secret[:level], factors, primes)
    everywhere = np.ascontiguousarray(np.broadcast_to(weighted, (VALUES, *weighted.shape)))
    total = np.zeros((VALUES, level), dtype=np.int64)
    for tail in test.tails:
        sums = kernel.multiply(everywhere, np.ascontiguousarray(tail.sums[:, 1]), primes)
        if share.point == active[0]:
            sums = kernel.add(sums, np.ascontiguousarray(tail.sums[:, 0]), primes)
        total += test.project(tail, kernel.ntt_inverse(sums, primes))
    noise = gaussian(stream, test.noise(conditions.makers) / sqrt(len(active)), VALUES)
    opening = hashlib.sha256(_MASK_DOMAIN + conditions.occasion + bytes((index,))).digest()
    mask = share.pairs.mask_values(active, opening, primes, VALUES).T
    for secret in (weighted, everywhere):
        secret.fill(0)
    masked: npt.NDArray[np.int64] = (total + noise[:, None] + mask) % np.array(primes)
    return masked


def _commitment(conditions: Conditions, point: int, answer: bytes) -> bytes:
    head = _COMMITMENT_DOMAIN + conditions.occasion + bytes((point,))
    return hashlib.sha256(head + answer).digest()


def _parse(conditions: Conditions, answer: bytes) -> list[npt.NDArray[np.int64]]:
    reader = FieldReader(answer)
    reader.take(SALT_BYTES)
    parsed = []
    for test in conditions.tests:
        primes = test.profile.data_primes[: test.profile.gallery_level]
        transposed = reader.plain_residues(primes, (VALUES, len(primes), 1))
        parsed.append(transposed[..., 0].astype(np.int64))
    reader.finish()
    return parsed
