"""A member of a key ceremony as a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Final

from underseal_auditor.api.member_process import Finished, Links, MemberProcess
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import ceremony_member
from underseal_auditor.keys.ceremony_file import CeremonyFile
from underseal_auditor.keys.joining import join
from underseal_auditor.keys.member_keys import OwnKeys
from underseal_auditor.keys.messages import Round
from underseal_auditor.keys.phases import Outcome, payload_size
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.durable import erase_file
from underseal_core.errors import Conflict, StorageFull

BUNDLE_NAME: Final = "bundle.usb"
SHARE_NAME: Final = "share.sealed"
LABEL_KEY_NAME: Final = "label.sealed"
KEYS_NAME: Final = "member.sealed"
JOURNAL_NAME: Final = "ceremony"


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """Where one member keeps what belongs to a ceremony.

    ``state`` holds its keys and the journal until the ceremony is over; ``out`` gets bundle, share
    and, at the registrar, the label key.
    """

    credentials: Path
    state: Path
    out: Path
    listen: str
    peers: Mapping[int, str]


class CeremonyProcess:
    """One member's process.

    Raises
    ------
    InvalidInput
        Not a member's credentials, or not exactly the other members' addresses.
    Conflict
        Keys are in the way, or the folder belongs to another ceremony.
    """

    def __init__(self, file: CeremonyFile, place: MemberPlace, passphrase: bytes) -> None:
        self._file = file
        self._place = place
        self._passphrase = passphrase
        self._credentials = Credentials.load(place.credentials)
        self._process = MemberProcess(
            file, self._credentials, place.listen, place.peers, partial(payload_size, file)
        )
        self.point = self._process.point
        self._journal = CeremonyJournal(place.state / JOURNAL_NAME, file, self.point, passphrase)
        if self._journal.own(Round.NONCE) is None:
            check_free(place.out)

    async def run(
        self, ready: Callable[[str], None], progress: Callable[[IntEnum], None]
    ) -> Finished:
        """Take part until all members are done; SIGINT and SIGTERM interrupt it.

        Parameters
        ----------
        ready
            Called with the address once this member listens.
        progress
            Called after every round, from another thread.

        Returns
        -------
        Finished
            Named by the key epoch.

        Raises
        ------
        Interrupted
            A signal came. What was done is on disk.
        CeremonyFailed
            A check failed: the ceremony is void for all.
        """
        return await self._process.run(self._journal, partial(self._work, progress), ready)

    def _work(self, progress: Callable[[IntEnum], None], links: Links) -> str:
        epoch = self._journal.finished
        if epoch is not None:
            return epoch
        keys = OwnKeys.load(self._place.state / KEYS_NAME, self._passphrase)
        identity = self._credentials.identity
        member = ceremony_member(self._file, self.point, identity, keys.opening, self._journal)
        with member:
            outcome = join(member, self._file, links, self._process.wait, progress)
        return self._save(outcome, keys)

    def _save(self, outcome: Outcome, keys: OwnKeys) -> str:
        """Write secrets first, then the bundle; then delete what only the ceremony needed."""
        out, epoch = self._place.out, outcome.bundle.epoch
        with outcome.share as share:
            if not (out / SHARE_NAME).exists():
                share_file.save(out / SHARE_NAME, share, self._passphrase)
        share_file.load(out / SHARE_NAME, self._passphrase, epoch).close()
        if keys.label is not None and not (out / LABEL_KEY_NAME).exists():
            path = out / LABEL_KEY_NAME
            share_file.save_label_key(path, keys.label, epoch, self._passphrase)
        outcome.bundle.save(out / BUNDLE_NAME)
        load_bundle(out / BUNDLE_NAME, epoch)
        self._journal.finish(epoch)
        erase_file(self._place.state / KEYS_NAME)
        return epoch


def check_free(out: Path) -> None:
    """Make the folder, and check that no keys are in it.

    Raises
    ------
    Conflict
        There are.
    StorageFull
        It cannot be made.
    """
    taken = [n for n in (BUNDLE_NAME, SHARE_NAME, LABEL_KEY_NAME) if (out / n).exists()]
    if taken:
        raise Conflict(
            f"{out / taken[0]} exists already",
            hint="keys are never overwritten: choose another folder",
        )
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(
            f"cannot write to {out}", hint="choose a folder that you may write to"
        ) from error
