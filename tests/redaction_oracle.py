"""Redaction in one process, and SEAL's decryption of what comes out: only tests join shares."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tests.oracles.seal_keys import decrypt, secret_to_seal
from underseal_auditor.keys.decryption import weigh
from underseal_auditor.keys.elements import key_primes, total
from underseal_auditor.keys.redaction import contributions
from underseal_auditor.keys.share import Share
from underseal_auditor.keys.zero_opening import Conditions, MemberZeroTests, fresh_occasion
from underseal_core.bundle import PublicBundle
from underseal_core.gallery.unit import Mask
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encoding import decode_coefficients
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.redaction import redacted, redaction_test

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
    primes = key_primes(bundle.profile)
    key = secret_to_seal(bundle.profile, total([weigh(s, active, primes) for s in shares], primes))
    scale = ciphertext.kind.scale(bundle.profile, bundle.dimension)
    message = decrypt(bundle.profile, key, ciphertext.residues)
    return decode_coefficients(message, bundle.profile, len(message), scale)
