"""Channels and listeners with mutual TLS, and who is at the other end."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from underseal_core.credentials import Credentials, Peer
from underseal_core.errors import InvalidInput, PermissionRefused

MESSAGE_LIMIT: Final = 4 << 20
"""Largest message either side accepts, in bytes: bounds memory before anything is parsed."""

Options = tuple[tuple[str, int], ...]

_LIMITS: Final[Options] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_metadata_size", 16 << 10),
)
CHANNEL_OPTIONS: Final[Options] = (
    *_LIMITS,
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC's own waits grow to two minutes, in which every call fails at once: too long to notice
    # that a server was started again.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
SERVER_OPTIONS: Final[Options] = (
    *_LIMITS,
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Without this a second server on the same port takes half of the connections, silently.
    ("grpc.so_reuseport", 0),
)


def own_peer(credentials: Credentials) -> Peer:
    """Return the role and name that the own certificate states.

    Raises
    ------
    PermissionRefused
        The certificate names no Underseal role.
    """
    return peer_of_certificate(credentials.certificate)


@lru_cache(maxsize=256)
def peer_of_certificate(pem: bytes) -> Peer:
    """Return who a certificate names. Its chain is checked by TLS, not here.

    Raises
    ------
    PermissionRefused
        Not exactly one Underseal name.
    """
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise PermissionRefused("the certificate does not name an Underseal role") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise PermissionRefused("the certificate does not name exactly one Underseal role")
    return Peer.from_uri(uris[0])


def check_credentials(credentials: Credentials, now: datetime | None = None) -> None:
    """Refuse credentials that cannot work, with a clearer text than a failed handshake gives.

    Parameters
    ----------
    credentials
        Own credentials.
    now
        For tests; defaults to the clock.

    Raises
    ------
    InvalidInput
        Not certificates, not valid at this time, not issued by ``ca.crt``, a key that does not
        belong to the certificate, or an identity that differs from the one it names.
    """
    moment = now or datetime.now(UTC)
    try:
        certificate = x509.load_pem_x509_certificate(credentials.certificate)
        authority = x509.load_pem_x509_certificate(credentials.authority)
        key = serialization.load_pem_private_key(credentials.private_key, password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput("the credentials are not PEM certificates and keys") from error
    if moment >= certificate.not_valid_after_utc or moment >= authority.not_valid_after_utc:
        raise InvalidInput(
            "the own certificate has expired", hint="ask the operator for new credentials"
        )
    if moment < certificate.not_valid_before_utc:
        raise InvalidInput("the own certificate is not valid yet", hint="check the clock")
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidInput("the own certificate was not issued by ca.crt") from error
    if key.public_key() != certificate.public_key():
        raise InvalidInput("tls.key does not belong to tls.crt")
    if peer_of_certificate(credentials.certificate).key != credentials.identity.public_key:
        raise InvalidInput("identity.pem is not the identity that tls.crt names")


def server_credentials(credentials: Credentials) -> grpc.ServerCredentials:
    """Return what a listener needs; callers without a certificate of ``ca.crt`` are refused."""
    check_credentials(credentials)
    return grpc.ssl_server_credentials(
        [(credentials.private_key, credentials.certificate)],
        root_certificates=credentials.authority,
        require_client_auth=True,
    )


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """Return what a caller needs; only listeners certified by ``ca.crt`` are trusted."""
    check_credentials(credentials)
    return grpc.ssl_channel_credentials(
        root_certificates=credentials.authority,
        private_key=credentials.private_key,
        certificate_chain=credentials.certificate,
    )


def open_channel(target: str, credentials: Credentials) -> grpc.Channel:
    """Open a blocking channel to ``host:port``.

    Raises
    ------
    InvalidInput
        See :func:`check_credentials`.
    """
    return grpc.secure_channel(target, channel_credentials(credentials), options=CHANNEL_OPTIONS)


def open_aio_channel(target: str, credentials: Credentials) -> grpc.aio.Channel:
    """Open an asyncio channel to ``host:port``; see :func:`open_channel`."""
    return grpc.aio.secure_channel(
        target, channel_credentials(credentials), options=CHANNEL_OPTIONS
    )
