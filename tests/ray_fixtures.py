"""A Ray cluster on this machine: a process tree for each node, in a network namespace of its own
where that is allowed, with a token and TLS between them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import trustme

RAY = Path(sys.executable).with_name("ray")
MARK = "UNDERSEAL_TEST_NODE"
MIB = 1 << 20
SECONDS = 150.0
STARTED = b"Ray runtime started"
ATTEMPTS = 3


class Node:
    """One node: everything that ``ray start --block`` has started."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.mark = secrets.token_hex(8)
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment | {MARK: self.mark}, stdout=output, stderr=output
            )

    def started(self) -> bool:
        """Wait until it runs; it gives up by itself after 30 seconds, on a busy machine."""
        while STARTED not in self.log.read_bytes():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
                return False
        return True

    def processes(self, title: str = "") -> list[int]:
        """Its processes; those of a title only."""
        found = []
        mark = f"{MARK}={self.mark}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                started_here = mark in (path / "environ").read_bytes().split(b"\0")
                if started_here and title.encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def send(self, number: signal.Signals, title: str = "") -> None:
        """Send all of them a signal, or those of a title."""
        for process in self.processes(title):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        """End it as an orchestrator does: SIGTERM to its first process, and wait."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS)
        self.kill()

    def kill(self) -> None:
        """Let the machine burn."""
        while self.processes():
            self.send(signal.SIGKILL)
            self._process.poll()
        self._process.wait()


class RayCluster:
    """A head, on which no shard runs, and nodes."""

    def __init__(self) -> None:
        # Short: paths of sockets are in it.
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))
        self._spaces: list[str] = []
        # Of their own, as other runs of the tests may go on.
        self._bridge = f"us{secrets.token_hex(4)}"
        self._net = f"10.213.{secrets.randbelow(256)}"
        self.apart = _ip("link", "add", self._bridge, "type", "bridge")
        self._host = f"{self._net}.1" if self.apart else "127.0.0.1"
        if self.apart:
            assert _ip("addr", "add", f"{self._host}/24", "dev", self._bridge)
            assert _ip("link", "set", self._bridge, "up")
        self._certificates()
        token = self.folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(self.folder / "cert.pem"),
            "RAY_TLS_SERVER_KEY": str(self.folder / "key.pem"),
            "RAY_TLS_CA_CERT": str(self.folder / "ca.pem"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",  # other tests may need the memory
        }
        with socket.socket() as free:
            free.bind((self._host, 0))
            port = free.getsockname()[1]
        self.address = f"{self._host}:{port}"
        self.nodes: list[Node] = []
        options = ["--head", f"--port={port}", "--num-cpus=0", "--memory=0"]
        options += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        self._start([], self._host, options)

    def join(self) -> Node:
        """Start a node with room for one shard."""
        prefix, host = [], self._host
        if self.apart:
            space = f"{self._bridge}n{len(self._spaces)}"
            host = f"{self._net}.{len(self._spaces) + 2}"
            self._connect(space, host)
            prefix = ["ip", "netns", "exec", space]
        options = [f"--address={self.address}", "--num-cpus=1", f"--memory={256 * MIB}"]
        return self._start(prefix, host, options)

    def log(self) -> str:
        """Return the last that the nodes said."""
        return "".join(node.log.read_text()[-2000:] for node in self.nodes)

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.kill()
        for space in self._spaces:
            _ip("netns", "del", space)
        if self.apart:
            _ip("link", "del", self._bridge)
        shutil.rmtree(self.folder)

    def _start(self, prefix: list[str], host: str, options: list[str]) -> Node:
        options += [f"--node-ip-address={host}", f"--object-store-memory={80 * MIB}"]
        command = [*prefix, str(RAY), "start", "--block", *options]
        log = self.folder / f"node{len(self.nodes)}.log"
        for _ in range(ATTEMPTS):
            node = Node(command, os.environ | self.environment, log)
            self.nodes.append(node)
            if node.started():
                return node
            node.kill()
        raise AssertionError(log.read_text())

    def _connect(self, space: str, host: str) -> None:
        self._spaces.append(space)
        inner, outer = f"{space}i", f"{space}o"
        for words in (
            ("netns", "add", space),
            ("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space),
            ("link", "set", outer, "master", self._bridge, "up"),
            ("-n", space, "addr", "add", f"{host}/24", "dev", inner),
            ("-n", space, "link", "set", inner, "up"),
            ("-n", space, "link", "set", "lo", "up"),
        ):
            assert _ip(*words), words

    def _certificates(self) -> None:
        authority = trustme.CA()
        hosts = ["127.0.0.1", "localhost", *(f"{self._net}.{number}" for number in range(1, 20))]
        issued = authority.issue_cert(*hosts)
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        issued.private_key_pem.write_to_path(self.folder / "key.pem")
        for blob in issued.cert_chain_pems:
            blob.write_to_path(self.folder / "cert.pem", append=True)


def ray_cluster() -> Iterator[RayCluster]:
    """A cluster of a head; use as the body of a fixture."""
    cluster = RayCluster()
    try:
        yield cluster
    finally:
        cluster.close()


def _ip(*words: str) -> bool:
    if shutil.which("ip") is None:
        return False
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0
