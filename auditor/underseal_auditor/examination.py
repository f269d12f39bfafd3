"""What an auditor does with a server's result before anything of it is opened: all of it, again.

    frozen      the server's key was never caught
    catalogue   the snapshot that it signed is that of the auditor's own catalogue, and the result
                holds exactly the blocks to compare with
    tiles       the blocks hold what was enrolled, by the auditor's own sums
    result      norm and every block, computed again, equal to the bit

What breaks one of these freezes the server's key, on disk, before anybody is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from underseal_auditor.enrolled_probe import enrolled_probe
from underseal_auditor.policy.document import Policy
from underseal_auditor.replica import Replica
from underseal_auditor.store.frozen import FrozenServers
from underseal_auditor.store.tested import SoundUnits
from underseal_auditor.verify.chain import Chain, Sealed
from underseal_auditor.verify.fault import Rule, ServerFault
from underseal_auditor.verify.provenance import check_matches
from underseal_auditor.verify.reexecution import check_reexecuted
from underseal_auditor.zero_tests import ZeroTester
from underseal_core.errors import Damaged, NotFound, PermissionRefused
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.evaluation import Evaluator
from underseal_core.statements import Release

_log: Final = structlog.get_logger("underseal.examiner")


@dataclass(frozen=True, slots=True)
class Examiner:
    """Examines results with an auditor's own replica. Thread-safe.

    ``tested``: units that were found sound. ``clock`` returns aware times.
    """

    replica: Replica
    evaluator: Evaluator
    frozen: FrozenServers
    tested: SoundUnits
    clock: Callable[[], datetime]

    @property
    def tester(self) -> ZeroTester:
        """Looks for the key in what clients and enrollers encrypted."""
        return ZeroTester(self.replica, self.evaluator, self.tested)

    def examine(self, chain: Chain, sealed: Sealed, policy: Policy) -> Ciphertext:
        """Return the probe that an honest result was computed with.

        Where the request names an enrolled template, it comes from the auditor's own replica.

        Raises
        ------
        ServerFault
            The result is not honest. Its server is frozen now.
        Mismatch, Busy, NotFound, Damaged, InvalidInput, PermissionRefused
            See ``Replica.at`` and ``enrolled_probe``; the server is not frozen for these.
        """
        result = chain.result
        key = bytes.fromhex(policy.document.servers[result.server].key)
        self.frozen.check(key)
        try:
            return self._reexecute(chain, sealed, policy)
        except ServerFault as fault:
            now = self.clock()
            self.frozen.freeze(result.server, key, fault.rule, chain.request_sha256, now)
            _log.error("server frozen", server=result.server, rule=fault.rule.value)
            raise

    def _reexecute(self, chain: Chain, sealed: Sealed, policy: Policy) -> Ciphertext:
        request, result = chain.request, chain.result
        enrollers = policy.document.enrollers(request.gallery)
        held = self.replica.at(result.server, result.snapshot, request.pin, enrollers)
        with held as (view, folded):
            blocks = tuple(block.block for block in result.blocks)
            if (blocks, result.compared) != view.expected(request.targets):
                raise ServerFault(Rule.BLOCKS)
            tiles = folded.tiles.only(blocks)
            probe = sealed.probe or enrolled_probe(self.replica, chain, view, self.clock())
            check_reexecuted(self.evaluator, probe, sealed, tiles)
        return probe

    def check_release(self, chain: Chain, release: Release, policy: Policy) -> None:
        """Check that every match is a live template that was asked about and is signed for.

        Raises
        ------
        PermissionRefused
            One is not.
        """
        try:
            self._check_matches(chain, release, policy)
        except (Damaged, NotFound) as error:
            raise PermissionRefused("this auditor does not sign the release") from error

    def _check_matches(self, chain: Chain, release: Release, policy: Policy) -> None:
        server, gallery = chain.result.server, chain.request.gallery
        mirror = self.replica.mirror
        view = mirror.view(server, chain.result.snapshot)
        named = [one.template_id for match in release.matches for one in match.templates]
        origins = [mirror.origin(server, gallery, bytes.fromhex(one)) for one in named]
        enrollers = policy.document.enrollers(gallery)
        compared = view.compared(chain.request)
        check_matches(release, gallery, compared, origins, enrollers)
