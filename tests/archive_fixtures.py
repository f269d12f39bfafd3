"""A small gallery with a past, in a data folder of its own, and its archive."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests.server_amendments import redacted_by
from tests.server_fixtures import (
    Lab,
    UnitContent,
    enrol_now,
    labelled,
    signed_for,
    unit_vectors,
)
from underseal_core.errors import UndersealError
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.signing import Identity
from underseal_server.archive.exporting import Exporter, Signer
from underseal_server.archive.importing import Importer
from underseal_server.archive.seal import ArchiveSeal
from underseal_server.engine.keys import KeyEpochs
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Archive, GallerySpec, NewUnit
from underseal_server.store.store import BUNDLES, Store

LAB = Lab(dimension=2)
NAME = "missing"
SERVER = Signer("server", Identity.generate())
TRUSTED = frozenset({SERVER.identity.public_key})


@lru_cache
def evaluator() -> Evaluator:
    return LAB.evaluator()


@dataclass(frozen=True)
class Folder:
    """A data folder that is open."""

    store: Store
    keys: KeyEpochs

    def gallery(self, name: str = NAME) -> GalleryStore:
        row = self.store.galleries.get(name)
        return self.store.open_gallery(row, self.keys.evaluator(row.spec.pin))

    def export(self, path: Path, *, with_bundle: bool = True) -> Archive:
        exporter = Exporter(self.store, self.keys, SERVER, lambda _: None)
        return exporter.export(NAME, path, with_bundle=with_bundle)

    def load(self, path: Path, trusted: frozenset[bytes] = TRUSTED) -> ArchiveSeal:
        return Importer(self.store, self.keys, trusted, lambda _: None).load(path)[1]

    def refused(self, path: Path, trusted: frozenset[bytes] = TRUSTED) -> UndersealError:
        """Import what must be refused, see that nothing stays, and return the error."""
        before = contents(self.store.folder)
        try:
            self.load(path, trusted)
        except UndersealError as error:
            assert contents(self.store.folder) == before
            assert self.store.galleries.page("", 99) == []
            assert self.store.archives.all(NAME) == []
            return error
        raise AssertionError("the archive was taken")


def contents(folder: Path) -> set[str]:
    """Names of all files and folders but the database's own."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if "catalogue" not in name}


@contextmanager
def opened_folder(folder: Path) -> Iterator[Folder]:
    store = Store(folder)
    keys = KeyEpochs(folder / BUNDLES, 1)
    try:
        yield Folder(store, keys)
    finally:
        keys.close()
        store.close()


def enrol(
    gallery: GalleryStore,
    shape: Shape,
    count: int,
    seed: int,
    *,
    show: bool = True,
    keep_until: str = "",
) -> NewUnit:
    """Enrol random templates as one unit; it stays PENDING unless it is to show."""
    vectors = unit_vectors(count, LAB.dimension, seed)
    row = shape is Shape.ROW
    with gallery.files.stage(shape) as staged:
        for ciphertext in [LAB.row(vectors)] if row else LAB.columns(vectors):
            staged.write(ciphertext.to_bytes())
        staged.sync()
        token = seed.to_bytes(16, "big")
        content = UnitContent(token, shape, labelled(count), staged, gallery.gallery.spec.pin)
        unit = signed_for(gallery.gallery.name, content, keep_until=keep_until)
        if show:
            enrol_now(gallery, unit, staged)
        else:
            gallery.admit([(unit, staged)])
    return unit


def remove(folder: Folder, gallery: GalleryStore, unit: NewUnit, count: int) -> None:
    """Remove the first ``count`` templates of a unit."""
    stored = folder.store.units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    gallery.remove(stored, [t.template_id for t in unit.templates[:count]], None)


def amend(folder: Folder, gallery: GalleryStore, unit: NewUnit, count: int) -> None:
    """Erase the first ``count`` templates of a unit, which are removed."""
    stored = folder.store.units.by_token(gallery.gallery, unit.token)
    assert stored is not None
    old = list(gallery.files.ciphertexts(stored))
    with gallery.files.stage(unit.shape) as staged:
        places = tuple(range(count))
        signed = redacted_by(LAB, gallery.gallery, stored, old, places, staged)
        gallery.amend(stored, signed, staged, None)


@lru_cache
def _made() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name) / "data"
    with opened_folder(folder) as data:
        LAB.bundle.save(folder / "given.usb")
        data.keys.add(folder / "given.usb")
        (folder / "given.usb").unlink()
        spec = GallerySpec(NAME, LAB.pin, "agency", frozenset({"agency", "other"}), 3)
        data.store.galleries.create(spec, "2026-01-01T00:00:00Z")
        gallery = data.gallery()
        enrol(gallery, Shape.ROW, 3, 1)
        gallery.view()
        part = enrol(gallery, Shape.COLUMNS, 300, 2)
        gone = enrol(gallery, Shape.ROW, 2, 3)
        remove(data, gallery, part, 5)
        remove(data, gallery, gone, 2)
        amend(data, gallery, part, 4)  # the fifth stays, dead, in the ciphertexts
        full = Shape.COLUMNS.capacity(LAB.bundle.profile, LAB.dimension)
        enrol(gallery, Shape.COLUMNS, full - 400, 4)
        enrol(gallery, Shape.COLUMNS, 500, 5)  # a block of its own
        gallery.view()
        gallery.checkpoint()
    return folder, kept


def filled(folder: Path) -> Path:
    """Copy the gallery's data folder: rows, columns in two blocks, removed templates and units."""
    shutil.copytree(_made()[0], folder)
    return folder
