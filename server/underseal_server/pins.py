"""Compares what a message is pinned to with what its gallery is pinned to."""

from __future__ import annotations

from typing import Final

from underseal_core.errors import Mismatch
from underseal_core.statements import Pin

MOVED_HINT: Final = "get the bundle of the gallery's key epoch: underseal bundle update"


def check_pin(given: Pin, gallery: Pin) -> None:
    """Refuse what was made for another model, dimension, profile or key epoch.

    Raises
    ------
    Mismatch
        Names the first difference and both values.
    """
    if given.model_id != gallery.model_id:
        what, ours, theirs = "model", gallery.model_id, given.model_id
    elif given.model_dimension != gallery.model_dimension:
        what = "dimension"
        ours, theirs = str(gallery.model_dimension), str(given.model_dimension)
    elif given.profile != gallery.profile:
        what, ours, theirs = "profile", gallery.profile, given.profile
    elif given.key_epoch != gallery.key_epoch:
        what, ours, theirs = "key epoch", gallery.key_epoch[:16], given.key_epoch[:16]
    else:
        return
    hint = MOVED_HINT if what == "key epoch" else "use the gallery's model and bundle"
    raise Mismatch(f"the gallery's {what} is {ours}, not {theirs}", hint=hint)
