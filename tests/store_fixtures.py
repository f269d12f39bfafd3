"""A store on a data folder, with real keys, and units in its galleries."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_fixtures import Lab, UnitContent, Vectors, enrol_now, labelled, signed_for
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import GallerySpec, NewTemplate, NewUnit, Receipt
from underseal_server.store.store import Store

LAB = Lab()


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with LAB.evaluator() as evaluator:
        yield evaluator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data")
    yield store
    store.close()


def spec(name: str = "missing", per_subject: int = 3) -> GallerySpec:
    return GallerySpec(name, LAB.pin, "agency", frozenset({"agency"}), per_subject)


def opened(store: Store, evaluator: Evaluator, name: str = "missing") -> GalleryStore:
    return store.open_gallery(store.galleries.create(spec(name), store.clock()), evaluator)


def enrol(
    gallery: GalleryStore,
    shape: Shape,
    vectors: Vectors,
    templates: list[NewTemplate] | None = None,
    token: bytes | None = None,
    ciphertexts: list[Ciphertext] | None = None,
) -> tuple[Receipt, NewUnit]:
    if ciphertexts is None:
        ciphertexts = [LAB.row(vectors)] if shape is Shape.ROW else LAB.columns(vectors)
    with gallery.files.stage(shape) as staged:
        for ciphertext in ciphertexts:
            staged.write(ciphertext.to_bytes())
        staged.sync()
        made = templates or labelled(len(vectors))
        token = token or secrets.token_bytes(16)
        content = UnitContent(token, shape, made, staged, gallery.gallery.spec.pin)
        unit = signed_for(gallery.gallery.name, content)
        return enrol_now(gallery, unit, staged), unit


def scores(gallery: GalleryStore, evaluator: Evaluator, probe: Vectors, block: int = 0) -> Vectors:
    ready = evaluator.prepare(LAB.probe(probe)).probe
    return LAB.open(evaluator.score(ready, gallery.tiles(block)))
