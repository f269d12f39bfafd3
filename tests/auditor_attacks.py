"""What attackers send to the registrar, for its tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import structlog

from tests.auditor_world import (
    DIMENSION,
    Answer,
    Desk,
    Vectors,
    World,
    at_cosine,
    unit,
    world,
)
from underseal_auditor.guardian import Dossier
from underseal_auditor.policy.rules import KeyFacts
from underseal_core.errors import (
    PermissionRefused,
)
from underseal_core.ring import kernel
from underseal_core.scheme.ciphertext import (
    Ciphertext,
    Kind,
    parse_ciphertext,
)
from underseal_core.signing import Envelope

UNIFORM = "the auditors refuse this request"


@dataclass
class Watching:
    """A guardian that remembers what it opened, and computes nothing again: the registrar's own
    checks of the numbers are on trial here.
    """

    of: World
    opened: list[Vectors] = field(default_factory=list)
    fails: bool = False

    @property
    def keys(self) -> KeyFacts:
        return self.of.key_facts

    def check_ready(self) -> None:
        pass

    def begin(self, dossier: Dossier) -> Watching:
        return self

    def countersign(self, release: Envelope) -> Envelope:
        return release

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Vectors:
        if self.fails:
            raise RuntimeError("power cut")
        self.opened.append(self.of.opener().open(ciphertext, noise_std))
        return self.opened[-1]


@cache
def plain() -> Answer:
    """An honest answer without a match; each test has a registrar of its own."""
    return world().ask(unit(1, 5)[0])


def refused_by(office: Desk, answer: Answer) -> str:
    """Submit, expect the uniform refusal, and return the rule in the registrar's log."""
    with structlog.testing.capture_logs() as logs, pytest.raises(PermissionRefused) as refusal:
        office.submit(answer)
    assert refusal.value.public == UNIFORM
    assert answer.request.request_id in refusal.value.hint
    (rule,) = [entry["rule"] for entry in logs if entry["event"] == "refused"]
    return str(rule)


def too_long_probe(of: World, norm: float) -> Answer:
    vector = unit(1, 5)[0]
    extra = np.zeros(of.bundle.profile.degree)
    extra[:DIMENSION] = (norm - 1) * vector
    return of.ask_with(of.probe_plus(vector, extra))


def two_probes(of: World, offset: int, first: float, second: float) -> Answer:
    """Two orthogonal faces, the second at a template offset, with the given squared norms."""
    a = unit(1, 5)[0]
    b = at_cosine(a, 0.0)
    extra = np.zeros(of.bundle.profile.degree)
    extra[:DIMENSION] = (np.sqrt(first) - 1) * a
    extra[offset : offset + DIMENSION] = np.sqrt(second) * b
    return of.ask_with(of.probe_plus(a, extra))


def secret_of(of: World) -> Vectors:
    """The whole key, small integers, shape (degree,); tests only."""
    primes = of.bundle.profile.data_primes[:1]
    residues = kernel.ntt_inverse(np.ascontiguousarray(of.keys.share.secret[:1]), primes)[0]
    values = residues.astype(np.float64)
    return np.where(values > primes[0] // 2, values - primes[0], values)


def key_as_result(of: World, height: float) -> Ciphertext:
    """``c = (0, K)``: an unfiltered decryption is ``K * s``."""
    profile = of.bundle.profile
    level = Kind.RESULT.level(profile)
    constant = round(height * Kind.RESULT.scale(profile, DIMENSION))
    residues = np.zeros((2, level, profile.degree), np.uint32)
    for index, prime in enumerate(profile.data_primes[:level]):
        residues[1, index] = constant % prime
    return Ciphertext(profile, Kind.RESULT, residues)


def shift(of: World, data: bytes, height: float) -> Ciphertext:
    """Add a known number to the score of slot 0."""
    profile = of.bundle.profile
    level = Kind.RESULT.level(profile)
    primes = profile.data_primes[:level]
    flat = parse_ciphertext(data, profile, Kind.RESULT).residues
    constant = round(height * Kind.RESULT.scale(profile, DIMENSION))
    added = np.array([constant % p for p in primes], np.uint32)[:, None]
    residues = flat.copy()
    residues[0] = kernel.add(flat[0], np.broadcast_to(added, flat[0].shape).copy(), primes)
    return Ciphertext(profile, Kind.RESULT, residues)
