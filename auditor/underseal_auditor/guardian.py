"""The guardian: the only part that holds a share of the key.

In this first form it lives in the registrar's process and holds all shares that are needed. The
registrar knows it by :class:`Guardian` only, so that k guardians elsewhere can take its place.
"""

from __future__ import annotations

from typing import Protocol

from underseal_auditor.keys.decryption import Opener
from underseal_auditor.policy.rules import KeyFacts
from underseal_core.scheme.ciphertext import Ciphertext
from underseal_core.scheme.encoding import Real


class Guardian(Protocol):
    """Opens ciphertexts, never without noise."""

    @property
    def keys(self) -> KeyFacts:
        """The keys in force."""

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Real:
        """Return the coefficients with noise, ``float64``, shape ``(degree,)``.

        Parameters
        ----------
        noise_std
            In units of the message. The caller has recorded the ciphertext as opened before.
        """


class LocalGuardian:
    """Opens with the shares of this process."""

    def __init__(self, opener: Opener, keys: KeyFacts) -> None:
        self._opener = opener
        self.keys = keys

    def open(self, ciphertext: Ciphertext, noise_std: float) -> Real:
        """See :class:`Guardian`."""
        return self._opener.open(ciphertext, noise_std)
