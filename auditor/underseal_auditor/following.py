"""Keeps an auditor's replica close behind the servers, so that a search finds it up to date."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Final

import structlog

from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.replica import Replica
from underseal_core.errors import NotFound, UndersealError

_log: Final = structlog.get_logger("underseal.replica")

FOLLOW_SECONDS: Final = 5.0
STOP_SECONDS: Final = 10.0
CHECKPOINT_SECONDS: Final = 60.0
"""A block that changes is written as a whole: not each time."""


class Follower:
    """A thread that follows every gallery of the policy.

    Parameters
    ----------
    key_epoch
        Galleries of another one are left alone.
    """

    def __init__(self, replica: Replica, rulebook: Rulebook, key_epoch: str) -> None:
        self._replica = replica
        self._rulebook = rulebook
        self._key_epoch = key_epoch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, after the gallery that is being followed, and write what changed.

        A server that is slow must not hold the process: what is not written is folded again.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if not self._thread.is_alive():
            self._checkpoint()

    def _run(self) -> None:
        written = time.monotonic()
        while not self._stop.is_set():
            for server, gallery in self._galleries():
                if self._stop.is_set():
                    return
                self._follow(server, gallery)
            if time.monotonic() - written > CHECKPOINT_SECONDS:
                self._checkpoint()
                written = time.monotonic()
            self._stop.wait(FOLLOW_SECONDS)

    def _galleries(self) -> Iterator[tuple[str, str]]:
        document = self._rulebook.policy.document
        names = {name for purpose in document.purposes.values() for name in purpose.galleries}
        for server in sorted(set(document.servers) & set(self._replica.sources)):
            for name in sorted(names):
                yield server, name

    def _follow(self, server: str, gallery: str) -> None:
        enrollers = self._rulebook.policy.document.enrollers(gallery)
        try:
            pin = self._replica.sources[server].pin(gallery)
            if pin.key_epoch == self._key_epoch:
                self._replica.follow(server, gallery, pin, enrollers)
        except NotFound:
            return
        except UndersealError as error:
            _log.warning("not followed", server=server, gallery=gallery, reason=error.public)

    def _checkpoint(self) -> None:
        try:
            self._replica.checkpoint()
        except UndersealError as error:
            _log.error("the replica cannot be written", reason=error.public)
