"""Key epochs that this server can compute under: bundles on disk, evaluators in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.durable import replace_file
from underseal_core.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    Mismatch,
    NotFound,
    PermissionRefused,
)
from underseal_core.gallery.disk import disk_errors
from underseal_core.roster import follow, read_successions
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.profiles import Profile, padded_dimension
from underseal_core.statements import Pin
from underseal_core.switching import SwitchingKey, load_switching_key, verify_switching_key

SUFFIX: Final = ".usb"
SWITCHING_SUFFIX: Final = ".usk"


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
        return self.keep(load_bundle(path))

    def keep(self, bundle: PublicBundle) -> EpochInfo:
        """Write a bundle into the folder; raises as :meth:`add`."""
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
        Damaged
            The stored bundle is.
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

    def bundle(self, epoch: str) -> PublicBundle:
        """Return a stored bundle.

        Raises
        ------
        Mismatch
            There is none of this epoch.
        Damaged
            It is not what was added.
        """
        try:
            return load_bundle(self._folder / (epoch + SUFFIX), epoch)
        except NotFound as error:
            raise Mismatch(
                "this server has no bundle of the key epoch",
                hint="the operator adds it with: underseal-server bundle add FILE",
            ) from error
        except (InvalidInput, Damaged, Mismatch) as error:  # nobody's mistake who asks
            raise Damaged(
                f"the server's bundle of the key epoch is damaged: {error.public}",
                hint="the operator deletes it and adds it again",
            ) from error

    def _load(self, epoch: str) -> Evaluator:
        bundle = self.bundle(epoch)
        return Evaluator(bundle.profile, bundle.dimension, bundle.keys, self._threads)


class SwitchingKeys:
    """Switching keys in a folder: at most one from each key epoch, ``OLD-EPOCH.usk``.

    Parameters
    ----------
    folder
        New keys are noticed.
    epochs
        The bundles that a key is checked against.
    """

    def __init__(self, folder: Path, epochs: KeyEpochs) -> None:
        self._folder = folder
        self._epochs = epochs

    def add(self, path: Path, successions: Path | None = None) -> SwitchingKey:
        """Check a key against both bundles and copy it into the folder; again changes nothing.

        Parameters
        ----------
        successions
            Who took over shares of the old epoch, if anybody did.

        Raises
        ------
        NotFound, InvalidInput, Damaged
            The file is missing, not a switching key, or not signed by both epochs' members.
        Mismatch
            A bundle of the two epochs is missing, or they do not follow each other.
        Conflict
            The folder has another key from this epoch.
        """
        key = load_switching_key(path)
        if successions is not None:
            with disk_errors():
                replace_file(self._successions(key), successions.read_bytes())
        self._check(key)
        target = self._folder / (key.old_epoch + SWITCHING_SUFFIX)
        if not target.exists():
            with disk_errors():
                key.save(target)
        elif target.read_bytes() != key.to_bytes():
            raise Conflict("another switching key from this key epoch is stored")
        return key

    def successor(self, epoch: str) -> SwitchingKey | None:
        """Return the key that leads on from an epoch, checked; None when there is none.

        Raises
        ------
        Damaged
            The stored key, a bundle of its or its file of successions is unusable.
        """
        path = self._folder / (epoch + SWITCHING_SUFFIX)
        if not path.exists():
            return None
        try:
            key = load_switching_key(path)
            self._check(key)
        except (NotFound, InvalidInput, Damaged, Mismatch, PermissionRefused) as error:
            raise Damaged(  # nobody's mistake who asks
                f"the server's switching key is unusable: {error.public}",
                hint="the operator removes it and adds it again: underseal-server epoch add FILE",
            ) from error
        return key

    def _check(self, key: SwitchingKey) -> None:
        old, new = self._epochs.bundle(key.old_epoch), self._epochs.bundle(key.new_epoch)
        path = self._successions(key)
        known = read_successions(path) if path.exists() else ()
        verify_switching_key(key, old, new, follow(old, known)[-1])

    def _successions(self, key: SwitchingKey) -> Path:
        return self._folder / (key.old_epoch + ".jsonl")


def _info(path: Path) -> EpochInfo:
    bundle = load_bundle(path, path.stem)
    return EpochInfo(
        bundle.epoch, bundle.profile, bundle.dimension, bundle.threshold, bundle.members
    )
