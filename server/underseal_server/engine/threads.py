"""Work off the event loop: one pool for the store, one for arithmetic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

STORE_THREADS: Final = 4
COMPUTE_THREADS: Final = 2
"""Computations at a time: a search beside an enrolment. Each uses the evaluator's own threads."""


async def finish(pool: Pool, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run ``function`` in ``pool`` and wait for its end, even when cancelled.

    The caller holds locks on what the function works with; cancelled early, it would let go of
    them too soon.
    """
    future = pool.submit(function, *args, **kwargs)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    future.add_done_callback(lambda _: _tell(loop, ended))
    try:
        await ended
    except asyncio.CancelledError:
        await settled(asyncio.wrap_future(future))
        raise
    try:
        return future.result()
    finally:
        del future  # an error's traceback holds this frame


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(_end, ended)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():  # cancelled
        ended.set_result(None)


async def settled(waiter: asyncio.Future[Any]) -> None:
    """Wait for the end of something even when cancelled, whatever becomes of it."""
    while not waiter.done():
        try:
            await asyncio.wait((waiter,))
        except asyncio.CancelledError:
            continue
    if not waiter.cancelled():
        waiter.exception()  # seen: nobody is left to tell


class Threads:
    """The two pools. Not for work that waits for other work."""

    def __init__(self) -> None:
        self.store: Final = ThreadPoolExecutor(STORE_THREADS, "store")
        self.compute: Final = ThreadPoolExecutor(COMPUTE_THREADS, "compute")

    def close(self) -> None:
        """Wait for running work and end."""
        self.store.shutdown()
        self.compute.shutdown()
