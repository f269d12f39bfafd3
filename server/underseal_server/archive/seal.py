"""The last record of an archive: what it holds, signed by the server that exported it."""

from __future__ import annotations

import json
from typing import ClassVar

from underseal_core.errors import Damaged, PermissionRefused
from underseal_core.signing import Envelope, Signature
from underseal_core.statements import Count, Id, Name, Pin, Sha256, Statement, Time


class ArchiveSeal(Statement):
    """Signed by the server.

    ``snapshot_root``: of the gallery at ``gallery_version``; ``live_templates``, ``units``: how
    many it has then; ``records``: before this one; ``records_sha256``: digest of the last of them.
    """

    payload_type: ClassVar[str] = "application/vnd.underseal.archive-seal.v1+json"
    max_bytes: ClassVar[int] = 4 << 10

    archive_id: Id
    server: Name
    gallery: Name
    pin: Pin
    gallery_version: Count
    snapshot_root: Sha256
    live_templates: Count
    units: Count
    records: Count
    records_sha256: Sha256
    exported_at: Time


def pack_seal(envelope: Envelope) -> bytes:
    """Return the record's body."""
    (signature,) = envelope.signatures
    return json.dumps(
        {
            "payload_type": envelope.payload_type,
            "payload": envelope.payload.decode(),
            "public_key": signature.public_key.hex(),
            "signature": signature.signature.hex(),
        }
    ).encode()


def open_seal(data: bytes, trusted: frozenset[bytes]) -> ArchiveSeal:
    """Return the statement of a seal.

    Parameters
    ----------
    data
        The record's body.
    trusted
        Raw Ed25519 keys; one of them must have signed.

    Raises
    ------
    Damaged
        Not a seal, or its signature is wrong.
    PermissionRefused
        Signed with another key.
    """
    try:
        value = json.loads(data)
        signature = Signature(*(bytes.fromhex(value[k]) for k in ("public_key", "signature")))
        envelope = Envelope(value["payload_type"], value["payload"].encode(), (signature,))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged("the archive's seal is unreadable") from error
    try:
        seal = ArchiveSeal.open(envelope, signature.public_key)
    except PermissionRefused as error:
        raise Damaged("the archive's seal has a wrong signature") from error
    if signature.public_key not in trusted:
        raise PermissionRefused(
            f"the archive is signed by the server {seal.server} with the key "
            f"{signature.public_key.hex()}, which is not trusted here",
            hint="ask that server's operator for its key, and name it with --signer",
        )
    return seal
