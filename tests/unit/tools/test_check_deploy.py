"""The check of ``deploy/`` notices what it is for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import check_deploy
from tools.check_deploy import ROOT, problems

DEPLOY = ROOT / "deploy"
CHECKS = {
    "container/Containerfile": check_deploy.container_problems,
    "container/compose.yaml": check_deploy.compose_problems,
    "kubernetes": check_deploy.kubernetes_problems,
    "systemd": check_deploy.service_problems,
    "toml": check_deploy.settings_problems,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEPLOY, tmp_path / "deploy"))


def changed(path: Path, old: str, new: str) -> Path:
    """Replace a text that is there."""
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))
    return path


def test_what_is_shipped_passes() -> None:
    assert list(problems(DEPLOY)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "text"),
    [
        ("container/Containerfile", "USER 10001:10001", "USER root", "runs as root"),
        ("container/Containerfile", "WORKDIR /src", "WORKDIR src", "DL3000"),
        ("container/compose.yaml", "read_only: true", "read_only: false", "not hardened"),
        ("container/compose.yaml", "  guardian-2-data: {}", "", "which nothing declares"),
        ("kubernetes/operator/server.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "as root"),
        ("kubernetes/operator/server.yaml", "replicas: 1", "replicas: one", "StatefulSet"),
        ("kubernetes/operator/server.yaml", "replicas: 1", "replica: 1", "StatefulSet"),
        ("kubernetes/cluster/ray.yaml", 'RAY_USE_TLS: "1"', "RAY_USE: no", "lets strangers"),
        ("kubernetes/cluster/ray.yaml", "RAY_AUTH_MODE: token", "RAY_A: b", "lets strangers"),
        ("kubernetes/auditor/guardian.yaml", "drop: [ALL]", "drop: []", "not hardened"),
        ("kubernetes/auditor/kustomization.yaml", "guardian.yaml", "g.yaml", "there is no g.yaml"),
        ("kubernetes/cluster/kustomization.yaml", "generic ray-token", "generic ray", "ray-token"),
        (
            "kubernetes/operator/kustomization.yaml",
            "apply --f",
            "get --f",
            "before their namespace",
        ),
        ("kubernetes/auditor/guardian.toml", "listen =", "listens =", "guardian.toml"),
        ("server.toml", "queue_length = 16", "queue_length = -1", "server.toml"),
        ("server.toml", "# ray_address = ", "# ray_addr = ", "server.toml"),
        ("server.toml", "old_units_seconds = 86400.0", "", "does not show old_units_seconds"),
        ("auditor.toml", "# guardians = ", "# ", "does not show guardians"),
        ("monitoring/alerts.yaml", "underseal_calls_total", "underseal_cals_total", "cals_total"),
        ("monitoring/alerts_test.yaml", "DATA_LOSS", "ABORTED", "has no underseal_calls_total"),
        ("monitoring/grafana.json", "underseal_searches_waiting", "underseal_queue", "queue"),
    ],
)
def test_it_notices(folder: Path, file: str, old: str, new: str, text: str) -> None:
    path = changed(folder / file, old, new)
    path = path.with_name("workers.yaml") if path.name == "ray.yaml" else path
    if file.startswith("monitoring"):
        found = list(check_deploy.monitoring_problems(folder / "monitoring"))
    else:
        key = "toml" if file.endswith(".toml") else next(k for k in CHECKS if file.startswith(k))
        found = list(CHECKS[key](path))
    assert any(text in problem for problem in found), found


@pytest.mark.parametrize(
    ("file", "old", "new", "text"),
    [
        ("server.toml", 'metrics_listen = "127.0.0.1:9464"', "", "asks port 9464"),
        ("server.toml", "0.0.0.0:7440", "127.0.0.1:7440", "nobody else reaches"),
        ("server.toml", "0.0.0.0:7440", "0.0.0.0:7441", "publishes ['7440']"),
        ("server.toml", "/run/public/bundle", "bundle", "bundles = bundle.usb is not mounted"),
        ("server.toml", "/run/keys", "credentials/server", "credentials = credentials/server"),
        ("guardian.toml", "/var/lib/underseal", "data", "data = "),
        ("guardian.toml", "/var/lib/underseal", "/run/keys/data", "data = /run/keys/data is not"),
        ("guardian.toml", "server:7440", "operator:7440", "guardian-2: cannot reach operator"),
        ("auditor.toml", "guardian-3:7445", "guardian-3:7446", "cannot reach guardian-3:7446"),
        ("compose.yaml", "./trial/log:/run/log", "./trial/log:/run/log:ro", "log = /run/log is"),
        ("compose.yaml", "/run/keys/passphrase", "/run/secrets/registrar", "PASSPHRASE_FILE"),
        ("compose.yaml", "./auditor.toml:/etc", "./auditor.toml:/srv", "is not mounted"),
        ("compose.yaml", "  networks: [oversight]\n", "  networks: []\n", "cannot reach s"),
    ],
)
def test_it_notices_settings_that_do_not_fit_the_mounts(
    folder: Path, file: str, old: str, new: str, text: str
) -> None:
    changed(folder / "container" / file, old, new)
    found = list(check_deploy.compose_problems(folder / "container" / "compose.yaml"))
    assert any(text in problem for problem in found), found


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    ("old", "new"), [("ProtectSystem=strict", "ProtectSystem=maybe"), ("DynamicUser=yes", "")]
)
def test_it_notices_exposed_services(folder: Path, old: str, new: str) -> None:
    path = changed(folder / "systemd" / "underseal-guardian.service", old, new)
    assert list(check_deploy.service_problems(path))


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Prometheus) is not installed")
def test_it_notices_rules_that_prometheus_refuses(folder: Path) -> None:
    changed(folder / "monitoring" / "alerts.yaml", "sum by (instance)", "sum by instance")
    assert list(check_deploy.monitoring_problems(folder / "monitoring"))


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Prometheus) is not installed")
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("alerts.yaml", 'code="DATA_LOSS"', 'code="DATALOSS"'),
        ("alerts.yaml", ".*Enrol", ".*Enroll"),
        ("alerts.yaml", "INTERNAL|UNKNOWN", "UNKNOWN"),
        ("alerts_test.yaml", "values: 0x20 1x60", "values: _x20 1x60"),
    ],
)
def test_it_notices_alerts_that_do_not_fire(folder: Path, file: str, old: str, new: str) -> None:
    """The last: a series that is born with its first error has no increase."""
    changed(folder / "monitoring" / file, old, new)
    found = list(check_deploy.monitoring_problems(folder / "monitoring"))
    assert any("FAILED" in problem for problem in found), found
