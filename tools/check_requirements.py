"""Check that ``requirements/*.txt`` still fit ``pyproject.toml``, without the network.

Every direct dependency must be pinned in its file to a version that ``pyproject.toml`` allows,
every pin must carry a hash, and no file may name an index. ``make lock`` writes the files.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "auditor": ("auditor",),
    "build": (),
    "client": ("client",),
    "dev": ("auditor", "client", "postgres", "ray", "s3", "server"),
    "lock": (),
    "server": ("postgres", "s3", "server"),
    "cluster": ("postgres", "ray", "s3", "server"),
}
"""Requirements file -> the extras of ``pyproject.toml`` that it locks."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "build": ("build",),
    "client": ("headless",),
    "dev": ("dev",),
    "lock": ("lock",),
}
"""Requirements file -> the dependency groups that it locks."""


def grouped(groups: Mapping[str, list[str | dict[str, str]]], name: str) -> Iterator[str]:
    """Yield the requirements of a dependency group, with the groups it includes."""
    for item in groups[name]:
        if isinstance(item, str):
            yield item
        else:
            yield from grouped(groups, item["include-group"])


def wanted(pyproject: Mapping[str, object], file: str) -> list[Requirement]:
    """Return the direct requirements that ``requirements/<file>.txt`` must pin."""
    project = pyproject["project"]
    groups = pyproject["dependency-groups"]
    assert isinstance(project, dict) and isinstance(groups, dict)  # noqa: S101 - narrows for mypy
    lines = [] if file in ("build", "lock") else list(project["dependencies"])
    for extra in EXTRAS[file]:
        lines += project["optional-dependencies"][extra]
    for group in GROUPS.get(file, ()):
        lines += grouped(groups, group)
    return [Requirement(line) for line in lines]


def entries(text: str) -> dict[str, tuple[str, bool]]:
    """Return name -> (version, whether it has a hash) of a compiled file."""
    joined = text.replace("\\\n", " ")
    found: dict[str, tuple[str, bool]] = {}
    for line in joined.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match:
            found[str(canonicalize_name(match[1]))] = (str(match[2]), "--hash=sha256:" in line)
    return found


def problems(pyproject: Mapping[str, object], file: str, text: str) -> Iterator[str]:
    """Yield what is wrong with one compiled file."""
    pins = entries(text)
    for requirement in wanted(pyproject, file):
        version, _ = pins.get(str(canonicalize_name(requirement.name)), ("", False))
        if not version:
            yield f"{requirement.name} is not pinned"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name}=={version} does not fit {requirement}"
    yield from (f"{name} has no hash" for name, (_, hashed) in pins.items() if not hashed)
    if re.search(r"^--(extra-)?index-url|://", text, flags=re.MULTILINE):
        yield "it names an index or an address"


def main() -> int:
    """Entry point; returns the exit code."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = False
    for file in EXTRAS:
        text = (ROOT / "requirements" / f"{file}.txt").read_text()
        for problem in problems(pyproject, file, text):
            print(f"error: requirements/{file}.txt: {problem}", file=sys.stderr)
            found = True
    if found:
        print("hint: run `make lock`", file=sys.stderr)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
