from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.server_fixtures import Lab
from underseal_core.credentials import Peer, Role
from underseal_core.errors import InvalidInput, PermissionRefused, UndersealError
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import SearchRequest, Wanted, utc_text
from underseal_server.signed_requests import gallery_named, open_request, remembered_until

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
IDENTITY = Identity.generate()
PEER = Peer(Role.CLIENT, "agency", IDENTITY.public_key)
PROBE = b"probe"


def request(**changes: Any) -> SearchRequest:
    fields: dict[str, Any] = {
        "request_id": "ab" * 16,
        "client": "agency",
        "gallery": "missing",
        "pin": Lab().pin,
        "probe_sha256": hashlib.sha256(PROBE).hexdigest(),
        "purpose": "missing-person",
        "case_reference": "case 7",
        "wanted": Wanted(top_k=3),
        "issued_at": utc_text(NOW),
        "expires_at": utc_text(NOW + timedelta(minutes=10)),
    }
    return SearchRequest(**{**fields, **changes})


def at(minutes: float) -> str:
    return utc_text(NOW + timedelta(minutes=minutes))


def test_a_good_request_is_opened() -> None:
    assert open_request(request().sign(IDENTITY), PEER, PROBE, NOW) == request()
    assert remembered_until(request()) == at(11)


def test_the_gallery_is_read_from_what_is_not_checked_yet() -> None:
    def named(payload: bytes) -> str:
        return gallery_named(Envelope("any", payload, ()))

    assert named(request().payload()) == "missing"
    assert named(b'{"gallery":"missing"}') == "missing"
    long = b'{"gallery":"missing","more":"' + bytes(64 << 10) + b'"}'
    for wrong in (b"", b"{}", b'{"gallery":7}', b'{"gallery":"A b"}', b"[" * 10_000, long):
        assert named(wrong) == ""


@pytest.mark.parametrize(
    ("changes", "expected", "text"),
    [
        ({"client": "other"}, PermissionRefused, "another client's name"),
        ({"probe_sha256": "0" * 64}, InvalidInput, "another probe"),
        ({"expires_at": at(61)}, InvalidInput, "at most one hour"),
        ({"expires_at": at(0)}, InvalidInput, "at most one hour"),
        ({"issued_at": at(-20), "expires_at": at(-2)}, InvalidInput, "expired"),
        ({"issued_at": at(2), "expires_at": at(3)}, InvalidInput, "not valid yet"),
    ],
)
def test_a_bad_request_is_refused(
    changes: dict[str, Any], expected: type[UndersealError], text: str
) -> None:
    with pytest.raises(expected, match=text):
        open_request(request(**changes).sign(IDENTITY), PEER, PROBE, NOW)


def test_clocks_may_differ_by_a_minute() -> None:
    signed = request(issued_at=at(0), expires_at=at(10)).sign(IDENTITY)
    open_request(signed, PEER, PROBE, NOW - timedelta(seconds=59))
    open_request(signed, PEER, PROBE, NOW + timedelta(minutes=10, seconds=59))


def test_another_signer_is_refused() -> None:
    with pytest.raises(PermissionRefused, match="signed"):
        open_request(request().sign(Identity.generate()), PEER, PROBE, NOW)


def test_what_is_no_canonical_request_is_refused() -> None:
    fields = json.loads(request().payload())
    for payload in (
        json.dumps(fields, indent=1).encode(),
        json.dumps({**fields, "extra": 1}, sort_keys=True, separators=(",", ":")).encode(),
        b"\xff",
        b"[" * 100_000,
    ):
        with pytest.raises(InvalidInput):
            open_request(IDENTITY.sign(SearchRequest.payload_type, payload), PEER, PROBE, NOW)
    with pytest.raises(InvalidInput, match="statement is not"):
        open_request(IDENTITY.sign("application/other", request().payload()), PEER, PROBE, NOW)
