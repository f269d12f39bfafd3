"""One zero test of a redaction, from the salts that fix it to what it found."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from underseal_auditor.keys.joint_opening import OpeningFailed, OpeningOutOfTurn
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.zero_opening import Conditions, MemberZeroTests, fresh_occasion
from underseal_core.scheme.zero_test import ZeroTest

SALT_BYTES: Final = 32
_SALT_DOMAIN: Final = b"underseal/v1/redaction-salt\x00"


@dataclass(frozen=True, slots=True)
class Panelists:
    """Who redacts: points, ascending; ``occasion``: 32 bytes that name what and by whom.

    ``makers``: how many members took part in the ceremony of the keys.
    """

    occasion: bytes
    active: tuple[int, ...]
    makers: int


def salt_commitment(panelists: Panelists, name: str, point: int, salt: bytes) -> bytes:
    """Return the commitment to a member's salt, 32 bytes."""
    head = _SALT_DOMAIN + panelists.occasion + bytes((point,)) + name.encode() + b"\x00"
    return hashlib.sha256(head + salt).digest()


class Round:
    """A member's side of one test. Its salt is committed to before what is tested was made.

    Parameters
    ----------
    name
        Tells the tests of one redaction apart.
    """

    def __init__(self, share: Share, panelists: Panelists, name: str) -> None:
        self._share = share
        self._panelists = panelists
        self._name = name
        self._salt = secrets.token_bytes(SALT_BYTES)
        self._commitments: dict[int, bytes] | None = None
        self._tests: MemberZeroTests | None = None
        self.commitment = salt_commitment(panelists, name, share.point, self._salt)

    def reveal_salt(self, commitments: Mapping[int, bytes]) -> bytes:
        """Return the salt, given everybody's commitments.

        Raises
        ------
        OpeningOutOfTurn
            Revealed before.
        OpeningFailed
            A commitment is missing, or the own one was changed.
        """
        if self._commitments is not None:
            raise OpeningOutOfTurn("the salt was revealed before")
        complete = tuple(sorted(commitments)) == self._panelists.active
        if not complete or commitments[self._share.point] != self.commitment:
            raise OpeningFailed("a zero test needs the commitment of every active member")
        self._commitments = dict(commitments)
        return self._salt

    def prepare(
        self, salts: Mapping[int, bytes], subject: bytes, make: Callable[[bytes], ZeroTest]
    ) -> bytes:
        """Return the commitment to the answer, given everybody's salts.

        Parameters
        ----------
        subject
            What is tested, by its hash. The masks of members that are shown different things do
            not cancel.
        make
            Makes the test for a seed.

        Raises
        ------
        OpeningOutOfTurn
            Before the own salt was revealed, or a second time.
        OpeningFailed
            A salt is not what its member committed to.
        """
        if self._commitments is None or self._tests is not None:
            raise OpeningOutOfTurn("a zero test follows its salts, once")
        if tuple(sorted(salts)) != self._panelists.active:
            raise OpeningFailed("a zero test needs the salt of every active member")
        for point, salt in salts.items():
            wanted = self._commitments[point]
            if salt_commitment(self._panelists, self._name, point, salt) != wanted:
                raise OpeningFailed(f"member {point} revealed another salt than it committed to")
        panelists = self._panelists
        named = hashlib.sha256(
            panelists.occasion + self._name.encode() + b"\x00" + subject
        ).digest()
        fresh = fresh_occasion(named, salts)
        conditions = Conditions(fresh, panelists.active, panelists.makers, (make(fresh),))
        self._tests = MemberZeroTests(self._share, conditions)
        return self._tests.commitment

    def reveal_test(self, commitments: Mapping[int, bytes]) -> bytes:
        """Return the salted answer; see :class:`MemberZeroTests`."""
        return self._prepared().reveal(commitments)

    def conclude(self, answers: Mapping[int, bytes]) -> bool:
        """Return whether the test was passed; see :class:`MemberZeroTests`."""
        (passed,) = self._prepared().conclude(answers)
        return passed

    def _prepared(self) -> MemberZeroTests:
        if self._tests is None:
            raise OpeningOutOfTurn("a zero test is answered after its salts")
        return self._tests
