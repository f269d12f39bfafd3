"""What a replay's report says and draws."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from underseal_client.replay.agreement import Agreement, Quantile
from underseal_client.replay.counting import Searched
from underseal_client.replay.plot import HEIGHT, WIDTH, draw_plot
from underseal_client.replay.report import ReplayReport, Thresholds

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def report() -> ReplayReport:
    """Forty people; one of them has a match at 0.52, half of them have some at 0.41."""
    searches = [
        Searched(
            f"person {number}",
            "left & <right>" if number % 2 else "middle",
            (0.52,) if number == 0 else (0.41, 0.37) if number < 20 else (0.38,),
            charged=3,
        )
        for number in range(40)
    ]
    quantiles = (Quantile(0.5, 0.1, 0.11),)
    return ReplayReport(
        model="zoo-sface",
        profile="guarded",
        synthetic=2000,
        thresholds=Thresholds(0.363, 0.55),
        asked=0.363,
        shrinkage=0.4,
        agreement=Agreement(780, 0.02, quantiles),
        searches=searches,
        seconds={"embed": 1.23456},
        log_entries=81,
    )


def test_rows_hold_both_thresholds_that_of_2018_and_steps_between(report: ReplayReport) -> None:
    rows = [(name, at, found.people if found else None) for name, at, found in report.rows]
    assert rows == [
        ("model's default", 0.363, 40),
        ("", 0.4, 20),
        ("as in 2018", 0.41, 20),
        ("", 0.45, 1),
        ("", 0.5, 1),
        ("policy", 0.55, 0),
    ]


def test_json_says_what_was_counted(report: ReplayReport) -> None:
    said = json.loads(json.dumps(report.as_json()))
    assert (said["people"], said["gallery"], said["comparisons"]) == (40, 2000, 80_000)
    default, policy = said["thresholds"]["default"], said["thresholds"]["policy"]
    assert (default["people"], default["matches"], policy["people"]) == (40, 59, 0)
    assert policy["interval"]["low"] == 0.0
    assert policy["interval"]["high"] == pytest.approx(0.0876, abs=1e-4)
    groups = default["groups"]
    assert {name: group["searched"] for name, group in groups.items()} == {
        "left & <right>": 20,
        "middle": 20,
    }
    assert said["curve"][0] == {"threshold": 0.37, "people": 40}
    assert said["curve"][-1]["people"] == 0
    assert (said["values_charged"], said["log_entries"]) == (120, 81)
    assert said["seconds"] == {"embed": 1.235}


def test_what_was_not_opened_is_not_counted(report: ReplayReport) -> None:
    yes_or_no = replace_asked(report, 0.55)
    said = yes_or_no.as_json()["thresholds"]
    assert isinstance(said, dict)
    assert said["default"] is None
    assert said["policy"]["people"] == 0
    assert yes_or_no.rows[0] == ("model's default", 0.363, None)
    assert yes_or_no.as_in_2018 is None


def replace_asked(report: ReplayReport, asked: float) -> ReplayReport:
    searches = [
        replace(search, scores=tuple(score for score in search.scores if score >= asked))
        for search in report.searches
    ]
    return replace(report, asked=asked, searches=searches)


def test_the_plot_is_svg_with_every_curve_inside_its_frame(report: ReplayReport) -> None:
    root = ET.fromstring(draw_plot(report))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "40 people searched for in an encrypted gallery of 2,000 others" in texts
    for text in ("model's default 0.363", "policy 0.55", "2018: 28 of 535", "middle (20)"):
        assert text in texts
    assert "left & <right> (20)" in texts  # escaped in the file
    curves = list(root.iter(f"{SVG}polyline"))
    assert len(curves) == 3
    for curve in [*curves, *root.iter(f"{SVG}polygon")]:
        points = [tuple(map(float, point.split(","))) for point in curve.attrib["points"].split()]
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    falling = [float(point.split(",")[1]) for point in curves[-1].attrib["points"].split()]
    assert falling == sorted(falling)  # downwards, as SVG counts
    assert falling[0] < falling[-1]
