"""Erasure over PostgreSQL and object storage: server, registrar and guardians as processes."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import auditor_place
from tests.auditor_place import (
    DIMENSION,
    PROGRAM,
    Desk,
    GuardedLab,
    Place,
    ask,
)
from tests.ceremony_place import PASSPHRASE, environment, free_ports
from tests.e2e.test_auditor_programs import wait_ready
from tests.e2e.test_council import end, serve_guardian
from tests.e2e.test_erasing_processes import appointed
from tests.e2e.test_server_operation import command, running
from tests.postgres_fixtures import Cluster
from tests.s3_fixtures import S3Server
from tests.server_fixtures import unit_vectors
from tests.server_harness import calling
from underseal_client.erasures import Erasure, ErasureVerifier
from underseal_client.wire.galleries import erasures_from_wire
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Credentials
from underseal_core.gallery.unit import Shape
from underseal_core.labels import label_context, seal_label
from underseal_core.roster import Roster
from underseal_core.rpc.tls import own_peer
from underseal_core.statements import Release
from underseal_proto.v1 import gallery_pb2
from underseal_server.store.bucket import Location
from underseal_server.store.records import NewTemplate

DEADLINE = 90.0
ROW, BULK, ALONE = range(5), range(5, 17), range(17, 18)
"""People by the unit that they are enrolled in: a row of several, columns, a row of one."""
GONE = (1, 8, 17)
PIECE = 64
"""Bytes of a ciphertext that are searched for: no other ciphertext has the same by chance."""


@dataclass(frozen=True)
class Stores:
    """Where a server stores: every byte of it can be looked at."""

    root: Path
    s3: S3Server
    location: Location
    cluster: Cluster
    url: str

    def config(self) -> Path:
        path, location = self.root / "server.toml", self.location
        path.write_text(
            f'catalogue = "{self.url}"\nobjects = "{location.url}"\n'
            f'objects_endpoint = "{self.s3.endpoint}"\nobjects_region = "{location.region}"\n'
            f'objects_key_id = "{location.key_id}"\nobjects_secret = "{location.secret}"\n'
            f'bundles = ["{self.root}/keys/bundle.usb"]\nsave_seconds = 0.5\n'
        )
        return path

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """All objects in all versions, all local files of all roles, the database"""
        for key, data in self.s3.contents(self.location).items():
            yield f"bucket:{key}", data
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                try:
                    yield str(path.relative_to(self.root)), path.read_bytes()
                except FileNotFoundError:
                    continue  # a temporary file
        yield "database", self.cluster.dump(self.url)
        yield "database:rows", b"".join(self.cluster.rows(self.url, "templates"))

    def holders(self, pieces: Sequence[bytes]) -> set[str]:
        """Say what holds one of these, as bytes or in hexadecimal digits."""
        wanted = [*pieces, *(piece.hex().encode() for piece in pieces)]
        return {name for name, data in self.everything() if any(one in data for one in wanted)}


@pytest.fixture
def stores(tmp_path: Path, s3: S3Server, postgres: Cluster) -> Stores:
    return Stores(tmp_path, s3, s3.bucket(), postgres, postgres.create())


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def enrol(place: Place) -> None:
    bundle = place.lab.bundle
    place.server.create(max_templates_per_subject=1)
    for person in range(len(place.vectors)):
        template_id = secrets.token_bytes(16)
        label = json.dumps({"name": f"person-{person}"}).encode()
        sealed = seal_label(bundle.label_key, label, label_context("missing", template_id))
        place.templates.append(NewTemplate(template_id, secrets.token_bytes(16), sealed))
    for people, shape in ((ROW, Shape.ROW), (BULK, Shape.COLUMNS), (ALONE, Shape.ROW)):
        chosen = place.templates[people.start : people.stop]
        vectors = place.vectors[people.start : people.stop]
        place.server.enrol(vectors, shape, chosen)


def registrar(place: Place, stack: ExitStack, guardians: list[str]) -> None:
    """Start the registrar's program, which erases by itself."""
    flags = place.flags(share=None)
    arguments = [f"--{n.replace('_', '-')}={v}" for n, v in flags.items() if v is not None]
    arguments += [f"--guardian={one}" for one in guardians]
    arguments += [f"--server=server=127.0.0.1:{place.server_port}"]
    config = place.root / "registrar.toml"
    config.write_text("erase_seconds = 0.5\n")
    process = subprocess.Popen(
        [PROGRAM, "registrar", "serve", "--json", "--config", str(config), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    stack.callback(end, process)
    place.registrar_port = int(wait_ready(process)["listening"].rpartition(":")[2])


def names(place: Place, desk: Desk, person: int, bundle: PublicBundle) -> list[str]:
    """Search for a person; return the names that are released."""
    envelope = desk.submit(ask(place, place.vectors[person]).parts)
    release = Release.open(envelope, bundle.members[0])
    return [json.loads(match.templates[0].label)["name"] for match in release.matches]


def receipts(place: Place, bundle: PublicBundle) -> list[Erasure]:
    """Fetch and verify what the server signs of the removed templates."""
    ids = [place.templates[person].template_id for person in GONE]
    request = gallery_pb2.ListErasuresRequest(gallery="missing", template_ids=ids)
    sent, _ = erasures_from_wire(place.server.galleries.ListErasures(request))
    server = Credentials.load(place.credentials("server")).identity.public_key
    me, rosters = own_peer(place.server.credentials), [Roster.first(bundle)]
    verifier = ErasureVerifier("missing", lambda epoch: rosters, server, me)
    return [verifier.open(one) for one in sent]


def pieces_of(objects: dict[str, bytes]) -> list[bytes]:
    """Pieces of every unit's ciphertexts, from all over, and of the block that adds them up."""
    whole = [data for key, data in objects.items() if ".unit@" in key or ".tiles@" in key]
    assert len(whole) == 4
    places = (0.03, 0.3, 0.6, 0.97)
    return [data[int(at * len(data)) :][:PIECE] for data in whole for at in places]


def test_what_is_erased_is_nowhere_in_bucket_cache_database_and_files(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a row, one of columns and a row's only one; guardians have copies of all."""
    root = stores.root
    monkeypatch.setattr(auditor_place, "PASSPHRASE", PASSPHRASE.encode())
    made, keys, _ = appointed(root)
    bundle, folder = keys.bundle, root / "credentials"
    config = ("--config", stores.config())
    vectors = unit_vectors(len(ROW) + len(BULK) + len(ALONE), DIMENSION)
    with ExitStack() as stack:
        program = stack.enter_context(running(root, *config))
        lab = GuardedLab("guarded", DIMENSION, keys)
        caller = stack.enter_context(calling(program.port, folder / "agency", lab))
        place = Place(root, lab, vectors, [], caller, program.port)
        enrol(place)
        until(lambda: any(".tiles@" in key for key in stores.s3.contents(stores.location)))
        ports = free_ports(3)
        for point in (1, 3):
            process = serve_guardian(made, point, ports[point - 1], program.port)
            stack.callback(end, process)
        guardians = [f"{point}=127.0.0.1:{port}" for point, port in enumerate(ports, start=1)]
        registrar(place, stack, guardians)
        desk = Desk(place, "agency", stack)
        assert [names(place, desk, person, bundle) for person in GONE] == [
            [f"person-{person}"] for person in GONE
        ]
        before = stores.s3.contents(stores.location)
        old = pieces_of(before)
        labels = [place.templates[person].sealed_label for person in GONE]
        kinds = {name.partition("/")[0] for name in stores.holders(old)}
        assert kinds == {"bucket:some", "data", "data-1", "data-3"}
        assert stores.holders(labels) == {"database", "database:rows"} | {
            name for name in stores.holders(labels) if name.startswith(("data-", "registrar"))
        }
        ids = [place.templates[person].template_id for person in GONE]
        request = gallery_pb2.RemoveTemplatesRequest(gallery="missing", template_ids=ids)
        assert caller.galleries.RemoveTemplates(request).removed == len(GONE)
        for person in GONE:
            assert names(place, desk, person, bundle) == [], "removed before it is erased"
        until(lambda: all(one.receipt is not None for one in receipts(place, bundle)))
        hows = [one.receipt.how for one in receipts(place, bundle) if one.receipt]
        assert hows == ["amended", "amended", "unit-deleted"]
        assert {n for n in stores.holders(old) if n.startswith(("bucket", "data/"))} == set()
        assert not {"database", "database:rows"} & stores.holders(labels)
        until(lambda: not stores.holders(old))
        for person in (*GONE, 2, 9):
            wanted = [] if person in GONE else [f"person-{person}"]
            assert names(place, desk, person, bundle) == wanted
    check = ("check", *config, "--data", root / "data")
    assert "all sound" in command(*check, "--deep")
    assert stores.holders(old) == set()
    with stores.cluster.connect(stores.url.partition("?")[0].rpartition("/")[2]) as admin:
        admin.execute("VACUUM FULL templates")  # pages keep bytes of rows that are gone
    pages = stores.cluster.pages(stores.url, "templates")
    assert not [label for label in labels if label in pages]
    bring_back(stores, before)
    said = command(*check, code=8)
    assert said.count("it holds ciphertexts that were removed") == 2
    assert said.count("it is a copy of what is in the object storage no more") == 1
    command(*check, "--repair")
    assert stores.holders(old) == set()


def bring_back(stores: Stores, before: dict[str, bytes]) -> None:
    """Put back two units' objects and a local copy of the block, as a bad restore would."""
    units = [entry for entry in before.items() if ".unit@" in entry[0]]
    gone = [entry for entry in units if entry[0] not in stores.s3.contents(stores.location)]
    assert len(gone) == 3
    bucket = stores.location.url.removeprefix("s3://").partition("/")[0]
    for key, data in gone[:2]:
        stores.s3.client().put_object(Bucket=bucket, Key=key.partition("@")[0], Body=data)
    (block,) = [data for key, data in before.items() if ".tiles@" in key]
    name = f"{'a' * 40}-{'b' * 40}.{hashlib.sha256(block).hexdigest()}"
    (stores.root / "data/cache" / name).write_bytes(block)
