"""Any sequence of enrolments, removals, checkpoints and crashes leaves the sum of live units."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.server_amendments import redacted_by
from tests.server_fixtures import Lab, UnitContent, enrol_now, labelled, signed_for, unit_vectors
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.ciphertext import Ciphertext, Residues
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.snapshot import LiveEntry, snapshot_root
from underseal_server.store import records
from underseal_server.store.amendments import amended_name
from underseal_server.store.records import GallerySpec, StoredUnit, TemplateFilter, View
from underseal_server.store.store import Store

LAB = Lab(dimension=2)
FULL = {shape: shape.capacity(LAB.bundle.profile, LAB.dimension) for shape in Shape}
SIZES = {Shape.ROW: (1, 5, FULL[Shape.ROW]), Shape.COLUMNS: (1, 3, 2000, FULL[Shape.COLUMNS])}


@lru_cache
def evaluator() -> Evaluator:
    return LAB.evaluator()


@lru_cache
def sealed(shape: Shape, size: int) -> tuple[tuple[Ciphertext, ...], Residues | None]:
    """Ciphertexts of one unit, with the expansion of a row."""
    vectors = unit_vectors(size, LAB.dimension)
    if shape is Shape.COLUMNS:
        return tuple(LAB.columns(vectors)), None
    row = LAB.row(vectors)
    return (row,), evaluator().expand(row)


def root_from_feed(store: Store, gallery: records.Gallery, view: View) -> str:
    """The root of a view, from every entry of the auditors' feed, as they would compute it."""
    pages = list(store.templates.changes(gallery, 0, 10**6))
    units = {unit.token: unit for page in pages for unit in page.units}
    entries = []
    for page in pages:
        for change in page.templates:
            if change.removed_version:
                continue
            unit = units[change.unit_token]
            place = unit.placement
            entries.append(
                LiveEntry(
                    place.block,
                    place.first_slot + change.place * place.step,
                    change.template_id,
                    change.subject_id,
                    unit.sha256,
                )
            )
    return snapshot_root(gallery.name, view.version, entries, view.blocks)


class Gallery(RuleBasedStateMachine):
    """The store beside a model of it: the live template ids of every unit."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.live: dict[bytes, set[bytes]] = {}
        self.size: dict[bytes, int] = {}
        self.places: dict[bytes, list[bytes]] = {}
        self.redacted: dict[bytes, list[Ciphertext]] = {}
        self.enrolled: dict[bytes, bytes] = {}
        self.open()

    def open(self) -> None:
        self.store = Store(Path(self.folder.name) / "data")
        spec = GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 9)
        row = self.store.galleries.create(spec, self.store.clock())
        self.gallery = self.store.open_gallery(row, evaluator())

    @rule(shape=st.sampled_from(Shape), choice=st.integers(0, 3))
    def enrol(self, shape: Shape, choice: int) -> None:
        size = SIZES[shape][choice % len(SIZES[shape])]
        ciphertexts, _ = sealed(shape, size)
        templates = tuple(labelled(size))
        token = secrets.token_bytes(16)
        with self.gallery.files.stage(shape) as staged:
            for ciphertext in ciphertexts:
                staged.write(ciphertext.to_bytes())
            staged.sync()
            unit = signed_for("missing", UnitContent(token, shape, templates, staged, LAB.pin))
            enrol_now(self.gallery, unit, staged)
        self.live[token] = {template.template_id for template in templates}
        self.size[token] = size
        self.enrolled[token] = unit.sha256
        self.places[token] = [template.template_id for template in templates]

    @rule(unit=st.integers(0, 9), part=st.floats(0, 1), whole=st.booleans())
    def remove(self, unit: int, part: float, whole: bool) -> None:
        if not self.live:
            return
        token = sorted(self.live)[unit % len(self.live)]
        ids = sorted(self.live[token])
        chosen = ids if whole else ids[: int(part * len(ids))]
        assert self.gallery.remove(self.unit(token), chosen, None) == len(chosen)
        self.live[token] -= set(chosen)
        if not self.live[token]:
            del self.live[token]

    @rule(unit=st.integers(0, 9), crash=st.booleans())
    def redact(self, unit: int, crash: bool) -> None:
        """Erase what was removed from a unit, some time; maybe before blocks could be saved."""
        some = [token for token in sorted(self.live) if len(self.live[token]) < self.size[token]]
        if not some:
            return
        token = some[unit % len(some)]
        before, row = self.unit(token), self.gallery.gallery
        live = self.live[token]
        erased = tuple(i for i, name in enumerate(self.places[token]) if name not in live)
        if erased == before.erased:
            return
        old = list(self.gallery.files.ciphertexts(before))
        with self.gallery.files.stage(before.shape) as staged:
            first = {"enrolled_sha256": self.enrolled[token].hex()}
            amendment = redacted_by(LAB, row, before, old, erased, staged, **first)
            if crash:
                self.gallery.files.keep(staged, amended_name(before, amendment))
                self.store.amendments.put(row, before, amendment)
            else:
                self.gallery.amend(before, amendment, staged, None)
        self.redacted[token] = list(self.after(token, crash))
        assert not self.gallery.files.path(before.name).exists()
        assert self.unit(token).erased == erased

    def after(self, token: bytes, crash: bool) -> Iterator[Ciphertext]:
        if crash:
            self.store.close()
            self.open()
        yield from self.gallery.files.ciphertexts(self.unit(token))

    @rule()
    def checkpoint(self) -> None:
        self.gallery.checkpoint()

    @rule(saved=st.booleans())
    def restart(self, saved: bool) -> None:
        if saved:
            self.gallery.checkpoint()
        self.store.close()
        self.open()

    def unit(self, token: bytes) -> StoredUnit:
        unit = self.store.units.by_token(self.gallery.gallery, token)
        assert unit is not None
        return unit

    @invariant()
    def the_catalogue_agrees_with_the_model(self) -> None:
        if not hasattr(self, "gallery"):
            return
        row = self.gallery.gallery
        listed = self.store.templates.page(row, TemplateFilter(), (-1, -1), 10**6)
        wanted = set().union(*self.live.values()) if self.live else set()
        assert {template.template_id for template in listed} == wanted
        assert len({(template.block, template.slot) for template in listed}) == len(listed)
        view = self.gallery.view()
        assert view.templates == len(wanted)
        assert view.root == root_from_feed(self.store, row, view)
        assert self.store.digests.wrong(row) == []

    @invariant()
    def every_block_is_the_sum_of_its_live_units(self) -> None:
        if not hasattr(self, "gallery"):
            return
        sums: dict[int, Residues] = {}
        for token in self.live:
            unit = self.unit(token)
            place = unit.placement
            tiles = sums.setdefault(place.block, np.zeros_like(self.gallery.tiles(place.block)))
            ciphertexts, columns = sealed(unit.shape, self.size[token])
            if token in self.redacted:
                ciphertexts = tuple(self.redacted[token])
                row = unit.shape is Shape.ROW
                columns = evaluator().expand(ciphertexts[0]) if row else None
            if columns is not None:
                evaluator().add(tiles, columns, place.first_slot)
                continue
            for index, column in enumerate(ciphertexts):
                evaluator().add_column(tiles, index, column.residues, place.first_slot)
        assert set(self.gallery.view().blocks) == set(sums)
        for number, tiles in sums.items():
            assert np.array_equal(self.gallery.tiles(number), tiles)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestGallery = Gallery.TestCase
TestGallery.settings = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
