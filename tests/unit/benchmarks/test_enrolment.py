"""What the record of the enrolment benchmark holds."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.enrolment import compared


def test_the_record_holds_how_the_client_s_choice_compares() -> None:
    """Of the times as they were: rounded ones would say 1."""
    record = asdict(compared(3, 0.0149, 0.0051, 0.9))
    assert record == {
        "templates": 3,
        "seconds": 0.01,
        "rows": 0.01,
        "columns": 0.9,
        "of_best": 2.92,
    }
