"""The other roles' programs, started as they are installed; nothing of them is imported."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sysconfig
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from underseal_core.errors import UndersealError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_EXCERPT: Final = 2000
_INSTALL: Final = "pip install 'underseal[client,server,auditor]'"


class ProgramFailed(UndersealError):
    """Another role's program ended or did not start."""


def find_program(name: str) -> str:
    """Return the path of a console script of this installation.

    Raises
    ------
    ProgramFailed
        It is not installed.
    """
    beside = Path(sysconfig.get_path("scripts"), name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ProgramFailed(
            f"the program {name} is not installed",
            hint=_INSTALL,
        )
    return found


def run_program(name: str, *arguments: object) -> str:
    """Run a program to its end and return what it printed.

    Raises
    ------
    ProgramFailed
        It ended with an error; the text holds what it said.
    """
    command = [find_program(name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _failed(f"{name} ended with code {done.returncode}", done.stderr)
    return done.stdout


class Service:
    """A program that prints a JSON object when it is ready, then serves until stopped.

    Parameters
    ----------
    log
        File that gets what it writes to stderr.
    environment
        The whole environment; None inherits ours.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[object],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [find_program(name), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_ready(self, seconds: float) -> dict[str, object]:
        """Return what the program says about itself once it serves.

        Raises
        ------
        ProgramFailed
            It ended, or took too long; it is stopped then.
        """
        said: list[dict[str, object]] = []
        stdout = self._process.stdout
        if stdout is None:
            raise ProgramFailed(f"{self.name} has no output")
        reader = threading.Thread(target=_read_facts, args=(stdout, said), daemon=True)
        reader.start()
        reader.join(seconds)
        if not said:
            self.stop()
            raise _failed(f"{self.name} did not start", self.log())
        return said[0]

    def wait_listening(self, seconds: float = READY_SECONDS) -> str:
        """Return the address on which the program listens, once it does.

        Raises
        ------
        ProgramFailed
            It ended, took too long, or did not say where it listens.
        """
        address = self.wait_ready(seconds).get("listening")
        if not isinstance(address, str):
            raise ProgramFailed(f"{self.name} did not say where it listens")
        return address

    def log(self) -> str:
        """Return what it wrote to stderr so far."""
        return self._log.read_text(errors="replace")

    def ask_to_end(self) -> None:
        """Send the signal that it ends upon, and go on."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> int:
        """Ask it to end, insist if need be; return its exit code."""
        self.ask_to_end()
        return self._reap()

    def kill(self) -> int:
        """End it at once, without a chance to tidy up."""
        self._process.kill()
        return self._reap()

    def _reap(self) -> int:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


class Services:
    """Programs that run, by name; :meth:`stop` ends all of them.

    Parameters
    ----------
    logs
        Folder for what they write to stderr, ``NAME.log``.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, Service] = {}

    def __getitem__(self, name: str) -> Service:
        """Return one that was started."""
        return self._running[name]

    def start(self, name: str, program: str, arguments: Sequence[object]) -> Service:
        """Start a program, and leave it to :meth:`stop` to end it."""
        with postponed_signals():
            service = Service(program, arguments, self._logs / f"{name}.log")
            self._running[name] = service
        return service

    def stop(self) -> None:
        """Ask every process to end, then see that it does."""
        with postponed_signals():
            for service in self._running.values():
                service.ask_to_end()
            for service in self._running.values():
                service.stop()
            self._running.clear()


def _read_facts(stream: IO[str], said: list[dict[str, object]]) -> None:
    """Read lines until they make up one JSON object."""
    text = ""
    for line in stream:
        text += line
        try:
            facts = json.loads(text)
        except ValueError:
            continue
        if isinstance(facts, dict):
            said.append(facts)
            return


@contextmanager
def postponed_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is done.

    A signal between the start of a process and the note that it runs would leave it running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled by the main thread
        return
    caught: list[int] = []
    previous = {
        number: signal.signal(number, lambda caught_number, _: caught.append(caught_number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for missed in caught:
            signal.raise_signal(missed)


def _failed(what: str, said: str) -> ProgramFailed:
    """Return the error for a program that said ``said`` on stderr."""
    lines = said.strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    if errors:
        return ProgramFailed(f"{what}: {errors[-1]}", hint=hints[-1] if hints else "")
    return ProgramFailed(f"{what}: {said.strip()[-_EXCERPT:]}")
