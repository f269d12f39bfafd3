"""A deployment of all roles on this machine: ceremony, server, registrar, mutual TLS, loopback.

Each role is a process of its own with its own folder, as in production; only the machine and the
development authority are shared.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from underseal_client.demo.council import (
    ANY_PORT,
    AUDITOR_PROGRAM,
    Council,
    Seat,
    guardian_name,
    write_passphrase,
)
from underseal_client.demo.process import Service, Services, run_program
from underseal_client.settings import ClientSettings
from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

SERVER_PROGRAM: Final = "underseal-server"
AUDITOR: Final = "auditor"
APPROVER: Final = "approver"
SERVER: Final = "server"
LOG_ORIGIN: Final = "localhost/underseal"


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
        Names; all of them may state every purpose for ``galleries``.
    purpose, approved_purpose
        One that needs nobody's approval, and one that needs an approver's; "": there is none.
    decimals
        Of released scores; None takes what suits the profile.
    enrolled_probes
        Every purpose may search with enrolled templates.
    guardians, threshold
        How many hold a share of the key, and how many of them open a score. A single one is part
        of the registrar's process.
    """

    dimension: int
    models: dict[str, str]
    galleries: tuple[str, ...]
    profile: str = "guarded"
    purpose: str = "demonstration"
    approved_purpose: str = ""
    clients: tuple[str, ...] = ("agency",)
    decimals: int | None = None
    enrolled_probes: bool = False
    guardians: int = 1
    threshold: int = 1

    @property
    def auditors(self) -> tuple[str, ...]:
        """Names of the auditors; the first one's credentials are the registrar's."""
        if self.guardians == 1:
            return (AUDITOR,)
        return tuple(guardian_name(point) for point in range(1, self.guardians + 1))


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A verified log: its entries, its root in base64, counts and alarms as the commands say them.

    ``rows``: those of ``log stats``; ``caught``: the servers that the auditors caught.
    """

    size: int
    root: str
    rows: tuple[dict[str, object], ...]
    caught: tuple[dict[str, object], ...]


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
        self.fingerprint = ""
        self._passphrase = folder / "passphrase"
        self._services = Services(folder)
        self.council: Council | None = None
        if plan.guardians > 1:
            self.council = Council(self._seats(), plan.threshold, self._services)

    def _seats(self) -> list[Seat]:
        return [
            Seat(point, self.folder / name, self.credentials("auditors", name))
            for point, name in enumerate(self.plan.auditors, start=1)
        ]

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
        """Make everything that comes before :meth:`start`: keys, a signed policy, an empty log."""
        self.hold_ceremony()
        self.write_policy()
        self.sign_policy()

    def hold_ceremony(self) -> None:
        """Make the authority, every participant's credentials, the keys and the log."""
        names = [part for client in self.plan.clients for part in ("--client", client)]
        names += [part for auditor in self.plan.auditors for part in ("--auditor", auditor)]
        names += ["--approver", APPROVER] if self.plan.approved_purpose else []
        run_program(SERVER_PROGRAM, "init", self.folder / "authority", *names)
        if self.council is None:
            self._make_sole_keys()
        else:
            self._make_shared_keys(self.council)
        run_program(AUDITOR_PROGRAM, "log", "create", "--out", self.log, "--origin", LOG_ORIGIN)

    def _make_sole_keys(self) -> None:
        write_passphrase(self._passphrase)
        said = run_program(
            AUDITOR_PROGRAM,
            "ceremony",
            *("--credentials", self.credentials("auditors", AUDITOR)),
            *("--profile", self.plan.profile),
            *("--dimension", self.plan.dimension),
            *("--out", self.bundle.parent),
            *("--passphrase-file", self._passphrase),
            "--json",
        )
        self.fingerprint = str(json.loads(said)["fingerprint"])

    def _make_shared_keys(self, council: Council) -> None:
        """Hold the ceremony; the bundle is published, everything else stays at the guardians."""
        file = self.folder / "ceremony.json"
        self.fingerprint = council.hold_ceremony(file, self.plan.profile, self.plan.dimension)
        self.bundle.parent.mkdir()
        shutil.copyfile(council.seats[0].keys / self.bundle.name, self.bundle)

    def write_policy(self) -> None:
        """Write the policy file: all clients, all galleries for every purpose."""
        plan = self.plan
        participants = [self.credentials("clients", name) for name in plan.clients]
        participants.append(self.credentials("server"))
        arguments: list[object] = ["--bundle", self.bundle, "--purpose", plan.purpose]
        arguments += ["--out", self.policy]
        if plan.approved_purpose:
            arguments += ["--purpose", f"{plan.approved_purpose}=one"]
            participants.append(self.credentials("approvers", APPROVER))
        for folder in participants:
            arguments += ["--certificate", folder / "tls.crt"]
        for gallery in plan.galleries:
            arguments += ["--gallery", gallery]
        for model, threshold in plan.models.items():
            arguments += ["--model", f"{model}={threshold}"]
        if plan.decimals is not None:
            arguments += ["--decimals", plan.decimals]
        if plan.enrolled_probes:
            arguments += ["--enrolled-probes"]
        run_program(AUDITOR_PROGRAM, "policy", "new", *arguments)

    def sign_policy(self) -> tuple[str, ...]:
        """Have as many auditors sign the policy as it takes; return their names."""
        signers = self.plan.auditors[: self.plan.threshold]
        for name in signers:
            signing = ["--bundle", self.bundle, "--credentials", self.credentials("auditors", name)]
            run_program(AUDITOR_PROGRAM, "policy", "sign", self.policy, *signing)
        return signers

    def start(self, *server_options: object) -> None:
        """Start server, guardians and registrar and wait until all serve."""
        self.start_server(*server_options)
        if self.council is not None:
            self.council.start(self._guardian_options)
        self.start_registrar()

    def start_server(self, *options: object, listen: str = ANY_PORT) -> Service:
        """Start the server; ``options`` go to its command line."""
        if not self.server_data.exists():
            run_program(SERVER_PROGRAM, "bundle", "add", self.bundle, "--data", self.server_data)
        arguments = ["serve", "--data", self.server_data, "--listen", listen, "--json"]
        arguments += ["--credentials", self.credentials("server"), *options]
        service = self._services.start(SERVER, SERVER_PROGRAM, arguments)
        self.server_address = service.wait_listening()
        return service

    def start_registrar(self, *options: object) -> Service:
        """Start the registrar; it needs the addresses of server and guardians."""
        arguments: list[object] = ["registrar", "serve", "--listen", ANY_PORT, "--json"]
        arguments += ["--credentials", self.credentials("auditors", self.plan.auditors[0])]
        arguments += ["--bundle", self.bundle, "--policy", self.policy, "--log", self.log]
        arguments += ["--data", self.registrar_data, *self._opening_options()]
        arguments += ["--server", f"{SERVER}={self.server_address}", *options]
        service = self._services.start(AUDITOR, AUDITOR_PROGRAM, arguments)
        self.registrar_address = service.wait_listening()
        return service

    def _opening_options(self) -> list[object]:
        """Return what the registrar opens with: its own share, or the guardians."""
        if self.council is None:
            keys, passphrase = self.bundle.parent, self._passphrase
            options: list[object] = ["--share", keys / "share.sealed"]
        else:
            seat, addresses = self.council.seats[0], self.council.addresses
            keys, passphrase = seat.keys, seat.passphrase
            known = [f"{point}={address}" for point, address in sorted(addresses.items())]
            options = [part for guardian in known for part in ("--guardian", guardian)]
        return [*options, "--label-key", keys / "label.sealed", "--passphrase-file", passphrase]

    def _guardian_options(self, seat: Seat) -> list[object]:
        """Return what a guardian gets from others."""
        server = f"{SERVER}={self.server_address}"
        return ["--policy", self.policy, "--log-key", self.log_key, "--server", server]

    def approve(self) -> list[str]:
        """Have the approver sign everything that waits; return the request ids."""
        own = ["--registrar", self.registrar_address]
        own += ["--credentials", str(self.credentials("approvers", APPROVER))]
        said = json.loads(run_program(AUDITOR_PROGRAM, "approvals", "list", *own, "--json"))
        waiting = [str(entry["request_id"]) for entry in said["pending"]]
        for request_id in waiting:
            run_program(AUDITOR_PROGRAM, "approvals", "approve", request_id, *own)
        return waiting

    def restart_server(self, meanwhile: Callable[[Path], object]) -> None:
        """Stop the server, start it again at its address and wait until it serves.

        Parameters
        ----------
        meanwhile
            Called with the server's data folder while the server is stopped.
        """
        self.service(SERVER).stop()
        meanwhile(self.server_data)
        self.start_server(listen=self.server_address)

    def kill_guardian(self, point: int) -> None:
        """End a guardian's process at once, as a crash would."""
        self._council().kill(point)

    def restart_guardian(self, point: int) -> None:
        """Start a guardian again, at its old address, and wait until it serves."""
        self._council().restart(point, self._guardian_options)

    def _council(self) -> Council:
        if self.council is None:
            raise InvalidInput("this deployment has no guardians of their own")
        return self.council

    def verify_log(self, known: Sequence[Path] = ()) -> LogSummary:
        """Recompute the log from outside, from its entries up.

        Parameters
        ----------
        known
            Receipts that the log must honour.

        Raises
        ------
        ProgramFailed
            It does not verify.
        """
        options: list[object] = [self.log, "--log-key", self.log_key, "--json"]
        receipts = [part for path in known for part in ("--known", path)]
        told = ["--bundle", self.bundle, *receipts]
        verified = json.loads(run_program(AUDITOR_PROGRAM, "log", "verify", *options, *told))
        counted = json.loads(run_program(AUDITOR_PROGRAM, "log", "stats", *options))
        rows, caught = tuple(counted["rows"]), tuple(verified["servers_caught"])
        return LogSummary(int(verified["size"]), str(verified["root"]), rows, caught)

    def service(self, name: str) -> Service:
        """Return a running service: "server", "auditor", or "guardian-1" and so on."""
        return self._services[name]

    def stop(self) -> None:
        """End every process."""
        self._services.stop()

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
