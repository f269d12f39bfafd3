"""n auditors who make keys together, any k of whom open a score: folders, ceremony, guardians.

Each has a folder, a passphrase and processes of its own; nothing of one is read by another.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from underseal_client.demo.process import ProgramFailed, run_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from underseal_client.demo.process import Service, Services

AUDITOR_PROGRAM: Final = "underseal-auditor"
ANY_PORT: Final = "127.0.0.1:0"
CEREMONY_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Seat:
    """One guardian's place.

    ``folder`` holds what is the guardian's own: passphrase, keys, data. The first guardian's
    auditor is the registrar as well.
    """

    point: int
    folder: Path
    credentials: Path

    @property
    def passphrase(self) -> Path:
        """File with the passphrase that seals the guardian's secrets."""
        return self.folder / "passphrase"

    @property
    def keys(self) -> Path:
        """Folder with what the guardian has from the ceremony."""
        return self.folder / "keys"

    @property
    def state(self) -> Path:
        """Folder of the guardian's part of the ceremony."""
        return self.folder / "ceremony"


def guardian_name(point: int) -> str:
    """Return the name of a guardian's certificate and process."""
    return f"guardian-{point}"


def write_passphrase(path: Path) -> None:
    """Write a random passphrase into a file that only its owner reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


class Council:
    """The guardians of a deployment.

    Parameters
    ----------
    seats
        In the order of their points, from 1.
    threshold
        How many together open a score.
    services
        Ends their processes.
    """

    def __init__(self, seats: Sequence[Seat], threshold: int, services: Services) -> None:
        self.seats = tuple(seats)
        self.threshold = threshold
        self.addresses: dict[int, str] = {}
        self._services = services

    def hold_ceremony(self, file: Path, profile: str, dimension: int) -> str:
        """Make the keys between as many processes as there are guardians.

        Parameters
        ----------
        file
            The ceremony file to write.

        Returns
        -------
        str
            The words of the key epoch, the same at every guardian.

        Raises
        ------
        ProgramFailed
            A member failed, or their words differ.
        """
        with ThreadPoolExecutor(len(self.seats)) as threads:
            cards = list(threads.map(_prepare, self.seats))
        arguments: list[object] = [*cards, "--threshold", self.threshold, "--out", file]
        arguments += ["--profile", profile, "--dimension", dimension]
        run_program(AUDITOR_PROGRAM, "ceremony", "plan", *arguments)
        words = {str(facts["fingerprint"]) for facts in self._join(file)}
        if len(words) != 1:
            raise ProgramFailed("the guardians ended the ceremony with different keys")
        return words.pop()

    def _join(self, file: Path) -> list[dict[str, object]]:
        """Run every member's part at once; when one fails, the others are ended."""
        addresses = free_addresses(len(self.seats))
        with ThreadPoolExecutor(len(self.seats)) as threads, ExitStack() as running:
            members = []
            for seat in self.seats:
                name = f"{guardian_name(seat.point)}-ceremony"
                arguments = _join_arguments(seat, file, addresses)
                members.append(self._services.start(name, AUDITOR_PROGRAM, arguments))
                running.callback(members[-1].stop)
            waiting = [threads.submit(one.wait_ready, CEREMONY_SECONDS) for one in members]
            done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            for failed in done:
                failed.result()
            return [one.result() for one in waiting]

    def start(self, options: Callable[[Seat], Sequence[object]]) -> None:
        """Start every guardian at once and wait until all serve.

        Parameters
        ----------
        options
            Of ``guardian serve``, besides what is the guardian's own.
        """
        started = {seat.point: self._serve(seat, options(seat)) for seat in self.seats}
        for point, service in started.items():
            self.addresses[point] = service.wait_listening()

    def restart(self, point: int, options: Callable[[Seat], Sequence[object]]) -> None:
        """Start a guardian again where it was and wait until it serves."""
        seat = self.seats[point - 1]
        self.addresses[point] = self._serve(seat, options(seat)).wait_listening()

    def kill(self, point: int) -> None:
        """End one guardian at once, as a crash would."""
        self._services[guardian_name(point)].kill()

    def _serve(self, seat: Seat, options: Sequence[object]) -> Service:
        listen = self.addresses.get(seat.point, ANY_PORT)
        arguments: list[object] = ["guardian", "serve", "--listen", listen, "--json"]
        arguments += ["--credentials", seat.credentials, "--bundle", seat.keys / "bundle.usb"]
        arguments += ["--share", seat.keys / "share.sealed", "--data", seat.folder / "data"]
        arguments += ["--passphrase-file", seat.passphrase, *options]
        return self._services.start(guardian_name(seat.point), AUDITOR_PROGRAM, arguments)


def _prepare(seat: Seat) -> object:
    """Make a member's keys; return its card."""
    seat.folder.mkdir()
    write_passphrase(seat.passphrase)
    arguments: list[object] = ["--credentials", seat.credentials, "--state", seat.state]
    arguments += ["--passphrase-file", seat.passphrase, "--json"]
    arguments += ["--registrar"] if seat.point == 1 else []
    return json.loads(run_program(AUDITOR_PROGRAM, "ceremony", "prepare", *arguments))["card"]


def _join_arguments(seat: Seat, file: Path, addresses: Sequence[str]) -> list[object]:
    arguments: list[object] = ["ceremony", "join", "--file", file, "--json"]
    arguments += ["--credentials", seat.credentials, "--state", seat.state, "--out", seat.keys]
    arguments += ["--passphrase-file", seat.passphrase]
    for point, address in enumerate(addresses, start=1):
        if point == seat.point:
            arguments += ["--listen", address]
        else:
            arguments += ["--peer", f"{point}={address}"]
    return arguments


def free_addresses(count: int) -> list[str]:
    """Return addresses on loopback that nobody listens on; each member must know the others'."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
