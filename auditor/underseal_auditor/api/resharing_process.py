"""A member of a re-sharing as a process: its new share takes the place of the old one."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Final

from underseal_auditor.api.ceremony_process import (
    BUNDLE_NAME,
    JOURNAL_NAME,
    KEYS_NAME,
    MemberPlace,
)
from underseal_auditor.api.member_process import Finished, Links, MemberProcess
from underseal_auditor.keys.joining import join
from underseal_auditor.keys.member_keys import OwnKeys
from underseal_auditor.keys.resharing import (
    Holding,
    Reshared,
    resharing_member,
    resharing_payload_size,
)
from underseal_auditor.keys.resharing_file import ResharingFile
from underseal_auditor.store.ceremony_journal import CeremonyJournal
from underseal_auditor.store.share_folder import SHARE_NAME, ShareFolder
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials
from underseal_core.durable import erase_file
from underseal_core.errors import Conflict, Damaged, InvalidInput, NotFound
from underseal_core.log_entries import Succession, encode_entry
from underseal_core.roster import load_rosters

_UNFINISHED: Final = "finish it, or end it with `shares abandon` if all members do"


class ResharingProcess:
    """One member's process. ``place.out`` holds bundle, successions and, but for a newcomer, share.

    Parameters
    ----------
    replace
        Whether the re-sharing is meant to replace a member.

    Raises
    ------
    InvalidInput, Mismatch
        Not a member's credentials, not exactly the other members' addresses, or a file that does
        not follow today's roster.
    NotFound
        There is no bundle, or no share of a member who stays.
    Conflict
        A newcomer's folder holds a share, or the folders belong to another re-sharing.
    """

    def __init__(
        self, file: ResharingFile, place: MemberPlace, passphrase: bytes, *, replace: bool
    ) -> None:
        self._file = file
        self._place = place
        self._passphrase = passphrase
        self._credentials = Credentials.load(place.credentials)
        size = partial(resharing_payload_size, file)
        peers = place.peers
        self._process = MemberProcess(file, self._credentials, place.listen, peers, size)
        self.point = self._process.point
        self._folder = ShareFolder(place.out, passphrase)
        path = place.out / BUNDLE_NAME
        self._bundle = load_bundle(path, file.epoch)
        rosters = load_rosters(self._bundle, path, None)
        # A member that goes on after its share is in force has the re-sharing's own succession.
        began = (place.state / JOURNAL_NAME).exists()
        roster = rosters[: file.generation][-1] if began else rosters[-1]
        file.check_follows(self._bundle, roster)
        self.replaced = file.replaced(roster)
        _check_kind(self.replaced, replace=replace)
        if not began:
            self._check_folder()
        self._journal = CeremonyJournal(place.state / JOURNAL_NAME, file, self.point, passphrase)

    async def run(
        self, ready: Callable[[str], None], progress: Callable[[IntEnum], None]
    ) -> Finished:
        """Take part until all members are done; see :meth:`MemberProcess.run`.

        Returns
        -------
        Finished
            Named by the succession's hash.

        Raises
        ------
        Interrupted
            A signal came. What was done is on disk.
        CeremonyFailed
            A check failed: the re-sharing is void, the old shares stay in force.
        """
        return await self._process.run(self._journal, partial(self._work, progress), ready)

    def _work(self, progress: Callable[[IntEnum], None], links: Links) -> str:
        done = self._journal.finished
        if done is not None:
            return done
        keys = OwnKeys.load(self._place.state / KEYS_NAME, self._passphrase)
        identity, folder = self._credentials.identity, self._folder
        holding = Holding(self._bundle, folder.share, folder.keep)
        member = resharing_member(
            self._file, self.point, identity, keys.opening, holding, self._journal
        )
        with member:
            reshared = join(member, self._file, links, self._process.wait, progress)
        return self._install(reshared)

    def _install(self, reshared: Reshared) -> str:
        """Put the new share in force; then delete what only the re-sharing needed."""
        with reshared.share as new:
            generation = new.generation
        self._folder.install(encode_entry(reshared.succession))
        with self._folder.share() as share:
            if share.generation != generation:
                raise Damaged(f"{SHARE_NAME} is not the new share", hint="restore share.next")
        name = Succession.parse(reshared.succession.payload).sha256()
        self._journal.finish(name)
        erase_file(self._place.state / KEYS_NAME)
        return name

    def _check_folder(self) -> None:
        """Check that a member who stays has its share, a newcomer none, and nobody a new one."""
        there = (self._place.out / SHARE_NAME).exists()
        if self._folder.pending:
            raise Conflict("the folder holds the share of an unfinished one", hint=_UNFINISHED)
        if self.point in self.replaced and there:
            raise Conflict(
                "a new member's folder holds a share already", hint="choose another folder"
            )
        if self.point not in self.replaced and not there:
            raise NotFound(
                f"there is no {SHARE_NAME} in the folder",
                hint="name the folder of the ceremony's keys; a lost share's member is replaced",
            )


def _check_kind(replaced: tuple[int, ...], *, replace: bool) -> None:
    """Check that the plan does what is meant: nobody is replaced by mistake."""
    if replaced and not replace:
        raise InvalidInput(
            f"the plan replaces member {', '.join(map(str, replaced))}",
            hint="if that is meant: `shares replace`",
        )
    if replace and not replaced:
        raise InvalidInput("the plan replaces nobody", hint="if that is meant: `shares refresh`")
