"""Units of earlier key epochs, brought to this one by an auditor itself.

What a server re-encrypted, no enroller signed. But it was computed, from the unit that one did sign
and from a public switching key, without any randomness: an auditor computes the same, to the bit,
from the signed unit. It kept that, or gets it from the server, which does for a while, by the hash
in the receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from underseal_auditor.verify.catalogue import Attested
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.epochs import BUNDLE_NAME, EarlierEpochs
from underseal_core.errors import Damaged, MalformedCiphertext, Mismatch, NotFound
from underseal_core.gallery.files import LocalFiles
from underseal_core.gallery.unit_files import UNIT_KINDS, UnitFiles
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

    def unit(self, source: UnitSource, server: str, attested: Attested) -> Iterator[bytes]:
        """Yield the ciphertexts of a unit in this key epoch.

        Parameters
        ----------
        source, server
            The server that has it, and its name.
        attested
            The unit as it was signed for, in an earlier key epoch.

        Raises
        ------
        Mismatch
            Neither this auditor nor the server has a copy of the unit that was signed.
        Damaged
            The copy is not what was signed.
        """
        parts = self._own(server, attested) or self._fetched(source, attested)
        for ciphertext in self.epochs.reencrypt(attested.epoch, parts):
            yield ciphertext.to_bytes()

    def _own(self, server: str, attested: Attested) -> Iterator[Ciphertext] | None:
        """Return this auditor's copy, if it has one."""
        folder = self.folders.get(attested.epoch)
        units = None if folder is None else folder / server / attested.gallery / "units"
        if units is None or not units.is_dir():
            return None
        files = UnitFiles(LocalFiles(units), self.bundle.profile, self.bundle.dimension)
        signed = attested.unit
        return files.ciphertexts(signed) if files.exists(signed.name) else None

    def _fetched(self, source: UnitSource, attested: Attested) -> Iterator[Ciphertext]:
        """Yield the server's copy; it ends well only if its hash is the signed one."""
        digest, signed = hashlib.sha256(), attested.unit
        try:
            for data in source.unit(attested.gallery, signed.token, attested.epoch):
                one = parse_ciphertext(data, self.bundle.profile, UNIT_KINDS[signed.shape])
                one.hash_plain(digest)
                yield one
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
