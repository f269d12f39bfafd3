"""Checkpoints of blocks: one file, replaced as a whole.

    offset  size    field
    0       8       magic "USBLOCK3"
    8       4       length of the header's text, little-endian
    12      32      SHA-256 of the header's text
    44      ...     header: JSON of :class:`BlockHeader`, zeros up to a multiple of 4096
    ...     ...     tiles, shape ``tiles_shape(profile, dimension)``, packed (``ring/packing``)

The header names the units whose sum the tiles are, so the file alone says what is missing from it,
and the root over the tiles, so that they need not be read before they are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.gallery.disk import disk_errors
from underseal_core.gallery.files import Readable, StoredFile
from underseal_core.gallery.memory import page_memory
from underseal_core.gallery.tiles import tiles_root
from underseal_core.ring.packing import pack, packed_size, unpack_into
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.profiles import profile_named

_MAGIC: Final = b"USBLOCK3"
_FIXED: Final = 44
_HEAD: Final = 1 << 16
"""Read at first: the header of most blocks."""
_PAGE: Final = 4096
"""Tiles begin on a page, hence on a cache line."""
_PIECE: Final = 1 << 18
"""Residues that are packed or unpacked at once: they stay in the cache."""
_MAX_TEXT: Final = 1 << 20
"""A block of N = 8192 one-template units needs a third of this."""


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a checkpoint holds. ``units``: their names, hex; ``tiles_root``: see ``tiles``."""

    profile: str
    dimension: int
    block: int
    units: tuple[str, ...]
    tiles_root: str

    def to_bytes(self) -> bytes:
        """Serialise with magic and padding."""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        head = _MAGIC + struct.pack("<I", len(text)) + hashlib.sha256(text).digest() + text
        return head.ljust(-(-len(head) // _PAGE) * _PAGE, b"\0")


def write_block(file: StoredFile, header: BlockHeader, tiles: Residues) -> None:
    """Replace a checkpoint, durably and at once.

    Raises
    ------
    StorageFull
        No room; the checkpoint before it is untouched.
    """
    part = file.files.folder / (file.name + ".part")
    with disk_errors():
        try:
            with part.open("wb") as writing:
                writing.write(header.to_bytes())
                for piece, prime in _pieces(header, tiles):
                    writing.write(pack(piece, (prime,)).data)
                writing.flush()
                os.fsync(writing.fileno())
            file.files.put([(part, file.name)])
        finally:
            part.unlink(missing_ok=True)


def read_header(file: Readable) -> tuple[BlockHeader, int]:
    """Return a checkpoint's header and the offset of its tiles.

    Raises
    ------
    Damaged
        Not a checkpoint.
    """
    head = file.read(0, _HEAD)
    fixed = head[:_FIXED]
    if len(fixed) != _FIXED or fixed[:8] != _MAGIC:
        raise Damaged("a block file is damaged: no header")
    (length,) = struct.unpack("<I", fixed[8:12])
    text = head[_FIXED : _FIXED + length]
    if len(text) < min(length, _MAX_TEXT):
        text = file.read(_FIXED, min(length, _MAX_TEXT))
    if hashlib.sha256(text).digest() != fixed[12:]:
        raise Damaged("a block file is damaged: its header's checksum differs")
    try:
        fields = json.loads(text)
        units = tuple(bytes.fromhex(name).hex() for name in fields["units"])
        header = BlockHeader(**{**fields, "units": units})
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged("a block file is damaged: unreadable header") from error
    return header, -(-(_FIXED + length) // _PAGE) * _PAGE


def read_tiles(
    file: Readable, header: BlockHeader, offset: int, shape: tuple[int, ...]
) -> Residues:
    """Read a checkpoint's tiles into memory and check them.

    Raises
    ------
    Damaged
        The file is too short or too long, or the tiles are not those of the header.
    """
    tiles = page_memory(shape)
    with disk_errors(), file.open() as reading:
        size = sum(packed_size((prime,), piece.shape) for piece, prime in _pieces(header, tiles))
        if os.fstat(reading.fileno()).st_size != offset + size:
            raise Damaged("a block file is damaged: wrong length")
        reading.seek(offset)
        for piece, prime in _pieces(header, tiles):
            try:
                unpack_into(piece, reading.read(packed_size((prime,), piece.shape)), (prime,))
            except InvalidInput as error:
                raise Damaged("a block file is damaged: it does not hold residues") from error
    if tiles_root(tiles) != header.tiles_root:
        raise Damaged("a block file is damaged: its checksum differs")
    return tiles


def _pieces(header: BlockHeader, tiles: Residues) -> Iterator[tuple[Residues, int]]:
    """Yield views of about a megabyte, ``(1, n)``, in the order of the file, with their primes."""
    primes = profile_named(header.profile).data_primes
    for plane, prime in zip(tiles, primes, strict=False):
        values = plane.reshape(1, -1)
        for start in range(0, values.size, _PIECE):
            yield values[:, start : start + _PIECE], prime
