"""Switching keys: from the secret of an old key epoch to that of a new one (keys.md, rotation).

``k`` members of the old epoch encrypt their weighted shares under the new epoch's public key, digit
by digit; the sum of these encryptions is the key::

    C_i,j = (u_ij b + e_ij + [P lambda_i S_i]_j , u_ij a + e'_ij)         at key level
    K_j   = sum_i C_i,j      so that   K_j,0 + K_j,1 s_new = [P s_old]_j + small

Nobody holds ``s_old``, and a contribution is an encryption: whoever holds fewer than the new
epoch's threshold of shares learns nothing from it, however many old shares they hold. Who holds
that many opens the sum, and with it the old epoch: that is what switching means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from underseal_auditor.keys.decryption import weigh
from underseal_auditor.keys.elements import gadget, total
from underseal_auditor.keys.whole_share import encrypt_whole_zero
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.ring import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underseal_auditor.keys.sampling import Stream
    from underseal_auditor.keys.share import Share
    from underseal_core.bundle import PublicBundle
    from underseal_core.scheme.ciphertext import Residues
    from underseal_core.scheme.profiles import Profile


def contribute(
    share: Share, active: Sequence[int], successor: PublicBundle, stream: Stream
) -> Residues:
    """Encrypt one old member's part of the switching key under the new public key.

    The caller keeps the rule that a member contributes once to a pair of key epochs.

    Parameters
    ----------
    share
        Of the old key epoch.
    active
        Points of the ``threshold`` old members who contribute, this one among them.
    successor
        The new key epoch.

    Returns
    -------
    Residues
        ``(fresh_level, 2, fresh_level + 1, degree)``: digit, component.

    Raises
    ------
    InvalidInput
        A wrong active set.
    Mismatch
        The new key epoch is of another profile.
    """
    profile = share.profile
    if successor.profile != profile:
        raise Mismatch("the new keys are of another profile than the old ones")
    points = set(active)
    if len(points) != len(active) or len(points) != share.threshold:
        raise InvalidInput(f"exactly {share.threshold} members contribute to a switching key")
    if share.point not in points or not points <= set(range(1, share.members + 1)):
        raise InvalidInput("the contributing members do not fit the key share")
    primes = profile.key_primes
    weighted = weigh(share, active, primes)
    digits = []
    for digit in range(profile.fresh_level):
        encrypted = encrypt_whole_zero(successor.public_key, profile, stream)
        scaled = gadget(weighted, digit, profile)
        encrypted[0] = kernel.add(np.ascontiguousarray(encrypted[0]), scaled, primes)
        scaled.fill(0)
        digits.append(encrypted)
    weighted.fill(0)
    return np.stack(digits)


def combine_contributions(parts: Sequence[Residues], profile: Profile) -> Residues:
    """Return the switching key, the sum of ``threshold`` contributions, of the same shape."""
    return total(list(parts), profile.key_primes)
