"""What all parts of one check share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from underseal_core.errors import UndersealError
from underseal_server.checking.copies import Copies
from underseal_server.checking.findings import Finding, Kind, Report
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Options:
    """How to check.

    ``deep``: add up every block anew; ``repair``: what can be; ``keep``: how long units of key
    epochs that a gallery has left are kept.
    """

    deep: bool
    repair: bool
    keep: timedelta


@dataclass(slots=True)
class Run:
    """One check of a data folder."""

    store: Store
    keys: KeyEpochs
    switching: SwitchingKeys
    copies: Copies
    options: Options
    looked: Callable[[], None]
    report: Report = field(default_factory=Report)

    def damage(self, place: str, text: str, hint: str = "") -> Finding:
        """Take note of damage."""
        self.report.findings.append(Finding(Kind.DAMAGE, place, text, hint))
        return self.report.findings[-1]

    def leftover(
        self, place: str, text: str, clear: Callable[[], object] | None, hint: str = ""
    ) -> None:
        """Take note of a leftover, and clear it if that is wanted and possible."""
        finding = Finding(Kind.LEFTOVER, place, text, hint or ("--repair" if clear else ""))
        self.report.findings.append(finding)
        if self.options.repair and clear is not None:
            with suppress(OSError, UndersealError):
                clear()
                finding.repaired = True
