"""The evaluator: expand, score, place, remove - integer arithmetic on ciphertexts.

Public and deterministic: it holds no secret, and anybody with the same ciphertexts can recompute
every result bit for bit (docs/explanation/scheme.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from underseal_core.errors import InvalidInput, MalformedCiphertext
from underseal_core.ring import _kernel
from underseal_core.ring.kernel import Residues, add, aligned, basis, check_array, check_residues
from underseal_core.scheme import blocks
from underseal_core.scheme.blocks import tiles_shape
from underseal_core.scheme.ciphertext import Ciphertext, Kind
from underseal_core.scheme.keyswitch import (
    prepare_key,
    relinearise,
    rescale,
)
from underseal_core.scheme.profiles import require_dimension
from underseal_core.scheme.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from underseal_core.scheme.profiles import Profile

__all__ = [
    "EvaluationKeys",
    "Evaluator",
    "Probe",
    "galois_elements",
    "tiles_shape",
]

_COLUMNS_LEVELS: Final = 4
"""Columns are added up by ``2^4``, so that the sums of a thread stay in cache."""
_SUBTREE_LEVELS: Final = 3
"""Each thread gets up to ``2^3`` subtrees of an expansion, so that all end at about one time."""


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationKeys:
    """Public keys of the evaluator, in SEAL's layout.

    Each is ``(fresh_level, 2, fresh_level + 1, degree)``: digit, component, prime (the special
    one last), position in NTT order. ``galois`` maps Galois elements to keys.
    """

    relinearisation: Residues
    galois: Mapping[int, Residues]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """An expanded probe, laid out for scoring. Never changed in place."""

    tiles: Residues


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A probe, and its norm: coefficient 0 is the squared norm (scheme.md section 3)."""

    probe: Probe
    norm: Ciphertext


def galois_elements(profile: Profile, dimension: int) -> tuple[int, ...]:
    """Galois elements that the expansion of a row needs, in the order of its levels."""
    return tuple(profile.degree // (1 << level) + 1 for level in range(dimension.bit_length() - 1))


class Evaluator:
    """Computes on ciphertexts of one bundle.

    Thread-safe. Owns a pool of threads; close it, or use it as a context manager.

    Parameters
    ----------
    profile, dimension
        Of the bundle; the dimension is a power of two, ``MIN_DIMENSION..MAX_DIMENSION``.
    keys
        The bundle's evaluation keys, with a Galois key for each of :func:`galois_elements`.
    threads
        Threads per call; 1 computes in the caller's.

    Raises
    ------
    InvalidInput
        The dimension or a key does not fit the profile.
    """

    def __init__(
        self, profile: Profile, dimension: int, keys: EvaluationKeys, threads: int = 1
    ) -> None:
        require_dimension(dimension)
        self.profile = profile
        self.dimension = dimension
        self._ring = basis(profile.degree, profile.key_primes)
        self._relinearisation = prepare_key(keys.relinearisation, profile)
        elements = galois_elements(profile, dimension)
        # All in one array: one of several MB comes in huge pages.
        galois = aligned((len(elements), *self._relinearisation.shape))
        for element, out in zip(elements, galois, strict=True):
            if element not in keys.galois:
                raise InvalidInput(f"the keys have no Galois key for element {element}")
            prepare_key(keys.galois[element], profile, out)
        self._expansion = _kernel.Expansion(self._ring, list(galois))
        self._workers = Workers(threads)

    @property
    def threads(self) -> int:
        """Threads per call."""
        return self._workers.threads

    def close(self) -> None:
        """End the threads. The evaluator must not be used afterwards."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def expand(self, row: Ciphertext) -> Residues:
        """Turn a row into columns (SealPIR's expansion; scheme.md section 2).

        Parameters
        ----------
        row
            ``PROBE_ROW`` or ``TEMPLATE_ROW`` with up to ``degree / dimension`` templates.

        Returns
        -------
        Residues
            ``(dimension, 2, gallery_level, degree)``: column ``i`` encrypts component ``i`` of
            template ``r`` at the coefficient of ``X^(r * dimension)``.

        Raises
        ------
        MalformedCiphertext
            Not a row of this profile.
        """
        return self.expand_many([row])[0]

    def expand_many(self, rows: Sequence[Ciphertext]) -> list[Residues]:
        """Turn rows into columns, side by side: see :meth:`expand`."""
        nodes = self._nodes(rows)
        for begin, end in pairwise(self._stops(len(rows))):
            nodes = self._descend(nodes, begin, end)
        return nodes

    def add_rows(self, tiles: Residues, rows: Sequence[Ciphertext], offsets: Sequence[int]) -> None:
        """Expand rows and add them to a block, in place, as :meth:`expand` and :meth:`add` do.

        The columns are added up while they are in cache, and the block is read and written once
        for all rows.

        Parameters
        ----------
        tiles
            Shape ``tiles_shape(profile, dimension)``; nothing else may change it meanwhile.
        rows
            As for :meth:`expand`.
        offsets
            Slot of each row's first template.
        """
        profile, ring = self.profile, self._ring
        check_array(tiles, "block", tiles_shape(profile, self.dimension))
        if not tiles.flags.writeable:
            raise InvalidInput("block is read-only")
        if not rows or len(rows) != len(offsets):
            raise InvalidInput("rows to be added need one slot each")
        slots = [self._slot(offset) for offset in offsets]
        powers = [_kernel.Power(ring, profile.gallery_level, slot) for slot in slots]
        stops = self._stops(len(rows))
        nodes = self._nodes(rows)
        stops[-1] = max(stops[-2], stops[-1] - _COLUMNS_LEVELS)
        for begin, end in pairwise(stops):
            nodes = self._descend(nodes, begin, end)
        plain = np.asarray(tiles)

        def work(index: int) -> None:
            above = [node[index] for node in nodes]
            self._expansion.add_rows(above, powers, index, stops[-1], plain)

        self._workers.run(work, range(1 << stops[-1]))

    def _descend(self, nodes: Sequence[Residues], begin: int, end: int) -> list[Residues]:
        """Go from level ``begin`` of the rows' expansion trees to level ``end``."""
        profile, last = self.profile, self.dimension == 1 << end
        level = profile.gallery_level if last else profile.fresh_level
        out = [aligned((1 << end, 2, level, profile.degree)) for _ in nodes]

        def work(piece: tuple[int, int]) -> None:
            row, index = piece
            self._expansion.descend(nodes[row][index], index, begin, end, out[row])

        self._workers.run(work, product(range(len(nodes)), range(1 << begin)))
        return out

    def _nodes(self, rows: Sequence[Ciphertext]) -> list[Residues]:
        """Return the root of each row's expansion tree, shape ``(1, 2, fresh_level, degree)``."""
        for row in rows:
            if row.kind not in (Kind.PROBE_ROW, Kind.TEMPLATE_ROW):
                raise MalformedCiphertext("only a row can be expanded")
            self._check(row)
        return [np.ascontiguousarray(row.residues)[None] for row in rows]

    def _stops(self, rows: int) -> list[int]:
        """Levels of the expansion tree where the threads wait for each other.

        Until there is a node for each thread they double; then a few subtrees for each are left,
        which a thread descends depth first.
        """
        depth, threads = self.dimension.bit_length() - 1, self._workers.threads
        stops = self._doubling(rows)
        if threads > 1:
            stops.append(min(stops[-1] + _SUBTREE_LEVELS, depth))
        return sorted({*stops, depth})

    def _doubling(self, rows: int) -> list[int]:
        """Levels until there is a node for each thread, or columns."""
        depth, threads = self.dimension.bit_length() - 1, self._workers.threads
        stops = [0]
        while rows << stops[-1] < threads and stops[-1] < depth:
            stops.append(stops[-1] + 1)
        return stops

    def prepare(self, row: Ciphertext) -> Prepared:
        """Expand a probe for :meth:`score`, with its norm: see :meth:`prepare_many`."""
        return self.prepare_many([row])[0]

    def prepare_many(self, rows: Sequence[Ciphertext]) -> list[Prepared]:
        """Expand probes side by side, with the norm of each (scheme.md sections 2 and 3).

        Every column goes from the cache to its place, and into the sums of the norm.
        """
        profile, level = self.profile, self.profile.check_level
        # No more pieces than threads: each has sums of its own.
        stops = self._doubling(len(rows))
        nodes = self._nodes(rows)
        for begin, end in pairwise(stops):
            nodes = self._descend(nodes, begin, end)
        tiles = [aligned(tiles_shape(profile, self.dimension)) for _ in rows]
        parts = aligned((1 << stops[-1], len(rows), 3, level, profile.degree))

        def work(piece: tuple[int, int]) -> None:
            row, index = piece
            node, part = nodes[row][index], parts[index, row]
            self._expansion.prepare(node, index, stops[-1], tiles[row], part)

        self._workers.run(work, product(range(len(rows)), range(len(parts))))
        sums = parts[0]
        for part in parts[1:]:
            sums = add(sums, part, profile.data_primes[:level])
        return [
            Prepared(Probe(laid_out), Ciphertext(profile, Kind.NORM, norm))
            for laid_out, norm in zip(tiles, self._finish(sums), strict=True)
        ]

    def score(self, probe: Probe, tiles: Residues) -> Ciphertext:
        """Score one block: see :meth:`score_many`."""
        return self.score_many([probe], [tiles])[0][0]

    def score_many(
        self, probes: Sequence[Probe], tiles: Sequence[Residues]
    ) -> list[list[Ciphertext]]:
        """Score every block for every probe.

        The blocks are read from memory once, whatever the number of probes, and a tile of the
        probe stays in cache while the same tile of every block passes: a few blocks per call are
        faster than one.

        Parameters
        ----------
        probes
            From :meth:`prepare`.
        tiles
            Blocks of shape ``tiles_shape(profile, dimension)``; may be memory maps.

        Returns
        -------
        list of list of Ciphertext
            ``[probe][block]``, kind ``RESULT``: coefficient ``j`` is the score of slot ``j``.
        """
        shape = tiles_shape(self.profile, self.dimension)
        for block in tiles:
            check_array(block, "block", shape)
        left = [probe.tiles for probe in probes]
        right = [np.asarray(block) for block in tiles]
        sums = aligned((len(left), len(right), 3, self.profile.gallery_level, self.profile.degree))

        def work(piece: tuple[int, int]) -> None:
            _kernel.score(self._ring, left, right, sums, *piece)

        self._workers.run(work, blocks.tile_pieces(self.profile, self._workers.threads))
        flat = self._finish(sums.reshape(-1, *sums.shape[2:]))
        results = [Ciphertext(self.profile, Kind.RESULT, residues) for residues in flat]
        return [results[i : i + len(right)] for i in range(0, len(results), len(right))]

    def lower(self, rows: Residues) -> Residues:
        """Rescale ciphertexts, ``(count, 2, fresh_level, degree)``, to gallery level."""
        return rescale(rows, self.profile.gallery_level, self.profile, self._workers)

    def add(self, tiles: Residues, columns: Residues, offset: int) -> None:
        """Add templates to a block, in place: ``tiles += X^offset * columns``.

        Parameters
        ----------
        tiles
            Shape ``tiles_shape(profile, dimension)``; may be a memory map.
        columns
            Shape ``(dimension, 2, gallery_level, degree)``.
        offset
            Slot of the first template, ``0 <= offset < degree``.
        """
        self._check_columns(columns)
        self._place(tiles, columns, 0, self._slot(offset))

    def subtract(self, tiles: Residues, columns: Residues, offset: int) -> None:
        """Undo :meth:`add` with the same arguments, exactly."""
        self._check_columns(columns)
        self._place(tiles, columns, 0, self._slot(offset) + self.profile.degree)

    def merge(self, tiles: Residues, other: Residues) -> None:
        """Add another block, of the same shape, to a block in place."""
        shape = tiles_shape(self.profile, self.dimension)
        check_array(tiles, "block", shape)
        check_array(other, "other block", shape)
        blocks.merge(tiles, other, self.profile, self._workers)

    def add_column(self, tiles: Residues, index: int, column: Residues, offset: int) -> None:
        """Add column ``index``, shape ``(2, gallery_level, degree)``, alone to a block."""
        self._place(tiles, column[None], index, self._slot(offset))

    def subtract_column(self, tiles: Residues, index: int, column: Residues, offset: int) -> None:
        """Undo :meth:`add_column` with the same arguments, exactly."""
        self._place(tiles, column[None], index, self._slot(offset) + self.profile.degree)

    def _place(self, tiles: Residues, columns: Residues, first: int, power: int) -> None:
        check_array(tiles, "block", tiles_shape(self.profile, self.dimension))
        blocks.place(tiles, columns, first, power, self.profile, self._workers)

    def _check_columns(self, columns: Residues) -> None:
        check_array(columns, "columns", blocks.columns_shape(self.profile, self.dimension))

    def _slot(self, offset: int) -> int:
        if not 0 <= offset < self.profile.degree:
            raise InvalidInput(f"a block has no slot {offset}")
        return offset

    def _finish(self, sums: Residues) -> Residues:
        """Relinearise sums of products and rescale them to result level."""
        two = relinearise(sums, self._relinearisation, self.profile, self._workers)
        return rescale(two, self.profile.result_level, self.profile, self._workers)

    def _check(self, ciphertext: Ciphertext) -> None:
        profile = self.profile
        level = ciphertext.kind.level(profile)
        if ciphertext.profile != profile:
            raise MalformedCiphertext(f"ciphertext is not of profile {profile.name}")
        check_array(ciphertext.residues, "ciphertext", (2, level, profile.degree))
        check_residues(ciphertext.residues, profile.data_primes[:level], "ciphertext")
