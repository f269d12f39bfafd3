"""A large gallery on disk, made with the server's own store, and what a search in it must give."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.accuracy import Real, opened
from benchmarks.hardware import cores
from benchmarks.inputs import SEED
from benchmarks.record import say
from underseal_auditor.keys.ceremony import SoleCeremony, run_sole
from underseal_client.records import SealedKind
from underseal_client.search import SealedAnswer
from underseal_core.errors import UndersealError
from underseal_core.gallery.block import Block
from underseal_core.gallery.unit import Shape, usable_slots
from underseal_core.gallery.unit_files import StagedUnit
from underseal_core.provenance import Enrolled
from underseal_core.scheme.ciphertext import Ciphertext, Kind, parse_ciphertext
from underseal_core.scheme.encryption import Encryptor
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import Profile
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Pin
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import GallerySpec, NewTemplate, NewUnit
from underseal_server.store.store import BUNDLES, Store

GALLERY: Final = "million"
CLIENT: Final = "agency"
LABEL_BYTES: Final = 160
RUNS: Final = 3
"""Servers that remove a row each."""
MAKING: Final = 256 << 20
"""Bytes of blocks in memory while the gallery is made."""


class Sample:
    """Keys, the real part of the gallery, and what a search in it must give."""

    def __init__(self, profile: Profile, dimension: int) -> None:
        self.profile, self.dimension = profile, dimension
        self.ceremony: SoleCeremony = run_sole(profile, dimension, Identity.generate())
        self.encryptor = Encryptor(profile, dimension, self.ceremony.bundle.public_key)
        self.rng = np.random.default_rng(SEED)
        self.real: dict[int, Real] = {}
        """Templates by number of their unit, which is that of its block."""
        self.of_many: list[bytes] = []
        self.of_rows: list[bytes] = []
        """Template ids that may be removed: of one unit of many; each of a unit of its own."""
        self.changing: set[int] = set()
        """Blocks out of which those of a unit of their own go."""

    @property
    def pin(self) -> Pin:
        """What the gallery is pinned to."""
        scheme = {"profile": self.profile.name, "key_epoch": self.ceremony.bundle.epoch}
        return Pin(model_id="synthetic", model_dimension=self.dimension, **scheme)

    def vectors(self, count: int) -> Real:
        """Return random unit vectors, ``(count, dimension)``."""
        values = self.rng.normal(size=(count, self.dimension))
        unit: Real = values / np.linalg.norm(values, axis=1, keepdims=True)
        return unit

    def columns(self, number: int, count: int, *, real: bool) -> Iterator[Ciphertext]:
        """Yield the columns of a bulk unit: encrypted, or any residues below the primes."""
        if real:
            self.real[number] = self.vectors(count)
            yield from self.encryptor.encrypt_columns(self.real[number])
            return
        primes = self.profile.data_primes[: self.profile.gallery_level]
        shape = (2, len(primes), self.profile.degree)
        high = np.array(primes, dtype=np.uint32)[None, :, None]
        for _ in range(self.dimension):
            values = self.rng.integers(0, high, shape, dtype=np.uint32)
            yield Ciphertext(self.profile, Kind.COLUMN, values)

    def rows(self, blocks: int, each: int) -> list[Ciphertext]:
        """Return rows of ``each`` templates that fill a block; every block holds them."""
        vectors = [self.vectors(each) for _ in range(self.dimension)]
        by_slot = np.stack(vectors, axis=1).reshape(-1, self.dimension)
        self.real.update(dict.fromkeys(range(blocks), by_slot))
        return [self.encryptor.encrypt_row(row) for row in vectors]

    def score_error(self, answer: SealedAnswer, probe: Real) -> float:
        """Open the real units' blocks; return how far the worst score is off."""
        worst, results = 0.0, results_of(answer)
        for number, templates in self.real.items():
            result = parse_ciphertext(results[number], self.profile, Kind.RESULT)
            got = opened(result, self.ceremony.share.secret)[: len(templates)]
            worst = max(worst, float(np.abs(got - templates @ probe).max()))
        return worst


def results_of(answer: SealedAnswer) -> dict[int, bytes]:
    """Return an answer's results by block."""
    return {s.block: s.ciphertext for s in answer.sealed if s.kind is SealedKind.RESULT}


class Maker:
    """Fills a data folder as a server would."""

    def __init__(self, folder: Path, sample: Sample, identity: Identity) -> None:
        self._store = Store(folder, memory_limit=MAKING)
        self._sample = sample
        self.units = 0
        self._identity = identity
        bundle = sample.ceremony.bundle
        bundle.save(folder / BUNDLES / f"{bundle.epoch}.usb")
        self._evaluator = Evaluator(sample.profile, sample.dimension, bundle.keys, cores())
        spec = GallerySpec(GALLERY, sample.pin, CLIENT, frozenset({CLIENT}), 8)
        row = self._store.galleries.create(spec, self._store.clock())
        self._gallery: GalleryStore = self._store.open_gallery(row, self._evaluator)

    def fill(self, templates: int) -> int:
        """Enrol bulk units; return how many blocks."""
        full = usable_slots(self._sample.profile.degree, self._sample.dimension)
        blocks = -(-templates // full)
        for number in range(blocks):
            say(f"block {number + 1} of {blocks}")
            count = min(full, templates - number * full)
            real = number in {0, blocks // 2, blocks - 1}
            columns = self._sample.columns(number, count, real=real)
            (unit,) = self._admit(Shape.COLUMNS, [columns], count)
            self._show()
            self._sample.of_many = unit
            self._gallery.checkpoint()
        return blocks

    def fill_rows(self, templates: int, units: int) -> int:
        """Enrol units of one row each; return how many blocks.

        A full block's sum is computed once: it is the same for all of them.
        """
        sample = self._sample
        each, blocks = templates // units, -(-units // sample.dimension)
        most = Shape.ROW.capacity(sample.profile, sample.dimension)
        if not most < 2 * each <= 2 * most:
            raise SystemExit(f"a row takes {most // 2 + 1} to {most} templates, not {each}")
        rows = self._sample.rows(blocks, each)
        full: Block | None = None
        for number in range(blocks):
            say(f"block {number + 1} of {blocks}")
            some = rows[: units - number * len(rows)]
            contents = [iter([row]) for row in some]
            self._sample.of_many = self._admit(Shape.ROW, contents, each)[-1]
            if len(some) < len(rows):
                self._sample.real[number] = self._short(self._sample.real[number], len(some))
                full = None
            full = self._show(full)
            self._gallery.checkpoint()
        return blocks

    def _short(self, by_slot: Real, rows: int) -> Real:
        """Return the templates by slot of a block that only has the first rows."""
        grid = by_slot.reshape(-1, self._sample.dimension, self._sample.dimension).copy()
        grid[:, rows:] = 0
        short: Real = grid.reshape(by_slot.shape)
        return short

    def add_single(self) -> None:
        """Enrol a row of one template for each server to remove."""
        for _ in range(RUNS):
            row = self._sample.encryptor.encrypt_row(self._sample.vectors(1))
            ((template_id,),) = self._admit(Shape.ROW, [iter([row])], 1)
            self._sample.of_rows.append(template_id)
            self._sample.changing |= {one.placement.block for one in self._gallery.pending()}
            self._show()
        self._gallery.checkpoint()

    def close(self) -> None:
        """Let the server have the folder."""
        self._gallery.close()
        self._evaluator.close()
        self._store.close()

    def _arrived(
        self, stack: ExitStack, shape: Shape, ciphertexts: Iterator[Ciphertext], count: int
    ) -> tuple[NewUnit, StagedUnit]:
        """Make a unit, with its enroller's receipt."""
        staged = stack.enter_context(self._gallery.files.stage(shape))
        for ciphertext in ciphertexts:
            staged.write(ciphertext.to_bytes())
        staged.sync()
        templates = tuple(
            NewTemplate(*map(secrets.token_bytes, (16, 16, LABEL_BYTES))) for _ in range(count)
        )
        token, pin = secrets.token_bytes(16), self._sample.pin
        hashed = staged.sha256, staged.size
        unit = NewUnit(token, shape, templates, CLIENT, *hashed, Envelope("", b"", ()))
        content = Enrolled(GALLERY, pin, token, shape, unit.leaves(), unit.sha256)
        receipt = content.receipt(CLIENT, self._store.clock()).sign(self._identity)
        return replace(unit, receipt=receipt), staged

    def _admit(
        self, shape: Shape, contents: list[Iterator[Ciphertext]], count: int
    ) -> list[list[bytes]]:
        """Store units of ``count`` templates each; return their template ids."""
        with ExitStack() as stack:
            arrived = [self._arrived(stack, shape, one, count) for one in contents]
            for outcome in self._gallery.admit(arrived):
                if isinstance(outcome, UndersealError):
                    raise outcome
        self.units += len(arrived)
        return [[template.template_id for template in unit.templates] for unit, _ in arrived]

    def _show(self, same: Block | None = None) -> Block:
        """Show the units that wait, all of one block, whose sum ``same`` is; return their sum."""
        folding, pending = self._gallery.folding(), self._gallery.pending()
        number = pending[0].placement.block
        if same is None:
            for unit in pending:
                folding.add(unit)
        else:
            total = folding.sums[number] = same.copy()
            total.folded = {unit.name for unit in pending}
            folding.units.extend(pending)
        self._gallery.prepare(folding.sums)
        self._gallery.activate(folding)
        return folding.sums[number]
