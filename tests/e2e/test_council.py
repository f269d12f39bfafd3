"""From a ceremony between three processes to a release by two of them, with every real part."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import auditor_place
from tests.auditor_place import Desk, ask, issue_roles, running, write_policy
from tests.ceremony_place import PASSPHRASE, PROGRAM, Council, council, environment, free_ports
from underseal_auditor.keys import share_file
from underseal_auditor.keys.ceremony import SoleCeremony
from underseal_auditor.logbook import VKEY_NAME, create_logbook
from underseal_core.bundle import load_bundle
from underseal_core.errors import Busy
from underseal_core.scheme.profiles import GUARDED
from underseal_core.statements import Release
from underseal_server.pki import Authority


def serve_guardian(made: Council, point: int, port: int, server: int) -> subprocess.Popen[str]:
    """Start ``guardian serve`` and wait until it is ready."""
    arguments: list[object] = ["guardian", "serve", "--listen", f"127.0.0.1:{port}"]
    arguments += ["--credentials", made.credentials(point), "--data", made.root / f"data-{point}"]
    arguments += ["--bundle", made.out(point) / "bundle.usb"]
    arguments += ["--share", made.out(point) / "share.sealed", "--log-level", "ERROR"]
    arguments += ["--policy", made.root / "policy.toml"]
    arguments += ["--log-key", made.root / "log" / VKEY_NAME]
    arguments += ["--server", f"server=127.0.0.1:{server}"]
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"guardian {point} on ")
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(timeout=30)
    assert process.stdout is not None
    process.stdout.close()


def test_from_a_ceremony_of_three_to_a_release_by_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor_place, "PASSPHRASE", PASSPHRASE.encode())
    made = council(tmp_path, 2, 3, profile=GUARDED, dimension=auditor_place.DIMENSION)
    with made.joining() as members:
        epochs = {member.facts()["key_epoch"] for member in members}
    bundle = load_bundle(made.out(1) / "bundle.usb")
    assert epochs == {bundle.epoch}
    folder = tmp_path / "credentials"
    issue_roles(Authority.load(folder / "ca"), folder)
    (folder / "auditor").symlink_to(made.credentials(1))
    (tmp_path / "keys").symlink_to(made.out(1))
    write_policy(tmp_path, folder, made.credentials(1), made.credentials(2))
    create_logbook(tmp_path / "log", "log.example/council")
    share = share_file.load(made.out(1) / "share.sealed", PASSPHRASE.encode())
    label = share_file.load_label_key(made.out(1) / "label.sealed", PASSPHRASE.encode())
    keys = SoleCeremony(bundle, share, label)
    ports = free_ports(3)
    guardians = [f"{point}=127.0.0.1:{port}" for point, port in enumerate(ports, start=1)]
    with ExitStack() as stack:
        place = stack.enter_context(running(tmp_path, keys, share=None, guardians=guardians))
        processes = {}
        for point in (1, 3):
            processes[point] = serve_guardian(made, point, ports[point - 1], place.server_port)
            stack.callback(end, processes[point])
        agency = Desk(place, "agency", stack)
        asked = ask(place, place.vectors[4])
        envelope = agency.submit(asked.parts)
        for point in (1, 3):
            release = Release.open(envelope, bundle.members[point - 1])
            assert [json.loads(match.templates[0].label)["name"] for match in release.matches] == [
                "person-4"
            ]
        assert agency.submit(asked.parts) == envelope
        end(processes[3])
        with pytest.raises(Busy, match="too few guardians"):
            agency.submit(ask(place, place.vectors[5]).parts)
