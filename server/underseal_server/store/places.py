"""Which files belong to a catalogue: those of a data folder, or of a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_core.durable import replace_file
from underseal_core.errors import InvalidInput
from underseal_core.gallery.disk import disk_errors
from underseal_server.store.bucket import Bucket, Location
from underseal_server.store.cache import Cache
from underseal_server.store.folders import LocalPlaces, Places
from underseal_server.store.objects import Objects

IDENTITY: Final = "catalogue.id"
CACHE: Final = "cache"


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """Object storage instead of the data folder.

    ``cache_bytes``: of local copies. ``copies``: whether these are read in place of objects.
    """

    location: Location
    cache_bytes: int
    copies: bool = True


def open_places(
    folder: Path, identity: str, objects: ObjectStorage | None, *, fresh: bool
) -> Places:
    """Open the files of a catalogue, once they are known to be its own.

    Parameters
    ----------
    folder
        The data folder.
    identity
        Of the catalogue.
    objects
        Where the files are; ``None``: in the folder.
    fresh
        Whether the catalogue has no galleries yet.

    Raises
    ------
    InvalidInput
        Folder or bucket are another catalogue's: with this one, every file would be swept.
    Busy
        The object storage cannot be reached.
    """
    with disk_errors():
        _claim(folder / IDENTITY, identity, fresh=fresh or objects is not None)
    if objects is None:
        return LocalPlaces(folder)
    bucket = Bucket(objects.location)
    bucket.claim(identity, fresh=fresh)
    cache = Cache(folder / CACHE, objects.cache_bytes)
    return Objects(folder, bucket, cache, copies=objects.copies)


def _claim(path: Path, identity: str, *, fresh: bool) -> None:
    found = path.read_text(encoding="ascii", errors="replace") if path.exists() else None
    if found is None and not fresh:
        raise InvalidInput(
            "the data folder has no files of this catalogue", hint="is the setting data right?"
        )
    if found is None:
        replace_file(path, identity.encode())
    elif found != identity:
        raise InvalidInput(
            "the files in the data folder belong to another catalogue",
            hint="restore that one, or set catalogue to it; an empty folder takes a new one",
        )
