"""``underseal projection``: fewer dimensions, and what they cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from underseal_client.cli.output import Json, NoSuchPhoto, note, print_json, print_table, say
from underseal_client.cli.session import settings_of
from underseal_client.context import embedder_of
from underseal_client.faces import EmbeddedPhoto, embed_all, scan
from underseal_client.faces.accuracy import measure
from underseal_client.faces.projection import Projection, check_new, fit
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_client.faces.accuracy import Cost
    from underseal_client.faces.projection import Vectors

projection_app = typer.Typer(
    help="Public projections of templates to fewer dimensions.", no_args_is_help=True
)

Sources = Annotated[
    list[Path],
    typer.Argument(help="Photos and folders as for enroll, or one .npy table of embeddings."),
]
File = Annotated[Path, typer.Argument(help="The projection.")]


@projection_app.command("fit")
def fit_projection(
    context: typer.Context,
    sources: Sources,
    out: Annotated[Path, typer.Option(help="File to write; must not exist.")],
    dimension: Annotated[int, typer.Option(min=2, help="Dimension of the templates.")],
    as_json: Json = False,
) -> None:
    """Fit a projection on public faces: anybody who has it learns something of them all."""
    check_new(out)
    vectors, _ = _embeddings(context, sources)
    made = fit(vectors, dimension)
    made.save(out)
    kept = made.kept(vectors)
    facts = {"id": made.id, "dimension": dimension, "embeddings": len(vectors), "kept": kept}
    if as_json:
        print_json(facts)
    else:
        say(f"{out}: {made.model_dimension} to {dimension} dimensions, id {made.id}")
        say(f"keeps {kept:.1%} of the squared norm of {len(vectors)} embeddings")


@projection_app.command("show")
def show(file: File, as_json: Json = False) -> None:
    """Name a projection, as model ids do."""
    found = Projection.load(file)
    facts = {
        "id": found.id,
        "model_dimension": found.model_dimension,
        "dimension": found.dimension,
        "model_id": found.model_id("MODEL"),
    }
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            say(f"{name:16} {value}")


@projection_app.command("evaluate")
def evaluate(
    context: typer.Context,
    file: File,
    sources: Sources,
    subjects: Annotated[
        Path | None, typer.Option(help="Names of the rows of a table, one a line.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what a projection costs on faces that it was not fitted on."""
    found = Projection.load(file)
    vectors, names = _embeddings(context, sources)
    if subjects is not None:
        names = _lines(subjects)
    cost = measure(vectors, names, found)
    if as_json:
        print_json(asdict(cost))
    else:
        _show(cost)


def _show(cost: Cost) -> None:
    say(f"{cost.same:,} pairs of one person, {cost.different:,} of different people")
    say(f"kept {cost.kept:.1%} of the squared norm")
    say(f"change of a score, root mean square: {cost.score_error:.4f} of different people,")
    say(f"{cost.same_error:.4f} of one person")
    headers = ("DIMENSION", "FALSE MATCH RATE", "THRESHOLD", "TRUE MATCH RATE")
    rows = [
        (r.dimension, f"{r.false_match_rate:g}", f"{r.threshold:.3f}", f"{r.true_match_rate:.1%}")
        for r in cost.rates
    ]
    print_table(headers, rows, numbers=headers)


def _embeddings(context: typer.Context, sources: Sequence[Path]) -> tuple[Vectors, list[str]]:
    """Return unit vectors, and whose they are as far as photos say it."""
    if len(sources) == 1 and sources[0].suffix == ".npy":
        return _table(sources[0]), []
    for path in sources:
        if not path.exists():
            raise NoSuchPhoto(path)
    settings = settings_of(context)
    embedder = embedder_of(settings.model_copy(update={"projection": None}))
    outcomes = list(embed_all(scan(sources), embedder, settings.quality.policy()))
    good = [one for one in outcomes if isinstance(one, EmbeddedPhoto)]
    if len(good) < len(outcomes):
        note(f"{len(outcomes) - len(good)} photos were refused")
    if not good:
        raise InvalidInput("there is no photo with a face that passes the quality gate")
    return np.stack([one.face.embedding for one in good]), [one.source.subject for one in good]


def _table(path: Path) -> Vectors:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path} as a table of numbers") from error
    if table.ndim != 2 or table.dtype.kind != "f":
        raise InvalidInput(f"{path} is not a table of numbers, an embedding a row")
    vectors = table.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not bool((np.isfinite(norms) & (norms > 0.0)).all()):
        raise InvalidInput(f"{path} holds an embedding that is zero or not finite")
    scaled: Vectors = vectors / norms
    return scaled


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the names in {path}") from error
