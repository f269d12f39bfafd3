"""What the demo of k of n guardians tells: steps, the searches in them, what came of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from underseal_client.asking import Findings, StoredRelease
    from underseal_client.demo.evidence import Evidence
    from underseal_core.errors import UndersealError


@dataclass(frozen=True, slots=True)
class Attempt:
    """One search: what should come of it, and what came of it.

    Parameters
    ----------
    expected
        Who should be released; or the class of error that should keep everything sealed.
    answer
        The release, of a search or of one that had to wait; None if there is none.
    signed_by
        Points of the guardians whose signatures the release carries.
    """

    probe: str
    expected: tuple[str, ...] | type[UndersealError]
    answer: Findings | StoredRelease | None = None
    refusal: UndersealError | None = None
    signed_by: tuple[int, ...] = ()

    @property
    def released(self) -> tuple[str, ...]:
        """Names on the release."""
        found = self.answer.found if self.answer else ()
        return tuple(entry.label.name for entry in found)

    @property
    def approvers(self) -> tuple[str, ...]:
        """Names of the persons who approved, from the release."""
        return self.answer.release.approvers if self.answer else ()

    @property
    def ok(self) -> bool:
        """Exactly the expected people were released, or the expected error refused it."""
        if isinstance(self.expected, tuple):
            return self.refusal is None and sorted(set(self.released)) == sorted(self.expected)
        return isinstance(self.refusal, self.expected)

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        outcome: dict[str, object] = {"released": list(self.released)}
        if self.refusal is not None:
            outcome = {"error": self.refusal.public, "hint": self.refusal.hint}
        people = {"signed_by": list(self.signed_by), "approved_by": list(self.approvers)}
        return {"probe": self.probe, **outcome, **people, "ok": self.ok}


@dataclass(slots=True)
class Step:
    """One step of the story.

    ``facts`` are what it brought to light besides searches.
    """

    name: str
    title: str
    text: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        searches = [attempt.as_json() for attempt in self.attempts]
        return {
            "step": self.name,
            "title": self.title,
            "seconds": round(self.seconds, 3),
            **({"searches": searches} if searches else {}),
            **self.facts,
        }


class Teller(Protocol):
    """Hears the story while it happens."""

    def begins(self, text: str) -> None:
        """Something begins that may take a while."""

    def ended(self, step: Step) -> None:
        """A step is over."""


@dataclass(slots=True)
class OversightReport:
    """Everything that happened."""

    guardians: int
    threshold: int
    steps: list[Step] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def attempts(self) -> list[Attempt]:
        """All searches."""
        return [attempt for step in self.steps for attempt in step.attempts]

    @property
    def ok(self) -> bool:
        """Every search came out as expected."""
        return all(attempt.ok for attempt in self.attempts)

    def as_json(self) -> dict[str, object]:
        """Return what ``underseal demo --guardians N --json`` prints."""
        return {
            "guardians": self.guardians,
            "threshold": self.threshold,
            "steps": [step.as_json() for step in self.steps],
            "correct": sum(attempt.ok for attempt in self.attempts),
            "total": len(self.attempts),
            "seconds": round(self.seconds, 3),
        }
