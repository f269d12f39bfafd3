"""The demo's people: credited photos, the group photo of insightface's wheel, and nobody."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

from underseal_client.faces import load_photo, synthetic_templates
from underseal_client.units import TemplateRecord
from underseal_core.errors import NotFound

if TYPE_CHECKING:
    from underseal_client.client import Client
    from underseal_client.faces import Face, FaceEmbedder
    from underseal_client.faces.photos import Pixels

ENROLLED: Final = {
    "person_a": "person_a_1.jpg",
    "person_b": "person_b_1.jpg",
    "impostor_1": "impostor_1.jpg",
}
SEARCHED: Final = {
    "person_a_2.jpg": ("person_a",),
    "person_b_2.jpg": ("person_b",),
    "impostor_2.jpg": (),
}
"""Who should be released for each photo. ``impostor_2`` is kept out of the gallery."""

GROUP_NAME: Final = "t1.jpg"
GROUP_FACES: Final = 6
DEGRADED_FACE: Final = 0
_MARGIN: Final = 0.6
_BLUR_PIXELS: Final = 1.3
_SCALE: Final = 0.6
_JPEG_QUALITY: Final = 30


@dataclass(frozen=True, slots=True)
class DemoProbe:
    """A photo to search with, and who should be found."""

    name: str
    data: bytes
    expected: tuple[str, ...]


def photo_folder(chosen: Path | None) -> Path:
    """Return the folder with the six credited photos.

    Raises
    ------
    NotFound
        They are not there.
    """
    folder = chosen or Path(__file__).resolve().parents[3] / "tests" / "assets" / "faces"
    wanted = [*ENROLLED.values(), *SEARCHED]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        where = folder if chosen else "this installation"
        raise NotFound(
            f"the demo's photos are not in {where}: {missing[0]} is missing",
            hint="name the repository's tests/assets/faces with --photos",
        )
    return folder


def group_photo() -> Path:
    """Return the photo of six faces that insightface's wheel brings along.

    Raises
    ------
    NotFound
        This version of insightface has none.
    """
    import insightface

    path = Path(insightface.__file__).parent / "data" / "images" / GROUP_NAME
    if not path.is_file():
        raise NotFound(f"insightface brings no {GROUP_NAME}")
    return path


def group_name(index: int) -> str:
    """Return what the demo calls the index-th face of the group photo, the largest first."""
    return f"group_{index + 1}"


def group_records(faces: list[Face]) -> list[TemplateRecord]:
    """Return the templates of the group photo's faces."""
    return [
        TemplateRecord(group_name(i), face.embedding, photo=GROUP_NAME)
        for i, face in enumerate(faces)
    ]


def enrol_people(client: Client, gallery: str, folder: Path, faces: list[Face]) -> None:
    """Enrol the people of the photos and of the group photo."""
    client.enroll_templates(gallery, group_records(faces))
    for subject, name in ENROLLED.items():
        client.enroll(gallery, [folder / name], subject=subject)


def synthetic_records(count: int, dimension: int) -> list[TemplateRecord]:
    """Return templates of people who do not exist."""
    vectors = synthetic_templates(count, dimension)
    return [TemplateRecord(f"synthetic_{i:05}", v, photo="none") for i, v in enumerate(vectors)]


def probes(folder: Path, faces: list[Face]) -> list[DemoProbe]:
    """Return the photos to search with: second photos, a bad copy, the impostor."""
    pixels = load_photo(group_photo())
    copy = degrade(pixels, faces[DEGRADED_FACE])
    degraded = DemoProbe(
        f"{group_name(DEGRADED_FACE)}, blurred copy", copy, (group_name(DEGRADED_FACE),)
    )
    photos = [
        DemoProbe(name, (folder / name).read_bytes(), expected)
        for name, expected in SEARCHED.items()
    ]
    return [*photos[:-1], degraded, photos[-1]]


def degrade(pixels: Pixels, face: Face) -> bytes:
    """Cut one face out, shrink and blur it, and save it as a bad JPEG."""
    left, top, right, bottom = (float(edge) for edge in face.bbox)
    margin = _MARGIN * max(right - left, bottom - top)
    height, width = pixels.shape[:2]
    box = (
        int(max(left - margin, 0)),
        int(max(top - margin, 0)),
        int(min(right + margin, width)),
        int(min(bottom + margin, height)),
    )
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).crop(box)
    size = (int(image.width * _SCALE), int(image.height * _SCALE))
    small = image.resize(size, Image.Resampling.BILINEAR)
    blurred = small.filter(ImageFilter.GaussianBlur(_BLUR_PIXELS))
    file = io.BytesIO()
    blurred.save(file, "JPEG", quality=_JPEG_QUALITY)
    return file.getvalue()


def all_group_faces(embedder: FaceEmbedder) -> list[Face]:
    """Return the six faces of the group photo.

    Raises
    ------
    NotFound
        The model finds another number of faces.
    """
    faces = embedder.detect(group_photo())
    if len(faces) != GROUP_FACES:
        raise NotFound(f"the model finds {len(faces)} faces in {GROUP_NAME}, not {GROUP_FACES}")
    return faces
