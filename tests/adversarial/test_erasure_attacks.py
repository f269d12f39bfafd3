"""An operator keeps ciphertexts that were removed, and says that they are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.archive_fixtures import enrol, filled, opened_folder, remove
from underseal_core.gallery.unit import Shape
from underseal_server.check import Checker
from underseal_server.checking.findings import Report


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, Path]:
    """A data folder, and a copy of the file of a unit that was removed from it."""
    data = filled(tmp_path / "data")
    with opened_folder(data) as folder:
        gallery = folder.gallery()
        unit = enrol(gallery, Shape.ROW, 2, 30)
        path = gallery.files.path(unit.token)
        copy = Path(shutil.copy(path, tmp_path / path.name))
        remove(folder, gallery, unit, 2)
        gallery.checkpoint()
        assert not path.exists()
    assert checked(data).accounted
    return data, copy


def checked(data: Path) -> Report:
    return Checker(data, lambda: None, deep=False, threads=1).run()


def test_kept_under_its_name(kept: tuple[Path, Path]) -> None:
    data, copy = kept
    folder = next(data.glob("units/*/*"))
    shutil.copy(copy, folder)
    found = checked(data).leftovers
    assert [one.place.endswith(copy.name) and "were removed" in one.text for one in found] == [True]


def test_kept_under_the_name_of_a_unit_that_lives(kept: tuple[Path, Path]) -> None:
    data, copy = kept
    size = copy.stat().st_size  # a row, too: read as another shape it would be noticed anyway
    other = next(path for path in data.glob("units/*/*/*.unit") if path.stat().st_size == size)
    shutil.copy(copy, other)
    found = checked(data).problems
    assert [other.name in one.text and "was changed" in one.text for one in found] == [True]


@pytest.mark.parametrize("name", ["units/1/x", "blocks/1/x.tiles", "bundles/x", "backup/x", "x"])
def test_kept_where_nobody_looks(kept: tuple[Path, Path], name: str) -> None:
    data, copy = kept
    path = data / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(copy, path)
    report = checked(data)
    assert not report.accounted
    assert any(name.startswith(found.place) for found in report.leftovers)


def test_kept_as_a_part_of_a_block(kept: tuple[Path, Path], tmp_path: Path) -> None:
    """A checkpoint from before the removal holds the unit in its sum."""
    data, _ = kept
    with opened_folder(data) as folder:
        gallery = folder.gallery()
        unit = enrol(gallery, Shape.ROW, 2, 31)
        gallery.checkpoint()
        path = next(data.glob("blocks/*/*/0.tiles"))
        old = shutil.copy(path, tmp_path / "old")
        remove(folder, gallery, unit, 2)
        gallery.checkpoint()
    assert checked(data).accounted
    shutil.copy(old, path)
    assert any("behind" in found.text for found in checked(data).findings) or checked(data).problems
    assert not checked(data).accounted
