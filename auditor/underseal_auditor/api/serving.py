"""Everything a registrar's process consists of, put together from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from underseal_auditor.api.access import ACCESS, APPROVAL_SERVICE, LOG_SERVICE, SERVICE
from underseal_auditor.api.approval_servicer import ApprovalServicer
from underseal_auditor.api.log_servicer import LogServicer
from underseal_auditor.api.redaction_connection import RedactionConnection
from underseal_auditor.api.registrar_servicer import RegistrarServicer
from underseal_auditor.api.replicating import (
    bench_of,
    check_servers,
    connect,
    examiner_of,
    replicate,
)
from underseal_auditor.connection import GuardianConnection
from underseal_auditor.erasing import Eraser, ErasingOffice, RedactionLink
from underseal_auditor.following import Follower
from underseal_auditor.guardian import Guardian, LocalGuardian
from underseal_auditor.keys import share_file
from underseal_auditor.keys.decryption import Opener
from underseal_auditor.logbook import Logbook, load_vkey, open_logbook
from underseal_auditor.panel import Panel
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import key_facts
from underseal_auditor.policy.signed import load_signed
from underseal_auditor.redacting import RedactionDesk
from underseal_auditor.registrar import Office, Registrar
from underseal_auditor.settings import RegistrarSettings
from underseal_auditor.store.database import Database
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.pending import PendingStore
from underseal_auditor.store.policies import PolicyMemory
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.store.warrants import WarrantStore
from underseal_auditor.verify.sketch import Sketcher
from underseal_core.bundle import PublicBundle, load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import InvalidInput, Mismatch, UndersealError
from underseal_core.log_entries import encode_entry
from underseal_core.roster import Roster, find_successions, follow
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.tls import own_peer
from underseal_core.signing import Envelope
from underseal_proto.v1 import approval_pb2_grpc, log_pb2_grpc, registrar_pb2_grpc

_log: Final = structlog.get_logger("underseal.registrar")

SWEEP_SECONDS: Final = 60.0
DATABASE_NAME: Final = "registrar.sqlite"


class RegistrarProcess:
    """A registrar, with a guardian in the same process or guardians elsewhere.

    Parameters
    ----------
    settings
        Where everything is.
    passphrase
        Opens the key share and the label key.

    Raises
    ------
    UndersealError
        A file is missing, damaged or does not fit the others; nothing is left open.
    """

    def __init__(self, settings: RegistrarSettings, passphrase: bytes) -> None:
        self._stack = ExitStack()
        with self._stack:
            self._build(settings, passphrase)
            self._stack = self._stack.pop_all()

    def _build(self, settings: RegistrarSettings, passphrase: bytes) -> None:
        credentials = Credentials.load(settings.credentials)
        bundle = load_bundle(settings.bundle)
        successions = find_successions(settings.bundle, settings.successions)
        rosters = follow(bundle, successions)
        self._roster = rosters[-1]
        signed = load_signed(settings.policy, self._roster)
        check_parts(credentials, bundle, self._roster, signed.policy, settings)
        self.key_epoch = bundle.epoch
        database = Database(settings.data / DATABASE_NAME)
        self._stack.callback(database.close)
        self._rulebook = Rulebook(PolicyMemory(database), signed)
        witnesses = [load_vkey(path) for path in settings.witnesses]
        logbook = open_logbook(settings.log, credentials.identity, witnesses)
        self._stack.callback(logbook.close)
        self.log_vkey = logbook.key.vkey()
        sources = connect(settings.servers, credentials, self._stack)
        mirror, kept = replicate(settings.earlier, bundle, rosters, database)
        self._follower: Follower | None = None
        links: dict[int, RedactionLink] = {}
        catch_up: Callable[[str, str], None] | None = None
        if settings.share is None:
            guardian: Guardian = self._panel(settings, bundle, credentials, logbook, database)
            links |= self._redactors(settings, credentials)
        else:
            share = share_file.load(settings.share, passphrase, bundle.epoch)
            self._stack.enter_context(share)
            examiner, self._follower = examiner_of(
                kept,
                self._rulebook,
                settings.data,
                database,
                mirror,
                sources,
                settings.memory_mib,
                self._stack,
            )
            opener = Opener([share], bundle)
            bench = bench_of(
                share, self._roster, credentials.identity, examiner, self._rulebook, kept
            )
            desk = RedactionDesk(bench)
            links[share.point], catch_up = desk, desk.follow
            guardian = LocalGuardian(opener, key_facts(bundle), self._rulebook, examiner)
        label_key = share_file.load_label_key(settings.label_key, passphrase, bundle.epoch)
        office = Office(
            rulebook=self._rulebook,
            guardian=guardian,
            label_key=label_key,
            sketcher=Sketcher(label_key),
            identity=credentials.identity,
            ledger=Ledger(database),
            logbook=logbook,
            mirror=mirror,
            tallies=Tallies(database),
            pending=PendingStore(database),
            provisional=WarrantStore(database),
            feeds=sources,
            frozen=FrozenServers(database),
            clock=partial(datetime.now, UTC),
        )
        erasing = ErasingOffice(
            bundle=bundle,
            roster=self._roster,
            successions=successions,
            rulebook=self._rulebook,
            mirror=mirror,
            servers=sources,
            links=links,
            record=lambda amendment: _log_amendment(logbook, amendment),
            clock=partial(datetime.now, UTC),
            follow=catch_up,
        )
        self.eraser = Eraser(erasing)
        self._registrar = Registrar(office)
        self._registrar.resume()
        logbook.put_successions(successions)
        self._servicer = RegistrarServicer(self._registrar, settings.max_submissions)
        self._stack.callback(self._servicer.close)
        self._log_servicer = LogServicer(logbook.log, logbook.cosigned)
        self._stack.callback(self._log_servicer.close)
        self._credentials = credentials
        self._bundle = bundle
        self._settings = settings
        self._address = settings.listen

    @property
    def policy_sha256(self) -> str:
        """Names the policy in force."""
        return self._rulebook.policy.sha256

    def reload(self) -> None:
        """Put the policy file in force as it is now.

        Raises
        ------
        UndersealError
            It is not signed, older, or does not fit: the one before stays in force.
        """
        signed = load_signed(self._settings.policy, self._roster)
        check_parts(self._credentials, self._bundle, self._roster, signed.policy, self._settings)
        self._registrar.adopt(signed)

    def _panel(
        self,
        settings: RegistrarSettings,
        bundle: PublicBundle,
        credentials: Credentials,
        logbook: Logbook,
        database: Database,
    ) -> Panel:
        links = {}
        for point, address in settings.guardians.items():
            links[point] = GuardianConnection(address, credentials, point)
            self._stack.callback(links[point].close)
        panel = Panel(
            bundle,
            self._roster,
            lambda: self.policy_sha256,
            links,
            logbook.extends,
            Ledger(database).envelope,
        )
        self._stack.callback(panel.close)
        return panel

    def _redactors(
        self, settings: RegistrarSettings, credentials: Credentials
    ) -> dict[int, RedactionLink]:
        links: dict[int, RedactionLink] = {}
        for point, address in settings.guardians.items():
            connection = RedactionConnection(address, credentials, point)
            self._stack.callback(connection.close)
            links[point] = connection
        return links

    async def start(self) -> str:
        """Start listening and return the address.

        Raises
        ------
        InvalidInput
            The address cannot be listened on.
        """
        register = [
            partial(registrar_pb2_grpc.add_RegistrarServiceServicer_to_server, self._servicer),
            partial(log_pb2_grpc.add_LogServiceServicer_to_server, self._log_servicer),
            partial(
                approval_pb2_grpc.add_ApprovalServiceServicer_to_server,
                ApprovalServicer(self._registrar.waiting),
            ),
        ]
        services = [SERVICE, LOG_SERVICE, APPROVAL_SERVICE]
        self._listener = Listener(
            self._address,
            self._credentials,
            Guard(ACCESS),
            services,
            register,
        )
        port = await self._listener.start()
        self._sweeping = [asyncio.create_task(self._sweep())]
        if self._settings.erase_seconds:
            self._sweeping.append(asyncio.create_task(self._erase(self._settings.erase_seconds)))
        if self._follower is not None:
            self._follower.start()
        return f"{self._address.rpartition(':')[0]}:{port}"

    async def stop(self) -> None:
        """Stop listening; calls that run have a few seconds."""
        self._end_tasks()
        await self._listener.stop()

    async def _sweep(self) -> None:
        """Revoke provisional releases when their time is over, also while nobody asks."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await asyncio.to_thread(self._registrar.warrants.sweep)
            except UndersealError as error:
                _log.error("cannot revoke", reason=error.public)

    async def _erase(self, seconds: float) -> None:
        """Have removed templates erased, also while nobody asks."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(self.eraser.run)
            except UndersealError as error:
                _log.error("cannot erase", reason=error.public)

    async def serve_until_signal(self) -> None:
        """Return after SIGINT or SIGTERM."""
        await self._listener.serve_until_signal()
        self._end_tasks()

    def _end_tasks(self) -> None:
        for task in self._sweeping:
            task.cancel()

    def close(self) -> None:
        """Close files and connections, and overwrite the share."""
        self._stack.close()


def _log_amendment(logbook: Logbook, amendment: Envelope) -> None:
    logbook.append(encode_entry(amendment))


def check_parts(
    credentials: Credentials,
    bundle: PublicBundle,
    roster: Roster,
    policy: Policy,
    settings: RegistrarSettings,
) -> None:
    """Check that settings, keys, policy and identity are of one deployment.

    Raises
    ------
    Mismatch
        The policy is for another profile than the keys.
    InvalidInput
        Not an auditor's credentials, not a member's of today, or a server without address.
    """
    if own_peer(credentials).role is not Role.AUDITOR:
        raise InvalidInput("the credentials are not an auditor's")
    if credentials.identity.public_key not in roster.members:
        raise InvalidInput(
            "this identity holds no share of the bundle's key",
            hint="releases would not verify: use a member's credentials, and today's successions",
        )
    if policy.profile != bundle.profile:
        raise Mismatch(
            f"the policy is for profile {policy.profile.name}, the keys are {bundle.profile.name}"
        )
    if (settings.share is None) == (not settings.guardians):
        raise InvalidInput(
            "a registrar needs either a share that opens alone or guardians",
            hint="set share or guardians, and not both",
        )
    check_servers(policy, settings.servers)
