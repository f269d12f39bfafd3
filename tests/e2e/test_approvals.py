"""A request that waits for a person, over the network and with the approver's commands."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.auditor_place import Desk, ask, command, deployed, registrar_running
from underseal_core.errors import PermissionRefused, Waiting
from underseal_core.statements import Release


def test_request_waits_until_a_person_approves(tmp_path: Path) -> None:
    with deployed(tmp_path) as place, ExitStack() as stack:
        policy, bundle = tmp_path / "approved.toml", tmp_path / "keys" / "bundle.usb"
        written = (tmp_path / "policy.toml").read_text()
        alice = place.credentials("alice")
        arguments: list[object] = ["--bundle", bundle, "--purpose", "missing-person=one"]
        arguments += ["--gallery", "missing", "--model", "test-model=0.6"]
        for name in ("agency", "server", "alice"):
            arguments += ["--certificate", place.credentials(name) / "tls.crt"]
        command("policy", "new", *arguments, "--out", policy)
        assert 'approvals = "one"' not in written
        signer = ["--bundle", bundle, "--credentials", place.credentials("auditor")]
        assert "1 of 1" in command("policy", "sign", policy, *signer).stdout
        options = {"policy": policy, "data": tmp_path / "careful"}
        port = stack.enter_context(registrar_running(place, place.server_port, **options))
        agency = Desk(replace(place, registrar_port=port), "agency", stack)
        asked = ask(place, place.vectors[4])
        request_id = asked.request.request_id
        with pytest.raises(Waiting, match="approval of 1 person") as waiting:
            agency.submit(asked.parts)
        assert waiting.value.hint == f"ask again later: underseal release show {request_id}"
        with pytest.raises(Waiting):
            agency.release(request_id)

        own = ["--registrar", f"127.0.0.1:{port}", "--credentials", alice]
        listed = json.loads(command("approvals", "list", *own, "--json").stdout)["pending"]
        assert [entry["request_id"] for entry in listed] == [request_id]
        shown = command("approvals", "show", request_id, *own).stdout
        assert "case_reference  case" in shown
        assert "missing-person" in shown
        stranger = ["--registrar", f"127.0.0.1:{port}"]
        stranger += ["--credentials", str(place.credentials("agency"))]
        refused = command("approvals", "approve", request_id, *stranger, check=False)
        assert (refused.returncode, "may not call" in refused.stderr) == (5, True)
        missing = command("approvals", "approve", "0" * 32, *own, check=False)
        assert missing.returncode == 4
        assert "approving       alice" in command("approvals", "approve", request_id, *own).stdout

        release = Release.parse(agency.release(request_id).payload)
        assert release.approvers == ("alice",)
        assert [json.loads(match.templates[0].label)["name"] for match in release.matches] == [
            "person-4"
        ]
        assert "nothing waits" in command("approvals", "list", *own).stdout

        second = ask(place, place.vectors[5])
        with pytest.raises(Waiting):
            agency.submit(second.parts)
        command("approvals", "refuse", second.request.request_id, *own)
        with pytest.raises(PermissionRefused, match="a person refused"):
            agency.release(second.request.request_id)
