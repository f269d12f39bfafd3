"""An auditor's replica of the galleries, put together for a process that holds a share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from underseal_auditor.connection import ServerCatalogue
from underseal_auditor.converted import REPLICA_NAME, EarlierUnits, earlier_units
from underseal_auditor.examination import Examiner
from underseal_auditor.following import Follower
from underseal_auditor.keys.share import Share
from underseal_auditor.mirror import Mirror
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.redacting import Bench
from underseal_auditor.replica import Replica
from underseal_auditor.store.database import Database
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.tested import SoundUnits
from underseal_core.bundle import PublicBundle
from underseal_core.credentials import Credentials
from underseal_core.epochs import load_earlier
from underseal_core.errors import InvalidInput
from underseal_core.gallery.memory import BlockMemory
from underseal_core.roster import Roster
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.signing import Identity


def connect(
    servers: Mapping[str, str], credentials: Credentials, stack: ExitStack
) -> dict[str, ServerCatalogue]:
    """Return connections to the servers; ``stack`` closes them."""
    sources = {name: ServerCatalogue(address, credentials) for name, address in servers.items()}
    for source in sources.values():
        stack.callback(source.close)
    return sources


def check_servers(policy: Policy, servers: Mapping[str, str]) -> None:
    """Check that every server of the policy has an address.

    Raises
    ------
    InvalidInput
        One has none.
    """
    unknown = set(policy.document.servers) - set(servers)
    if unknown:
        raise InvalidInput(f"setting servers has no address for server {min(unknown)}")


def replicate(
    earlier: tuple[Path, ...],
    bundle: PublicBundle,
    rosters: Sequence[Roster],
    database: Database,
) -> tuple[Mirror, EarlierUnits]:
    """Return the catalogues' mirror, and the units that this auditor kept from before.

    Parameters
    ----------
    earlier
        Folders of the key epochs before the bundle's.
    rosters
        All generations of the bundle's.
    """
    epochs = load_earlier(earlier, bundle)
    mirror = Mirror(database, epochs.ids, (*epochs.rosters, *rosters))
    return mirror, earlier_units(bundle, epochs, earlier)


def bench_of(
    share: Share,
    roster: Roster,
    identity: Identity,
    examiner: Examiner,
    rulebook: Rulebook,
    kept: EarlierUnits,
) -> Bench:
    """Return what a holder of a share redacts with."""
    return Bench(
        bundle=kept.bundle,
        roster=roster,
        share=share,
        identity=identity,
        replica=examiner.replica,
        evaluator=examiner.evaluator,
        record=examiner.tested,
        rulebook=rulebook,
        clock=examiner.clock,
    )


def examiner_of(
    kept: EarlierUnits,
    rulebook: Rulebook,
    folder: Path,
    database: Database,
    mirror: Mirror,
    sources: Mapping[str, ServerCatalogue],
    memory_mib: int,
    stack: ExitStack,
) -> tuple[Examiner, Follower]:
    """Make a replica below ``folder``, and what keeps it up to date; ``stack`` closes all.

    Parameters
    ----------
    memory_mib
        How much memory the replica's blocks may take.
    """
    bundle = kept.bundle
    evaluator = Evaluator(bundle.profile, bundle.dimension, bundle.keys, os.cpu_count() or 1)
    stack.callback(evaluator.close)
    memory = BlockMemory(memory_mib << 20)
    replica = Replica(folder / REPLICA_NAME, mirror, evaluator, sources, kept, memory)
    follower = Follower(replica, rulebook, bundle.epoch)
    stack.callback(follower.close)
    clock = partial(datetime.now, UTC)
    frozen, tested = FrozenServers(database), SoundUnits(database, bundle.epoch)
    return Examiner(replica, evaluator, frozen, tested, clock), follower
