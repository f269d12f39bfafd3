"""A public orthogonal projection of templates to fewer dimensions.

A search costs as much as templates have dimensions. The projection is fitted once, on embeddings
that are public, and is public itself; the client projects a template and scales it to norm 1
before it is encrypted. It belongs to the model: its hash is part of the model id that galleries
are pinned to, and that policies have thresholds for.

    offset  size       field
    0       8          magic "USPROJ01"
    8       4          dimension of the model's embeddings d, little-endian
    12      4          dimension of the templates k, 2 <= k < d
    16      8 k d      rows of the projection, float64 little-endian

Rows are orthonormal. The projection's id is the SHA-256 of these bytes.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt

from underseal_core.durable import create_file
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound, StorageFull
from underseal_core.scheme.profiles import MAX_DIMENSION, MIN_DIMENSION

if TYPE_CHECKING:
    from pathlib import Path

Vectors = npt.NDArray[np.float64]

MAGIC: Final = b"USPROJ01"
ID_DIGITS: Final = 12
"""Of the id, in the model id."""
_HEAD: Final = struct.Struct("<8sII")
_MAX_BYTES: Final = _HEAD.size + 8 * 4096 * MAX_DIMENSION
_ORTHONORMAL: Final = 1e-9
_SMALLEST: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Projection:
    """Orthonormal rows, shape ``(dimension, model_dimension)``, float64."""

    rows: Vectors

    @property
    def dimension(self) -> int:
        """Dimension of projected templates."""
        return int(self.rows.shape[0])

    @property
    def model_dimension(self) -> int:
        """Dimension of what is projected."""
        return int(self.rows.shape[1])

    @cached_property
    def id(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def model_id(self, model: str) -> str:
        """Return the id of a model with this projection: what a gallery is pinned to."""
        return f"{model}+p{self.dimension}-{self.id[:ID_DIGITS]}"

    def apply(self, vectors: Vectors) -> Vectors:
        """Project unit vectors and scale them to norm 1.

        Parameters
        ----------
        vectors
            ``(..., model_dimension)``.

        Returns
        -------
        Vectors
            ``(..., dimension)``. A vector of which nothing is left becomes zero, which no
            gallery takes.

        Raises
        ------
        InvalidInput
            Of another dimension.
        """
        if vectors.shape[-1] != self.model_dimension:
            raise InvalidInput(
                f"the projection is of dimension {self.model_dimension}, not {vectors.shape[-1]}",
                hint="use the projection that was fitted for this model",
            )
        projected = np.asarray(vectors, np.float64) @ self.rows.T
        norms = np.linalg.norm(projected, axis=-1, keepdims=True)
        result: Vectors = np.where(norms > _SMALLEST, projected / np.maximum(norms, _SMALLEST), 0.0)
        return result

    def kept(self, vectors: Vectors) -> float:
        """Return the share of the squared norm of vectors ``(n, model_dimension)`` that stays."""
        return float(np.square(vectors @ self.rows.T).sum() / np.square(vectors).sum())

    def to_bytes(self) -> bytes:
        """Serialise; the exact inverse of :meth:`parse`."""
        head = _HEAD.pack(MAGIC, self.model_dimension, self.dimension)
        return head + self.rows.astype("<f8").tobytes()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a file.

        Raises
        ------
        Damaged
            Not a projection: magic, dimensions, length, or rows that are not orthonormal.
        """
        if len(data) < _HEAD.size:
            raise Damaged("not a projection")
        magic, model_dimension, dimension = _HEAD.unpack_from(data)
        small = MIN_DIMENSION <= dimension <= MAX_DIMENSION and dimension < model_dimension
        if magic != MAGIC or not small:
            raise Damaged("not a projection")
        if len(data) != _HEAD.size + 8 * dimension * model_dimension:
            raise Damaged("the projection has the wrong length")
        flat = np.frombuffer(data, "<f8", offset=_HEAD.size)
        rows = flat.reshape(dimension, model_dimension).astype(np.float64)
        if not bool(np.isfinite(rows).all()) or _skew(rows) > _ORTHONORMAL:
            raise Damaged("the rows of the projection are not orthonormal")
        return cls(rows)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file; see :meth:`parse`.

        Raises
        ------
        NotFound
            There is none, or it cannot be read.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise NotFound(f"cannot read the projection {path}") from error
        return cls.parse(data)

    def save(self, path: Path) -> None:
        """Write a new file.

        Raises
        ------
        Conflict
            There is a file of this name.
        StorageFull
            It cannot be written.
        """
        try:
            create_file(path, self.to_bytes())
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            raise StorageFull(f"cannot write {path}") from error


def check_new(path: Path) -> None:
    """Refuse a name before the work for its file.

    Raises
    ------
    Conflict
        There is a file of this name.
    """
    if path.exists():
        raise _exists(path)


def _exists(path: Path) -> Conflict:
    return Conflict(f"{path} exists", hint="choose another name")


def fit(embeddings: Vectors, dimension: int) -> Projection:
    """Fit a projection: the span of the first right singular vectors of the embeddings.

    Of all orthogonal projections of this rank it keeps the most of the embeddings' squared norm
    (Eckart and Young, 1936), so it changes inner products between them least. Nothing is
    subtracted and no axis is scaled. Signs are fixed, so the same input gives the same file on
    the same version of LAPACK; who shares a gallery shares the file.

    Parameters
    ----------
    embeddings
        ``(count, d)`` unit vectors of public faces, many more than ``d``.
    dimension
        Of the result, below ``d``.

    Raises
    ------
    InvalidInput
        Fewer embeddings than twice ``d``, not finite, or a dimension that is out of range.
    """
    if embeddings.ndim != 2 or not bool(np.isfinite(embeddings).all()):
        raise InvalidInput("the embeddings are not a table of finite numbers")
    count, own = embeddings.shape
    if not MIN_DIMENSION <= dimension < min(own, MAX_DIMENSION + 1):
        raise InvalidInput(f"dimension {dimension} is not below the model's, {own}")
    if count < 2 * own:
        raise InvalidInput(
            f"{count} embeddings are too few for dimension {own}",
            hint=f"at least {2 * own} are needed, better ten times as many",
        )
    _, values, axes = np.linalg.svd(np.asarray(embeddings, np.float64), full_matrices=False)
    if not values[dimension - 1] > _SMALLEST * values[0]:
        raise InvalidInput("the embeddings lie in fewer dimensions than that")
    rows = axes[:dimension]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return Projection(np.ascontiguousarray(rows * np.sign(largest)))


def _skew(rows: Vectors) -> float:
    return float(np.abs(rows @ rows.T - np.eye(len(rows))).max())
