"""Rewrites the two models of OpenCV Zoo into the shapes that insightface loads.

As shipped neither runs in onnxruntime: weights are block-quantised integers behind
``DequantizeLinear`` nodes, and the graphs list initialisers among their inputs. Both are folded
back to float32. The recogniser is then an ``ArcFaceONNX`` already. The detector, YuNet, keeps its
network and gets new ends, so that insightface takes it for an ``SCRFD``:

    in   SCRFD feeds (RGB - 127.5) / 128; YuNet wants BGR 0..255
    out  YuNet has, per stride 8, 16, 32, heads cls, obj, bbox (dx, dy, log w, log h), kps for one
         anchor per cell; SCRFD has score, distances to the four edges, and kps for two. The score
         is sqrt(cls * obj) as in OpenCV's FaceDetectorYN; the second anchor never fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from underseal_client.faces.errors import ModelDamaged

Array = npt.NDArray[Any]

STRIDES: Final = (8, 16, 32)
IR_VERSION: Final = 10
_DETECTOR_INPUT: Final = "input.1"


def arcface_recogniser(raw: bytes) -> onnx.ModelProto:
    """Return SFace as insightface's ``ArcFaceONNX`` expects it: float32, any batch size.

    Raises
    ------
    ModelDamaged
        Not the graph this was written for.
    """
    model = dequantise(onnx.load_from_string(raw))
    graph = model.graph
    if [entry.name for entry in graph.input] != ["data"] or len(graph.output) != 1:
        raise ModelDamaged("the recogniser has other inputs or outputs than SFace")
    # insightface looks for a subtraction and a product among the first node names, and if they
    # are there leaves the scaling of pixels to the graph.
    if not (graph.node[0].name.startswith("_minus") and graph.node[1].name.startswith("_mul")):
        raise ModelDamaged("the recogniser does not scale its pixels as SFace does")
    for value in (graph.input[0], graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model)
    return model


def scrfd_detector(raw: bytes) -> onnx.ModelProto:
    """Return YuNet with the input and the nine outputs of SCRFD; see the module's docstring.

    Raises
    ------
    ModelDamaged
        Not the graph this was written for.
    """
    model = dequantise(onnx.load_from_string(raw))
    graph = model.graph
    heads = {f"{kind}_{s}" for kind in ("cls", "obj", "bbox", "kps") for s in STRIDES}
    if len(graph.input) != 1 or {entry.name for entry in graph.output} != heads:
        raise ModelDamaged("the detector has other inputs or outputs than YuNet")
    nodes = [*_input_nodes(graph.input[0].name), *graph.node]
    for stride in STRIDES:
        nodes += _head_nodes(stride)
    outputs = [(f"{kind}_{s}", width) for kind, width in _SCRFD_HEADS for s in STRIDES]
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in _CONSTANTS.items())
    _replace(graph.node, nodes)
    _replace(graph.input, [_tensor(_DETECTOR_INPUT, [1, 3, "height", "width"])])
    _replace(graph.output, [_tensor(name, [f"n_{name}", width]) for name, width in outputs])
    onnx.checker.check_model(model)
    return model


def dequantise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold ``DequantizeLinear`` (and a ``Reshape`` after it) of constants into float32 weights.

    Initialisers nobody uses, inputs that are initialisers and stale shape annotations go as well.
    The model is changed in place and returned.
    """
    graph = model.graph
    weights = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    folded: dict[str, Array] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            folded[node.output[0]] = _dequantised(node, weights)
        elif node.op_type == "Reshape" and node.input[0] in folded:
            shape = weights[node.input[1]]
            folded[node.output[0]] = folded[node.input[0]].reshape(tuple(int(n) for n in shape))
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    constants = {name: value for name, value in (weights | folded).items() if name in used}
    inputs = [entry for entry in graph.input if entry.name in used - constants.keys()]
    _replace(graph.node, kept)
    _replace(graph.input, inputs)
    _replace(
        graph.initializer,
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    _replace(graph.value_info, [])
    model.ir_version = IR_VERSION
    return model


def _dequantised(node: onnx.NodeProto, weights: Mapping[str, Array]) -> Array:
    """Evaluate one ``DequantizeLinear``: per tensor, per axis or per block (ONNX opset 21)."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axis = int(attributes.get("axis", 1))
    block = int(attributes.get("block_size", 0))
    quantised = weights[node.input[0]].astype(np.float32)
    scale = _spread(weights[node.input[1]], quantised.shape, axis, block)
    if len(node.input) < 3:
        return quantised * scale
    return (quantised - _spread(weights[node.input[2]], quantised.shape, axis, block)) * scale


def _spread(values: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """Broadcast a scale or zero point to the quantised tensor's shape."""
    values = values.astype(np.float32)
    if block:
        repeated = np.repeat(values, block, axis=axis)
        return np.take(repeated, np.arange(shape[axis]), axis=axis)  # the last block may be short
    if values.ndim == 1 and values.size > 1:
        return values.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return values


_SCRFD_HEADS: Final = (("score", 1), ("edges", 4), ("points", 10))
_CONSTANTS: Final[dict[str, Array]] = {
    "k_128": np.array(128, np.float32),
    "k_127_5": np.array(127.5, np.float32),
    "k_half": np.array(0.5, np.float32),
    "k_0": np.array(0, np.float32),
    "k_1": np.array(1, np.float32),
    "k_bgr": np.array([2, 1, 0], np.int64),
    "k_rows_1": np.array([-1, 1], np.int64),
    "k_rows_4": np.array([-1, 4], np.int64),
    "k_rows_10": np.array([-1, 10], np.int64),
}


def _node(operation: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    name = f"scrfd/{outputs[0]}"
    return helper.make_node(operation, inputs, list(outputs), name=name, **attributes)


def _input_nodes(pixels: str) -> list[onnx.NodeProto]:
    """Undo SCRFD's scaling of pixels and swap red and blue; ``pixels`` is YuNet's input."""
    return [
        _node("Mul", [_DETECTOR_INPUT, "k_128"], "scaled"),
        _node("Add", ["scaled", "k_127_5"], "rgb"),
        _node("Gather", ["rgb", "k_bgr"], pixels, axis=1),
    ]


def _head_nodes(s: int) -> list[onnx.NodeProto]:
    """Map YuNet's four heads of one stride to SCRFD's three."""
    return [
        _node("Clip", [f"cls_{s}", "k_0", "k_1"], f"cls_clipped_{s}"),
        _node("Clip", [f"obj_{s}", "k_0", "k_1"], f"obj_clipped_{s}"),
        _node("Mul", [f"cls_clipped_{s}", f"obj_clipped_{s}"], f"product_{s}"),
        _node("Sqrt", [f"product_{s}"], f"first_{s}"),
        _node("Mul", [f"first_{s}", "k_0"], f"second_{s}"),
        # (1, n, 1) -> (1, n, 2) -> (2n, 1): anchor pairs of a cell are neighbours
        _node("Concat", [f"first_{s}", f"second_{s}"], f"scores_{s}", axis=2),
        _node("Reshape", [f"scores_{s}", "k_rows_1"], f"score_{s}"),
        # centre offset and log size -> distances left, top, right, bottom, in strides
        _node("Split", [f"bbox_{s}"], f"offset_{s}", f"log_size_{s}", axis=2, num_outputs=2),
        _node("Exp", [f"log_size_{s}"], f"size_{s}"),
        _node("Mul", [f"size_{s}", "k_half"], f"half_{s}"),
        _node("Sub", [f"half_{s}", f"offset_{s}"], f"before_{s}"),
        _node("Add", [f"half_{s}", f"offset_{s}"], f"after_{s}"),
        _node("Concat", [f"before_{s}", f"after_{s}"] * 2, f"edge_pairs_{s}", axis=2),
        _node("Reshape", [f"edge_pairs_{s}", "k_rows_4"], f"edges_{s}"),
        _node("Concat", [f"kps_{s}", f"kps_{s}"], f"point_pairs_{s}", axis=2),
        _node("Reshape", [f"point_pairs_{s}", "k_rows_10"], f"points_{s}"),
    ]


def _tensor(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _replace(field: Any, entries: Iterable[Any]) -> None:  # repeated protobuf fields are untyped
    entries = list(entries)
    del field[:]
    field.extend(entries)
