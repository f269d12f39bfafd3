"""Take out each defence in turn, and show that the tests of its attack then fail.

``tools/defences.toml`` lists them. In a copy of the tree, with the kernel as it is built here, the
named tests must pass; then, for every defence, its text is replaced, and each of its tests must
fail in its body: an assertion that does not hold, or an attack that is not refused. A test that
fails for want of an import, in its set-up or by some other error shows nothing. Where another line
of defence still stops the attack, ``backstop`` names the error in which it then ends.

    [[defence]]
    id       = "one-answer"
    claim    = "a ciphertext is answered once"
    file     = "auditor/underseal_auditor/store/docket.py"
    remove   = '''text that is in the file once'''
    instead  = '''what takes its place'''
    also     = [{ file = "...", remove = "...", instead = "..." }]    # optional: more places
    tests    = ["tests/adversarial/test_replay.py::test_second_answer"]
    backstop = ["Mismatch", "another refusal"]                        # optional
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LIST: Final = Path("tools/defences.toml")
IMPORT_ROOTS: Final = ("auditor", "client", "core", "proto", "server")
KERNEL: Final = "core/underseal_core/ring/_kernel*.so"
SECONDS: Final = 600.0
"""For the tests of one defence."""

ANOTHER_REFUSAL: Final = "another refusal"
"""The attack was refused, but not in the words of the defence that was taken out."""

OWN_IMPORTS: Final = """\
import sys
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildInplaceFinder"]
"""
"""The copy must not import the tree that is installed in editable form."""


class Stale(Exception):
    """The list does not fit the tree."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One text that is replaced."""

    file: Path
    remove: str
    instead: str

    def applied(self, text: str) -> str:
        """Return ``text`` without the defence.

        Raises
        ------
        Stale
            The text is not there exactly once, or what is left is not Python.
        """
        count = text.count(self.remove)
        if not self.remove or count != 1:
            raise Stale(f"{self.file} holds the text to remove {count} times, not once")
        changed = text.replace(self.remove, self.instead)
        if changed == text:
            raise Stale(f"{self.file} is the same afterwards")
        try:
            compile(changed, str(self.file), "exec")
        except SyntaxError as error:
            raise Stale(f"{self.file} is no Python afterwards: {error}") from error
        return changed


@dataclass(frozen=True, slots=True)
class Defence:
    """One entry of the list."""

    id: str
    claim: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    backstop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended: no ``error`` means that it passed."""

    test: str
    phase: str
    error: str
    text: str

    @property
    def kind(self) -> str:
        """Return ``passed``, ``attack succeeds``, ``another refusal`` or the error's name."""
        if not self.error:
            return "passed"
        if self.phase != "call" or "Timeout" in self.text[:20]:
            return f"{self.error} in {self.phase}"
        if "Regex pattern did not match" in self.text:
            return ANOTHER_REFUSAL
        return "attack succeeds" if self.error in ("AssertionError", "Failed") else self.error


@dataclass(frozen=True, slots=True)
class Finding:
    """What the removal of one defence showed."""

    id: str
    claim: str
    needed: bool
    ends: tuple[str, ...]
    detail: str
    seconds: float


def load(root: Path) -> tuple[Defence, ...]:
    """Read the list.

    Raises
    ------
    Stale
        An entry is not usable, or two have one id.
    """
    entries = tomllib.loads((root / LIST).read_text(encoding="utf-8")).get("defence", [])
    defences = tuple(_defence(entry) for entry in entries)
    ids = [defence.id for defence in defences]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise Stale(f"two defences are called {', '.join(sorted(twice))}")
    return defences


def _defence(entry: dict[str, Any]) -> Defence:
    known = {"id", "claim", "file", "remove", "instead", "also", "tests", "backstop"}
    unknown = entry.keys() - known
    try:
        edits = tuple(
            Edit(Path(e["file"]), e["remove"], e["instead"])
            for e in (entry, *entry.get("also", ()))
        )
        tests, backstop = tuple(entry["tests"]), tuple(entry.get("backstop", ()))
        made = Defence(entry["id"], entry["claim"], edits, tests, backstop)
    except KeyError as error:
        raise Stale(f"an entry lacks {error}: {entry.get('id', entry)}") from error
    if unknown or not made.tests:
        raise Stale(f"{made.id}: names no test, or has fields that mean nothing: {unknown}")
    return made


class Tree:
    """A copy of the tracked files, with the compiled kernel."""

    def __init__(self, source: Path, place: Path) -> None:
        self._place = place / "tree"
        listed = _output(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], source
        )
        kernels = [str(path.relative_to(source)) for path in source.glob(KERNEL)]
        for name in (*listed.split("\0"), *kernels):
            if name and (source / name).is_file():
                target = self._place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, target)
        (place / "site").mkdir()
        (place / "site" / "sitecustomize.py").write_text(OWN_IMPORTS, encoding="utf-8")
        shutil.copy2(Path(__file__).with_name("outcomes.py"), place / "site")
        paths = [place / "site", self._place, *(self._place / name for name in IMPORT_ROOTS)]
        self._env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        self._report = place / "outcomes.jsonl"
        self.complaints = ""

    def check_imports(self) -> None:
        """Check that the copy's own packages are the ones that are imported.

        Raises
        ------
        Stale
            They are not: removals would change nothing.
        """
        for root in IMPORT_ROOTS:
            for package in sorted((self._place / root).glob("underseal_*/__init__.py")):
                name = package.parent.name
                code = f"import {name}; print({name}.__file__)"
                found = _output([sys.executable, "-c", code], self._place, self._env).strip()
                if Path(found) != package:
                    raise Stale(f"{name} would be imported from elsewhere")

    def run(self, tests: Sequence[str], *, pristine: bool = False) -> list[Outcome]:
        """Run tests, and return how each of their cases ended."""
        self._report.write_text("", encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p"]
        command += ["outcomes", f"--outcomes={self._report}", *dict.fromkeys(tests)]
        env = self._env if pristine else {**self._env, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=self._place,
                env=env,
                timeout=None if pristine else SECONDS,
                check=False,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            return [Outcome(test, "call", "TimeoutExpired", "") for test in tests]
        self.complaints = "; ".join(
            line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR")
        )
        lines = self._report.read_text(encoding="utf-8").splitlines()
        return [Outcome(**json.loads(line)) for line in lines]

    @contextmanager
    def without(self, defence: Defence) -> Iterator[None]:
        """Take a defence out, and put it back at the end."""
        saved: dict[Path, str] = {}
        try:
            for edit in defence.edits:
                path = self._place / edit.file
                if not path.is_file():
                    raise Stale(f"{edit.file} is not there")
                text = path.read_text(encoding="utf-8")
                saved.setdefault(path, text)
                path.write_text(edit.applied(text), encoding="utf-8")
                Path(cache_from_source(str(path))).unlink(missing_ok=True)
            yield
        finally:
            for path, text in saved.items():
                path.write_text(text, encoding="utf-8")
                Path(cache_from_source(str(path))).unlink(missing_ok=True)


def _output(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def cases_of(test: str, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return the outcomes of a test, named with or without its parameters."""
    return [o for o in outcomes if o.test == test or o.test.startswith(f"{test}[")]


def judge(defence: Defence, outcomes: Sequence[Outcome], seconds: float) -> Finding:
    """Return whether every test of a defence failed, and only as it should."""
    accepted = {"attack succeeds", *defence.backstop}
    ends: list[str] = []
    wrong = []
    for test in defence.tests:
        cases = cases_of(test, outcomes)
        kinds = {case.kind for case in cases} - {"passed"}
        ends += sorted(kinds)
        if not cases:
            wrong.append(f"{test} did not run")
        elif not kinds:
            wrong.append(f"{test} still passes")
        elif not kinds <= accepted:
            shown = next(case for case in cases if case.kind in kinds - accepted)
            wrong.append(f"{test} shows nothing: {shown.kind}: {shown.text}")
    told = tuple(dict.fromkeys(ends))
    return Finding(defence.id, defence.claim, not wrong, told, "; ".join(wrong), round(seconds, 1))


def remove(defence: Defence, tree: Tree) -> Finding:
    """Take one defence out, run its tests, and put it back."""
    start = time.monotonic()
    try:
        with tree.without(defence):
            outcomes = tree.run(defence.tests)
    except Stale as error:
        return Finding(defence.id, defence.claim, False, (), str(error), 0.0)
    return judge(defence, outcomes, time.monotonic() - start)


def check_baseline(tree: Tree, defences: Sequence[Defence]) -> None:
    """Check that the named tests pass while all defences are there.

    Raises
    ------
    Stale
        One fails, is skipped or does not exist.
    """
    tree.check_imports()
    tests = [test for defence in defences for test in defence.tests]
    outcomes = tree.run(tests, pristine=True)
    if not outcomes:
        raise Stale(f"the tests do not run: {tree.complaints}")
    for test in tests:
        kinds = {case.kind for case in cases_of(test, outcomes)}
        if kinds != {"passed"}:
            raise Stale(f"{test} does not pass with all defences: {kinds or 'it did not run'}")


def examine(root: Path, defences: Sequence[Defence], jobs: int) -> Iterator[Finding]:
    """Yield what each removal showed, in the order of the list."""
    with tempfile.TemporaryDirectory(prefix="defences-") as folder:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(min(jobs, len(defences))):
            place = Path(folder).resolve() / str(number)
            place.mkdir()
            trees.put(Tree(root, place))
        first = trees.get()
        check_baseline(first, defences)
        trees.put(first)

        def one(defence: Defence) -> Finding:
            tree = trees.get()
            try:
                return remove(defence, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as threads:
            yield from threads.map(one, defences)


def row(finding: Finding) -> str:
    """Return a finding's line of the table."""
    state = "needed" if finding.needed else "NOT SHOWN"
    ends = ", ".join(finding.ends)
    line = f"{finding.id:<34} {state:<10} {finding.seconds:>6.1f} s  {ends}"
    return line if finding.needed else f"{line}\n    {finding.detail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every defence is needed, 1 if one is not shown to be, 2 for a stale list."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", metavar="ID", help="this defence only")
    parser.add_argument("--list", action="store_true", help="show the list and stop")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--jobs", type=int, default=1, help="removals at a time")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        defences = [d for d in load(options.root) if not options.only or d.id in options.only]
        if not defences:
            raise Stale("no such defence")
        if options.list:
            print("\n".join(f"{d.id:<34} {d.claim}" for d in defences))
            return 0
        findings = []
        for finding in examine(options.root, defences, max(1, options.jobs)):
            findings.append(finding)
            if not options.json:
                print(row(finding), flush=True)
    except Stale as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(f"{sum(f.needed for f in findings)} of {len(findings)} defences are needed")
    return 0 if all(finding.needed for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
