from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin
from wardround.medical_datasets.errors import UnreadableImageError
from wardround.medical_datasets.pixels import (
    check_header,
    content_hash,
    decode_rgb,
    grey_thumbnail,
    read_grey_thumbnail,
    read_rgb,
)
from wardround.medical_datasets.readers import pillow_pictures

from .pictures import pattern, save


def test_rgb_png_is_read_exactly(tmp_path: Path) -> None:
    pixels = pattern(1, colour=True)[:50]
    read = read_rgb(save(tmp_path / "a.png", pixels))
    assert read.dtype == np.uint8
    assert read.shape == (50, 96, 3)
    assert (read == pixels).all()
    read[0, 0, 0] = 1  # the array is the caller's own


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = pattern(2)[:, :, 0]
    read = read_rgb(save(tmp_path / "a.png", grey))
    assert (read == grey[:, :, None]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30] = (255, 0, 0)  # red at the top left
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(path, exif=exif)
    assert read_rgb(path).shape == (40, 60, 3)
    assert (read_rgb(path) == upright).all()
    assert np.abs(read_grey_thumbnail(path) - grey_thumbnail(upright)).max() <= 1


def test_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png").tolist() == [
        [[10, 20, 30], [40, 50, 60]],
        [[70, 80, 90], [40, 50, 60]],
    ]


def test_transparency_is_laid_over_black(tmp_path: Path) -> None:
    pixels = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 128]]], dtype=np.uint8)
    read = read_rgb(save(tmp_path / "a.png", pixels))
    assert read[0, 0].tolist() == [200, 100, 50]
    assert read[0, 1].tolist() == [0, 0, 0]
    assert np.abs(read[0, 2].astype(int) - [100, 50, 25]).max() <= 1


def test_transparent_palette_colour_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([200, 100, 50, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=0)
    assert read_rgb(tmp_path / "a.png").tolist() == [[[0, 0, 0], [40, 50, 60]]]


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_rgb(tmp_path / "a.jpg")[16, 16]
    assert red[0] > 240
    assert red[1] < 15
    assert red[2] < 15


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 256], [32768, 65535]], dtype=np.uint16)
    read = read_rgb(save(tmp_path / "a.png", values))
    assert read[:, :, 0].tolist() == [[0, 1], [128, 255]]
    twelve = read_rgb(save(tmp_path / "b.png", np.array([[100, 2100, 4100]], dtype=np.uint16)))
    assert twelve[0, :, 2].tolist() == [0, 128, 255]
    assert not read_rgb(save(tmp_path / "c.png", np.full((4, 4), 999, dtype=np.uint16))).any()


def test_float_tiff_is_scaled_and_not_finite_is_refused(tmp_path: Path) -> None:
    values = np.array([[-1.0, 0.0, 1.0]], dtype=np.float32)
    assert read_rgb(save(tmp_path / "a.tiff", values))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(UnreadableImageError, match="not finite"):
        read_rgb(save(tmp_path / "b.tiff", np.array([[np.nan, 1.0]], dtype=np.float32)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("reader", [read_rgb, read_grey_thumbnail])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, reader: object) -> None:
    path = save(tmp_path / f"a{suffix}", pattern(3, 200, colour=True))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError) as caught:
        reader(path)  # type: ignore[operator]
    assert caught.value.where == str(path)
    assert caught.value.remedy


@pytest.mark.parametrize("reader", [read_rgb, read_grey_thumbnail, check_header])
@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_empty_and_foreign_files_are_refused(tmp_path: Path, content: bytes, reader: object) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
        reader(path)  # type: ignore[operator]


@pytest.mark.parametrize("reader", [read_rgb, read_grey_thumbnail, check_header, content_hash])
def test_missing_file_is_refused(tmp_path: Path, reader: object) -> None:
    with pytest.raises(UnreadableImageError, match=r"gone\.png"):
        reader(tmp_path / "gone.png")  # type: ignore[operator]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(body)
    for reader in (check_header, read_rgb):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(UnreadableImageError):
                reader(tmp_path / "bomb.png")


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(pattern(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="3 frames"):
        check_header(tmp_path / "a.tiff")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_our_error_only(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"]))
    buffer = io.BytesIO()
    Image.fromarray(pattern(4, 24)).save(buffer, kind)
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata on standard error
        try:
            read = decode_rgb(bytes(raw), Path("damaged"))
        except UnreadableImageError:
            return
    assert read.dtype == np.uint8
    assert read.shape[2] == 3


def test_content_hash_is_of_the_bytes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1)
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(save(tmp_path / "b.png", 2)) != content_hash(path)


def test_reduced_decoding_agrees_with_full_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", pattern(5, 900, colour=True))
    reduced, full = read_grey_thumbnail(path), grey_thumbnail(read_rgb(path))
    assert reduced.shape == (32, 32)
    assert reduced.dtype == np.float32
    assert np.abs(reduced - full).max() < 6


def test_photograph_with_a_preview_is_read(tmp_path: Path) -> None:
    picture, preview = Image.fromarray(pattern(1, 64)), Image.fromarray(pattern(2, 64))
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], quality=95)
    check_header(tmp_path / "a.jpg")
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - pattern(1, 64)).mean() < 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_is_inverted_at_every_depth(dtype: type, tmp_path: Path) -> None:
    values = np.linspace(0, 255 if dtype is np.uint8 else 3000, 32 * 40).reshape(32, 40).astype(dtype)
    black = tmp_path / "black.tif"
    white = tmp_path / "white.tif"
    Image.fromarray(values).save(black, tiffinfo={262: 1})
    raw = black.read_bytes()
    entry = struct.pack("<HHLHH", 262, 3, 1, 1, 0)
    assert raw.count(entry) == 1
    white.write_bytes(raw.replace(entry, struct.pack("<HHLHH", 262, 3, 1, 0, 0)))
    plain, inverted = read_rgb(black).astype(int), read_rgb(white).astype(int)
    assert plain[0, 0, 0] == 0
    assert np.abs(inverted - (255 - plain)).max() <= (0 if dtype is np.uint8 else 1)  # halves are rounded to even
    assert np.abs(read_grey_thumbnail(white) - (255 - read_grey_thumbnail(black))).max() <= 1
    # Features of pictures that are read otherwise than before must not be found again; all others must.
    assert content_hash(black) == hashlib.sha256(black.read_bytes()).hexdigest()
    as_ever = content_hash(white) == hashlib.sha256(white.read_bytes()).hexdigest()
    assert as_ever == (dtype is np.uint8)
    (tmp_path / "same.tif").write_bytes(white.read_bytes())
    assert content_hash(tmp_path / "same.tif") == content_hash(white)


def test_rules_of_damaged_files_named_tiff_do_not_matter(tmp_path: Path) -> None:
    assert set(TiffImagePlugin.PREFIXES) == set(pillow_pictures._TIFF)
    for head in pillow_pictures._TIFF:
        path = tmp_path / "a.tif"
        path.write_bytes(head + b"\x08\0\0\0\xff\xff")
        assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()
