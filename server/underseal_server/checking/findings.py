"""What a check found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a finding means for the operator."""

    DAMAGE = "damage"
    """Something is lost or contradicts itself."""
    LEFTOVER = "leftover"
    """Something is there that nobody needs any more, or is not finished: a start clears most."""


@dataclass(slots=True)
class Finding:
    """One thing that is not as it should be. ``hint``: what to do, unless it is ``repaired``."""

    kind: Kind
    place: str
    text: str
    hint: str = ""
    repaired: bool = False

    def __str__(self) -> str:
        end = "repaired" if self.repaired else self.hint
        return f"{self.place}: {self.text}" + (f" [{end}]" if end else "")


@dataclass(frozen=True, slots=True)
class GalleryState:
    """A gallery as the check computed it; ``root`` is empty where a block could not be had."""

    name: str
    version: int
    root: str
    templates: int


@dataclass(frozen=True, slots=True)
class Sources:
    """What there is besides the data folder: object storage, PostgreSQL."""

    objects: bool = False
    postgresql: bool = False

    def accounted(self) -> str:
        """Say what is accounted for when nothing was found, and what was not looked at."""
        looked = "every file in the data folder"
        looked += " and every object" if self.objects else ""
        unseen = " (PostgreSQL's free space, log and backups not looked at)"
        return f"{looked} is accounted for, none holds what was removed" + (
            unseen if self.postgresql else ""
        )


@dataclass(slots=True)
class Report:
    """What was looked at, and what was found."""

    sources: Sources = field(default_factory=Sources)
    galleries: list[GalleryState] = field(default_factory=list)
    units: int = 0
    templates: int = 0
    blocks: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """Damage that is not repaired."""
        return [f for f in self.findings if f.kind is Kind.DAMAGE and not f.repaired]

    @property
    def leftovers(self) -> list[Finding]:
        """Leftovers that are still there."""
        return [f for f in self.findings if f.kind is Kind.LEFTOVER and not f.repaired]

    @property
    def accounted(self) -> bool:
        """Whether every file is accounted for, so that none holds what was removed."""
        return not self.problems and not self.leftovers

    def facts(self) -> dict[str, object]:
        """Return it for JSON."""
        repaired = [asdict(finding) for finding in self.findings if finding.repaired]
        return {
            "galleries": [asdict(gallery) for gallery in self.galleries],
            "units": self.units,
            "templates": self.templates,
            "blocks": self.blocks,
            "files": self.files,
            "problems": [asdict(finding) for finding in self.problems],
            "leftovers": [asdict(finding) for finding in self.leftovers],
            "repaired": repaired,
            "accounted": self.accounted,
        }
