"""Whom the replay searches for: one photo of each, and groups from a table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.face_fixtures import FACES
from underseal_client.faces import FaceEmbedder
from underseal_client.replay.probes import read_groups, read_probes
from underseal_core.errors import InvalidInput, NotFound


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_groups_come_from_the_column_that_is_named(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "file,group,office\na/1.jpg,x,house\nb.jpg,,senate\n")
    assert read_groups(tmp_path, table, None) == {tmp_path / "a/1.jpg": "x", tmp_path / "b.jpg": ""}
    by_office = read_groups(tmp_path, table, "office")
    assert by_office == {tmp_path / "a/1.jpg": "house", tmp_path / "b.jpg": "senate"}


def test_the_folders_own_table_counts_if_it_has_groups(tmp_path: Path) -> None:
    assert read_groups(tmp_path, None, None) == {}
    write(tmp_path / "labels.csv", "file,person\na.jpg,a\n")
    assert read_groups(tmp_path, None, None) == {}
    assert read_groups(tmp_path, None, "person") == {tmp_path / "a.jpg": "a"}
    write(tmp_path / "labels.csv", "file,group\na.jpg,g\n")
    assert read_groups(tmp_path, None, None) == {tmp_path / "a.jpg": "g"}


def test_a_table_that_is_asked_for_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        read_groups(tmp_path, None, "office")
    table = write(tmp_path / "t.csv", "file,person\na.jpg,a\n")
    with pytest.raises(InvalidInput, match="no column group"):
        read_groups(tmp_path, table, None)
    with pytest.raises(InvalidInput, match="no column office"):
        read_groups(tmp_path, table, "office")
    with pytest.raises(InvalidInput, match="as a table"):
        read_groups(tmp_path, write(tmp_path / "u.csv", 'file,group\n"a'), None)


def test_each_person_is_embedded_once_and_bad_photos_are_reported(
    tmp_path: Path, embedder: FaceEmbedder
) -> None:
    for name in ("ada", "bob"):
        (tmp_path / name).mkdir()
    write(tmp_path / "ada" / "0.jpg", "no photo")
    shutil.copyfile(FACES / "person_a_1.jpg", tmp_path / "ada" / "1.jpg")
    shutil.copyfile(FACES / "person_a_2.jpg", tmp_path / "ada" / "2.jpg")
    shutil.copyfile(FACES / "impostor_1.jpg", tmp_path / "bob" / "1.jpg")
    shutil.copyfile(FACES / "impostor_2.jpg", tmp_path / "kim.jpg")
    groups = {tmp_path / "ada/1.jpg": "x", tmp_path / "kim.jpg": "y"}
    seen: list[int] = []
    probes, left_out = read_probes(tmp_path, embedder, 10, groups, seen.append)
    found = [(probe.person, probe.group) for probe in probes]
    assert found == [("ada", "x"), ("bob", ""), ("kim", "y")]
    assert seen == [1, 2, 3]
    assert [(photo.photo, photo.reason) for photo in left_out] == [("ada/0.jpg", "unreadable")]
    expected = embedder.embed(FACES / "person_a_1.jpg").embedding
    assert float(probes[0].template @ expected) == pytest.approx(1.0)
    assert [probe.person for probe in read_probes(tmp_path, embedder, 2, {}, seen.append)[0]] == [
        "ada",
        "bob",
    ]


def test_a_folder_without_a_face_is_refused(tmp_path: Path, embedder: FaceEmbedder) -> None:
    write(tmp_path / "x.jpg", "no photo")
    with pytest.raises(InvalidInput, match="no photo in"):
        read_probes(tmp_path, embedder, 10, {}, lambda _: None)
