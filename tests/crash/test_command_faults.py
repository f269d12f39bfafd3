"""A call fails, or the program is killed, amid an export, an import or a repair.

The same command again does the rest: nothing is lost, doubled or left over.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.crash.place import ERRORS, KILLED, Home, Place, seed_of, turns
from tests.crash.test_crossings import accounted
from tests.crash.test_faults import begin, leave_some_dead, remove_one
from tests.crash.test_kills import KILLS
from tests.disk_faults import Action
from tests.long_life import LongLife
from underseal_core.gallery.unit import Shape
from underseal_server.check import Checker
from underseal_server.checking.findings import Report
from underseal_server.store.places import IDENTITY

FAULTS = pytest.mark.parametrize("faults", [[Action.FAIL], KILLS], ids=["fails", "killed"])
CLEAR = "Damaged: ", "StorageFull: ", "InvalidInput: cannot use ", "InvalidInput: cannot write "


@dataclass
class Base:
    """A gallery with a past, whose server is down."""

    home: Home
    folder: Path
    life: LongLife
    files: dict[str, bytes]

    def again(self) -> Home:
        """Return the data folder as it was."""
        shutil.rmtree(self.home.data)
        shutil.copytree(self.folder, self.home.data)
        return self.home


@pytest.fixture(scope="module")
def base(place: Place) -> Base:
    home, life = begin(place)
    with home.serving(life):
        remove_one(life)
        life.relabel()
        leave_some_dead(life)
        life.erase()
        leave_some_dead(life)
    assert life.erased
    shutil.copytree(home.data, home.folder / "base")
    return Base(home, home.folder / "base", life, stored(home))


@pytest.fixture(scope="module")
def archive(base: Base) -> Path:
    path = base.home.folder / "archive"
    assert run(base.again(), "gallery", "export", "missing", path) == 0
    return path


def stored(home: Home) -> dict[str, bytes]:
    """Return the files of units and blocks, whatever number their gallery has."""
    found = {}
    for part in ("units", "blocks"):
        for path in home.files(part):
            _, *rest = path.relative_to(home.data / part).parts
            found["/".join([part, *rest])] = path.read_bytes()
    return found


def run(home: Home, *command: object) -> int:
    """Run a command with the server's credentials."""
    own = ["--credentials", home.credentials / "server"] if command[0] == "gallery" else []
    data = ["--data", home.data] if "verify" not in command else []
    return home.processes.run(*command, *data, *own)


def run_badly(home: Home, faults: list[Action], nth: int, random: Random, *command: object) -> int:
    """Run a command on a disk that fails or kills once; what it says of that is clear."""
    home.disk.strike(random.choice(faults), nth, error=random.choice(ERRORS))
    ended = run(home, *command)
    struck = home.disk.struck
    home.disk.heal()
    if ended not in (0, KILLED):
        assert struck
        assert home.processes.said.startswith(CLEAR)
    return struck


def look(home: Home, *, repair: bool = False) -> Report:
    """Check that all that a kill may leave behind is known, and maybe clear it."""
    return Checker(home.data, lambda: None, deep=False, threads=1, repair=repair).run()


@FAULTS
def test_an_import_is_disturbed(
    place: Place, base: Base, archive: Path, faults: list[Action]
) -> None:
    """The gallery is there wholly, or not at all and can be imported."""
    random = Random(seed_of("import"))
    for nth in turns(random, 45, sample=faults is KILLS):
        home = place.home()
        (home.data / "bundles").mkdir(parents=True)
        command = "gallery", "import", archive
        struck = run_badly(home, faults, nth, random, *command)
        if (home.data / IDENTITY).is_file():
            assert look(home).problems == []
        if run(home, *command) != 0:
            assert home.processes.said.startswith("Conflict: there is a gallery missing already")
        assert look(home, repair=True).accounted
        assert stored(home) == base.files
        if not struck:
            break
        shutil.rmtree(home.folder)
    assert nth > 60
    home.changes = {"bundles": ()}
    with home.serving(life := base.life.copy()):
        life.settle()
        life.check_labels()


@FAULTS
def test_an_export_is_disturbed(base: Base, faults: list[Action]) -> None:
    """There is a whole archive, or none, and it can be made."""
    home, random = base.again(), Random(seed_of("export"))
    out = home.folder / f"out-{len(faults)}"
    out.mkdir()
    for part in (home.data, out):
        for nth in turns(random, 16, sample=faults is KILLS):
            home.disk.watch(part)
            path = out / str(nth)
            command = "gallery", "export", "missing", path
            struck = run_badly(home, faults, nth, random, *command)
            assert path.exists() or run(home, *command) == 0
            assert run(home, "gallery", "verify", path) == 0
            path.unlink()
            left = list(out.iterdir())
            assert all(each.name.startswith(f".{nth}.") for each in left)
            assert not left or Action.FAIL not in faults
            for each in left:
                each.unlink()
            if not struck:
                break
        assert nth > 3
    home.check()
    assert stored(home) == base.files
    home.disk.watch(home.data)


def disturb(home: Home) -> None:
    """Leave what nobody needs any more wherever it may be."""
    with closing(sqlite3.connect(home.data / "catalogue.sqlite")) as catalogue, catalogue:
        catalogue.execute("UPDATE templates SET sealed_label = 'x' WHERE removed_version > 0")
        catalogue.execute("UPDATE blocks SET templates = templates + 1")
    (home.data / "units" / "77" / "0123").mkdir(parents=True)
    (home.data / "units" / "77" / "0123" / f"{7:032x}.unit").write_bytes(b"deleted")
    (home.data / "bundles" / ".0.usb.abcd").write_bytes(b"begun")
    folder = home.files("units")[0].parent
    (folder / "77.part").write_bytes(b"begun")
    (folder / f"{7:032x}.unit").write_bytes(b"unknown")


def lose_columns(base: Base, home: Home) -> Sequence[object]:
    """Lose a unit that its block still has."""
    tokens = {t.hex() for t, u in base.life.units.items() if u.shape is Shape.COLUMNS}
    next(path for path in home.files("units") if path.stem in tokens).unlink()
    return ()


def lose_block_and_row(base: Base, home: Home) -> Sequence[object]:
    """Lose a block, and a unit of which there is a copy elsewhere."""
    (block,) = home.files("blocks")
    data = bytearray(block.read_bytes())
    data[-1] ^= 1
    block.write_bytes(data)
    tokens = {t.hex() for t, u in base.life.units.items() if u.shape is Shape.ROW}
    next(path for path in home.files("units") if path.stem in tokens).unlink()
    return "--from", base.folder


@pytest.mark.parametrize("lose", [lose_columns, lose_block_and_row])
@FAULTS
def test_a_repair_is_disturbed(base: Base, faults: list[Action], lose: object) -> None:
    """The next one does what is missing, and nothing else is lost."""
    assert callable(lose)
    random = Random(seed_of("repair"))
    for nth in turns(random, 30, sample=faults is KILLS):
        home = base.again()
        disturb(home)
        command = "check", "--repair", "--deep", *lose(base, home)
        struck = run_badly(home, faults, nth, random, *command)
        assert run(home, *command) == 0
        assert accounted(home)
        assert stored(home) == base.files
        if not struck:
            break
    assert nth > 20
    with home.serving(life := base.life.copy()):
        life.settle()
        life.check_labels()
