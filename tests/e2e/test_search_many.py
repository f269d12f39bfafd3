"""Many searches at once, over mutual TLS: merged, fair, cancellable, in time, within bounds."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import pytest

from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import (
    LOOPS,
    TIMEOUT,
    Caller,
    Found,
    calling,
    inside,
    make_credentials,
    serving,
)
from underseal_core.errors import Busy, PermissionRefused
from underseal_core.gallery.unit import Shape
from underseal_core.signing import Identity
from underseal_core.statements import SearchResult
from underseal_proto.v1 import search_pb2, search_pb2_grpc
from underseal_server.api.serving import Running
from underseal_server.engine.hosted import Hosted
from underseal_server.settings import Settings

LAB = Lab()
VECTORS = unit_vectors(50)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    make_credentials(folder / "credentials")
    return folder


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[Running]:
    data = tmp_path / "data"
    (data / "bundles").mkdir(parents=True)
    LAB.bundle.save(data / "bundles" / f"{LAB.bundle.epoch}.usb")
    folder = root / "credentials/server"
    settings = Settings(listen="127.0.0.1:0", data=data, credentials=folder, threads=2)
    with serving(settings) as running:
        yield running


@pytest.fixture
def agency(server: Running, root: Path) -> Iterator[Caller]:
    with calling(server.port, root / "credentials/agency") as caller:
        caller.create()
        caller.enrol(VECTORS, Shape.COLUMNS)
        yield caller


@pytest.fixture
def other(server: Running, root: Path) -> Iterator[Caller]:
    with calling(server.port, root / "credentials/other") as caller:
        yield caller


@asynccontextmanager
async def stopped(server: Running) -> AsyncIterator[Hosted]:
    """Let no search be scored meanwhile."""
    hosted = await server.hosting.open("missing")
    async with hosted.writing():
        yield hosted


@contextmanager
def nothing_scored(server: Running) -> Iterator[None]:
    """As :func:`stopped`, from outside of the server's loop."""
    begun, over = threading.Event(), threading.Event()

    async def held() -> None:
        async with stopped(server):
            begun.set()
            await LOOPS[server.port].run_in_executor(None, over.wait)

    holding = threading.Thread(target=lambda: inside(server, held()))
    holding.start()
    begun.wait()
    try:
        yield
    finally:
        over.set()
        holding.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other threads or processes do."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def sample(server: Running, name: str, **labels: str) -> float:
    return server.metrics.registry.get_sample_value(name, labels) or 0.0


def computed(server: Running) -> float:
    """How many probes were expanded."""
    return sample(server, "underseal_search_seconds_count", stage="expand")


def test_each_of_many_has_its_own_signed_result_equal_to_that_of_a_search_alone(
    server: Running, agency: Caller
) -> None:
    probes = [LAB.probe(vector).to_bytes() for vector in VECTORS[:20]]
    alone = [agency.ask(agency.request(probe), probe) for probe in probes]
    requests = [agency.request(probe, case_reference=f"case {i}") for i, probe in enumerate(probes)]
    messages = [agency.message(*pair) for pair in zip(requests, probes, strict=True)]
    together = agency.ask_many(iter(messages))
    assert sorted(together) == list(range(len(probes)))
    key = alone[0].envelope.signatures[0].public_key
    for index, one in enumerate(alone):
        merged = together[index]
        assert isinstance(merged, Found)
        result = SearchResult.open(merged.envelope, key)
        assert result.request_sha256 == requests[index].sha256()
        assert result.snapshot == one.result.snapshot
        assert (merged.blocks, merged.norm) == (one.blocks, one.norm)
    batches = sample(server, "underseal_search_batch_size_count")
    assert batches < 2 * len(probes)  # 20 alone, and fewer than 20 for the same 20 together


def test_what_is_wrong_with_one_request_ends_no_other(server: Running, agency: Caller) -> None:
    probe = LAB.probe(VECTORS[0]).to_bytes()
    good = [agency.request(probe) for _ in range(4)]
    messages = [
        agency.message(good[0], probe),
        agency.message(agency.request(probe, gallery="nowhere"), probe),
        agency.message(good[0], probe),
        agency.message(agency.request(probe), probe[:-1]),
        agency.message(good[1], probe),
    ]
    found = agency.ask_many(iter(messages))
    refused = {i: one for i, one in found.items() if isinstance(one, search_pb2.SearchRefusal)}
    codes = {i: (one.code, one.error) for i, one in refused.items()}
    assert codes[1] == (grpc.StatusCode.NOT_FOUND.value[0], "NotFound")
    assert codes[3] == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "InvalidInput")
    (again,) = set(codes) - {1, 3}  # one of the two with the same id
    assert again in (0, 2)
    assert codes[again] == (grpc.StatusCode.ALREADY_EXISTS.value[0], "Conflict")
    assert isinstance(found[4], Found)


def test_a_search_goes_before_the_many_of_another_client(
    server: Running, agency: Caller, other: Caller
) -> None:
    probe = LAB.probe(VECTORS[0]).to_bytes()
    messages = [agency.message(agency.request(probe), probe) for _ in range(120)]
    ended: list[float] = []

    def ask_all() -> None:
        agency.ask_many(iter(messages))
        ended.append(time.monotonic())

    many = threading.Thread(target=ask_all)
    request = other.request(probe)
    many.start()
    until(lambda: computed(server) > 0)
    assert other.ask(request, probe).blocks
    at = time.monotonic()
    assert computed(server) < len(messages)
    many.join()
    assert at < ended[0]


GOES_AWAY = """
import sys, threading
from pathlib import Path
from underseal_core.credentials import Credentials
from underseal_core.rpc.tls import open_channel
from underseal_proto.v1 import search_pb2, search_pb2_grpc

port, folder, file = sys.argv[1:]
many = search_pb2.SearchManyRequest
messages = [search_pb2.SearchRequest.FromString(bytes.fromhex(l)) for l in Path(file).open()]
with open_channel(f"127.0.0.1:{port}", Credentials.load(Path(folder))) as channel:
    stub = search_pb2_grpc.SearchServiceStub(channel)
    calls = [stub.Search(message) for message in messages[:4]]
    calls.append(stub.SearchMany(many(search=message) for message in messages[4:]))
    print("sent", flush=True)
    threading.Event().wait()
"""


def test_a_process_that_dies_frees_its_places_and_the_others_get_their_results(
    server: Running, agency: Caller, other: Caller, tmp_path: Path, root: Path
) -> None:
    """It dies with searches that wait, with one being expanded or scored, and merged with ours."""
    probe = LAB.probe(VECTORS[0]).to_bytes()
    expected = other.ask(other.request(probe), probe).blocks
    messages = [agency.message(agency.request(probe), probe) for _ in range(24)]
    lines = "\n".join(message.SerializeToString().hex() for message in messages)
    (tmp_path / "messages").write_text(lines)
    folder = root / "credentials/agency"
    command = [sys.executable, "-c", GOES_AWAY, server.port, folder, tmp_path / "messages"]
    before = computed(server)
    with (
        nothing_scored(server),
        subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"sent\n"
        until(lambda: server.admission.waiting > 0)
        ours: list[Found] = []
        mine = threading.Thread(
            target=lambda: ours.extend(
                one
                for one in other.ask_many([other.message(other.request(probe), probe)]).values()
                if isinstance(one, Found)
            )
        )
        mine.start()
        until(lambda: server.admission.waiting > 4)
        process.kill()
        until(lambda: server.admission.waiting <= 1)
    mine.join()
    assert [one.blocks for one in ours] == [expected]
    assert agency.ask(agency.request(probe), probe).blocks == expected
    assert computed(server) - before < len(messages)
    until(lambda: sample(server, "underseal_results_unread_bytes") == 0)


def test_what_is_not_checked_yet_takes_no_place_and_is_refused_before_it_is_checked(
    server: Running, agency: Caller, other: Caller
) -> None:
    """Forged requests of a client that would go before others, and of one that would not."""
    probe = LAB.probe(VECTORS[0]).to_bytes()
    server.admission._limit = server.admission._merged = 1
    server.admission._factor = 1e6  # however long the one that waits must wait here
    stranger = Identity.generate()
    found: list[Found] = []

    def searching() -> None:
        found.append(agency.ask(agency.request(probe), probe))

    threads = [threading.Thread(target=searching) for _ in range(2)]
    with nothing_scored(server):
        threads[0].start()
        until(lambda: bool(server.admission._batches))
        threads[1].start()
        until(lambda: server.admission.waiting == 1)
        for _ in range(3):
            with pytest.raises(PermissionRefused, match="not signed by the expected key"):
                other.ask(other.request(probe), probe, stranger)
            with pytest.raises(Busy, match="queue is full"):
                agency.ask(agency.request(probe), probe, stranger)
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert sample(server, "underseal_searches_shed_total", reason="queue") == 3


def test_a_deadline_that_cannot_be_met_is_refused_at_once(server: Running, agency: Caller) -> None:
    probe = LAB.probe(VECTORS[0]).to_bytes()
    assert agency.ask(agency.request(probe), probe).blocks

    async def slow() -> None:
        hosted = await server.hosting.open("missing")
        for _ in range(9):
            hosted.pace.expanded(1000.0)

    before = computed(server)
    inside(server, slow())
    with pytest.raises(Busy, match="before its deadline") as refused:
        agency.ask(agency.request(probe), probe)
    assert refused.value.retry_after_ms > 0
    (many,) = agency.ask_many([agency.message(agency.request(probe), probe)]).values()
    assert isinstance(many, search_pb2.SearchRefusal)
    assert many.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert many.retry_after_ms > 0
    assert computed(server) == before
    assert sample(server, "underseal_searches_shed_total", reason="deadline") == 2


def test_whoever_does_not_read_is_not_computed_for_and_keeps_nobody_waiting(
    server: Running, agency: Caller, other: Caller
) -> None:
    probe = LAB.probe(VECTORS[0]).to_bytes()
    messages = [agency.message(agency.request(probe), probe) for _ in range(200)]
    sent: list[int] = []

    def sending() -> Iterator[search_pb2.SearchManyRequest]:
        for index, message in enumerate(messages):
            sent.append(index)
            yield search_pb2.SearchManyRequest(search=message)

    call = search_pb2_grpc.SearchServiceStub(agency.channel).SearchMany(sending(), timeout=TIMEOUT)
    next(call)
    for _ in range(3):
        assert other.ask(other.request(probe), probe).blocks
    counts = [-1.0, computed(server)]
    while len(set(counts[-3:])) > 1:  # until nothing is computed for it any more
        time.sleep(0.2)
        counts.append(computed(server))
    assert counts[-1] < len(messages)
    call.cancel()
    until(lambda: sample(server, "underseal_results_unread_bytes") == 0)
    assert agency.ask(agency.request(probe), probe).blocks
