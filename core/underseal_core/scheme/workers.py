"""Threads for independent pieces of native work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Workers:
    """Runs pieces of work on a fixed number of threads; one thread means the caller's own.

    The kernel releases the interpreter lock, so the pieces do run side by side. Safe to use from
    several threads at once; a piece of work must not start others.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise InvalidInput(f"cannot run on {threads} threads")
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "underseal-kernel") if threads > 1 else None

    def run(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        """Do all pieces; the first error of any is raised here, after all have ended."""
        if self._pool is None:
            for piece in pieces:
                work(piece)
            return
        futures = [self._pool.submit(work, piece) for piece in pieces]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        """Wait for the threads and end them."""
        if self._pool is not None:
            self._pool.shutdown()
