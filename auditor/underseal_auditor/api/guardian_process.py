"""Everything a guardian's process consists of, put together from its settings."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Final

from underseal_auditor.api.guardian_servicer import ACCESS, SERVICE, GuardianServicer
from underseal_auditor.api.redaction_servicer import ACCESS as REDACTION_ACCESS
from underseal_auditor.api.redaction_servicer import SERVICE as REDACTION_SERVICE
from underseal_auditor.api.redaction_servicer import RedactionServicer
from underseal_auditor.api.replicating import (
    bench_of,
    check_servers,
    connect,
    examiner_of,
    replicate,
)
from underseal_auditor.guardianship import GuardianDesk, Watch
from underseal_auditor.keys import share_file
from underseal_auditor.log_memory import LogMemory
from underseal_auditor.logbook import load_vkey
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.signed import SignedPolicy, load_signed
from underseal_auditor.redacting import RedactionDesk
from underseal_auditor.settings import GuardianSettings
from underseal_auditor.store.database import Database
from underseal_auditor.store.docket import Docket
from underseal_auditor.store.ledger import Ledger
from underseal_auditor.store.policies import PolicyMemory
from underseal_auditor.store.quotas import Tallies
from underseal_auditor.verify.announcement import Register
from underseal_core.bundle import load_bundle
from underseal_core.credentials import Credentials, Role
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.roster import load_rosters
from underseal_core.rpc.guard import Guard
from underseal_core.rpc.listener import Listener
from underseal_core.rpc.tls import own_peer
from underseal_proto.v1 import guardian_pb2_grpc, redaction_pb2_grpc

DATABASE_NAME: Final = "guardian.sqlite"


class GuardianProcess:
    """One guardian.

    Parameters
    ----------
    settings
        Where everything is.
    passphrase
        Opens the key share.

    Raises
    ------
    UndersealError
        A file is missing, damaged or does not fit the others; nothing is left open.
    """

    def __init__(self, settings: GuardianSettings, passphrase: bytes) -> None:
        self._stack = ExitStack()
        with self._stack:
            self._build(settings, passphrase)
            self._stack = self._stack.pop_all()

    def _build(self, settings: GuardianSettings, passphrase: bytes) -> None:
        credentials = Credentials.load(settings.credentials)
        bundle = load_bundle(settings.bundle)
        rosters = load_rosters(bundle, settings.bundle, settings.successions)
        roster = rosters[-1]
        self._roster, self._policy_file = roster, settings.policy
        signed = self._load_policy()
        if own_peer(credentials).role is not Role.AUDITOR:
            raise InvalidInput("the credentials are not an auditor's")
        if signed.policy.profile != bundle.profile:
            raise Mismatch(
                f"the policy is for profile {signed.policy.profile.name}, "
                f"the keys are {bundle.profile.name}"
            )
        share = self._stack.enter_context(share_file.load(settings.share, passphrase, bundle.epoch))
        if roster.members[share.point - 1] != credentials.identity.public_key:
            raise InvalidInput(
                "the share is another member's than the credentials",
                hint="use the credentials that the ceremony used, and today's successions",
            )
        if share.generation != roster.generation:
            raise Mismatch(
                f"the share is of generation {share.generation.number}, "
                f"the successions end with {roster.generation.number}",
                hint="use the newest share of this member, and today's successions",
            )
        database = Database(settings.data / DATABASE_NAME)
        self._stack.callback(database.close)
        self._rulebook = Rulebook(PolicyMemory(database), signed)
        ledger, clock = Ledger(database), partial(datetime.now, UTC)
        register = Register(load_vkey(settings.log_key), frozenset(roster.members))
        sources = connect(settings.servers, credentials, self._stack)
        self._servers = settings.servers
        check_servers(signed.policy, self._servers)
        mirror, kept = replicate(settings.earlier, bundle, rosters, database)
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
        watch = Watch(
            rulebook=self._rulebook,
            bundle=bundle,
            roster=roster,
            share=share,
            identity=credentials.identity,
            examiner=examiner,
            ledger=ledger,
            docket=Docket(database),
            tallies=Tallies(database),
            log=LogMemory(register, ledger, clock),
            clock=clock,
        )
        self.point = share.point
        self.key_epoch = bundle.epoch
        self._servicer = GuardianServicer(GuardianDesk(watch))
        self._stack.callback(self._servicer.close)
        bench = bench_of(share, roster, credentials.identity, examiner, self._rulebook, kept)
        self._redactions = RedactionServicer(RedactionDesk(bench))
        self._stack.callback(self._redactions.close)
        self._credentials = credentials
        self._address = settings.listen

    def _load_policy(self) -> SignedPolicy:
        return load_signed(self._policy_file, self._roster)

    @property
    def policy_sha256(self) -> str:
        """Names the policy in force."""
        return self._rulebook.policy.sha256

    def reload(self) -> None:
        """Put the policy file in force as it is now.

        Raises
        ------
        UndersealError
            It is not signed, older, or for another profile: the one before stays in force.
        """
        signed = self._load_policy()
        if signed.policy.profile != self._rulebook.policy.profile:
            raise Mismatch("the policy is for another profile than the keys")
        check_servers(signed.policy, self._servers)
        self._rulebook.adopt(signed)

    async def start(self) -> str:
        """Start listening and return the address.

        Raises
        ------
        InvalidInput
            The address cannot be listened on.
        """
        register = [
            partial(guardian_pb2_grpc.add_GuardianServiceServicer_to_server, self._servicer),
            partial(redaction_pb2_grpc.add_RedactionServiceServicer_to_server, self._redactions),
        ]
        guard = Guard({**ACCESS, **REDACTION_ACCESS})
        services = [SERVICE, REDACTION_SERVICE]
        self._listener = Listener(self._address, self._credentials, guard, services, register)
        port = await self._listener.start()
        self._follower.start()
        return f"{self._address.rpartition(':')[0]}:{port}"

    async def serve_until_signal(self) -> None:
        """Return after SIGINT or SIGTERM."""
        await self._listener.serve_until_signal()

    def close(self) -> None:
        """Close the database, and overwrite the share."""
        self._stack.close()
