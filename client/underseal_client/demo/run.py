"""The demo's story: keys, services, enrolment, searches."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from underseal_client.client import Client
from underseal_client.demo import faces
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.demo.evidence import server_evidence
from underseal_client.faces import FaceEmbedder, open_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from underseal_client.asking import Findings
    from underseal_client.demo.evidence import Evidence
    from underseal_client.faces import Face
    from underseal_client.records import Gallery

GALLERY: Final = "demo"
PURPOSE: Final = "demonstration"
CASE: Final = "DEMO-1"
SYNTHETIC: Final = 20_000
THRESHOLD: Final = "0.45"


@dataclass(frozen=True, slots=True)
class DemoSearch:
    """One search: who should have been released, and who was."""

    probe: str
    expected: tuple[str, ...]
    findings: Findings

    @property
    def released(self) -> list[str]:
        """Names on the release."""
        return [entry.label.name for entry in self.findings.found]

    @property
    def ok(self) -> bool:
        """Exactly the expected people were released."""
        return sorted(set(self.released)) == sorted(self.expected)


@dataclass(slots=True)
class DemoReport:
    """Everything that happened. ``seconds`` by step, in order.

    ``log_entries``: entries of the transparency log, which was verified.
    """

    gallery: Gallery | None = None
    searches: list[DemoSearch] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    log_entries: int = 0

    @property
    def correct(self) -> int:
        """Number of searches with the expected release."""
        return sum(search.ok for search in self.searches)

    def as_json(self) -> dict[str, object]:
        """Return what ``underseal demo --json`` prints."""
        return {
            "gallery": self.gallery.templates if self.gallery else 0,
            "searches": [
                {
                    "probe": search.probe,
                    "expected": list(search.expected),
                    "released": search.released,
                    "ok": search.ok,
                }
                for search in self.searches
            ],
            "correct": self.correct,
            "total": len(self.searches),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def run_demo(folder: Path, photos: Path, say: Callable[[str], None]) -> DemoReport:
    """Run everything in ``folder``, which must be empty; every process has ended on return.

    Parameters
    ----------
    photos
        Folder with the credited photos.
    say
        Told what begins.

    Raises
    ------
    UndersealError
        A step failed.
    """
    report = DemoReport()
    begun = time.monotonic()
    with _timed(report, "model", say, "loading the face model"):
        embedder = FaceEmbedder(open_pack())
        group = faces.all_group_faces(embedder)
    model = embedder.model
    plan = Plan(model.dimension, {model.model_id: THRESHOLD}, (GALLERY,), purpose=PURPOSE)
    with Deployment(folder, plan) as deployment:
        with _timed(report, "ceremony", say, "key ceremony"):
            deployment.make_keys()
        with _timed(report, "start", say, "starting server and auditor"):
            deployment.start()
        with Client(deployment.settings()) as client:
            _enrol(client, photos, group, report, say)
            _search(client, faces.probes(photos, group), report, say)
            report.gallery = client.gallery(GALLERY)
        with _timed(report, "verify_log", say, "verifying the transparency log"):
            report.log_entries = deployment.verify_log().size
        deployment.stop()  # what is on disk then is all there is
        probe = report.searches[0].findings.probe
        report.evidence = server_evidence(deployment.server_data, probe)
    report.seconds["total"] = time.monotonic() - begun
    return report


def _enrol(
    client: Client, photos: Path, group: list[Face], report: DemoReport, say: Callable[[str], None]
) -> None:
    gallery = client.create_gallery(GALLERY)
    dimension = gallery.pin.model_dimension
    with _timed(report, "enrol_synthetic", say, f"enrolling {SYNTHETIC:,} synthetic templates"):
        client.enroll_templates(GALLERY, faces.synthetic_records(SYNTHETIC, dimension))
    with _timed(report, "enrol_photos", say, "enrolling real faces"):
        faces.enrol_people(client, GALLERY, photos, group)


def _search(
    client: Client,
    probes: list[faces.DemoProbe],
    report: DemoReport,
    say: Callable[[str], None],
) -> None:
    for probe in probes:
        with _timed(report, "searches", say, f"searching with {probe.name}"):
            findings = client.search(probe.data, gallery=GALLERY, purpose=PURPOSE, case=CASE)
        report.searches.append(DemoSearch(probe.name, probe.expected, findings))
    parts = [search.findings.timings for search in report.searches]
    for name in ("embed", "encrypt", "compare", "open"):
        mean = sum(getattr(part, name) for part in parts) / len(parts)
        report.seconds[f"mean_{name}"] = mean


@contextmanager
def _timed(report: DemoReport, step: str, say: Callable[[str], None], text: str) -> Iterator[None]:
    say(text)
    begun = time.monotonic()
    yield
    report.seconds[step] = report.seconds.get(step, 0.0) + time.monotonic() - begun
