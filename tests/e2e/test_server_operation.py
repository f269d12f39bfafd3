"""The real program under real conditions: full disk, full queue, kill, logs, commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.server_fixtures import Lab, labelled, unit_vectors
from tests.server_harness import Caller, calling, ciphertexts, make_credentials, unit_parts
from underseal_core.errors import Busy, StorageFull
from underseal_core.gallery.unit import Shape
from underseal_core.outcome import run
from underseal_core.scheme.ciphertext import Kind, wire_size
from underseal_proto.v1 import gallery_pb2, search_pb2, search_pb2_grpc
from underseal_server.cli.app import app
from underseal_server.wire import envelope_to_wire

LAB = Lab()
PROGRAM = Path(sys.executable).with_name("underseal-server")


LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.argv[2], sys.argv[2:])
"""


def limited(file_bytes: int) -> tuple[object, ...]:
    """What starts a program that cannot write larger files. (gRPC does not survive a fork.)"""
    return (sys.executable, "-c", LIMITED, file_bytes) if file_bytes else ()


class Program:
    """``underseal-server serve`` in a process of its own."""

    def __init__(self, root: Path, *options: object, file_limit: int = 0) -> None:
        arguments = ["serve", "--listen", "127.0.0.1:0", "--data", root / "data", "--json"]
        arguments += ["--credentials", root / "credentials/server", "--threads", 1, *options]
        self.log = root / "server.log"

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in (*limited(file_limit), PROGRAM, *arguments)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.port = int(json.loads(line)["listening"].rpartition(":")[2])


@contextmanager
def running(root: Path, *options: object, file_limit: int = 0) -> Iterator[Program]:
    program = Program(root, *options, file_limit=file_limit)
    try:
        yield program
    finally:
        program.process.terminate()
        program.process.wait(60)
    assert program.process.returncode == 0, program.log.read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with credentials and a data folder that has the bundle."""
    make_credentials(tmp_path / "credentials")
    LAB.bundle.save(tmp_path / "bundle.usb")
    command("bundle", "add", tmp_path / "bundle.usb", "--data", tmp_path / "data")
    return tmp_path


def command(*arguments: object, code: int = 0) -> str:
    """Run a command that ends by itself, here, and return what it printed."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        run(lambda: app([str(part) for part in arguments], prog_name="underseal-server"))
    assert ended.value.code == code, err.getvalue()
    return out.getvalue() if code == 0 else out.getvalue() + err.getvalue()


def program(*arguments: object, code: int) -> str:
    """Run the installed program to its end and return what it printed."""
    done = subprocess.run(
        [str(part) for part in (PROGRAM, *arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_taken_port_is_said_once(root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = program(
            *("serve", "--listen", address, "--data", root / "data"),
            *("--credentials", root / "credentials/server", "--log-level", "ERROR"),
            code=3,
        )
    assert said.splitlines() == [
        f"error: cannot listen on {address}",
        "hint: write host:port of this machine; is the port free?",
    ]


def test_a_full_disk_refuses_the_unit_and_changes_nothing(root: Path) -> None:
    """No file may grow beyond a limit that a unit of columns exceeds and a row does not."""
    profile = LAB.bundle.profile
    block = LAB.dimension * wire_size(profile, Kind.COLUMN)
    limit = block - 1
    assert wire_size(profile, Kind.TEMPLATE_ROW) < limit
    vectors = unit_vectors(4)
    with running(root) as program, calling(program.port, root / "credentials/agency") as agency:
        agency.create()
        agency.enrol(vectors[:1])
        before = agency.state()
    with (
        running(root, file_limit=limit) as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        with pytest.raises(StorageFull, match="no room") as full:
            agency.enrol(vectors, Shape.COLUMNS)
        assert full.value.hint == "call the operator"
        assert agency.state() == before
        assert abs(agency.scores(agency.search(vectors[0]))[0][0] - 1) < 2**-8
    files = sorted((root / "data" / "units").rglob("*.*"))
    assert [path.suffix for path in files] == [".unit"]
    with running(root) as program, calling(program.port, root / "credentials/agency") as agency:
        agency.enrol(vectors, Shape.COLUMNS)
        assert agency.state().templates == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_file_system_without_room_refuses_and_recovers(root: Path) -> None:
    """Fills a small file system for real; what was acknowledged is there, and fits together."""
    data = root / "data"
    size = "4M"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(data)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        command("bundle", "add", root / "bundle.usb", "--data", data)
        vectors = unit_vectors(40)
        with (
            running(root, "--log-level", "WARNING") as program,
            calling(program.port, root / "credentials/agency") as agency,
        ):
            agency.create()
            stored = fill(agency, vectors)
            assert 0 < len(stored) < len(vectors)
            assert agency.state().templates == len(stored)
            scores = agency.scores(agency.search(vectors[0]))[0]
            slots = [slot for _, slot in stored]
            assert np.abs(scores[slots] - vectors[: len(stored)] @ vectors[0]).max() < 2**-8
        grown = ["mount", "-o", "remount,size=16M", str(data)]
        subprocess.run(grown, check=True)  # a look at the catalogue takes some room
        command("check", "--data", data, "--repair")  # what the last upload left may go
        command("check", "--data", data, "--deep")
    finally:
        subprocess.run(["umount", str(data)], check=True)


def fill(agency: Caller, vectors: np.ndarray) -> list[tuple[bytes, int]]:
    """Enrol one by one until there is no room; return ids and slots of what is stored."""
    stored: list[tuple[bytes, int]] = []
    for vector in vectors:
        try:
            made, receipt = agency.enrol(vector[None, :])
        except (StorageFull, Busy):  # refused, or stored and not to be shown before there is room
            break
        stored.append((made[0].template_id, receipt.first_slot))
    return stored


def test_a_full_queue_refuses_with_a_retry_hint_and_nothing_is_burnt(root: Path) -> None:
    with (
        running(root, "--queue-length", 0) as program,
        calling(program.port, root / "credentials/agency") as agency,
        ThreadPoolExecutor(4) as pool,
    ):
        agency.create()
        agency.enrol(unit_vectors(50), Shape.COLUMNS)
        probe = LAB.probe(unit_vectors(1)[0]).to_bytes()
        requests = [agency.request(probe) for _ in range(60)]
        refused = []
        for request, future in [(r, pool.submit(agency.ask, r, probe)) for r in requests]:
            try:
                future.result()
            except Busy as busy:
                refused.append((request, busy))
        assert 0 < len(refused) < len(requests)
        for request, error in refused:
            assert error.public == "the search queue is full"
            assert error.retry_after_ms >= 100
            agency.ask(request, probe)  # the same request again: its id was not used up


def test_a_search_that_the_client_cancels_frees_the_engine(root: Path) -> None:
    with (
        running(root, "--queue-length", 2) as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        agency.create()
        agency.enrol(unit_vectors(50), Shape.COLUMNS)
        probe = LAB.probe(unit_vectors(1)[0]).to_bytes()
        stub = search_pb2_grpc.SearchServiceStub(agency.channel)
        for _ in range(20):
            envelope = agency.request(probe).sign(agency.credentials.identity)
            message = search_pb2.SearchRequest(request=envelope_to_wire(envelope), probe=probe)
            call = stub.Search(message, timeout=60)
            try:
                next(call)
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
            call.cancel()
        request = agency.request(probe)
        while True:
            try:
                found = agency.ask(request, probe)
            except Busy:
                continue  # those cancelled are still leaving
            break
        assert set(found.blocks) == {0}


def test_a_killed_server_comes_back_with_everything_it_answered(root: Path) -> None:
    vectors = unit_vectors(30)
    program = Program(root)
    with calling(program.port, root / "credentials/agency") as agency:
        agency.create()
        stored = [agency.enrol(vector[None, :])[1].first_slot for vector in vectors[:5]]
        _, bulk = agency.enrol(vectors[5:], Shape.COLUMNS)
        before = agency.state()
        program.process.send_signal(signal.SIGKILL)
        program.process.wait(60)
    slots = [*stored, *range(bulk.first_slot, bulk.first_slot + 25)]
    with running(root) as again, calling(again.port, root / "credentials/agency") as agency:
        assert agency.state().snapshot_root == before.snapshot_root
        scores = agency.scores(agency.search(vectors[3]))[0]
        assert np.abs(scores[slots] - vectors @ vectors[3]).max() < 2**-8
    report = json.loads(command("check", "--data", root / "data", "--deep", "--json"))
    assert (report["units"], report["templates"], report["blocks"]) == (6, 30, 1)
    assert report["accounted"] and report["problems"] == report["leftovers"] == []
    assert [one["root"] for one in report["galleries"]] == [before.snapshot_root]


def test_check_finds_what_was_changed(root: Path) -> None:
    with running(root) as program, calling(program.port, root / "credentials/agency") as agency:
        agency.create()
        agency.enrol(unit_vectors(3))
        assert "used by another server" in command("check", "--data", root / "data", code=3)
    unit = next((root / "data").rglob("*.unit"))
    (root / "data" / "kept").write_bytes(unit.read_bytes())
    for path in (unit, next((root / "data").rglob("*.tiles"))):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    report = json.loads(
        command("check", "--data", root / "data", "--json", code=7).partition("\n")[0]
    )
    assert len(report["problems"]) == 2
    (root / "data" / "notes").write_text("mine")
    unit.write_bytes((root / "data" / "kept").read_bytes())
    said = command("check", "--data", root / "data", "--repair", code=8)
    assert "0 problems, 2 leftovers" in said and "0.tiles: " in said and "[repaired]" in said
    assert "not a server's data folder" in command("check", "--data", root / "no", code=3)


def test_logs_and_metrics_hold_no_label_vector_ciphertext_or_key(root: Path) -> None:
    port = free_port()
    templates = labelled(3)
    vectors = unit_vectors(3)
    options = ("--log-level", "DEBUG", "--metrics-listen", f"127.0.0.1:{port}")
    with (
        running(root, *options) as program,
        calling(program.port, root / "credentials/agency") as agency,
    ):
        agency.create()
        agency.enrol(vectors, templates=templates)
        found = agency.search(vectors[0])
        parts = unit_parts(labelled(1), [ciphertexts(LAB, vectors, Shape.ROW)[0].to_bytes()[:-1]])
        with pytest.raises(Exception, match="exactly"):
            agency.stream([agency.header(), *parts])
        agency.galleries.RemoveTemplates(
            gallery_pb2.RemoveTemplatesRequest(
                gallery="missing", template_ids=[templates[0].template_id]
            )
        )
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            metrics = response.read().decode()
    log = program.log.read_text()
    assert 'underseal_calls_total{code="OK",method="/underseal.v1.SearchService/Search"} 1.0' in (
        metrics
    )
    assert (
        'underseal_calls_total{code="DATA_LOSS",method="/underseal.v1.SearchService/Search"} 0.0'
        in (metrics)
    )
    lines = [json.loads(line) for line in log.splitlines()]
    events = {line["event"] for line in lines}
    assert {"listening", "call"} <= events and "refused" not in events
    refused = [line for line in lines if line.get("code") == "INVALID_ARGUMENT"]
    assert [(line["level"], line["caller"]) for line in refused] == [("warning", "client/agency")]
    assert all("exactly" in line["reason"] for line in refused)
    private = (root / "credentials/server/tls.key").read_text().splitlines()[1]
    secrets = [private, agency.credentials.identity.public_key.hex()]
    for template in templates:
        secrets += [template.sealed_label.hex(), repr(template.sealed_label)[2:-1]]
        secrets += [template.subject_id.hex(), template.template_id.hex()]
    secrets += [found.blocks[0][:16].hex(), repr(found.blocks[0][8:24])[2:-1]]
    secrets += [str(value) for value in vectors.ravel()] + [f"{v:.6f}" for v in vectors.ravel()]
    for text in (log, metrics):
        assert not [secret for secret in secrets if secret in text]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_commands_say_what_is_wrong(root: Path) -> None:
    data = ("--data", root / "data")
    assert "cannot read the bundle" in command("bundle", "add", root / "none", *data, code=4)
    certificate = root / "credentials/agency/ca.crt"
    assert "not an Underseal public bundle" in command("bundle", "add", certificate, *data, code=3)
    wrong = root / "wrong.toml"
    wrong.write_text("threads = 0\n")
    assert "threads" in program("serve", "--config", wrong, code=3)
    wrong.write_text('colour = "blue"\n')
    assert "colour" in program("serve", "--config", wrong, code=3)
    assert "role client" in program(
        "serve", "--credentials", root / "credentials/agency", "--data", root / "data", code=3
    )
    listed = json.loads(command("bundle", "list", "--data", root / "data", "--json"))
    assert [entry["key_epoch"] for entry in listed["bundles"]] == [LAB.bundle.epoch]


def test_init_makes_credentials_that_work_together(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    first = json.loads(command("init", folder, "--client", "agency", "--auditor", "a", "--json"))
    assert [entry["role"] for entry in first["participants"]] == ["server", "client", "auditor"]
    assert "already" in command("init", folder, "--client", "agency", code=3)
    assert "not a valid name" in command("init", folder, "--client", "A B", code=3)
    (tmp_path / "file").touch()
    assert "cannot make the folder" in command("init", tmp_path / "file", code=3)
    command("init", folder, "--client", "late", "--operator", "op")
    assert (folder / "ca" / "ca.key").stat().st_mode & 0o077 == 0
    assert (folder / "server" / "tls.key").stat().st_mode & 0o077 == 0
    LAB.bundle.save(tmp_path / "bundle.usb")
    (tmp_path / "server.toml").write_text(
        f'listen = "127.0.0.1:0"\ndata = "{tmp_path}/data"\n'
        f'credentials = "{folder}/server"\nbundles = ["{tmp_path}/bundle.usb"]\n'
    )
    with running(tmp_path, "--config", tmp_path / "server.toml") as program:
        for name in ("agency", "late"):
            with calling(program.port, folder / "clients" / name) as client:
                client.create(name)
        with calling(program.port, folder / "operators" / "op") as operator:
            assert operator.state("late").templates == 0
