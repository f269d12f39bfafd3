"""Units of earlier key epochs, brought to this one from an auditor's own copies.

What a server re-encrypted, no enroller signed. But it was computed, from the unit that one did sign
and from a public switching key, without any randomness: an auditor who kept the unit computes the
same, to the bit, and takes nothing from the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.epochs import BUNDLE_NAME, EarlierEpochs
from underseal_core.errors import Mismatch
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UnitFiles
from underseal_core.provenance import EnrolReceipt

REPLICA_NAME: Final = "replica"


@dataclass(frozen=True, slots=True)
class EarlierUnits:
    """The units that an auditor kept; ``folders``: its replica of each earlier key epoch."""

    bundle: PublicBundle
    epochs: EarlierEpochs
    folders: Mapping[str, Path]

    def unit(self, server: str, gallery: str, unit: Unit, receipt: EnrolReceipt) -> Iterator[bytes]:
        """Yield the ciphertexts of a unit in this key epoch.

        Parameters
        ----------
        receipt
            The enroller's, of an earlier key epoch.

        Raises
        ------
        Mismatch
            This auditor has no copy of the unit that was signed.
        Damaged
            Its copy is damaged.
        """
        epoch = receipt.pin.key_epoch
        folder = self.folders.get(epoch, Path()) / server / gallery / "units"
        if epoch not in self.folders or not folder.is_dir():
            raise _missing()
        files = UnitFiles(folder, self.bundle.profile, self.bundle.dimension)
        if not files.path(unit.token).exists():
            raise _missing()
        signed = replace(unit, sha256=bytes.fromhex(receipt.unit_sha256))
        for ciphertext in self.epochs.reencrypt(epoch, files.ciphertexts(signed)):
            yield ciphertext.to_bytes()


def earlier_units(
    bundle: PublicBundle, epochs: EarlierEpochs, folders: tuple[Path, ...]
) -> EarlierUnits:
    """Return the units below ``replica`` in the folders of the earlier key epochs."""
    known = {load_bundle(folder / BUNDLE_NAME).epoch: folder / REPLICA_NAME for folder in folders}
    return EarlierUnits(bundle, epochs, known)


def _missing() -> Mismatch:
    return Mismatch(
        "this auditor has no copy of a unit from an earlier key epoch",
        hint="put the replica of its data folder of then, or a link to it, as 'replica' into the "
        "folder of the earlier key epoch",
    )
