"""A changed policy put in force by a signal, and a provisional release with its warrant."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.e2e.people import people
from underseal_client import Client
from underseal_client.asking import Findings
from underseal_client.cli.showing import show_release
from underseal_client.connection import Connection
from underseal_client.demo.deployment import AUDITOR, Deployment
from underseal_client.logged import InLog
from underseal_client.records import Gallery
from underseal_client.wire import get_policy_to_wire
from underseal_core.errors import Conflict, NotFound
from underseal_core.log_entries import Logged
from underseal_core.log_evidence import Evidence

PURPOSE = "urgent"
DEADLINE_SECONDS = 30.0


@pytest.fixture
def urgent(deployment: Deployment, connection: Connection) -> None:
    """Give the policy another purpose, have it signed, and put it in force without a restart."""
    text = deployment.policy.read_text()
    if f"[purposes.{PURPOSE}]" in text:
        return
    galleries = next(line for line in text.splitlines() if line.startswith("galleries = "))
    text = text.replace("serial = 1", "serial = 2")
    text = text.replace('purposes = ["tests"]', f'purposes = ["tests", "{PURPOSE}"]')
    text += f'\n[purposes.{PURPOSE}]\n{galleries}\napprovals = "none"\nwarrant = "within"\n'
    deployment.policy.write_text(text)
    deployment.sign_policy()
    os.kill(deployment.service(AUDITOR).pid, signal.SIGHUP)
    until = time.monotonic() + DEADLINE_SECONDS
    while connection.registrar.GetPolicy(get_policy_to_wire()).policy_toml != text.encode():
        assert time.monotonic() < until, deployment.service(AUDITOR).log()


@pytest.mark.usefixtures("urgent")
def test_warrant_is_filed_for_a_provisional_release(
    client: Client, gallery: Gallery, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled = people(6, seed=31)
    client.enroll_templates(gallery.name, enrolled)

    def ask(index: int, warrant: str) -> Findings:
        return client.search_template(
            enrolled[index].vector,
            gallery=gallery.name,
            purpose=PURPOSE,
            case="2026-31",
            warrant=warrant,
        )

    with_warrant = ask(2, "court 1/26")
    assert with_warrant.release.warrant_deadline == ""
    findings = ask(3, "")
    release = findings.release
    assert release.warrant_deadline > release.released_at
    show_release(release, findings.found, findings.logged)
    assert f"underseal warrant {release.request_id}" in capsys.readouterr().err
    filed = client.file_warrant(release.request_id, "court 2/26")
    assert (filed.late, filed.warrant.reference) == (False, "court 2/26")
    stored = client.release(release.request_id)
    assert stored.logged.revoked_at == ""
    for wrong, error in ((release, Conflict), (with_warrant.release, NotFound)):
        with pytest.raises(error):
            client.file_warrant(wrong.request_id, "court 3/26")


def test_release_that_was_revoked_shows_no_match(
    client: Client, gallery: Gallery, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled = people(4, seed=32)
    client.enroll_templates(gallery.name, enrolled)
    findings = client.search_template(
        enrolled[1].vector, gallery=gallery.name, purpose="tests", case="2026-32"
    )
    nothing = Evidence(Logged(b"", b""), Logged(b"", b""))
    show_release(findings.release, findings.found, findings.logged)
    assert "person 1" in capsys.readouterr().out
    revoked = InLog("log.example", 1, 2, 4, nothing, revoked_at="2026-05-06T12:00:01Z")
    show_release(findings.release, findings.found, revoked)
    shown = capsys.readouterr().out
    assert "REVOKED 2026-05-06T12:00:01Z" in shown
    assert "person 1" not in shown
