"""A way to object storage on which chosen objects are never deleted, as by a policy or a fault."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_NOT_COPIED = frozenset({"connection", "content-length", "date", "server", "transfer-encoding"})
KEY = re.compile("<Key>(.*?)</Key>")
RESULT = """<?xml version="1.0" encoding="UTF-8"?>
<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</DeleteResult>"""
DELETED = "<Deleted><Key>{key}</Key></Deleted>"
REFUSED = "<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>kept</Message></Error>"
"""AWS refuses a deletion of several objects one by one, inside of an answer of success."""


class Keeper:
    """Passes requests on, but for deletions of objects whose keys contain a text."""

    def __init__(self, endpoint: str) -> None:
        self._target = endpoint.removeprefix("http://")
        self.keeps = ""
        """Part of the keys; empty: everything may be deleted."""
        self.status = 503
        """Of the refusal: 503 and 403 of a whole request, 200 of these objects only."""
        self.refused = 0
        keeper = self

        class Handler(_Handler):
            """Of this one's requests."""

            def answer(self) -> None:
                keeper.pass_on(self)

            do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def pass_on(self, request: _Handler) -> None:
        """Answer one request."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        deletes = request.command == "POST" and request.path.endswith("?delete")
        keys = KEY.findall(body.decode()) if deletes else []
        kept = [key for key in keys if self.keeps and self.keeps in key]
        if kept:
            self.refused += 1
            mine = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_COPIED}
            place = request.path.removesuffix("?delete").rstrip("/")
            for key in set(keys) - set(kept) if self.status == 200 else ():
                self._ask("DELETE", f"{place}/{key}", b"", mine)
            done = "".join(DELETED.format(key=key) for key in keys if key not in kept)
            errors = "".join(REFUSED.format(key=key) for key in kept)
            request.send(self.status, {}, RESULT.format(inside=done + errors).encode())
            return
        self._pass(request, body)

    def _pass(self, request: _Handler, body: bytes) -> None:
        headers = dict(request.headers.items())
        answer, data = self._ask(request.command, request.path, body, headers)
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _NOT_COPIED}
        length = answer.getheader("Content-Length") if request.command == "HEAD" else None
        request.send(answer.status, headers, data, length)

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection(self._target)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        """Say nothing."""

    def send(
        self, status: int, headers: dict[str, str], body: bytes, length: str | None = None
    ) -> None:
        """Answer; ``length``: of the body that is not sent."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def keeping(endpoint: str) -> Iterator[Keeper]:
    """Begin to keep; use what is yielded as the storage's endpoint."""
    keeper = Keeper(endpoint)
    try:
        yield keeper
    finally:
        keeper.close()
