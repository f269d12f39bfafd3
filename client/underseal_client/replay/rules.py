"""The replay's policy: everything that ``policy new`` writes, with room for a test.

A policy for real people refuses what the test of 2018 did: hundreds of searches a day, each of
which matches many. The replay's own deployment has no real person in its gallery, and its auditors
allow it: more matches in a release, more near misses, as many searches and scores as the test
takes, and all the values that the keys can make visible safely. Every search passes through the
same rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from underseal_core.errors import InvalidInput

if TYPE_CHECKING:
    from underseal_client.replay.population import Real

TOP_K: Final = 100
"""The most that a policy may show in a release."""
MAX_PER_SEARCH: Final = 1000
"""The most matches, and near misses, that a policy may let pass in a search."""
MAX_SCORES: Final = 1000
_RESERVE: Final = 0.98
"""Share of the budget that the values may take: noise moves a few across the line."""
_AT_ONCE: Final = 4096


@dataclass(frozen=True, slots=True)
class Room:
    """What keys allow: values in a key epoch, and the band below a threshold that is charged."""

    budget: int
    band: float


def widened(policy: str, searches: int, room: Room, *, numeric: bool) -> str:
    """Return the text of a starter policy with room for the replay.

    Parameters
    ----------
    policy
        From ``underseal-auditor policy new``.
    numeric
        Whether scores are released; answers of yes or no are not widened in number.

    Raises
    ------
    InvalidInput
        The text is another one than ``policy new`` writes.
    """
    release = {"top_k": TOP_K, "max_positives": MAX_PER_SEARCH, "budget": room.budget}
    for name, value in release.items():
        policy, found = re.subn(rf"(?m)^{name} = \d+$", f"{name} = {value}", policy)
        if found != 1:
            raise InvalidInput(f"the starter policy does not say {name} once")
    near = f"max_near = {MAX_PER_SEARCH}\n"
    policy = re.sub(r"(?m)^budget = ", near + "budget = ", policy)
    quotas = {
        "searches_per_day": max(100, searches),
        "scores_per_subject": MAX_SCORES if numeric else 0,
        "hits_per_subject": max(MAX_SCORES, searches),
    }
    lines = [f"{name} = {value}" for name, value in quotas.items()]
    return "\n".join([policy.rstrip(), "", "[quotas]", *lines, ""])


def check_room(probes: Real, templates: Real, threshold: float, room: Room) -> None:
    """Refuse, before anything is set up, a test that its own auditors would have to break off.

    Parameters
    ----------
    probes, templates
        (people, d) and (gallery, d): all of them, as they will be encrypted.

    Raises
    ------
    InvalidInput
        More values would be made visible than the keys allow, or one search would match too many.
    """
    parts = np.split(templates, range(_AT_ONCE, len(templates), _AT_ONCE))
    lowest = threshold - room.band
    charged = sum(np.count_nonzero(probes @ part.T >= lowest, axis=1) for part in parts)
    total, most = int(np.sum(charged)), int(np.max(charged))
    if total <= _RESERVE * room.budget and most <= _RESERVE * MAX_PER_SEARCH:
        return
    raise InvalidInput(
        f"at {threshold:g} the replay would show {total:,} values, up to {most:,} in a search; "
        f"these keys allow {room.budget:,}, a policy {MAX_PER_SEARCH:,} in a search",
        hint="raise --default-threshold, or take fewer people or a smaller gallery",
    )
