"""Where servers are killed: keys of several epochs, credentials, data folders."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from tests.disk_faults import Disk
from tests.forked_server import NotStarted, ServerProcesses
from tests.gallery_life import GalleryLife, Unanswered
from tests.long_life import LongLife
from tests.server_fixtures import DIMENSION, PROFILE
from tests.server_rotation import CouncilLab, Succession, follow, succession
from underseal_core.errors import Busy, Damaged, StorageFull, UndersealError
from underseal_core.scheme.encryption import Encryptor
from underseal_server.check import Checker
from underseal_server.engine.keys import KeyEpochs, SwitchingKeys
from underseal_server.settings import Settings
from underseal_server.store.store import BUNDLES, SWITCHING_KEYS

EPOCHS = 3
KILLED = -signal.SIGKILL
ERRORS = errno.EIO, errno.ENOSPC


@lru_cache(maxsize=1)
def successions() -> tuple[Succession, ...]:
    """Ways from each key epoch to the next."""
    made = [succession()]
    while len(made) < EPOCHS - 1:
        made.append(follow(made[-1].new))
    return tuple(made)


@lru_cache(maxsize=EPOCHS)
def _encryptor(epoch: int) -> Encryptor:
    return Encryptor(labs()[epoch].bundle.profile, DIMENSION, labs()[epoch].bundle.public_key)


@dataclass(frozen=True)
class EpochLab(CouncilLab):
    """A lab that makes its encryptor once."""

    number: int = 0

    @property
    def encryptor(self) -> Encryptor:
        return _encryptor(self.number)


@lru_cache(maxsize=1)
def labs() -> tuple[EpochLab, ...]:
    """The key epochs, in order."""
    made = [successions()[0].old, *(one.new for one in successions())]
    return tuple(EpochLab(PROFILE, DIMENSION, one, number) for number, one in enumerate(made))


def seed_of(name: str) -> int:
    """The seed of a run, printed so that it can be repeated by ``UNDERSEAL_SEED``."""
    seed = int(os.environ.get("UNDERSEAL_SEED", secrets.randbits(32)))
    print(f"{name}: UNDERSEAL_SEED={seed}")  # noqa: T201  # shown when the test fails
    return seed


Operation = Callable[[LongLife], None]


def attempt(life: LongLife, operation: Operation) -> None:
    """Do it; what the caller is told when it fails is the storage's fault, in plain words."""
    try:
        operation(life)
    except (Unanswered, StorageFull, Busy, Damaged) as error:
        check_told(error.error if isinstance(error, Unanswered) else error)


def check_told(error: UndersealError) -> None:
    """See that it is the server's own word about its storage: not that nobody answers any more."""
    assert "cannot be reached" not in error.public
    assert "the operator" in error.hint


def points(ordinary: int, most: int | None = None) -> int:
    """How many points a run takes: the ordinary number, or ``UNDERSEAL_KILLS`` up to ``most``."""
    wanted = int(os.environ.get("UNDERSEAL_KILLS", ordinary))
    return wanted if most is None else min(wanted, most)


def turns(random: Random, share: int, *, sample: bool = False) -> Iterator[int]:
    """Which call is hit, of one run after the other: the first, the second ...

    One of ``share`` that follow each other; with ``UNDERSEAL_KILLS`` all, unless it is a sample.
    """
    step = 1 if "UNDERSEAL_KILLS" in os.environ and not sample else share
    return itertools.count(random.randint(1, step), step)


@dataclass(frozen=True)
class EpochFiles:
    """What leads to a key epoch."""

    bundle: Path
    key: Path


@dataclass
class Home:
    """One data folder with its server."""

    folder: Path
    credentials: Path
    processes: ServerProcesses
    disk: Disk
    changes: Mapping[str, object] = field(default_factory=dict)
    """Of the settings."""
    moves: Iterator[Succession] = field(default_factory=lambda: iter(successions()))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def settings(self) -> Settings:
        settings = Settings(
            listen="127.0.0.1:0",
            data=self.data,
            credentials=self.credentials / "server",
            bundles=(self.folder / "bundle.usb",),
            threads=1,
            save_seconds=0.05,
            stop_seconds=0.5,
            old_units_seconds=0,
            log_level="WARNING",
        )
        return settings.model_copy(update=dict(self.changes))

    def life(self, random: Random) -> LongLife:
        """Begin a gallery's life here."""
        labs()[0].bundle.save(self.folder / "bundle.usb")
        return LongLife(labs(), self.credentials / "agency", random)

    @contextmanager
    def serving(self, life: GalleryLife) -> Iterator[None]:
        """Run a server that is expected to live until the context is left."""
        with self.surviving(life):
            yield
        assert self.processes.end() == 0, self.processes.log.read_text()

    @contextmanager
    def surviving(self, life: GalleryLife) -> Iterator[None]:
        """Start a server and call it; whoever uses this ends it."""
        port = self.processes.start(self.settings).port
        with life.connected(port):
            yield

    def rotate(self, successions: Path | None = None) -> bool:
        """Add the next key epoch, as ``underseal-server epoch add`` does; False at the last.

        ``successions``: a file of those who took over shares of the one before.
        """
        move = self.next_epoch()
        if move is None:
            return False
        epochs = KeyEpochs(self.data / BUNDLES, 1)
        epochs.add(move.bundle)
        SwitchingKeys(self.data / SWITCHING_KEYS, epochs).add(move.key, successions)
        return True

    def next_epoch(self) -> EpochFiles | None:
        """Return what leads to the next key epoch, as auditors send it."""
        move = next(self.moves, None)
        if move is None:
            return None
        files = EpochFiles(self.folder / "next.usb", self.folder / "next.usk")
        move.new.bundle.save(files.bundle)
        move.key.save(files.key)
        return files

    def check(self) -> None:
        """Look at everything, independently; the server must not run."""
        report = Checker(self.data, lambda: None, deep=True, threads=1).run()
        assert report.problems == []

    def files(self, part: str) -> list[Path]:
        """Return the files of units or blocks."""
        return sorted(path for path in (self.data / part).rglob("*") if path.is_file())


@dataclass
class Place:
    """Makes homes."""

    root: Path
    processes: ServerProcesses
    disk: Disk
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def home(self) -> Home:
        """Return a new one, whose data folder the disk watches."""
        folder = self.root / f"home-{next(self._numbers)}"
        folder.mkdir()
        home = Home(folder, self.root / "credentials", self.processes, self.disk)
        self.disk.watch(home.data)
        return home


__all__ = [
    "EPOCHS",
    "ERRORS",
    "KILLED",
    "Home",
    "NotStarted",
    "Operation",
    "Place",
    "attempt",
    "check_told",
    "labs",
    "points",
    "seed_of",
    "turns",
]
