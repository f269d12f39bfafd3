"""Log entries: one statement, one byte string, checked signatures."""

from __future__ import annotations

import json

import pytest
import rfc8785

from underseal_core.errors import Damaged
from underseal_core.log_entries import (
    MAX_ENTRY,
    Outcome,
    PolicyInForce,
    decode_entry,
    encode_entry,
    open_entry,
    open_entry_as,
)
from underseal_core.signing import Identity

SIGNER = Identity.generate()
POLICY = PolicyInForce(
    serial=3,
    signatures=(),
    policy_sha256="1" * 64,
    policy_name="Tests, Ünal",
    key_epoch="2" * 64,
    profile="guarded",
    budget=65536,
    at="2026-01-02T03:04:05Z",
)
ENTRY = encode_entry(POLICY.sign(SIGNER))


def test_entry_is_readable_canonical_json() -> None:
    value = json.loads(ENTRY)
    assert value["payload"]["budget"] == 65536
    assert rfc8785.dumps(value) == ENTRY
    assert decode_entry(ENTRY) == POLICY.sign(SIGNER)


def test_entry_is_opened() -> None:
    assert open_entry(ENTRY) == POLICY
    assert open_entry(ENTRY, frozenset({SIGNER.public_key})) == POLICY
    assert open_entry_as(PolicyInForce, ENTRY) == POLICY


def test_other_kind_and_other_signer_are_refused() -> None:
    with pytest.raises(Damaged, match="kind"):
        open_entry_as(Outcome, ENTRY)
    with pytest.raises(Damaged, match="not signed by an auditor"):
        open_entry(ENTRY, frozenset({Identity.generate().public_key}))
    unknown = SIGNER.sign("application/vnd.underseal.other.v1+json", POLICY.payload())
    with pytest.raises(Damaged, match="unknown kind"):
        open_entry(encode_entry(unknown))


def test_entry_has_one_form() -> None:
    """Hexadecimal digits in capitals, or with spaces, would make another entry that says so too."""
    envelope = POLICY.sign(SIGNER)
    (signature,) = envelope.signatures
    for written in (signature.public_key.hex(), signature.signature.hex()):
        for other in (written.upper(), written[:2] + " " + written[2:]):
            assert bytes.fromhex(other) == bytes.fromhex(written)
            with pytest.raises(Damaged, match="malformed signature"):
                decode_entry(ENTRY.replace(written.encode(), other.encode()))


def test_signature_binds_kind_and_every_field() -> None:
    for old, new in [(b"65536", b"65537"), (b"log-policy", b"log-intent")]:
        with pytest.raises(Damaged, match="signature"):
            open_entry(ENTRY.replace(old, new))


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"[" * MAX_ENTRY,
        b" " + ENTRY,
        ENTRY + b"\n",
        b"x" * (MAX_ENTRY + 1),
        ENTRY.replace(b'"signatures":[{', b'"signatures":[],"x":[{'),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": []}),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": "none"}),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": [1]}),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": [{"key": "zz", "signature": ""}]}),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": [{"key": 1, "signature": 2}]}),
        rfc8785.dumps({**json.loads(ENTRY), "signatures": [{"key": "00", "signature": "00"}]}),
        rfc8785.dumps({**json.loads(ENTRY), "payloadType": 7}),
        rfc8785.dumps({**json.loads(ENTRY), "more": 1}),
    ],
)
def test_hostile_bytes_are_damaged(entry: bytes) -> None:
    with pytest.raises(Damaged):
        open_entry(entry)
