"""``policy explain``: which rule decides, also from what a registrar has counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.auditor_world import NOW, Answer, desk, policy_text, unit, world
from underseal_auditor.cli.policy import app
from underseal_auditor.policy.document import parse_policy
from underseal_core.statements import utc_text

PROFILE = "swift"


def explained(folder: Path, answer: Answer, text: str, *options: str) -> Any:
    """Return what the command prints, and its exit code under ``code``."""
    (folder / "request.json").write_bytes(answer.request.payload())
    (folder / "explained.toml").write_text(text)
    arguments = ["explain", str(folder / "request.json"), "--json", "--at", utc_text(NOW)]
    arguments += ["--policy", str(folder / "explained.toml"), *options]
    ran = CliRunner().invoke(app, arguments)
    return {**json.loads(ran.stdout), "code": ran.exit_code}


def test_explain_names_the_rule_that_decides(tmp_path: Path) -> None:
    answer = world(PROFILE).ask(unit(1, 5)[0])
    plain = policy_text(PROFILE)
    urgent = plain.replace('["missing"]\n', '["missing"]\nwarrant = "before"\n')
    within = plain.replace('["missing"]\n', '["missing"]\nwarrant = "within"\n')
    frozen = f"{plain}[freeze]\nservers = ['server']\n"
    person = f"[approvers.alice]\nkey = '{'a' * 64}'\n"
    careful = plain.replace('approvals = "none"', 'approvals = "one"', 1) + person
    cases = {
        (plain,): "allowed",
        (urgent,): "warrant",
        (within,): "allowed",
        (frozen,): "allowed",
        (frozen, "--server", "server"): "server-frozen",
        (careful,): "approvals",
        (careful, "--approver", "alice"): "allowed",
    }
    for (text, *options), rule in cases.items():
        found = explained(tmp_path, answer, text, *options)
        assert found["rule"] == rule, options
        assert (found["code"] == 0) == found["allowed"] == (rule == "allowed")
    assert explained(tmp_path, answer, within)["warrant_hours"] == 48


def test_explain_counts_what_a_stopped_registrar_has_counted(tmp_path: Path) -> None:
    of = world(PROFILE)
    text = f"{policy_text(PROFILE)}[quotas]\nsearches_per_day = 1\n"
    first, second = of.ask(unit(1, 5)[0]), of.ask(unit(1, 6)[0])
    with desk(tmp_path, of, parse_policy(text.encode())) as office:
        office.submit(first)
    assert explained(tmp_path, second, text)["rule"] == "allowed"
    counted = explained(tmp_path, second, text, "--data", str(tmp_path))
    assert (counted["rule"], counted["code"]) == ("searches-per-day", 5)
    assert explained(tmp_path, first, text, "--data", str(tmp_path))["rule"] == "allowed"
