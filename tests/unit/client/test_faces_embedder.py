"""Detection and embedding with the real models on the credited photos."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pytest

from tests.face_fixtures import FACES
from underseal_client.context import ClientContext
from underseal_client.faces import (
    FaceEmbedder,
    FaceTooSmall,
    ModelPack,
    NoFace,
    QualityPolicy,
    SeveralFaces,
    UnclearFace,
    UnreadablePhoto,
    load_photo,
    open_pack,
)
from underseal_client.faces.photos import MAX_SIDE
from underseal_client.faces.projection import Projection
from underseal_client.records import Gallery
from underseal_client.settings import ClientSettings
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.statements import Pin


def _score(embedder: FaceEmbedder, first: str, second: str) -> float:
    one, two = (embedder.embed(FACES / f"{name}.jpg") for name in (first, second))
    return float(one.embedding @ two.embedding)


@pytest.mark.parametrize(
    ("first", "second"), [("person_a_1", "person_a_2"), ("person_b_1", "person_b_2")]
)
def test_two_photos_of_a_person_years_apart_match(
    embedder: FaceEmbedder, first: str, second: str
) -> None:
    threshold = embedder.model.threshold_default
    assert threshold is not None
    assert _score(embedder, first, second) > threshold + 0.1


@pytest.mark.parametrize("impostor", ["impostor_1", "impostor_2"])
@pytest.mark.parametrize("person", ["person_a_1", "person_a_2", "person_b_1", "person_b_2"])
def test_impostors_do_not_match(embedder: FaceEmbedder, impostor: str, person: str) -> None:
    assert abs(_score(embedder, impostor, person)) < 0.3


def test_templates_are_unit_vectors_of_the_models_dimension(embedder: FaceEmbedder) -> None:
    face = embedder.embed(FACES / "person_a_2.jpg")
    assert face.embedding.shape == (embedder.model.dimension,)
    assert face.embedding.dtype == np.float64
    assert np.linalg.norm(face.embedding) == pytest.approx(1.0, abs=1e-12)
    left, top, right, bottom = face.bbox
    assert face.quality.side_pixels == pytest.approx(min(right - left, bottom - top), abs=1e-3)
    assert ((face.keypoints > [left, top]) & (face.keypoints < [right, bottom])).all()


def test_path_bytes_and_pixels_are_the_same_photo(embedder: FaceEmbedder) -> None:
    path = FACES / "person_a_2.jpg"
    templates = [embedder.embed(p).embedding for p in (path, path.read_bytes(), load_photo(path))]
    np.testing.assert_array_equal(templates[0], templates[1])
    np.testing.assert_array_equal(templates[0], templates[2])


def test_a_group_is_counted_or_its_largest_face_taken(
    embedder: FaceEmbedder, group_photo: Path
) -> None:
    faces = embedder.detect(group_photo)
    assert len(faces) == 6
    assert [face.area for face in faces] == sorted((f.area for f in faces), reverse=True)
    with pytest.raises(SeveralFaces, match="6 faces"):
        embedder.embed(group_photo)
    largest = embedder.embed(group_photo, QualityPolicy(one_face=False))
    np.testing.assert_array_equal(largest.bbox, faces[0].bbox)
    scores = np.stack([face.embedding for face in faces])
    assert np.triu(scores @ scores.T, 1).max() < 0.4  # six different people


@pytest.mark.parametrize("kind", ["noise", "black", "white", "one-pixel"])
def test_pictures_without_a_face(embedder: FaceEmbedder, kind: str) -> None:
    pictures = {
        "noise": np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8),
        "black": np.zeros((300, 400, 3), np.uint8),
        "white": np.full((400, 300, 3), 255, np.uint8),
        "one-pixel": np.zeros((1, 1, 3), np.uint8),
    }
    with pytest.raises(NoFace):
        embedder.embed(pictures[kind])


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 1, 3), (2, 1281, 3), (2, 1280, 3)])
def test_slivers_are_no_faces_and_no_crash(
    embedder: FaceEmbedder, shape: tuple[int, int, int]
) -> None:
    with pytest.raises(NoFace):
        embedder.embed(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("axis", [0, 1])
def test_the_longest_photo_that_can_be_read_can_be_embedded(
    embedder: FaceEmbedder, axis: int
) -> None:
    photo = load_photo(FACES / "person_a_2.jpg")
    margin = [(0, 0), (0, 0), (0, 0)]
    margin[axis] = (0, MAX_SIDE - photo.shape[axis])
    with pytest.raises(NoFace):  # the face is a fiftieth of the photo's length: seen at 1280 only
        embedder.embed(np.pad(photo, margin))
    (face,) = FaceEmbedder(open_pack(), detector_size=1280).detect(np.pad(photo, margin))
    assert face.embedding @ embedder.embed(photo).embedding > 0.3


def test_small_and_blurred_faces_are_refused(embedder: FaceEmbedder) -> None:
    pixels = load_photo(FACES / "person_b_1.jpg")
    small = cv2.resize(pixels, None, fx=0.1, fy=0.1, interpolation=cv2.INTER_AREA)
    with pytest.raises(FaceTooSmall) as caught:
        embedder.embed(np.asarray(small, np.uint8))
    assert 20 < caught.value.pixels < caught.value.wanted == 40
    blurred = cv2.GaussianBlur(pixels, (0, 0), 24)
    with pytest.raises(UnclearFace):
        embedder.embed(np.asarray(blurred, np.uint8))


def test_unreadable_photos_are_refused(embedder: FaceEmbedder) -> None:
    with pytest.raises(UnreadablePhoto):
        embedder.embed(b"not a photo")


def test_threads_may_share_an_embedder(embedder: FaceEmbedder) -> None:
    paths = sorted(FACES.glob("*.jpg")) * 3
    alone = {path: embedder.embed(path).embedding for path in set(paths)}
    with ThreadPoolExecutor(4) as pool:
        for path, face in zip(paths, pool.map(embedder.embed, paths), strict=True):
            np.testing.assert_allclose(face.embedding, alone[path], atol=1e-6)


def _sessions(embedder: FaceEmbedder) -> Iterator[object]:
    """Every onnxruntime session behind an embedder."""
    models = embedder._analysis.models
    yield models["recognition"].session
    yield from models["detection"].resolution_sessions.values()


@pytest.mark.parametrize("threads", [0, 1])
def test_no_session_spins_and_the_thread_count_is_a_setting(
    zoo_pack: ModelPack, threads: int
) -> None:
    embedder = FaceEmbedder(zoo_pack, threads=threads, detector_size=320)
    embedder.embed(FACES / "person_a_1.jpg")
    sessions = list(_sessions(embedder))
    assert len(sessions) == 2
    for session in sessions:
        options = session.get_session_options()  # type: ignore[attr-defined]  # untyped library
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.intra_op_num_threads == threads
        assert session.get_providers() == ["CPUExecutionProvider"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("threads", "detector_size"), [(-1, 640), (0, 321)])
def test_bad_settings_are_refused(zoo_pack: ModelPack, threads: int, detector_size: int) -> None:
    with pytest.raises(InvalidInput):
        FaceEmbedder(zoo_pack, threads=threads, detector_size=detector_size)


def test_projected_model_is_another_model(zoo_pack: ModelPack) -> None:
    """Its templates are the projected ones, and its id names the projection."""
    whole = FaceEmbedder(zoo_pack, threads=1)
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(128, 64)))[0].T
    projection = Projection(np.ascontiguousarray(axes))
    small = FaceEmbedder(zoo_pack, threads=1, projection=projection)
    assert (small.model.model_id, small.model.dimension) == (projection.model_id("zoo-sface"), 64)
    assert small.model.threshold_default is None
    photo = FACES / "person_a_1.jpg"
    face = whole.embed(photo)
    assert np.allclose(small.embed(photo).embedding, projection.apply(face.embedding))
    assert small.embed(photo).quality == face.quality
    with pytest.raises(Mismatch, match="has dimension 128, the projection 64"):
        other = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 32)))[0].T
        FaceEmbedder(zoo_pack, projection=Projection(np.ascontiguousarray(other)))


def test_gallery_of_another_projection_is_refused(zoo_pack: ModelPack, tmp_path: Path) -> None:
    """Whole templates, and those of a projection of the same dimension, are not compared."""
    path = tmp_path / "p64.usproj"
    one, other = (
        Projection(np.linalg.qr(np.random.default_rng(seed).normal(size=(128, 64)))[0].T.copy())
        for seed in (1, 2)
    )
    one.save(path)
    settings = ClientSettings(model=str(zoo_pack.path), projection=path, threads=1)
    context = ClientContext(settings)

    def gallery(model_id: str, dimension: int) -> Gallery:
        pin = Pin(model_id=model_id, model_dimension=dimension, profile="swift", key_epoch="0" * 64)
        return cast("Gallery", SimpleNamespace(name="missing", pin=pin))

    name = context.embedder.model.model_id
    assert name.endswith(f"+p64-{one.id[:12]}")
    whole = name.partition("+")[0]
    context.check_model(gallery(name, 64))
    for model_id, dimension in [(whole, 128), (other.model_id(whole), 64), (name, 128)]:
        with pytest.raises(Mismatch, match="--projection|is of model"):
            context.check_model(gallery(model_id, dimension))
