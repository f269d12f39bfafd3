"""SIGHUP: read the policy again, without a restart."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

import structlog

from underseal_core.errors import UndersealError

_log: Final = structlog.get_logger("underseal.policy")


def on_hangup(reload: Callable[[], None]) -> None:
    """Call ``reload`` on a thread after each SIGHUP of this process; what it raises is logged."""
    loop = asyncio.get_running_loop()

    def hung_up() -> None:
        loop.run_in_executor(None, _attempt, reload)

    loop.add_signal_handler(signal.SIGHUP, hung_up)


def _attempt(reload: Callable[[], None]) -> None:
    try:
        reload()
    except UndersealError as error:
        _log.error("policy not changed", reason=error.public, hint=error.hint)
    else:
        _log.info("policy reloaded")
