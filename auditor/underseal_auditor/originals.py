"""Units of earlier key epochs, re-encrypted by this auditor from what their enrollers signed.

A server that moved a gallery to new keys holds other ciphertexts than were signed. The switching
key leaves it no choice: whoever applies it to the signed unit gets the same bits. So an auditor
takes no re-encrypted unit from a server, but the signed one, and does that for itself. It comes
from the server while that keeps it, or from what this auditor itself copied, and checked, in the
epoch before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from underseal_core.epochs import EarlierEpochs
from underseal_core.errors import Damaged, MalformedCiphertext, Mismatch, NotFound
from underseal_core.gallery.disk import disk_errors
from underseal_core.gallery.unit import Unit
from underseal_core.gallery.unit_files import UNIT_KINDS, UNIT_SUFFIX
from underseal_core.provenance import EnrolReceipt
from underseal_core.scheme.ciphertext import Ciphertext, parse_ciphertext, wire_size


class UnitSource(Protocol):
    """A server, as units are taken from it."""

    def unit(self, gallery: str, token: bytes, epoch: str) -> Iterator[bytes]:
        """Return a live unit's ciphertexts, not checked.

        ``epoch``: one that the gallery has left, for the unit as it was then; empty: as it is.
        Raises ``NotFound``.
        """
        ...


class Originals:
    """Where an auditor gets units from.

    Parameters
    ----------
    earlier
        The key epochs before this auditor's.
    previous
        Folder of this auditor's replica in the epoch before; None for who has none.
    """

    def __init__(self, earlier: EarlierEpochs, previous: Path | None = None) -> None:
        self._earlier = earlier
        self._previous = previous

    def ciphertexts(
        self, source: UnitSource, server: str, unit: Unit, receipt: EnrolReceipt
    ) -> Iterator[bytes]:
        """Yield a unit as it must be under this auditor's keys.

        The caller compares the whole with the catalogue's hash.

        Parameters
        ----------
        server
            The source's name.
        receipt
            The unit's, checked.

        Raises
        ------
        NotFound
            The unit was removed.
        Mismatch
            It was enrolled under an earlier epoch, and nobody has the signed ciphertexts any more.
        Damaged
            They are not the signed ones.
        """
        epoch = receipt.pin.key_epoch
        if epoch not in self._earlier.ids:
            yield from source.unit(receipt.gallery, unit.token, "")
            return
        own = self._own(server, receipt.gallery, unit)
        if own is not None:
            start, parts = self._earlier.keys[-1].old_epoch, own
        else:
            start, parts = epoch, self._signed(source, receipt, unit)
        for ciphertext in self._earlier.reencrypt(start, parts):
            yield ciphertext.to_bytes()

    def _own(self, server: str, gallery: str, unit: Unit) -> Iterator[Ciphertext] | None:
        """Return the unit as this auditor had it in the epoch before, if it did."""
        if self._previous is None:
            return None
        path = self._previous / server / gallery / "units" / (unit.token.hex() + UNIT_SUFFIX)
        if not path.exists():
            return None
        profile, kind = self._earlier.keys[-1].profile, UNIT_KINDS[unit.shape]

        def parts() -> Iterator[Ciphertext]:
            with disk_errors(), path.open("rb") as file:
                while data := file.read(wire_size(profile, kind)):
                    yield _parsed(data, self._earlier, unit)

        return parts()

    def _signed(
        self, source: UnitSource, receipt: EnrolReceipt, unit: Unit
    ) -> Iterator[Ciphertext]:
        """Yield the signed ciphertexts; the end comes only when their hash is the signed one."""
        digest = hashlib.sha256()
        try:
            for data in source.unit(receipt.gallery, unit.token, receipt.pin.key_epoch):
                digest.update(data)
                yield _parsed(data, self._earlier, unit)
        except NotFound as error:
            raise Mismatch(
                "the gallery holds a unit of earlier keys that this auditor has never seen",
                hint="start it with the replica of the epoch before, its own or another auditor's",
            ) from error
        if digest.hexdigest() != receipt.unit_sha256:
            raise Damaged("the server sent another unit than was enrolled")


def _parsed(data: bytes, earlier: EarlierEpochs, unit: Unit) -> Ciphertext:
    try:
        return parse_ciphertext(data, earlier.keys[-1].profile, UNIT_KINDS[unit.shape])
    except MalformedCiphertext as error:
        raise Damaged("a unit of earlier keys is damaged") from error
