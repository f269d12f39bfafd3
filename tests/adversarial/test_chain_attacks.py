"""Attacks on the chain from signature to ciphertext, one test each."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.auditor_attacks import (
    UNIFORM,
    Watching,
    plain,
    refused_by,
    shift,
    too_long_probe,
)
from tests.auditor_world import (
    AGENCY,
    NOW,
    OTHER,
    OTHER_CLIENT,
    Desk,
    desk,
    fill,
    policy,
    result_for,
    unit,
    world,
)
from underseal_auditor.guardian import Guardian
from underseal_auditor.registrar import Admission
from underseal_auditor.verify.fault import ServerFault
from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    MalformedCiphertext,
    Mismatch,
    PermissionRefused,
)
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.signing import Identity
from underseal_core.statements import ResultBlock, SearchResult, Targets, utc_text


@pytest.fixture
def guardian() -> Watching:
    return Watching(world())


@pytest.fixture
def office(tmp_path: Path, guardian: Guardian) -> Iterator[Desk]:
    with desk(tmp_path, world(), policy(), guardian=guardian) as opened:
        yield opened


# --- who signs, and what for ---------------------------------------------------------------


def test_forged_client_signature(office: Desk) -> None:
    forged = replace(plain(), signer=Identity.generate())
    with pytest.raises(PermissionRefused, match="not signed"):
        office.submit(forged)


def test_changed_request_under_an_old_signature(office: Desk) -> None:
    answer = plain()
    request, result = answer.envelopes
    changed = answer.request.model_copy(update={"purpose": "border"})
    with pytest.raises(PermissionRefused, match="not signed"):
        office.registrar.admit(AGENCY, replace(request, payload=changed.payload()), result)


def test_unknown_client(office: Desk) -> None:
    with pytest.raises(PermissionRefused, match="does not name this client"):
        office.submit(plain(), replace(AGENCY, name="stranger"))


def test_certificate_with_another_key_than_the_policy(office: Desk) -> None:
    stranger = replace(AGENCY, key=Identity.generate().public_key)
    with pytest.raises(PermissionRefused, match="another key"):
        office.submit(plain(), stranger)


def test_another_clients_request(office: Desk) -> None:
    stolen = plain()
    with pytest.raises(PermissionRefused, match="not signed"):
        office.submit(stolen, OTHER)
    with pytest.raises(PermissionRefused, match="another client's"):
        office.submit(replace(stolen, signer=OTHER_CLIENT), OTHER)


def test_forged_server_signature(office: Desk) -> None:
    forged = replace(plain(), server=Identity.generate())
    with pytest.raises(PermissionRefused, match="not signed"):
        office.submit(forged)


def test_server_in_the_name_of_another(office: Desk) -> None:
    answer = plain()
    stranger = answer.result.model_copy(update={"server": "elsewhere"})
    with pytest.raises(PermissionRefused, match="another server's name"):
        office.submit(replace(answer, result=stranger))


def test_unsigned_result_is_not_parsed(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes of JSON take seconds to parse: nobody's signature, nobody's parser."""
    request, result = replace(plain(), server=Identity.generate()).envelopes
    monkeypatch.setattr(SearchResult, "parse", None)
    with pytest.raises(PermissionRefused, match="not signed"):
        office.registrar.admit(AGENCY, request, result)


def test_norm_of_another_probe(tmp_path: Path) -> None:
    """A server passes off an honest probe's norm as that of one that is no unit vector."""
    of = world()
    honest = parse_ciphertext(plain().sealed[Kind.NORM, 0], of.bundle.profile, Kind.NORM)
    with desk(tmp_path, of, policy()) as office:
        with pytest.raises(ServerFault, match="not that of the probe"):
            office.submit(too_long_probe(of, 1.3).changed(Kind.NORM, 0, honest))
        assert office.ledger.refusals("agency", of.bundle.epoch) == 0
        assert office.ledger.epoch_total(of.bundle.epoch) == 0


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"purpose": "curiosity"}, PermissionRefused, "no purpose"),
        ({"purpose": "border"}, PermissionRefused, "does not cover this gallery"),
        ({"expires_at": utc_text(NOW - timedelta(seconds=61))}, InvalidInput, "at most one hour"),
        (
            {
                "issued_at": utc_text(NOW - timedelta(minutes=9)),
                "expires_at": utc_text(NOW - timedelta(seconds=61)),
            },
            InvalidInput,
            "expired",
        ),
        ({"issued_at": utc_text(NOW + timedelta(seconds=61))}, InvalidInput, "future"),
        ({"expires_at": utc_text(NOW + timedelta(hours=2))}, InvalidInput, "one hour"),
    ],
)
def test_request_against_policy_or_time(
    office: Desk, guardian: Watching, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        office.submit(world().ask(unit(1, 5)[0], **changes))
    assert not guardian.opened


@pytest.mark.parametrize(
    ("pin", "text"),
    [
        ({"key_epoch": "ab" * 32}, "another key epoch"),
        ({"profile": "compact"}, "profile"),
        ({"model_dimension": 512}, "dimension"),
        ({"model_id": "another-model"}, "no threshold"),
    ],
)
def test_wrong_pin(office: Desk, guardian: Watching, pin: dict[str, object], text: str) -> None:
    wrong = world().pin.model_copy(update=pin)
    with pytest.raises(Mismatch, match=text):
        office.submit(world().ask(unit(1, 5)[0], pin=wrong))
    assert not guardian.opened


def test_gallery_pinned_to_another_model(office: Desk) -> None:
    """The request is fine by itself, but the server's gallery is of another model."""
    of = world()
    of_other_dimension = of.pin.model_copy(update={"model_dimension": 100})
    with pytest.raises(Mismatch, match="pinned"):
        office.submit(of.ask(unit(1, 5)[0], pin=of_other_dimension))


# --- replay --------------------------------------------------------------------------------


def test_replay_under_another_purpose(office: Desk) -> None:
    """The result answers the request by hash, so another request finds no result."""
    answer = plain()
    replayed = answer.request.model_copy(update={"case_reference": "another case"})
    with pytest.raises(InvalidInput, match="answers another request"):
        office.submit(replace(answer, request=replayed))


def test_request_id_used_twice(office: Desk) -> None:
    of = world()
    first = plain()
    office.submit(first)
    again = of.ask(unit(1, 6)[0], request_id=first.request.request_id)
    with pytest.raises(Conflict, match="other content"):
        office.submit(again)


def test_ciphertexts_of_an_answered_request(office: Desk, guardian: Watching) -> None:
    """Opened twice under two request ids, the noise of two answers would average out."""
    first = world().ask(world().people[3])
    office.submit(first)
    count = len(guardian.opened)
    fresh = first.request.model_copy(update={"request_id": secrets.token_hex(16)})
    again = replace(first, request=fresh, result=result_for(fresh, first.result, first.sealed))
    with pytest.raises(Conflict, match="opened for another request"):
        office.submit(again)
    assert len(guardian.opened) == count


def test_same_second_component_under_another_first(office: Desk) -> None:
    """Adding a known number to ``c0`` must not buy a second opening of the same ``c1``."""
    of = world()
    first = of.ask(of.people[3])
    office.submit(first)
    shifted = shift(of, first.sealed[Kind.RESULT, 0], 0.01)
    again = of.ask(of.people[3]).changed(Kind.RESULT, 0, shifted)
    with pytest.raises(Conflict, match="opened for another request"):
        office.submit(again)


def test_refusal_is_stored_and_not_opened_again(office: Desk, guardian: Watching) -> None:
    answer = too_long_probe(world(), 1.3)
    assert refused_by(office, answer) == "norm"
    count = len(guardian.opened)
    with pytest.raises(PermissionRefused, match=UNIFORM):
        office.submit(answer)
    with pytest.raises(PermissionRefused, match=UNIFORM):
        office.registrar.release(AGENCY, answer.request.request_id)
    assert len(guardian.opened) == count


# --- ciphertexts ---------------------------------------------------------------------------


def test_swapped_result_blocks(office: Desk) -> None:
    answer = plain()
    sealed = dict(answer.sealed)
    sealed[Kind.RESULT, 0], sealed[Kind.RESULT, 1] = sealed[Kind.RESULT, 1], sealed[Kind.RESULT, 0]
    with pytest.raises(MalformedCiphertext, match="not the signed one"):
        office.submit(replace(answer, sealed=sealed))


def test_another_probe(office: Desk) -> None:
    of = world()
    answer = plain()
    other = of.encryptor.encrypt_probe(unit(1, 6)[0]).to_bytes()
    sealed = {**answer.sealed, (Kind.PROBE_ROW, 0): other}
    with pytest.raises(MalformedCiphertext, match="not the signed one"):
        office.submit(replace(answer, sealed=sealed))


def test_stored_column_as_result(office: Desk, guardian: Watching) -> None:
    """The server signs a column of its gallery as a result: wrong level and kind."""
    of = world()
    column = next(iter(of.encryptor.encrypt_columns(of.people[:2])))
    with pytest.raises(MalformedCiphertext):
        office.submit(plain().changed(Kind.RESULT, 0, column))
    assert not guardian.opened


def test_column_cut_to_the_result_level(office: Desk, guardian: Watching) -> None:
    """Right length, wrong kind byte."""
    of = world()
    column = next(iter(of.encryptor.encrypt_columns(of.people[:2])))
    level = Kind.RESULT.level(of.bundle.profile)
    cut = Ciphertext(of.bundle.profile, Kind.RESULT, column.residues[:, :level].copy())
    data = bytearray(cut.to_bytes())
    data[5] = Kind.COLUMN
    answer = plain()
    digest = hashlib.sha256(data).hexdigest()
    blocks = (ResultBlock(block=0, sha256=digest), answer.result.blocks[1])
    signed = answer.result.model_copy(update={"blocks": blocks})
    sealed = {**answer.sealed, (Kind.RESULT, 0): bytes(data)}
    with pytest.raises(MalformedCiphertext, match="not a result"):
        office.submit(replace(answer, result=signed, sealed=sealed))
    assert not guardian.opened


def test_missing_and_repeated_ciphertexts(office: Desk, guardian: Watching) -> None:
    answer = plain()
    for place in answer.sealed:
        rest = {p: data for p, data in answer.sealed.items() if p != place}
        with pytest.raises(InvalidInput, match="missing"):
            office.submit(replace(answer, sealed=rest))
    admitted = office.registrar.admit(AGENCY, *answer.envelopes)
    assert isinstance(admitted, Admission)
    fill(admitted, answer)
    with pytest.raises(InvalidInput, match="does not ask for"):
        fill(admitted, answer)
    assert not guardian.opened


def test_hidden_block(office: Desk, guardian: Watching) -> None:
    """The server leaves a block out to hide a match."""
    answer = plain()
    sealed = {p: data for p, data in answer.sealed.items() if p != (Kind.RESULT, 1)}
    signed = result_for(answer.request, answer.result, sealed)
    with pytest.raises(ServerFault, match="exactly the blocks"):
        office.submit(replace(answer, result=signed, sealed=sealed))
    assert not guardian.opened


def test_block_that_was_not_asked_for(office: Desk, guardian: Watching) -> None:
    of = world()
    targets = Targets(template_ids=(of.operator.entries[0].template_id.hex(),))
    answer = of.ask(unit(1, 5)[0], targets=targets)
    extra = plain().sealed[Kind.RESULT, 1]
    sealed = {**answer.sealed, (Kind.RESULT, 1): extra}
    signed = result_for(answer.request, answer.result, sealed)
    with pytest.raises(ServerFault, match="exactly the blocks"):
        office.submit(replace(answer, result=signed, sealed=sealed))
    assert not guardian.opened


def test_wrong_count_of_comparisons(office: Desk) -> None:
    answer = plain()
    fewer = answer.result.model_copy(update={"compared": 3})
    with pytest.raises(ServerFault, match="exactly the blocks"):
        office.submit(replace(answer, result=fewer))


def test_result_of_another_gallery(office: Desk) -> None:
    answer = plain()
    snapshot = answer.result.snapshot.model_copy(update={"gallery": "wanted"})
    other = answer.result.model_copy(update={"snapshot": snapshot})
    with pytest.raises(InvalidInput, match="another gallery"):
        office.submit(replace(answer, result=other))


def test_result_from_the_future(office: Desk) -> None:
    answer = plain()
    late = answer.result.model_copy(update={"finished_at": utc_text(NOW + timedelta(seconds=61))})
    with pytest.raises(InvalidInput, match="future"):
        office.submit(replace(answer, result=late))


@pytest.mark.parametrize("order", [(1, 0), (0, 0, 1)])
def test_blocks_out_of_order(office: Desk, order: tuple[int, ...]) -> None:
    answer = plain()
    blocks = tuple(answer.result.blocks[index] for index in order)
    with pytest.raises(InvalidInput, match="not in order"):
        office.submit(replace(answer, result=answer.result.model_copy(update={"blocks": blocks})))


def test_snapshot_that_the_catalogue_does_not_have(office: Desk, guardian: Watching) -> None:
    answer = plain()
    snapshot = answer.result.snapshot.model_copy(update={"root": "ab" * 32})
    lied = answer.result.model_copy(update={"snapshot": snapshot})
    with pytest.raises(Damaged, match="catalogue"):
        office.submit(replace(answer, result=lied))
    assert not guardian.opened
