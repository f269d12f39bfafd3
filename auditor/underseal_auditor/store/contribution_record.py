"""The one contribution that a member ever makes to a switching key between two epochs.

    contribution-OLD-NEW-POINT.usc    SHA-256 of the rotation file, then the contribution

It lies beside the share, wherever the rotation's own folder is, and is written before anybody sees
the contribution. So no rotation, with whatever other members, gets a second one from this share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from underseal_auditor.keys.rotation_file import RotationFile
from underseal_core.durable import create_file
from underseal_core.errors import Conflict, Damaged, InvalidInput, StorageFull
from underseal_core.scheme.ciphertext import Residues
from underseal_core.scheme.fields import FieldReader, pack_residues
from underseal_core.scheme.profiles import Profile


class ContributionRecord:
    """The record of one share for one pair of key epochs.

    Parameters
    ----------
    folder
        Of the old share.
    point
        The share's, in the old epoch.
    profile
        Of both key epochs.
    """

    def __init__(self, folder: Path, file: RotationFile, point: int, profile: Profile) -> None:
        epochs = f"{file.old_epoch[:16]}-{file.new_epoch[:16]}"
        self._path = folder / f"contribution-{epochs}-{point}.usc"
        self._digest = file.digest
        self._profile = profile

    def once(self, make: Callable[[], Residues]) -> Residues:
        """Return the contribution, made now or by an earlier run of the same rotation.

        Raises
        ------
        Conflict
            This share contributed to another rotation between these key epochs.
        Damaged
            The record is not what was written.
        StorageFull
            It cannot be written.
        """
        stored = self._stored()
        if stored is not None:
            return stored
        made = make()
        content = self._digest + pack_residues(self._profile, [made])
        try:
            create_file(self._path, content)
        except FileExistsError:
            raise Conflict("another process contributes with this share just now") from None
        except OSError as error:
            raise StorageFull(f"cannot write {self._path.name}") from error
        return made

    def _stored(self) -> Residues | None:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Damaged(f"cannot read {self._path.name}") from error
        reader = FieldReader(data)
        try:
            digest = reader.take(len(self._digest))
            stored = reader.key_residues(self._profile, (self._profile.fresh_level, 2))
            reader.finish()
        except InvalidInput as error:
            raise Damaged(f"{self._path.name} is damaged") from error
        if digest != self._digest:
            raise Conflict(
                "this share has contributed to a rotation with other members",
                hint="use that rotation's file, or hold a new ceremony and rotate to its keys",
            )
        return stored
