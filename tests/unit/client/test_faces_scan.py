"""Folders of photos: subjects, order, and one outcome per photo."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.face_fixtures import FACES
from underseal_client.faces import (
    EmbeddedPhoto,
    FaceEmbedder,
    PhotoProblem,
    PhotoSource,
    QualityPolicy,
    UnreadablePhoto,
    embed_all,
    scan,
)


def _copy(name: str, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(FACES / name, to))


@pytest.fixture
def people(tmp_path: Path, group_photo: Path) -> Path:
    """Good photos and one of every kind of trouble."""
    root = tmp_path / "people"
    _copy("person_a_1.jpg", root / "ada" / "1.JPG")
    _copy("person_a_2.jpg", root / "ada" / "2.jpeg")
    _copy("person_b_1.jpg", root / "team" / "grace" / "x.jpg")
    _copy("impostor_1.jpg", root / "barack.jpg")
    _copy("impostor_1.jpg", root / ".hidden.jpg")
    _copy("impostor_1.jpg", root / ".thumbnails" / "1.jpg")
    _copy("SOURCES.md", root / "SOURCES.md")
    shutil.copyfile(group_photo, root / "group.jpg")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (root / "loop").symlink_to(root, target_is_directory=True)
    return root


def test_folders_and_file_names_name_the_subjects(people: Path) -> None:
    found = [(s.path.relative_to(people).as_posix(), s.subject) for s in scan([people])]
    assert found == [
        ("barack.jpg", "barack"),
        ("broken.png", "broken"),
        ("group.jpg", "group"),
        ("ada/1.JPG", "ada"),
        ("ada/2.jpeg", "ada"),
        ("team/grace/x.jpg", "team/grace"),
    ]


def test_digests_are_of_the_files_bytes(people: Path) -> None:
    source = scan([people / "barack.jpg"])[0]
    assert source.digest == hashlib.sha256((FACES / "impostor_1.jpg").read_bytes()).hexdigest()


def test_files_can_be_given_one_by_one_and_a_subject_for_all(people: Path) -> None:
    paths = [people / "ada" / "2.jpeg", people / "SOURCES.md", people / "ada"]
    assert [s.subject for s in scan(paths)] == ["2", "SOURCES", "1", "2"]
    assert {s.subject for s in scan(paths, subject="ada lovelace")} == {"ada lovelace"}


def test_a_path_that_is_nothing_is_an_error(people: Path) -> None:
    with pytest.raises(UnreadablePhoto, match="no such photo or folder"):
        scan([people / "absent"])


def test_bad_photos_are_reported_and_the_rest_goes_on(people: Path, embedder: FaceEmbedder) -> None:
    sources = scan([people, people / "SOURCES.md"])
    outcomes = list(embed_all(sources, embedder))
    assert [outcome.source for outcome in outcomes] == sources
    problems = {o.source.path.name: o.reason for o in outcomes if isinstance(o, PhotoProblem)}
    assert problems == {
        "broken.png": "unreadable",
        "group.jpg": "several-faces",
        "SOURCES.md": "unreadable",
    }
    good = {o.source.path.name: o.face for o in outcomes if isinstance(o, EmbeddedPhoto)}
    assert good.keys() == {"barack.jpg", "1.JPG", "2.jpeg", "x.jpg"}
    assert good["1.JPG"].embedding @ good["2.jpeg"].embedding > 0.5
    np.testing.assert_array_equal(
        good["x.jpg"].embedding, embedder.embed(people / "team" / "grace" / "x.jpg").embedding
    )


def test_the_policy_applies(people: Path, embedder: FaceEmbedder) -> None:
    (outcome,) = embed_all(scan([people / "group.jpg"]), embedder, QualityPolicy(one_face=False))
    assert isinstance(outcome, EmbeddedPhoto)
    (outcome,) = embed_all(
        scan([people / "barack.jpg"]), embedder, QualityPolicy(min_face_pixels=4000)
    )
    assert isinstance(outcome, PhotoProblem) and outcome.reason == "face-too-small"


def test_files_that_change_or_vanish_after_the_scan_are_reported(
    people: Path, embedder: FaceEmbedder
) -> None:
    sources = scan([people / "ada"])
    _copy("impostor_2.jpg", people / "ada" / "1.JPG")
    (people / "ada" / "2.jpeg").unlink()
    reasons = [o.reason for o in embed_all(sources, embedder) if isinstance(o, PhotoProblem)]
    assert reasons == ["changed", "unreadable"]


def test_nothing_to_do(embedder: FaceEmbedder, tmp_path: Path) -> None:
    assert scan([tmp_path]) == []
    assert list(embed_all([], embedder)) == []


def test_a_caller_may_stop_early(people: Path, embedder: FaceEmbedder) -> None:
    outcomes: Iterator[object] = embed_all(scan([people]) * 20, embedder)
    assert len(list(islice(outcomes, 2))) == 2
    del outcomes


def test_a_source_that_never_existed_is_a_problem(tmp_path: Path, embedder: FaceEmbedder) -> None:
    (outcome,) = embed_all([PhotoSource(tmp_path / "absent.jpg", "nobody", "")], embedder)
    assert isinstance(outcome, PhotoProblem)
    assert str(tmp_path) not in outcome.error.public
