"""What cannot be searched is refused with the right status, and nothing stored changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.people import people
from tests.e2e.refusals import SPOILED, Asker, Code, Refused, other_pins
from underseal_client.demo.deployment import Deployment
from underseal_core.credentials import Credentials
from underseal_core.scheme.encryption import Encryptor
from underseal_core.statements import Targets, utc_text


def test_sound_request_is_answered(asker: Asker) -> None:
    answer = asker.send(asker.sign(asker.request()))
    parts = [part.WhichOneof("part") for some in answer for part in some.parts]
    assert parts.count("sealed") >= 2  # a block and the norm
    assert parts[-1] == "result"


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_spoiled_probe_is_refused(
    asker: Asker, refused: Refused, spoil: Callable[[bytes], bytes]
) -> None:
    probe = spoil(asker.probe)
    request = asker.request(probe_sha256=hashlib.sha256(probe).hexdigest())
    refusal = refused(lambda: asker.send(asker.sign(request), probe))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert "ciphertext" in refusal.text


@pytest.mark.parametrize("what", ["model", "dimension", "profile", "key epoch"])
def test_request_of_other_pin_is_refused(asker: Asker, refused: Refused, what: str) -> None:
    request = asker.request(pin=other_pins(asker.gallery.pin)[what])
    refusal = refused(lambda: asker.send(asker.sign(request)))
    assert refusal.code is Code.FAILED_PRECONDITION
    assert what in refusal.text


def test_request_for_unknown_gallery_or_template_is_not_found(
    asker: Asker, refused: Refused
) -> None:
    unknown = asker.request(gallery="no-such-gallery")
    assert refused(lambda: asker.send(asker.sign(unknown))).code is Code.NOT_FOUND
    for targets in (Targets(template_ids=("00" * 16,)), Targets(subject_ids=("00" * 16,))):
        request = asker.request(targets=targets)
        envelope = asker.sign(request)
        assert refused(lambda e=envelope: asker.send(e)).code is Code.NOT_FOUND  # type: ignore[misc]


def test_request_id_is_answered_once(asker: Asker, refused: Refused) -> None:
    request = asker.request()
    asker.send(asker.sign(request))
    refusal = refused(lambda: asker.send(asker.sign(request)))
    assert refusal.code is Code.ALREADY_EXISTS
    assert "request id" in refusal.text
    other = request.model_copy(update={"case_reference": "another case"})
    assert refused(lambda: asker.send(asker.sign(other))).code is Code.ALREADY_EXISTS


def _times(start: timedelta, end: timedelta) -> dict[str, str]:
    now = datetime.now(UTC)
    return {"issued_at": utc_text(now + start), "expires_at": utc_text(now + end)}


@pytest.mark.parametrize(
    ("start", "end", "word"),
    [(-30, -10, "expired"), (10, 30, "not valid yet"), (0, 61, "one hour"), (5, 0, "one hour")],
)
def test_request_outside_its_time_is_refused(
    asker: Asker, refused: Refused, start: int, end: int, word: str
) -> None:
    times = _times(timedelta(minutes=start), timedelta(minutes=end))
    refusal = refused(lambda: asker.send(asker.sign(asker.request(**times))))
    assert refusal.code is Code.INVALID_ARGUMENT
    assert word in refusal.text


def test_request_of_another_signer_or_name_is_refused(
    asker: Asker, refused: Refused, deployment: Deployment
) -> None:
    bureau = Credentials.load(deployment.credentials("clients", "bureau"))
    foreign = asker.request().sign(bureau.identity)
    assert refused(lambda: asker.send(foreign)).code is Code.PERMISSION_DENIED
    named = asker.request(client="bureau")
    assert refused(lambda: asker.send(asker.sign(named))).code is Code.PERMISSION_DENIED


def test_changed_request_or_probe_is_refused(
    asker: Asker, refused: Refused, encryptor: Encryptor
) -> None:
    envelope = asker.sign(asker.request())
    changed = replace(envelope, payload=envelope.payload.replace(b"T-1", b"T-2"))
    assert refused(lambda: asker.send(changed)).code is Code.PERMISSION_DENIED
    probe = encryptor.encrypt_probe(people(1, seed=55)[0].vector).to_bytes()
    refusal = refused(lambda: asker.send(asker.sign(asker.request()), probe))
    assert refusal.code is Code.INVALID_ARGUMENT
