"""What the operator has to look at: a stored block, a probe, the size of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that the server stored or saw. ``excerpt``: some of its bytes, in hex."""

    what: str
    size: int
    excerpt: str


def server_evidence(data: Path, probe: bytes) -> list[Evidence]:
    """Return what there is in a server's folder, and a probe that it received."""
    files = [path for path in data.rglob("*") if path.is_file()]
    blocks = sorted(path for path in files if path.suffix == ".tiles")
    found = [Evidence("a stored block", p.stat().st_size, _excerpt(p)) for p in blocks[:1]]
    found.append(Evidence("a probe it received", len(probe), probe[8:40].hex(" ", 4)))
    everything = sum(path.stat().st_size for path in files)
    return [*found, Evidence("all its files", everything, "")]


def _excerpt(path: Path) -> str:
    """Return 32 bytes from the middle of a file."""
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        return file.read(32).hex(" ", 4)
