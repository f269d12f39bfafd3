"""Galleries of synthetic templates: of no face model, so of any dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from underseal_client import gallery as galleries
from underseal_client.units import TemplateRecord
from underseal_core.statements import Pin

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from underseal_client.context import ClientContext
    from underseal_client.records import Gallery

MODEL: Final = "synthetic"


def make_gallery(context: ClientContext, name: str) -> Gallery:
    """Make a gallery of the bundle's dimension."""
    bundle = context.bundle
    pin = Pin(
        model_id=MODEL,
        model_dimension=bundle.dimension,
        profile=bundle.profile.name,
        key_epoch=bundle.epoch,
    )
    return galleries.create(context.connection, name, pin)


def records(vectors: npt.NDArray[np.float64], prefix: str = "person") -> list[TemplateRecord]:
    """Return a template of one person for each row: ``person 0`` and so on."""
    return [TemplateRecord(f"{prefix} {i}", vector) for i, vector in enumerate(vectors)]
