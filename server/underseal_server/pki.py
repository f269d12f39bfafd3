"""A development authority: certificates that name role, participant and signing key.

Production deployments bring their own authority; all that counts is the URI name of
:mod:`underseal_core.credentials` in every certificate. Certificates are ECDSA P-256; those of
clients and operators are good for calling only, so that nobody can pose as a server with one.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from underseal_core.credentials import Peer, Role
from underseal_core.errors import Conflict, InvalidInput
from underseal_core.signing import Identity

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_LISTENS: Final = frozenset({Role.SERVER, Role.AUDITOR})
_BACKDATED: Final = timedelta(minutes=5)
"""Certificates start a little in the past: clocks differ."""


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates. The key stays out of ``repr``."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str = "Underseal development authority") -> Self:
        """Make a new authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``ca.crt`` and ``ca.key``.

        Raises
        ------
        InvalidInput
            Missing or unusable.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key(
                (folder / "ca.key").read_bytes(), password=None
            )
        except (OSError, ValueError, TypeError) as error:
            raise InvalidInput(f"cannot read the authority in {folder}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidInput("the authority's key is not an elliptic curve key")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write ``ca.crt`` and ``ca.key``; never overwrites."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "ca.key", _key_pem(self.key), 0o600)
        _write(folder / "ca.crt", self.pem(), 0o644)

    def pem(self) -> bytes:
        """Return the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def certify(
        self,
        peer: Peer,
        public_key: ec.EllipticCurvePublicKey,
        hosts: tuple[str, ...] = LOOPBACK,
        lifetime: timedelta = timedelta(days=CERTIFICATE_DAYS),
    ) -> bytes:
        """Return a PEM certificate for ``peer``.

        Parameters
        ----------
        peer
            Role, name and Ed25519 key; becomes the URI name.
        public_key
            The TLS key.
        hosts
            DNS names and addresses; used for roles that listen.
        lifetime
            From now; negative for a certificate that has expired.
        """
        now = datetime.now(UTC)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(peer.uri())]
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if peer.role in _LISTENS:
            names += [_host_name(host) for host in hosts]
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        issuer_key = self.key.public_key()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, peer.name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lifetime) - _BACKDATED)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    authority: Authority,
    folder: Path,
    role: Role,
    name: str,
    hosts: tuple[str, ...] = LOOPBACK,
    lifetime: timedelta = timedelta(days=CERTIFICATE_DAYS),
) -> Peer:
    """Make a participant's credentials folder with new keys.

    Raises
    ------
    Conflict
        The folder exists: keys are never overwritten.
    """
    try:
        folder.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        raise Conflict(f"{folder.name} has credentials already") from error
    identity = Identity.generate()
    peer = Peer(role, name, identity.public_key)
    key = ec.generate_private_key(ec.SECP256R1())
    identity.save(folder / "identity.pem")
    _write(folder / "tls.key", _key_pem(key), 0o600)
    _write(folder / "tls.crt", authority.certify(peer, key.public_key(), hosts, lifetime), 0o644)
    _write(folder / "ca.crt", authority.pem(), 0o644)
    return peer
