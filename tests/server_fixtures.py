"""Real keys, templates and ciphertexts for tests of the server, at the smallest sizes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_auditor.keys.decryption import Opener
from underseal_core.bundle import PublicBundle
from underseal_core.errors import UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.gallery.unit_files import StagedUnit
from underseal_core.provenance import Enrolled
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import padded_dimension, profile_named
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Pin
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import NewTemplate, NewUnit, Receipt

Vectors = npt.NDArray[np.float64]

DIMENSION = 8
PROFILE = "swift"
SIGMA = 2.0**-12
"""Noise of test openings: far below the score differences that tests look at."""


ENROLLER = Identity.generate()


@dataclass(frozen=True)
class UnitContent:
    """A unit whose ciphertexts have all come."""

    token: bytes
    shape: Shape
    templates: Iterable[NewTemplate]
    staged: StagedUnit
    pin: Pin


@lru_cache(maxsize=4)
def ceremony(profile: str = PROFILE, dimension: int = DIMENSION) -> SoleCeremony:
    """Keys, made once per process."""
    return run_sole(profile_named(profile), dimension, Identity.generate())


@lru_cache(maxsize=4)
def _encryptor(profile: str, dimension: int) -> Encryptor:
    bundle = ceremony(profile, dimension).bundle
    return Encryptor(bundle.profile, dimension, bundle.public_key)


def pin_of(bundle: PublicBundle, model: str = "test-model") -> Pin:
    """Pin a gallery to a bundle."""
    return Pin(
        model_id=model,
        model_dimension=bundle.dimension,
        profile=bundle.profile.name,
        key_epoch=bundle.epoch,
    )


def unit_vectors(count: int, dimension: int = DIMENSION, seed: int = 1) -> Vectors:
    """Random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, padded_dimension(dimension)))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def labelled(count: int, subjects: Iterable[bytes] | None = None) -> list[NewTemplate]:
    """Templates with random ids and labels; one subject each unless given."""
    names = list(subjects) if subjects else [secrets.token_bytes(16) for _ in range(count)]
    return [
        NewTemplate(secrets.token_bytes(16), subject, b"sealed:" + secrets.token_bytes(24))
        for subject in names
    ]


@dataclass(frozen=True)
class Lab:
    """One key epoch with everything that clients and auditors do to it."""

    profile: str = PROFILE
    dimension: int = DIMENSION

    @property
    def bundle(self) -> PublicBundle:
        return ceremony(self.profile, self.dimension).bundle

    @property
    def encryptor(self) -> Encryptor:
        return _encryptor(self.profile, self.dimension)

    @property
    def pin(self) -> Pin:
        return pin_of(self.bundle)

    def evaluator(self, threads: int = 1) -> Evaluator:
        return Evaluator(self.bundle.profile, self.dimension, self.bundle.keys, threads)

    def row(self, vectors: Vectors) -> Ciphertext:
        return self.encryptor.encrypt_row(vectors)

    def columns(self, vectors: Vectors) -> list[Ciphertext]:
        return list(self.encryptor.encrypt_columns(vectors))

    def probe(self, vector: Vectors) -> Ciphertext:
        return self.encryptor.encrypt_probe(vector)

    def open(self, ciphertext: Ciphertext) -> Vectors:
        return Opener([ceremony(self.profile, self.dimension).share], self.bundle).open(
            ciphertext, SIGMA
        )


def show_pending(gallery: GalleryStore) -> None:
    """Activate what is PENDING, as the server does in the background."""
    folding = gallery.folding()
    for unit in gallery.pending():
        folding.add(unit)
    if folding.units:
        gallery.prepare(folding.sums)
        gallery.activate(folding)


def enrol_now(gallery: GalleryStore, unit: NewUnit, staged: StagedUnit) -> Receipt:
    """Store a unit and show it; raise what it is refused for."""
    (outcome,) = gallery.admit([(unit, staged)])
    if isinstance(outcome, UndersealError):
        raise outcome
    if outcome.repeated:
        return outcome
    show_pending(gallery)
    shown = gallery.receipt(unit)
    assert shown is not None
    return replace(shown, repeated=False)


def signed_for(
    gallery: str, unit: UnitContent, identity: Identity = ENROLLER, keep_until: str = ""
) -> NewUnit:
    """A unit as the store takes it, with its enroller's receipt."""
    draft = NewUnit(
        unit.token,
        unit.shape,
        tuple(unit.templates),
        "agency",
        unit.staged.sha256,
        unit.staged.size,
        Envelope("", b"", ()),
    )
    enrolled = Enrolled(gallery, unit.pin, unit.token, unit.shape, draft.leaves(), draft.sha256)
    receipt = enrolled.receipt("agency", "2026-01-01T00:00:00Z", keep_until)
    return replace(draft, receipt=receipt.sign(identity), keep_until=keep_until)
