"""The wheel, installed three times, each time with one role's packages alone: everything works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("server", "auditor", "client")
PROGRAMS = {"server": "underseal-server", "auditor": "underseal-auditor", "client": "underseal"}
OPTIONAL = {"server": ("obstore", "psycopg", "psycopg-binary")}
"""In a role's file for its image, but of the extras ``s3`` and ``postgres``."""
PASSPHRASE = "a passphrase for the test"
PROBE = """
import sys
import numpy as np
from underseal_client import Client, TemplateRecord
from underseal_client import gallery as galleries
from underseal_client.settings import ClientSettings
from underseal_core.bundle import load_bundle
from underseal_core.statements import Pin

settings = ClientSettings.model_validate_json(sys.argv[1])
bundle = load_bundle(settings.bundle)
vectors = np.random.default_rng(1).standard_normal((5, 64))
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
with Client(settings) as client:
    pin = Pin(model_id="m", model_dimension=64, profile="swift", key_epoch=bundle.epoch)
    galleries.create(client._context.connection, "missing", pin)
    people = [TemplateRecord(f"person {n}", vector) for n, vector in enumerate(vectors)]
    client.enroll_templates("missing", people)
    found = client.search_template(vectors[3], gallery="missing", purpose="tests", case="T-1").found
    print([one.label.name for one in found])
"""


def pinned(role: str) -> list[str]:
    """What the role's file pins for this platform and Python, without packages of other extras."""
    text = (ROOT / "requirements" / f"{role}.txt").read_text()
    lines = re.findall(r"^([\w.-]+==[^\\\n]*)", text, flags=re.MULTILINE)
    found = [Requirement(line) for line in lines]
    wanted = [one.name for one in found if one.marker is None or one.marker.evaluate()]
    assert set(OPTIONAL.get(role, ())) < set(wanted)
    return [name for name in wanted if name not in OPTIONAL.get(role, ())]


def lend(name: str, site: Path) -> None:
    """Make an installed distribution visible in another environment; it must be installed."""
    installed = distribution(name)
    tops = {file.parts[0] for file in installed.files or () if file.parts[0] != ".."}
    for top in tops - {"__pycache__", "bin"}:
        target = site / top
        if not target.exists():
            target.symlink_to(str(installed.locate_file(top)))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An environment's folder of programs for each role."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(root), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = root.glob("underseal-*.whl")
    made = {}
    for role in ROLES:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / role], check=True)
        python = root / role / "bin" / "python"
        install = ["--python", str(python), "install", "--no-deps", str(wheel)]
        subprocess.run([*pip, *install], check=True)
        (site,) = (root / role / "lib").glob("python3*/site-packages")
        for name in pinned(role):
            lend(name, site)
        made[role] = root / role / "bin"
    return made


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    return {**kept, "UNDERSEAL_PASSPHRASE": PASSPHRASE}


def run(places: dict[str, Path], role: str, *arguments: object) -> str:
    command = [str(places[role] / PROGRAMS[role]), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(places: dict[str, Path], role: str, *arguments: object) -> Iterator[str]:
    """A service; yields its address."""
    program = str(places[role] / PROGRAMS[role])
    command = [program, *map(str, arguments), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_roles_hold_no_packages_of_others(places: dict[str, Path]) -> None:
    """The operator's has neither TenSEAL nor what reads photos, the client's no database.

    The server alone has no storage back ends either.
    """
    server = ("tenseal", "onnxruntime", "obstore", "psycopg")
    absent = {"server": server, "auditor": ("tenseal", "sqlalchemy")}
    for role, names in {**absent, "client": ("sqlalchemy", "alembic")}.items():
        python = places[role] / "python"
        for name in names:
            asked = [str(python), "-c", f"import {name}"]
            done = subprocess.run(asked, capture_output=True, env=environment(), check=False)
            assert b"ModuleNotFoundError" in done.stderr, (role, name)


def test_each_role_alone_and_all_together(places: dict[str, Path], tmp_path: Path) -> None:
    authority, keys, log = tmp_path / "authority", tmp_path / "keys", tmp_path / "log"
    run(places, "server", "init", authority, "--client", "office", "--auditor", "court")
    court, office = authority / "auditors/court", authority / "clients/office"
    ceremony = ["--profile", "swift", "--dimension", 64, "--out", keys]
    run(places, "auditor", "ceremony", "--credentials", court, *ceremony)
    run(places, "auditor", "log", "create", "--out", log, "--origin", "localhost/test")
    bundle, policy = keys / "bundle.usb", tmp_path / "policy.toml"
    rules: list[object] = ["--bundle", bundle, "--purpose", "tests", "--out", policy]
    rules += ["--certificate", office / "tls.crt", "--certificate", authority / "server/tls.crt"]
    rules += ["--gallery", "missing", "--model", "m=0.6"]
    run(places, "auditor", "policy", "new", *rules)
    signing = ["--bundle", bundle, "--credentials", court]
    run(places, "auditor", "policy", "sign", policy, *signing)
    with ExitStack() as stack:
        options: list[object] = ["--data", tmp_path / "server", "--bundle", bundle]
        options += ["--credentials", authority / "server"]
        server = stack.enter_context(serving(places, "server", "serve", *options))
        common = ["--credentials", court, "--bundle", bundle, "--policy", policy]
        common += ["--server", f"server={server}"]
        options = ["--share", keys / "share.sealed", "--log-key", log / "log.vkey"]
        options += [*common, "--data", tmp_path / "guardian"]
        guardian = stack.enter_context(serving(places, "auditor", "guardian", "serve", *options))
        options = [
            "--label-key",
            keys / "label.sealed",
            "--log",
            log,
            "--guardian",
            f"1={guardian}",
        ]
        options += [*common, "--data", tmp_path / "registrar"]
        registrar = stack.enter_context(serving(places, "auditor", "registrar", "serve", *options))
        settings = {
            "server": server,
            "registrar": registrar,
            "credentials": str(office),
            "bundle": str(bundle),
            "log_key": str(log / "log.vkey"),
            "subject_key": str(tmp_path / "subject.key"),
            "state": str(tmp_path / "client.sqlite"),
        }
        script = [str(places["client"] / "python"), "-c", PROBE, json.dumps(settings)]
        done = subprocess.run(
            script, capture_output=True, text=True, env=environment(), check=False
        )
        assert done.stdout.strip() == "['person 3']", done.stderr
    assert "models" in run(places, "client", "--help")
