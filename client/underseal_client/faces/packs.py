"""Model packs: where they are, which may be used, how they get there.

A pack is a folder with ONNX files of a detector and a recogniser, as insightface lays them out.
Packs live in one folder per user (``UNDERSEAL_MODELS`` overrides it); any other folder can be
given by path. Nothing here touches the network except `pull_pack`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from underseal_client.faces.errors import LicenceNotAccepted, ModelDamaged, ModelMissing
from underseal_client.faces.manifest import (
    MANIFEST_FILE,
    Manifest,
    read_manifest,
    verify_files,
)

DEFAULT_PACK: Final = "zoo-sface"
MODELS_VARIABLE: Final = "UNDERSEAL_MODELS"

NONCOMMERCIAL_LICENCE: Final = "non-commercial research only (InsightFace model licence)"
NONCOMMERCIAL_PACKS: Final = ("buffalo_l",)
"""Packs that insightface downloads itself and `pull_pack` knows."""
_INSIGHTFACE_NAMES: Final = frozenset(
    {"buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2", "raccoon_s", "raccoon_l"}
)
_KNOWN_LICENCES: Final = {DEFAULT_PACK: "MIT (YuNet) and Apache-2.0 (SFace)"} | dict.fromkeys(
    NONCOMMERCIAL_PACKS, NONCOMMERCIAL_LICENCE
)

DIGEST_PREFIX: Final = 12
"""Digits of the recogniser's SHA-256 in the model id of every pack but the default one."""
_MODEL_ID: Final = re.compile(rf"(?P<name>[^/\\]+)-[0-9a-f]{{{DIGEST_PREFIX}}}")


@dataclass(frozen=True, slots=True)
class ModelPack:
    """A pack that was found, whose licence is settled and whose pinned files are intact.

    Parameters
    ----------
    name
        The manifest's ``model_id``, else the folder's name.
    path
        The folder, absolute.
    manifest
        None for a folder without a version 2 manifest.
    is_default
        Whether this is the installed ``zoo-sface``, whose weights are pinned by this program.
    """

    name: str
    path: Path
    manifest: Manifest | None
    is_default: bool


@dataclass(frozen=True, slots=True)
class PackSummary:
    """One line of ``underseal models list``.

    Parameters
    ----------
    dimension
        Embedding dimension when the manifest gives it; None when only loading would tell.
    """

    name: str
    installed: bool
    licence: str
    dimension: int | None
    path: Path


def models_dir() -> Path:
    """Return the folder of installed packs; it need not exist."""
    override = os.environ.get(MODELS_VARIABLE)
    if override:
        return Path(override).expanduser().resolve()
    return platformdirs.user_data_path("underseal", appauthor=False) / "models"


def list_packs() -> list[PackSummary]:
    """Return the packs this program knows and those that are installed, by name."""
    root = models_dir()
    found = {path.name for path in root.iterdir() if is_pack(path)} if root.is_dir() else set()
    return [
        _summary(root / name, installed=name in found)
        for name in sorted(found | set(_KNOWN_LICENCES))
    ]


def is_pack(folder: Path) -> bool:
    """Whether a folder holds ONNX files or a manifest that names some."""
    return any(folder.glob("*.onnx")) or (folder / MANIFEST_FILE).is_file()


def open_pack(
    name_or_path: str | Path = DEFAULT_PACK, *, accept_noncommercial: bool = False
) -> ModelPack:
    """Find an installed pack by name, or any pack folder by path, and verify its files.

    Parameters
    ----------
    name_or_path
        A name may carry the digest that a gallery's model id has: ``buffalo_l-0123456789ab``.
    accept_noncommercial
        The user's own statement that the use is non-commercial research; needed for
        insightface's packs.

    Raises
    ------
    ModelMissing
        No such pack or folder.
    LicenceNotAccepted
        One of insightface's packs without ``accept_noncommercial``.
    ModelDamaged
        The manifest is malformed or a file's SHA-256 differs from it.
    """
    folder = _find(name_or_path)
    require_licence(folder.name, accept_noncommercial=accept_noncommercial)
    if not is_pack(folder):
        raise _missing(str(name_or_path))
    folder = folder.resolve()
    manifest = read_manifest(folder)
    if manifest is not None:
        require_licence(manifest.model_id, accept_noncommercial=accept_noncommercial)
        verify_files(folder, manifest)
    is_default = folder == (models_dir() / DEFAULT_PACK).resolve()
    if is_default and (manifest is None or manifest.model_id != DEFAULT_PACK):
        raise ModelDamaged(
            f"the installed {DEFAULT_PACK} has no manifest of its own",
            hint="run `underseal models pull` again",
        )
    return ModelPack(manifest.model_id if manifest else folder.name, folder, manifest, is_default)


def _find(name_or_path: str | Path) -> Path:
    """Return the installed pack of that name or model id, else the path itself."""
    installed = models_dir() / name_or_path
    if is_pack(installed):
        return installed
    path = Path(name_or_path).expanduser()
    model_id = _MODEL_ID.fullmatch(str(name_or_path))
    if model_id and not is_pack(path):
        return models_dir() / model_id["name"]
    return path


def require_licence(name: str, *, accept_noncommercial: bool) -> None:
    """Refuse insightface's own packs until the user has accepted their licence.

    Raises
    ------
    LicenceNotAccepted
        ``name`` is one of them and ``accept_noncommercial`` is false.
    """
    if name in _INSIGHTFACE_NAMES and not accept_noncommercial:
        raise LicenceNotAccepted(
            f"the models of {name} are licensed for non-commercial research only",
            hint="if that is your use, say so with --accept-noncommercial; "
            f"else use {DEFAULT_PACK} (MIT and Apache-2.0)",
        )


def _missing(name: str) -> ModelMissing:
    if name in _KNOWN_LICENCES:
        return ModelMissing(
            f"the model pack {name} is not installed",
            hint=f"run `underseal models pull {name}`",
        )
    return ModelMissing(
        f"no model pack {name!r}: neither installed nor a folder with ONNX files",
        hint="`underseal models list` shows what there is",
    )


def _summary(folder: Path, *, installed: bool) -> PackSummary:
    name = folder.name
    try:
        manifest = read_manifest(folder)
        licence = _KNOWN_LICENCES.get(name, "see the pack's own licence")
    except ModelDamaged as error:
        manifest, licence = None, f"damaged: {error.public}"
    recogniser = manifest.tasks.get("recognition") if manifest else None
    return PackSummary(
        name=name,
        installed=installed,
        licence=NONCOMMERCIAL_LICENCE if name in _INSIGHTFACE_NAMES else licence,
        dimension=recogniser.dimension if recogniser else None,
        path=folder,
    )
