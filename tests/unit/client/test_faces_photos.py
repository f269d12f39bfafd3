"""Reading photos: formats, orientation, limits, damage."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.face_fixtures import FACES
from underseal_client.faces import PhotoLimits, UnreadablePhoto, load_photo

PHOTO = FACES / "person_a_1.jpg"


def _picture() -> npt.NDArray[np.uint8]:
    """A 4 x 6 picture, RGB, every pixel different."""
    values = np.arange(4 * 6 * 3).reshape(4, 6, 3) * 3
    return values.astype(np.uint8)


def _encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format_", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_blue_green_red_pixels(format_: str) -> None:
    data = _encoded(
        Image.fromarray(_picture()), format_, **({"lossless": True} if format_ == "WEBP" else {})
    )
    pixels = load_photo(data)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, _picture()[:, :, ::-1])


def test_path_and_bytes_of_a_jpeg_agree_with_opencv() -> None:
    import cv2

    np.testing.assert_array_equal(load_photo(PHOTO), load_photo(PHOTO.read_bytes()))
    reference = cv2.imread(str(PHOTO))
    assert reference is not None
    assert np.abs(load_photo(PHOTO).astype(int) - reference).max() <= 2  # decoders round


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_tag_is_applied(orientation: int) -> None:
    upright = _picture()
    stored = {  # how a camera stores the upright picture under each tag of EXIF 2.3
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    np.testing.assert_array_equal(load_photo(data), upright[:, :, ::-1])


def test_grey_palette_cmyk_and_sixteen_bits_become_three_channels() -> None:
    rgb = Image.fromarray(_picture())
    grey = np.asarray(rgb.convert("L"))
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(load_photo(_encoded(rgb.convert("L"), "PNG")), expected)
    deep = Image.fromarray(grey.astype(np.uint16) << 8)
    np.testing.assert_array_equal(load_photo(_encoded(deep, "PNG")), expected)
    assert load_photo(_encoded(rgb.convert("P"), "PNG")).shape == (4, 6, 3)
    assert load_photo(_encoded(rgb.convert("CMYK"), "JPEG")).shape == (4, 6, 3)


def test_the_first_picture_of_a_phones_set_counts() -> None:
    first = Image.fromarray(np.full((16, 16, 3), 200, np.uint8))
    second = Image.fromarray(np.zeros((16, 16, 3), np.uint8))
    data = _encoded(first, "MPO", save_all=True, append_images=[second])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    assert load_photo(data).min() > 190


def test_transparent_parts_become_grey() -> None:
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0] = (200, 100, 50, 255)
    pixels = load_photo(_encoded(Image.fromarray(layer), "PNG"))
    assert pixels[0, 0].tolist() == [50, 100, 200]
    assert pixels[1, 1].tolist() == [128, 128, 128]


def _png_header(width: int, height: int) -> bytes:
    """A PNG of 60 bytes that claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_000, 9_800, 20_000, 200_000])
def test_decompression_bombs_are_refused_by_their_header(side: int) -> None:
    with pytest.raises(UnreadablePhoto, match="pixels"):
        load_photo(_png_header(side, side))


def test_sides_that_opencv_cannot_address_are_refused() -> None:
    assert load_photo(_encoded(Image.new("RGB", (32_766, 2)), "PNG")).shape == (2, 32_766, 3)
    with pytest.raises(UnreadablePhoto, match="on a side"):
        load_photo(_encoded(Image.new("RGB", (32_767, 2)), "PNG"))


def test_limits_are_settings() -> None:
    data = PHOTO.read_bytes()
    height, width, _ = load_photo(data).shape
    exact = PhotoLimits(max_bytes=len(data), max_pixels=width * height)
    assert load_photo(data, exact).shape == (height, width, 3)
    assert load_photo(PHOTO, exact).shape == (height, width, 3)
    for source in (data, PHOTO):
        with pytest.raises(UnreadablePhoto, match="longer than"):
            load_photo(source, PhotoLimits(max_bytes=len(data) - 1))
        with pytest.raises(UnreadablePhoto, match="pixels"):
            load_photo(source, PhotoLimits(max_pixels=width * height - 1))


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 1_000, 14_003])
def test_cut_off_photos_are_refused(kept: int) -> None:
    whole = PHOTO.read_bytes()
    assert kept < len(whole)
    with pytest.raises(UnreadablePhoto):
        load_photo(whole[: kept if kept < 14_000 else len(whole) // 2])


@pytest.mark.parametrize(
    "data",
    [b"not a photo", b"\xff\xd8\xff\xe0", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0", b"\0" * 4096],
)
def test_other_files_are_refused_with_the_formats_named(data: bytes) -> None:
    with pytest.raises(UnreadablePhoto) as caught:
        load_photo(data)
    assert "JPEG" in caught.value.hint
    assert caught.value.reason == "unreadable"


def test_missing_files_and_folders_are_refused_without_their_path(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "absent.jpg", tmp_path, fifo):
        with pytest.raises(UnreadablePhoto) as caught:
            load_photo(path)
        assert str(tmp_path) not in caught.value.public + caught.value.hint


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 14_000), st.booleans())
def test_bytes_are_a_photo_or_unreadable(noise: bytes, at: int, start_like_a_photo: bool) -> None:
    data = PHOTO.read_bytes()[:at] + noise if start_like_a_photo else noise
    try:
        pixels = load_photo(data)
    except UnreadablePhoto:
        return
    assert pixels.ndim == 3 and pixels.shape[2] == 3
