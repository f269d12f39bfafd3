"""Embeddings that another system made, from a file into a gallery, by the command and the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.people import DIMENSION, MODEL
from underseal_client import Client
from underseal_client import gallery as galleries
from underseal_client.connection import Connection
from underseal_client.demo.process import ProgramFailed, run_program
from underseal_client.faces import synthetic_templates
from underseal_client.faces.projection import Projection
from underseal_client.records import Gallery
from underseal_core.errors import Mismatch

COUNT = 40
FEWER = 100
"""Dimensions that the keys pad to those of all."""
VECTORS = synthetic_templates(COUNT, DIMENSION, seed=77)
NAMES = [f"person {number}" for number in range(COUNT)]


def saved(path: Path, model: str = MODEL) -> Path:
    """Embeddings as a model gives them, not scaled; the last two rows cannot be used."""
    table = (VECTORS * np.linspace(0.5, 30.0, COUNT)[:, None]).astype(np.float32)
    table[-1] = 0
    names = [*NAMES[:-2], "", NAMES[-1]]
    np.savez(path, embeddings=table, subjects=np.array(names), model=np.array(model))
    return path


def found(client: Client, gallery: str, row: int) -> list[tuple[str, str]]:
    findings = client.search_template(VECTORS[row], gallery=gallery, purpose="tests", case="T-1")
    return [(match.label.name, match.label.photo) for match in findings.found]


def test_a_file_is_enrolled_once_and_found(
    client: Client, gallery: Gallery, tmp_path: Path
) -> None:
    path, config = saved(tmp_path / "old-system.npz"), tmp_path / "client.toml"
    keys = "server", "registrar", "credentials", "bundle", "log_key", "subject_key", "state"
    values = {key: getattr(client.settings, key) for key in keys}
    config.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items()))
    command = ("--config", config, "enroll", "--embeddings", path, "-g", gallery.name, "--json")
    with pytest.raises(ProgramFailed, match="ended with code 8"):
        run_program("underseal", *command)
    assert client.gallery(gallery.name).templates == COUNT - 2
    for row in (0, COUNT - 3):
        assert found(client, gallery.name, row) == [(NAMES[row], f"old-system.npz[{row}]")]
    again = client.enroll_embeddings(gallery.name, path)
    assert (again.enrolled, again.skipped) == (0, COUNT - 2)
    assert [(one.photo, one.reason) for one in again.refused] == [
        (f"old-system.npz[{COUNT - 2}]", "bad-row"),
        (f"old-system.npz[{COUNT - 1}]", "bad-row"),
    ]


def test_embeddings_of_another_model_are_refused_or_projected(
    client: Client,
    gallery: Gallery,
    connection: Connection,
    names: Iterator[str],
    tmp_path: Path,
) -> None:
    with pytest.raises(Mismatch, match=f"of model {MODEL}"):
        client.enroll_embeddings(gallery.name, saved(tmp_path / "a.npz", "other"))
    rows = np.linalg.qr(np.random.default_rng(3).standard_normal((DIMENSION, FEWER)))[0].T
    projection = Projection(np.ascontiguousarray(rows))
    projection.save(tmp_path / "half.usp")
    settings = client.settings.model_copy(update={"projection": tmp_path / "half.usp"})
    with Client(settings) as other, pytest.raises(Mismatch, match="of model"):
        other.enroll_embeddings(gallery.name, saved(tmp_path / "b.npz", "other"))
    fewer = {"model_id": projection.model_id("other"), "model_dimension": FEWER}
    own = galleries.create(connection, next(names), gallery.pin.model_copy(update=fewer))
    with Client(settings) as other:
        report = other.enroll_embeddings(own.name, saved(tmp_path / "c.npz", "other"))
    assert report.enrolled == COUNT - 2
    assert client.gallery(gallery.name).templates == 0
