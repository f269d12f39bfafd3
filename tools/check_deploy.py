"""Check ``deploy/``: that the files are what their readers accept, hardened, and fit the programs.

The Containerfile is linted, Kubernetes objects are validated against the API's schemas, settings
are loaded by the programs that read them, and every metric that an alert or a panel asks for must
be one that the server has. Alerts are tried on the series of ``alerts_test.yaml``, which must be
such as a server has. systemd's and Prometheus' own checkers are asked where they are
installed; the last line says which were not.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import yaml

from tools.deploy_settings import compose_settings_problems, load_deployed, unexplained
from underseal_core.errors import InvalidInput
from underseal_server.api.access import TABLE
from underseal_server.engine.search import BatchTimes
from underseal_server.metrics import Metrics

ROOT: Final = Path(__file__).resolve().parents[1]
EXPOSURE: Final = 2.0
"""Highest score that ``systemd-analyze security`` may give a service, of 10."""

_METRIC: Final = re.compile(r"\bunderseal_\w+")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_OPTIONAL: Final = ("promtool", "systemd-analyze")


def problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files below ``folder``, each with the file's name."""
    yield from container_problems(folder / "container" / "Containerfile")
    yield from compose_problems(folder / "container" / "compose.yaml")
    for path in sorted((folder / "kubernetes").rglob("*.yaml")):
        yield from kubernetes_problems(path)
    for path in sorted(folder.rglob("*.toml")):
        yield from settings_problems(path)
    for path in sorted((folder / "systemd").glob("*.service")):
        yield from service_problems(path)
    yield from monitoring_problems(folder / "monitoring")


def container_problems(path: Path) -> Iterator[str]:
    """Yield what the linter says, and stages that end as root."""
    linter = Path(sys.executable).with_name("hadolint")
    yield from _said([linter, "--no-color", path])
    stages = re.split(r"^FROM .* AS ", path.read_text(), flags=re.MULTILINE)[1:]
    for stage in stages:
        if "ENTRYPOINT" in stage and not re.search(r"^USER [1-9]\d+:\d+$", stage, re.MULTILINE):
            yield f"{path.name}: {stage.split()[0]} runs as root"


def compose_problems(path: Path) -> Iterator[str]:
    """Yield services that are not hardened, and names that nothing declares."""
    compose = yaml.safe_load(path.read_text())
    for name, service in compose["services"].items():
        hardened = (
            service.get("read_only") is True
            and service.get("cap_drop") == ["ALL"]
            and "no-new-privileges:true" in service.get("security_opt", [])
            and not str(service.get("user", "0")).startswith("0")
        )
        if not hardened:
            yield f"{path.name}: {name} is not hardened"
        for used in set(service["networks"]) - set(compose["networks"]):
            yield f"{path.name}: {name} uses network {used}, which nothing declares"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith(".") and source not in compose["volumes"]:
                yield f"{path.name}: {name} uses volume {source}, which nothing declares"
    yield from compose_settings_problems(path)


def kubernetes_problems(path: Path) -> Iterator[str]:
    """Yield objects that the API would refuse, and containers that are not hardened."""
    for found in yaml.safe_load_all(path.read_text()):
        if found["kind"] == "Kustomization":
            files = [*found["resources"]]
            files += [file for made in found["configMapGenerator"] for file in made["files"]]
            for file in files:
                if not (path.parent / file).is_file():
                    yield f"{path.name}: there is no {file}"
            yield from _secret_problems(path)
            continue
        try:
            kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{path.name}: {found['kind']}: {error.message}"
        yield from _pod_problems(path, found)


def _secret_problems(path: Path) -> Iterator[str]:
    """Yield secrets that a kustomization's objects use and its head does not make, or too early."""
    head = path.read_text().partition("apiVersion:")[0]
    namespace, creates = head.find("apply --filename"), head.find("create secret")
    if creates >= 0 and not 0 <= namespace < creates:
        yield f"{path.name}: secrets are made before their namespace"
    made = set(re.findall(r"create secret (?:generic|tls) (\S+)", head))
    objects = "".join(file.read_text() for file in path.parent.glob("*.yaml") if file != path)
    used = set(re.findall(r"secretName: (\S+)|secretRef:\s+name: (\S+)", objects))
    for name in sorted({a or b for a, b in used} ^ made):
        yield f"{path.name}: the secret {name} is not both made and used"


def _pod_problems(path: Path, found: Mapping[str, Any]) -> Iterator[str]:
    pod = found.get("spec", {}).get("template", {}).get("spec")
    if pod is None:
        return
    if pod.get("securityContext", {}).get("runAsNonRoot") is not True:
        yield f"{path.name}: its pod may run as root"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        rules = container.get("securityContext", {})
        hardened = (
            rules.get("readOnlyRootFilesystem") is True
            and rules.get("allowPrivilegeEscalation") is False
            and rules.get("capabilities", {}).get("drop") == ["ALL"]
        )
        if not hardened or "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{path.name}: container {container['name']} is not hardened, or has no limit"
        if "ray start" in " ".join(container.get("args", [])) and not _ray_is_closed(path):
            yield f"{path.name}: {container['name']} lets strangers into the cluster of Ray"


def _ray_is_closed(path: Path) -> bool:
    """Whether Ray asks for a token and speaks TLS: it does neither by itself."""
    environment: dict[str, str] = yaml.safe_load((path.parent / "ray.yaml").read_text())["data"]
    return environment.get("RAY_AUTH_MODE") == "token" and environment.get("RAY_USE_TLS") == "1"


def settings_problems(path: Path) -> Iterator[str]:
    """Yield settings that the program would refuse. Policies need keys: tests sign one."""
    if path.name == "policy.toml":
        return
    try:
        load_deployed(path)
        if path.parent.name == "deploy":  # the examples; others have what they need
            for name in unexplained(path):
                yield f"{path.name}: does not show {name}"
    except InvalidInput as error:
        yield f"{path.name}: {error.public}"


def service_problems(path: Path) -> Iterator[str]:
    """Yield what systemd finds wrong, and services that run as root or that it finds exposed."""
    if "\nDynamicUser=yes\n" not in path.read_text():
        yield f"{path.name}: runs as root"
    if shutil.which("systemd-analyze") is None:
        return
    for line in _said(["systemd-analyze", "verify", path]):
        if "is not executable" not in line:  # the program is not installed here
            yield line
    judged = "".join(_said(["systemd-analyze", "security", "--offline=true", path]))
    score = re.search(r"exposure level for \S+: ([\d.]+)", judged)
    if score is None or float(score[1]) > EXPOSURE:
        yield f"{path.name}: exposure {score[1] if score else 'unknown'}, above {EXPOSURE}"


def monitoring_problems(folder: Path) -> Iterator[str]:
    """Yield what Prometheus would refuse, and metrics that the server does not have."""
    if shutil.which("promtool") is not None:
        yield from _said(["promtool", "check", "config", folder / "prometheus.yaml"], quiet=True)
        yield from _said(["promtool", "test", "rules", folder / "alerts_test.yaml"], quiet=True)
    yield from _series_problems(folder / "alerts_test.yaml")
    asked = yaml.safe_load((folder / "alerts.yaml").read_text())
    rules = [rule["expr"] for group in asked["groups"] for rule in group["rules"]]
    panels = json.loads((folder / "grafana.json").read_text())["panels"]
    rules += [target["expr"] for panel in panels for target in panel["targets"]]
    known = {sample.name for family in _exercised().collect() for sample in family.samples}
    for rule in rules:
        for name in sorted(set(_METRIC.findall(rule)) - known):
            yield f"monitoring asks for {name}, which the server does not have"


def _series_problems(path: Path) -> Iterator[str]:
    """Yield series that alerts are tried on from 0, while a new server does not have them so."""
    at_start = {
        (sample.name, frozenset(sample.labels.items()))
        for family in Metrics(TABLE).registry.collect()
        for sample in family.samples
        if sample.value == 0
    }
    for test in yaml.safe_load(path.read_text())["tests"]:
        for tried in test["input_series"]:
            name, _, given = tried["series"].partition("{")
            labels = {pair for pair in _LABEL.findall(given) if pair[0] not in ("instance", "job")}
            if tried["values"].startswith("0") and (name, frozenset(labels)) not in at_start:
                yield f"{path.name}: a new server has no {tried['series']} of 0"


def _exercised() -> Any:
    """Return a server's metrics after searches: before them, most have no sample."""
    metrics = Metrics(TABLE)
    metrics.call("/underseal.v1.SearchService/Search", "OK", 1.0)
    metrics.batch(BatchTimes(queued=(0.0,), expand=(0.1,), score=0.2, scored=1))
    metrics.shed("queue")
    metrics.watch(lambda: 0, lambda: 0, lambda: 0)
    return metrics.registry


def _said(command: list[str | Path], *, quiet: bool = False) -> Iterator[str]:
    """Yield what a checker complains about; ``quiet``: only if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not quiet:
        yield from (done.stdout + done.stderr).splitlines()


def main() -> int:
    """Print every problem; return the exit status."""
    found = list(problems(ROOT / "deploy"))
    for problem in found:
        print(problem, file=sys.stderr)
    missing = [name for name in _OPTIONAL if shutil.which(name) is None]
    if missing:
        print(f"deploy: not asked, since not installed: {', '.join(missing)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
