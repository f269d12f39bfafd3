"""A data folder of before residues were packed is refused and left alone; its archive is the way.

The bundle is the one in the stored archive of version 1: the bytes that servers had on their disks.
"""

from __future__ import annotations

import json
import lzma
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.archive_fixtures import opened_folder
from tests.catalogue_sample import SAMPLES
from tests.s3_fixtures import S3Server
from tests.unit.server.test_archive_samples import SAMPLES as ARCHIVES
from underseal_core.bundle import PLAIN_MAGIC
from underseal_core.errors import InvalidInput
from underseal_server.archive.container import ArchiveReader
from underseal_server.check import Checker
from underseal_server.store.places import ObjectStorage
from underseal_server.store.store import BUNDLES, CATALOGUE, Store


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What the earlier version exported."""
    path = tmp_path / "sample.archive"
    path.write_bytes(lzma.decompress((ARCHIVES / "v1.archive.xz").read_bytes()))
    return path


@pytest.fixture
def earlier(archive: Path, tmp_path: Path) -> Path:
    """A data folder as the earlier version left it."""
    folder = tmp_path / "earlier"
    (folder / BUNDLES).mkdir(parents=True)
    with archive.open("rb") as file:
        reader = ArchiveReader(file)
        while (record := reader.next()).kind != "bundle":
            record.skip()
        bundle = record.body()
    assert bundle.startswith(PLAIN_MAGIC)
    (folder / BUNDLES / f"{record.head['epoch']}.usb").write_bytes(bundle)
    with closing(sqlite3.connect(folder / CATALOGUE)) as connection:
        connection.executescript((SAMPLES / "sqlite" / "0011.sql").read_text())
    with closing(sqlite3.connect(folder / CATALOGUE)) as connection:
        (identity,) = connection.execute("SELECT identity FROM catalogue").fetchone()
    (folder / "catalogue.id").write_text(identity)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Return everything but the lock, which is empty."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def checked(folder: Path) -> None:
    Checker(folder, lambda: None, deep=False, threads=1, repair=True).run()


@pytest.mark.parametrize("opening", [Store, checked], ids=["serve", "check"])
def test_it_is_said_what_happened_and_what_to_do(
    earlier: Path, opening: Callable[[Path], object]
) -> None:
    before = files(earlier)
    with pytest.raises(InvalidInput, match="earlier version.*nothing in it was changed") as told:
        opening(earlier)
    assert "export" in told.value.hint and "import" in told.value.hint
    assert (Path(__file__).resolve().parents[3] / told.value.hint.split(": ")[-1]).is_file()
    assert files(earlier) == before, "the earlier version must be able to export it"


def test_it_is_found_where_nothing_but_bundles_is_in_the_folder(
    earlier: Path, s3: S3Server
) -> None:
    (earlier / CATALOGUE).unlink()
    location = s3.bucket()
    with pytest.raises(InvalidInput, match="earlier version"):
        Store(earlier, objects=ObjectStorage(location, 1 << 20))
    assert s3.keys(location) == set()


def test_its_archive_goes_into_a_new_folder_and_the_bundle_comes_in_the_new_form(
    archive: Path, earlier: Path, tmp_path: Path
) -> None:
    signer = json.loads((ARCHIVES / "v1.json").read_text())["signer"]
    with opened_folder(tmp_path / "new") as folder:
        folder.load(archive, frozenset({bytes.fromhex(signer)}))
        view = folder.gallery("sample").view()
    (new,), (old,) = (sorted((f / BUNDLES).iterdir()) for f in (tmp_path / "new", earlier))
    assert new.name == old.name
    assert not new.read_bytes().startswith(PLAIN_MAGIC)
    with opened_folder(tmp_path / "new") as folder:
        assert folder.gallery("sample").view() == view
