"""``malformed`` and ``forgive``: the same commands for a guardian and for a registrar."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from underseal_auditor.api import guardian_process, serving
from underseal_auditor.cli.app import app
from underseal_auditor.store.database import Database
from underseal_auditor.store.tested import MAX_FAILED, SoundUnits, Suspect, Trial
from underseal_core.errors import NotFound, PermissionRefused

DATABASES = {"guardian": guardian_process.DATABASE_NAME, "registrar": serving.DATABASE_NAME}
CLIENT, GALLERY = Suspect("client", "agency"), Suspect("gallery", "server/missing")


@pytest.fixture(params=["guardian", "registrar"])
def role(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A stopped auditor, in whose folder a client and a gallery failed too often."""
    name = str(request.param)
    with closing(Database(tmp_path / DATABASES[name])) as database:
        record = SoundUnits(database, "00")
        for number in range(MAX_FAILED):
            trials = [Trial(one, frozenset((bytes([number]) * 32,))) for one in (CLIENT, GALLERY)]
            record.begin(trials)
            record.conclude([], trials)
        with pytest.raises(PermissionRefused, match="malformed"):
            record.check([CLIENT])
    return name


def told(role: str, *arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, [role, *map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_whoever_failed_is_listed_and_forgiven_one_by_one(role: str, tmp_path: Path) -> None:
    failed = [
        {"kind": one.kind, "name": one.name, "failed": MAX_FAILED, "abandoned": 0}
        for one in (CLIENT, GALLERY)
    ]
    assert told(role, "malformed", "--data", tmp_path) == {"malformed": failed}
    forgiven = told(role, "forgive", "--data", tmp_path, "--client", CLIENT.name)
    assert forgiven == {"forgiven": ["client agency"]}
    assert told(role, "malformed", "--data", tmp_path) == {"malformed": failed[1:]}


def test_who_did_not_fail_is_not_forgiven(role: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no test of client stranger failed"):
        told(role, "forgive", "--data", tmp_path, "--client", "stranger")


def test_another_role_keeps_nothing_in_the_folder(role: str, tmp_path: Path) -> None:
    other = {"guardian": "registrar", "registrar": "guardian"}[role]
    with pytest.raises(NotFound, match="keeps its data"):
        told(other, "malformed", "--data", tmp_path)
