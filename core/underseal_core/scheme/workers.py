"""Threads for independent pieces of native work."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Workers:
    """Runs pieces of work on a fixed number of threads, of which one is the caller's own.

    The kernel releases the interpreter lock, so the pieces do run side by side. Safe to use from
    several threads at once: each caller works, and they share the other threads. A piece of work
    must not start others.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise InvalidInput(f"cannot run on {threads} threads")
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "underseal-kernel") if threads > 1 else None

    def run(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        """Do all pieces; the first error in their order is raised here, after all have ended."""
        left = deque(enumerate(pieces))
        errors: dict[int, Exception] = {}

        def take() -> None:
            while True:
                try:
                    number, piece = left.popleft()
                except IndexError:
                    return
                try:
                    work(piece)
                except Exception as error:  # noqa: BLE001  # raised below
                    errors[number] = error

        # One piece needs nobody else; a helper that has not begun by the end is not needed.
        count = min(self.threads, len(left)) - 1
        helpers = [self._pool.submit(take) for _ in range(count)] if self._pool else []
        take()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        if errors:
            try:
                raise errors[min(errors)]
            finally:
                errors.clear()  # their tracebacks hold this frame

    def close(self) -> None:
        """Wait for the threads and end them."""
        if self._pool is not None:
            self._pool.shutdown()
