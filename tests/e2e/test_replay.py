"""``underseal replay`` as a user runs it: its counts are those of the templates in the clear."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_demo import processes_below
from tests.face_fixtures import FACES
from underseal_client.demo.process import find_program
from underseal_client.faces import FaceEmbedder
from underseal_client.replay.population import fit_population

GALLERY = 120
SEED = 20180726
DEFAULT, POLICY = 0.2, 0.35
BLUR = 0.0102
"""Half of a hundredth, and six deviations of the noise that a release adds."""


def replay(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find_program("underseal"), "replay", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100"},
    )


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Four people in folders; a table says where each of them worked."""
    folder = tmp_path / "people"
    rows = ["file,person,office"]
    for name, person, office in (
        ("person_a_1.jpg", "a", "president"),
        ("person_b_1.jpg", "b", "prime minister"),
        ("impostor_1.jpg", "c", "president"),
        ("impostor_2.jpg", "d", "prime minister"),
    ):
        (folder / person).mkdir(parents=True)
        shutil.copyfile(FACES / name, folder / person / "1.jpg")
        rows.append(f"{person}/1.jpg,{person},{office}")
    (folder / "labels.csv").write_text("\n".join(rows), "utf-8")
    return folder


def scores_in_the_clear(people: Path, embedder: FaceEmbedder) -> np.ndarray:
    """Return the scores of everybody, in order, with the gallery that the seed draws."""
    photos = sorted(people.rglob("*.jpg"))
    probes = np.stack([embedder.embed(photo).embedding for photo in photos])
    generator = np.random.default_rng(SEED)
    gallery = fit_population(probes, generator).draw(GALLERY, generator)
    return np.asarray(probes @ gallery.T)


@pytest.mark.timeout(600)
def test_replay_counts_what_is_there_and_leaves_nothing_running(
    tmp_path: Path, people: Path, embedder: FaceEmbedder
) -> None:
    folder, plot = tmp_path / "kept", tmp_path / "plot.svg"
    done = replay(
        *("--probes", people, "--gallery", GALLERY, "--seed", SEED, "--group", "office"),
        *("--default-threshold", DEFAULT, "--policy-threshold", POLICY),
        *("--plot", plot, "--keep", folder, "--json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["people"], report["gallery"], report["comparisons"]) == (4, 120, 480)
    clear = scores_in_the_clear(people, embedder)
    assert (clear >= DEFAULT + BLUR).sum() > 10
    for name, threshold in (("default", DEFAULT), ("policy", POLICY)):
        counted = report["thresholds"][name]
        assert counted["threshold"] == threshold
        # at the default the auditors cut at the score, above it the client at the rounded one
        fewest, most = clear >= threshold + BLUR, clear >= threshold - BLUR
        assert fewest.sum() <= counted["matches"] <= most.sum()
        assert fewest.any(axis=1).sum() <= counted["people"] <= most.any(axis=1).sum()
        groups = counted["groups"]
        assert {name: group["searched"] for name, group in groups.items()} == {
            "president": 2,
            "prime minister": 2,
        }
        assert sum(group["matches"] for group in groups.values()) == counted["matches"]
    assert report["log_entries"] == 1 + 2 * 4  # the policy; intent and outcome of each search
    assert report["values_charged"] >= report["thresholds"]["default"]["matches"]
    steps = ["model", "embed", "gallery", "ceremony", "start", "enrol"]
    assert list(report["seconds"]) == [*steps, "encrypt", "server", "open", "verify_log"]
    assert ET.parse(plot).getroot().tag.endswith("svg")
    assert processes_below(folder) == []
    stored = b"".join(f.read_bytes() for f in (folder / "server-data").rglob("*") if f.is_file())
    assert stored
    assert b"synthetic_" not in stored


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--probes", "nowhere"), 3, "no such photo or folder"),
        (("--probes", ".", "--group", "office"), 4, "--labels"),
        (("--probes", ".", "--profile", "swift"), 3, "swift"),
        (("--probes", "."), 3, "no photo in"),
    ],
)
def test_replay_says_what_is_missing(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    done = replay(*arguments, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
