"""A member's way through the rounds with members elsewhere, each of whom it asks for messages."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from underseal_core.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from enum import IntEnum

    from underseal_auditor.keys.assembly import Assembly
    from underseal_auditor.keys.member import Member
    from underseal_auditor.keys.messages import Reveal
    from underseal_auditor.keys.signed import SignedCommitment

T = TypeVar("T")

SILENCE: Final = 60
"""Attempts to reach a member at the end, after which nobody waits to be told that it is done."""


class MemberLink(Protocol):
    """Another member. All methods raise Busy while it cannot be reached or has no answer yet."""

    def commitment(self, round_: IntEnum) -> SignedCommitment:
        """Return its commitment of a round; the signature is not verified here."""
        ...

    def reveal(self, round_: IntEnum) -> Reveal:
        """Return its message of a round; not compared with the commitment here."""
        ...

    def finished(self, *, mine: bool) -> bool:
        """Tell it whether this member has its keys on disk, and return whether it has its own."""
        ...


def join(
    member: Member[T],
    file: Assembly,
    links: Mapping[int, MemberLink],
    wait: Callable[[], None],
    progress: Callable[[IntEnum], None],
) -> T:
    """Take part until the last round is over.

    Parameters
    ----------
    links
        All other members, by point.
    wait
        Called between attempts to get what is not there yet; raises to give up.
    progress
        Called after every round.

    Raises
    ------
    CeremonyFailed
        A check failed; nothing of this ceremony may be used.
    """
    while (round_ := member.round) is not None:
        commitments = [member.commit()]
        for link in links.values():
            signed = patiently(lambda: link.commitment(round_), wait)  # noqa: B023
            commitments.append(signed.verified(file))
        commitments.sort(key=lambda commitment: commitment.sender)
        reveals = [member.reveal(commitments)]
        for link in links.values():
            reveals.append(patiently(lambda: link.reveal(round_), wait))  # noqa: B023
        member.receive(sorted(reveals, key=lambda reveal: reveal.sender))
        progress(round_)
    return member.outcome


def patiently(call: Callable[[], T], wait: Callable[[], None]) -> T:
    """Call until it is not Busy."""
    while True:
        try:
            return call()
        except Busy:
            wait()


class Farewell:
    """Who is done, and knows that this member is done: when it may stop serving its messages."""

    def __init__(self, others: frozenset[int]) -> None:
        self._lock = threading.Lock()
        self._others = others
        self._done: set[int] = set()
        self._informed: set[int] = set()
        self._mine = False

    def finish(self) -> None:
        """Take note that this member is done."""
        with self._lock:
            self._mine = True

    def asked_by(self, point: int, *, finished: bool) -> bool:
        """Take note of a member's question whether this one is done, and answer it."""
        with self._lock:
            if finished:
                self._done.add(point)
                if self._mine:
                    self._informed.add(point)
            return self._mine

    def say(self, links: Mapping[int, MemberLink], wait: Callable[[], None]) -> frozenset[int]:
        """Wait until all are done and know of each other.

        Returns
        -------
        frozenset of int
            Members that did not answer any more: they may still need this member's messages.
        """
        failures = dict.fromkeys(self._others, 0)
        while True:
            for point in self._open():
                try:
                    done = links[point].finished(mine=True)
                except Busy:
                    failures[point] += 1
                    continue
                failures[point] = 0
                with self._lock:
                    self._informed.add(point)
                    if done:
                        self._done.add(point)
            left = self._open()
            if all(failures[point] >= SILENCE for point in left):
                return left
            wait()

    def _open(self) -> frozenset[int]:
        with self._lock:
            return self._others - (self._done & self._informed)
