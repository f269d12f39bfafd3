"""Templates into a gallery: stage, send, note the receipt."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final

from underseal_client import wire
from underseal_client.connection import SERVER, retrying, translated
from underseal_client.resume import Staged, gallery_key
from underseal_core.errors import Conflict, Damaged, InvalidInput, Mismatch, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underseal_client.connection import Connection
    from underseal_client.records import Gallery, Receipt
    from underseal_client.resume import ClientState
    from underseal_client.units import Labelled, UnitMaker
    from underseal_core.gallery.unit import Shape

IN_FLIGHT: Final = 4
"""Units on their way at once, as many as a server lets one client send: it expands two rows side
by side, and units that come together share a sync and a version."""

_NEVER: Final = (InvalidInput, NotFound, Mismatch, Conflict)
"""The server will not take this unit, ever. After other errors it stays staged for the next run:
an earlier attempt may have been stored without our hearing of it."""


def send_unit(connection: Connection, state: ClientState, token: bytes) -> Receipt:
    """Send a staged unit and return the server's receipt; repeated safely while it is busy.

    Raises
    ------
    UndersealError
        What the server answered.
    Damaged
        The receipt is not this unit's.
    """

    def call() -> Receipt:
        messages = (wire.enrol_part(part) for part in state.parts(token))
        with translated(SERVER):
            answers = connection.galleries.Enrol(messages, timeout=connection.stream_timeout_s)
            receipts = [wire.receipt_from_wire(answer) for answer in answers]
        if [receipt.token for receipt in receipts] != [token]:
            raise Damaged("the server did not answer with the receipt of what was sent")
        return receipts[0]

    return retrying(call)


class Enrolment:
    """One run of enrolling into a gallery; sends in the background. Not thread-safe.

    Use as a context manager: leaving it waits for what is under way.

    Parameters
    ----------
    on_stored
        Told the number of templates of each receipt, in the order of arrival.
    """

    def __init__(
        self,
        connection: Connection,
        state: ClientState,
        gallery: Gallery,
        maker: UnitMaker,
        on_stored: Callable[[int], None] = lambda templates: None,
    ) -> None:
        self._connection = connection
        self._state = state
        self._key = gallery_key(gallery)
        self._maker = maker
        self._on_stored = on_stored
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="underseal-enrol")
        self._running: set[Future[Receipt]] = set()

    def resume(self) -> int:
        """Send what an earlier run staged but got no receipt for; return how many templates."""
        return sum(self._store(token).templates for token in self._state.staged(self._key))

    def add(self, shape: Shape, templates: Sequence[Labelled]) -> None:
        """Encrypt, stage and send one unit; returns once it is staged and under way.

        Raises
        ------
        UndersealError
            This unit cannot be made, or an earlier one was refused.
        """
        self._reap(IN_FLIGHT - 1)
        token, parts = self._maker.make(shape, templates)
        until = self._maker.keep_until
        staged = [Staged(entry.template_id, entry.record.source, until) for entry in templates]
        self._state.stage(self._key, token, parts, staged)
        self._running.add(self._pool.submit(self._store, token))

    def close(self) -> None:
        """Wait for everything under way.

        Raises
        ------
        UndersealError
            The server refused a unit.
        """
        try:
            self._reap(0)
        finally:
            self._pool.shutdown(wait=True)

    def abandon(self) -> None:
        """Stop; staged units stay for the next run."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _store(self, token: bytes) -> Receipt:
        try:
            receipt = send_unit(self._connection, self._state, token)
        except _NEVER:
            self._state.discard(token)
            raise
        self._state.finish(token)
        return receipt

    def _reap(self, leave: int) -> None:
        """Wait until at most ``leave`` units are under way; collect receipts."""
        while len(self._running) > leave:
            done, self._running = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                self._on_stored(future.result().templates)
