"""Options of the quality gate."""

from __future__ import annotations

from typing import Annotated

import typer

MinFacePixels = Annotated[
    float | None, typer.Option(min=0, help="Smallest side of a face, in pixels.")
]
LargestFace = Annotated[
    bool, typer.Option("--largest-face", help="Of several faces take the largest.")
]


def bars(min_face_pixels: float | None, largest_face: bool) -> dict[str, object]:
    """Return the settings of the gate that were given with the command."""
    return {
        "min_face_pixels": min_face_pixels,
        "one_face": False if largest_face else None,
    }
