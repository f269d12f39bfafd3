"""Who may call what: one table per listener, a missing row means denied."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import grpc

from underseal_core.credentials import Peer, Role
from underseal_core.errors import PermissionRefused
from underseal_core.rpc.tls import peer_of_certificate

AccessTable = Mapping[str, frozenset[Role]]
"""Full method name, such as ``/underseal.v1.SearchService/Search``, to the roles allowed."""

EVERYONE: Final = frozenset(Role)

STANDARD_METHODS: Final[AccessTable] = {
    "/grpc.health.v1.Health/Check": EVERYONE,
    "/grpc.health.v1.Health/Watch": EVERYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": EVERYONE,
}
"""Rows of the services that every listener offers; merge into the own table."""

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:  # not generic at run time
    Context = grpc.aio.ServicerContext

_peer: ContextVar[Peer] = ContextVar("underseal_peer")


def current_peer() -> Peer:
    """Return who made the call that is being served.

    Raises
    ------
    PermissionRefused
        Outside a guarded call.
    """
    peer = _peer.get(None)
    if peer is None:
        raise PermissionRefused("the caller is unknown")
    return peer


def identify(context: Context) -> Peer:
    """Return who the caller's certificate names.

    Raises
    ------
    PermissionRefused
        No certificate, or one that names no Underseal role.
    """
    chain = list(context.auth_context().get("x509_pem_cert", ()))
    if len(chain) != 1:
        raise PermissionRefused("the call came without a certificate")
    return peer_of_certificate(bytes(chain[0]))


def admit(table: AccessTable, method: str, context: Context) -> Peer:
    """Identify the caller, check the table, and make :func:`current_peer` work.

    Raises
    ------
    PermissionRefused
        Unknown caller, missing row, or a role that the row does not list.
    """
    peer = identify(context)
    if peer.role not in table.get(method, frozenset()):
        raise PermissionRefused(
            f"role {peer.role} may not call {method.rpartition('/')[2]}",
            hint="use credentials of another role",
        )
    _peer.set(peer)
    return peer
