"""Warrants of provisional releases: filed in time, or the release is revoked, in the log.

Revoking needs nobody: it happens when the registrar starts, with every request, and by a timer.
A release that was revoked stays so; its client's purpose is suspended until the warrant is filed
late, or the auditors lift that in a policy.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.logbook import Logbook
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.store.warrants import Provisional, WarrantStore
from underseal_auditor.verify.chain import client_key
from underseal_core.credentials import Peer
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound
from underseal_core.log_entries import Logged, Revocation, WarrantFiled
from underseal_core.oversight import Warrant
from underseal_core.signing import Envelope
from underseal_core.statements import utc_text

_log: Final = structlog.get_logger("underseal.registrar")


@dataclass(frozen=True, slots=True)
class Filed:
    """A warrant in the log; ``late``: the release was revoked before."""

    logged: Logged
    late: bool


class WarrantDesk:
    """Files and revokes. Thread-safe.

    Parameters
    ----------
    keep_head
        Remembers a newer checkpoint of the log, durably.
    clock
        Returns aware times.
    """

    def __init__(
        self,
        store: WarrantStore,
        rulebook: Rulebook,
        logbook: Logbook,
        keep_head: Callable[[bytes], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._rulebook = rulebook
        self._logbook = logbook
        self._keep_head = keep_head
        self._clock = clock
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Revoke what is overdue, and finish what a crash left undone.

        Raises
        ------
        StorageFull, Damaged
            The log cannot be written.
        """
        with self._lock:
            for one in self._store.unlogged():
                self._store.filed(one, self._append(one.filed.entry, again=True).receipt)
            for one in self._store.due(self._clock()):
                self._revoke(one)

    def file(self, peer: Peer, envelope: Envelope) -> Filed:
        """Log a client's warrant for one of its provisional releases.

        Raises
        ------
        PermissionRefused
            Not signed by the client, or not a client of the policy.
        InvalidInput
            Not a warrant for this request.
        NotFound
            No release of this client waits for one.
        Conflict
            Another one was filed.
        """
        key = client_key(self._rulebook.policy.document, peer)
        try:
            warrant = Warrant.open(envelope, key)
        except Damaged as error:
            raise InvalidInput(f"not a warrant: {error.public}") from error
        self.sweep()
        with self._lock:
            one = self._store.find(peer.name, warrant.request_id)
            if one is None:
                raise NotFound("no release of this request needs a warrant")
            if (warrant.client, warrant.request_sha256) != (peer.name, one.request_sha256):
                raise InvalidInput("the warrant is for another request")
            if one.filed.entry:
                raise Conflict("a warrant was filed for this request already")
            return self._file(one, warrant, envelope)

    def _file(self, one: Provisional, warrant: Warrant, envelope: Envelope) -> Filed:
        entry = self._logbook.signed(
            WarrantFiled(
                request_id=one.request_id,
                request_sha256=one.request_sha256,
                client=one.client,
                purpose=one.purpose,
                warrant_sha256=warrant.sha256(),
                at=utc_text(self._clock()),
            )
        )
        self._store.file(one, envelope, entry)
        logged = self._append(entry, again=False)
        self._store.filed(one, logged.receipt)
        _log.info("warrant filed", request=one.request_id)
        return Filed(logged, bool(one.revocation.receipt))

    def _revoke(self, one: Provisional) -> None:
        entry, again = one.revocation.entry, bool(one.revocation.entry)
        if not again:
            entry = self._logbook.signed(
                Revocation(
                    request_id=one.request_id,
                    request_sha256=one.request_sha256,
                    client=one.client,
                    purpose=one.purpose,
                    release_sha256=hashlib.sha256(one.release).hexdigest(),
                    warrant_deadline=one.deadline,
                    at=utc_text(self._clock()),
                )
            )
            self._store.revoke(one, entry)
        self._store.revoked(one, self._append(entry, again=again).receipt)
        _log.warning("release revoked: no warrant", request=one.request_id)

    def _append(self, entry: bytes, *, again: bool) -> Logged:
        """Log an entry; ``again`` looks first whether a crash left it in the log."""
        append = self._logbook.append_once if again else self._logbook.append
        written = append(entry)
        self._keep_head(written.checkpoint)
        return written.logged
