"""Names in certificates and credential folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from underseal_core.credentials import Credentials, Peer, Role
from underseal_core.errors import InvalidInput, PermissionRefused
from underseal_core.signing import Identity


def test_peer_name_round_trips() -> None:
    peer = Peer(Role.CLIENT, "agency-a", bytes(range(32)))
    assert Peer.from_uri(peer.uri()) == peer


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://client/a?key=" + "0" * 64,
        "underseal://king/a?key=" + "0" * 64,
        "underseal://client/A?key=" + "0" * 64,
        "underseal://client/a?key=" + "0" * 63,
        "underseal://client/a?key=" + "0" * 64 + "\n",
        "underseal://client/a/b?key=" + "0" * 64,
    ],
)
def test_other_names_are_refused(uri: str) -> None:
    with pytest.raises(PermissionRefused):
        Peer.from_uri(uri)


def test_missing_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("an authority")
    with pytest.raises(InvalidInput) as caught:
        Credentials.load(tmp_path)
    assert "identity.pem" in caught.value.hint
    assert "tls.crt" in caught.value.public
    assert str(tmp_path) not in caught.value.public


def test_repr_shows_no_private_key(tmp_path: Path) -> None:
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (tmp_path / name).write_text(f"content of {name}")
    Identity.generate().save(tmp_path / "identity.pem")
    assert "content of" not in repr(Credentials.load(tmp_path))
