"""The catalogue as a server states it, and what one version of it says. Pure.

An auditor keeps its own copy of every catalogue (see ``mirror.py``). A signed result names a
version and its root; equal roots mean that it knows which template is in which slot
without asking, so the operator does not learn which ones matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_core.errors import NotFound
from underseal_core.gallery.unit import Unit
from underseal_core.signing import Envelope
from underseal_core.snapshot import LiveEntry, block_entries, root_of_blocks
from underseal_core.statements import SearchRequest, Targets

MAX_BLOCK: Final = 1 << 20
MAX_SEALED_LABEL: Final = 8192
"""Bytes; a label has at most 4096 and HPKE adds about 1200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueUnit(Unit):
    """One unit as the server's feed states it, with its enroller's last receipt."""

    receipt: Envelope
    added_version: int


@dataclass(frozen=True, slots=True)
class AmendedUnit:
    """A unit's last amendment as the server's feed states it, in force from ``version`` on.

    ``sha256``: of its ciphertexts as they are now.
    """

    token: bytes
    sha256: bytes
    amendment: Envelope
    version: int


@dataclass(frozen=True, slots=True)
class RelabelledUnit:
    """A later receipt of a unit that was there before, as the server's feed states it."""

    token: bytes
    receipt: Envelope
    version: int


@dataclass(frozen=True, slots=True)
class Attested:
    """A unit as enroller or auditors signed for it, the last of them, and in which key epoch."""

    gallery: str
    epoch: str
    unit: Unit


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One template as the server's feed states it.

    Ids and token have 16 bytes, ``label_sha256`` 32. ``place``: in the unit, from 0;
    ``sealed_label`` may be empty once it is removed; ``removed_version`` is 0 while it is live.
    """

    template_id: bytes
    subject_id: bytes
    unit_token: bytes
    place: int
    sealed_label: bytes
    label_sha256: bytes
    removed_version: int


@dataclass(frozen=True, slots=True)
class Block:
    """The live slots of one block: ``slots[i]`` holds ``entries[i]``, ascending.

    ``current[i]`` is False for a template that was removed after this version, or whose time is
    over: its score is there, but nothing about it is released any more. ``sha256``: the entries
    digest of the block (``underseal_core.snapshot``).
    """

    entries: tuple[LiveEntry, ...]
    slots: npt.NDArray[np.int64]
    current: npt.NDArray[np.bool_]
    sha256: bytes

    def chosen(self, targets: Targets) -> npt.NDArray[np.bool_]:
        """Return which slots the request asks about: all of them if it names nobody."""
        if not targets:
            return np.ones(len(self.entries), dtype=np.bool_)
        wanted = targets.wanted()
        return np.array([_name(entry, targets) in wanted for entry in self.entries], np.bool_)

    def compared(self, request: SearchRequest) -> npt.NDArray[np.bool_]:
        """Return which slots the answer may speak of; a probe is not compared with itself."""
        allowed = self.chosen(request.targets) & self.current
        if request.probe_template:
            own = request.own_template
            allowed &= np.array([e.template_id != own for e in self.entries], np.bool_)
        return allowed

    def without(self, overdue: frozenset[bytes]) -> Block:
        """Return the block with the templates of these ids no longer current."""
        stays = [entry.template_id not in overdue for entry in self.entries]
        return replace(self, current=self.current & np.array(stays, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class View:
    """One version of a gallery: its hex ``root``, its blocks, the number of live templates."""

    root: str
    blocks: Mapping[int, Block]
    templates: int

    def expected(self, targets: Targets) -> tuple[tuple[int, ...], int]:
        """Return the blocks that a result must hold, ascending, and how many templates it compares.

        Raises
        ------
        NotFound
            A target was not live in this version.
        """
        counts, found = {}, set[bytes]()
        for number, block in self.blocks.items():
            chosen = np.flatnonzero(block.chosen(targets))
            counts[number] = len(chosen)
            if targets:
                found.update(_name(block.entries[place], targets) for place in chosen)
        targets.check_found(found)
        return tuple(number for number, count in counts.items() if count), sum(counts.values())

    def compared(self, request: SearchRequest) -> dict[bytes, LiveEntry]:
        """Return the templates that the answer may speak of, by their ids."""
        return {
            block.entries[place].template_id: block.entries[place]
            for block in self.blocks.values()
            for place in np.flatnonzero(block.compared(request))
        }

    def current(self, template_id: bytes) -> LiveEntry:
        """Return a live template about which something may be said.

        Raises
        ------
        NotFound
            It is not enrolled, or not any more.
        """
        for block in self.blocks.values():
            for entry, current in zip(block.entries, block.current, strict=True):
                if current and entry.template_id == template_id:
                    return entry
        raise NotFound("the template to search with is not enrolled in this gallery")

    def without(self, overdue: frozenset[bytes]) -> View:
        """Return the same version, of which nothing about these templates may be released."""
        if not overdue:
            return self
        return replace(self, blocks={n: one.without(overdue) for n, one in self.blocks.items()})


def _name(entry: LiveEntry, targets: Targets) -> bytes:
    """Return the id by which targets may name a template."""
    return entry.subject_id if targets.subject_ids else entry.template_id


def block_of(rows: Iterable[tuple[LiveEntry, bool]]) -> Block:
    """Build the view of one block.

    Parameters
    ----------
    rows
        Live templates in slot order, each with whether it is still live now.

    Raises
    ------
    Damaged
        Two templates in one slot.
    """
    pairs = list(rows)
    entries = tuple(entry for entry, _ in pairs)
    slots = np.array([entry.slot for entry in entries], dtype=np.int64)
    current = np.array([alive for _, alive in pairs], dtype=np.bool_)
    return Block(entries, slots, current, block_entries(e.row() for e in entries).sha256)


def view_of(
    gallery: str, version: int, blocks: Mapping[int, Block], tiles_roots: Mapping[int, str]
) -> View:
    """Build the view of one version.

    Parameters
    ----------
    blocks
        Those that hold a live template.
    tiles_roots
        Hex root over the tiles of each of them: an auditor's own, or what the server stated.

    Raises
    ------
    Damaged
        Roots of other blocks.
    """
    digests = {number: block.sha256 for number, block in blocks.items()}
    root = root_of_blocks(gallery, version, digests, tiles_roots)
    ordered = {number: blocks[number] for number in sorted(blocks)}
    return View(root, ordered, sum(len(block.entries) for block in blocks.values()))
