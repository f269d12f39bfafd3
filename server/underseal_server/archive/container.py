"""The file of an archive: records, each of which is chained to all before it.

    magic     16 bytes: "underseal-arch1" and a line feed
    record    u32 length of head, u64 length of body, both little-endian
              head: JSON object with "kind" and "version"
              body
              digest, 32 bytes

The digest is SHA-256 over the digest of the record before (of the first: SHA-256 of the magic) and
everything of this record before it. So the first record that is flipped, cut, left out, doubled or
moved is found at once, and the last digest names the whole file. Records are written and read
piece by piece: a body may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, Final

from underseal_core.errors import Damaged, InvalidInput
from underseal_core.gallery.disk import disk_errors

MAGIC: Final = b"underseal-arch1\n"
MAX_HEAD: Final = 1 << 16
MAX_BODY: Final = 64 << 20
"""Of a body that is read as a whole."""

_LENGTHS: Final = struct.Struct("<IQ")
_PIECE: Final = 1 << 20
_DIGEST: Final = 32


class Chain:
    """The running digest."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256(MAGIC).digest()
        self._hash = hashlib.sha256(self.digest)

    def update(self, data: bytes) -> None:
        """Take in a piece of a record."""
        self._hash.update(data)

    def end(self) -> bytes:
        """End a record and return its digest."""
        self.digest = self._hash.digest()
        self._hash = hashlib.sha256(self.digest)
        return self.digest


class ArchiveWriter:
    """Appends records to a file that is open for writing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._chain = Chain()
        self.records = 0
        with disk_errors():
            file.write(MAGIC)

    @property
    def sha256(self) -> str:
        """The hex digest of all records so far."""
        return self._chain.digest.hex()

    def write(self, head: Mapping[str, object], size: int, body: Iterable[bytes]) -> None:
        """Append a record.

        Raises
        ------
        StorageFull
            No room.
        Damaged
            The body has another length than ``size``.
        """
        text = json.dumps(head, separators=(",", ":"), sort_keys=True).encode()
        self._put(_LENGTHS.pack(len(text), size) + text)
        for piece in body:
            size -= len(piece)
            self._put(piece)
        if size:
            raise Damaged("what is exported changed its length")
        self.records += 1
        with disk_errors():
            self._file.write(self._chain.end())

    def _put(self, data: bytes) -> None:
        self._chain.update(data)
        with disk_errors():
            self._file.write(data)


class Record:
    """A record whose head is read; its body is to be read once, before the next record."""

    def __init__(self, reader: ArchiveReader, head: Mapping[str, object], size: int) -> None:
        self._reader = reader
        self.head = head
        self.size = size

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.head.get("kind"))

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the body in pieces of ``size`` bytes, the last one shorter; check the digest."""
        left = self.size
        while left:
            piece = self._reader.take(min(size, left))
            left -= len(piece)
            yield piece
        self._reader.end()

    def body(self) -> bytes:
        """Return the whole body, checked.

        Raises
        ------
        Damaged
            Its digest differs.
        InvalidInput
            Longer than any body that is to be read as a whole.
        """
        if self.size > MAX_BODY:
            raise InvalidInput(f"{self._reader.place()} is too long")
        return b"".join(self.pieces(_PIECE))

    def skip(self) -> None:
        """Check the digest only."""
        for _ in self.pieces(_PIECE):
            pass


class ArchiveReader:
    """Reads the records of a file that is open for reading.

    Raises
    ------
    InvalidInput
        Not an archive, or one of a later format.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._chain = Chain()
        self.records = 0
        self.bytes = 0
        magic = self._read(len(MAGIC))
        if magic != MAGIC:
            if magic[:14] == MAGIC[:14]:
                raise InvalidInput("the archive is of a later format", hint="upgrade this program")
            raise InvalidInput("this is not an Underseal archive")

    @property
    def sha256(self) -> str:
        """The hex digest of all records so far."""
        return self._chain.digest.hex()

    def place(self) -> str:
        """Name the record that is being read."""
        return f"record {self.records + 1} of the archive"

    def next(self) -> Record:
        """Return the next record; the body of the one before was read.

        Raises
        ------
        Damaged
            The file ends, or here is no record.
        """
        fixed = self.take(_LENGTHS.size)
        head_size, size = _LENGTHS.unpack(fixed)
        if head_size > MAX_HEAD:
            raise self.broken()
        try:
            head = json.loads(self.take(head_size))
        except ValueError as error:
            raise self.broken() from error
        if not isinstance(head, dict):
            raise self.broken()
        return Record(self, head, size)

    def take(self, size: int) -> bytes:
        """Read a piece of a record.

        Raises
        ------
        Damaged
            The file ends before.
        """
        data = self._whole(size)
        self._chain.update(data)
        return data

    def end(self) -> None:
        """Check the digest of the record that was read.

        Raises
        ------
        Damaged
            It differs, or the file ends before it.
        """
        wanted = self._chain.end()
        if self._whole(_DIGEST) != wanted:
            raise self.broken()
        self.records += 1

    def ended(self) -> None:
        """Check that nothing follows.

        Raises
        ------
        Damaged
            Something does.
        """
        if self._read(1):
            raise Damaged("the archive goes on after its end", hint="use an unchanged copy of it")

    def broken(self) -> Damaged:
        """Return the error of a record that is not what was written."""
        return Damaged(
            f"{self.place()} is damaged or out of place",
            hint="copy it again from where it was exported",
        )

    def _whole(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) != size:
            raise Damaged(
                f"the archive is cut off in record {self.records + 1}",
                hint="copy it again from where it was exported",
            )
        return data

    def _read(self, size: int) -> bytes:
        with disk_errors():
            data = self._file.read(size)
        self.bytes += len(data)
        return data
