"""What ``compose.yaml`` starts starts, with its settings and what the how-to's steps copy.

Without containers: every mount is a folder, and settings name these folders and free ports.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from tests.auditor_credentials import write_credentials
from tests.auditor_world import policy_text, world, write_signed_policy
from tests.ceremony_place import free_ports
from tests.guardian_place import CHEAP, PASSPHRASE
from tools.deploy_settings import Service, services
from underseal_auditor.keys import share_file
from underseal_auditor.logbook import VKEY_NAME, create_logbook
from underseal_core.credentials import Role
from underseal_server.pki import Authority, issue

ROOT = Path(__file__).resolve().parents[2]
AUDITORS = ("court", "ombudsman", "university")
STEPS = re.compile(r"^```sh\n(mkdir deploy/container/trial .*?)^```$", re.MULTILINE | re.DOTALL)
METRICS = "127.0.0.1:9464"


def make_keys(made: Path) -> None:
    """Leave in ``made`` what steps 1 to 4 of docs/howto/guardians.md do."""
    of, authority = world("swift", 2, 3), Authority.create()
    issue(authority, made / "authority" / "server", Role.SERVER, "server")
    for name, share, member in zip(AUDITORS, of.shares, of.members, strict=True):
        write_credentials(authority, made / "authority" / "auditors" / name, name, member)
        (made / name / "keys").mkdir(parents=True)
        share_file.save(made / name / "keys" / "share.sealed", share, PASSPHRASE, CHEAP)
        (made / name / "passphrase").write_bytes(PASSPHRASE)
    label = made / "court" / "keys" / "label.sealed"
    share_file.save_label_key(label, of.keys.label_key, of.bundle.epoch, PASSPHRASE, CHEAP)
    of.bundle.save(made / "bundle.usb")
    write_signed_policy(made / "policy.toml", of, policy_text("swift"))
    create_logbook(made / "court" / "log", "localhost/trial")
    (made / VKEY_NAME).write_bytes((made / "court" / "log" / VKEY_NAME).read_bytes())


def fill(root: Path, made: Path) -> None:
    """Run the how-to's steps, but for what needs a superuser and containers."""
    found = STEPS.search((ROOT / "docs" / "howto" / "deploy.md").read_text())
    assert found
    *steps, owner, up = found[1].splitlines()
    assert owner.startswith("sudo chown") and up.startswith("docker compose")
    script = "\n".join(steps).replace("~/underseal-guardians", str(made))
    (root / "deploy" / "container").mkdir(parents=True)
    subprocess.run(["bash", "-euc", script], cwd=root, check=True)


def place(service: Service, target: PurePosixPath, root: Path) -> Path:
    """The folder or file that a mount is here; a volume is new."""
    source = service.sources[target]
    if source.startswith("./trial/"):
        return root / "deploy" / "container" / source
    if source.startswith("./"):
        return ROOT / "deploy" / "container" / source
    return root / source


def settings_of(service: Service, ports: dict[str, str], root: Path) -> Path:
    """Write a service's settings, with folders and ports of this machine."""
    (config,) = (path for path in service.sources if path.suffix == ".toml")
    text = place(service, config, root).read_text()
    for target in service.sources:
        text = text.replace(f'"{target}', f'"{place(service, target, root)}')
    text = text.replace(f"0.0.0.0:{service.port}", f"127.0.0.1:{ports[service.name]}")
    text = re.sub(r'"([\w-]+):\d+"', lambda m: f'"127.0.0.1:{ports[m[1]]}"', text)
    text = text.replace(METRICS, f"127.0.0.1:{ports['metrics']}")
    written = root / service.name / config.name
    written.parent.mkdir()
    written.write_text(text)
    return written


@contextmanager
def running(service: Service, ports: dict[str, str], root: Path) -> Iterator[str]:
    """A service's program; yields the line that says that it is ready."""
    config = settings_of(service, ports, root)
    role = "auditor" if service.passphrase else "server"
    kind = {"auditor.toml": ["registrar"], "guardian.toml": ["guardian"]}.get(config.name, [])
    program = Path(sys.executable).with_name(f"underseal-{role}")
    environment = dict(os.environ)
    if service.passphrase:
        passphrase = PurePosixPath(service.passphrase)
        (keys,) = set(passphrase.parents) & set(service.sources)
        here = place(service, keys, root) / passphrase.relative_to(keys)
        environment["UNDERSEAL_PASSPHRASE_FILE"] = str(here)
    process = subprocess.Popen(
        [program, *kind, "serve", "--config", config],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=config.parent,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def test_every_service_starts(tmp_path: Path) -> None:
    make_keys(tmp_path / "made")
    root = tmp_path / "repository"
    fill(root, tmp_path / "made")
    found = list(services(ROOT / "deploy" / "container" / "compose.yaml"))
    names = [*(service.name for service in found), "metrics"]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    with ExitStack() as stack:
        for service in found:
            line = stack.enter_context(running(service, ports, root))
            assert f"127.0.0.1:{ports[service.name]}" in line, service.name
        with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics") as answer:
            assert b"underseal_calls_total" in answer.read()
