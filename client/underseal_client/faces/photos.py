"""Photos as arrays of pixels: formats, orientation, limits.

Dimensions are read from the file's header and checked before a single pixel is decoded, so a
small file that unpacks to gigabytes is refused at no cost.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from underseal_client.faces.errors import UnreadablePhoto

Pixels = npt.NDArray[np.uint8]
"""A photo: (height, width, 3), blue-green-red as the face models expect, C-contiguous."""

FORMATS: Final = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
)
"""Pillow's names; importing the modules registers them, and no other decoder is ever tried.
JPEG includes the picture sets (MPO) of phones."""
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""File name endings that a folder walk takes for photos (lower case)."""

MAX_SIDE: Final = 32_766
"""OpenCV's warping addresses pixels by 16-bit numbers."""

_HINT: Final = "use a JPEG, PNG, WebP, BMP or TIFF file"
_BACKDROP: Final = (128, 128, 128)
_SIXTEEN_BIT_MODES: Final = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})


@dataclass(frozen=True, slots=True)
class PhotoLimits:
    """What a photo may cost.

    Parameters
    ----------
    max_bytes
        Length of the file.
    max_pixels
        Width times height. 80 million pixels take 240 MB while they are looked at.
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 80_000_000


DEFAULT_LIMITS: Final = PhotoLimits()


def read_photo(path: Path, limits: PhotoLimits = DEFAULT_LIMITS) -> bytes:
    """Return a photo file's bytes.

    Raises
    ------
    UnreadablePhoto
        No such file, no permission, not a regular file, empty or too long.
    """
    try:
        if not path.is_file():
            raise UnreadablePhoto("no such photo file", hint="check the path")
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        reason = error.strerror or "input/output error"
        raise UnreadablePhoto(f"the file cannot be read: {reason}") from None
    _check_length(data, limits)
    return data


def decode_photo(data: bytes, limits: PhotoLimits = DEFAULT_LIMITS) -> Pixels:
    """Decode a photo, upright: the camera's orientation tag is applied.

    Transparent parts become grey, 16-bit samples are reduced to 8 bits, the first picture of an
    animation or of a camera's set counts.

    Raises
    ------
    UnreadablePhoto
        Unknown format, damaged, cut off, or over a limit.
    """
    _check_length(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_dimensions(image.size, limits)
            upright = ImageOps.exif_transpose(image)
            rgb = np.asarray(_as_rgb(upright), dtype=np.uint8)
    except UnreadablePhoto:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadablePhoto(f"the photo has more than {limits.max_pixels} pixels") from None
    except MemoryError:
        raise UnreadablePhoto("the photo does not fit into memory") from None
    except Exception:  # noqa: BLE001 - Pillow's decoders raise dozens of types on bad bytes
        raise UnreadablePhoto("not a readable photo", hint=_HINT) from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def load_photo(source: bytes | Path, limits: PhotoLimits = DEFAULT_LIMITS) -> Pixels:
    """Decode a photo given as bytes or as a path; see `decode_photo`."""
    data = source if isinstance(source, bytes) else read_photo(source, limits)
    return decode_photo(data, limits)


def _check_length(data: bytes, limits: PhotoLimits) -> None:
    if not data:
        raise UnreadablePhoto("the file is empty")
    if len(data) > limits.max_bytes:
        raise UnreadablePhoto(
            f"the file is longer than {limits.max_bytes // 1024} KiB",
            hint="scale the photo down, or raise the limit",
        )


def _check_dimensions(size: tuple[int, int], limits: PhotoLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise UnreadablePhoto(
            f"the photo has {width} x {height} pixels, at most {limits.max_pixels} allowed",
            hint="scale the photo down, or raise the limit",
        )
    if max(size) > MAX_SIDE:
        raise UnreadablePhoto(
            f"the photo has {width} x {height} pixels, at most {MAX_SIDE} allowed on a side",
            hint="scale the photo down",
        )


def _as_rgb(image: Image.Image) -> Image.Image:
    """Reduce any of Pillow's modes to 8-bit RGB."""
    if image.mode in _SIXTEEN_BIT_MODES:
        samples = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(np.clip(samples, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        backdrop = Image.new("RGBA", layer.size, (*_BACKDROP, 255))
        return Image.alpha_composite(backdrop, layer).convert("RGB")
    return image.convert("RGB")
