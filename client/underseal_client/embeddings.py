"""Embeddings in a file: for who has them already, made by the gallery's model.

An ``.npz`` archive of numpy with arrays of ``n`` rows:

    embeddings  (n, d)  float32 or float64, of any length but zero
    subjects    (n,)    text: people's names
    photos      (n,)    text, optional: where each is from, for its label
    model       ()      text: id of the model that made them

It is read some rows at a time, so memory does not grow with ``n``, and nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from underseal_client.faces.projection import Projection
from underseal_client.subjects import checked_name
from underseal_core.errors import InvalidInput

ROWS_AT_ONCE: Final = 1024
_FORMAT: Final = (
    "numpy.savez(file, embeddings=..., subjects=..., model=...): see docs/howto/enrol.md"
)
_ARRAYS: Final = ("embeddings", "subjects", "photos", "model")
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """One row.

    Parameters
    ----------
    number
        Of the row, from 0.
    subject, photo
        As they are in the file.
    vector
        Float64, unit norm; zero when the row is no template. Kept out of ``repr``.
    digest
        SHA-256 of the row's bytes, in hex.
    """

    number: int
    subject: str
    photo: str
    vector: npt.NDArray[np.float64] = field(repr=False)
    digest: str

    @property
    def source(self) -> str:
        """What it is known by from one run to the next: its content and its subject.

        Raises
        ------
        InvalidInput
            The name is not acceptable.
        """
        return f"{self.digest}:{checked_name(self.subject)}"


@dataclass(frozen=True, slots=True)
class _Column:
    """An array of the file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class EmbeddingFile:
    """A file of embeddings; iterate over it as often as needed.

    Attributes
    ----------
    model, dimension
        Of the embeddings as they are in the file.
    projection
        Applied to every row; none at first.

    Raises
    ------
    InvalidInput
        It cannot be read, or is not of the form above.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.projection: Projection | None = None
        with self._opened() as archive:
            there = [name for name in _ARRAYS if f"{name}.npy" in archive.namelist()]
            columns = {name: _column(archive, name)[0] for name in there}
            if not {"embeddings", "subjects", "model"} <= set(columns):
                raise self._wrong("it does not have embeddings, subjects and model")
            self.model = str(_whole(archive, columns["model"]))
        self._check(columns)
        self._columns = {name: one for name, one in columns.items() if name != "model"}
        self.count, self.dimension = columns["embeddings"].shape

    def _check(self, columns: Mapping[str, _Column]) -> None:
        table = columns["embeddings"]
        if len(table.shape) != 2 or table.dtype.kind != "f":
            raise self._wrong("embeddings is not a table of floating-point numbers")
        for name in ("subjects", "photos", "model"):
            one = columns.get(name)
            if one is not None and one.dtype.kind != "U":
                raise self._wrong(f"{name} is not text: numpy.array(..., dtype=str)")
            rows = () if name == "model" else table.shape[:1]
            if one is not None and one.shape != rows:
                raise self._wrong(f"{name} has shape {one.shape}, not {rows}")

    def __iter__(self) -> Iterator[Embedding]:
        """Yield all rows, in order."""
        with self._opened() as archive, ExitStack() as stack:
            parts = {}
            for name in self._columns:
                column, data = _column(archive, name)
                parts[name] = column, stack.enter_context(data)
            for start in range(0, self.count, ROWS_AT_ONCE):
                rows = min(ROWS_AT_ONCE, self.count - start)
                some = {name: _rows(*part, rows) for name, part in parts.items()}
                photos = some.get("photos")
                vectors = self._vectors(some["embeddings"])
                for at in range(rows):
                    yield Embedding(
                        number=start + at,
                        subject=str(some["subjects"][at]),
                        photo=self._photo(start + at) if photos is None else str(photos[at]),
                        vector=vectors[at],
                        digest=hashlib.sha256(some["embeddings"][at].tobytes()).hexdigest(),
                    )

    def _vectors(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Scale rows to length 1, and project them; zero for what has no length."""
        vectors = rows.astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        sound = np.isfinite(lengths) & (lengths > 0)
        vectors = np.where(sound, vectors / np.where(sound, lengths, 1.0), 0.0)
        return vectors if self.projection is None else self.projection.apply(vectors)

    def _photo(self, number: int) -> str:
        return f"{self._path.name}[{number}]"

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except _BROKEN as error:
            raise self._wrong(f"it cannot be read: {error}") from error

    def _wrong(self, what: str) -> InvalidInput:
        text = f"{self._path} is not a file of embeddings: {what}"
        return InvalidInput(text, hint=_FORMAT)


def _column(archive: zipfile.ZipFile, name: str) -> tuple[_Column, IO[bytes]]:
    """Return an array's description, and its bytes from the first row on.

    Raises
    ------
    ValueError
        It is not an array that can be read in pieces without executing anything.
    """
    data = archive.open(f"{name}.npy")
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    reader = readers.get(npy.read_magic(data))
    if reader is None:
        raise ValueError(f"{name} is in another version of numpy's format")
    shape, by_columns, dtype = reader(data)
    if dtype.hasobject or (by_columns and len(shape) > 1):
        raise ValueError(f"{name} is of objects, or not in C order: numpy.ascontiguousarray(...)")
    return _Column(name, shape, dtype), data


def _whole(archive: zipfile.ZipFile, column: _Column) -> npt.NDArray[Any]:
    if column.shape != ():
        return np.zeros((), "U1")  # refused by its shape
    with _column(archive, column.name)[1] as data:
        found: npt.NDArray[Any] = np.frombuffer(_exactly(data, column.dtype.itemsize), column.dtype)
        return found.reshape(())


def _rows(column: _Column, data: IO[bytes], rows: int) -> npt.NDArray[Any]:
    shape = (rows, *column.shape[1:])
    size = prod(shape) * column.dtype.itemsize
    found: npt.NDArray[Any] = np.frombuffer(_exactly(data, size), column.dtype).reshape(shape)
    return found


def _exactly(data: IO[bytes], size: int) -> bytes:
    found = data.read(size)
    if len(found) != size:
        raise EOFError("it is cut off")
    return found
