"""Counting false matches, and how sure the counts are."""

from __future__ import annotations

from math import sqrt

import pytest

from underseal_client.replay.counting import (
    Interval,
    Searched,
    by_group,
    count,
    threshold_naming,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize(("successes", "trials"), [(28, 535), (1, 535), (400, 535)])
def test_wilson_bounds_are_where_the_score_test_turns(successes: int, trials: int) -> None:
    """At a bound p the observed share lies 1.96 standard errors away, by the error at p."""
    share, interval = successes / trials, wilson(successes, trials)
    for bound in (interval.low, interval.high):
        error = sqrt(bound * (1 - bound) / trials)
        assert abs(share - bound) / error == pytest.approx(1.959964, abs=1e-6)


def test_wilson_is_symmetric_and_says_nothing_about_nothing() -> None:
    some, others = wilson(3, 40), wilson(37, 40)
    assert some.low == pytest.approx(1 - others.high)
    assert some.high == pytest.approx(1 - others.low)
    assert wilson(40, 40).high == 1.0
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(5, 50, 0.99).high > wilson(5, 50).high


SEARCHES = [
    Searched("ada", "house", (0.52, 0.41, 0.40), charged=5),
    Searched("bob", "senate", (0.45,), charged=1),
    Searched("eve", "senate", ()),
    Searched("kim", "", (0.44, 0.43), cut=True, charged=2),
]


def test_people_and_matches_are_counted_at_a_threshold() -> None:
    found = count(SEARCHES, 0.45)
    assert (found.searched, found.people, found.matches, found.more) == (4, 2, 2, False)
    assert found.share == 0.5
    assert found.interval == wilson(2, 4)
    low = count(SEARCHES, 0.4)
    assert (low.people, low.matches) == (3, 6)


def test_a_full_release_may_hide_more_matches_of_no_higher_score() -> None:
    assert count(SEARCHES, 0.43).more
    assert not count(SEARCHES, 0.44).more


def test_groups_are_counted_by_name_and_people_without_one_are_left_out() -> None:
    groups = by_group(SEARCHES)
    assert {name: [s.person for s in group] for name, group in groups.items()} == {
        "house": ["ada"],
        "senate": ["bob", "eve"],
    }


def test_the_threshold_that_names_as_many() -> None:
    assert threshold_naming(SEARCHES, 0.25) == 0.52
    assert threshold_naming(SEARCHES, 0.5) == 0.45
    assert threshold_naming(SEARCHES, 1.0) is None
    assert threshold_naming([], 0.5) is None
