"""A PostgreSQL server of the test session's own, on a socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

VERSIONS = Path("/usr/lib/postgresql")
"""Where Debian puts the server's programs: not on the PATH."""
PAGE = 8192
NORMAL = 1
"""Of line pointers: there is a row, dead or alive."""
FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB")


def programs() -> Path | None:
    """Return the folder of ``postgres`` and ``initdb``, the newest first."""
    found = shutil.which("postgres")
    if found and shutil.which("initdb"):
        return Path(os.path.realpath(found)).parent
    folders = sorted(VERSIONS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


def owner() -> str | None:
    """Return whom the server runs as: itself it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _rows(pages: bytes) -> Iterator[bytes]:
    """Yield what the line pointers of a heap's pages refer to (bufpage.h, itemid.h)."""
    for start in range(0, len(pages), PAGE):
        page = pages[start : start + PAGE]
        (lower,) = struct.unpack_from("<H", page, 12)
        for place in range(24, lower, 4):
            (pointer,) = struct.unpack_from("<I", page, place)
            offset, kind, length = pointer & 0x7FFF, pointer >> 15 & 3, pointer >> 17
            if kind == NORMAL:
                yield page[offset : offset + length]


class Cluster:
    """A cluster without passwords, of the user ``tester``, reached by its socket only."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self._owner = owner()
        self.folder = Path(tempfile.mkdtemp(prefix="underseal-pg-"))
        if self._owner is not None:
            shutil.chown(self.folder, self._owner)
        self._data = self.folder / "data"
        options = (
            "--no-sync",
            "--auth=trust",
            "--username=tester",
            "--encoding=UTF8",
            "--no-locale",
        )
        self._run("initdb", "-D", self._data, *options)
        self.process = self.start()

    def _command(self, name: str, *arguments: object) -> list[str]:
        return [str(part) for part in (self._bin / name, *arguments)]

    def _run(self, name: str, *arguments: object) -> None:
        command = self._command(name, *arguments)
        done = subprocess.run(
            command, cwd=self.folder, user=self._owner, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        socket = ("-c", f"unix_socket_directories={self.folder}", "-c", "listen_addresses=")
        command = self._command("postgres", "-D", self._data, *socket, *FAST)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, user=self._owner, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.05)
            else:
                return self.process

    def stop(self) -> None:
        """End the server at once and without a checkpoint."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def remove(self) -> None:
        """End the server and delete everything."""
        self.stop()
        shutil.rmtree(self.folder)

    def create(self) -> str:
        """Create an empty database and return its URL."""
        name = "d" + secrets.token_hex(8)
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://tester@/{name}?host={self.folder}"

    def dump(self, url: str) -> bytes:
        """Return all that ``pg_dump`` writes of a database; bytes are in hexadecimal digits."""
        command = self._command("pg_dump", "--dbname", url, "--inserts")
        return subprocess.run(command, check=True, capture_output=True).stdout

    def pages(self, url: str, table: str) -> bytes:
        """Return a table's file as it is on disk."""
        with self.connect(url.partition("?")[0].rpartition("/")[2]) as admin:
            admin.execute("CHECKPOINT")
            found = admin.execute("SELECT pg_relation_filepath(%s)", (table,)).fetchone()
        assert found is not None
        return (self._data / str(found[0])).read_bytes()

    def rows(self, url: str, table: str) -> list[bytes]:
        """Return every row that is in a table's file, also those that nobody sees any more."""
        return list(_rows(self.pages(url, table)))

    def connect(self, name: str) -> psycopg.Connection[tuple[object, ...]]:
        """Connect past the server under test."""
        return psycopg.connect(self.url(name), autocommit=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A running PostgreSQL server."""
    found = programs()
    if found is None:
        pytest.skip("needs PostgreSQL's server: on Debian and Ubuntu, install postgresql")
    cluster = Cluster(found)
    try:
        yield cluster
    finally:
        cluster.remove()
