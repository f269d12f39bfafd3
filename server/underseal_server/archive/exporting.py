"""Writes a gallery into an archive."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from underseal_core.durable import sync_folder
from underseal_core.errors import Conflict, Damaged, InvalidInput
from underseal_core.gallery.disk import disk_errors
from underseal_core.signing import Identity
from underseal_server.archive.container import ArchiveWriter
from underseal_server.archive.rows import KINDS, pack_rows
from underseal_server.archive.seal import ArchiveSeal, pack_seal
from underseal_server.engine.keys import KeyEpochs
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.records import Archive, StoredUnit, View
from underseal_server.store.store import Store
from underseal_server.store.transfer import Row

BUNDLE_VERSION: Final = 2
CIPHERTEXTS_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Signer:
    """The exporting server."""

    name: str
    identity: Identity


class Exporter:
    """Writes galleries of a data folder that no server uses.

    Parameters
    ----------
    store
        The data folder.
    keys
        Its bundles.
    signer
        Who seals.
    wrote
        Told the bytes of every piece of ciphertexts that was written, for progress.
    """

    def __init__(
        self, store: Store, keys: KeyEpochs, signer: Signer, wrote: Callable[[int], None]
    ) -> None:
        self._store = store
        self._keys = keys
        self._signer = signer
        self._wrote = wrote

    def export(self, name: str, path: Path, *, with_bundle: bool = True) -> Archive:
        """Write a gallery's present state to a new file; broken off, it leaves none.

        The archive is noted in the catalogue before the file has its name.

        Raises
        ------
        NotFound
            There is no gallery of this name.
        Mismatch
            The data folder lacks the gallery's bundle.
        Conflict, InvalidInput
            The file exists, or cannot be made.
        StorageFull
            No room.
        Damaged
            Something stored is.
        """
        gallery = self._store.galleries.get(name)
        if path.exists():
            raise Conflict(f"{path} exists", hint="choose another file")
        opened = self._store.open_gallery(gallery, self._keys.evaluator(gallery.spec.pin))
        _show_pending(opened)
        view = opened.view()
        with _new_file(path) as (file, keep):
            archive = self._write(opened, view, ArchiveWriter(file), with_bundle=with_bundle)
            self._store.archives.note(gallery, archive)
            try:
                keep()
            except BaseException:
                self._store.archives.forget(gallery, archive.archive_id)
                raise
        return archive

    def _write(
        self, opened: GalleryStore, view: View, writer: ArchiveWriter, *, with_bundle: bool
    ) -> Archive:
        gallery, transfer = opened.gallery, self._store.transfer
        _write_rows(writer, "gallery", [transfer.gallery(gallery)])
        if with_bundle:
            epoch = gallery.spec.pin.key_epoch
            data = self._keys.bundle(epoch).to_bytes()
            head = {"kind": "bundle", "version": BUNDLE_VERSION, "epoch": epoch}
            writer.write(head, len(data), [data])
        for table, rows in transfer.owned(gallery):
            _write_rows(writer, table, rows)
        units = 0
        for batch, theirs in transfer.units(gallery):
            _write_rows(writer, "units", batch)
            for table, rows in theirs:
                _write_rows(writer, table, rows)
            for row in batch:
                if not row["removed_version"]:
                    self._write_ciphertexts(opened, writer, row)
                    units += 1
        return self._seal(opened, view, writer, units)

    def _write_ciphertexts(self, opened: GalleryStore, writer: ArchiveWriter, row: Row) -> None:
        unit = self._store.units.by_token(opened.gallery, row["token"])
        if unit is None:
            raise Damaged("a unit is gone")
        head = {"kind": "ciphertexts", "version": CIPHERTEXTS_VERSION, "unit": unit.token.hex()}
        writer.write(head, unit.size, self._ciphertexts(opened, unit))

    def _ciphertexts(self, opened: GalleryStore, unit: StoredUnit) -> Iterator[bytes]:
        for ciphertext in opened.files.ciphertexts(unit):
            data = ciphertext.to_bytes()
            yield data
            self._wrote(len(data))

    def _seal(self, opened: GalleryStore, view: View, writer: ArchiveWriter, units: int) -> Archive:
        gallery = opened.gallery
        seal = ArchiveSeal(
            archive_id=secrets.token_hex(16),
            server=self._signer.name,
            gallery=gallery.name,
            pin=gallery.spec.pin,
            gallery_version=view.version,
            snapshot_root=view.root,
            live_templates=view.templates,
            units=units,
            records=writer.records,
            records_sha256=writer.sha256,
            exported_at=self._store.clock(),
        )
        body = pack_seal(seal.sign(self._signer.identity))
        writer.write({"kind": "seal", "version": 1}, len(body), [body])
        return archive_of(seal)


def _show_pending(opened: GalleryStore) -> None:
    """Let units that were stored last be of a version: then every one in an archive is."""
    folding = opened.folding()
    for unit in opened.pending():
        folding.add(unit)
    if folding.units:
        opened.prepare(folding.sums)
        opened.activate(folding)


def archive_of(seal: ArchiveSeal) -> Archive:
    """Return what the catalogue keeps of an archive."""
    return Archive(
        seal.archive_id,
        seal.gallery_version,
        seal.snapshot_root,
        seal.records_sha256,
        seal.exported_at,
    )


def _write_rows(writer: ArchiveWriter, kind: str, rows: Sequence[Row]) -> None:
    body = pack_rows(rows)
    head = {"kind": kind, "version": KINDS[kind].version}
    writer.write(head, len(body), [body])


@contextmanager
def _new_file(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Yield a file beside ``path`` and what gives it this name, durably; else it goes."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidInput(f"cannot write beside {path}: {error.strerror}") from error
    temporary = Path(name)
    file = os.fdopen(descriptor, "wb")

    def keep() -> None:
        with disk_errors():
            file.flush()
            os.fsync(file.fileno())
            temporary.rename(path)
            sync_folder(path.parent)

    try:
        with disk_errors(), file:
            yield file, keep
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
