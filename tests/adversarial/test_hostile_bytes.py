"""Bytes that a peer may send: every parser refuses them in its own words, or reads them exactly.

Nothing else may happen: no other exception, and no second form of the same statement. The formats
are the ones that cross a machine's border; protobuf's own framing is the library's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.auditor_world import desk, policy, policy_text, unit, world
from tests.oracles.ceremonies import finished
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.policy.document import parse_policy
from underseal_core.bundle import parse_bundle
from underseal_core.errors import UndersealError
from underseal_core.log_entries import decode_entry, open_entry
from underseal_core.scheme.ciphertext import Kind, parse_ciphertext, wire_size
from underseal_core.scheme.fields import residues_size
from underseal_core.scheme.profiles import SWIFT
from underseal_core.statements import Release, SearchRequest, SearchResult
from underseal_core.tlog.checkpoint import open_checkpoint
from underseal_core.tlog.note import Note, VerifierKey
from underseal_core.tlog.proof import Receipt

Parser = Callable[[bytes], object]


@cache
def delivered() -> tuple[dict[str, bytes], VerifierKey]:
    """One honest search's messages, and the log's key."""
    of = world("swift")
    answer = of.ask(unit(1, 5)[0])
    with TemporaryDirectory() as folder, desk(Path(folder), of, policy("swift")) as office:
        delivery = office.delivery(answer)
        intent = delivery.evidence.intent
        samples = {
            "search request": answer.request.payload(),
            "search result": answer.result.payload(),
            "release": delivery.release.payload,
            "log entry": intent.entry,
            "receipt": intent.receipt,
            "checkpoint": Receipt.parse(intent.receipt).checkpoint,
            "signed note": Receipt.parse(intent.receipt).checkpoint,
            "log key": office.logbook.key.vkey().encode(),
            "probe": answer.sealed[Kind.PROBE_ROW, 0],
            "policy": policy_text("swift").encode(),
            "bundle": finished(dimension=2).bundle.to_bytes(),
            "ceremony file": finished().file.to_bytes(),
        }
        return samples, office.logbook.key


def open_and_decode(data: bytes) -> object:
    return decode_entry(data), open_entry(data)


PARSERS: dict[str, Parser] = {
    "search request": SearchRequest.parse,
    "search result": SearchResult.parse,
    "release": Release.parse,
    "log entry": open_and_decode,
    "receipt": Receipt.parse,
    "checkpoint": lambda data: open_checkpoint(data, delivered()[1]),
    "signed note": Note.parse,
    "log key": lambda data: VerifierKey.parse(data.decode("latin-1")),
    "probe": lambda data: parse_ciphertext(data, SWIFT, Kind.PROBE_ROW),
    "policy": parse_policy,
    "bundle": parse_bundle,
    "ceremony file": CeremonyFile.parse,
}
SIGNED_OR_CANONICAL = {"search request", "search result", "release", "log entry", "checkpoint"}
"""What is named by its hash, or signed: nothing but the original reads as it."""


def read(name: str, data: bytes) -> bool:
    """Tell whether the bytes were accepted; any other exception than our own fails the test."""
    try:
        PARSERS[name](data)
    except UndersealError:
        return False
    return True


@st.composite
def spoiled(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut, splice, repeat, flip or overwrite at a place that is drawn as a fraction."""
    where, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    tail = draw(st.binary(max_size=40))
    kind = draw(st.sampled_from(["cut", "splice", "repeat", "flip", "overwrite", "alone"]))

    def spoil(data: bytes) -> bytes:
        at = int(where * len(data))
        match kind:
            case "cut":
                return data[:at]
            case "splice":
                return data[:at] + tail + data[at:]
            case "repeat":
                return data[:at] + data[max(0, at - length) :]
            case "flip":
                return (
                    data[:at]
                    + bytes(b ^ 1 << length % 8 for b in data[at : at + 1])
                    + (data[at + 1 :])
                )
            case "overwrite":
                return data[:at] + tail + data[at + len(tail) :]
            case _:
                return tail

    return spoil


@pytest.mark.parametrize("name", PARSERS)
def test_honest_bytes_are_read(name: str) -> None:
    assert read(name, delivered()[0][name])


@pytest.mark.parametrize("name", PARSERS)
@given(spoil=spoiled())
@settings(max_examples=60, deadline=None)
def test_spoiled_bytes_are_refused_or_read_exactly(
    name: str, spoil: Callable[[bytes], bytes]
) -> None:
    honest = delivered()[0][name]
    data = spoil(honest)
    accepted = read(name, data)
    if name in SIGNED_OR_CANONICAL and accepted and data != honest:
        parsed = PARSERS[name](data)
        assert parsed != PARSERS[name](honest)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "spaces": lambda data: json.dumps(json.loads(data), sort_keys=True).encode(),
    "another order": lambda data: compact(dict(reversed(json.loads(data).items()))),
    "escapes": lambda data: data.replace(b"agency", b"\\u0061gency"),
    "a field twice": lambda data: data.replace(b"{", b'{"version":1,', 1),
    "a field too many": lambda data: data.replace(b"{", b'{"Z":0,', 1),
    "a line break": lambda data: data + b"\n",
}


def compact(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["search request", "search result", "release"])
def test_statement_in_another_form_is_refused(name: str, form: str) -> None:
    """It would say the same under another hash."""
    honest = delivered()[0][name]
    other = FORMS[form](honest)
    assert other == honest or not read(name, other)


@pytest.mark.parametrize("name", PARSERS)
def test_length_is_checked_before_anything_is_made_of_it(name: str) -> None:
    """A message of 64 MiB, and one whose inner lengths claim as much."""
    honest = delivered()[0][name]
    assert not read(name, honest + bytes(64 << 20))
    assert not read(name, b"\xff" * 4096)
    assert not read(name, b"[" * 100_000)
    assert not read(name, b"")


def test_residues_at_their_primes_are_refused() -> None:
    honest = delivered()[0]["probe"]
    assert len(honest) == wire_size(SWIFT, Kind.PROBE_ROW)
    for index, prime in enumerate(SWIFT.data_primes):
        at = 8 + residues_size(SWIFT, 1) * index
        for residue in (0, prime - 1):
            assert read("probe", with_first(honest, at, residue))
        for residue in (prime, 2**26 - 1):
            assert not read("probe", with_first(honest, at, residue))


def with_first(data: bytes, at: int, residue: int) -> bytes:
    """Replace the residue of 26 bits that begins at a byte."""
    word = int.from_bytes(data[at : at + 4], "little")
    word = word >> 26 << 26 | residue
    return data[:at] + word.to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize("form", ["plain", "words"])
def test_a_ciphertext_has_one_form(form: str) -> None:
    """The same residues as 32-bit words, with either magic, are not taken for another name."""
    honest = delivered()[0]["probe"]
    words = parse_ciphertext(honest, SWIFT, Kind.PROBE_ROW).residues.astype("<u4").tobytes()
    magic = b"USC1" if form == "plain" else b"USC2"
    assert not read("probe", magic + honest[4:8] + words)
