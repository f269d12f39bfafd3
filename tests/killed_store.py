"""A store in a process that kills itself at its n-th step, and what must be there afterwards.

A child process enrols units and removes one, and prints a line for everything that was answered.
It kills itself at its n-th sync, rename, deletion, upload or commit. The test's process then opens
the store as a server would at its next start.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, show_pending, unit_vectors
from tests.unit.server.kill_child import Place
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.check import Checker
from underseal_server.store.records import GallerySpec, TemplateFilter

LAB = Lab()
ROOT = Path(__file__).resolve().parents[1]
CHILD = ROOT / "tests/unit/server/kill_child.py"


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with LAB.evaluator() as evaluator:
        yield evaluator


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle and the ciphertexts that every child enrols."""
    folder = tmp_path_factory.mktemp("work")
    LAB.bundle.save(folder / "bundle.usb")
    vectors = unit_vectors(9)
    for number, (shape, part) in enumerate(
        [(Shape.ROW, vectors[:2]), (Shape.COLUMNS, vectors[2:8]), (Shape.ROW, vectors[8:])]
    ):
        sealed = [LAB.row(part)] if shape is Shape.ROW else LAB.columns(part)
        data = b"".join(ciphertext.to_bytes() for ciphertext in sealed)
        (folder / f"{number}.{shape}.{len(part)}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def zygote(work: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported everything and forks for every run."""
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(work)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()
    assert process.returncode == 0


def run(
    zygote: subprocess.Popen[str], place: Place, step: int
) -> tuple[list[dict[str, str]], bool]:
    """Let a child die at ``step`` (0: never); return what it answered and whether it died."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(json.dumps({"steps": step, **asdict(place)}) + "\n")
    zygote.stdin.flush()
    answer = json.loads(zygote.stdout.readline())
    assert answer["status"] in (0, signal.SIGKILL)
    return answer["told"], answer["status"] != 0


def check(place: Place, answered: list[dict[str, str]], evaluator: Evaluator) -> None:
    store = place.open()
    spec = GallerySpec("missing", LAB.pin, "agency", frozenset({"agency"}), 8)
    gallery = store.galleries.create(spec, store.clock())
    opened = store.open_gallery(gallery, evaluator)
    opened.checkpoint()  # what differs from the catalogue is folded in or out, and forgotten
    show_pending(opened)
    live = {unit.token.hex(): unit for unit in store.units.live(gallery)}
    enrolled = {answer["token"] for answer in answered if answer["did"] == "enrolled"}
    removed = {answer["token"] for answer in answered if answer["did"] == "removed"}
    begun = answered[-1]["token"] if answered and answered[-1]["did"].endswith("ing") else ""
    assert enrolled - removed - {begun} <= set(live) <= (enrolled - removed) | {begun}
    templates = store.templates.page(gallery, TemplateFilter(), (-1, -1), 100)
    assert len(templates) == sum(unit.placement.count for unit in live.values())
    assert len({(template.block, template.slot) for template in templates}) == len(templates)
    assert list(opened.view().blocks) == ([0] if live else [])
    expected = np.zeros_like(opened.tiles(0))
    for unit in live.values():
        for index, ciphertext in enumerate(opened.files.ciphertexts(unit)):
            first = unit.placement.first_slot
            if unit.shape is Shape.ROW:
                evaluator.add(expected, evaluator.expand(ciphertext), first)
            else:
                evaluator.add_column(expected, index, ciphertext.residues, first)
    assert np.array_equal(opened.tiles(0), expected)
    names = set(store.folders(gallery).units.sizes())
    assert names == {f"{token}.unit" for token in live}
    store.close()
    assert (
        Checker(
            Path(place.data),
            lambda: None,
            deep=True,
            threads=1,
            catalogue=place.catalogue,
            objects=place.storage(),
        )
        .run()
        .problems
        == []
    )


def prepare(data: Path) -> None:
    """Make a data folder that has the bundle."""
    (data / "bundles").mkdir(parents=True)
    LAB.bundle.save(data / "bundles" / f"{LAB.bundle.epoch}.usb")
