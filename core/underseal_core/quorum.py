"""How many of how many auditors: k of n.

Any two groups of k must share a member. Where k <= n/2, two groups without one could each answer
the same ciphertext, and neither would know of the other's answer: noise that is drawn twice
averages out, and every count that guardians keep is kept twice.
"""

from __future__ import annotations

from underseal_core.errors import InvalidInput


def check_quorum(threshold: int, members: int) -> None:
    """Check that ``threshold`` of ``members`` auditors may open: more than half of them.

    Raises
    ------
    InvalidInput
        They may not.
    """
    if not 1 <= threshold <= members:
        raise InvalidInput(
            f"a threshold of {threshold} does not fit {members} members",
            hint="1 <= threshold <= members",
        )
    if 2 * threshold <= members:
        raise InvalidInput(
            f"with {threshold} of {members} members, two groups could open the same ciphertext "
            "without knowing of each other",
            hint=f"choose a threshold of {members // 2 + 1} or more",
        )
