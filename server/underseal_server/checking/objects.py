"""Every object of a catalogue is accounted for, as every file of the data folder is.

Objects of present key epochs are read by ``gallery`` and looked at by ``files``; here it is about
all others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Final

from underseal_core.errors import Busy
from underseal_server.checking.epochs import (
    DELETED,
    NAMELESS,
    REMOVED,
    UNIT,
    Epochs,
    live_files,
)
from underseal_server.checking.run import Run
from underseal_server.store.bucket import MARK
from underseal_server.store.objects import Objects
from underseal_server.store.records import Gallery

_KEY: Final = re.compile(r"(?P<part>units|blocks)/(?P<gallery>[0-9]+)/(?P<epoch>[0-9a-f]{16})/.+")
_STRANGE: Final = "it is none of the server's: look at it, and delete it there"


class ObjectsCheck:
    """Goes through all keys under the prefix, some hundreds at a time."""

    def __init__(self, run: Run, objects: Objects) -> None:
        self._run = run
        self._objects = objects
        self._known: dict[str, tuple[Gallery, Epochs]] = {}
        self._strays: dict[tuple[str, str], list[str]] = defaultdict(list)
        """Keys by what is said of them together: the place and the reason."""

    def add(self, gallery: Gallery, epochs: Epochs) -> None:
        """Take note of a gallery, before :meth:`look`."""
        self._known[str(gallery.id)] = gallery, epochs

    def look(self) -> None:
        """Check all keys; what should not be there is deleted at the end, if that is wanted."""
        for keys in self._objects.bucket.pages():
            folders: dict[str, list[str]] = defaultdict(list)
            for key in keys:
                folders[key.rpartition("/")[0]].append(key)
            for found in folders.values():
                self._look_at(found)
        for (place, text), keys in self._strays.items():
            self._run.leftover(f"object storage: {place}", text, partial(self._clear, keys))

    def _look_at(self, keys: Sequence[str]) -> None:
        """Check keys of one folder."""
        found = _KEY.fullmatch(keys[0])
        if found is None or keys[0].count("/") != 3:
            self._run.report.files += len(keys)
            for key in keys:
                if key != MARK:
                    self._run.leftover(f"object storage: {key}", NAMELESS, None, _STRANGE)
            return
        known = self._known.get(found["gallery"])
        if known is None:
            self._strays[f"{found['part']}/{found['gallery']}", DELETED] += keys
        elif found["epoch"] != known[1].now:
            self._other_epoch(known, found["part"], found["epoch"], keys)

    def _other_epoch(
        self, known: tuple[Gallery, Epochs], part: str, epoch: str, keys: Sequence[str]
    ) -> None:
        gallery, epochs = known
        self._run.report.files += len(keys)
        folder = keys[0].rpartition("/")[0]
        if why := epochs.stray(part, epoch):
            self._strays[folder, why] += keys
        elif epoch in epochs.kept:
            names = [key.removeprefix(folder + "/") for key in keys]
            live = live_files(self._run, gallery, names)
            for key, name in zip(keys, names, strict=True):
                if not UNIT.fullmatch(name):
                    self._run.leftover(f"object storage: {key}", NAMELESS, None, _STRANGE)
                elif name not in live:
                    self._strays[key, REMOVED].append(key)

    def _clear(self, keys: Sequence[str]) -> None:
        if not self._objects.delete(keys):
            raise Busy("the object storage has not deleted them")
