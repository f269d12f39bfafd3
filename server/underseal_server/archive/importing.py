"""Reads an archive, and makes a gallery of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from underseal_core.bundle import parse_bundle, parse_plain_bundle
from underseal_core.errors import Damaged, InvalidInput, NotFound
from underseal_core.gallery.block import Block
from underseal_core.gallery.blocks import checkpoint
from underseal_core.gallery.disk import disk_errors
from underseal_core.gallery.unit import Shape
from underseal_core.gallery.unit_files import UNIT_KINDS, UnitFiles
from underseal_core.scheme.ciphertext import (
    Kind,
    parse_plain_ciphertext,
    plain_size,
    wire_size,
)
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.archive.container import ArchiveReader, Record
from underseal_server.archive.exporting import BUNDLE_VERSION, CIPHERTEXTS_VERSION, archive_of
from underseal_server.archive.rows import KINDS, RowKind, check_version, unpack_rows
from underseal_server.archive.seal import ArchiveSeal, open_seal
from underseal_server.checking.provenance import Provenance
from underseal_server.engine.keys import SUFFIX, KeyEpochs
from underseal_server.store.records import Gallery
from underseal_server.store.store import BUNDLES, Store

PLAIN_VERSION: Final = 1
"""Bundles and ciphertexts of this version are in the plain form."""
_HEX: Final = frozenset("0123456789abcdef")


class Importer:
    """Makes a gallery of an archive, in a data folder that no server uses.

    Parameters
    ----------
    store
        The data folder.
    keys
        Its bundles.
    trusted
        Raw Ed25519 keys of servers whose archives are taken.
    read
        Told how many bytes of the file were read so far, for progress.
    """

    def __init__(
        self,
        store: Store,
        keys: KeyEpochs,
        trusted: frozenset[bytes],
        read: Callable[[int], None],
    ) -> None:
        self._store = store
        self._keys = keys
        self._trusted = trusted
        self._read = read

    def load(self, path: Path) -> tuple[Gallery, ArchiveSeal]:
        """Read an archive; nothing of it stays if anything is wrong with it.

        Raises
        ------
        NotFound, InvalidInput
            There is no such file, or it is no archive that this program can read.
        PermissionRefused
            Sealed by a server that is not trusted.
        Conflict
            There is a gallery of its name.
        Mismatch
            The bundle of its key epoch is neither in it nor here, or is of another profile.
        StorageFull
            No room.
        Damaged
            It was changed, or contradicts itself.
        """
        with opened_archive(path) as file:
            arrival = _Arrival(self._store, self._keys)
            try:
                reader = ArchiveReader(file)
                while (record := reader.next()).kind != "seal":
                    arrival.take(record, reader)
                    self._read(reader.bytes)
                seal = read_seal(reader, record, self._trusted)
                gallery = arrival.complete(seal)
                self._store.archives.note(gallery, archive_of(seal))
                self._store.transfer.finish(gallery.id, gallery.name)
            except BaseException:
                arrival.discard()
                raise
        return gallery, seal


def verify_archive(
    path: Path, trusted: frozenset[bytes], read: Callable[[int], None]
) -> ArchiveSeal:
    """Read an archive, store nothing, and return its seal; raises as :meth:`Importer.load`."""
    with opened_archive(path) as file:
        reader = ArchiveReader(file)
        while (record := reader.next()).kind != "seal":
            record.skip()
            read(reader.bytes)
        return read_seal(reader, record, trusted)


@contextmanager
def opened_archive(path: Path) -> Iterator[BinaryIO]:
    """Open an archive for reading.

    Raises
    ------
    NotFound
        There is no such file, or it cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file


def read_seal(reader: ArchiveReader, record: Record, trusted: frozenset[bytes]) -> ArchiveSeal:
    """Return the seal, checked against the records before it; nothing may follow it."""
    records, sha256 = reader.records, reader.sha256
    seal = open_seal(record.body(), trusted)
    check_version(record.head, 1)
    if (seal.records, seal.records_sha256) != (records, sha256):
        raise Damaged("the archive's seal is of another archive")
    reader.ended()
    return seal


class _Arrival:
    """A gallery that comes in, under no name yet."""

    def __init__(self, store: Store, keys: KeyEpochs) -> None:
        self._store = store
        self._transfer = store.transfer
        self._keys = keys
        self._gallery: Gallery | None = None
        self._bundle: Path | None = None
        self._files: UnitFiles | None = None
        self._units = 0

    @property
    def gallery(self) -> Gallery:
        """Its row, with the name that it will have."""
        if self._gallery is None:
            raise Damaged("the archive does not begin with a gallery")
        return self._gallery

    def take(self, record: Record, reader: ArchiveReader) -> None:
        """Store a record."""
        kind = record.kind
        if kind == "gallery":
            self._begin(record)
        elif kind == "bundle":
            self._add_bundle(record)
        elif kind in KINDS:
            self._add_rows(record, KINDS[kind])
        elif kind == "ciphertexts":
            self._add_ciphertexts(record)
        else:
            raise InvalidInput(
                f"{reader.place()} is of an unknown kind",
                hint="it was made by a newer program: upgrade this one",
            )

    def _add_rows(self, record: Record, kind: RowKind) -> None:
        rows = unpack_rows(kind, record.head, record.body())
        if kind.name == "units":
            rows = [{**row, "bytes": self._size(row["shape"])} for row in rows]
        number, version = self.gallery.id, self.gallery.version
        if kind.name == "snapshots" and any(row["version"] > version for row in rows):
            raise Damaged("the archive names snapshots that its gallery has not reached")
        if "unit_id" in kind.table.columns:
            self._transfer.add_of_units(number, kind.table, rows)
        else:
            self._transfer.add_owned(number, kind.table, rows)

    def _size(self, shape: str) -> int:
        """Return the bytes of a unit's file: not the row's, which may be of the plain form."""
        try:
            one = Shape(shape)
        except ValueError as error:
            raise Damaged("the archive has a unit of an unknown shape") from error
        gallery = self.gallery
        size = wire_size(gallery.profile, UNIT_KINDS[one])
        return one.ciphertexts(gallery.dimension) * size

    def _begin(self, record: Record) -> None:
        if self._gallery is not None:
            raise Damaged("the archive holds more than one gallery")
        (row, *others) = unpack_rows(KINDS["gallery"], record.head, record.body())
        if others:
            raise Damaged("the archive holds more than one gallery")
        found = self._store.galleries.get(self._transfer.begin(row))
        self._gallery = replace(found, spec=replace(found.spec, name=row["name"]))

    def _add_bundle(self, record: Record) -> None:
        """Add the bundle if the server lacks it; it is checked before it counts."""
        check_version(record.head, BUNDLE_VERSION)
        plain = record.head["version"] == PLAIN_VERSION
        bundle = (parse_plain_bundle if plain else parse_bundle)(record.body())
        epoch = self.gallery.spec.pin.key_epoch
        if not record.head.get("epoch") == bundle.epoch == epoch:
            raise Damaged("the archive's bundle is of another key epoch than its gallery")
        target = self._store.folder / BUNDLES / (epoch + SUFFIX)
        new = not target.exists()
        self._keys.keep(bundle)
        self._bundle = target if new else None

    def _evaluator(self) -> Evaluator:
        return self._keys.evaluator(self.gallery.spec.pin)

    def _add_ciphertexts(self, record: Record) -> None:
        check_version(record.head, CIPHERTEXTS_VERSION)
        gallery = self.gallery
        if self._files is None:
            self._evaluator()  # before much is written: the bundle must be there, and fit
            units = self._store.folders(gallery).units
            self._files = UnitFiles(units, gallery.profile, gallery.dimension)
        unit = self._store.units.by_token(gallery, _token(record))
        if unit is None or unit.removed_version:
            raise Damaged("the archive has ciphertexts of a unit that it has not, or is removed")
        with self._files.stage(unit.shape) as staged:
            for ciphertext in self._pieces(record, UNIT_KINDS[unit.shape]):
                staged.write(ciphertext)
            if not staged.complete or staged.sha256 != unit.sha256:
                raise Damaged("the archive has other ciphertexts than its catalogue names")
            staged.sync()
            self._files.keep(staged, unit.name)
        self._units += 1

    def _pieces(self, record: Record, kind: Kind) -> Iterator[bytes]:
        profile = self.gallery.profile
        if record.head["version"] != PLAIN_VERSION:
            yield from record.pieces(wire_size(profile, kind))
            return
        for piece in record.pieces(plain_size(profile, kind)):
            yield parse_plain_ciphertext(piece, profile, kind).to_bytes()

    def complete(self, seal: ArchiveSeal) -> Gallery:
        """Make the blocks, and return the gallery if it is what the seal says.

        Raises
        ------
        Damaged
            It is not.
        """
        gallery = self.gallery
        named = (seal.gallery, seal.pin, seal.gallery_version, seal.units)
        if named != (gallery.name, gallery.spec.pin, gallery.version, self._units):
            raise Damaged("the archive's seal is of another gallery")
        evaluator = self._evaluator()
        self._make_blocks(gallery, evaluator)
        view = self._store.open_gallery(gallery, evaluator).view()
        if (view.root, view.templates) != (seal.snapshot_root, seal.live_templates):
            raise Damaged("the gallery in the archive is not the one that was exported")
        return gallery

    def _make_blocks(self, gallery: Gallery, evaluator: Evaluator) -> None:
        """Add up one block after another: memory holds one."""
        folders = self._store.folders(gallery)
        files = UnitFiles(folders.units, gallery.profile, gallery.dimension)
        numbers = self._store.units.blocks(gallery)
        self._transfer.note_blocks(gallery, numbers)
        provenance = Provenance(self._store.database)
        for number in numbers:
            for text in provenance.problems(gallery, number):
                raise Damaged(f"the gallery in the archive is damaged: {text}")
            block = Block(checkpoint(folders.blocks, number), number, evaluator, files)
            block.reconcile(self._store.units.live(gallery, number), ())
            block.checkpoint()

    def discard(self) -> None:
        """Delete whatever came in."""
        self._store.sweep()
        if self._bundle is not None:
            with disk_errors():
                self._bundle.unlink(missing_ok=True)


def _token(record: Record) -> bytes:
    token = record.head.get("unit")
    if not isinstance(token, str) or len(token) != 32 or not _HEX.issuperset(token):
        raise Damaged("the archive has ciphertexts of no unit")
    return bytes.fromhex(token)
