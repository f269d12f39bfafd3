"""Redaction with members that send something else than they should."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from tests.auditor_world import DIMENSION, council, unit
from tests.redaction_oracle import opened, redact, verified
from underseal_auditor.keys.redaction import contributions
from underseal_core.gallery.unit import Mask, Placement, coefficients
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.redaction import redacted


def sample(quorum: tuple[int, int] = (2, 3)) -> tuple[Ciphertext, Mask]:
    """A row of four templates, of which the third is to go."""
    bundle = council("swift", *quorum)[0].bundle
    row = Encryptor(bundle.profile, DIMENSION, bundle.public_key).encrypt_row(unit(4, 3))
    return row, coefficients(Placement(0, 0, DIMENSION, 4), (2,), bundle.profile.degree)


def with_key(ciphertext: Ciphertext, factor: int) -> Ciphertext:
    """``factor * s`` more in the plaintext."""
    primes = ciphertext.profile.data_primes[: ciphertext.residues.shape[1]]
    residues = ciphertext.residues.copy()
    constant = np.full(residues.shape[1:], 1, np.uint32) * np.array(
        [[factor % prime] for prime in primes], np.uint32
    )
    residues[1] = kernel.add(np.ascontiguousarray(residues[1]), constant, primes)
    return Ciphertext(ciphertext.profile, ciphertext.kind, residues)


@pytest.mark.parametrize("lie", ["key", "kept", "lost", "garbage", "zero", "original"])
def test_a_spoilt_redaction_is_not_found_right(lie: str) -> None:
    """A multiple of the key; a template kept, or lost; garbage; nothing; all as it was."""
    keys, shares, _ = council("swift", 2, 3)
    bundle, (row, held) = keys.bundle, sample()
    other = {"kept": (), "lost": (0, 2)}.get(lie, (2,))
    wrong = coefficients(Placement(0, 0, DIMENSION, 4), other, bundle.profile.degree)
    honest, liar = (list(contributions(s, (1, 2), bundle, [row], held)) for s in shares[:2])
    if lie == "key":
        liar = [with_key(liar[0], 1 << 32)]
    elif lie == "zero":
        liar = [Ciphertext(row.profile, row.kind, np.zeros_like(row.residues))]
    elif lie == "garbage":
        noise = np.frombuffer(secrets.token_bytes(row.residues.nbytes), "<u4")
        primes = np.array(row.profile.data_primes)[:, None]
        residues = np.ascontiguousarray(noise.reshape(row.residues.shape) % primes, np.uint32)
        liar = [Ciphertext(row.profile, row.kind, residues)]
    new = [redacted(row, held, [honest[0], liar[0]])]
    if lie in ("kept", "lost"):
        new = redact(shares[:2], bundle, [row], wrong)
    elif lie == "original":
        new = [row]
    with Evaluator(bundle.profile, DIMENSION, bundle.keys) as evaluator:
        assert not verified(shares[:2], bundle, evaluator, [row], new, held)


def test_a_single_contribution_opens_to_nothing() -> None:
    """Enrolled by itself it would pass zero tests, and show a multiple of what the unit holds."""
    keys, shares, _ = council("swift", 2, 3)
    bundle, (row, held) = keys.bundle, sample()
    parts = [next(contributions(s, (1, 2), bundle, [row], held)) for s in shares[:2]]
    for part in parts:
        assert np.abs(opened(shares[:2], bundle, part)[~held]).max() > 1.0
    assert np.abs(opened(shares[:2], bundle, redacted(row, held, parts))[~held]).max() < 2.0**-28


def test_contributions_to_different_redactions_do_not_combine() -> None:
    """Told to erase different places, two members' masks do not cancel: nothing comes out."""
    keys, shares, _ = council("swift", 2, 3)
    bundle, (row, held) = keys.bundle, sample()
    other = coefficients(Placement(0, 0, DIMENSION, 4), (1,), bundle.profile.degree)
    parts = [
        next(contributions(share, (1, 2), bundle, [row], mask))
        for share, mask in zip(shares[:2], (held, other), strict=True)
    ]
    found = opened(shares[:2], bundle, redacted(row, held, parts))
    assert float(np.abs(found[held]).mean()) > 1.0
