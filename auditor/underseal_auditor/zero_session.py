"""One auditor's side of a submission's zero tests, from the first message to what they found."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from underseal_auditor.keys.decryption import Opener
from underseal_auditor.keys.joint_opening import SALT_BYTES, OpeningOutOfTurn
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.zero_opening import Conditions, MemberZeroTests, fresh_occasion
from underseal_auditor.store.tested import Trial
from underseal_auditor.verify.chain import Chain
from underseal_auditor.zero_tests import ZeroTester
from underseal_core.errors import Busy, InvalidInput
from underseal_core.scheme.ciphertext import Ciphertext


@dataclass(frozen=True, slots=True)
class Circle:
    """Who tests: ``active`` points, ascending, on an ``occasion`` that 32 bytes name.

    ``makers``: how many members took part in the ceremony of the keys.
    """

    occasion: bytes
    active: tuple[int, ...]
    makers: int


class ZeroSession:
    """The zero tests of one submission. The caller sees to it that one thread uses it at a time.

    ``untested``: tokens of the units that this auditor wants tested.

    Raises
    ------
    PermissionRefused
        Tests of this client or this gallery failed, or were abandoned, too often.
    """

    def __init__(
        self, tester: ZeroTester, share: Share, circle: Circle, chain: Chain, probe: Ciphertext
    ) -> None:
        self._tester = tester
        self._share = share
        self._circle = circle
        self._chain = chain
        self._probe = probe
        self.untested = tester.untested(chain)
        self._trials: tuple[Trial, ...] = ()
        self._tests: MemberZeroTests | None = None
        self._sound = False

    def prepare(self, salts: Mapping[int, bytes], untested: frozenset[bytes]) -> bytes:
        """Compute this auditor's answers, and return its commitment to them.

        Parameters
        ----------
        salts
            Of all active auditors, each committed to before it saw another's.
        untested
            What any of them wants tested.

        Raises
        ------
        OpeningOutOfTurn
            A second time.
        InvalidInput
            A unit that this auditor wants tested is left out, or one is of another block.
        """
        if self._tests is not None:
            raise OpeningOutOfTurn("the zero tests of this opening were begun before")
        if not self.untested <= untested:
            raise InvalidInput("a unit that this auditor has not found sound is left out")
        circle, fresh = self._circle, fresh_occasion(self._circle.occasion, salts)
        tests = self._tester.tests(self._chain, self._probe, untested, fresh)
        conditions = Conditions(fresh, circle.active, circle.makers, tests)
        self._trials = self._tester.trials(self._chain, self._probe, untested)
        self._tests = MemberZeroTests(self._share, conditions)
        return self._tests.commitment

    def reveal(self, commitments: Mapping[int, bytes]) -> bytes:
        """Return this auditor's answers, given everybody's commitments.

        Raises
        ------
        OpeningOutOfTurn, OpeningFailed
            See :class:`MemberZeroTests`.
        PermissionRefused
            Tests of this client or this gallery failed, or were abandoned, too often.
        """
        answers = self._begun().reveal(commitments)
        self._tester.begin(self._trials)
        return answers

    def conclude(self, answers: Mapping[int, bytes]) -> None:
        """Judge the tests, given everybody's answers.

        Raises
        ------
        Malformed
            A test was not passed.
        OpeningOutOfTurn, OpeningFailed
            See :class:`MemberZeroTests`.
        """
        if self._sound:
            raise OpeningOutOfTurn("the zero tests of this opening were concluded before")
        passed = self._begun().conclude(answers)
        self._tester.conclude(self._chain, self._trials, passed)
        self._sound = True

    def check_sound(self) -> None:
        """Check that this submission may be opened.

        Raises
        ------
        OpeningOutOfTurn
            It has not passed its tests.
        Busy
            It has, but there are more units than one test takes.
        """
        if not self._sound:
            raise OpeningOutOfTurn("nothing is opened before the zero tests are passed")
        if not self._tester.complete(self._chain):
            raise Busy("the gallery has more units than are tested at a time", retry_after_ms=0)

    def _begun(self) -> MemberZeroTests:
        if self._tests is None:
            raise OpeningOutOfTurn("zero tests begin with the encryptions of zero")
        return self._tests


def prove_here(tester: ZeroTester, opener: Opener, chain: Chain, probe: Ciphertext) -> None:
    """Run the tests with shares of one process.

    Raises
    ------
    Malformed, PermissionRefused, Busy
        See :class:`ZeroSession`.
    """
    active = tuple(sorted(share.point for share in opener.shares))
    request = bytes.fromhex(chain.request_sha256)
    circle = Circle(request, active, len(opener.bundle.members))
    sessions = {
        share.point: ZeroSession(tester, share, circle, chain, probe) for share in opener.shares
    }
    salts = {point: secrets.token_bytes(SALT_BYTES) for point in active}
    wanted = sessions[active[0]].untested
    commitments = {point: one.prepare(salts, wanted) for point, one in sessions.items()}
    answers = {point: session.reveal(commitments) for point, session in sessions.items()}
    for session in sessions.values():
        session.conclude(answers)
        session.check_sound()
