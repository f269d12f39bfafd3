"""The gate in front of encryption.

Nobody can look at a template once it is encrypted, so a bad photo has to be stopped here, with a
reason. The bars are a policy; the figures they judge are measured on the photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from underseal_client.faces.errors import (
    FaceTooSmall,
    NoFace,
    SeveralFaces,
    TurnedFace,
    UncertainFace,
    UnclearFace,
)

_SMALLEST_NORM: Final = 1e-6  # an embedding shorter than this has no direction


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """What the gate looks at.

    Parameters
    ----------
    det_score
        The detector's score, 0..1.
    side_pixels
        Shorter side of the box, in pixels of the photo.
    embedding_norm
        Norm of the embedding before it is scaled to one; blur and darkness shorten it.
    turn
        How far the nose is from the middle between the eyes, along the line through both, in
        half eye distances: 0 is frontal, 1 means the nose is before one eye, 2 is a profile.
    """

    det_score: float
    side_pixels: float
    embedding_norm: float
    turn: float


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face of a photo with its template.

    Parameters
    ----------
    bbox
        (4,) float32: left, top, right, bottom in pixels of the photo.
    keypoints
        (5, 2) float32: eye, eye, nose, mouth corner, mouth corner; the photo's left first.
    embedding
        (d,) float64 of norm one: the template. Kept out of ``repr``.
    quality
        Figures of the quality gate.
    """

    bbox: npt.NDArray[np.float32]
    keypoints: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float64] = field(repr=False)
    quality: FaceQuality

    @property
    def det_score(self) -> float:
        """The detector's score, 0..1."""
        return self.quality.det_score

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        left, top, right, bottom = (float(edge) for edge in self.bbox)
        return max(right - left, 0.0) * max(bottom - top, 0.0)


@dataclass(frozen=True, slots=True)
class QualityPolicy:
    """The bars of the gate.

    The defaults let all 614 official portraits of the evaluation pass once the largest face is
    chosen, except a full profile, and refuse what no longer matches its own sharp original.

    Parameters
    ----------
    min_det_score
        A detection below it does not count as a face.
    min_face_pixels
        Shorter side of the box.
    min_embedding_norm
        In the model's unit; None takes the model's own bar.
    max_turn
        See `FaceQuality`; None allows any pose.
    one_face
        True: a photo with several faces is refused. False: the largest face is taken.
    """

    min_det_score: float = 0.7
    min_face_pixels: float = 40.0
    min_embedding_norm: float | None = None
    max_turn: float | None = 2.0
    one_face: bool = True


DEFAULT_POLICY: Final = QualityPolicy()


def face_turn(keypoints: npt.NDArray[np.float32]) -> float:
    """Return `FaceQuality.turn` of five keypoints, (5, 2); infinity when the eyes coincide."""
    first, second, nose = (point.astype(np.float64) for point in keypoints[:3])
    axis = second - first
    length = float(axis @ axis)
    if length == 0.0:
        return float("inf")
    return abs(2.0 * float((nose - first) @ axis) / length - 1.0)


def choose_face(faces: Sequence[Face], policy: QualityPolicy, model_min_norm: float) -> Face:
    """Return the one face that passes the gate.

    Parameters
    ----------
    faces
        Everything the detector reported, also what it is unsure about.
    policy
        The bars.
    model_min_norm
        Bar for the embedding's norm when the policy leaves it to the model.

    Raises
    ------
    NoFace, UncertainFace, SeveralFaces, FaceTooSmall, TurnedFace, UnclearFace
        The first bar that is missed, in this order.
    """
    sure = [face for face in faces if face.det_score >= policy.min_det_score]
    if not sure:
        if not faces:
            raise NoFace
        raise UncertainFace(max(face.det_score for face in faces), policy.min_det_score)
    if len(sure) > 1 and policy.one_face:
        raise SeveralFaces(len(sure))
    face = max(sure, key=lambda candidate: candidate.area)
    _check_face(face, policy, model_min_norm)
    return face


def _check_face(face: Face, policy: QualityPolicy, model_min_norm: float) -> None:
    quality = face.quality
    if quality.side_pixels < policy.min_face_pixels:
        raise FaceTooSmall(quality.side_pixels, policy.min_face_pixels)
    if policy.max_turn is not None and quality.turn > policy.max_turn:
        raise TurnedFace(quality.turn, policy.max_turn)
    bar = policy.min_embedding_norm
    bar = max(model_min_norm if bar is None else bar, _SMALLEST_NORM)
    if not quality.embedding_norm >= bar:  # also true for NaN
        raise UnclearFace(quality.embedding_norm, bar)
