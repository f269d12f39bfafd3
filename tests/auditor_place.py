"""Server and registrar on loopback with mutual TLS, and callers that may misbehave."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.server_fixtures import Lab, Vectors
from tests.server_harness import Caller, Found, calling, serving
from underseal_auditor.api.serving import RegistrarProcess
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_auditor.logbook import VKEY_NAME, create_logbook
from underseal_auditor.settings import load_settings
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Credentials, Role
from underseal_core.gallery.unit import Shape
from underseal_core.labels import label_context, seal_label
from underseal_core.rpc.status import from_rpc_error
from underseal_core.rpc.tls import open_channel
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.profiles import GUARDED
from underseal_core.signing import Envelope
from underseal_core.statements import SearchRequest
from underseal_proto.v1 import registrar_pb2, registrar_pb2_grpc, search_pb2
from underseal_server.pki import Authority, issue
from underseal_server.settings import Settings
from underseal_server.store.records import NewTemplate
from underseal_server.wire import envelope_from_wire, envelope_to_wire

DIMENSION = 64
PASSPHRASE = b"correct horse"
PEOPLE = 12
SEALED = search_pb2.SealedCiphertext
PROGRAM = Path(sys.executable).with_name("underseal-auditor")


@dataclass(frozen=True)
class GuardedLab(Lab):
    """The deployment's own keys, for the harness of the server's tests."""

    keys: SoleCeremony | None = None

    @property
    def bundle(self) -> PublicBundle:
        assert self.keys is not None
        return self.keys.bundle

    @property
    def encryptor(self) -> Encryptor:
        return encryptor(self.bundle.epoch, self)


@cache
def _encryptors() -> dict[str, Encryptor]:
    return {}


def encryptor(epoch: str, lab: GuardedLab) -> Encryptor:
    made = _encryptors()
    if epoch not in made:
        made[epoch] = Encryptor(GUARDED, DIMENSION, lab.bundle.public_key)
    return made[epoch]


@dataclass
class Place:
    """Folders, keys and people of one deployment."""

    root: Path
    lab: GuardedLab
    vectors: Vectors
    templates: list[NewTemplate]
    server: Caller
    server_port: int
    registrar_port: int = 0

    def credentials(self, name: str) -> Path:
        return self.root / "credentials" / name

    def flags(self, **changes: object) -> dict[str, object]:
        """Settings of a registrar; one with data of its own has a log of its own, too."""
        keys = self.root / "keys"
        if isinstance(data := changes.get("data"), Path) and "log" not in changes:
            changes["log"] = data.with_name(f"{data.name}-log")
            if not (data.with_name(f"{data.name}-log") / VKEY_NAME).exists():
                create_logbook(data.with_name(f"{data.name}-log"), "log.example/own")
        return {
            "listen": "127.0.0.1:0",
            "credentials": self.credentials("auditor"),
            "bundle": keys / "bundle.usb",
            "share": keys / "share.sealed",
            "label_key": keys / "label.sealed",
            "policy": self.root / "policy.toml",
            "data": self.root / "registrar",
            "log": self.root / "log",
            **changes,
        }


def write_policy(place_root: Path, credentials: Path, *auditors: Path) -> None:
    """Write the policy and have these auditors sign it."""
    arguments = ["--bundle", place_root / "keys" / "bundle.usb", "--purpose", "missing-person"]
    arguments += ["--gallery", "missing", "--model", "test-model=0.6"]
    arguments += ["--certificate", credentials / "agency" / "tls.crt"]
    arguments += ["--certificate", credentials / "server" / "tls.crt"]
    command("policy", "new", *arguments, "--out", place_root / "policy.toml")
    for folder in auditors:
        sign_policy(place_root, folder)


def sign_policy(place_root: Path, auditor: Path) -> None:
    options = ["--bundle", place_root / "keys" / "bundle.usb", "--credentials", auditor]
    command("policy", "sign", place_root / "policy.toml", *options)


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *map(str, arguments)],
        check=options.pop("check", True),
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@contextmanager
def registrar_running(place: Place, server_port: int, **changes: object) -> Iterator[int]:
    """Run a registrar in a thread of this process."""
    flags = place.flags(servers=[f"server=127.0.0.1:{server_port}"], **changes)
    process = RegistrarProcess(load_settings(None, flags), PASSPHRASE)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = asyncio.run_coroutine_threadsafe(process.start(), loop).result(60)
        yield int(address.rpartition(":")[2])
        asyncio.run_coroutine_threadsafe(process.stop(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        process.close()


def enrol(place: Place) -> None:
    bundle = place.lab.bundle
    place.server.create()
    for index in range(PEOPLE):
        template_id = secrets.token_bytes(16)
        label = json.dumps({"name": f"person-{index}"}).encode()
        sealed = seal_label(bundle.label_key, label, label_context("missing", template_id))
        place.templates.append(NewTemplate(template_id, secrets.token_bytes(16), sealed))
    place.server.enrol(place.vectors, Shape.ROW, place.templates)


@contextmanager
def deployed(root: Path) -> Iterator[Place]:
    """Make keys and credentials, start both, enrol."""
    folder = root / "credentials"
    authority = Authority.create()
    issue_roles(authority, folder)
    issue(authority, folder / "auditor", Role.AUDITOR, "auditor")
    keys = run_sole(GUARDED, DIMENSION, Credentials.load(folder / "auditor").identity)
    (root / "keys").mkdir()
    keys.bundle.save(root / "keys" / "bundle.usb")
    share_file.save(root / "keys" / "share.sealed", keys.share, PASSPHRASE)
    share_file.save_label_key(
        root / "keys" / "label.sealed", keys.label_key, keys.bundle.epoch, PASSPHRASE
    )
    write_policy(root, folder, folder / "auditor")
    create_logbook(root / "log", "log.example/place")
    with running(root, keys) as made:
        yield made


def issue_roles(authority: Authority, folder: Path) -> None:
    """Credentials of everyone but the auditors."""
    roles = {"server": Role.SERVER, "agency": Role.CLIENT, "other": Role.CLIENT}
    roles |= {"operator": Role.OPERATOR, "alice": Role.APPROVER}
    for name, role in roles.items():
        issue(authority, folder / name, role, name)


@contextmanager
def running(root: Path, keys: SoleCeremony, **changes: object) -> Iterator[Place]:
    """Start server and registrar with keys, credentials and policy that are there; enrol."""
    folder = root / "credentials"
    vectors = np.random.default_rng(3).standard_normal((PEOPLE, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    settings = Settings(
        listen="127.0.0.1:0",
        data=root / "server",
        credentials=folder / "server",
        bundles=(root / "keys" / "bundle.usb",),
    )
    lab = GuardedLab("guarded", DIMENSION, keys)
    with ExitStack() as stack:
        served = stack.enter_context(serving(settings))
        caller = stack.enter_context(calling(served.port, folder / "agency", lab))
        made = Place(root, lab, vectors, [], caller, served.port)
        enrol(made)
        made.registrar_port = stack.enter_context(registrar_running(made, served.port, **changes))
        yield made


class Desk:
    """Calls the registrar as one participant; failures are our errors."""

    def __init__(self, place: Place, name: str, stack: ExitStack) -> None:
        self.credentials = Credentials.load(place.credentials(name))
        address = f"127.0.0.1:{place.registrar_port}"
        self.channel = stack.enter_context(open_channel(address, self.credentials))
        self.stub = registrar_pb2_grpc.RegistrarServiceStub(self.channel)

    def submit(self, parts: list[registrar_pb2.SubmitRequest]) -> Envelope:
        answer = translated(lambda: self.stub.Submit(iter(parts), timeout=60))
        return envelope_from_wire(answer.release)

    def release(self, request_id: str) -> Envelope:
        request = registrar_pb2.GetReleaseRequest(request_id=request_id)
        return envelope_from_wire(
            translated(lambda: self.stub.GetRelease(request, timeout=60)).release
        )


def translated(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except grpc.RpcError as error:
        raise from_rpc_error(error, peer="registrar") from error


@dataclass(frozen=True)
class Asked:
    request: SearchRequest
    found: Found
    probe: bytes
    parts: list[registrar_pb2.SubmitRequest]


def ask(place: Place, vector: Vectors, **changes: Any) -> Asked:
    probe = place.lab.probe(vector).to_bytes()
    request = place.server.request(probe, **changes)
    found = place.server.ask(request, probe)
    return Asked(request, found, probe, parts_of(place, request, found, probe))


def parts_of(
    place: Place, request: SearchRequest, found: Found, probe: bytes
) -> list[registrar_pb2.SubmitRequest]:
    signed = request.sign(place.server.credentials.identity)
    header = registrar_pb2.SubmitHeader(
        request=envelope_to_wire(signed), result=envelope_to_wire(found.envelope)
    )
    sealed = [SEALED(kind=SEALED.KIND_PROBE, ciphertext=probe)]
    sealed += [SEALED(kind=SEALED.KIND_NORM, ciphertext=found.norm)]
    sealed += [
        SEALED(kind=SEALED.KIND_RESULT, block=block, ciphertext=data)
        for block, data in found.blocks.items()
    ]
    parts = [registrar_pb2.SubmitRequest(header=header)]
    return parts + [registrar_pb2.SubmitRequest(sealed=entry) for entry in sealed]
