"""Faces: photos in, templates out, everything on the client's own machine.

pack = open_pack()                       # zoo-sface, or any pack by name or path
embedder = FaceEmbedder(pack)            # embedder.model: what a gallery is pinned to
face = embedder.embed(Path("photo.jpg")) # the one face that passes the quality gate
for outcome in embed_all(scan([Path("people")]), embedder): ...
"""

from __future__ import annotations

from underseal_client.faces.embedder import FaceEmbedder, FaceModel
from underseal_client.faces.errors import (
    DownloadFailed,
    FaceTooSmall,
    LicenceNotAccepted,
    ModelDamaged,
    ModelMissing,
    NoFace,
    PhotoChanged,
    PhotoRefused,
    RuntimeUnavailable,
    SeveralFaces,
    TurnedFace,
    UncertainFace,
    UnclearFace,
    UnreadablePhoto,
)
from underseal_client.faces.packs import (
    DEFAULT_PACK,
    ModelPack,
    PackSummary,
    list_packs,
    models_dir,
    open_pack,
)
from underseal_client.faces.photos import PhotoLimits, load_photo
from underseal_client.faces.pull import install_zoo_pack, pull_pack
from underseal_client.faces.quality import Face, FaceQuality, QualityPolicy, choose_face
from underseal_client.faces.scan import EmbeddedPhoto, PhotoProblem, PhotoSource, embed_all, scan
from underseal_client.faces.synthetic import synthetic_templates

__all__ = [
    "DEFAULT_PACK",
    "DownloadFailed",
    "EmbeddedPhoto",
    "Face",
    "FaceEmbedder",
    "FaceModel",
    "FaceQuality",
    "FaceTooSmall",
    "LicenceNotAccepted",
    "ModelDamaged",
    "ModelMissing",
    "ModelPack",
    "NoFace",
    "PackSummary",
    "PhotoChanged",
    "PhotoLimits",
    "PhotoProblem",
    "PhotoRefused",
    "PhotoSource",
    "QualityPolicy",
    "RuntimeUnavailable",
    "SeveralFaces",
    "TurnedFace",
    "UncertainFace",
    "UnclearFace",
    "UnreadablePhoto",
    "choose_face",
    "embed_all",
    "install_zoo_pack",
    "list_packs",
    "load_photo",
    "models_dir",
    "open_pack",
    "pull_pack",
    "scan",
    "synthetic_templates",
]
