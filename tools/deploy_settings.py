"""Settings below ``deploy/``: that programs take them, and that they fit ``compose.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

import yaml

from underseal_auditor.settings import GuardianSettings, RegistrarSettings, load_guardian_settings
from underseal_auditor.settings import load_settings as load_registrar_settings
from underseal_core.errors import InvalidInput
from underseal_server.settings import Settings as ServerSettings
from underseal_server.settings import load_settings as load_server_settings

Deployed = ServerSettings | RegistrarSettings | GuardianSettings

_WRITTEN: Final = ("data", "log")
"""Settings that name folders which programs write to."""
_COMMENTED: Final = re.compile(r"^# (\w+ = )", re.MULTILINE)
_METRICS: Final = re.compile(r"http://127\.0\.0\.1:(\d+)/metrics")


def load_deployed(path: Path) -> Deployed:
    """Read a settings file as the program does whose file has this name.

    Raises
    ------
    InvalidInput
        The program would refuse it.
    """
    if path.name == "auditor.toml":
        return load_registrar_settings(path, {})
    if path.name == "guardian.toml":
        return load_guardian_settings(path, {})
    return load_server_settings(path)


def named_paths(settings: Deployed) -> Iterator[tuple[str, Path]]:
    """Yield every file and folder that settings name, with the setting's name."""
    for name, value in settings:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Path):
                yield name, one


def unexplained(path: Path) -> list[str]:
    """Return the settings that an example does not show, be it in a comment.

    Raises
    ------
    InvalidInput
        The program would refuse the example with all that is in comments.
    """
    with TemporaryDirectory() as folder:
        whole = Path(folder) / path.name
        whole.write_text(_COMMENTED.sub(r"\1", path.read_text()))
        settings = load_deployed(whole)
    return sorted(set(type(settings).model_fields) - settings.model_fields_set)


@dataclass(frozen=True)
class Service:
    """A service of a compose file: what it sees of the machine, and its settings."""

    name: str
    sources: Mapping[PurePosixPath, str]
    writable: frozenset[PurePosixPath]
    networks: frozenset[str]
    ports: frozenset[str]
    passphrase: str | None
    metrics: str | None
    settings: Deployed

    @property
    def port(self) -> str:
        """Where it listens."""
        return self.settings.listen.rpartition(":")[2]

    def sees(self, path: PurePosixPath, *, written: bool = False) -> bool:
        """Whether a path is below something that is mounted (``written``: and may be changed)."""
        above = {path, *path.parents} & set(self.sources)
        deepest = max(above, key=lambda mount: len(mount.parts), default=None)
        return deepest is not None and (not written or deepest in self.writable)


def services(path: Path) -> Iterator[Service]:
    """Read a compose file, and the settings that its commands name.

    Raises
    ------
    InvalidInput
        A command's settings are not mounted, or the program would refuse them.
    """
    for name, given in yaml.safe_load(path.read_text())["services"].items():
        mounts = [volume.split(":") for volume in given["volumes"]]
        sources = {PurePosixPath(target): source for source, target, *_ in mounts}
        config = PurePosixPath(given["command"][given["command"].index("--config") + 1])
        if config not in sources:
            raise InvalidInput(f"{name}: {config} is not mounted")
        health = _METRICS.search(" ".join(given.get("healthcheck", {}).get("test", ())))
        yield Service(
            name=name,
            sources=sources,
            writable=frozenset(PurePosixPath(one[1]) for one in mounts if one[2:] != ["ro"]),
            networks=frozenset(given["networks"]),
            ports=frozenset(port.rpartition(":")[2] for port in given.get("ports", ())),
            passphrase=given.get("environment", {}).get("UNDERSEAL_PASSPHRASE_FILE"),
            metrics=health[1] if health else None,
            settings=load_deployed(path.parent / sources[config]),
        )


def compose_settings_problems(path: Path) -> Iterator[str]:
    """Yield settings that do not fit mounts, published ports, health checks and other services."""
    try:
        found = {service.name: service for service in services(path)}
    except InvalidInput as error:
        yield f"{path.name}: {error.public}"
        return
    for service in found.values():
        problems = [*_path_problems(service), *_port_problems(service)]
        for problem in [*problems, *_peer_problems(service, found)]:
            yield f"{path.name}: {service.name}: {problem}"


def _path_problems(service: Service) -> Iterator[str]:
    named = list(named_paths(service.settings))
    if service.passphrase is not None:
        named.append(("UNDERSEAL_PASSPHRASE_FILE", Path(service.passphrase)))
    for name, value in named:
        if not service.sees(PurePosixPath(value), written=name in _WRITTEN):
            yield f"{name} = {value} is not mounted, or cannot be written"


def _port_problems(service: Service) -> Iterator[str]:
    if not service.settings.listen.startswith("0.0.0.0:"):
        yield f"nobody else reaches {service.settings.listen}"
    if service.ports - {service.port}:
        yield f"publishes {sorted(service.ports)}, and listens on {service.settings.listen}"
    listens = getattr(service.settings, "metrics_listen", "")
    if service.metrics is not None and service.metrics != listens.rpartition(":")[2]:
        yield f"its health check asks port {service.metrics}; metrics_listen = {listens!r}"


def _peer_problems(service: Service, found: Mapping[str, Service]) -> Iterator[str]:
    if isinstance(service.settings, ServerSettings):
        return
    peers = list(service.settings.servers.values())
    if isinstance(service.settings, RegistrarSettings):
        peers += service.settings.guardians.values()
    for address in peers:
        host, _, port = address.rpartition(":")
        peer = found.get(host)
        if peer is None or port != peer.port or not service.networks & peer.networks:
            yield f"cannot reach {address}"
