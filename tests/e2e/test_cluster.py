"""The real server on a real Ray cluster: nodes come, go and burn, and no search fails.

Every result is compared, bit for bit, with that of a server without Ray.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ray_fixtures import Node, RayCluster, ray_cluster
from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import Caller, calling, make_credentials
from underseal_client.demo.council import free_addresses
from underseal_core.gallery.unit import Shape
from underseal_proto.v1 import gallery_pb2

pytest.importorskip("ray", reason="install underseal[server,ray]")

LAB = Lab()
PROGRAM = Path(sys.executable).with_name("underseal-server")
BLOCKS = 6
SECONDS = 150.0
SHARD = "ray::Shard"

cluster = pytest.fixture(scope="module")(ray_cluster)


class Service:
    """A data folder, and ``underseal-server serve`` on it."""

    def __init__(self, root: Path, cluster: RayCluster) -> None:
        self.root, self.cluster = root, cluster
        self.log = root / "server.log"
        (self.metrics,) = free_addresses(1)
        self.probe = LAB.probe(unit_vectors(1)[0]).to_bytes()
        make_credentials(root / "credentials")
        LAB.bundle.save(root / "bundle.usb")

    @contextmanager
    def running(
        self, executor: str = "ray", save_seconds: float = 0.2, shard_threads: int = 0
    ) -> Iterator[Caller]:
        """Run the program and call it."""
        settings = {
            "listen": "127.0.0.1:0",
            "data": str(self.root / "data"),
            "credentials": str(self.root / "credentials/server"),
            "executor": executor,
            "ray_address": self.cluster.address if executor == "ray" else "",
            "ray_shard_threads": shard_threads,
            # A search that a lost machine held up is no reason to turn others away.
            "queue_wait": 100.0,
            "save_seconds": save_seconds,
            "threads": 1,
            "metrics_listen": self.metrics,
        }
        config = self.root / "server.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        config.write_text("\n".join([*lines, f'bundles = ["{self.root / "bundle.usb"}"]']))
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [str(PROGRAM), "serve", "--config", str(config), "--json"],
                env=os.environ | self.cluster.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, self.log.read_text()
            port = int(json.loads(line)["listening"].rpartition(":")[2])
            with calling(port, self.root / "credentials/agency") as caller:
                yield caller
        finally:
            process.terminate()
            code = process.wait(SECONDS)
        assert code == 0, self.log.read_text()

    def search(self, caller: Caller) -> dict[int, bytes]:
        """Search with the same probe as ever."""
        return caller.ask(caller.request(self.probe), self.probe).blocks

    def said(self, event: str = "") -> list[dict[str, Any]]:
        """Return what the program has logged, or of it the events of this name."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if event in ("", entry["event"])]

    def shards(self) -> float:
        """Return how many shards Prometheus is told of."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as response:
            lines = response.read().decode().splitlines()
        (line,) = [line for line in lines if line.startswith("underseal_shards ")]
        return float(line.split()[1])

    def wait(self, done: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline, self.log.read_text() + self.cluster.log()
            time.sleep(0.05)

    def wait_for_shards(self, count: int) -> None:
        """Wait until the last word on the number of shards is this one."""
        self.wait(lambda: [e["shards"] for e in self.said() if "shards" in e][-1:] == [count])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, cluster: RayCluster) -> Service:
    """A gallery of several blocks, and what a search in it finds."""
    return Service(tmp_path_factory.mktemp("cluster"), cluster)


@pytest.fixture(scope="module")
def expected(service: Service) -> dict[int, bytes]:
    """What a server without Ray finds."""
    with service.running("threads") as caller:
        caller.create()
        usable = LAB.bundle.profile.degree - 64
        for number in range(BLOCKS):
            count = usable if number < BLOCKS - 1 else 100
            caller.enrol(unit_vectors(count, seed=number), Shape.COLUMNS)
        found = service.search(caller)
    assert len(found) == BLOCKS
    return found


@pytest.fixture(scope="module")
def nodes(cluster: RayCluster) -> list[Node]:
    """The nodes that are alive; tests change it."""
    return [cluster.join(), cluster.join()]


@contextmanager
def searching(service: Service, caller: Caller, expected: dict[int, bytes]) -> Iterator[None]:
    """Search all the time, two at a time; each must find what is expected."""
    over = threading.Event()

    def search() -> int:
        count = 0
        while not over.is_set():
            assert service.search(caller) == expected
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        loops = [pool.submit(search) for _ in range(2)]
        try:
            yield
        finally:
            over.set()
        assert all(loop.result() > 1 for loop in loops)


def test_results_are_equal_to_the_bit_also_while_the_gallery_changes(
    service: Service, expected: dict[int, bytes], nodes: list[Node]
) -> None:
    """A block that has changed is scored by the server until its checkpoint is written."""
    (block,) = (service.root / "data/blocks").rglob(f"{BLOCKS - 1}.tiles")
    with service.running(save_seconds=2.0) as caller:
        service.wait_for_shards(len(nodes))
        assert service.search(caller) == expected
        saved = block.stat().st_mtime_ns
        (made,), _ = caller.enrol(unit_vectors(1, seed=99))
        more = service.search(caller)
        assert more != expected
        service.wait(lambda: block.stat().st_mtime_ns != saved)
        assert service.search(caller) == more
        gone = [made.template_id]
        request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=gone)
        caller.galleries.RemoveTemplates(request)
        assert service.search(caller) == expected


def test_a_node_that_burns_during_a_search_fails_no_search(
    service: Service, expected: dict[int, bytes], cluster: RayCluster, nodes: list[Node]
) -> None:
    """The search waits for a shard that does not answer any more when its machine goes."""
    with service.running() as caller, ThreadPoolExecutor(1) as pool:
        service.wait_for_shards(2)
        assert service.search(caller) == expected
        gone = nodes.pop(0)
        gone.send(signal.SIGSTOP, SHARD)
        waiting = pool.submit(service.search, caller)
        with pytest.raises(TimeoutError):
            waiting.result(1.0)
        gone.kill()
        assert waiting.result(SECONDS) == expected
        service.wait_for_shards(1)
        assert service.search(caller) == expected


def test_a_node_that_joins_takes_its_part(
    service: Service, expected: dict[int, bytes], cluster: RayCluster, nodes: list[Node]
) -> None:
    with service.running() as caller:
        service.wait_for_shards(1)
        assert service.search(caller) == expected
        nodes.append(cluster.join())
        service.wait(lambda: service.said("blocks moved"))
        assert [entry["blocks"] for entry in service.said("blocks moved")] == [BLOCKS // 2]
        assert service.search(caller) == expected


def test_rolling_restarts_fail_no_search_and_shards_outlive_the_server(
    service: Service, expected: dict[int, bytes], cluster: RayCluster, nodes: list[Node]
) -> None:
    with service.running() as caller:
        service.wait_for_shards(2)
        with searching(service, caller, expected):
            nodes.append(cluster.join())
            service.wait_for_shards(3)
            assert service.shards() == 3
            nodes.pop(0).stop()
            service.wait_for_shards(2)
            assert service.shards() == 2
    with service.running() as caller:
        service.wait_for_shards(2)
        assert sum(entry["held"] for entry in service.said("shard joined")) == BLOCKS
        assert service.search(caller) == expected


def test_shards_of_other_settings_are_ended(
    service: Service, expected: dict[int, bytes], nodes: list[Node]
) -> None:
    """What they were started with, such as where blocks are, is not what the server now says."""
    with service.running(shard_threads=1) as caller:
        service.wait_for_shards(2)
        assert [entry["held"] for entry in service.said("shard joined")] == [0, 0]
        assert service.search(caller) == expected
        service.wait(lambda: [len(node.processes(SHARD)) for node in nodes] == [1, 1])


def test_without_any_shard_the_server_scores_itself(
    service: Service, expected: dict[int, bytes], nodes: list[Node]
) -> None:
    with service.running() as caller:
        service.wait_for_shards(2)
        for node in nodes:
            node.kill()
        assert service.search(caller) == expected
