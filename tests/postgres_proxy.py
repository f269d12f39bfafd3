"""A line to PostgreSQL that breaks while a commit is under way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

COMMIT = b"COMMIT"


class Proxy:
    """Passes bytes between sockets until it is told to break at the next commit."""

    def __init__(self, listen: Path, target: Path) -> None:
        self._target = target
        self.folder = listen.parent
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(listen))
        self._server.listen()
        self.breaks = ""
        """``before`` the database gets the commit, or ``after`` it has answered."""
        self.broken = 0
        self.cut_off = False
        """Let nobody in any more, from the break on."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self.cut_off and self.broken:
                client.close()
                continue
            database = socket.socket(socket.AF_UNIX)
            database.connect(str(self._target))
            line = _Line(self, client, database)
            threading.Thread(target=line.ask, daemon=True).start()
            threading.Thread(target=line.answer, daemon=True).start()


class _Line:
    def __init__(self, proxy: Proxy, client: socket.socket, database: socket.socket) -> None:
        self._proxy, self._client, self._database = proxy, client, database
        self._swallow = False

    def ask(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(1 << 16):
                if self._proxy.breaks and COMMIT in data:
                    when, self._proxy.breaks = self._proxy.breaks, ""
                    self._proxy.broken += 1
                    if when == "before":
                        break
                    self._swallow = True
                self._database.sendall(data)
        self._hang_up()

    def answer(self) -> None:
        with suppress(OSError):
            while (data := self._database.recv(1 << 16)) and not self._swallow:
                self._client.sendall(data)
        self._hang_up()

    def _hang_up(self) -> None:
        for one in (self._client, self._database):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(target: Path, folder: Path) -> Iterator[Proxy]:
    """Yield a proxy in ``folder`` under the name of the socket ``target``."""
    proxy = Proxy(folder / target.name, target)
    try:
        yield proxy
    finally:
        proxy.close()
