"""Server processes by the dozen: one that has loaded the program forks a new one on every order.

Run as a program it reads settings, one JSON object a line, and runs the server of each in a
process of its own until that ends; a JSON array is a command's arguments. So a start costs what
the server does, not what Python loads.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underseal_core.errors import UndersealError
from underseal_core.rpc import logging
from underseal_server.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.05
"""Seconds after which the servers try again what failed."""


@dataclass(frozen=True)
class Started:
    """A server process that listens."""

    port: int
    process: int


class NotStarted(Exception):
    """The server ended before it listened; the text says why."""


class ServerProcesses:
    """One server process at a time.

    Parameters
    ----------
    environment
        Of the processes.
    log
        Gets what they say.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._parent = subprocess.Popen(
                [sys.executable, "-m", "tests.forked_server"],
                cwd=ROOT,
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self._running: Started | None = None
        self.said = ""
        """The error that the last server ended with."""

    def start(self, settings: Settings) -> Started:
        """Start a server and wait until it listens.

        Raises
        ------
        NotStarted
            It ended before.
        """
        if self._running is not None:  # a test failed
            self.end(signal.SIGKILL)
        told = self._order(settings.model_dump_json())
        if "port" not in told:
            raise NotStarted(self.said or f"ended with {told['ended']}")
        self._running = Started(told["port"], told["process"])
        return self._running

    def run(self, *arguments: object) -> int:
        """Run a command of ``underseal-server`` and return how it ended, as :meth:`ended` does."""
        return int(self._order(json.dumps([str(argument) for argument in arguments]))["ended"])

    def _order(self, line: str) -> dict[str, Any]:
        assert self._parent.stdin is not None
        self._parent.stdin.write(line + "\n")
        self._parent.stdin.flush()
        self.said = ""
        return self._next()

    def _next(self) -> dict[str, Any]:
        assert self._parent.stdout is not None
        line = self._parent.stdout.readline()
        assert line, self.log.read_text()
        told = dict(json.loads(line))
        if "error" not in told:
            return told
        self.said = told["error"]
        return self._next()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the running server a signal and return how it ended."""
        assert self._running is not None
        with suppress(ProcessLookupError):
            os.kill(self._running.process, number)
        return self.ended()

    @property
    def runs(self) -> bool:
        """Whether a server was started whose end nobody has waited for."""
        return self._running is not None

    def ended(self) -> int:
        """Wait for the server's end: its exit status, or the signal's number negated."""
        told = self._next()
        self._running = None
        return int(told["ended"])

    def close(self) -> None:
        """End whatever runs."""
        if self._running is not None:
            self.end(signal.SIGKILL)
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(60)


def _serve(settings: Settings) -> None:
    from underseal_server.api.serving import serve
    from underseal_server.engine import intake

    intake.RETRY_SECONDS = PAUSE  # type: ignore[misc]  # Final: five seconds, for people
    logging.configure(settings.log_level)

    def started(port: int) -> None:
        _tell({"port": port, "process": os.getpid()})

    asyncio.run(serve(settings, started))


def _tell(facts: Mapping[str, object]) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _run(arguments: list[str]) -> None:
    from underseal_server.cli.app import app

    with redirect_stdout(sys.stderr):
        app(arguments, standalone_mode=False)


def _fork(line: str) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if line.startswith("["):
                _run(json.loads(line))
            else:
                _serve(Settings.model_validate_json(line))
            status = 0
        except UndersealError as error:
            _tell({"error": f"{type(error).__name__}: {error.public}"})
        except BaseException:  # noqa: BLE001  # shown here: the fork must not go on in main()
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    _tell({"ended": os.waitstatus_to_exitcode(status)})


def main() -> None:
    """Fork a server, or a command, for each line until the input ends."""
    import underseal_server.api.serving
    import underseal_server.cli.app  # noqa: F401  # loaded once, for all

    for line in sys.stdin:
        _fork(line)


if __name__ == "__main__":
    main()
