"""Credentials of an auditor whose identity is there already: a member of a ceremony."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from underseal_core.credentials import Peer, Role
from underseal_core.signing import Identity
from underseal_server.pki import Authority


def write_credentials(authority: Authority, folder: Path, name: str, identity: Identity) -> None:
    """Credentials of an auditor whose identity took part in the ceremony."""
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    peer = Peer(Role.AUDITOR, name, identity.public_key)
    identity.save(folder / "identity.pem")
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "tls.crt").write_bytes(authority.certify(peer, key.public_key()))
    (folder / "ca.crt").write_bytes(authority.pem())
