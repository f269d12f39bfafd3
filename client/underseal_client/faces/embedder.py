"""From a photo to templates: insightface's detector, alignment and recogniser."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from underseal_client.faces.errors import ModelDamaged
from underseal_client.faces.manifest import file_digest
from underseal_client.faces.packs import DIGEST_PREFIX, ModelPack
from underseal_client.faces.photos import DEFAULT_LIMITS, PhotoLimits, Pixels, load_photo
from underseal_client.faces.projection import Projection
from underseal_client.faces.quality import (
    DEFAULT_POLICY,
    Face,
    FaceQuality,
    QualityPolicy,
    choose_face,
    face_turn,
)
from underseal_client.faces.runtime import load_runtime, session_options
from underseal_core.errors import InvalidInput, Mismatch
from underseal_core.scheme.profiles import padded_dimension

CANDIDATE_SCORE: Final = 0.3
"""The detector reports from here on, so that the gate can say "uncertain" rather than "none"."""
DETECTOR_SIZE: Final = 640
DETECTOR_SIZES: Final = (160, 320, 480, 640, 960, 1280)


@dataclass(frozen=True, slots=True)
class FaceModel:
    """What a gallery is pinned to, and what is known about the model's scores.

    Parameters
    ----------
    model_id
        ``zoo-sface``, or the pack's name with the first digits of its recogniser's SHA-256.
    dimension
        Length of its templates.
    threshold_default
        Cosine to start a policy from; None when nobody has measured one: calibrate.
    min_embedding_norm
        The quality gate's bar, in the model's own unit; 0 when unknown.
    """

    model_id: str
    dimension: int
    threshold_default: float | None
    min_embedding_norm: float = 0.0


class FaceEmbedder:
    """Finds faces and makes templates of them. Threads may share one.

    Parameters
    ----------
    pack
        From `open_pack`.
    threads
        Threads per model run; 0 means one per core.
    projection
        Templates are projected to fewer dimensions by it, which makes another model of the two.
    detector_size
        Photos are scaled to fit a square of this many pixels before detection; a face is found
        down to about a sixtieth of 640. 320 saves a quarter of the time but places the landmarks
        more coarsely: two photos of one person then score about 0.04 less.

    Raises
    ------
    RuntimeUnavailable
        A library is missing on this machine.
    ModelDamaged
        The pack cannot be loaded or lacks a detector with landmarks or a recogniser.
    """

    def __init__(
        self,
        pack: ModelPack,
        *,
        threads: int = 0,
        projection: Projection | None = None,
        detector_size: int = DETECTOR_SIZE,
    ) -> None:
        if threads < 0:
            raise InvalidInput("threads must be 0 or more")
        if detector_size not in DETECTOR_SIZES:
            known = ", ".join(map(str, DETECTOR_SIZES))
            raise InvalidInput("unknown detector size", hint=f"use one of {known}")
        self._detector_size = detector_size
        self._analysis = _load(pack, threads, detector_size)
        model = _describe(pack, self._analysis.models["recognition"])
        self._projection = projection
        self.model = model if projection is None else _projected(model, projection)

    def detect(
        self, photo: bytes | Path | Pixels, limits: PhotoLimits = DEFAULT_LIMITS
    ) -> list[Face]:
        """Return every face found, largest first, also those the gate would refuse.

        Parameters
        ----------
        photo
            A photo file's bytes or path, or pixels from `load_photo`.

        Raises
        ------
        UnreadablePhoto
            See `decode_photo`.
        """
        pixels = photo if isinstance(photo, np.ndarray) else load_photo(photo, limits)
        if min(pixels.shape[:2]) * self._detector_size < max(pixels.shape[:2]):
            return []  # so thin that scaling it down leaves nothing, which OpenCV refuses
        faces = [self._template(_face(found)) for found in self._analysis.get(pixels)]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def embed(
        self,
        photo: bytes | Path | Pixels,
        policy: QualityPolicy = DEFAULT_POLICY,
        limits: PhotoLimits = DEFAULT_LIMITS,
    ) -> Face:
        """Return the one face of a photo that passes the gate.

        Raises
        ------
        PhotoRefused
            The photo cannot be read or missed a bar; the subclass says which.
        """
        faces = self.detect(photo, limits)
        return choose_face(faces, policy, self.model.min_embedding_norm)

    def _template(self, face: Face) -> Face:
        if self._projection is None:
            return face
        return replace(face, embedding=self._projection.apply(face.embedding))


def _projected(model: FaceModel, projection: Projection) -> FaceModel:
    """Return a model with its templates projected: nobody has measured a threshold for it.

    Raises
    ------
    Mismatch
        The projection is for embeddings of another dimension.
    """
    if projection.model_dimension != model.dimension:
        raise Mismatch(
            f"model {model.model_id} has dimension {model.dimension}, "
            f"the projection {projection.model_dimension}",
            hint="use the projection that was fitted for this model",
        )
    name, dimension = projection.model_id(model.model_id), projection.dimension
    return replace(model, model_id=name, dimension=dimension, threshold_default=None)


def _load(pack: ModelPack, threads: int, detector_size: int) -> Any:
    runtime = load_runtime()
    try:
        analysis = runtime.analysis(
            name=str(pack.path),
            allowed_modules=["detection", "recognition"],
            providers=["CPUExecutionProvider"],
            sess_options=session_options(runtime, threads),
        )
        analysis.prepare(-1, CANDIDATE_SCORE, (detector_size, detector_size))
        usable = "recognition" in analysis.models and analysis.det_model.use_kps
    except Exception as error:  # asserts, onnxruntime's own types, protobuf's, ...
        raise _unusable(pack) from error
    if not usable:
        raise _unusable(pack)
    return analysis


def _unusable(pack: ModelPack) -> ModelDamaged:
    return ModelDamaged(
        f"the pack {pack.name} does not load as a face detector with landmarks and a recogniser",
        hint="a pack needs both as ONNX models that insightface can load; pull it again",
    )


def _describe(pack: ModelPack, recogniser: Any) -> FaceModel:
    """Run the recogniser once: its dimension, and proof that it runs."""
    try:
        width, height = recogniser.input_size
        output = recogniser.get_feat(np.zeros((height, width, 3), np.uint8))
        dimension = int(output.shape[-1])
    except Exception as error:  # as above
        raise _unusable(pack) from error
    padded_dimension(dimension)
    manifest = pack.manifest
    digest = file_digest(Path(recogniser.model_file))[:DIGEST_PREFIX]
    return FaceModel(
        model_id=pack.name if pack.is_default else f"{pack.name}-{digest}",
        dimension=dimension,
        threshold_default=manifest.threshold_default if manifest else None,
        min_embedding_norm=(manifest.min_embedding_norm if manifest else None) or 0.0,
    )


def _face(found: Any) -> Face:
    """Convert insightface's dictionary."""
    bbox = np.asarray(found.bbox, np.float32)
    keypoints = np.asarray(found.kps, np.float32)
    raw = np.asarray(found.embedding, np.float64)
    norm = float(np.linalg.norm(raw))
    quality = FaceQuality(
        det_score=float(found.det_score),
        side_pixels=float(min(bbox[2] - bbox[0], bbox[3] - bbox[1])),
        embedding_norm=norm,
        turn=face_turn(keypoints),
    )
    embedding = raw / norm if norm > 0.0 else raw  # the gate refuses a template of norm zero
    return Face(bbox, keypoints, embedding, quality)
