"""Data folders whose units and bundles an earlier version of this program wrote in another form.

Bundles are in every data folder that holds a gallery, also where the catalogue or the units are
elsewhere, so their first bytes tell. This is looked at before the catalogue is migrated: the
earlier version must still be able to read what it is to export.
"""

from __future__ import annotations

from pathlib import Path

from underseal_core.bundle import PLAIN_MAGIC
from underseal_core.errors import InvalidInput
from underseal_core.gallery.disk import disk_errors


def refuse_earlier(bundles: Path) -> None:
    """Refuse a data folder of an earlier form, which stays as it is.

    Parameters
    ----------
    bundles
        Its folder of bundles.

    Raises
    ------
    InvalidInput
        One of them is of the earlier form.
    StorageFull, Damaged
        One cannot be read.
    """
    with disk_errors():
        for path in sorted(bundles.glob("*.usb")):
            with path.open("rb") as file:
                magic = file.read(len(PLAIN_MAGIC))
            if magic == PLAIN_MAGIC:
                raise InvalidInput(
                    "the data folder is of an earlier version of this server, which stored keys "
                    "and ciphertexts in another form; nothing in it was changed",
                    hint="export its galleries with that version, and import the archives into "
                    "a new folder with this one: docs/howto/upgrade.md",
                )
