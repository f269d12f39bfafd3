"""The policy in force at a registrar or guardian. It can change while the process runs."""

from __future__ import annotations

from typing import Protocol

from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.signed import SignedPolicy


class Memory(Protocol):
    """Remembers which policy was in force last; see ``PolicyMemory``."""

    def advance(self, serial: int, sha256: str) -> None:
        """Take note of a policy, durably; raises Mismatch or Conflict for an older one."""
        ...


class Rulebook:
    """Holds one signed policy; reading it is safe from any thread.

    Parameters
    ----------
    first
        In force from the start.

    Raises
    ------
    Mismatch, Conflict
        A newer one, or another one with its serial, was in force here.
    """

    def __init__(self, memory: Memory, first: SignedPolicy) -> None:
        self._memory = memory
        self.adopt(first)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._signed.policy

    @property
    def signed(self) -> SignedPolicy:
        """The policy in force, with its approval."""
        return self._signed

    def adopt(self, signed: SignedPolicy) -> None:
        """Put a policy in force; raises as the constructor does, and then changes nothing."""
        self._memory.advance(signed.approval.serial, signed.approval.policy_sha256)
        self._signed = signed
