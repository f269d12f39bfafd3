"""What commands that run all roles on this machine have in common: a folder, and an end."""

from __future__ import annotations

import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def working_folder(keep: Path | None, command: str) -> Iterator[Path]:
    """Give an empty folder: ``keep``, which must be new, or one that is deleted in the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix=f"underseal-{command}-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(parents=True)
    except OSError as error:
        raise InvalidInput(
            f"cannot make the folder {keep}", hint="it must not exist yet"
        ) from error
    yield keep


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that the other processes are ended too."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
