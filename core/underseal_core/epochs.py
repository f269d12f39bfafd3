"""The key epochs that came before a bundle's, each with the switching key that led on from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.errors import Damaged, InvalidInput, Mismatch
from underseal_core.roster import load_rosters
from underseal_core.scheme.reencryption import Reencryptor
from underseal_core.switching import SwitchingKey, load_switching_key, verify_switching_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from underseal_core.roster import Roster
    from underseal_core.scheme.ciphertext import Ciphertext

BUNDLE_NAME: Final = "bundle.usb"
SWITCHING_NAME: Final = "switching.usk"


@dataclass(frozen=True)
class EarlierEpochs:
    """Verified switching keys, oldest first; the last one leads to the bundle's epoch."""

    keys: tuple[SwitchingKey, ...] = ()
    rosters: tuple[Roster, ...] = ()
    """Who held the shares of the earlier epochs: every generation of each."""

    @property
    def ids(self) -> frozenset[str]:
        """The earlier key epochs."""
        return frozenset(key.old_epoch for key in self.keys)

    def since(self, epoch: str) -> tuple[SwitchingKey, ...]:
        """Return the keys that lead from an earlier epoch to the bundle's, in order.

        Raises
        ------
        Mismatch
            It is none of the earlier epochs.
        """
        for index, key in enumerate(self.keys):
            if key.old_epoch == epoch:
                return self.keys[index:]
        raise Mismatch("a unit is of a key epoch that this auditor knows nothing of")

    def reencrypt(self, epoch: str, ciphertexts: Iterator[Ciphertext]) -> Iterator[Ciphertext]:
        """Bring a unit of an earlier epoch to the bundle's, as a server must: bit for bit."""
        for key in self.since(epoch):
            ciphertexts = Reencryptor(key.profile, key.key).unit(ciphertexts)
        return ciphertexts


def load_earlier(folders: Sequence[Path], bundle: PublicBundle) -> EarlierEpochs:
    """Read the epochs before a bundle's, and check the whole way to it.

    Parameters
    ----------
    folders
        One for each earlier epoch, in any order: ``bundle.usb``, ``switching.usk`` and, where
        shares were dealt anew, the file of successions beside them.

    Raises
    ------
    NotFound, InvalidInput, Damaged, Mismatch, PermissionRefused
        A file is missing or unusable, or a folder is not on the way to the bundle.
    """
    by_target = {}
    for folder in folders:
        key = load_switching_key(folder / SWITCHING_NAME)
        if key.new_epoch in by_target:
            raise InvalidInput("two folders hold switching keys to the same key epoch")
        by_target[key.new_epoch] = folder, key
    keys: list[SwitchingKey] = []
    rosters: list[Roster] = []
    successor = bundle
    while successor.epoch in by_target:
        folder, key = by_target.pop(successor.epoch)
        path = folder / BUNDLE_NAME
        old = load_bundle(path)
        generations = load_rosters(old, path, None)
        verify_switching_key(key, old, successor, generations[-1])
        rosters += generations
        keys.insert(0, key)
        successor = old
    if by_target:
        raise Damaged("a folder of an earlier key epoch does not lead to the bundle's")
    return EarlierEpochs(tuple(keys), tuple(rosters))
