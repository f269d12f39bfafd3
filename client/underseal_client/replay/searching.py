"""Many searches of one gallery, phase by phase, so that each phase's time is its own.

Each is a request of its own, signed, logged and opened like any other; the server gets many in one
call, and the auditors their answers once all of these are there.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from underseal_client.asking import encrypted, open_answer
from underseal_client.many import OPENING, SUBMISSIONS, ManySearches, Sought
from underseal_client.replay.counting import Searched
from underseal_core.errors import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from underseal_client.asking import Timings
    from underseal_client.context import ClientContext
    from underseal_client.many import Item
    from underseal_client.records import Gallery
    from underseal_client.replay.probes import Probe
    from underseal_client.search import Question, SealedAnswer
    from underseal_core.statements import Release

WAVE: Final = 128
"""People searched for before the answers are opened: about 0.7 MB of ciphertexts for each."""


@dataclass(slots=True)
class Clock:
    """Seconds by phase, in the order in which the phases came first."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what the block takes to a phase."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun


class _Sealed(ManySearches):
    """Searches with probes that are encrypted already, and keeps the answers as they came."""

    def __init__(
        self,
        context: ClientContext,
        gallery: Gallery,
        question: Question,
        probes: Sequence[tuple[bytes, Timings]],
    ) -> None:
        super().__init__(context, gallery, question.wanted, question.targets)
        self._asked = question
        self._probes = probes
        self._sealed: dict[int, SealedAnswer] = {}

    def question(self, item: Item) -> Question:
        return self._asked

    def probe(self, item: Item) -> tuple[bytes, Timings]:
        return self._probes[item.index]

    def open(self, item: Item, answer: SealedAnswer, probe: bytes, spent: Timings) -> None:
        self._sealed[item.index] = answer

    def all(self) -> list[SealedAnswer]:
        """Return the answers, in the order of the probes."""
        question = self._asked
        sought = [
            Sought(probe, question.purpose, question.case_reference) for probe, _ in self._probes
        ]
        for failed in self.answers(sought):  # what succeeds is kept, and yields nothing
            raise failed.error or Damaged("a search was answered and not kept")
        return [self._sealed[index] for index in range(len(sought))]


def search_all(
    context: ClientContext,
    gallery: Gallery,
    probes: Sequence[Probe],
    question: Question,
    clock: Clock,
    progress: Callable[[int], None],
) -> list[Searched]:
    """Search for everybody; return what was released of each, in their order.

    Parameters
    ----------
    clock
        Gets the phases ``encrypt``, ``server`` (to sealed and signed results) and ``open``.
    progress
        Told how many searches are over.

    Raises
    ------
    UndersealError
        A search failed or was refused; the others' releases stay in the auditors' log.
    """
    searched: list[Searched] = []
    for start in range(0, len(probes), WAVE):
        wave = probes[start : start + WAVE]
        with clock.phase("encrypt"):
            ready = [encrypted(context, probe.template, gallery) for probe in wave]
        with clock.phase("server"):
            answers = _Sealed(context, gallery, question, ready).all()
        with clock.phase("open"), ThreadPoolExecutor(SUBMISSIONS) as threads:
            opening = [
                threads.submit(open_answer, context, gallery, answer, probe, spent, OPENING)
                for answer, (probe, spent) in zip(answers, ready, strict=True)
            ]
            for probe, opened in zip(wave, opening, strict=True):
                release = opened.result().release
                searched.append(what_was_released(probe, release, question.wanted.top_k))
                progress(len(searched))
    return searched


def what_was_released(probe: Probe, release: Release, top_k: int) -> Searched:
    """Return the scores on a release; a match without a score has at least the threshold."""
    threshold = float(release.threshold)
    scores = tuple(float(match.score) if match.score else threshold for match in release.matches)
    cut, charged = len(scores) >= top_k, release.values_charged
    return Searched(probe.person, probe.group, scores, cut, charged)
