"""Zero tests of a submission: its probe, and every unit in its blocks that no test has found sound.

An enroller or a client can hide a multiple of the key in what it encrypts; a search that is
computed again faithfully then shows the key in its scores. So nothing of a result is opened before
the active guardians have opened weighted sums of coefficients that must be empty
(docs/adr/0013-zero-tests.md). A probe is tested each time, a unit once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain as chained
from itertools import groupby
from typing import Final, NamedTuple

import structlog

from underseal_auditor.keys.zero_opening import seed_of
from underseal_auditor.replica import Replica
from underseal_auditor.store.tested import Opened, SoundUnits, Suspect, Trial, unit_digest
from underseal_auditor.verify.chain import Chain
from underseal_core.errors import InvalidInput, PermissionRefused
from underseal_core.gallery.unit import Placement, Shape, Unit, coefficients
from underseal_core.scheme.ciphertext import Ciphertext, Kind, plain_sha256
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.scheme.zero_test import Claim, ZeroTest, beyond, zero_test

_log: Final = structlog.get_logger("underseal.zero")

MAX_UNTESTED: Final = 100_000
"""Units of one test; more than these are tested by the searches that follow."""

PROBE_TEXT: Final = "the probe holds something where it must be empty"
GALLERY_TEXT: Final = "the gallery holds a template that is malformed"

KINDS: Final = {Shape.ROW: Kind.TEMPLATE_ROW, Shape.COLUMNS: Kind.COLUMN}


class Malformed(PermissionRefused):
    """A client or an enroller encrypted something that no honest program does.

    Or a guardian answered with something else than its share: that cannot be told apart.
    """


@dataclass(frozen=True, slots=True)
class ZeroTester:
    """Makes zero tests from an auditor's own replica. Thread-safe."""

    replica: Replica
    evaluator: Evaluator
    record: SoundUnits

    def untested(self, chain: Chain) -> frozenset[bytes]:
        """Return tokens of the units in a result's blocks that were not found sound so far.

        Raises
        ------
        PermissionRefused
            Tests of this client or this gallery failed, or were abandoned, too often.
        """
        self.record.check(_suspects(chain))
        missing = self.record.untested(self._units(chain).values())
        return frozenset(sorted(unit.token for unit in missing)[:MAX_UNTESTED])

    def tests(
        self,
        chain: Chain,
        probe: Ciphertext,
        untested: frozenset[bytes],
        occasion: bytes,
    ) -> tuple[ZeroTest, ...]:
        """Return the test of the probe, and that of the units if there are any.

        Parameters
        ----------
        untested
            What any of the active guardians has not found sound.
        occasion
            See :func:`fresh_occasion`.

        Raises
        ------
        InvalidInput
            One is no unit of the result's blocks.
        """
        units = self._units(chain)
        if not untested <= units.keys():
            raise InvalidInput("a unit to be tested is not in the blocks of the result")
        empty = beyond(self.evaluator.profile, self.evaluator.dimension)
        # An enrolled one has its row's error, and a little more.
        encryptions = 2 if chain.request.probe_template else 1
        claim = Claim(Kind.PROBE_ROW, empty, [probe], encryptions)
        plans: list[tuple[str, Iterable[Claim]]] = [("probe", [claim])]
        if untested:
            chosen = [units[token] for token in sorted(untested)]
            plans.append(("units", self._claims(chain, chosen)))
        return tuple(
            zero_test(self.evaluator, seed_of(occasion, name), claims) for name, claims in plans
        )

    def trials(
        self, chain: Chain, probe: Ciphertext, untested: frozenset[bytes]
    ) -> tuple[Trial, ...]:
        """Return who answers for each of :meth:`tests`: the client, then the gallery.

        A gallery of which nothing is tested shows nothing.
        """
        client, gallery = _suspects(chain)
        request = chain.request
        opened = Opened(
            request.client, request.request_id, chain.request_sha256, chain.result_sha256
        )
        probe_part = frozenset((plain_sha256([probe]),))
        units = self._units(chain)
        parts = frozenset(unit_digest(units[token]) for token in untested)
        ours = (Trial(client, probe_part, opened),)
        return (*ours, Trial(gallery, parts, opened)) if parts else ours

    def begin(self, trials: tuple[Trial, ...]) -> None:
        """Put the tests on record; their first value leaves afterwards.

        Raises
        ------
        PermissionRefused
            Tests of the client or the gallery failed, or were abandoned, too often.
        """
        self.record.begin(trials)

    def conclude(self, chain: Chain, trials: tuple[Trial, ...], passed: tuple[bool, ...]) -> None:
        """Take note of what each of the tests found.

        Raises
        ------
        Malformed
            One of them was not passed.
        """
        found = list(zip(trials, passed, strict=True))
        self.record.conclude(
            passed=[one for one, sound in found if sound],
            failed=[one for one, sound in found if not sound],
        )
        if all(passed):
            return
        what = GALLERY_TEXT if passed[0] else PROBE_TEXT
        _log.error("zero test failed", reason=what, request=chain.request.request_id)
        raise Malformed(
            what, hint="nothing was opened; ask the auditors, whose shares may be at fault, too"
        )

    def complete(self, chain: Chain) -> bool:
        """Tell whether all units in a result's blocks were found sound."""
        return not self.record.untested(self._units(chain).values())

    def _units(self, chain: Chain) -> Mapping[bytes, Unit]:
        blocks = [block.block for block in chain.result.blocks]
        return self.replica.units(chain.result.server, chain.result.snapshot, blocks)

    def _claims(self, chain: Chain, units: Iterable[Unit]) -> Iterator[Claim]:
        """Yield one claim for all units that are empty in the same coefficients."""
        source = (chain.result.server, chain.request.gallery)
        for alike, some in groupby(sorted(units, key=_sort), _alike):
            parts = [self.replica.ciphertexts(*source, unit) for unit in some]
            ciphertexts: Iterator[Ciphertext] = chained.from_iterable(parts)
            held = coefficients(
                Placement(0, 0, alike.step, alike.templates), alike.erased, self._degree
            )
            yield Claim(KINDS[alike.shape], ~held, ciphertexts, alike.encryptions)

    @property
    def _degree(self) -> int:
        return self.evaluator.profile.degree


class _Alike(NamedTuple):
    """What units must have in common to be tested as one claim."""

    shape: Shape
    templates: int
    step: int
    erased: tuple[int, ...]
    encryptions: int


def _alike(unit: Unit) -> _Alike:
    encryptions = 1 if unit.redaction is None else unit.redaction.encryptions
    placement = unit.placement
    return _Alike(unit.shape, placement.count, placement.step, unit.erased, encryptions)


def _sort(unit: Unit) -> tuple[_Alike, bytes]:
    return _alike(unit), unit.token


def _suspects(chain: Chain) -> tuple[Suspect, Suspect]:
    gallery = f"{chain.result.server}/{chain.request.gallery}"
    return Suspect("client", chain.request.client), Suspect("gallery", gallery)
