"""Redaction in one process, and SEAL's decryption of what comes out: only tests join shares."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tests.auditor_world import Operator, World
from tests.oracles.seal_keys import decrypt, secret_to_seal
from underseal_auditor.keys.decryption import weigh
from underseal_auditor.keys.elements import total
from underseal_auditor.keys.redaction import contributions
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.zero_opening import Conditions, MemberZeroTests, fresh_occasion
from underseal_core.amendment import Amendment, write_places
from underseal_core.bundle import PublicBundle
from underseal_core.gallery.unit import Mask, coefficients
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext, plain_sha256
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.redaction import redacted, redaction_test
from underseal_core.signing import Envelope

Real = npt.NDArray[np.float64]


def redact(
    shares: Sequence[Share], bundle: PublicBundle, unit: Sequence[Ciphertext], held: Mask
) -> list[Ciphertext]:
    """What the auditors with these shares make of a unit together."""
    active = tuple(share.point for share in shares)
    parts = [contributions(share, active, bundle, unit, held) for share in shares]
    return [
        redacted(one, held, given)
        for one, given in zip(unit, zip(*parts, strict=True), strict=True)
    ]


def verified(
    shares: Sequence[Share],
    bundle: PublicBundle,
    evaluator: Evaluator,
    old: Sequence[Ciphertext],
    new: Sequence[Ciphertext],
    held: Mask,
) -> bool:
    """Whether the auditors' zero test of a redaction is passed; all must find the same."""
    active = tuple(share.point for share in shares)
    fresh = fresh_occasion(bytes(32), {point: secrets.token_bytes(32) for point in active})
    test = redaction_test(evaluator, fresh, lambda: iter(old), lambda: iter(new), held, len(active))
    conditions = Conditions(fresh, active, len(bundle.members), (test,))
    members = {share.point: MemberZeroTests(share, conditions) for share in shares}
    commitments = {point: member.commitment for point, member in members.items()}
    answers = {point: member.reveal(commitments) for point, member in members.items()}
    (found,) = {member.conclude(answers) for member in members.values()}
    return found == (True,)


def opened(shares: Sequence[Share], bundle: PublicBundle, ciphertext: Ciphertext) -> Real:
    """Exact coefficients in units of the message, by SEAL, with the secret of k shares."""
    active = [share.point for share in shares]
    primes = bundle.profile.key_primes
    key = secret_to_seal(bundle.profile, total([weigh(s, active, primes) for s in shares], primes))
    scale = ciphertext.kind.scale(bundle.profile, bundle.dimension)
    message = decrypt(bundle.profile, key, ciphertext.residues)
    return decode_coefficients(message, bundle.profile, len(message), scale)


def amendment_of(
    of: World, operator: Operator, number: int, erased: tuple[int, ...], **changes: object
) -> tuple[list[bytes], Envelope]:
    """Columns of a unit without some templates, and the amendment that the first k sign."""
    unit, k = operator.units[number], of.roster.threshold
    profile = of.bundle.profile
    old = [parse_ciphertext(part, profile, Kind.COLUMN) for part in operator.sent[unit.token]]
    new = redact(
        of.shares[:k], of.bundle, old, coefficients(unit.placement, erased, profile.degree)
    )
    parts = [one.to_bytes() for one in new]
    fields: dict[str, object] = {
        "gallery": "missing",
        "pin": of.pin,
        "generation": of.roster.generation.sha256,
        "token": unit.token.hex(),
        "enrolled_sha256": EnrolReceipt.parse(unit.receipt.payload).unit_sha256,
        "old_sha256": unit.sha256.hex(),
        "new_sha256": plain_sha256(new).hex(),
        "erased": write_places(erased),
        "count": 1 if unit.redaction is None else unit.redaction.count + 1,
        "members": k,
        "issued_at": "2026-05-04T12:00:00Z",
    }
    statement = Amendment.model_validate({**fields, **changes})
    signed = [statement.sign(member) for member in of.members[:k]]
    return parts, replace(signed[0], signatures=tuple(one.signatures[0] for one in signed))
