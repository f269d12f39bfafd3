"""A line to a server on loopback that can be cut and restored, under the same address."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Line:
    """Passes bytes on from a port of its own."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._listen()

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        for one in [self._server, *self._sockets]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._sockets.clear()

    def restore(self) -> None:
        """Let connections in again."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                there = socket.create_connection(self._target)
                self._sockets += [client, there]
                for start, end in ((client, there), (there, client)):
                    threading.Thread(target=_pass, args=(start, end), daemon=True).start()


def _pass(start: socket.socket, end: socket.socket) -> None:
    with suppress(OSError):
        while data := start.recv(1 << 16):
            end.sendall(data)
    for one in (start, end):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
