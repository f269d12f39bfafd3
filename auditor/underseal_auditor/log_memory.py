"""What a guardian remembers of the registrar's log: the newest checkpoint that it was shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.store.ledger import Ledger
from underseal_auditor.verify.announcement import (
    Authority,
    Notice,
    Register,
    check_announced,
    check_extends,
)
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import Damaged, Mismatch, PermissionRefused
from underseal_core.tlog.checkpoint import open_checkpoint

_log: Final = structlog.get_logger("underseal.guardian")


class LogMemory:
    """Accepts announcements of one log, which only ever grows. Thread-safe.

    Parameters
    ----------
    register
        The log's key and the auditors, known beforehand.
    ledger
        Keeps the checkpoint.
    clock
        Returns aware times.

    Raises
    ------
    Mismatch
        The checkpoint that is kept is another log's.
    """

    def __init__(self, register: Register, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._register = register
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        try:
            _ = self.size
        except (Damaged, PermissionRefused) as error:
            raise Mismatch(
                "this guardian has seen another log than that of the key it was given",
                hint="give it the log.vkey of the registrar's log",
            ) from error

    @property
    def size(self) -> int:
        """Entries of the remembered log; 0 if none was ever shown."""
        head = self._ledger.log_head()
        return open_checkpoint(head, self._register.log).checkpoint.size if head else 0

    def accept(self, notice: Notice, chain: Chain, authority: Authority) -> None:
        """Check that an opening was announced, and remember the log as of then, durably.

        Raises
        ------
        Damaged, PermissionRefused
            See :func:`check_announced` and :func:`check_extends`; nothing is remembered.
        """
        register = self._register
        check_announced(notice.logged, register, chain, authority, self._clock())
        with self._lock:
            remembered = self._ledger.log_head()
            try:
                shown = check_extends(notice, register.log, remembered)
            except Damaged:
                # both are public, and together they prove it
                _log.error(
                    "the log was rolled back or forked",
                    remembered=remembered.decode(),
                    shown=notice.logged.receipt.decode(errors="replace"),
                )
                raise
            if shown != remembered:
                self._ledger.keep_log_head(shown)
