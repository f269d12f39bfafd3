"""Key epochs that this server can compute under: bundles on disk, evaluators in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_core.bundle import load_bundle
from underseal_core.errors import Conflict, Mismatch, NotFound
from underseal_core.gallery.disk import disk_errors
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import Profile, padded_dimension
from underseal_core.statements import Pin

SUFFIX: Final = ".usb"


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """What a bundle is for. ``members``: the auditors' Ed25519 keys."""

    epoch: str
    profile: Profile
    dimension: int
    threshold: int
    members: tuple[bytes, ...]


class KeyEpochs:
    """Bundles in a folder, one file per key epoch, and an evaluator for each in use.

    Parameters
    ----------
    folder
        Holds ``EPOCH.usb`` files; new ones are noticed.
    threads
        Threads per computation.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._lock = threading.Lock()
        self._evaluators: dict[str, Evaluator] = {}

    def close(self) -> None:
        """End the evaluators' threads."""
        with self._lock:
            for evaluator in self._evaluators.values():
                evaluator.close()
            self._evaluators.clear()

    def add(self, path: Path) -> EpochInfo:
        """Copy a bundle into the folder; the same one again changes nothing.

        Raises
        ------
        NotFound, InvalidInput, Damaged
            The file is missing, not a bundle, or not signed by its members.
        Conflict
            The folder has other bytes under this epoch: somebody changed them.
        """
        bundle = load_bundle(path)
        target = self._folder / (bundle.epoch + SUFFIX)
        if not target.exists():
            with disk_errors():
                bundle.save(target)
        elif target.read_bytes() != bundle.to_bytes():
            raise Conflict("another bundle is stored under this key epoch")
        return _info(target)

    def infos(self) -> Iterator[EpochInfo]:
        """Yield the stored bundles, in order of their epochs."""
        for path in sorted(self._folder.glob("*" + SUFFIX)):
            yield _info(path)

    def evaluator(self, pin: Pin) -> Evaluator:
        """Return the evaluator that a gallery's pin asks for.

        Raises
        ------
        Mismatch
            There is no bundle of its key epoch, or profile or dimension differ from the bundle's.
        InvalidInput, Damaged
            The stored bundle is unusable.
        """
        with self._lock:
            evaluator = self._evaluators.get(pin.key_epoch)
            if evaluator is None:
                evaluator = self._load(pin.key_epoch)
                self._evaluators[pin.key_epoch] = evaluator
        if evaluator.profile.name != pin.profile:
            raise Mismatch(f"the key epoch's profile is {evaluator.profile.name}")
        if evaluator.dimension != padded_dimension(pin.model_dimension):
            raise Mismatch(f"the key epoch's dimension is {evaluator.dimension}")
        return evaluator

    def _load(self, epoch: str) -> Evaluator:
        try:
            bundle = load_bundle(self._folder / (epoch + SUFFIX), epoch)
        except NotFound as error:
            raise Mismatch(
                "this server has no bundle of the key epoch",
                hint="the operator adds it with: underseal-server bundle add FILE",
            ) from error
        return Evaluator(bundle.profile, bundle.dimension, bundle.keys, self._threads)


def _info(path: Path) -> EpochInfo:
    bundle = load_bundle(path, path.stem)
    return EpochInfo(
        bundle.epoch, bundle.profile, bundle.dimension, bundle.threshold, bundle.members
    )
