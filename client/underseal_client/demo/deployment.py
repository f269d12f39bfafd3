"""A deployment of all roles on this machine: ceremony, server, registrar, mutual TLS, loopback.

Each role is a process of its own with its own folder, as in production; only the machine and the
development authority are shared.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from underseal_client.demo.process import ProgramFailed, Service, postponed_signals, run_program
from underseal_client.settings import ClientSettings

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

READY_SECONDS: Final = 60.0
SERVER_PROGRAM: Final = "underseal-server"
AUDITOR_PROGRAM: Final = "underseal-auditor"
AUDITOR: Final = "auditor"
SERVER: Final = "server"
LOG_ORIGIN: Final = "localhost/underseal"
ANY_PORT: Final = "127.0.0.1:0"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to set up.

    Parameters
    ----------
    dimension
        Of the model's templates.
    models
        Thresholds (cosine, as text) by model id.
    clients
        Names; all of them may state ``purpose`` for ``galleries``.
    decimals
        Of released scores; None takes what suits the profile.
    """

    dimension: int
    models: dict[str, str]
    galleries: tuple[str, ...]
    profile: str = "guarded"
    purpose: str = "demonstration"
    clients: tuple[str, ...] = ("agency",)
    decimals: int | None = None


class Deployment:
    """The running services. Use as a context manager: leaving it ends every process.

    Parameters
    ----------
    folder
        An empty folder; everything is written below it.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan
        self.server_data = folder / "server-data"
        self.registrar_data = folder / "registrar-data"
        self.bundle = folder / "keys" / "bundle.usb"
        self.policy = folder / "policy.toml"
        self.log = folder / "log"
        self.log_key = self.log / "log.vkey"
        self.server_address = ""
        self.registrar_address = ""
        self._passphrase = folder / "passphrase"
        self._services: dict[str, Service] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def credentials(self, role: str, name: str = "") -> Path:
        """Return the credentials folder of a participant: "server", or "clients" and a name."""
        return self.folder / "authority" / role / name

    def make_keys(self) -> None:
        """Make the authority, every participant's credentials, and hold the key ceremony."""
        names = [part for client in self.plan.clients for part in ("--client", client)]
        authority = self.folder / "authority"
        run_program(SERVER_PROGRAM, "init", authority, "--auditor", AUDITOR, *names)
        descriptor = os.open(self._passphrase, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        run_program(
            AUDITOR_PROGRAM,
            "ceremony",
            *("--credentials", self.credentials("auditors", AUDITOR)),
            *("--profile", self.plan.profile),
            *("--dimension", self.plan.dimension),
            *("--out", self.bundle.parent),
            *("--passphrase-file", self._passphrase),
        )
        self._write_policy()
        run_program(AUDITOR_PROGRAM, "log", "create", "--out", self.log, "--origin", LOG_ORIGIN)

    def _write_policy(self) -> None:
        plan = self.plan
        participants = [self.credentials("clients", name) for name in plan.clients]
        participants.append(self.credentials("server"))
        arguments: list[object] = ["--bundle", self.bundle, "--purpose", plan.purpose]
        arguments += ["--out", self.policy]
        for folder in participants:
            arguments += ["--certificate", folder / "tls.crt"]
        for gallery in plan.galleries:
            arguments += ["--gallery", gallery]
        for model, threshold in plan.models.items():
            arguments += ["--model", f"{model}={threshold}"]
        if plan.decimals is not None:
            arguments += ["--decimals", plan.decimals]
        run_program(AUDITOR_PROGRAM, "policy", "new", *arguments)
        signing: list[object] = ["--bundle", self.bundle]
        signing += ["--credentials", self.credentials("auditors", AUDITOR)]
        run_program(AUDITOR_PROGRAM, "policy", "sign", self.policy, *signing)

    def start(self) -> None:
        """Start server and registrar and wait until both serve."""
        self.start_server()
        self.start_registrar()

    def start_server(self, *options: object, listen: str = ANY_PORT) -> Service:
        """Start the server; ``options`` go to its command line."""
        if not self.server_data.exists():
            run_program(SERVER_PROGRAM, "bundle", "add", self.bundle, "--data", self.server_data)
        arguments = ["serve", "--data", self.server_data, "--listen", listen, "--json"]
        arguments += ["--credentials", self.credentials("server"), *options]
        service, self.server_address = self._start(SERVER_PROGRAM, arguments, SERVER)
        return service

    def start_registrar(self, *options: object) -> Service:
        """Start the registrar; it needs the server's address."""
        keys = self.bundle.parent
        arguments: list[object] = ["registrar", "serve", "--listen", ANY_PORT, "--json"]
        arguments += ["--credentials", self.credentials("auditors", AUDITOR)]
        arguments += ["--bundle", self.bundle, "--share", keys / "share.sealed"]
        arguments += ["--label-key", keys / "label.sealed", "--policy", self.policy]
        arguments += ["--data", self.registrar_data, "--passphrase-file", self._passphrase]
        arguments += ["--log", self.log]
        arguments += ["--server", f"{SERVER}={self.server_address}", *options]
        service, self.registrar_address = self._start(AUDITOR_PROGRAM, arguments, AUDITOR)
        return service

    def _start(self, program: str, arguments: list[object], name: str) -> tuple[Service, str]:
        with postponed_signals():
            service = Service(program, arguments, self.folder / f"{name}.log")
            self._services[name] = service
        address = service.wait_ready(READY_SECONDS).get("listening")
        if not isinstance(address, str):
            raise ProgramFailed(f"{program} did not say where it listens")
        return service, address

    def verify_log(self) -> int:
        """Recompute the log from outside, from its entries up; return how many it has.

        Raises
        ------
        ProgramFailed
            It does not verify.
        """
        options: list[object] = [self.log, "--log-key", self.log_key, "--bundle", self.bundle]
        said = json.loads(run_program(AUDITOR_PROGRAM, "log", "verify", *options, "--json"))
        return int(said["size"])

    def service(self, name: str) -> Service:
        """Return a running service: "server" or "auditor"."""
        return self._services[name]

    def stop(self) -> None:
        """End every process."""
        with postponed_signals():
            for service in self._services.values():
                service.stop()
            self._services.clear()

    def settings(self, client: str = "", **changes: object) -> ClientSettings:
        """Return settings for one of the plan's clients, by default the first.

        The user's own file and environment have no say in them.
        """
        name = client or self.plan.clients[0]
        own = self.folder / "clients" / name
        values: dict[str, object] = {
            "server": self.server_address,
            "registrar": self.registrar_address,
            "credentials": self.credentials("clients", name),
            "bundle": self.bundle,
            "log_key": self.log_key,
            "subject_key": own / "subject.key",
            "state": own / "client.sqlite",
        }
        return ClientSettings.model_validate({**values, **changes})
