from __future__ import annotations

import json
import logging

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
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["stored", "array", "failed", "plain text"]
    text = json.dumps(lines)
    for word in (secret, "0.71", "41.5", "0.125"):
        assert word not in text
    assert lines[0]["nested"]["blocks"] == 3
    assert "ValueError" in json.dumps(lines[2])
