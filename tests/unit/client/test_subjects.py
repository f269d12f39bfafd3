from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from underseal_client.subjects import ID_BYTES, KEY_BYTES, SubjectKey, checked_name
from underseal_core.errors import InvalidInput


def test_id_is_the_same_for_the_same_name_and_key(tmp_path: Path) -> None:
    first = SubjectKey.open(tmp_path / "subject.key").subject_id("people", "Ada Lovelace")
    again = SubjectKey.open(tmp_path / "subject.key").subject_id("people", " Ada Lovelace ")
    assert first == again
    assert len(first) == ID_BYTES


def test_id_depends_on_gallery_name_and_key(tmp_path: Path) -> None:
    key = SubjectKey.open(tmp_path / "one")
    other = SubjectKey.open(tmp_path / "two")
    ids = {
        key.subject_id("people", "ada"),
        key.subject_id("staff", "ada"),
        key.subject_id("people", "alan"),
        other.subject_id("people", "ada"),
        # a length before each part: no two pairs run together into the same bytes
        key.subject_id("peoplea", "da"),
    }
    assert len(ids) == 5


def test_composed_and_decomposed_letters_are_one_name(tmp_path: Path) -> None:
    key = SubjectKey.open(tmp_path / "subject.key")
    assert key.subject_id("g", "Jos\u00e9") == key.subject_id("g", "Jose\u0301")


def test_key_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "subject.key"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SubjectKey.open(path), range(16)))
    assert len({key.subject_id("g", "ada") for key in keys}) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == KEY_BYTES
    assert [file.name for file in path.parent.iterdir()] == ["subject.key"]


def test_key_never_shows_in_repr(tmp_path: Path) -> None:
    path = tmp_path / "subject.key"
    shown = repr(SubjectKey.open(path))
    assert path.read_bytes().hex() not in shown
    assert repr(path.read_bytes()) not in shown


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_key_of_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "subject.key"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="32 bytes"):
        SubjectKey.open(path)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", "a\x00b", "\u2028"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        checked_name(name)
