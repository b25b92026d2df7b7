"""Phantoms: same seed same bytes, and classes that differ by more than brightness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.synthetic import brain, skin
from wardround.medical_datasets.synthetic.appearance import (
    DEMO_BRAIN,
    DEMO_SKIN,
    PRETRAINING_BRAIN,
    PRETRAINING_SKIN,
    BrainAppearance,
    SkinAppearance,
    disjoint,
    narrow,
    photograph,
    scan,
)
from wardround.medical_datasets.synthetic.brain_anatomy import CONTRASTS, VIEWS
from wardround.medical_datasets.synthetic.canvas import Canvas, smooth_noise
from wardround.medical_datasets.synthetic.contact_sheet import contact_sheet


def _brain(label: str, seed: int, size: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return brain.render_brain(brain.draw_brain(label, rng), rng, size)


def _skin(label: str, seed: int, size: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return skin.render_skin(skin.draw_skin(label, rng), rng, size)


@pytest.mark.parametrize("label", brain.CLASSES)
def test_a_brain_is_decided_by_its_seed(label: str) -> None:
    first, again, other = _brain(label, 3), _brain(label, 3), _brain(label, 4)
    assert first.dtype == np.uint8
    assert first.shape == (48, 48, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first[:, :, 0], first[:, :, 2])


@pytest.mark.parametrize("label", skin.CLASSES)
def test_a_lesion_is_decided_by_its_seed(label: str) -> None:
    first, again, other = _skin(label, 3), _skin(label, 3), _skin(label, 4)
    assert first.dtype == np.uint8
    assert first.shape == (48, 48, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[:, :, 0], first[:, :, 2])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), label=st.sampled_from(brain.CLASSES), size=st.sampled_from((32, 57, 96)))
def test_every_view_and_contrast_draws(seed: int, label: str, size: int) -> None:
    rng = np.random.default_rng(seed)
    phantom = brain.draw_brain(label, rng, age=float(rng.uniform(18, 90)))
    assert phantom.view in VIEWS
    assert phantom.level in brain.LEVELS[phantom.view]
    assert phantom.contrast in CONTRASTS
    assert phantom.kind in brain.KINDS[label]
    assert (phantom.size == 0.0) == (label == "notumor")
    picture = brain.render_brain(phantom, rng, size)
    assert picture.shape == (size, size, 3)
    assert picture.max() > 60
    assert picture[0, 0, 0] < 40  # air in the corner


def test_a_tumour_changes_the_picture_where_it_is_and_nothing_far_away() -> None:
    rng = np.random.default_rng(5)
    phantom = replace(brain.draw_brain("meningioma", rng), view="axial", level="middle", contrast="t1c", oedema=0.0)
    with_it = brain.render_brain(phantom, np.random.default_rng(9), 96)[:, :, 0].astype(int)
    without = brain.render_brain(replace(phantom, size=0.0, atrophy=0.0), np.random.default_rng(9), 96)[:, :, 0]
    healthy = replace(phantom, uptake=0.0)
    faded = brain.render_brain(healthy, np.random.default_rng(9), 96)[:, :, 0].astype(int)
    assert np.abs(with_it - without.astype(int)).max() > 60
    assert np.abs(with_it - faded).max() > 40  # uptake hides it
    assert np.abs(with_it - faded)[:6].max() <= 2


def test_another_slice_keeps_the_patient() -> None:
    rng = np.random.default_rng(0)
    first = brain.draw_brain("glioma", rng)
    views = {brain.another_slice(first, rng).view for _ in range(40)}
    assert views == set(VIEWS)
    second = brain.another_slice(first, rng)
    assert (second.kind, second.place, second.side, second.contrast) == (
        first.kind,
        first.place,
        first.side,
        first.contrast,
    )


def _nearest_centroid(train: np.ndarray, y_train: np.ndarray, test: np.ndarray, y_test: np.ndarray) -> float:
    classes = np.unique(y_train)
    centres = np.stack([train[y_train == k].mean(0) for k in classes])
    guess = classes[((test[:, None, :] - centres[None]) ** 2).sum(2).argmin(1)]
    return float(np.mean([(guess[y_test == k] == k).mean() for k in classes]))


def _coronal(label: str, seed: int, size: int = 48) -> np.ndarray:
    """One view and contrast, so that what is left to tell classes apart is the tumour."""
    rng = np.random.default_rng(seed)
    phantom = replace(brain.draw_brain(label, rng), view="coronal", level="front", contrast="t1c", atrophy=0.2)
    return brain.render_brain(phantom, rng, size)


def _coronal_tumour(label: str, seed: int, size: int = 48) -> np.ndarray:
    """What the tumour changes. Heads differ too much in shape and framing for plain pixels to be compared."""
    rng = np.random.default_rng(seed)
    phantom = replace(brain.draw_brain(label, rng), view="coronal", level="front", contrast="t1c", atrophy=0.2)
    drawn = [
        brain.render_brain(replace(phantom, size=radius), np.random.default_rng(seed), size).astype(int)
        for radius in (phantom.size, 0.0)
    ]
    return np.abs(drawn[0] - drawn[1]).astype(np.uint8)


@pytest.mark.parametrize(("kind", "floor"), [("brain", 0.6), ("skin", 0.26)])
def test_classes_differ_and_not_by_brightness_alone(kind: str, floor: float) -> None:
    classes, make = (brain.CLASSES, _coronal) if kind == "brain" else (skin.CLASSES, _skin)
    signs = _coronal_tumour if kind == "brain" else make
    pictures, shown, labels = [], [], []
    for label, name in enumerate(classes):
        for seed in range(60):
            pictures.append(make(name, 1000 * label + seed, 32).astype(np.float64) / 255)
            shown.append(signs(name, 1000 * label + seed, 32).astype(np.float64) / 255)
            labels.append(label)
    y, stack = np.array(labels), np.stack(pictures)
    flat = np.stack(shown).reshape(len(stack), -1)
    brightness = stack.mean((1, 2, 3))[:, None]
    even = np.arange(len(y)) % 2 == 0
    ill = y != (classes.index("notumor") if kind == "brain" else -1)  # nothing changes without a tumour
    by_pixels = _nearest_centroid(flat[even & ill], y[even & ill], flat[~even & ill], y[~even & ill])
    by_brightness = _nearest_centroid(brightness[even], y[even], brightness[~even], y[~even])
    assert by_pixels > floor, "pixels say something about the class"
    assert by_brightness < 0.62, "brightness alone does not give the class away"


def test_contrast_does_not_give_tumour_away() -> None:
    rng = np.random.default_rng(0)
    seen = {
        label: {brain.draw_brain(label, rng).contrast for _ in range(400)}
        for label in ("glioma", "notumor", "pituitary")
    }
    for contrasts in seen.values():
        assert contrasts == set(CONTRASTS)


def test_demo_ranges_were_never_seen_in_pretraining() -> None:
    brain_apart = disjoint(PRETRAINING_BRAIN, DEMO_BRAIN)
    skin_apart = disjoint(PRETRAINING_SKIN, DEMO_SKIN)
    assert len(brain_apart) >= 4
    assert len(skin_apart) >= 4
    assert {"noise", "blur", "uptake"} <= set(brain_apart)
    assert {"tone", "noise", "hairs"} <= set(skin_apart)


def test_disjoint_names_exactly_the_parameters_without_overlap() -> None:
    first = BrainAppearance(noise=(0.0, 0.1), blur=(0.0, 0.5))
    second = BrainAppearance(noise=(0.1, 0.2), blur=(0.6, 0.7))
    assert disjoint(first, second) == ("blur",)  # ranges that touch are not disjoint


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 1.0))
def test_a_site_stays_inside_the_wide_ranges(seed: int, share: float) -> None:
    for wide in (DEMO_BRAIN, DEMO_SKIN):
        site = narrow(wide, share, np.random.default_rng(seed))
        for name in type(wide).__dataclass_fields__:
            low, high = getattr(wide, name)
            inner_low, inner_high = getattr(site, name)
            assert low - 1e-3 <= inner_low <= inner_high <= high + 1e-3


def test_a_neutral_scanner_and_camera_change_nothing() -> None:
    slice_, lesion = _brain("glioma", 1, 64), _skin("mel", 1, 64)
    assert np.abs(scan(slice_, BrainAppearance(), np.random.default_rng(0)).astype(int) - slice_).max() <= 1
    assert np.abs(photograph(lesion, SkinAppearance(), np.random.default_rng(0)).astype(int) - lesion).max() <= 1


def test_each_scanner_parameter_does_what_it_says() -> None:
    clean = _brain("glioma", 2, 64)

    def scanned(**ranges: tuple[float, float]) -> np.ndarray:
        return scan(clean, BrainAppearance(**ranges), np.random.default_rng(0))[:, :, 0].astype(float)

    plain = scanned()
    assert scanned(gamma=(2.0, 2.0)).mean() < plain.mean() - 5
    assert scanned(gain=(0.5, 0.5)).mean() < plain.mean() * 0.6
    assert scanned(floor=(0.1, 0.1))[0, 0] > 20
    assert scanned(noise=(0.1, 0.1))[:4].std() > plain[:4].std() + 5
    assert np.abs(np.diff(scanned(blur=(2.0, 2.0)))).mean() < 0.7 * np.abs(np.diff(plain)).mean()
    assert scanned(inverted=(1.0, 1.0))[0, 0] > 200
    assert (scanned(zoom=(0.5, 0.5)) > 30).sum() < 0.5 * (plain > 30).sum()


def test_each_camera_parameter_does_what_it_says() -> None:
    clean = _skin("nv", 2, 64)

    def shot(**ranges: tuple[float, float]) -> np.ndarray:
        return photograph(clean, SkinAppearance(**ranges), np.random.default_rng(0)).astype(float)

    plain = shot()
    assert shot(red=(0.5, 0.5))[:, :, 0].mean() < 0.6 * plain[:, :, 0].mean()
    assert np.ptp(shot(saturation=(0.0, 0.0)), axis=2).max() <= 1
    assert shot(vignette=(0.9, 0.9))[0, 0].mean() < 0.3 * plain[0, 0].mean()
    # Hair may be dark or fair, so what counts is that it covers a good part of the picture.
    assert (np.abs(shot(hairs=(15.0, 15.0)) - plain).max(2) > 30).sum() > 300
    assert shot(noise=(0.1, 0.1)).std() > plain.std()


def test_smooth_noise_has_unit_scale_at_any_size() -> None:
    for size in (32, 128):
        noise = smooth_noise(np.random.default_rng(0), size, 12)
        assert noise.shape == (size, size)
        assert 0.7 < noise.std() < 1.3
        assert abs(noise.mean()) < 0.3


def test_an_ellipse_covers_its_area() -> None:
    canvas = Canvas(200)
    canvas.ellipse(0.1, -0.2, 0.5, 0.25, 1.0, angle=0.7)
    assert canvas.image.sum() * (2 / 200) ** 2 == pytest.approx(np.pi * 0.5 * 0.25, rel=0.02)
    assert canvas.image.max() == 1.0


def test_a_contact_sheet_keeps_every_picture() -> None:
    pictures = [np.full((4, 4, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(pictures, 2)
    assert sheet.shape == (8, 8, 3)
    assert [sheet[0, 0, 0], sheet[0, 4, 0], sheet[4, 0, 0], sheet[4, 4, 0]] == [10, 20, 30, 0]
