"""Issue 2: 20,000 templates of d = 128, encrypted probe to sealed result, under 300 ms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, unit_vectors
from tests.server_harness import Caller, Found, calling, make_credentials
from underseal_server.store.records import Shape

TEMPLATES = 20_000
LIMIT_MS = 300.0
TRIES = 30
"""The best of them counts: other tests may run beside this one."""
PROGRAM = Path(sys.executable).with_name("underseal-server")


@contextmanager
def program(data: Path, credentials: Path, bundle: Path) -> Iterator[int]:
    """The real program in a process of its own."""
    arguments: list[object] = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data,
        "--bundle",
        bundle,
    ]
    arguments += ["--credentials", credentials / "server", "--log-level", "ERROR", "--json"]
    process = subprocess.Popen(
        [str(part) for part in (PROGRAM, *arguments)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(json.loads(process.stdout.readline())["listening"].rpartition(":")[2])
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_twenty_thousand_templates_within_the_limit(tmp_path: Path) -> None:
    lab = Lab("guarded", 128)
    lab.bundle.save(tmp_path / "bundle.usb")
    credentials = make_credentials(tmp_path / "credentials")
    vectors = unit_vectors(TEMPLATES, 128)
    degree = lab.bundle.profile.degree
    with (
        program(tmp_path / "data", credentials, tmp_path / "bundle.usb") as port,
        calling(port, credentials / "agency", lab) as agency,
    ):
        agency.create()
        for start in range(0, TEMPLATES, degree):
            agency.enrol(vectors[start : start + degree], Shape.COLUMNS)
        probe = lab.probe(vectors[12_345]).to_bytes()
        times = [_milliseconds(agency, probe)[0]]  # cold
        while len(times) < 2 or (min(times[1:]) >= LIMIT_MS and len(times) < TRIES):
            milliseconds, found = _milliseconds(agency, probe)
            times.append(milliseconds)
    scores = np.concatenate([agency.scores(found)[block] for block in sorted(found.blocks)])
    assert np.abs(scores[:TEMPLATES] - vectors @ vectors[12_345]).max() < 2**-9
    if os.cpu_count() == 1:
        pytest.skip("the limit is for two cores")
    assert min(times[1:]) < LIMIT_MS, f"milliseconds: {np.round(times)}"


def _milliseconds(agency: Caller, probe: bytes) -> tuple[float, Found]:
    request = agency.request(probe)
    begin = time.perf_counter()
    found = agency.ask(request, probe)
    return 1000 * (time.perf_counter() - begin), found
