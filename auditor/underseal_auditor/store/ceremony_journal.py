"""A ceremony on disk: what a member must not forget when its process ends.

    ceremony.json            the ceremony file that this folder belongs to
    secret.sealed            seed of the member's secret, under the passphrase; deleted once dealt
    dealt                    there is no secret any more
    ROUND-own                this member's message
    ROUND-commitments        all members' commitments, 32 bytes each
    ROUND-reveal-POINT       a member's message: salt, then payload
    finished                 the key epoch: bundle and share are on disk

Every file is written beside its name, synchronised and renamed before it counts. Nothing here but
``secret.sealed`` is secret: dealt shares travel sealed to their recipients.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_auditor.keys.memory import SECRET_SEED_BYTES
from underseal_auditor.keys.messages import SALT_BYTES, Commitment, Reveal, Round
from underseal_auditor.keys.sealed_file import SealedContent, load_sealed, save_sealed
from underseal_core.durable import erase_file, replace_file
from underseal_core.errors import Conflict, Damaged, StorageFull

if TYPE_CHECKING:
    from collections.abc import Sequence
    from enum import IntEnum

    from underseal_auditor.keys.assembly import Assembly

SEED_KIND: Final = "ceremony secret"
_DIGEST_BYTES: Final = 32


class CeremonyJournal:
    """One member's folder of one ceremony: a :class:`underseal_auditor.keys.memory.Memory`.

    Parameters
    ----------
    folder
        Made if it is not there.
    passphrase
        Seals the seed of the secret.

    Raises
    ------
    Conflict
        The folder belongs to another ceremony.
    StorageFull
        It cannot be written.
    """

    def __init__(self, folder: Path, file: Assembly, point: int, passphrase: bytes) -> None:
        self._folder = folder
        self._file = file
        self._point = point
        self._passphrase = passphrase
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFull(f"cannot write to {folder}") from error
        stored = self._read("ceremony.json")
        if stored is None:
            self._write("ceremony.json", file.to_bytes())
        elif stored != file.to_bytes():
            raise Conflict(
                "this folder belongs to another ceremony",
                hint="every ceremony needs a folder of its own",
            )

    def secret_seed(self) -> bytes | None:
        """See :class:`Memory`."""
        path = self._folder / "secret.sealed"
        if self._read("dealt") is not None:
            return None
        if path.exists():
            seed = load_sealed(path, SEED_KIND, self._passphrase).secret
            if len(seed) != SECRET_SEED_BYTES:
                raise Damaged(f"{path.name} does not hold a ceremony's secret")
            return seed
        if self.own(Round.CONTRIBUTION) is not None:
            raise Damaged("the secret of this ceremony is gone", hint="start a new ceremony")
        seed = secrets.token_bytes(SECRET_SEED_BYTES)
        about: dict[str, str | int] = {"ceremony": self._file.digest.hex(), "point": self._point}
        save_sealed(path, SEED_KIND, SealedContent(about, seed), self._passphrase)
        return seed

    def forget_secret(self) -> None:
        """See :class:`Memory`. What the storage device keeps of the file is out of reach."""
        self._write("dealt", b"")
        erase_file(self._folder / "secret.sealed")

    def own(self, round_: IntEnum) -> Reveal | None:
        """See :class:`Memory`."""
        return self._reveal(f"{int(round_)}-own", round_, self._point)

    def commitments(self, round_: IntEnum) -> tuple[Commitment, ...] | None:
        """See :class:`Memory`."""
        data = self._read(f"{int(round_)}-commitments")
        if data is None:
            return None
        if len(data) != _DIGEST_BYTES * len(self._file.signing_keys):
            raise Damaged("the commitments of this ceremony are damaged")
        return tuple(
            Commitment(round_, sender, data[_DIGEST_BYTES * (sender - 1) : _DIGEST_BYTES * sender])
            for sender in range(1, len(self._file.signing_keys) + 1)
        )

    def reveals(self, round_: IntEnum) -> tuple[Reveal, ...] | None:
        """See :class:`Memory`."""
        found = [
            self._reveal(f"{int(round_)}-reveal-{sender}", round_, sender)
            for sender in range(1, len(self._file.signing_keys) + 1)
        ]
        whole = tuple(reveal for reveal in found if reveal is not None)
        return whole if len(whole) == len(found) else None

    def keep_own(self, reveal: Reveal) -> None:
        """See :class:`Memory`."""
        self._write(f"{int(reveal.round)}-own", reveal.salt + reveal.payload)

    def keep_commitments(self, commitments: Sequence[Commitment]) -> None:
        """See :class:`Memory`."""
        data = b"".join(commitment.digest for commitment in commitments)
        self._write(f"{int(commitments[0].round)}-commitments", data)

    def keep_reveals(self, reveals: Sequence[Reveal]) -> None:
        """See :class:`Memory`."""
        for reveal in reveals:
            name = f"{int(reveal.round)}-reveal-{reveal.sender}"
            self._write(name, reveal.salt + reveal.payload)

    def finish(self, epoch: str) -> None:
        """Take note that bundle and share of this key epoch are on disk."""
        self._write("finished", epoch.encode())

    @property
    def finished(self) -> str | None:
        """The key epoch, once its files are on disk."""
        data = self._read("finished")
        return None if data is None else data.decode(errors="replace")

    def _reveal(self, name: str, round_: IntEnum, sender: int) -> Reveal | None:
        data = self._read(name)
        if data is None:
            return None
        if len(data) < SALT_BYTES:
            raise Damaged("a message of this ceremony is damaged")
        return Reveal(round_, sender, data[:SALT_BYTES], data[SALT_BYTES:])

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged("the ceremony's folder cannot be read") from error

    def _write(self, name: str, data: bytes) -> None:
        try:
            replace_file(self._folder / name, data)
        except OSError as error:
            raise StorageFull("the ceremony's folder cannot be written") from error
