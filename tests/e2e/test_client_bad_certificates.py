"""Unusable certificates, wrong roles and wrong keys: refused, and nothing stored changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e.people import people
from tests.e2e.refusals import SHORT, Asker, Code, Refused, signer, templates
from tests.plain_form import any_ciphertext
from underseal_client import Client, ClientSettings, TemplateRecord, wire
from underseal_client.connection import Connection
from underseal_client.demo.deployment import AUDITOR, Deployment
from underseal_client.records import Gallery
from underseal_client.wire import galleries as gallery_wire
from underseal_core.credentials import Role
from underseal_core.errors import Damaged, InvalidInput, Mismatch, NotFound
from underseal_core.gallery.unit import Shape
from underseal_proto.v1 import gallery_pb2
from underseal_proto.v1.gallery_pb2_grpc import GalleryServiceStub
from underseal_proto.v1.search_pb2_grpc import SearchServiceStub
from underseal_server.pki import Authority, issue


@contextmanager
def channel(
    deployment: Deployment, folder: Path | None, authority: bytes
) -> Iterator[grpc.Channel]:
    """A channel without our own checks before the handshake."""
    own = None if folder is None else (folder / "tls.key", folder / "tls.crt")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authority,
        private_key=own[0].read_bytes() if own else None,
        certificate_chain=own[1].read_bytes() if own else None,
    )
    with grpc.secure_channel(deployment.server_address, credentials) as opened:
        yield opened


def list_galleries(opened: grpc.Channel) -> object:
    return GalleryServiceStub(opened).ListGalleries(
        gallery_wire.list_galleries_to_wire(""), timeout=SHORT
    )


@pytest.mark.parametrize("kind", ["expired", "foreign", "none"])
def test_unusable_certificate_gets_no_answer(
    deployment: Deployment, tmp_path: Path, refused: Refused, kind: str
) -> None:
    own = deployment.folder / "authority" / "ca"
    authority = Authority.create() if kind == "foreign" else Authority.load(own)
    folder = tmp_path / "intruder"
    lifetime = timedelta(days=-1 if kind == "expired" else 1)
    issue(authority, folder, Role.CLIENT, "agency", lifetime=lifetime)
    root = (own / "ca.crt").read_bytes()
    with channel(deployment, None if kind == "none" else folder, root) as opened:
        refusal = refused(lambda: list_galleries(opened))
    assert refusal.code is Code.UNAVAILABLE


def test_client_refuses_a_server_of_another_authority(
    deployment: Deployment, refused: Refused
) -> None:
    folder = deployment.credentials("clients", "agency")
    with channel(deployment, folder, Authority.create().pem()) as opened:
        refusal = refused(lambda: list_galleries(opened))
    assert refusal.code is Code.UNAVAILABLE


def test_roles_do_what_the_table_allows_only(
    deployment: Deployment, connection: Connection, asker: Asker, row: bytes, refused: Refused
) -> None:
    root = (deployment.folder / "authority" / "ca" / "ca.crt").read_bytes()
    auditor = deployment.credentials("auditors", AUDITOR)
    message = wire.search_to_wire(asker.sign(asker.request()), asker.probe)
    gallery, entries = asker.gallery, templates(1)
    unit = (gallery.name, gallery.pin, bytes(16), Shape.ROW, entries)
    parts = wire.unit_to_wire(*unit, [any_ciphertext(row)], signer(connection, *unit))
    messages = [wire.enrol_part(part) for part in parts]
    delete = gallery_wire.delete_gallery_to_wire(asker.gallery.name)
    with channel(deployment, auditor, root) as opened:
        stub, searches = GalleryServiceStub(opened), SearchServiceStub(opened)
        calls: list[Callable[[], object]] = [
            lambda: list(searches.Search(message, timeout=SHORT)),
            lambda: list(stub.Enrol(iter(messages), timeout=SHORT)),
            lambda: stub.DeleteGallery(delete, timeout=SHORT),
        ]
        for call in calls:
            assert refused(call).code is Code.PERMISSION_DENIED
        list_galleries(opened)
    sync = gallery_pb2.SyncCatalogueRequest(gallery=asker.gallery.name)
    refusal = refused(lambda: list(connection.galleries.SyncCatalogue(sync, timeout=SHORT)))
    assert refusal.code is Code.PERMISSION_DENIED


def search(client: Client, gallery: str, vector: npt.NDArray[np.float64]) -> object:
    return client.search_template(vector, gallery=gallery, purpose="tests", case="T-1")


def test_wrong_bundle_is_noticed_before_anything_is_sent(
    deployment: Deployment, settings: ClientSettings, filled: Gallery
) -> None:
    vector = people(1, seed=56)[0].vector
    broken = settings.state.parent / "broken.usb"
    data = bytearray(deployment.bundle.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"key_epoch": "f" * 64}, Mismatch, "epoch"),
        ({"bundle": broken}, Damaged, "not signed"),
        ({"bundle": broken.with_name("none.usb")}, NotFound, "bundle"),
    ]
    for change, error, text in cases:
        client = Client(settings.model_copy(update=change))
        with client, pytest.raises(error, match=text):
            search(client, filled.name, vector)


@pytest.mark.parametrize(
    "vector",
    [np.zeros(128), np.full(128, np.nan), np.ones(128), 1.01 * np.eye(128)[0], np.eye(64)[0]],
    ids=["zero", "nan", "ones", "too long", "wrong dimension"],
)
def test_vector_that_is_no_template_is_refused_here(
    agency: Client, filled: Gallery, vector: npt.NDArray[np.float64]
) -> None:
    with pytest.raises(InvalidInput):
        agency.enroll_templates(filled.name, [TemplateRecord("x", vector)])
    with pytest.raises(InvalidInput):
        search(agency, filled.name, vector)
    assert agency.gallery(filled.name) == filled
