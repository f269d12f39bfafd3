"""Folders that are made for the owner only, and the errors of a disk."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from underseal_core.errors import Damaged, StorageFull
from underseal_core.gallery.disk import disk_errors, make_folder


def test_every_folder_on_the_way_is_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "units" / "7" / "epoch"
    make_folder(folder)
    make_folder(folder)
    made = [folder, *list(folder.parents)[:2]]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700] * 3


def test_a_name_that_is_taken_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "units").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "units" / "7")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, Damaged)],
)
def test_what_a_disk_reports_gets_its_class(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind), disk_errors():
        raise OSError(number, "x")
