"""Many searches at once: probes go out, answers come in and are opened, all at the same time.

The next photo is looked at while the server compares and the auditors open. What is refused for the
moment, or was under way when a connection broke, is asked again with a new request id.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Full, Queue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from underseal_client.asking import Findings, embedded_photo, encrypted, open_answer
from underseal_client.connection import SEARCHING, RetryPolicy
from underseal_client.many_call import ManyCall
from underseal_client.search import Question
from underseal_core.errors import Busy, UndersealError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from underseal_client.asking import Timings
    from underseal_client.context import ClientContext
    from underseal_client.records import Gallery
    from underseal_client.search import SealedAnswer
    from underseal_core.statements import Targets, Wanted

Vector = npt.NDArray[np.float64]

SUBMISSIONS: Final = 2
"""Answers that the auditors open at a time: as many places as a registrar gives to one client."""
OPENING: Final = RetryPolicy(within_s=600.0)
"""Of registrars, which open one after the other."""
_WAITING: Final = 8
"""Answers that may wait for the auditors, and findings for whoever asked: bounds memory."""
_FAILURES: Final = 4
"""Calls in a row that fail without a single answer, before it is given up."""


@dataclass(frozen=True, slots=True)
class Sought:
    """One of many searches.

    Parameters
    ----------
    probe
        A photo that shows one face, as a file or its bytes; or an embedding, unit norm.
    purpose, case, warrant
        As in :meth:`underseal_client.Client.search`.
    """

    probe: Path | bytes | Vector
    purpose: str
    case: str
    warrant: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one of many searches: findings, or why there are none.

    ``index``: of the search among those asked for, from 0.
    """

    index: int
    sought: Sought
    findings: Findings | None
    error: UndersealError | None


@dataclass(eq=False, slots=True)
class Item:
    """A search under way; ``vector``: once its photo was looked at."""

    index: int
    sought: Sought
    vector: Vector | None = None
    embed_s: float = 0.0
    attempts: int = 0
    begun: float = field(default_factory=time.monotonic)


class ManySearches:
    """Asks one gallery about many probes; for one use.

    Parameters
    ----------
    context
        Of the client.
    gallery
        Whom to ask about.
    wanted, targets
        Of every search.
    """

    def __init__(
        self, context: ClientContext, gallery: Gallery, wanted: Wanted, targets: Targets
    ) -> None:
        self.context = context
        self.gallery = gallery
        self._wanted = wanted
        self._targets = targets
        self._results: Queue[Answered | BaseException | None] = Queue(_WAITING)
        self._room = Semaphore(_WAITING)
        self._pool = ThreadPoolExecutor(SUBMISSIONS, thread_name_prefix="opening")
        self.closed = Event()
        self._opening = replace(OPENING, wait=self._wait)
        self._cancel: Callable[[], object] | None = None

    def answers(self, searches: Iterable[Sought]) -> Generator[Answered, None, None]:
        """Yield what comes of each search, in the order in which they end.

        Closed early, it gives up what is under way.

        Raises
        ------
        UndersealError
            What ends all of them: the server refuses the call itself, or is not there.
        """
        self.context.check_keys(self.gallery)
        _ = self.context.log_key, self.context.witnesses  # whether releases can be believed
        items = (Item(i, sought) for i, sought in enumerate(searches))
        driver = Thread(target=self._drive, args=(items,), name="underseal-many")
        driver.start()
        try:
            while (one := self._results.get()) is not None:
                if isinstance(one, BaseException):
                    raise one
                yield one
        finally:
            self.closed.set()
            if (cancel := self._cancel) is not None:
                cancel()
            driver.join()

    @contextmanager
    def cancelled_when_closed(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Cancel a call with the block's end, or before if nobody wants the answers any more."""
        self._cancel = cancel
        try:
            if self.closed.is_set():
                cancel()
            yield
        finally:
            self._cancel = None
            cancel()

    def question(self, item: Item) -> Question:
        """Return what is asked of one."""
        sought = item.sought
        return Question(sought.purpose, sought.case, self._wanted, self._targets, sought.warrant)

    def probe(self, item: Item) -> tuple[bytes, Timings]:
        """Look at its photo, if it is one, and encrypt.

        Raises
        ------
        PhotoRefused
            The photo shows no face, several, or a bad one.
        """
        if item.vector is None:
            given = item.sought.probe
            if isinstance(given, np.ndarray):
                item.vector = given
            else:
                item.vector, item.embed_s = embedded_photo(self.context, given, self.gallery)
        return encrypted(self.context, item.vector, self.gallery, item.embed_s)

    def open(self, item: Item, answer: SealedAnswer, probe: bytes, spent: Timings) -> None:
        """Have an answer opened; waits while many do."""
        while not self._room.acquire(timeout=0.2):
            if self.closed.is_set():
                return
        self._pool.submit(self._open, item, answer, probe, spent)

    def fail(self, item: Item, error: UndersealError) -> None:
        """End one without findings."""
        self._put(Answered(item.index, item.sought, None, error))

    def _open(self, item: Item, answer: SealedAnswer, probe: bytes, spent: Timings) -> None:
        try:
            if not self.closed.is_set():
                found = open_answer(self.context, self.gallery, answer, probe, spent, self._opening)
                self._put(Answered(item.index, item.sought, found, None))
        except UndersealError as error:
            self.fail(item, error)
        except BaseException as error:  # noqa: BLE001  # raised where the answers are read
            self._put(error)
        finally:
            self._room.release()

    def _drive(self, items: Iterator[Item]) -> None:
        end: BaseException | None = None
        try:
            self._ask_all(items)
        except BaseException as error:  # noqa: BLE001  # raised where the answers are read
            end = error
        self._pool.shutdown()
        self._put(end)

    def _ask_all(self, items: Iterator[Item]) -> None:
        """Call the server until nothing is left to ask."""
        again: list[Item] = []
        failures = 0
        while not self.closed.is_set():
            call = ManyCall(self, again, items)
            error = call.run()
            failures = failures + 1 if error is not None and not call.answered else 0
            if error is not None and failures >= _FAILURES:
                raise error
            again = call.again
            if call.exhausted and not again:
                return
            pause = call.pause if error is None else SEARCHING.pause(error, max(1, failures), 0)
            self.closed.wait(pause)

    def _wait(self, seconds: float) -> None:
        if self.closed.wait(seconds):
            raise Busy("the searches were given up while the auditors were busy")

    def _put(self, result: Answered | BaseException | None) -> None:
        while not self.closed.is_set():
            try:
                self._results.put(result, timeout=0.2)
            except Full:
                continue
            return
