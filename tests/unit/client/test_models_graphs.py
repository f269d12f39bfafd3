"""Rewriting OpenCV Zoo's models: against onnx's reference evaluator, and against OpenCV itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.face_fixtures import FACES
from underseal_client.faces import FaceEmbedder, ModelDamaged, load_photo
from underseal_client.faces.onnx_graphs import arcface_recogniser, dequantise, scrfd_detector

DETECTOR = "face_detection_yunet_2023mar_int8bq.onnx"
RECOGNISER = "face_recognition_sface_2021dec_int8bq.onnx"


def _quantised_model(
    weights: npt.NDArray[Any],
    scale: npt.NDArray[Any],
    zero_point: npt.NDArray[Any] | None,
    **attributes: Any,
) -> onnx.ModelProto:
    """``y = x + dequantised(weights)``, the weights listed among the inputs, one of them unused."""
    constants = {"weights": weights, "scale": scale, "unused": np.zeros(3, np.float32)}
    names = ["weights", "scale"]
    if zero_point is not None:
        constants["zero"] = zero_point
        names.append("zero")
    constants["shape"] = np.array(weights.shape[::-1], np.int64)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", names, ["real"], **attributes),
            helper.make_node("Reshape", ["real", "shape"], ["turned"]),
            helper.make_node("Add", ["x", "turned"], ["y"]),
        ],
        "quantised",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, weights.shape[::-1]),
            helper.make_tensor_value_info("unused", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, weights.shape[::-1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize("with_zero_point", [False, True])
@pytest.mark.parametrize(
    ("scale_shape", "attributes"),
    [
        ((), {}),
        ((6,), {"axis": 0}),
        ((8,), {"axis": 1}),
        ((6, 2), {"axis": 1, "block_size": 4}),
        ((3, 8), {"axis": 0, "block_size": 2}),
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_folding_gives_what_onnx_defines(
    scale_shape: tuple[int, ...],
    attributes: dict[str, int],
    dtype: type[np.integer[Any]],
    with_zero_point: bool,
) -> None:
    generator = np.random.default_rng(3)
    info = np.iinfo(dtype)
    weights = generator.integers(info.min, info.max, (6, 8), dtype, endpoint=True)
    scale = generator.uniform(0.01, 0.1, scale_shape).astype(np.float32)
    zero = generator.integers(info.min, info.max, scale_shape, dtype) if with_zero_point else None
    model = _quantised_model(
        weights, scale, None if zero is None else np.asarray(zero), **attributes
    )
    x = generator.standard_normal((8, 6)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})

    folded = dequantise(model)
    assert [node.op_type for node in folded.graph.node] == ["Add"]
    assert [entry.name for entry in folded.graph.input] == ["x"]
    assert {entry.name for entry in folded.graph.initializer} == {"turned"}
    onnx.checker.check_model(folded)
    (actual,) = ReferenceEvaluator(folded).run(None, {"x": x})
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-6, atol=1e-6)


def test_a_short_last_block_uses_the_last_scale() -> None:
    weights = np.arange(5, dtype=np.int8).reshape(1, 5)
    scale = np.array([[1.0, 10.0]], np.float32)
    folded = dequantise(_quantised_model(weights, scale, None, axis=1, block_size=3))
    (initialiser,) = folded.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(initialiser).ravel(), [0, 1, 2, 30, 40])


def test_other_graphs_are_refused() -> None:
    other = _quantised_model(np.zeros((2, 2), np.int8), np.ones((), np.float32), None)
    raw = other.SerializeToString()
    for convert in (arcface_recogniser, scrfd_detector):
        with pytest.raises(ModelDamaged, match="other inputs or outputs"):
            convert(raw)


@pytest.fixture(scope="module")
def raw_models(shared: Path) -> Path:
    folder = shared / "models"
    if not (folder / DETECTOR).is_file():
        pytest.skip("OpenCV Zoo's original files are not there")
    return folder


@pytest.mark.parametrize("photo", ["person_a_1.jpg", "person_b_2.jpg", "impostor_1.jpg"])
def test_boxes_landmarks_and_scores_equal_opencvs(
    raw_models: Path, embedder: FaceEmbedder, photo: str
) -> None:
    import cv2

    square = np.zeros((640, 640, 3), np.uint8)  # what either detector sees unscaled
    pixels = load_photo(FACES / photo)
    factor = 640 / max(pixels.shape)
    scaled = cv2.resize(pixels, None, fx=factor, fy=factor)
    square[: scaled.shape[0], : scaled.shape[1]] = scaled
    detector = cv2.FaceDetectorYN.create(str(raw_models / DETECTOR), "", (640, 640), 0.6)
    _, found = detector.detect(square)
    (row,) = found
    (face,) = embedder.detect(square)
    left, top, width, height = row[:4]
    np.testing.assert_allclose(face.bbox, [left, top, left + width, top + height], atol=0.1)
    np.testing.assert_allclose(face.keypoints.ravel(), row[4:14], atol=0.1)
    assert face.det_score == pytest.approx(row[14], abs=1e-3)


def test_embeddings_equal_opencvs(raw_models: Path) -> None:
    import cv2
    import onnxruntime

    raw = (raw_models / RECOGNISER).read_bytes()
    session = onnxruntime.InferenceSession(arcface_recogniser(raw).SerializeToString())
    quantised = onnx.load_from_string(raw)  # OpenCV 5 runs it once its stale inputs are gone
    del quantised.graph.input[1:]
    opencv = cv2.dnn.readNetFromONNX(np.frombuffer(quantised.SerializeToString(), np.uint8))
    for path in sorted(FACES.glob("*.jpg")):
        crop = cv2.resize(load_photo(path), (112, 112))
        blob = cv2.dnn.blobFromImage(crop, swapRB=True)
        opencv.setInput(blob)
        theirs = opencv.forward().ravel()
        ours = session.run(None, {"data": blob})[0].ravel()
        cosine = ours @ theirs / (np.linalg.norm(ours) * np.linalg.norm(theirs))
        assert cosine > 0.9999
        assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=1e-2)
