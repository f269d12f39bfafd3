"""Units of earlier key epochs, brought to this one by an auditor itself.

What a server re-encrypted, no enroller signed. But it was computed, from the unit that one did sign
and from a public switching key, without any randomness: an auditor computes the same, to the bit,
from the signed unit. It kept that, or gets it from the server, which does for a while, by the hash
in the receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.epochs import BUNDLE_NAME, EarlierEpochs
from underseal_core.errors import Damaged, MalformedCiphertext, Mismatch, NotFound
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UNIT_KINDS, UnitFiles
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Ciphertext, parse_ciphertext

REPLICA_NAME: Final = "replica"


class UnitSource(Protocol):
    """A server, as units are taken from it."""

    def unit(self, gallery: str, token: bytes, epoch: str = "") -> Iterator[bytes]:
        """Return a live unit's ciphertexts, not checked; raises ``NotFound``.

        ``epoch``: one that the gallery has left, for the unit as it was then; empty: as it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class EarlierUnits:
    """The units that an auditor kept; ``folders``: its replica of each earlier key epoch."""

    bundle: PublicBundle
    epochs: EarlierEpochs
    folders: Mapping[str, Path]

    def unit(
        self, source: UnitSource, server: str, unit: Unit, receipt: EnrolReceipt
    ) -> Iterator[bytes]:
        """Yield the ciphertexts of a unit in this key epoch.

        Parameters
        ----------
        source, server
            The server that has it, and its name.
        receipt
            The enroller's, of an earlier key epoch.

        Raises
        ------
        Mismatch
            Neither this auditor nor the server has a copy of the unit that was signed.
        Damaged
            The copy is not what was signed.
        """
        epoch = receipt.pin.key_epoch
        signed = replace(unit, sha256=bytes.fromhex(receipt.unit_sha256))
        parts = self._own(server, receipt, signed) or self._fetched(source, receipt, signed)
        for ciphertext in self.epochs.reencrypt(epoch, parts):
            yield ciphertext.to_bytes()

    def _own(self, server: str, receipt: EnrolReceipt, signed: Unit) -> Iterator[Ciphertext] | None:
        """Return this auditor's copy, if it has one."""
        folder = self.folders.get(receipt.pin.key_epoch)
        units = None if folder is None else folder / server / receipt.gallery / "units"
        if units is None or not units.is_dir():
            return None
        files = UnitFiles(units, self.bundle.profile, self.bundle.dimension)
        return files.ciphertexts(signed) if files.path(signed.token).exists() else None

    def _fetched(
        self, source: UnitSource, receipt: EnrolReceipt, signed: Unit
    ) -> Iterator[Ciphertext]:
        """Yield the server's copy; it ends well only if its hash is the signed one."""
        digest = hashlib.sha256()
        try:
            for data in source.unit(receipt.gallery, signed.token, receipt.pin.key_epoch):
                digest.update(data)
                yield parse_ciphertext(data, self.bundle.profile, UNIT_KINDS[signed.shape])
        except NotFound as error:
            raise _missing() from error
        except MalformedCiphertext as error:
            raise Damaged("the server sent another unit than was enrolled") from error
        if digest.digest() != signed.sha256:
            raise Damaged("the server sent another unit than was enrolled")


def earlier_units(
    bundle: PublicBundle, epochs: EarlierEpochs, folders: tuple[Path, ...]
) -> EarlierUnits:
    """Return the units below ``replica`` in the folders of the earlier key epochs."""
    known = {load_bundle(folder / BUNDLE_NAME).epoch: folder / REPLICA_NAME for folder in folders}
    return EarlierUnits(bundle, epochs, known)


def _missing() -> Mismatch:
    return Mismatch(
        "nobody has a copy of a unit from an earlier key epoch as it was signed",
        hint="put the replica of its data folder of then, or a link to it, as 'replica' into the "
        "folder of the earlier key epoch",
    )
