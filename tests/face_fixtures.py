"""Fixtures around real faces: the default model pack, credited photos, the portraits."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from underseal_client.faces import (
    EmbeddedPhoto,
    FaceEmbedder,
    ModelPack,
    PhotoSource,
    QualityPolicy,
    embed_all,
    open_pack,
    scan,
)

FACES = Path(__file__).resolve().parent / "assets" / "faces"
ANY_FACE = QualityPolicy(one_face=False, max_turn=None)
"""Takes the largest face of a photo, whatever its pose."""


@dataclass(frozen=True, eq=False)
class PortraitSet:
    """The official portraits with their templates.

    Parameters
    ----------
    people
        Whom each photo shows, (614,).
    numbers
        The photo's number among that person's: 1 or 2.
    recrops
        Whether it is another crop of that person's first photo.
    templates
        (614, 128) float64 unit rows.
    """

    people: list[str]
    numbers: npt.NDArray[np.int64]
    recrops: npt.NDArray[np.bool_]
    templates: npt.NDArray[np.float64]

    @property
    def gallery(self) -> npt.NDArray[np.int64]:
        """Indices of everybody's first photo: 586 people."""
        return np.flatnonzero(self.numbers == 1)

    @property
    def probes(self) -> npt.NDArray[np.int64]:
        """Indices of the second, different photo of 20 people."""
        return np.flatnonzero((self.numbers == 2) & ~self.recrops)


@pytest.fixture(scope="session")
def zoo_pack() -> ModelPack:
    """The installed default pack; `make setup` puts it there, so its absence is an error."""
    return open_pack()


@pytest.fixture(scope="session")
def embedder(zoo_pack: ModelPack) -> FaceEmbedder:
    return FaceEmbedder(zoo_pack)


@pytest.fixture(scope="session")
def group_photo() -> Path:
    """The photo of six faces that insightface's wheel brings along."""
    import insightface

    return Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"


@pytest.fixture(scope="session")
def portrait_set(
    portraits: Path, embedder: FaceEmbedder, tmp_path_factory: pytest.TempPathFactory
) -> PortraitSet:
    """All 614 portraits, embedded once per test run, also when several processes share it."""
    with (portraits / "labels.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    shared_by_workers = tmp_path_factory.getbasetemp().parent
    cache = shared_by_workers / "underseal-portrait-templates.npy"
    if "popen-gw" not in tmp_path_factory.getbasetemp().name:  # not a worker of pytest-xdist
        cache = tmp_path_factory.getbasetemp() / cache.name
    with _locked(cache.with_suffix(".lock")):
        if not cache.exists():
            np.save(cache, _embed_portraits(portraits, labels, embedder))
        templates = np.load(cache)
    return PortraitSet(
        people=[row["person"] for row in labels],
        numbers=np.array([int(Path(row["file"]).stem) for row in labels]),
        recrops=np.array([row["recrop_of_same_photo"] == "1" for row in labels]),
        templates=templates,
    )


def _embed_portraits(
    folder: Path, labels: list[dict[str, str]], embedder: FaceEmbedder
) -> npt.NDArray[np.float64]:
    sources = {source.path: source for source in scan([folder])}
    wanted: list[PhotoSource] = [sources[folder / row["file"]] for row in labels]
    templates = []
    for outcome in embed_all(wanted, embedder, ANY_FACE):
        assert isinstance(outcome, EmbeddedPhoto), outcome
        templates.append(outcome.face.embedding)
    return np.stack(templates)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
