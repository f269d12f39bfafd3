"""SIGKILL at every step that touches the disk: nothing answered is lost, nothing is doubled.

A child process enrols units and removes one, and prints a line for everything that was answered.
It kills itself at its n-th sync, rename, deletion or commit. This process then opens the folder as
a server would at its next start.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.server_fixtures import Lab, show_pending, unit_vectors
from underseal_core.gallery.unit import Shape
from underseal_core.scheme.evaluation import Evaluator
from underseal_server.check import Checker
from underseal_server.store.records import GallerySpec
from underseal_server.store.store import Store

LAB = Lab()
ROOT = Path(__file__).resolve().parents[3]
CHILD = Path(__file__).with_name("kill_child.py")


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


def run(zygote: subprocess.Popen[str], data: Path, step: int) -> tuple[list[dict[str, str]], bool]:
    """Let a child die at ``step`` (0: never); return what it answered and whether it died."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{step} {data}\n")
    zygote.stdin.flush()
    answer = json.loads(zygote.stdout.readline())
    assert answer["status"] in (0, signal.SIGKILL)
    return answer["told"], answer["status"] != 0


def check(data: Path, answered: list[dict[str, str]], evaluator: Evaluator) -> None:
    store = Store(data)
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
    templates = store.templates.page(gallery, None, (-1, -1), 100)
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
    names = {path.name for path in opened.files.path(b"").parent.iterdir()}
    assert names == {f"{token}.unit" for token in live}
    store.close()
    assert Checker(data, lambda: None, deep=True, threads=1).run().problems == []


def test_a_kill_at_any_step_loses_and_doubles_nothing(
    zygote: subprocess.Popen[str], tmp_path: Path, evaluator: Evaluator
) -> None:
    steps = 0
    killed = True
    while killed:
        steps += 1
        data = tmp_path / str(steps)
        (data / "bundles").mkdir(parents=True)
        LAB.bundle.save(data / "bundles" / f"{LAB.bundle.epoch}.usb")
        answered, killed = run(zygote, data, steps)
        check(data, answered, evaluator)
        if steps % 4 == 0:
            # The next run repeats every unit under its token and ends like a run without kill.
            again, died = run(zygote, data, 0)
            assert not died
            check(data, again, evaluator)
        shutil.rmtree(data)
    assert steps > 20
