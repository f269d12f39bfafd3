"""A council whose keys are on disk, and its re-sharings as processes on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.auditor_credentials import write_credentials
from tests.ceremony_place import PASSPHRASE, Joining, command, free_ports
from tests.oracles.ceremonies import Finished, finished
from underseal_auditor.keys import share_file
from underseal_auditor.keys.sealed_file import Argon2Cost
from underseal_auditor.keys.share import Share
from underseal_core.bundle import PublicBundle
from underseal_core.roster import Roster, load_rosters
from underseal_core.signing import Identity
from underseal_server.pki import Authority

CHEAP = Argon2Cost(memory_kib=64, passes=1)


@dataclass(frozen=True)
class Holders:
    """Members' folders: ``keys-NAME``, ``auditor-NAME``. A member's name is its point at first."""

    root: Path
    bundle: PublicBundle
    authority: Authority

    def keys(self, name: object) -> Path:
        return self.root / f"keys-{name}"

    def credentials(self, name: object) -> Path:
        return self.root / f"auditor-{name}"

    def share(self, name: object) -> Share:
        return share_file.load(self.keys(name) / "share.sealed", PASSPHRASE.encode())

    def rosters(self, name: object) -> list[Roster]:
        return load_rosters(self.bundle, self.keys(name) / "bundle.usb", None)

    def newcomer(self, name: str, after: object) -> Identity:
        """Give a new identity credentials, and what is public from a member's folder."""
        identity = Identity.generate()
        write_credentials(self.authority, self.credentials(name), f"auditor-{name}", identity)
        self.keys(name).mkdir()
        for file in ("bundle.usb", "successions.jsonl"):
            if (self.keys(after) / file).exists():
                (self.keys(name) / file).write_bytes((self.keys(after) / file).read_bytes())
        return identity


@dataclass(frozen=True)
class Resharing:
    """One re-sharing between the members of these names, in the order of their points."""

    holders: Holders
    label: str
    names: Sequence[object]
    ports: list[int]
    verb: str

    @property
    def file(self) -> Path:
        return self.holders.root / f"{self.label}.json"

    def state(self, name: object) -> Path:
        return self.holders.root / f"{self.label}-{name}"

    def arguments(self, name: object) -> list[str]:
        own = list(self.names).index(name)
        arguments: list[object] = ["shares", self.verb, "--file", self.file]
        arguments += ["--credentials", self.holders.credentials(name)]
        arguments += ["--state", self.state(name), "--keys", self.holders.keys(name)]
        arguments += ["--listen", f"127.0.0.1:{self.ports[own]}"]
        for index, port in enumerate(self.ports):
            if index != own:
                arguments += ["--peer", f"{index + 1}=127.0.0.1:{port}"]
        return [str(argument) for argument in arguments]

    @contextmanager
    def joining(self) -> Iterator[list[Joining]]:
        """All members at once; none survives the block."""
        members: list[Joining] = []
        try:
            for name in self.names:
                members.append(Joining(self.arguments(name)))
            yield members
        finally:
            for member in members:
                if member.process.poll() is None:
                    member.kill()


def holders(
    root: Path, bundle: PublicBundle, identities: Sequence[Identity], shares: Sequence[Share]
) -> Holders:
    """Write what a ceremony leaves with each member."""
    made = Holders(root, bundle, Authority.create())
    for point, (identity, share) in enumerate(zip(identities, shares, strict=True), start=1):
        folder = made.keys(point)
        folder.mkdir(parents=True)
        bundle.save(folder / "bundle.usb")
        share_file.save(folder / "share.sealed", share, PASSPHRASE.encode(), CHEAP)
        write_credentials(made.authority, made.credentials(point), f"auditor-{point}", identity)
    return made


def after_ceremony(root: Path, threshold: int, count: int) -> tuple[Holders, Finished]:
    """Members' folders as a ceremony leaves them, and the ceremony."""
    ceremony = finished(threshold=threshold, count=count)
    identities = [member.identity for member in ceremony.members]
    return holders(root, ceremony.bundle, identities, ceremony.shares), ceremony


def resharing(made: Holders, label: str, names: Sequence[object], verb: str) -> Resharing:
    """Prepare all members and write the plan, by commands."""
    run = Resharing(made, label, names, free_ports(len(names)), verb)
    cards = []
    for name in names:
        arguments = ["--credentials", made.credentials(name), "--state", run.state(name)]
        cards.append(command("shares", "prepare", *arguments)["card"])
    stays = next(name for name in names if (made.keys(name) / "share.sealed").exists())
    command("shares", "plan", *cards, "--keys", made.keys(stays), "--out", run.file)
    return run
