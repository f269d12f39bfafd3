"""A witness cosigns the registrar's log, and a client asks for that: all of them processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.people import people
from underseal_auditor.logbook import load_vkey, open_logbook
from underseal_client import Client
from underseal_client.demo.council import AUDITOR_PROGRAM
from underseal_client.demo.deployment import Deployment
from underseal_client.demo.process import ProgramFailed, run_program
from underseal_client.records import Gallery
from underseal_core.errors import Busy, InvalidInput
from underseal_core.signing import Identity
from underseal_core.tlog.note import NoteSigner
from underseal_core.tlog.witness import Witness

NAME = "witness.example/one"
TOML = """\
server = "{server}"
registrar = "{registrar}"
credentials = "{credentials}"
bundle = "{bundle}"
log_key = "{log_key}"
subject_key = "subject.key"
state = "client.sqlite"
witnesses = ["{vkey}"]
"""


def witness_of(deployment: Deployment) -> Path:
    return deployment.folder / "witness"


def looks(deployment: Deployment) -> dict[str, object]:
    """Let the witness come by once."""
    options = ["--registrar", deployment.registrar_address, "--log-key", deployment.log_key]
    options += ["--credentials", deployment.credentials("clients", "bureau"), "--once", "--json"]
    said = run_program(AUDITOR_PROGRAM, "witness", "cosign", witness_of(deployment), *options)
    facts: dict[str, object] = json.loads(said)
    return facts


def show_another_history(deployment: Deployment, folder: Path) -> None:
    """Somebody with the log's key shows the witness a log that nobody else has seen."""
    shutil.copytree(deployment.log, folder, ignore=shutil.ignore_patterns("lock"))
    key = load_vkey(deployment.log_key)
    own = load_vkey(witness_of(deployment) / "witness.vkey")
    identity = Identity.load(witness_of(deployment) / "witness.key")
    witness = Witness(
        witness_of(deployment) / "seen", NoteSigner(own.name, identity, own.kind), [key]
    )
    latest = witness.latest(key.name)
    assert latest is not None
    book = open_logbook(folder, Identity.generate())
    book.append(b"told to the witness only")
    witness.add_checkpoint(book.log.witness_request(latest.checkpoint.size).to_bytes())
    book.close()
    witness.close()


def test_release_counts_when_the_witness_has_seen_it(
    deployment: Deployment, gallery: Gallery, tmp_path: Path
) -> None:
    vkey = (witness_of(deployment) / "witness.vkey").read_text().strip()
    places = {"state": tmp_path / "client.sqlite", "subject_key": tmp_path / "subject.key"}
    settings = deployment.settings("agency", witnesses=(vkey,), **places)
    enrolled = people(3, seed=71)
    with Client(settings) as client:
        client.enroll_templates(gallery.name, enrolled)

        def ask(index: int) -> str:
            findings = client.search_template(
                enrolled[index].vector, gallery=gallery.name, purpose="tests", case="2026-71"
            )
            assert findings.logged.witnessed_by == ()
            request_id = findings.release.request_id
            with pytest.raises(Busy, match="0 of the 1 witnesses"):
                client.release(request_id)
            assert client.release(request_id, witnessed=False).logged.witnessed_by == ()
            return request_id

        first = ask(0)
        assert looks(deployment)["handed_in"] is True
        assert client.release(first).logged.witnessed_by == (NAME,)
        show_another_history(deployment, tmp_path / "fork")
        second = ask(1)
        with pytest.raises(ProgramFailed, match="ALARM: not cosigned"):
            looks(deployment)
        with pytest.raises(Busy, match="0 of the 1 witnesses"):
            client.release(second)
        assert client.release(first).logged.witnessed_by == (NAME,)

    config = tmp_path / "client.toml"
    values = settings.model_dump() | {"vkey": vkey}
    config.write_text(TOML.format(**values))
    own = ["--config", config, "release", "show"]
    assert f"witnessed by {NAME}\n" in run_program("underseal", *own, first)
    with pytest.raises(ProgramFailed, match="ended with code 6"):
        run_program("underseal", *own, second)
    assert "no witness has seen it yet" in run_program("underseal", *own, second, "--not-witnessed")
    wrong = deployment.settings("agency", witnesses=(vkey,), witness_quorum=2, **places)
    with Client(wrong) as client, pytest.raises(InvalidInput, match="2 of 1 witnesses"):
        client.release(first)
