"""Files of embeddings: what is read, and what is refused before anything is."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underseal_client.embeddings import ROWS_AT_ONCE, EmbeddingFile
from underseal_client.faces.projection import Projection
from underseal_core.errors import InvalidInput

TABLE = np.random.default_rng(7).standard_normal((5, 8)).astype(np.float32) * 20
NAMES = np.array(["ada", "grace", "ada", "zoë", "李"])


def saved(folder: Path, **changes: Any) -> Path:
    """Write a file; ``None`` leaves an array out."""
    arrays = {"embeddings": TABLE, "subjects": NAMES, "model": np.array("sface"), **changes}
    path = folder / "people.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_rows_are_unit_vectors_with_names(tmp_path: Path) -> None:
    file = EmbeddingFile(saved(tmp_path))
    assert (file.model, file.count, file.dimension) == ("sface", 5, 8)
    for rows in (list(file), list(file)):  # as often as needed
        assert [row.subject for row in rows] == list(NAMES)
        assert [row.photo for row in rows] == [f"people.npz[{number}]" for number in range(5)]
        vectors = np.stack([row.vector for row in rows])
        wanted = TABLE / np.linalg.norm(TABLE.astype(np.float64), axis=1, keepdims=True)
        assert vectors.dtype == np.float64
        assert np.abs(vectors - wanted).max() < 1e-12
    assert len({row.source for row in rows}) == 5
    assert "array" not in repr(rows[0])


def test_the_source_is_content_and_person_not_the_place_in_the_file(tmp_path: Path) -> None:
    first = [row.source for row in EmbeddingFile(saved(tmp_path))]
    order = [3, 1, 0, 4, 2]
    moved = saved(tmp_path, embeddings=TABLE[order], subjects=NAMES[order])
    assert [row.source for row in EmbeddingFile(moved)] == [first[at] for at in order]
    renamed = saved(tmp_path, subjects=np.array(["x", "grace", "ada", "zoë", "李"]))
    assert [row.source for row in EmbeddingFile(renamed)][1:] == first[1:]
    assert next(iter(EmbeddingFile(renamed))).source != first[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_more_rows_than_are_read_at_once_take_no_more_memory(
    tmp_path: Path, compressed: bool
) -> None:
    rows, dimension = 20 * ROWS_AT_ONCE + 3, 64
    table = np.random.default_rng(1).standard_normal((rows, dimension))
    names = np.array([f"person {number}" for number in range(rows)])
    save = np.savez_compressed if compressed else np.savez
    path = tmp_path / "many.npz"
    save(path, embeddings=table, subjects=names, photos=names, model=np.array("m"))
    tracemalloc.start()
    seen = 0
    for row in EmbeddingFile(path):
        assert (row.subject, row.photo) == (names[seen], names[seen])
        assert np.allclose(row.vector * np.linalg.norm(table[seen]), table[seen])
        seen += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == rows
    assert peak < 8 * table[:ROWS_AT_ONCE].nbytes < table.nbytes


def test_a_projection_is_applied(tmp_path: Path) -> None:
    file = EmbeddingFile(saved(tmp_path))
    plain = [row.vector for row in file]
    file.projection = Projection(np.eye(8)[:3])
    for row, vector in zip(file, plain, strict=True):
        assert np.allclose(row.vector, vector[:3] / np.linalg.norm(vector[:3]))


def test_rows_without_a_length_become_zero(tmp_path: Path) -> None:
    table = TABLE.copy()
    table[0], table[1, 2], table[2, 3] = 0, np.nan, np.inf
    zero = [not row.vector.any() for row in EmbeddingFile(saved(tmp_path, embeddings=table))]
    assert zero == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": None}, "does not have"),
        ({"subjects": None}, "does not have"),
        ({"embeddings": TABLE.astype(np.int64)}, "floating-point"),
        ({"embeddings": TABLE[0]}, "floating-point"),
        ({"embeddings": np.asfortranarray(TABLE)}, "not in C order"),
        ({"subjects": NAMES[:4]}, "has shape"),
        ({"photos": NAMES[:4]}, "has shape"),
        ({"subjects": NAMES.astype(object)}, "of objects"),
        ({"subjects": np.arange(5)}, "not text"),
        ({"model": np.array(["a", "b"])}, "has shape"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        EmbeddingFile(saved(tmp_path, **changes))


def test_what_is_no_archive_or_is_damaged_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for wrong in (b"", b"PK", data[: len(data) // 2], TABLE.tobytes()):
        path.write_bytes(wrong)
        with pytest.raises(InvalidInput, match="cannot be read"):
            EmbeddingFile(path)
    at = data.index(TABLE.tobytes()) + 40
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(EmbeddingFile(path))
    with pytest.raises(InvalidInput, match="cannot be read"):
        EmbeddingFile(tmp_path / "absent.npz")


def test_an_array_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole, path = saved(tmp_path), tmp_path / "short.npz"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data[:-8] if name == "embeddings.npy" else data)
    with pytest.raises(InvalidInput, match="cut off"):
        list(EmbeddingFile(path))
