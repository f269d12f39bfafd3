"""What a signed search request must satisfy before anything is computed. Pure."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from underseal_core.credentials import Peer
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.signing import Envelope
from underseal_core.statements import Name, SearchRequest, utc_moment, utc_text

CLOCK_SKEW: Final = timedelta(seconds=60)
MAX_VALIDITY: Final = timedelta(hours=1)


class _Named(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)
    gallery: Name


def gallery_named(envelope: Envelope) -> str:
    """Return which gallery a request says it is for; empty if it says none.

    Nobody vouches for that yet: it tells at whose queue to ask, and nothing else.
    """
    if len(envelope.payload) > SearchRequest.max_bytes:
        return ""
    try:
        return _Named.model_validate_json(envelope.payload).gallery
    except ValidationError:
        return ""


def open_request(envelope: Envelope, peer: Peer, probe: bytes, now: datetime) -> SearchRequest:
    """Return the request that ``peer`` signed for ``probe``.

    Parameters
    ----------
    envelope
        As sent.
    peer
        Who sent it, from the certificate.
    probe
        The ciphertext as sent.
    now
        The present.

    Raises
    ------
    InvalidInput
        Not a search request, of another probe, expired, not valid yet or for too long.
    PermissionRefused
        Not signed by the sender, or in another client's name.
    """
    try:
        request = SearchRequest.open(envelope, peer.key)
    except Damaged as error:
        raise InvalidInput(
            error.public, hint="the client's and server's versions differ"
        ) from error
    if request.client != peer.name:
        raise PermissionRefused("the request is in another client's name")
    if request.probe_template and probe:
        raise InvalidInput("a request that names an enrolled template comes without a probe")
    if not request.probe_template and hashlib.sha256(probe).hexdigest() != request.probe_sha256:
        raise InvalidInput("the signed request is for another probe")
    _check_times(request, now)
    return request


def remembered_until(request: SearchRequest) -> str:
    """Return until when the request's id must be remembered."""
    return utc_text(utc_moment(request.expires_at) + CLOCK_SKEW)


def _check_times(request: SearchRequest, now: datetime) -> None:
    issued, expires = utc_moment(request.issued_at), utc_moment(request.expires_at)
    if not timedelta() < expires - issued <= MAX_VALIDITY:
        raise InvalidInput("a request is valid for at most one hour", hint="sign a shorter one")
    if issued > now + CLOCK_SKEW:
        raise InvalidInput("the request is not valid yet", hint="check the clock")
    check_not_expired(request, now)


def check_not_expired(request: SearchRequest, now: datetime) -> None:
    """Refuse a request whose time is over.

    Raises
    ------
    InvalidInput
        It has expired.
    """
    if utc_moment(request.expires_at) + CLOCK_SKEW <= now:
        raise InvalidInput("the request has expired", hint="sign a new one; check the clock")
