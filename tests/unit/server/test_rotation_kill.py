"""SIGKILL at every step of a gallery's way to a new key epoch: it ends with the same bits."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server_fixtures import UnitContent, enrol_now, labelled, signed_for, unit_vectors
from tests.server_harness import ciphertexts
from tests.server_rotation import CouncilLab, succession
from tests.unit.server.rotation_child import load, rotate
from underseal_core.gallery.block_file import read_header
from underseal_core.gallery.files import local_file
from underseal_core.gallery.unit import Shape
from underseal_server.check import Checker
from underseal_server.store.records import GallerySpec
from underseal_server.store.store import Store

MOVE = succession()
OLD = CouncilLab.of(MOVE.old)
ROOT = Path(__file__).resolve().parents[3]
CHILD = Path(__file__).with_name("rotation_child.py")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles, switching key, and a data folder of the old epoch to copy."""
    folder = tmp_path_factory.mktemp("work")
    MOVE.old.bundle.save(folder / "old.usb")
    MOVE.new.bundle.save(folder / "new.usb")
    MOVE.key.save(folder / "switching.usk")
    (folder / "data/bundles").mkdir(parents=True)
    for bundle in (MOVE.old.bundle, MOVE.new.bundle):
        bundle.save(folder / "data/bundles" / f"{bundle.epoch}.usb")
    store = Store(folder / "data")
    evaluator, _ = load(folder)
    spec = GallerySpec("missing", OLD.pin, "agency", frozenset({"agency"}), 8)
    gallery = store.open_gallery(store.galleries.create(spec, store.clock()), evaluator)
    vectors = unit_vectors(8)
    for shape, part in ((Shape.ROW, vectors[:3]), (Shape.COLUMNS, vectors[3:6])):
        with gallery.files.stage(shape) as staged:
            for ciphertext in ciphertexts(OLD, part, shape):
                staged.write(ciphertext.to_bytes())
            staged.sync()
            token = secrets.token_bytes(16)
            unit = UnitContent(token, shape, labelled(len(part)), staged, OLD.pin)
            enrol_now(gallery, signed_for("missing", unit), staged)
    gallery.checkpoint()
    store.close()
    return folder


@pytest.fixture(scope="module")
def zygote(work: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(work)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()
    assert process.returncode == 0


def run(zygote: subprocess.Popen[str], data: Path, step: int) -> bool:
    """Let a child die at ``step`` (0: never); return whether it did."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{step} {data}\n")
    zygote.stdin.flush()
    status = int(zygote.stdout.readline())
    assert status in (0, signal.SIGKILL)
    return status != 0


def content(data: Path) -> dict[str, bytes | str]:
    """Unit files byte for byte, and the roots over the blocks' tiles."""
    found: dict[str, bytes | str] = {}
    for path in sorted((data / "units").rglob("*.*")):
        found[str(path.relative_to(data))] = path.read_bytes()
    for path in sorted((data / "blocks").rglob("*.*")):
        found[str(path.relative_to(data))] = read_header(local_file(path))[0].tiles_root
    return found


def test_a_kill_at_any_step_ends_with_the_same_bits(
    work: Path, zygote: subprocess.Popen[str], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(work / "data", whole)
    assert not run(zygote, whole, 0)
    wanted = content(whole)
    assert {Path(name).parts[2] for name in wanted} == {MOVE.new.bundle.epoch[:16]}
    old, successor = load(work)
    steps, killed = 0, True
    while killed:
        steps += 1
        data = tmp_path / str(steps)
        shutil.copytree(work / "data", data)
        killed = run(zygote, data, steps)
        rotate(data, old, successor)
        assert content(data) == wanted
        shutil.rmtree(data)
    assert steps > 20
    assert Checker(whole, lambda: None, deep=True, threads=1).run().problems == []
