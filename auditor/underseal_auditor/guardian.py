"""The guardian as the registrar knows it: the only part that holds a share of the key.

Either in the registrar's process, with all shares that are needed (1 of 1), or k of n elsewhere
(see ``panel.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from underseal_auditor.examination import Examiner
from underseal_auditor.keys.decryption import Opener
from underseal_auditor.policy.document import Policy
from underseal_auditor.policy.rulebook import Rulebook
from underseal_auditor.policy.rules import KeyFacts
from underseal_auditor.verify.chain import Chain, Sealed
from underseal_auditor.zero_session import prove_here
from underseal_core.errors import Mismatch
from underseal_core.log_entries import Logged
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encoding import Real
from underseal_core.signing import Envelope
from underseal_core.statements import Release


@dataclass(frozen=True, slots=True)
class Dossier:
    """What a guardian checks for itself.

    Both statements as signed, every ciphertext, the ``intent`` as logged, and the ``approvals`` of
    persons, if there are any.
    """

    request: Envelope
    result: Envelope
    chain: Chain
    sealed: Sealed
    intent: Logged
    approvals: tuple[Envelope, ...] = ()


class UnfitGuardian(Mismatch):
    """A guardian cannot work for this registrar, whatever the submission. Call the auditors."""


class Opening(Protocol):
    """One submission's opening."""

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Real:
        """Return the coefficients with noise, ``float64``, shape ``(degree,)``.

        Parameters
        ----------
        ciphertext
            One of the submission's. The caller has recorded it as opened before.
        noise_std
            In units of the message.
        """

    def countersign(self, release: Envelope) -> Envelope:
        """Return the release with the signatures of all that opened."""


class Guardian(Protocol):
    """Opens ciphertexts, never without noise."""

    @property
    def keys(self) -> KeyFacts:
        """The keys in force."""

    def check_ready(self) -> None:
        """Check that an opening could begin now, so that none is announced in vain.

        Raises
        ------
        UndersealError
            Too few guardians can be reached (Busy), or one does not fit.
        """

    def begin(self, dossier: Dossier) -> Opening:
        """Start the opening of a submission; nothing is opened yet.

        Raises
        ------
        ServerFault
            A guardian caught the server: nothing of the result is true.
        UndersealError
            A guardian refuses it, or too few can be reached (Busy).
        """


class LocalGuardian:
    """Opens with the shares of this process, after computing the search again.

    What is left to check, its registrar has checked.
    """

    def __init__(
        self,
        opener: Opener,
        keys: KeyFacts,
        rulebook: Rulebook,
        examiner: Examiner,
    ) -> None:
        self._opener = opener
        self._rulebook = rulebook
        self._examiner = examiner
        self.keys = keys

    def check_ready(self) -> None:
        """See :class:`Guardian`: this one is always there."""

    def begin(self, dossier: Dossier) -> Opening:
        """See :class:`Guardian`."""
        probe = self._examiner.examine(dossier.chain, dossier.sealed, self._rulebook.policy)
        prove_here(self._examiner.tester, self._opener, dossier.chain, probe)
        return LocalOpening(self._opener, dossier.chain, self._rulebook.policy, self._examiner)


class LocalOpening:
    """One submission's opening in this process."""

    def __init__(self, opener: Opener, chain: Chain, policy: Policy, examiner: Examiner) -> None:
        self._opener = opener
        self._chain = chain
        self._policy = policy
        self._examiner = examiner

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Real:
        """See :class:`Opening`."""
        return self._opener.open(ciphertext, noise_std)

    def countersign(self, release: Envelope) -> Envelope:
        """See :class:`Opening`; the registrar's signature is this guardian's."""
        matches = Release.parse(release.payload)
        self._examiner.check_release(self._chain, matches, self._policy)
        return release
