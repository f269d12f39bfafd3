"""A member's share of the joint secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from underseal_core.errors import InvalidInput, UndersealError
from underseal_core.quorum import check_quorum
from underseal_core.roster import Generation

if TYPE_CHECKING:
    from types import TracebackType

    from underseal_auditor.keys.pairs import PairSecrets
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


class ShareClosed(UndersealError):
    """The share was overwritten. Load it again."""


class Share:
    """The value ``S_l`` of the joint Shamir polynomial at the member's point.

    Parameters
    ----------
    profile
        The key epoch's profile.
    epoch
        The key epoch's id, 64 hexadecimal digits.
    threshold
        How many members are needed.
    secret
        ``(fresh_level + 1, degree)``, NTT form, the special prime last. Owned from here on, and
        overwritten by :meth:`close`.
    pairs
        This member's secrets with the others; they know its point. Owned likewise.
    generation
        Of the sharing; None for the ceremony's. Shares of one generation open together.

    Raises
    ------
    InvalidInput
        The parts do not fit together.
    """

    def __init__(
        self,
        profile: Profile,
        epoch: str,
        threshold: int,
        secret: Residues,
        pairs: PairSecrets,
        generation: Generation | None = None,
    ) -> None:
        point, members = pairs.point, pairs.members
        if not 1 <= point <= members:
            raise InvalidInput("the share's point is impossible")
        check_quorum(threshold, members)
        if secret.shape != (len(profile.key_primes), profile.degree):
            raise InvalidInput("the share does not have the profile's shape")
        self.profile = profile
        self.epoch = epoch
        self.generation = generation or Generation(0, epoch)
        self.point = point
        self.threshold = threshold
        self.members = members
        self._secret: Residues | None = secret
        self._pairs = pairs

    def __repr__(self) -> str:
        quorum = f"{self.threshold} of {self.members}"
        number = self.generation.number
        return f"Share(epoch={self.epoch[:16]}, {number=}, point={self.point}, {quorum})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a share is not pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def secret(self) -> Residues:
        """The share itself; not to be copied.

        Raises
        ------
        ShareClosed
            After :meth:`close`.
        """
        if self._secret is None:
            raise ShareClosed("the key share was closed", hint="load the share file again")
        return self._secret

    @property
    def pairs(self) -> PairSecrets:
        """The secrets with the other members; not to be copied.

        Raises
        ------
        ShareClosed
            After :meth:`close`.
        """
        if self._secret is None:
            raise ShareClosed("the key share was closed", hint="load the share file again")
        return self._pairs

    def bound_to(self, epoch: str, generation: Generation) -> Share:
        """Hand the secret over to a share of this epoch and generation; this object is closed."""
        secret = self.secret
        self._secret = None
        return Share(self.profile, epoch, self.threshold, secret, self._pairs, generation)

    def close(self) -> None:
        """Overwrite the share. What the interpreter copied elsewhere is out of reach."""
        if self._secret is not None:
            self._secret.fill(0)
            self._secret = None
            self._pairs.close()
