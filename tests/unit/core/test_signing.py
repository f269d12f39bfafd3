"""Envelopes: what is signed, by whom, as what."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from underseal_core.errors import Damaged, InvalidInput, PermissionRefused
from underseal_core.signing import (
    Envelope,
    Identity,
    Signature,
    open_envelope,
    pre_authentication_encoding,
    verify_bytes,
)


def test_pre_authentication_encoding_is_the_specifications_example() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_envelope_opens_for_its_signer() -> None:
    identity = Identity.generate()
    assert open_envelope(identity.sign("a/b", b"text"), "a/b", identity.public_key) == b"text"


def test_another_payload_type_is_refused() -> None:
    identity = Identity.generate()
    with pytest.raises(Damaged):
        open_envelope(identity.sign("a/b", b"text"), "a/c", identity.public_key)


def test_signature_does_not_carry_over_to_another_type() -> None:
    identity = Identity.generate()
    signed = identity.sign("a/b", b"text")
    forged = Envelope("a/c", signed.payload, signed.signatures)
    with pytest.raises(PermissionRefused):
        open_envelope(forged, "a/c", identity.public_key)


def test_changed_payload_and_foreign_key_are_refused() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signed = identity.sign("a/b", b"text")
    with pytest.raises(PermissionRefused):
        open_envelope(Envelope("a/b", b"texu", signed.signatures), "a/b", identity.public_key)
    with pytest.raises(PermissionRefused):
        open_envelope(signed, "a/b", other.public_key)
    relabelled = Signature(other.public_key, signed.signatures[0].signature)
    with pytest.raises(PermissionRefused):
        open_envelope(Envelope("a/b", b"text", (relabelled,)), "a/b", other.public_key)


def test_malformed_keys_do_not_verify() -> None:
    assert not verify_bytes(b"short", b"x" * 64, b"message")
    assert not verify_bytes(Identity.generate().public_key, b"x", b"message")


def test_identity_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    identity = Identity.generate()
    path = tmp_path / "identity.pem"
    identity.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Identity.load(path).public_key == identity.public_key
    with pytest.raises(FileExistsError):
        identity.save(path)


def test_unreadable_identity_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere.pem"):
        Identity.load(tmp_path / "nowhere.pem")
    (tmp_path / "bad.pem").write_text("not a key")
    with pytest.raises(InvalidInput, match="bad.pem"):
        Identity.load(tmp_path / "bad.pem")


def test_repr_shows_no_private_key(tmp_path: Path) -> None:
    identity = Identity.generate()
    identity.save(tmp_path / "identity.pem")
    body = (tmp_path / "identity.pem").read_text().splitlines()[1]
    assert body not in repr(identity)
