"""Statements are canonical, strict and survive a round trip."""

from __future__ import annotations

import json
import sys
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import rfc8785
from pydantic import ValidationError

from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.signing import Identity
from underseal_core.statements import (
    MAX_BYTES,
    Pin,
    SearchRequest,
    Targets,
    Wanted,
    utc_moment,
    utc_text,
)


def request(**changes: Any) -> SearchRequest:
    fields: dict[str, Any] = {
        "request_id": "ab" * 16,
        "client": "agency-a",
        "gallery": "missing",
        "pin": Pin(
            model_id="zoo-sface", model_dimension=128, profile="guarded", key_epoch="0" * 64
        ),
        "probe_sha256": "1" * 64,
        "purpose": "missing-person",
        "case_reference": "2026/17 Ünal",
        "wanted": Wanted(top_k=5, threshold="0.55"),
        "issued_at": "2026-01-02T03:04:05Z",
        "expires_at": "2026-01-02T03:14:05Z",
    }
    return SearchRequest(**(fields | changes))


def test_round_trip_and_hash_depend_on_content_only() -> None:
    statement = request()
    assert SearchRequest.parse(statement.payload()) == statement
    assert statement.sha256() == request().sha256()
    assert statement.sha256() != request(purpose="border").sha256()


def test_signed_statement_opens_for_its_signer_only() -> None:
    identity = Identity.generate()
    envelope = request().sign(identity)
    opened = SearchRequest.open(envelope, identity.public_key)
    assert opened == request()
    assert envelope.payload_sha256() == opened.sha256()
    with pytest.raises(PermissionRefused):
        SearchRequest.open(envelope, Identity.generate().public_key)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p + b" ",
        lambda p: p.replace(b'"case_reference"', b'"Case_reference"'),
        lambda p: p[:-1],
        lambda p: p.replace(b'"top_k":5', b'"top_k":"5"'),
        lambda p: p.replace(b'"top_k":5', b'"top_k":5.5'),
        lambda p: p.replace(b'"top_k":5', b'"top_k":0'),
        lambda p: p.replace(b'"0.55"', b'"1.55"'),
        lambda p: p.replace(b'"version":1', b'"version":2'),
        lambda p: p.replace(b"agency-a", b"Agency A"),
        lambda p: b"[" * 100_000,
        lambda p: b" " * (MAX_BYTES + 1),
        lambda p: b"\xff\xfe",
        lambda p: b"NaN",
    ],
)
def test_spoiled_bytes_are_refused(spoil: Any) -> None:
    with pytest.raises(Damaged):
        SearchRequest.parse(spoil(request().payload()))


def canonical(**changes: Any) -> bytes:
    """The request with fields changed, or left out when the new value is None."""
    body = json.loads(request().payload()) | changes
    return rfc8785.dumps({name: value for name, value in body.items() if value is not None})


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"version": True},
        {"targets": None},
        {"targets": {"subject_id": ""}},
        {"wanted": {"top_k": 5}},
    ],
    ids=str,
)
def test_one_statement_has_one_payload(changes: dict[str, Any]) -> None:
    """A field left to its default would give a statement two payloads, and two hashes."""
    assert SearchRequest.parse(canonical()) == request()
    with pytest.raises(Damaged):
        SearchRequest.parse(canonical(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": "\u0662\u0660\u0662\u0666-01-02T03:14:05Z"},
        {"wanted": {"top_k": 5, "threshold": "0.\u0665"}},
        {"case_reference": "17\nrelease: yes"},
        {"case_reference": "17\x1b[2J"},
        {"case_reference": "17\u202e71"},
    ],
    ids=ascii,
)
def test_text_that_reads_otherwise_than_it_is_signed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        SearchRequest.parse(canonical(**changes))


def test_unknown_fields_are_refused() -> None:
    body = json.loads(request().payload()) | {"zz_extra": 1}
    payload = json.dumps(body, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    with pytest.raises(Damaged):
        SearchRequest.parse(payload)


def test_targets_are_false_when_empty() -> None:
    assert not Targets()
    assert Targets(subject_ids=("cd" * 16,))
    assert Targets(template_ids=("cd" * 16,))


def names(count: int) -> tuple[str, ...]:
    return tuple(f"{number:032x}" for number in range(count))


def test_a_request_names_a_thousand_subjects_at_most_and_none_twice() -> None:
    assert Targets(template_ids=names(64))
    longest = request(targets=Targets(subject_ids=names(1000)), case_reference="\u2603" * 200)
    assert SearchRequest.parse(longest.payload()) == longest
    for wrong in (
        {"subject_ids": names(1001)},
        {"template_ids": names(65)},
        {"subject_ids": (*names(2), names(1)[0])},
        {"subject_ids": names(1), "template_ids": ("cd" * 16,)},
    ):
        with pytest.raises(ValidationError):
            Targets(**wrong)


def test_times_round_trip_in_whole_seconds() -> None:
    moment = datetime(2026, 5, 6, 7, 8, 9, 999, tzinfo=UTC)
    assert utc_text(moment) == "2026-05-06T07:08:09Z"
    assert utc_moment("2026-05-06T07:08:09Z") == moment.replace(microsecond=0)
    assert utc_moment("2026-05-06T07:08:09Z").tzinfo is UTC
    assert utc_text(moment.astimezone(timezone(timedelta(hours=-9)))) == "2026-05-06T07:08:09Z"
    for text in ("0001-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "9999-12-31T23:59:59Z"):
        assert utc_text(utc_moment(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026-05-99T07:08:09Z",
        "2026-02-29T07:08:09Z",
        "0000-01-01T00:00:00Z",
        "2026-05-06T24:00:00Z",
        "2026-05-06T23:59:60Z",
        "2026-05-06T07:08:09",
        "2026-05-06T07:08:09z",
        "2026-05-06t07:08:09Z",
        "2026-05-06 07:08:09Z",
        "2026-05-06T07:08:09+00:00",
        "2026-05-06T07:08:09+00:00Z",
        "2026-05-06T07:08:09-00:00",
        "2026-05-06T07:08:09ZZ",
        "0001-01-01T00:00:00+23:59",
        "2026-05-06T07:08:09.5Z",
        "2026-05-06T07:08:09.000000Z",
        "2026-05-06T07:08:09,5Z",
        "2026-05-06T07:08Z",
        "2026-05-06T07Z",
        "2026-05-06Z",
        "20260506T070809Z",
        "2026-W19-3T07:08:09Z",
        "2026-126T07:08:09Z",
        "2026-5-6T7:8:9Z",
        "+2026-05-06T07:08:09Z",
        " 2026-05-06T07:08:09Z",
        "2026-05-06T07:08:09Z\n",
        "2026-05-06T07:08:09Z\x00",
        "2026-05-06T07:08:09\ud800",
        "\u0662\u0660\u0662\u0666-01-02T03:14:05Z",
        "2026-05-06T07:08:0\uff19Z",
    ],
    ids=ascii,
)
def test_a_time_is_written_in_one_way(text: str) -> None:
    """What ISO 8601 also allows would give one moment two names, and a statement two hashes."""
    with pytest.raises(ValueError):
        utc_moment(text)
    with pytest.raises(ValidationError):
        request(expires_at=text)


def test_printable_text_has_nothing_that_reads_otherwise() -> None:
    """Which texts are refused does not hang on the shortcut for printable ones."""
    signs = [chr(number) for number in range(sys.maxunicode + 1)]
    hidden = {sign for sign in signs if unicodedata.category(sign) in {"Cc", "Zl", "Zp"}}
    hidden |= set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert not any(sign.isprintable() for sign in hidden)


def test_a_request_as_long_as_a_message_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever may call a server signs these, and four megabytes of JSON take it seconds."""
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(Damaged, match="too long"):
        SearchRequest.parse(b"[" + b"0," * (32 << 10) + b"0]")
