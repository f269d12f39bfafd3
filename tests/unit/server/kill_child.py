"""Enrols every unit of a work folder, removes the second, and dies at the n-th disk operation.

Started once; for each line of JSON on its input, with ``steps`` and the :class:`Place`, it forks,
and answers with a line of JSON when the fork has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from underseal_core.bundle import load_bundle
from underseal_core.gallery.unit import Shape
from underseal_core.provenance import Enrolled
from underseal_core.scheme.ciphertext import Kind, wire_size
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.signing import Envelope, Identity
from underseal_core.statements import Pin
from underseal_server.store.bucket import Bucket, Location
from underseal_server.store.gallery_store import GalleryStore
from underseal_server.store.places import ObjectStorage
from underseal_server.store.records import GallerySpec, NewTemplate, NewUnit, Receipt
from underseal_server.store.store import Store, utc_now

ENROLLER = Identity.generate()
NOBODY = Envelope("", b"", ())


class Countdown:
    """Kills this process right before and right after operations, at the n-th such point."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.point()
            result = function(*args, **kwargs)
            self.point()
            return result

        return wrapped


def tell(did: str, token: bytes) -> None:
    os.write(TOLD, json.dumps({"did": did, "token": token.hex()}).encode() + b"\n")


def enrol(gallery: GalleryStore, path: Path, evaluator: Evaluator) -> None:
    number, shape_name, count = path.name.split(".")
    shape = Shape(shape_name)
    token = hashlib.sha256(number.encode()).digest()[:16]
    tell("enrolling", token)
    kind = Kind.TEMPLATE_ROW if shape is Shape.ROW else Kind.COLUMN
    size, data = wire_size(evaluator.profile, kind), path.read_bytes()
    templates = tuple(
        NewTemplate(hashlib.sha256(f"{number}/{i}".encode()).digest()[:16], bytes(16), b"label")
        for i in range(int(count))
    )
    with gallery.files.stage(shape) as staged:
        for start in range(0, len(data), size):
            staged.write(data[start : start + size])
        staged.sync()
        draft = NewUnit(token, shape, templates, "agency", staged.sha256, staged.size, NOBODY)
        pin, leaves = gallery.gallery.spec.pin, draft.leaves()
        enrolled = Enrolled("missing", pin, token, shape, leaves, staged.sha256)
        signed = enrolled.receipt("agency", "2026-01-01T00:00:00Z").sign(ENROLLER)
        unit = replace(draft, receipt=signed)
        (receipt,) = gallery.admit([(unit, staged)])
    assert isinstance(receipt, Receipt)
    tell("enrolled", token)
    show_pending(gallery)


def show_pending(gallery: GalleryStore) -> None:
    folding = gallery.folding()
    for unit in gallery.pending():
        folding.add(unit)
    if folding.units:
        gallery.prepare(folding.sums)
        gallery.activate(folding)


def die_at(steps: int) -> None:
    """Kill this process at the n-th sync, rename, deletion, upload or commit; 0: never."""
    countdown = Countdown(steps)
    os.fsync = countdown.around(os.fsync)
    Path.replace = countdown.around(Path.replace)  # type: ignore[method-assign]
    Path.unlink = countdown.around(Path.unlink)  # type: ignore[method-assign]
    for name in ("put", "delete"):
        setattr(Bucket, name, countdown.around(getattr(Bucket, name)))
    sa.event.listen(sa.Engine, "commit", lambda _: countdown.point())


@dataclass(frozen=True)
class Place:
    """Where a store is; ``objects``: a :class:`Location`'s fields, empty for files on the disk."""

    data: str
    catalogue: str = ""
    objects: tuple[str, ...] = ()

    def storage(self) -> ObjectStorage | None:
        return ObjectStorage(Location(*self.objects), 1 << 28) if self.objects else None

    def open(self, now: Callable[[], datetime] = utc_now) -> Store:
        return Store(Path(self.data), now, catalogue=self.catalogue, objects=self.storage())


def work(folder: Path, place: Place, steps: int, pin: Pin, evaluator: Evaluator) -> None:
    die_at(steps)
    store = place.open()
    spec = GallerySpec("missing", pin, "agency", frozenset({"agency"}), 8)
    gallery = store.open_gallery(store.galleries.create(spec, store.clock()), evaluator)
    paths = sorted(folder.glob("[0-9].*"))
    for path in paths[:2]:
        enrol(gallery, path, evaluator)
    gallery.checkpoint()
    token = hashlib.sha256(b"1").digest()[:16]
    stored = store.units.by_token(gallery.gallery, token)
    assert stored is not None
    ids = [hashlib.sha256(f"1/{i}".encode()).digest()[:16] for i in range(6)]
    tell("removing", token)
    gallery.remove(stored, ids, None)
    tell("removed", token)
    enrol(gallery, paths[2], evaluator)
    gallery.checkpoint()
    store.close()


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    folder = Path(sys.argv[1])
    bundle = load_bundle(folder / "bundle.usb")
    pin = Pin(
        model_id="test-model",
        model_dimension=bundle.dimension,
        profile=bundle.profile.name,
        key_epoch=bundle.epoch,
    )
    evaluator = Evaluator(bundle.profile, bundle.dimension, bundle.keys)
    for line in sys.stdin:
        asked = json.loads(line)
        steps = asked.pop("steps")
        os.ftruncate(TOLD, 0)
        os.lseek(TOLD, 0, os.SEEK_SET)
        child = os.fork()
        if child == 0:
            work(folder, Place(**asked), steps, pin, evaluator)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.lseek(TOLD, 0, os.SEEK_SET)
        told = [json.loads(entry) for entry in os.read(TOLD, 1 << 16).splitlines()]
        sys.stdout.write(json.dumps({"told": told, "status": status}) + "\n")
        sys.stdout.flush()


TOLD = os.memfd_create("told")
if __name__ == "__main__":
    main()
