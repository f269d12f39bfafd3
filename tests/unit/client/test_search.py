from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import repeat

import pytest

from underseal_client.records import Gallery, Progress, Sealed, SealedKind, SearchPart, SignedResult
from underseal_client.search import (
    MAX_SEALED_BYTES,
    Collected,
    Question,
    SealedAnswer,
    _check_result,
    _open_result,
    sign_request,
    wanted,
)
from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.scheme.ciphertext import Kind, wire_size
from underseal_core.scheme.profiles import PROFILES, Profile
from underseal_core.signing import Identity
from underseal_core.statements import (
    Pin,
    ResultBlock,
    SearchRequest,
    SearchResult,
    Snapshot,
    Wanted,
)

CLIENT = Identity.generate()
SERVER = Identity.generate()
PIN = Pin(model_id="m", model_dimension=128, profile="swift", key_epoch="0" * 64)
GALLERY = Gallery("people", PIN, (), 0, 3, 2, 7, "1" * 64, "2026-01-01T00:00:00Z", 0, 0)
QUESTION = Question("reunification", "2026-17", Wanted(top_k=3))
NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)

SEALED = [
    Sealed(SealedKind.RESULT, 0, b"block zero"),
    Sealed(SealedKind.RESULT, 4, b"block four"),
    Sealed(SealedKind.NORM, 0, b"norm"),
]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def request() -> SearchRequest:
    return sign_request(CLIENT, "agency", GALLERY, b"probe", QUESTION, timedelta(minutes=5), NOW)[0]


def result(asked: SearchRequest) -> SearchResult:
    return SearchResult(
        request_sha256=asked.sha256(),
        server="server",
        snapshot=Snapshot(gallery="people", version=7, root="1" * 64, templates=3, blocks=()),
        blocks=(
            ResultBlock(block=0, sha256=sha256(b"block zero")),
            ResultBlock(block=4, sha256=sha256(b"block four")),
        ),
        norm_sha256=sha256(b"norm"),
        compared=3,
        code_version="0.1.0",
        finished_at="2026-05-01T12:00:01Z",
    )


def test_request_is_signed_and_fresh() -> None:
    first, envelope = sign_request(
        CLIENT, "agency", GALLERY, b"probe", QUESTION, timedelta(minutes=5), NOW
    )
    assert SearchRequest.open(envelope, CLIENT.public_key) == first
    assert first.probe_sha256 == sha256(b"probe")
    assert (first.issued_at, first.expires_at) == ("2026-05-01T12:00:00Z", "2026-05-01T12:05:00Z")
    assert request().request_id != first.request_id


@pytest.mark.parametrize(
    "question",
    [
        replace(QUESTION, purpose="Not A Name"),
        replace(QUESTION, purpose=""),
        replace(QUESTION, case_reference=""),
        replace(QUESTION, case_reference="x" * 201),
    ],
)
def test_unacceptable_question_is_refused_before_anything_is_sent(question: Question) -> None:
    with pytest.raises(InvalidInput, match=r"purpose|case reference"):
        sign_request(CLIENT, "agency", GALLERY, b"probe", question, timedelta(minutes=5))


def test_wanted_is_text_with_four_decimals() -> None:
    assert wanted(5, 0.55).threshold == "0.5500"
    assert wanted(5, None).threshold == ""


@pytest.mark.parametrize(("top_k", "threshold"), [(0, None), (1001, None), (1, 1.0), (1, -0.1)])
def test_impossible_wishes_are_refused(top_k: int, threshold: float | None) -> None:
    with pytest.raises(InvalidInput):
        wanted(top_k, threshold)


def test_threshold_that_rounds_up_to_one_is_refused() -> None:
    with pytest.raises(InvalidInput):
        wanted(1, 0.99999)


def test_result_that_names_what_came_is_accepted() -> None:
    asked = request()
    _check_result(asked, result(asked), SEALED)


def test_result_of_another_request_is_refused() -> None:
    with pytest.raises(Damaged, match="another request"):
        _check_result(request(), result(request()), SEALED)


@pytest.mark.parametrize(
    "sealed",
    [
        SEALED[1:],
        [*SEALED, Sealed(SealedKind.RESULT, 5, b"one more")],
        [replace(SEALED[0], ciphertext=b"block four"), *SEALED[1:]],
        [replace(SEALED[0], block=4), replace(SEALED[1], block=0), *SEALED[2:]],
        SEALED[:2],
        [*SEALED[:2], replace(SEALED[2], ciphertext=b"block zero")],
        [*SEALED, SEALED[0]],
        [*SEALED, SEALED[2]],
    ],
    ids=[
        "block missing",
        "block more",
        "block replaced",
        "blocks swapped",
        "norm missing",
        "norm replaced",
        "block twice",
        "norm twice",
    ],
)
def test_ciphertexts_that_the_result_does_not_name_are_refused(sealed: list[Sealed]) -> None:
    asked = request()
    with pytest.raises(Damaged):
        _check_result(asked, result(asked), sealed)


def test_result_must_be_signed_by_the_pinned_server() -> None:
    asked = request()
    envelope = result(asked).sign(SERVER)
    assert _open_result(envelope, SERVER.public_key) == result(asked)
    assert _open_result(envelope, None) == result(asked)
    with pytest.raises(PermissionRefused):
        _open_result(envelope, CLIENT.public_key)
    forged = replace(envelope, payload=envelope.payload.replace(b"server", b"serves"))
    with pytest.raises(PermissionRefused):
        _open_result(forged, None)


def collected(parts: Iterable[SearchPart], asked: SearchRequest) -> SealedAnswer:
    taking = Collected(asked, asked.sign(CLIENT), b"probe")
    for part in parts:
        taking.take(part)
    return taking.answer(SERVER.public_key)


def test_the_parts_of_an_answer_are_gathered() -> None:
    asked = request()
    envelope = result(asked).sign(SERVER)
    parts: list[SearchPart] = [Progress(2, 0, 0), SEALED[0], Progress(0, 1, 2), *SEALED[1:]]
    answer = collected([*parts, SignedResult(envelope)], asked)
    assert answer.sealed == (Sealed(SealedKind.PROBE, 0, b"probe"), *SEALED)
    assert answer.result_envelope == envelope
    assert answer.bytes_received == sum(len(one.ciphertext) for one in SEALED)


def test_an_answer_without_a_result_or_beyond_it_is_refused() -> None:
    asked = request()
    envelope = result(asked).sign(SERVER)
    with pytest.raises(Damaged, match="without a result"):
        collected(SEALED, asked)
    with pytest.raises(Damaged, match="goes on"):
        collected([*SEALED, SignedResult(envelope), SEALED[0]], asked)


def test_a_server_cannot_make_us_keep_more_than_the_auditors_open() -> None:
    with pytest.raises(Damaged, match="more than the auditors open"):
        collected(repeat(SEALED[0]), request())
    long = replace(SEALED[0], ciphertext=bytes(MAX_SEALED_BYTES + 1))
    with pytest.raises(Damaged, match="longer than a ciphertext"):
        collected([long], request())


@pytest.mark.parametrize("kind", [Kind.RESULT, Kind.NORM])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_ciphertext_of_a_server_is_short_enough(profile: Profile, kind: Kind) -> None:
    assert wire_size(profile, kind) <= MAX_SEALED_BYTES
