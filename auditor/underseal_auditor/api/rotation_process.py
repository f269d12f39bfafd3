"""A participant of a rotation as a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Final

from underseal_auditor.api.member_process import Finished, Links, MemberProcess
from underseal_auditor.keys import share_file
from underseal_auditor.keys.joining import join
from underseal_auditor.keys.rotation import (
    RotationContext,
    rotation_member,
    rotation_payload_size,
)
from underseal_auditor.keys.rotation_file import RotationFile
from underseal_auditor.keys.sampling import SecretStream
from underseal_auditor.keys.share import Share
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.store.contribution_record import ContributionRecord
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.errors import InvalidInput
from underseal_core.roster import load_rosters
from underseal_core.scheme.ciphertext import Residues
from underseal_core.switching import load_switching_key, verify_switching_key

JOURNAL_NAME: Final = "rotation"


@dataclass(frozen=True, slots=True)
class RotationPlace:
    """Where one participant keeps what belongs to a rotation.

    ``state`` holds the journal, ``out`` gets the switching key. A share is given for each of the
    epochs that the participant is in.
    """

    credentials: Path
    old_bundle: Path
    new_bundle: Path
    old_share: Path | None
    new_share: Path | None
    state: Path
    out: Path
    listen: str
    peers: Mapping[int, str]


class RotationProcess:
    """One participant's process.

    Parameters
    ----------
    passphrase, new_passphrase
        Of the old and of the new share.

    Raises
    ------
    InvalidInput
        Not a participant, not exactly its shares, or not exactly the other members' addresses.
    Mismatch
        The rotation file is for other key epochs or members than the bundles.
    Conflict
        The folder belongs to another rotation.
    """

    def __init__(
        self, file: RotationFile, place: RotationPlace, passphrase: bytes, new_passphrase: bytes
    ) -> None:
        self._file = file
        self._place = place
        self._passphrases = {file.old_epoch: passphrase, file.new_epoch: new_passphrase}
        self._credentials = Credentials.load(place.credentials)
        self._old = load_bundle(place.old_bundle, file.old_epoch)
        self._new = load_bundle(place.new_bundle, file.new_epoch)
        self._holders = load_rosters(self._old, place.old_bundle, None)[-1]
        file.check(self._old, self._holders, self._new)
        self._process = MemberProcess(
            file,
            self._credentials,
            place.listen,
            place.peers,
            partial(rotation_payload_size, file, self._new),
        )
        self.participant = self._process.point
        self._check_shares()
        self._journal = CeremonyJournal(
            place.state / JOURNAL_NAME, file, self.participant, passphrase
        )

    def _check_shares(self) -> None:
        wanted = (
            ("--old-share", self._file.old_point(self.participant), self._place.old_share),
            ("--new-share", self._file.new_point(self.participant), self._place.new_share),
        )
        for option, point, path in wanted:
            if (point is None) != (path is None):
                need = "needs no" if point is None else "needs its"
                raise InvalidInput(f"this participant {need} share: {option}")

    async def run(
        self, ready: Callable[[str], None], progress: Callable[[IntEnum], None]
    ) -> Finished:
        """Take part until all are done; SIGINT and SIGTERM interrupt it.

        Parameters
        ----------
        ready
            Called with the address once this participant listens.
        progress
            Called after every round, from another thread.

        Returns
        -------
        Finished
            Named by the switching key's id.

        Raises
        ------
        Interrupted
            A signal came. What was done is on disk.
        CeremonyFailed
            A check failed: nobody may use what was made.
        """
        return await self._process.run(self._journal, partial(self._work, progress), ready)

    def _work(self, progress: Callable[[IntEnum], None], links: Links) -> str:
        finished = self._journal.finished
        if finished is not None:
            return finished
        with ExitStack() as shares:
            context = RotationContext(
                file=self._file,
                participant=self.participant,
                old=self._old,
                new=self._new,
                identity=self._credentials.identity,
                old_share=self._share(shares, self._place.old_share, self._file.old_epoch),
                new_share=self._share(shares, self._place.new_share, self._file.new_epoch),
                generation=self._holders.generation,
                once=self._once,
                stream=SecretStream(),
            )
            member = rotation_member(context, self._journal)
            key = join(member, self._file, links, self._process.wait, progress)
        key.save(self._place.out)
        verify_switching_key(
            load_switching_key(self._place.out), self._old, self._new, self._holders
        )
        self._journal.finish(key.id)
        return key.id

    def _once(self, make: Callable[[], Residues]) -> Residues:
        point = self._file.old_point(self.participant)
        if self._place.old_share is None or point is None:
            raise InvalidInput("only an old member contributes")
        folder = self._place.old_share.parent
        return ContributionRecord(folder, self._file, point, self._new.profile).once(make)

    def _share(self, stack: ExitStack, path: Path | None, epoch: str) -> Share | None:
        if path is None:
            return None
        return stack.enter_context(share_file.load(path, self._passphrases[epoch], epoch))
