"""The demo's second story: k of n guardians, one down, too few, a refusal, a verified log."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from underseal_client.client import Client
from underseal_client.demo import faces
from underseal_client.demo.deployment import Deployment, Plan
from underseal_client.demo.evidence import server_evidence
from underseal_client.demo.run import CASE, GALLERY, PURPOSE, THRESHOLD
from underseal_client.demo.story import Attempt, OversightReport, Step
from underseal_client.demo.tampering import empty_blocks
from underseal_client.faces import FaceEmbedder, open_pack
from underseal_core.bundle import load_bundle
from underseal_core.errors import (
    Busy,
    Damaged,
    PermissionRefused,
    UndersealError,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from underseal_client.asking import Findings, StoredRelease
    from underseal_client.demo.story import Teller
    from underseal_client.faces import Face

SYNTHETIC: Final = 5_000
APPROVED_PURPOSE: Final = "detention"
OTHER_PURPOSE: Final = "marketing"


class OversightDemo:
    """A deployment of k of n guardians, and what happens in it.

    Parameters
    ----------
    folder
        Empty; everything is written below it.
    photos
        Folder with the credited photos.
    guardians, threshold
        How many hold a share of the key, and how many of them open a score.
    teller
        Hears what happens.
    """

    def __init__(
        self, folder: Path, photos: Path, guardians: int, threshold: int, teller: Teller
    ) -> None:
        self._folder = folder
        self._photos = photos
        self._teller = teller
        self._report = OversightReport(guardians, threshold)
        self._probe = b""

    def run(self) -> OversightReport:
        """Run everything; every process has ended on return.

        Raises
        ------
        UndersealError
            A step failed.
        """
        begun = time.monotonic()
        self._teller.begins("loading the face model")
        embedder = FaceEmbedder(open_pack())
        group = faces.all_group_faces(embedder)
        model, report = embedder.model, self._report
        plan = Plan(
            model.dimension,
            {model.model_id: THRESHOLD},
            (GALLERY,),
            purpose=PURPOSE,
            approved_purpose=APPROVED_PURPOSE,
            guardians=report.guardians,
            threshold=report.threshold,
        )
        with Deployment(self._folder, plan) as deployment:
            self._set_up(deployment)
            with Client(deployment.settings()) as client:
                self._play(deployment, client, group)
            self._check_log(deployment)
        report.seconds = time.monotonic() - begun
        return report

    def _set_up(self, deployment: Deployment) -> None:
        report = self._report
        with self._step("keys", "The guardians make the keys", "key ceremony") as step:
            deployment.hold_ceremony()
            step.facts["fingerprint"] = deployment.fingerprint
            step.text = (
                f"{report.guardians} processes, no dealer. Each keeps one share. "
                f"Any {report.threshold} of them open a score, fewer open nothing."
            )
        with self._step("policy", "They sign the policy", "signing the policy") as step:
            deployment.write_policy()
            signers = [name.replace("-", " ") for name in deployment.sign_policy()]
            step.facts["signed_by"] = signers
            step.text = (
                f"Purpose {PURPOSE!r} may search gallery {GALLERY!r}; a match is released from "
                f"{THRESHOLD} on. Signed by {_listed(signers)}: it takes {report.threshold}."
            )
        with self._step("start", "Server, registrar and guardians start", "starting") as step:
            deployment.start()
            step.facts["services"] = _addresses(deployment)
            step.text = "Each a process with its own certificate; mutual TLS between all of them."

    def _play(self, deployment: Deployment, client: Client, group: list[Face]) -> None:
        self._enrol(client, group)
        probes = {probe.name: probe for probe in faces.probes(self._photos, group)}
        known, other, copy, stranger = probes.values()
        ask = _Asking(client, load_bundle(deployment.bundle).members)
        with self._step("search", "All guardians are there") as step:
            step.attempts += [ask.person(known), ask.person(stranger)]
            self._probe = ask.sent
        absent = self._lose_spares(deployment, ask, other)
        last = absent[-1]
        with self._step("too_few", f"{_guardians([last])} is killed: too few") as step:
            deployment.kill_guardian(last)
            step.attempts.append(ask.refused(copy, Busy))
            left = self._report.threshold - 1 or "None"
            step.text = f"{left} of {self._report.guardians} left. The scores stay sealed."
        with self._step("back", f"{_guardians([last])} comes back") as step:
            deployment.restart_guardian(last)
            step.text = "The same search again, encrypted anew."
            step.attempts.append(ask.person(copy))
        self._wait_for_a_person(deployment, ask, other)
        title = "A purpose that the policy does not know"
        with self._step("refused", title) as step:
            step.text = f"The same client asks for {OTHER_PURPOSE!r}."
            step.attempts.append(ask.refused(known, PermissionRefused, OTHER_PURPOSE))
        self._tamper(deployment, ask, known)

    def _tamper(self, deployment: Deployment, ask: _Asking, probe: faces.DemoProbe) -> None:
        def cheat(data: Path) -> None:
            self._report.evidence = server_evidence(data, self._probe)
            empty_blocks(data)

        with self._step("tampered", "The operator takes everybody out, unseen") as step:
            deployment.restart_server(cheat)
            step.text = (
                "Emptied blocks with checksums that fit: every search would end with 'no match'. "
                "But the guardians fold the signed enrolments themselves, and compute it all again."
            )
            step.attempts.append(ask.refused(probe, Damaged))

    def _wait_for_a_person(
        self, deployment: Deployment, ask: _Asking, probe: faces.DemoProbe
    ) -> None:
        title = "A purpose that needs a person's approval"
        with self._step("waiting", title) as step:
            step.text = f"The client asks for {APPROVED_PURPOSE!r}."
            step.text += " Nothing is opened before a person signs."
            step.attempts.append(ask.refused(probe, Waiting, APPROVED_PURPOSE))
        with self._step("approved", "An approver signs, and the client asks again") as step:
            (request_id,) = deployment.approve()
            step.attempts.append(ask.again(probe, request_id))

    def _enrol(self, client: Client, group: list[Face]) -> None:
        title = "The client enrols encrypted faces"
        with self._step("enrol", title, f"enrolling {SYNTHETIC:,} synthetic faces") as step:
            gallery = client.create_gallery(GALLERY)
            dimension = gallery.pin.model_dimension
            client.enroll_templates(GALLERY, faces.synthetic_records(SYNTHETIC, dimension))
            self._teller.begins("enrolling real faces")
            faces.enrol_people(client, GALLERY, self._photos, group)
            templates = client.gallery(GALLERY).templates
            step.facts["templates"] = templates
            step.text = (
                f"{templates:,} templates, {templates - SYNTHETIC} of them of real faces. "
                "The server has no key."
            )

    def _lose_spares(
        self, deployment: Deployment, ask: _Asking, probe: faces.DemoProbe
    ) -> list[int]:
        """Kill as many guardians as can be spared; return these, and one more."""
        count, spare = self._report.guardians, self._report.guardians - self._report.threshold
        order = [*range(2, count + 1), 1]
        stopped = order[:spare]
        if stopped:
            verb = "is" if spare == 1 else "are"
            with self._step("spared", f"{_guardians(stopped)} {verb} killed") as step:
                for point in stopped:
                    deployment.kill_guardian(point)
                step.text = f"{count - spare} of {count} left: enough."
                step.attempts.append(ask.person(probe))
        return order[: spare + 1]

    def _check_log(self, deployment: Deployment) -> None:
        title = "Anyone checks the log"
        with self._step("log", title, "verifying the transparency log") as step:
            receipts = _write_receipts(self._folder / "receipts", self._released())
            summary = deployment.verify_log(receipts)
            step.facts = {
                "entries": summary.size,
                "root": summary.root,
                "receipts": len(receipts),
                "servers_caught": list(summary.caught),
                "statistics": list(summary.rows),
            }
            step.text = (
                f"Recomputed from its {summary.size} entries; it honours all {len(receipts)} "
                "receipts that came with the releases. No name, no photo, no score is in it:"
            )

    def _released(self) -> list[Findings | StoredRelease]:
        attempts = self._report.attempts
        return [attempt.answer for attempt in attempts if attempt.answer is not None]

    @contextmanager
    def _step(self, name: str, title: str, waiting: str = "") -> Iterator[Step]:
        step = Step(name, title)
        self._teller.begins(waiting or title)
        begun = time.monotonic()
        yield step
        step.seconds = time.monotonic() - begun
        self._report.steps.append(step)
        self._teller.ended(step)


class _Asking:
    """Asks as the client does; ``members`` are the guardians' keys, by point.

    ``sent``: the encrypted probe of the last release.
    """

    def __init__(self, client: Client, members: tuple[bytes, ...]) -> None:
        self._client = client
        self._members = members
        self.sent = b""

    def person(self, probe: faces.DemoProbe) -> Attempt:
        """Search for a photo whose people are known."""
        findings = self._search(probe, PURPOSE)
        self.sent = findings.probe
        return self._answered(probe, findings)

    def refused(
        self, probe: faces.DemoProbe, expected: type[UndersealError], purpose: str = PURPOSE
    ) -> Attempt:
        """Search when it should not be answered."""
        try:
            findings = self._search(probe, purpose)
        except UndersealError as error:
            return Attempt(probe.name, expected, refusal=error)
        return Attempt(probe.name, expected, findings)

    def again(self, probe: faces.DemoProbe, request_id: str) -> Attempt:
        """Ask for the release of a search that had to wait."""
        return self._answered(probe, self._client.release(request_id))

    def _answered(self, probe: faces.DemoProbe, answer: Findings | StoredRelease) -> Attempt:
        keys = {entry.public_key for entry in answer.envelope.signatures}
        points = [point for point, key in enumerate(self._members, start=1) if key in keys]
        return Attempt(probe.name, probe.expected, answer, signed_by=tuple(points))

    def _search(self, probe: faces.DemoProbe, purpose: str) -> Findings:
        return self._client.search(probe.data, gallery=GALLERY, purpose=purpose, case=CASE)


def _guardians(points: list[int]) -> str:
    several = "s" if len(points) > 1 else ""
    return f"Guardian{several} {_listed([str(point) for point in points])}"


def _listed(items: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def _addresses(deployment: Deployment) -> dict[str, str]:
    known = {"server": deployment.server_address, "registrar": deployment.registrar_address}
    if deployment.council is not None:
        for point, address in sorted(deployment.council.addresses.items()):
            known[f"guardian {point}"] = address
    return known


def _write_receipts(folder: Path, released: list[Findings | StoredRelease]) -> list[Path]:
    """Write the receipts of intent and outcome of every release."""
    folder.mkdir()
    paths = []
    for answer in released:
        evidence = answer.logged.evidence
        for name, logged in (("intent", evidence.intent), ("outcome", evidence.outcome)):
            paths.append(folder / f"{answer.release.request_id}-{name}.tlog-proof")
            paths[-1].write_bytes(logged.receipt)
    return paths
