"""What a model pack says about itself: insightface's ``manifest.json``, version 2.

insightface parses the file again, with its own checks, when it loads the models. This reader
exists so that packs can be listed and their digests verified without loading anything heavy. It
also reads our own section ``underseal``, which insightface ignores:

    "underseal": {"threshold_default": 0.45, "min_embedding_norm": 7.5}

As in insightface, a manifest of another version counts as none.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, cast

from underseal_client.faces.errors import ModelDamaged

MANIFEST_FILE: Final = "manifest.json"
MANIFEST_VERSION: Final = 2
LICENCE_FILE: Final = "MODEL.LICENSE"
TUNING_SECTION: Final = "underseal"

_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MAX_MANIFEST_BYTES: Final = 1 << 20
_HINT: Final = "install the pack again"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """One model file of a pack.

    Parameters
    ----------
    file
        Path relative to the pack, POSIX style.
    sha256
        Expected digest in hex; None when the manifest does not pin it.
    dimension
        Embedding dimension, for the recogniser, when given.
    """

    file: str
    sha256: str | None
    dimension: int | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The part of a manifest that we use."""

    model_id: str
    tasks: Mapping[str, TaskFile]
    threshold_default: float | None
    min_embedding_norm: float | None


def read_manifest(pack: Path) -> Manifest | None:
    """Return the manifest of a pack folder, or None when there is none of version 2.

    Raises
    ------
    ModelDamaged
        A version 2 manifest with fields that are missing or of a wrong kind.
    """
    path = pack / MANIFEST_FILE
    try:
        if not path.is_file() or path.stat().st_size > _MAX_MANIFEST_BYTES:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("manifest_version") != MANIFEST_VERSION:
        return None
    return _parse(document)


def verify_files(pack: Path, manifest: Manifest) -> None:
    """Check every model file that the manifest pins.

    Raises
    ------
    ModelDamaged
        A file is missing or its SHA-256 differs.
    """
    for task, entry in manifest.tasks.items():
        try:
            digest = file_digest(pack / entry.file)
        except OSError:
            raise ModelDamaged(f"the pack's {task} model is missing", hint=_HINT) from None
        if entry.sha256 is not None and digest != entry.sha256:
            raise ModelDamaged(
                f"the pack's {task} model is not the one its manifest names", hint=_HINT
            )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(document: dict[str, object]) -> Manifest:
    model_id = document.get("model_id")
    if not isinstance(model_id, str) or not _MODEL_ID.fullmatch(model_id):
        raise ModelDamaged("the pack's manifest has no valid model_id", hint=_HINT)
    tasks = _mapping(document, "tasks")
    tuning = _mapping(document, TUNING_SECTION) if TUNING_SECTION in document else {}
    return Manifest(
        model_id=model_id,
        tasks={name: _parse_task(name, _mapping(tasks, name)) for name in tasks},
        threshold_default=_number(tuning, "threshold_default"),
        min_embedding_norm=_number(tuning, "min_embedding_norm"),
    )


def _parse_task(name: str, entry: dict[str, object]) -> TaskFile:
    file, digest, dimension = (entry.get(key) for key in ("file", "sha256", "embedding_dimension"))
    if not isinstance(file, str) or not _is_safe(file):
        raise ModelDamaged(f"the pack's manifest names no valid {name} file", hint=_HINT)
    if digest is not None and (not isinstance(digest, str) or not _SHA256.fullmatch(digest)):
        raise ModelDamaged(f"the pack's manifest has a bad {name} digest", hint=_HINT)
    if dimension is not None and (type(dimension) is not int or dimension < 1):
        raise ModelDamaged("the pack's manifest has a bad embedding dimension", hint=_HINT)
    return TaskFile(file, digest, dimension)


def _is_safe(file: str) -> bool:
    """Whether a path stays inside the pack and names an ONNX file."""
    path = PurePosixPath(file)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in file
    return inside and "\0" not in file and path.suffix == ".onnx"


def _mapping(document: dict[str, object], key: str) -> dict[str, object]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise ModelDamaged(f"the pack's manifest has no valid section {key!r}", hint=_HINT)
    return cast("dict[str, object]", value)


def _number(section: dict[str, object], key: str) -> float | None:
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelDamaged(f"the pack's manifest has a bad {key}", hint=_HINT)
    return float(value)
