"""Which shard has which block: in proportion to the shards' memory."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from underseal_server.cluster.checkpoints import Key, Piece, of_place

Name = TypeVar("Name", bound=Hashable)


@dataclass(slots=True)
class _Load:
    """What one shard has."""

    capacity: int
    pieces: dict[Key, Piece] = field(default_factory=dict)
    bytes: int = 0

    def put(self, piece: Piece) -> None:
        self.take(piece.key)
        self.pieces[piece.key] = piece
        self.bytes += piece.size

    def take(self, key: Key) -> None:
        gone = self.pieces.pop(key, None)
        if gone is not None:
            self.bytes -= gone.size

    def filled(self, more: int = 0) -> float:
        return (self.bytes + more) / self.capacity


class Assignment(Generic[Name]):
    """Blocks of shards. One stays where it is until its shard leaves or :meth:`move` is called."""

    def __init__(self) -> None:
        self._loads: dict[Name, _Load] = {}

    def join(self, name: Name, capacity: int, held: Iterable[Piece] = ()) -> list[Piece]:
        """Add a shard.

        Parameters
        ----------
        name
            Of the shard.
        capacity
            Bytes that it has room for.
        held
            What it has in memory.

        Returns
        -------
        list of Piece
            Those of them that another shard has, too: this one should let them go.
        """
        taken = {key for load in self._loads.values() for key in load.pieces}
        self._loads[name] = _Load(capacity)
        twice = []
        for piece in held:
            if piece.key in taken:
                twice.append(piece)
            else:
                self._loads[name].put(piece)
        return twice

    def leave(self, name: Name) -> None:
        """Take a shard out; its blocks have none until they are asked for again."""
        self._loads.pop(name, None)

    def place(self, pieces: Iterable[Piece]) -> dict[Name, list[Piece]]:
        """Return the shard of each block; a new one goes where it fills the memory least.

        There must be a shard.
        """
        homes = {key: name for name, load in self._loads.items() for key in load.pieces}
        chosen: dict[Name, list[Piece]] = {}
        for piece in pieces:
            name = homes.get(piece.key)
            if name is None:
                size = piece.size
                name = min(self._loads, key=lambda one: self._loads[one].filled(size))
            self._loads[name].put(piece)
            chosen.setdefault(name, []).append(piece)
        return chosen

    def holders(self, place: str) -> list[Name]:
        """Return the shards that have a block of a place."""
        loads = self._loads.items()
        return [name for name, load in loads if of_place(load.pieces, place, None)]

    def forget(self, place: str, numbers: Collection[int] | None) -> None:
        """Drop blocks of a place; ``None``: all."""
        for load in self._loads.values():
            for key in of_place(load.pieces, place, numbers):
                load.take(key)

    def has(self, name: Name, piece: Piece) -> bool:
        """Whether a shard has a block in this state."""
        return name in self._loads and self._loads[name].pieces.get(piece.key) == piece

    def next_move(self) -> tuple[Name, Name, Piece] | None:
        """Return what would even out the filling: from, to, block. ``None``: it is even."""
        if not self._loads:
            return None
        full = max(self._loads, key=lambda name: self._loads[name].filled())
        least = min(self._loads, key=lambda name: self._loads[name].filled())
        piece = next(reversed(self._loads[full].pieces.values()), None)
        if piece is None or self._loads[least].filled(piece.size) >= self._loads[full].filled():
            return None
        return full, least, piece

    def move(self, origin: Name, target: Name, piece: Piece) -> None:
        """Carry a move out; both shards must be there, and the first have the block."""
        self._loads[origin].take(piece.key)
        self._loads[target].put(piece)
