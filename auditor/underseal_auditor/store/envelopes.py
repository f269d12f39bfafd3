"""Signed statements as the databases keep them."""

from __future__ import annotations

import json

from underseal_core.errors import Damaged
from underseal_core.signing import Envelope, Signature


def pack_envelope(envelope: Envelope) -> bytes:
    """Return an envelope as bytes."""
    return json.dumps(
        {
            "type": envelope.payload_type,
            "payload": envelope.payload.decode(),
            "signatures": [[s.public_key.hex(), s.signature.hex()] for s in envelope.signatures],
        }
    ).encode()


def unpack_envelope(data: bytes) -> Envelope:
    """Inverse of :func:`pack_envelope`.

    Raises
    ------
    Damaged
        The database holds something else.
    """
    try:
        value = json.loads(data)
        pairs = ((bytes.fromhex(key), bytes.fromhex(sig)) for key, sig in value["signatures"])
        signatures = tuple(Signature(key, signature) for key, signature in pairs)
        return Envelope(value["type"], value["payload"].encode(), signatures)
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged("the database holds no signed statement") from error
