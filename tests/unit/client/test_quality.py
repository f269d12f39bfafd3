"""The quality gate: each bar, its order, its message."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from underseal_client.faces import (
    Face,
    FaceQuality,
    FaceTooSmall,
    NoFace,
    PhotoRefused,
    QualityPolicy,
    SeveralFaces,
    TurnedFace,
    UncertainFace,
    UnclearFace,
    choose_face,
)
from underseal_client.faces.quality import face_turn
from underseal_core.errors import InvalidInput

GOOD = FaceQuality(det_score=0.9, side_pixels=120.0, embedding_norm=12.0, turn=0.1)
POLICY = QualityPolicy()
MODEL_NORM = 7.5


def _face(quality: FaceQuality = GOOD, *, left: float = 0.0) -> Face:
    side = quality.side_pixels
    bbox = np.array([left, 0, left + side, side], np.float32)
    embedding = np.zeros(128)
    embedding[0] = 1.0
    return Face(bbox, np.zeros((5, 2), np.float32), embedding, quality)


def test_a_good_face_passes() -> None:
    face = _face()
    assert choose_face([face], POLICY, MODEL_NORM) is face


def test_no_face() -> None:
    with pytest.raises(NoFace):
        choose_face([], POLICY, MODEL_NORM)


def test_a_detection_below_the_bar_is_uncertain_and_says_how_much() -> None:
    unsure = _face(replace(GOOD, det_score=0.55))
    with pytest.raises(UncertainFace, match=r"0\.55.*0\.70") as caught:
        choose_face([_face(replace(GOOD, det_score=0.4)), unsure], POLICY, MODEL_NORM)
    assert (caught.value.score, caught.value.wanted) == (0.55, 0.7)


def test_uncertain_detections_beside_a_face_do_not_count() -> None:
    face = _face()
    assert choose_face([_face(replace(GOOD, det_score=0.5)), face], POLICY, MODEL_NORM) is face


def test_several_faces_are_counted_and_the_largest_can_be_chosen() -> None:
    small, large = _face(replace(GOOD, side_pixels=60.0)), _face(left=200)
    with pytest.raises(SeveralFaces, match="2 faces") as caught:
        choose_face([small, large], POLICY, MODEL_NORM)
    assert caught.value.count == 2
    assert "largest" in caught.value.hint
    assert choose_face([small, large], QualityPolicy(one_face=False), MODEL_NORM) is large


@pytest.mark.parametrize(
    ("quality", "error"),
    [
        (replace(GOOD, side_pixels=39.9), FaceTooSmall),
        (replace(GOOD, turn=2.01), TurnedFace),
        (replace(GOOD, turn=math.inf), TurnedFace),
        (replace(GOOD, embedding_norm=7.49), UnclearFace),
        (replace(GOOD, embedding_norm=0.0), UnclearFace),
        (replace(GOOD, embedding_norm=math.nan), UnclearFace),
    ],
)
def test_one_bar_missed(quality: FaceQuality, error: type[PhotoRefused]) -> None:
    with pytest.raises(error) as caught:
        choose_face([_face(quality)], POLICY, MODEL_NORM)
    assert isinstance(caught.value, InvalidInput)
    assert caught.value.hint


@pytest.mark.parametrize(
    "quality",
    [
        replace(GOOD, det_score=0.7),
        replace(GOOD, side_pixels=40.0),
        replace(GOOD, turn=2.0),
        replace(GOOD, embedding_norm=7.5),
    ],
)
def test_a_face_on_the_bar_passes(quality: FaceQuality) -> None:
    face = _face(quality)
    assert choose_face([face], POLICY, MODEL_NORM) is face


def test_the_policy_overrides_the_models_norm_but_never_lets_zero_through() -> None:
    dull = _face(replace(GOOD, embedding_norm=3.0))
    assert choose_face([dull], QualityPolicy(min_embedding_norm=2.0), MODEL_NORM) is dull
    with pytest.raises(UnclearFace):
        choose_face([_face()], QualityPolicy(min_embedding_norm=20.0), MODEL_NORM)
    nothing = _face(replace(GOOD, embedding_norm=0.0))
    with pytest.raises(UnclearFace):
        choose_face([nothing], QualityPolicy(min_embedding_norm=0.0), 0.0)


def test_any_pose_can_be_allowed() -> None:
    profile = _face(replace(GOOD, turn=5.8))
    assert choose_face([profile], QualityPolicy(max_turn=None), MODEL_NORM) is profile


def test_every_reason_is_a_word_of_its_own() -> None:
    classes = PhotoRefused.__subclasses__()
    reasons = {cls.reason for cls in classes}
    assert len(reasons) == len(classes) >= 8
    assert PhotoRefused.reason not in reasons


@pytest.mark.parametrize(
    ("nose_x", "turn"), [(50.0, 0.0), (60.0, 1.0), (40.0, 1.0), (70.0, 2.0), (55.0, 0.5)]
)
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_turn_is_measured_along_the_eyes_however_the_head_is_tilted(
    nose_x: float, turn: float, angle: float
) -> None:
    points = np.array([[40, 50], [60, 50], [nose_x, 65], [42, 80], [58, 80]])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    tilted = (points @ rotation.T * 3.0 + 7.0).astype(np.float32)
    assert face_turn(tilted) == pytest.approx(turn, abs=1e-4)


def test_turn_of_eyes_in_one_point_is_infinite() -> None:
    assert face_turn(np.zeros((5, 2), np.float32)) == math.inf


def test_templates_stay_out_of_repr() -> None:
    assert "embedding=" not in repr(_face())
