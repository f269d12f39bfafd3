"""A gallery leaves in an archive and comes back as it was, on another server."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.archive_fixtures import (
    LAB,
    NAME,
    SERVER,
    Folder,
    contents,
    enrol,
    evaluator,
    filled,
    opened_folder,
    remove,
)
from tests.server_fixtures import unit_vectors
from underseal_core.errors import Conflict, Damaged, Mismatch
from underseal_core.gallery.unit import Shape
from underseal_server.archive.container import ArchiveReader, ArchiveWriter
from underseal_server.archive.importing import Importer
from underseal_server.archive.rows import KINDS, LEFT_OUT, unpack_rows
from underseal_server.store.records import FeedPage
from underseal_server.store.schema import metadata


def feed(folder: Folder, after: int = 0) -> list[FeedPage]:
    return list(folder.store.templates.changes(folder.store.galleries.get(NAME), after, 100))


def answers(folder: Folder) -> list[bytes]:
    """Ciphertexts of a fixed search, block by block."""
    gallery = folder.gallery()
    probe = evaluator().prepare(PROBE).probe
    tiles = [gallery.tiles(number) for number in gallery.view().blocks]
    return [evaluator().score(probe, one).to_bytes() for one in tiles]


PROBE = LAB.probe(unit_vectors(1, LAB.dimension, 9)[0])


def test_a_gallery_comes_back_bit_for_bit_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "missing.archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        archive = old.export(path)
        gallery = old.gallery()
        view, searched, pages = gallery.view(), answers(old), feed(old)
        tiles = [np.array(gallery.tiles(number)) for number in view.blocks]
        history = list(old.store.snapshots.all(gallery.gallery))
        stored = old.store.galleries.get(NAME)
    with opened_folder(tmp_path / "b") as new:
        seal = new.load(path)
        again = new.gallery()
        assert again.view() == view and len(view.blocks) == 2
        assert (seal.snapshot_root, seal.gallery_version) == (view.root, view.version)
        assert (seal.server, seal.exported_at) == ("server", archive.exported_at)
        assert all(
            np.array_equal(again.tiles(number), one)
            for number, one in zip(view.blocks, tiles, strict=True)
        )
        assert answers(new) == searched
        assert feed(new) == pages and feed(new, 2) != pages
        row = new.store.galleries.get(NAME)
        assert (row.spec, row.created_at) == (stored.spec, stored.created_at)
        assert list(new.store.snapshots.all(row)) == history
        assert new.store.archives.all(NAME) == [archive]
    # Both go on alike: the same change gives the same version, slot and sum.
    with opened_folder(tmp_path / "a") as old, opened_folder(tmp_path / "b") as new:
        for folder in (old, new):
            gallery = folder.gallery()
            unit = enrol(gallery, Shape.ROW, 2, 6)
            assert gallery.view().version == view.version + 1
            remove(folder, gallery, unit, 2)
            assert gallery.view().blocks == view.blocks


def test_an_archive_of_a_gallery_without_templates(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        gallery = old.gallery()
        for unit in old.store.units.live(gallery.gallery):
            found = [page.templates for page in feed(old)]
            ids = [c.template_id for page in found for c in page if c.unit_token == unit.token]
            gallery.remove(unit, ids, None)
        old.export(path)
    with opened_folder(tmp_path / "b") as new:
        seal = new.load(path)
        assert (seal.units, seal.live_templates) == (0, 0)
        assert new.gallery().view().blocks == {}


def test_units_that_are_stored_but_not_shown_yet_are_shown_and_come_along(
    tmp_path: Path,
) -> None:
    path = tmp_path / "archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        gallery = old.gallery()
        before, units = gallery.view(), len(old.store.units.live(gallery.gallery))
        enrol(gallery, Shape.ROW, 2, 7, show=False)
        old.export(path)
    with opened_folder(tmp_path / "b") as new:
        seal = new.load(path)
        assert (seal.gallery_version, seal.units) == (before.version + 1, units + 1)
        assert new.gallery().view().templates == before.templates + 2


def test_the_format_is_as_documented(tmp_path: Path) -> None:
    """Read with nothing but the standard library, by the rules of the reference."""
    path = tmp_path / "archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        archive = old.export(path, with_bundle=False)
        folders = old.store.folders(old.store.galleries.get(NAME))
        live = old.store.units.live(old.store.galleries.get(NAME))
        units = folders.units.folder
        files = {u.token.hex(): (units / f"{u.name.hex()}.unit").read_bytes() for u in live}
        assert any(unit.erased for unit in live)
    data = path.read_bytes()
    assert data[:16] == b"underseal-arch1\n"
    place, digest = 16, hashlib.sha256(data[:16]).digest()
    kinds, digests, found = [], [], {}
    while place < len(data):
        head_size, size = struct.unpack_from("<IQ", data, place)
        end = place + 12 + head_size + size
        head, body = json.loads(data[place + 12 : place + 12 + head_size]), data[end - size : end]
        digest = hashlib.sha256(digest + data[place:end]).digest()
        assert data[end : end + 32] == digest
        kinds.append(head["kind"])
        digests.append(digest.hex())
        assert head["version"] == (2 if head["kind"] in ("bundle", "ciphertexts") else 1)
        if head["kind"] == "ciphertexts":
            found[head["unit"]] = body
        place = end + 32
    assert found == files
    assert kinds[0] == "gallery" and kinds[-1] == "seal"
    seal = json.loads(body)
    statement = json.loads(seal["payload"])
    assert statement["records_sha256"] == digests[-2] == archive.sha256
    assert statement["records"] == len(kinds) - 1
    assert seal["public_key"] == SERVER.identity.public_key.hex()


def test_every_table_is_archived_or_said_not_to_be() -> None:
    archived = {kind.table.name for kind in KINDS.values()}
    assert archived | LEFT_OUT.keys() == set(metadata.tables)
    assert not archived & LEFT_OUT.keys()


@pytest.mark.parametrize(
    ("column", "value"), [("templates", 2**31), ("version", 2**63), ("root", "a\0b"), ("root", 1)]
)
def test_what_not_every_database_takes_is_no_row(column: str, value: object) -> None:
    """PostgreSQL knows the size of a number, and no zero in a text; SQLite takes both."""
    sound = {"version": 2**62, "root": "ab", "templates": 2**31 - 1, "named_at": ""}
    kind, head = KINDS["snapshots"], {"version": 1}
    assert unpack_rows(kind, head, json.dumps([sound]).encode()) == [sound]
    with pytest.raises(Damaged, match="snapshots are unreadable"):
        unpack_rows(kind, head, json.dumps([{**sound, column: value}]).encode())


def test_a_server_without_the_bundle_refuses_and_takes_it_with_the_bundle(tmp_path: Path) -> None:
    bare, whole = tmp_path / "bare", tmp_path / "whole"
    with opened_folder(filled(tmp_path / "a")) as old:
        old.export(bare, with_bundle=False)
        old.export(whole)
    assert whole.stat().st_size - bare.stat().st_size > LAB.bundle.public_key.nbytes
    with opened_folder(tmp_path / "b") as new:
        error = new.refused(bare)
        assert isinstance(error, Mismatch) and "no bundle" in error.public
        new.load(whole)
        new.store.delete_gallery(new.store.galleries.get(NAME))
        new.load(bare)


def test_a_name_that_is_taken_is_refused_and_the_other_gallery_stays(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        old.export(path)
        view, files = old.gallery().view(), contents(old.store.folder)
        with pytest.raises(Conflict, match="already"):
            old.load(path)
        assert old.gallery().view() == view
        assert contents(old.store.folder) == files


def test_an_export_that_fails_leaves_no_file_and_no_note(tmp_path: Path) -> None:
    path = tmp_path / "out" / "archive"
    path.parent.mkdir()
    with opened_folder(filled(tmp_path / "a")) as old:
        gallery = old.gallery()
        unit = old.store.units.live(gallery.gallery)[-1]
        file = gallery.files.path(unit.token)
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(Damaged, match="stored unit is damaged"):
            old.export(path)
        assert list(path.parent.iterdir()) == []
        assert old.store.archives.all(NAME) == []
        path.write_bytes(b"mine")
        with pytest.raises(Conflict, match="exists"):
            old.export(path)
    assert path.read_bytes() == b"mine"


def _full_disk(folder: Path, path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened_folder(folder) as old:
        old.gallery()
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            old.export(path)
        except BaseException as error:  # noqa: BLE001
            (path.parent / "error").write_text(type(error).__name__)


def _killed_import(folder: Path, path: Path) -> None:
    def read(done: int) -> None:
        if done > path.stat().st_size * 0.9:
            os._exit(9)

    with opened_folder(folder) as new:
        Importer(new.store, new.keys, frozenset({SERVER.identity.public_key}), read).load(path)


def _in_child(target: object, *arguments: Path) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join()
    return process.exitcode


def test_an_export_onto_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out" / "archive"
    path.parent.mkdir()
    folder = filled(tmp_path / "a")
    assert _in_child(_full_disk, folder, path) == 0
    assert [p.name for p in path.parent.iterdir()] == ["error"]
    assert (path.parent / "error").read_text() == "StorageFull"
    with opened_folder(folder) as old:
        assert old.store.archives.all(NAME) == []
        old.export(path)


def test_an_import_that_is_killed_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with opened_folder(filled(tmp_path / "a")) as old:
        old.export(path)
    with opened_folder(tmp_path / "b") as new:
        LAB.bundle.save(tmp_path / "bundle")
        new.keys.add(tmp_path / "bundle")
        empty = contents(new.store.folder)
    assert _in_child(_killed_import, tmp_path / "b", path) == 9
    left = contents(tmp_path / "b") - empty
    assert any(name.endswith(".unit") for name in left)
    with opened_folder(tmp_path / "b") as new:
        assert contents(new.store.folder) == empty
        assert new.store.galleries.page("", 9) == []
        assert new.store.archives.all(NAME) == []
        new.load(path)


def test_an_archive_is_read_and_written_piece_by_piece(tmp_path: Path) -> None:
    """A body of 64 MB takes a few: measured, not believed."""
    path, piece = tmp_path / "archive", bytes(1 << 20)
    tracemalloc.start()
    with path.open("wb") as file:
        ArchiveWriter(file).write({"kind": "ciphertexts"}, 64 << 20, (piece for _ in range(64)))
    with path.open("rb") as file:
        reader = ArchiveReader(file)
        reader.next().skip()
        reader.ended()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 64 << 20 and peak < 8 << 20
