"""The replay: embed, make a gallery of nobody, set up all roles, search for everybody, count."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_client import enrolling
from underseal_client import gallery as galleries
from underseal_client.context import ClientContext, embedder_of
from underseal_client.demo.council import AUDITOR_PROGRAM
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.demo.process import run_program
from underseal_client.enrolling import Unheard
from underseal_client.replay.agreement import agreement
from underseal_client.replay.population import fit_population
from underseal_client.replay.probes import read_groups, read_probes
from underseal_client.replay.report import PUBLISHED, ReplayReport, Thresholds
from underseal_client.replay.rules import TOP_K, Room, check_room, widened
from underseal_client.replay.searching import Clock, search_all
from underseal_client.search import Question, wanted
from underseal_client.units import TemplateRecord
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from underseal_client.faces.embedder import FaceModel
    from underseal_client.records import Gallery
    from underseal_client.replay.population import Real
    from underseal_client.replay.probes import Probe
    from underseal_client.settings import ClientSettings

GALLERY: Final = "replay"
PURPOSE: Final = "replay"
CASE: Final = "REPLAY-2018"
NUMERIC_PROFILE: Final = "guarded"
"""The profile whose keys have room for scores; the others answer yes or no."""
PROFILES: Final = (NUMERIC_PROFILE, "compact")
VALIDITY_MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class Options:
    """What to replay.

    Parameters
    ----------
    probes
        Folder of photos.
    gallery
        Synthetic templates.
    people
        At most so many are searched for.
    default_threshold, policy_threshold
        None takes what is known of the model, see ``PUBLISHED``.
    labels, group
        Table and column of the people's groups, see ``read_groups``.
    seed
        Makes the gallery repeatable; None takes one from the operating system.
    """

    probes: Path
    gallery: int
    people: int
    profile: str = NUMERIC_PROFILE
    default_threshold: float | None = None
    policy_threshold: float | None = None
    labels: Path | None = None
    group: str | None = None
    seed: int | None = None


def run_replay(
    folder: Path, options: Options, settings: ClientSettings, say: Callable[[str], None]
) -> ReplayReport:
    """Run everything in ``folder``, which must be empty; every process has ended on return.

    Parameters
    ----------
    settings
        Whose face model is taken, with its projection.
    say
        Told what begins, and how far it is.

    Raises
    ------
    UndersealError
        A step failed.
    """
    return _Replay(folder, options, settings, say).run()


class _Replay:
    def __init__(
        self, folder: Path, options: Options, settings: ClientSettings, say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._options = options
        self._settings = settings
        self._say = say
        self._clock = Clock()

    def run(self) -> ReplayReport:
        options, clock = self._options, self._clock
        if options.profile not in PROFILES:
            raise InvalidInput(
                f"a replay takes profile {' or '.join(PROFILES)}, not {options.profile}"
            )
        groups = read_groups(options.probes, options.labels, options.group)
        self._say("loading the face model")
        with clock.phase("model"):
            embedder = embedder_of(self._settings)
        thresholds = thresholds_for(embedder.model.model_id, options)
        with clock.phase("embed"):
            probes, left_out = read_probes(
                options.probes, embedder, options.people, groups, self._counting("photos embedded")
            )
        self._say("drawing the gallery")
        with clock.phase("gallery"):
            real = np.stack([probe.template for probe in probes])
            report, templates = self._population(embedder.model, thresholds, real)
        report.left_out = left_out
        with Deployment(self._folder, self._plan(embedder.model, report.asked)) as deployment:
            self._set_up(deployment, report, templates, real)
            self._search(deployment, report, embedder.model, templates, probes)
            self._say("verifying the transparency log")
            with clock.phase("verify_log"):
                report.log_entries = deployment.verify_log().size
        report.seconds = clock.seconds
        return report

    def _counting(self, what: str) -> Callable[[int], None]:
        return lambda done: self._say(f"{done:,} {what}")

    def _plan(self, model: FaceModel, asked: float) -> Plan:
        return Plan(
            model.dimension,
            {model.model_id: f"{asked:.4f}"},
            (GALLERY,),
            profile=self._options.profile,
            purpose=PURPOSE,
        )

    def _population(
        self, model: FaceModel, thresholds: Thresholds, real: Real
    ) -> tuple[ReplayReport, Real]:
        options = self._options
        seed = secrets.randbits(128) if options.seed is None else options.seed
        generator = np.random.default_rng(seed)
        population = fit_population(real, generator)
        templates = population.draw(options.gallery, generator)
        numeric = options.profile == NUMERIC_PROFILE
        lowest = min(thresholds.default, thresholds.policy)
        report = ReplayReport(
            model=model.model_id,
            profile=options.profile,
            synthetic=options.gallery,
            thresholds=thresholds,
            asked=lowest if numeric else thresholds.policy,
            shrinkage=population.shrinkage,
            agreement=agreement(real, templates),
        )
        return report, templates

    def _set_up(
        self, deployment: Deployment, report: ReplayReport, templates: Real, real: Real
    ) -> None:
        self._say("key ceremony, policy")
        with self._clock.phase("ceremony"):
            deployment.hold_ceremony()
            deployment.write_policy()
            room = _room(deployment)
            check_room(real, templates, report.asked, room)
            text = deployment.policy.read_text("utf-8")
            numeric = report.profile == NUMERIC_PROFILE
            policy = widened(text, len(real), room, numeric=numeric)
            deployment.policy.write_text(policy, "utf-8")
            deployment.sign_policy()
        self._say("starting server and auditor")
        with self._clock.phase("start"):
            deployment.start()

    def _search(
        self,
        deployment: Deployment,
        report: ReplayReport,
        model: FaceModel,
        templates: Real,
        probes: Sequence[Probe],
    ) -> None:
        context = ClientContext(deployment.settings(validity_minutes=VALIDITY_MINUTES))
        try:
            self._say(f"enrolling {len(templates):,} synthetic templates")
            with self._clock.phase("enrol"):
                gallery = _enrol(context, model, templates)
            question = Question(PURPOSE, CASE, wanted(TOP_K, None))
            self._say("searching")
            report.searches = search_all(
                context,
                gallery,
                probes,
                question,
                self._clock,
                self._counting(f"of {len(probes):,} people searched for"),
            )
        finally:
            context.close()


def thresholds_for(model_id: str, options: Options) -> Thresholds:
    """Return the thresholds to count at.

    Raises
    ------
    InvalidInput
        One is neither given nor known for the model, or no threshold.
    """
    known = PUBLISHED.get(model_id)
    chosen = []
    for name in ("default", "policy"):
        value = getattr(options, f"{name}_threshold")
        if value is None and known is not None:
            value = getattr(known, name)
        if value is None:
            raise InvalidInput(
                f"nobody has published a {name} threshold of {model_id} here",
                hint=f"give one: --{name}-threshold",
            )
        if not 0.1 <= value < 1:
            raise InvalidInput("a threshold is at least 0.1 and below 1")
        chosen.append(round(float(value), 4))
    return Thresholds(*chosen)


def _room(deployment: Deployment) -> Room:
    """Ask the auditor's program what the keys allow."""
    arguments = ["policy", "check", deployment.policy, "--bundle", deployment.bundle, "--json"]
    facts = json.loads(run_program(AUDITOR_PROGRAM, *arguments))
    return Room(int(facts["budget_limit"]), float(facts["band"]))


def _enrol(context: ClientContext, model: FaceModel, templates: Real) -> Gallery:
    galleries.create(context.connection, GALLERY, context.pin_of(model))
    records = [
        TemplateRecord(f"synthetic_{number:06}", vector, photo="none")
        for number, vector in enumerate(templates)
    ]
    enrolling.enroll_records(context, GALLERY, records, listener=Unheard())
    return galleries.describe(context.connection, GALLERY)
