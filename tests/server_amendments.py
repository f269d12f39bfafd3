"""Units redacted by the one auditor of a server's tests, and what it signs for them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.redaction_oracle import redact
from tests.server_fixtures import ENROLLER, Lab, ceremony
from underseal_core.amendment import Amendment, write_places
from underseal_core.gallery.unit import coefficients
from underseal_core.gallery.unit_files import StagedUnit
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_server.store.amendments import SignedAmendment
from underseal_server.store.records import Gallery, StoredUnit


def redacted_by(
    lab: Lab,
    gallery: Gallery,
    unit: StoredUnit,
    old: Sequence[Ciphertext],
    places: tuple[int, ...],
    staged: StagedUnit,
    **changes: object,
) -> SignedAmendment:
    """Write the new ciphertexts, and return the amendment, or one with ``changes``.

    A unit that was redacted before needs its ``enrolled_sha256`` among them. The store takes its
    signatures as checked: any will do.
    """
    keys = ceremony(lab.profile, lab.dimension)
    held = coefficients(unit.placement, places, keys.bundle.profile.degree)
    for one in redact([keys.share], keys.bundle, old, held):
        staged.write(one.to_bytes())
    staged.sync()
    fields: dict[str, object] = {
        "gallery": gallery.name,
        "pin": gallery.spec.pin,
        "generation": keys.bundle.epoch,
        "token": unit.token.hex(),
        "enrolled_sha256": unit.sha256.hex(),
        "old_sha256": unit.sha256.hex(),
        "new_sha256": staged.sha256.hex(),
        "erased": write_places(places),
        "count": 1 if unit.redaction is None else unit.redaction.count + 1,
        "members": 1,
        "issued_at": "2026-01-01T00:00:00Z",
    }
    statement = Amendment.model_validate({**fields, **changes})
    return SignedAmendment(statement, statement.sign(ENROLLER))
