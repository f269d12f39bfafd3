"""One call with many searches: what was sent in it, and what came back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

from underseal_client import wire
from underseal_client.connection import SEARCHING, SERVER, translated
from underseal_client.search import Collected, sign_request
from underseal_core.errors import Busy, Damaged, UndersealError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from underseal_client.asking import Timings
    from underseal_client.many import Item, ManySearches
    from underseal_client.records import SearchPart


@dataclass(slots=True)
class _Sent:
    item: Item
    collected: Collected
    probe: bytes
    spent: Timings
    at: float = field(default_factory=time.monotonic)


class ManyCall:
    """Sends searches for half of a call's time, and takes their answers.

    Parameters
    ----------
    searches
        What makes probes and opens answers.
    again
        Those that earlier calls brought no answer for.
    items
        Further ones, of which it takes some.
    """

    def __init__(
        self, searches: ManySearches, again: Iterable[Item], items: Iterator[Item]
    ) -> None:
        self._searches = searches
        self._earlier = iter(again)
        self._source = chain(self._earlier, items)
        self._connection = searches.context.connection
        self._until = time.monotonic() + self._connection.stream_timeout_s / 2
        self._sent: dict[int, _Sent] = {}
        self._count = 0
        self._feeding = Lock()
        self._over = False
        self._failure: Exception | None = None
        self.exhausted = False
        """Whether nothing further is to be sent."""
        self.again: list[Item] = []
        """What is to be asked again, after ``pause`` seconds."""
        self.pause = 0.0
        self.answered = 0

    def run(self) -> Busy | None:
        """Ask, until all is answered; return why the call failed, if it is worth another one.

        Raises
        ------
        UndersealError
            It is not.
        """
        error: Busy | None = None
        try:
            with translated(SERVER):
                self._answers()
        except Busy as busy:
            error = busy
        with self._feeding:  # the thread that sends may be at work
            self._over = True
        if self._failure is not None:
            raise self._failure
        self.again.extend(self._earlier)  # those that it did not come to
        for sent in self._sent.values():
            if error is None:
                self._searches.fail(sent.item, Damaged("the server left a search unanswered"))
            else:
                self.again.append(sent.item)
        return error

    def _answers(self) -> None:
        timeout = self._connection.stream_timeout_s
        call = self._connection.searches.SearchMany(self._requests(), timeout=timeout)
        with self._searches.cancelled_when_closed(call.cancel):
            for answer in call:
                self._take(*wire.search_many_from_wire(answer))

    def _requests(self) -> Iterator[wire.ManyRequest]:
        """Yield requests; runs in a thread of the call's."""
        while True:
            with self._feeding:
                try:
                    message = self._next()
                except Exception as error:  # noqa: BLE001  # of what makes the searches
                    self._failure = error
                    return
            if message is None:
                return
            yield message

    def _next(self) -> wire.ManyRequest | None:
        """Make the next request; ``None`` when the call has had enough."""
        while not self._over and not self._searches.closed.is_set():
            if time.monotonic() >= self._until:
                return None
            item = next(self._source, None)
            if item is None:
                self.exhausted = True
                return None
            try:
                return self._message(item)
            except UndersealError as error:
                self._searches.fail(item, error)
        return None

    def _message(self, item: Item) -> wire.ManyRequest:
        searches, connection = self._searches, self._connection
        probe, spent = searches.probe(item)
        request, envelope = sign_request(
            connection.credentials.identity,
            connection.me.name,
            searches.gallery,
            probe,
            searches.question(item),
            searches.context.validity,
        )
        self._sent[self._count] = _Sent(item, Collected(request, envelope, probe), probe, spent)
        self._count += 1
        return wire.search_many_to_wire(envelope, probe)

    def _take(self, index: int, found: list[SearchPart] | UndersealError) -> None:
        sent = self._sent.get(index)
        if sent is None:
            raise Damaged("the server answers what it was not asked")
        if isinstance(found, UndersealError):
            del self._sent[index]
            self._refused(sent.item, found)
            return
        for part in found:
            sent.collected.take(part)
        if not sent.collected.complete:
            return
        del self._sent[index]
        self.answered += 1
        try:
            answer = sent.collected.answer(self._searches.context.server_key)
        except UndersealError as error:
            self._searches.fail(sent.item, error)
            return
        spent = replace(sent.spent, compare=time.monotonic() - sent.at)
        self._searches.open(sent.item, answer, sent.probe, spent)

    def _refused(self, item: Item, error: UndersealError) -> None:
        item.attempts += 1
        try:
            if not isinstance(error, Busy):
                raise error
            waited = time.monotonic() - item.begun
            self.pause = max(self.pause, SEARCHING.pause(error, item.attempts, waited))
        except UndersealError as final:
            self._searches.fail(item, final)
        else:
            self.again.append(item)
