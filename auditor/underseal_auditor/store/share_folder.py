"""A member's key share on disk, and how a new generation takes the place of the old one.

    share.sealed        the share in force
    share.next          the one of a re-sharing that is not over: all members must hold theirs first
    share.old           the share that was in force, on its way out
    successions.jsonl   all successions, for guardians, registrar and clients

Whenever the process ends, ``share.sealed`` is one generation or the other, whole. ``share.next`` is
durable before this member signs the succession, and the old share is overwritten only after all
have signed: so there is always a generation of which every member has its share.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys import share_file
from underseal_core.durable import erase_file, replace_file, sync_folder
from underseal_core.errors import Conflict, StorageFull
from underseal_core.roster import FILE_NAME, read_successions

if TYPE_CHECKING:
    from underseal_auditor.keys.sealed_file import Argon2Cost
    from underseal_auditor.keys.share import Share

SHARE_NAME: Final = "share.sealed"
NEXT_NAME: Final = "share.next"
OLD_NAME: Final = "share.old"


class ShareFolder:
    """One member's folder of a key epoch.

    Parameters
    ----------
    passphrase
        Of the share in force, and of the new one.
    cost
        Of sealing the new one; see :func:`underseal_auditor.keys.sealed_file.save_sealed`.
    """

    def __init__(self, folder: Path, passphrase: bytes, cost: Argon2Cost | None = None) -> None:
        self._folder = folder
        self._passphrase = passphrase
        self._cost = cost

    def share(self) -> Share:
        """Open the share in force; errors of :func:`underseal_auditor.keys.share_file.load`."""
        return share_file.load(self._folder / SHARE_NAME, self._passphrase)

    @property
    def pending(self) -> bool:
        """Whether there is a new share that is not in force yet."""
        return (self._folder / NEXT_NAME).exists()

    def keep(self, share: Share) -> None:
        """Put a new share beside the one in force, durable on return; again does nothing.

        Raises
        ------
        Conflict
            There is a new one of another re-sharing.
        StorageFull
            It cannot be written.
        """
        path = self._folder / NEXT_NAME
        if not path.exists():
            share_file.save(path, share, self._passphrase, self._cost)
        with share_file.load(path, self._passphrase) as found:
            if (found.epoch, found.generation) != (share.epoch, share.generation):
                raise Conflict(
                    "a new share of another re-sharing is in the folder",
                    hint="finish that one, or end it with `shares abandon` if all members do",
                )

    def install(self, succession: bytes) -> None:
        """Put the new share in force and overwrite the old one, given the signed succession.

        Goes on where it was interrupted; again does nothing.

        Parameters
        ----------
        succession
            As a log entry, signed by all members: each of them holds its new share.

        Raises
        ------
        StorageFull
            A file cannot be written. Run it again.
        """
        folder = self._folder
        current, new, old = (folder / name for name in (SHARE_NAME, NEXT_NAME, OLD_NAME))
        try:
            if new.exists():
                if current.exists() and not old.exists():
                    old.hardlink_to(current)
                    sync_folder(folder)
                new.replace(current)
                sync_folder(folder)
            self._append(succession)
            erase_file(old)
        except OSError as error:
            raise StorageFull("the new share cannot be put in force") from error

    def abandon(self) -> bool:
        """Overwrite a new share that is not in force; return whether there was one.

        Raises
        ------
        StorageFull
            It cannot be written.
        """
        there = self.pending
        try:
            erase_file(self._folder / NEXT_NAME)
        except OSError as error:
            raise StorageFull("the new share cannot be deleted") from error
        return there

    def _append(self, succession: bytes) -> None:
        path = self._folder / FILE_NAME
        known = read_successions(path) if path.exists() else ()
        if succession not in known:
            replace_file(path, b"".join(entry + b"\n" for entry in (*known, succession)), 0o644)
