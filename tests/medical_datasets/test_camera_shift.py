"""A site's own camera: repeatable, of the right kind, and nothing at all at strength 0."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from wardround.medical_datasets.camera_shift import BLUR, BRIGHTNESS, CONTRAST, GAIN, GAMMA, CameraShift

SITES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


def picture(seed: int = 0, height: int = 20, width: int = 24, *, grey: bool = False) -> NDArray[np.uint8]:
    draw = np.random.default_rng(seed)
    rgb = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.repeat(rgb[:, :, :1], 3, axis=2) if grey else rgb


def slow(rgb: NDArray[np.uint8], site: str, s: float, colour: bool) -> NDArray[np.uint8]:
    """The documented steps, one pixel at a time; the blur is Pillow's."""
    draw = np.random.default_rng(list(hashlib.sha256(f"camera {site}".encode()).digest()[:16]))
    gamma, contrast, brightness, blur = (float(value) for value in draw.uniform(-1.0, 1.0, 4))
    gains = [float(value) for value in draw.uniform(-1.0, 1.0, 3)]
    if blur > 0.0:
        radius = s * BLUR * blur * max(rgb.shape[:2]) / 224.0
        rgb = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))
    out = np.zeros_like(rgb)
    for y, x, c in np.ndindex(rgb.shape):
        value = math.pow(int(rgb[y, x, c]) / 255.0, math.pow(2.0, s * GAMMA * gamma))
        value = (value - 0.5) * math.pow(2.0, s * CONTRAST * contrast) + 0.5 + s * BRIGHTNESS * brightness
        if colour:
            value *= 1.0 + s * GAIN * gains[c]
        out[y, x, c] = round(min(max(value, 0.0), 1.0) * 255.0)
    return out


@settings(max_examples=25, deadline=None)
@given(site=SITES, strength=st.floats(0.01, 1.0), colour=st.booleans(), seed=st.integers(0, 99))
def test_it_is_the_documented_change(site: str, strength: float, colour: bool, seed: int) -> None:
    rgb = picture(seed, 5, 6)
    found, expected = CameraShift(site, strength, colour)(rgb), slow(rgb, site, strength, colour)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1  # a last bit may fall on the other side of .5
    assert (found == expected).mean() > 0.95


@settings(max_examples=50, deadline=None)
@given(
    site=SITES,
    strength=st.floats(0.0, 1.0),
    colour=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_shape_and_type_are_kept_it_repeats_and_the_picture_it_was_given_is_left_alone(
    site: str, strength: float, colour: bool, height: int, width: int
) -> None:
    rgb = picture(1, height, width)
    before = rgb.copy()
    camera = CameraShift(site, strength, colour)
    first, second = camera(rgb), CameraShift(site, strength, colour)(rgb)
    assert first.dtype == np.uint8
    assert first.shape == rgb.shape
    assert np.array_equal(first, second)
    assert np.array_equal(rgb, before)


@pytest.mark.parametrize("colour", [False, True])
def test_strength_nought_changes_nothing(colour: bool) -> None:
    rgb = picture()
    camera = CameraShift("clinic", 0.0, colour)
    assert np.array_equal(camera(rgb), rgb)
    assert camera.tag() == ""


@pytest.mark.parametrize("site", ["ash", "beech", "cedar", "site-1", "site-2", "site-3"])
def test_grey_stays_grey_and_colour_gets_a_cast(site: str) -> None:
    grey = picture(grey=True)
    shifted = CameraShift(site, 1.0, colour=False)(grey)
    assert np.array_equal(shifted[:, :, 0], shifted[:, :, 1])
    assert np.array_equal(shifted[:, :, 0], shifted[:, :, 2])
    assert not np.array_equal(shifted, grey)
    cast = CameraShift(site, 1.0, colour=True)(grey)
    assert not np.array_equal(cast[:, :, 0], cast[:, :, 1])


def test_sites_differ_from_one_another_and_a_stronger_shift_is_a_larger_one() -> None:
    rgb = picture()
    sites = [f"site-{k}" for k in range(1, 7)]
    seen = [CameraShift(site, 1.0, colour=True)(rgb) for site in sites]
    distances = [np.abs(a.astype(int) - b.astype(int)).mean() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 3.0
    for site in sites:
        moved = [
            np.abs(CameraShift(site, s, colour=True)(rgb).astype(int) - rgb.astype(int)).mean() for s in (0.1, 0.4, 1.0)
        ]
        assert moved[0] < moved[1] < moved[2]


def test_black_and_white_ends_stay_within_range() -> None:
    ends = np.zeros((4, 4, 3), dtype=np.uint8)
    ends[2:] = 255
    for k in range(30):
        shifted = CameraShift(f"site-{k}", 1.0, colour=True)(ends)
        assert shifted[0, 0].max() < 160
        assert shifted[3, 3].min() > 95


def test_what_distinguishes_pictures_of_two_cameras() -> None:
    cameras = [
        CameraShift("ash", 0.5, True),
        CameraShift("ash", 0.5, False),
        CameraShift("ash", 0.25, True),
        CameraShift("beech", 0.5, True),
    ]
    assert len({camera.tag() for camera in cameras}) == 4
    assert CameraShift("ash", 0.5, True).tag() == cameras[0].tag()
    assert all(camera.tag().startswith("camera 1 ") for camera in cameras)  # raise VERSION with other pictures


def test_the_same_pictures_as_ever() -> None:
    """A known answer: what a site's camera does must not change without VERSION, or caches hold other pictures."""
    rgb = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3) * 4
    expected = [[30, 35, 44], [41, 46, 57], [52, 57, 70], [64, 69, 83], [75, 81, 97]]
    assert CameraShift("site-1", 0.5, colour=True)(rgb)[1].tolist() == expected
