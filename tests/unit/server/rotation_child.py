"""Moves the gallery of a data folder to its next key epoch, and dies at the n-th disk operation.

Started once with both bundles and the switching key; for each line ``STEP DATA_FOLDER`` on its
input it forks, and answers with the status of the fork when that has ended.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import structlog

from tests.unit.server.kill_child import die_at
from underseal_core.bundle import load_bundle
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.reencryption import Reencryptor
from underseal_core.switching import load_switching_key
from underseal_server.store.reencryption import Successor
from underseal_server.store.rotations import Move
from underseal_server.store.store import Store


def rotate(data: Path, old: Evaluator, successor: Successor) -> None:
    """What the server does, without the calls that come meanwhile."""
    store = Store(data)
    gallery = store.galleries.get("missing")
    if gallery.spec.pin.key_epoch != successor.move.new_epoch:
        way = store.open_reencryption(store.open_gallery(gallery, old), successor)
        for unit in way.waiting():
            way.convert(unit)
        way.settle()
        store.rotations.finish(gallery, successor.move, store.clock())
    moved = store.galleries.get("missing")
    store.open_gallery(moved, successor.evaluator)
    store.delete_old_files(moved, timedelta(0))
    store.close()


def load(folder: Path) -> tuple[Evaluator, Successor]:
    """Read bundles and switching key."""
    old, new = (load_bundle(folder / name) for name in ("old.usb", "new.usb"))
    key = load_switching_key(folder / "switching.usk")
    successor = Successor(
        Move(key.new_epoch, key.id),
        Reencryptor(key.profile, key.key),
        Evaluator(new.profile, new.dimension, new.keys),
    )
    return Evaluator(old.profile, old.dimension, old.keys), successor


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    old, successor = load(Path(sys.argv[1]))
    for line in sys.stdin:
        steps, _, data = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            die_at(int(steps))
            rotate(Path(data), old, successor)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
