"""Projections: what they keep, what they are named, what is refused, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from underseal_client.cli.app import app
from underseal_client.faces.accuracy import measure
from underseal_client.faces.projection import Projection, Vectors, fit
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound


def faces(people: int, photos: int, seed: int = 1) -> tuple[Vectors, list[str]]:
    """Unit vectors in 32 dimensions, most of which hold little, several near each other."""
    generator = np.random.default_rng(seed)
    spread = 1.0 / np.arange(1, 33)
    centres = generator.normal(size=(people, 1, 32)) * spread
    vectors = (centres + 0.05 * generator.normal(size=(people, photos, 32)) * spread).reshape(
        -1, 32
    )
    names = [f"person-{number}" for number in range(people) for _ in range(photos)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), names


FACES, NAMES = faces(100, 2)
MADE = fit(FACES, 8)


def test_rows_are_the_axes_that_keep_most() -> None:
    """No other projection of the rank keeps more; 50 random ones and every neighbour do not."""
    assert MADE.rows.shape == (8, 32)
    assert np.allclose(MADE.rows @ MADE.rows.T, np.eye(8), atol=1e-12)
    kept = np.square(FACES @ MADE.rows.T).sum()
    generator = np.random.default_rng(2)
    for noise in (1e-3, 0.1, 10.0):
        for _ in range(50):
            other = np.linalg.qr((MADE.rows + noise * generator.normal(size=(8, 32))).T)[0]
            assert np.square(FACES @ other).sum() <= kept + 1e-9


def test_same_embeddings_give_the_same_file_whatever_their_signs() -> None:
    assert fit(FACES, 8).to_bytes() == MADE.to_bytes()
    assert np.allclose(fit(-FACES, 8).rows, MADE.rows, atol=1e-9)


def test_projected_templates_are_unit_vectors_with_the_inner_products_of_the_span() -> None:
    projected = MADE.apply(FACES)
    assert np.allclose(np.linalg.norm(projected, axis=1), 1.0)
    inside = FACES @ MADE.rows.T @ MADE.rows
    inside /= np.linalg.norm(inside, axis=1, keepdims=True)
    assert np.allclose(projected @ projected.T, inside @ inside.T)
    assert np.allclose(MADE.apply(FACES[3]), projected[3])


def test_what_lies_outside_becomes_zero_and_no_unit_vector() -> None:
    outside = np.linalg.svd(MADE.rows)[2][-1]
    assert np.array_equal(MADE.apply(outside), np.zeros(8))


def test_file_round_trip_and_name(tmp_path: Path) -> None:
    path = tmp_path / "p8.usproj"
    MADE.save(path)
    loaded = Projection.load(path)
    assert np.array_equal(loaded.rows, MADE.rows)
    assert loaded.model_id("zoo-sface") == f"zoo-sface+p8-{MADE.id[:12]}"
    assert fit(faces(100, 2, seed=9)[0], 8).id != MADE.id
    with pytest.raises(Conflict):
        MADE.save(path)
    with pytest.raises(NotFound):
        Projection.load(tmp_path / "none")


@pytest.mark.parametrize("cut", [0, 15, 16, -8, -1])
def test_cut_file_is_refused(cut: int) -> None:
    with pytest.raises(Damaged):
        Projection.parse(MADE.to_bytes()[:cut])


@pytest.mark.parametrize("factor", [1.0 + 1e-6, 0.0, np.nan, np.inf])
def test_rows_that_are_not_orthonormal_are_refused(factor: float) -> None:
    """A scaled axis would weigh a feature; a projection that does is not one."""
    rows = MADE.rows.copy()
    rows[2] *= factor
    with pytest.raises(Damaged, match="orthonormal"):
        Projection.parse(Projection(rows).to_bytes())


@pytest.mark.parametrize(
    ("embeddings", "dimension"),
    [
        (FACES, 32),
        (FACES, 1),
        (FACES[:63], 8),
        (FACES[0], 8),
        (np.full((200, 32), np.nan), 8),
        (np.tile(FACES[:4], (50, 1)), 8),
    ],
)
def test_what_cannot_be_fitted_is_refused(embeddings: Vectors, dimension: int) -> None:
    with pytest.raises(InvalidInput):
        fit(embeddings, dimension)


def test_vector_of_another_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="of dimension 32, not 16"):
        MADE.apply(np.eye(16)[0])


def test_cost_is_that_of_all_pairs() -> None:
    vectors, names = faces(30, 2, seed=3)
    cost = measure(vectors, names, MADE)
    assert (cost.same, cost.different) == (30, 60 * 59 // 2 - 30)
    projected = MADE.apply(vectors)
    changes = [
        projected[i] @ projected[j] - vectors[i] @ vectors[j]
        for i in range(60)
        for j in range(i)
        if names[i] != names[j]
    ]
    assert cost.score_error == pytest.approx(float(np.sqrt(np.mean(np.square(changes)))))
    (whole, small) = cost.rates
    assert (whole.dimension, small.dimension, whole.false_match_rate) == (32, 8, 1e-2)
    assert whole.true_match_rate == 1.0 and small.threshold > whole.threshold
    with pytest.raises(InvalidInput, match="not as many names"):
        measure(vectors, names[:-1], MADE)
    with pytest.raises(InvalidInput, match="pairs of one person"):
        measure(vectors, [str(i) for i in range(60)], MADE)


def test_commands_fit_name_and_evaluate(tmp_path: Path) -> None:
    np.save(tmp_path / "public.npy", FACES.astype(np.float32) * 3.0)
    others, names = faces(30, 2, seed=3)
    np.save(tmp_path / "others.npy", others)
    (tmp_path / "names").write_text("\n".join(names) + "\n")
    out, run = tmp_path / "p8", CliRunner().invoke

    def told(*words: str) -> dict[str, object]:
        result = run(app, ["projection", *words, "--json"])
        assert result.exit_code == 0, result.output
        answer: dict[str, object] = json.loads(result.stdout)
        return answer

    made = told("fit", str(tmp_path / "public.npy"), "--dimension", "8", "--out", str(out))
    assert told("show", str(out))["id"] == made["id"] == Projection.load(out).id
    cost = told(
        "evaluate", str(out), str(tmp_path / "others.npy"), "--subjects", str(tmp_path / "names")
    )
    assert (cost["same"], cost["different"]) == (30, 1740)
