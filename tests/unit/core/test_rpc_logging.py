from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import structlog

from underseal_core.rpc.logging import configure


@pytest.fixture
def _restored() -> object:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.usefixtures("_restored")
def test_lines_of_ours_and_of_libraries_are_alike(capsys: pytest.CaptureFixture[str]) -> None:
    configure("WARNING")
    start = datetime.now(UTC)
    structlog.get_logger("ours").info("too low")
    logging.getLogger("library").info("too low")
    structlog.get_logger("ours").warning("said", password="hunter2", count=3, text="ü" * 2000)
    logging.getLogger("library").warning("said")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
        logging.getLogger("library").exception("failed")
    said, told, failed, broke = lines(capsys)
    assert (said.pop("password"), said.pop("count")) == ("[redacted]", 3)
    assert said.pop("text") == "ü" * 1000 + "..."
    for ours, library in ((said, told), (failed, broke)):
        assert (ours.pop("logger"), library.pop("logger")) == ("ours", "library")
        times = [datetime.fromisoformat(line.pop("timestamp")) for line in (ours, library)]
        assert start <= times[0] <= times[1] <= datetime.now(UTC)
    assert said == told == {"event": "said", "level": "warning"}
    for line in (failed, broke):
        (trace,) = line.pop("exception")
        assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "broken")
        assert "locals" not in trace["frames"][0]
        assert line == {"event": "failed", "level": "error"}


def test_a_log_that_nobody_reads_stops_no_work() -> None:
    program = """if True:
        import structlog
        from underseal_core.rpc.logging import configure
        configure()
        for number in range(3):
            structlog.get_logger("test").warning("call", number=number)
        print("went on")
    """
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False
        )
    finally:
        os.close(writer)
    assert ran.stdout == b"went on\n"


def test_without_an_error_output_work_goes_on() -> None:
    program = """if True:
        import structlog
        from underseal_core.rpc.logging import configure
        configure()
        structlog.get_logger("test").warning("call")
        print("went on")
    """
    closed = 'exec "$0" -c "$1" 2>&-'
    ran = subprocess.run(["sh", "-c", closed, sys.executable, program], stdout=subprocess.PIPE)
    assert (ran.returncode, ran.stdout) == (0, b"went on\n")


@pytest.mark.usefixtures("_restored")
def test_lines_of_many_threads_are_whole(capfd: pytest.CaptureFixture[str]) -> None:
    configure()

    def write(number: int) -> None:
        for _ in range(50):
            structlog.get_logger("ours").info("call", number=number, text="x" * 900)
            logging.getLogger("library").info("line")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    written = lines(capfd)
    assert len(written) == 400
    assert {len(line["text"]) for line in written if line["event"] == "call"} == {900}


@pytest.mark.usefixtures("_restored")
def test_sensitive_values_do_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    log = structlog.get_logger("test")
    secret = "Jane Roe"
    log.info("stored", label=secret, nested={"score": 0.71, "blocks": 3}, blob=secret.encode())
    log.info("array", values=np.arange(3.0) + 41.5)
    try:
        vector = [0.125, 0.25]
        raise ValueError("broken", len(vector))
    except ValueError:
        log.exception("failed")
    logging.getLogger("library").warning("plain %s", "text")
    written = lines(capsys)
    assert [line["event"] for line in written] == ["stored", "array", "failed", "plain text"]
    text = json.dumps(written)
    for word in (secret, "0.71", "41.5", "0.125"):
        assert word not in text
    assert written[0]["nested"]["blocks"] == 3
    assert "ValueError" in json.dumps(written[2])
