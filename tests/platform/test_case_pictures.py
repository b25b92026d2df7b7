"""Small pictures: bounded, without metadata, the same bytes every time; and what of a picture the model sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from wardround.evaluation.cases.model import Box
from wardround.medical_datasets.pixels import read_rgb
from wardround.platform.case_pictures import seen_box, small_picture
from wardround.platform.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(600, 450, (168, 224)), (224, 224, (224, 224)), (50, 90, (90, 50)), (1, 900, (224, 1))],
)
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(height: int, width: int, expected: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    made = small_picture(rgb)
    assert (made.width, made.height) == expected
    assert made.data == small_picture(rgb).data
    with Image.open(io.BytesIO(made.data)) as back:
        assert back.size == expected
        assert back.mode == "RGB"


def test_nothing_of_the_old_file_but_its_pixels_is_in_the_new_one(tmp_path) -> None:  # type: ignore[no-untyped-def]
    exif = Image.Exif()
    exif[0x010E], exif[0x9003] = "DOE^JANE", "2026:01:02 03:04:05"
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    picture.save(tmp_path / "doe-jane.jpg", exif=exif, comment=b"DOE^JANE", quality=95)
    made = small_picture(read_rgb(tmp_path / "doe-jane.jpg"))
    assert b"DOE" not in made.data
    assert b"Exif" not in made.data
    with Image.open(io.BytesIO(made.data)) as back:
        assert not back.getexif()
        assert set(back.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_grey_picture_stays_grey_and_looks_the_same() -> None:
    grey = np.linspace(0, 255, 100 * 100).reshape(100, 100).astype(np.uint8)
    made = small_picture(np.repeat(grey[:, :, None], 3, axis=2))
    with Image.open(io.BytesIO(made.data)) as back:
        assert back.mode == "L"
        assert np.abs(np.asarray(back, dtype=int) - grey).max() < 12


@pytest.mark.parametrize(("height", "width"), [(450, 600), (600, 450), (300, 300), (100, 640)])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_the_box_is_what_the_preprocessing_keeps(mode: str, height: int, width: int) -> None:
    """A picture whose colour says where a pixel was: the input's centre rows and columns tell what it spans."""
    preprocessing = Preprocessing(64, 64, (0.5,) * 3, (0.25,) * 3, resize_mode=mode, fill_color=0)
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[:, :, 0] = np.linspace(50, 250, width)[None, :]
    rgb[:, :, 1] = np.linspace(50, 250, height)[:, None]
    seen = preprocessing.geometry()(rgb).astype(float)
    box = seen_box(preprocessing, height, width)
    for channel, start, length, size in ((0, box.left, box.width, width), (1, box.top, box.height, height)):
        line = seen[32, :, 0] if channel == 0 else seen[:, 32, 1]
        at = start + (np.arange(64) + 0.5) / 64 * length
        inside = (at > 0.03) & (at < 0.97)
        expected = 50 + 200 * np.clip((at * size - 0.5) / (size - 1), 0, 1)
        np.testing.assert_allclose(line[inside], expected[inside], atol=4)
    if mode == "squash":
        assert box == Box()
