from __future__ import annotations

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.server_fixtures import Lab
from underseal_core.credentials import Peer, Role
from underseal_core.errors import PermissionRefused
from underseal_core.rpc.access import EVERYONE
from underseal_proto.v1 import gallery_pb2, search_pb2
from underseal_server.api.access import TABLE, check_owner, check_writer
from underseal_server.store.records import Gallery, GallerySpec

SERVED = (gallery_pb2, search_pb2, health_pb2, reflection_pb2)


def methods(file: FileDescriptor) -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_every_call_has_a_row_and_every_row_a_call() -> None:
    assert set(TABLE) == set().union(*(methods(module.DESCRIPTOR) for module in SERVED))


def test_no_row_is_wider_than_meant() -> None:
    """Written out a second time, so that a slip in the table does not pass unseen."""
    everyone = {m for m, roles in TABLE.items() if roles == EVERYONE}
    assert everyone == methods(health_pb2.DESCRIPTOR) | methods(reflection_pb2.DESCRIPTOR)
    by_role = {
        role: {
            method.rpartition("/")[2] for method in set(TABLE) - everyone if role in TABLE[method]
        }
        for role in Role
    }
    seen = {"GetGallery", "ListGalleries", "GetSuccessor"}
    lists = {"ListTemplates", "ListErasures", "ListLeaves"}
    changes = {"CreateGallery", "DeleteGallery", "Enrol", "RemoveTemplates", "Relabel"}
    assert by_role == {
        Role.CLIENT: {*seen, *changes, *lists, "Search", "SearchMany"},
        Role.AUDITOR: {*seen, "SyncCatalogue", "AmendUnit", "FetchUnit"},
        Role.OPERATOR: {*seen, "DeleteGallery", "ListTemplates"},
        Role.SERVER: set(),
        Role.APPROVER: set(),
    }


def test_a_gallery_is_written_by_its_writers_only() -> None:
    spec = GallerySpec("missing", Lab().pin, "agency", frozenset({"agency", "partner"}), 3)
    gallery = Gallery(1, spec, 0, "")
    for name in ("agency", "partner"):
        check_writer(Peer(Role.CLIENT, name, bytes(32)), gallery)
    check_writer(Peer(Role.OPERATOR, "operator", bytes(32)), gallery)
    with pytest.raises(PermissionRefused, match="no writer"):
        check_writer(Peer(Role.CLIENT, "other", bytes(32)), gallery)


def test_a_gallery_is_deleted_by_its_owner_or_an_operator_only() -> None:
    """A writer could delete it, make another of its name, and own that."""
    spec = GallerySpec("missing", Lab().pin, "agency", frozenset({"agency", "partner"}), 3)
    gallery = Gallery(1, spec, 0, "")
    check_owner(Peer(Role.CLIENT, "agency", bytes(32)), gallery)
    check_owner(Peer(Role.OPERATOR, "operator", bytes(32)), gallery)
    for name in ("partner", "other"):
        with pytest.raises(PermissionRefused, match="does not own"):
            check_owner(Peer(Role.CLIENT, name, bytes(32)), gallery)
