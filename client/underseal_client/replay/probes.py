"""The people to search for: one photo of each, and the group that each belongs to.

Of several photos of a person the first one that passes the gate is taken.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_client.faces import QualityPolicy
from underseal_client.faces.errors import PhotoRefused
from underseal_client.faces.scan import list_photos
from underseal_core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import numpy.typing as npt

    from underseal_client.faces import FaceEmbedder

LABELS_FILE: Final = "labels.csv"
FILE_COLUMN: Final = "file"
GROUP_COLUMN: Final = "group"
_GATE: Final = QualityPolicy(one_face=False)
"""Portraits may show somebody in the background: the largest face is taken."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One person: the template of one photo, (d,) float64 of norm one, kept out of ``repr``."""

    person: str
    group: str
    template: npt.NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A photo that could not be searched with, and the gate's reason."""

    photo: str
    reason: str


def read_groups(folder: Path, labels: Path | None, column: str | None) -> dict[Path, str]:
    """Return the group of each photo.

    Parameters
    ----------
    labels
        CSV file with a column ``file`` of paths below ``folder``; None takes ``labels.csv`` there,
        if it is there.
    column
        The column that holds the group; None takes ``group``, if it is there.

    Raises
    ------
    NotFound
        The file is not there.
    InvalidInput
        It is no such table, or lacks the column.
    """
    path = labels or folder / LABELS_FILE
    if not path.is_file():
        if labels is None and column is None:
            return {}
        raise NotFound(f"there is no file {path}", hint="name the table with --labels")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, strict=True)
            columns, rows = set(table.fieldnames or ()), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"cannot read {path} as a table: {error}") from error
    chosen = column or GROUP_COLUMN
    if column is None and labels is None and not {FILE_COLUMN, chosen} <= columns:
        return {}
    if missing := {FILE_COLUMN, chosen} - columns:
        raise InvalidInput(
            f"{path} has no column {min(missing)}",
            hint="it needs a column 'file', and one with the group, named with --group",
        )
    return {folder / row[FILE_COLUMN]: (row[chosen] or "").strip() for row in rows}


def read_probes(
    folder: Path,
    embedder: FaceEmbedder,
    people: int,
    groups: Mapping[Path, str],
    progress: Callable[[int], None],
) -> tuple[list[Probe], list[LeftOut]]:
    """Return the templates of up to ``people`` people, in the order of their names.

    Parameters
    ----------
    folder
        A sub-folder's name is the person's, or else the photo's own name without its ending.
    progress
        Told how many people there are so far.

    Raises
    ------
    InvalidInput
        There is no usable photo.
    UnreadablePhoto
        There is no such folder.
    """
    photos: dict[str, list[Path]] = {}
    for photo, person in list_photos([folder]):
        photos.setdefault(person, []).append(photo)
    probes: list[Probe] = []
    left_out: list[LeftOut] = []
    for person in sorted(photos):
        if len(probes) == people:
            break
        for path in photos[person]:
            try:
                face = embedder.embed(path, _GATE)
            except PhotoRefused as error:
                left_out.append(LeftOut(path.relative_to(folder).as_posix(), error.reason))
                continue
            probes.append(Probe(person, groups.get(path, ""), face.embedding))
            progress(len(probes))
            break
    if not probes:
        raise InvalidInput(f"no photo in {folder} shows a face that is good enough")
    return probes, left_out
