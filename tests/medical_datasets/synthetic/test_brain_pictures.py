"""Brain phantoms: every kind draws in every view, and signs are where and when textbooks say they are."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from wardround.medical_datasets.synthetic import brain
from wardround.medical_datasets.synthetic.appearance import BrainAppearance, scan
from wardround.medical_datasets.synthetic.brain import BrainPhantom
from wardround.medical_datasets.synthetic.brain_frame import Scene
from wardround.medical_datasets.synthetic.brain_mass import press_of
from wardround.medical_datasets.synthetic.brain_places import draw_level
from wardround.medical_datasets.synthetic.brain_tissues import CONTRASTS, tissues
from wardround.medical_datasets.synthetic.canvas import Canvas

_ALL_KINDS = [(label, kind) for label, kinds in brain.KINDS.items() for kind in kinds]


def _phantom(label: str, kind: str, view: str, seed: int = 0, **changes: object) -> BrainPhantom:
    """A phantom of one kind and view at a place and level that suit it."""
    rng = np.random.default_rng((seed, 77))
    for _ in range(400):
        phantom = brain.draw_brain(label, rng)
        if phantom.kind == kind:
            break
    level = draw_level(phantom.place, view, rng)
    phantom = replace(phantom, view=view, level=level, stripped=False, fat_suppressed=False)
    return replace(phantom, **changes)


def _drawn(phantom: BrainPhantom, seed: int = 1, size: int = 64) -> np.ndarray:
    return brain.render_brain(phantom, np.random.default_rng(seed), size)[:, :, 0].astype(int)


def _without(phantom: BrainPhantom, seed: int = 1, size: int = 64) -> np.ndarray:
    return _drawn(replace(phantom, size=0.0), seed, size)


@pytest.mark.parametrize(("label", "kind"), _ALL_KINDS)
def test_every_kind_draws_in_every_view_and_its_tumour_is_there(label: str, kind: str) -> None:
    for view in brain.VIEWS:
        phantom = _phantom(label, kind, view, contrast="t1c")
        assert phantom.kind == kind
        picture = _drawn(phantom)
        assert picture.max() > 60
        assert np.array_equal(picture, _drawn(phantom))
        if label != "notumor":
            changed = np.abs(picture - _without(replace(phantom, mass_effect=0.0)))
            assert (changed > 15).sum() >= 4


@pytest.mark.parametrize("view", brain.VIEWS)
def test_every_place_and_level_draws(view: str) -> None:
    for label, places in brain.PLACES.items():
        for place, level in product(places, brain.LEVELS[view]):
            size = 0.0 if label == "notumor" else 0.12
            phantom = _phantom(label, brain.KINDS[label][0], view, place=place, level=level, size=size)
            assert _drawn(phantom, size=40).shape == (40, 40)


def test_levels_of_a_healthy_head_are_those_of_tumours() -> None:
    rng = np.random.default_rng(0)
    for view in brain.VIEWS:
        seen = {draw_level("none", view, rng) for _ in range(500)}
        assert seen == set(brain.LEVELS[view])


def test_views_contrasts_and_preparation_do_not_depend_on_the_class() -> None:
    shares = {}
    for label in brain.CLASSES:
        rng = np.random.default_rng(3)
        drawn = [brain.draw_brain(label, rng) for _ in range(600)]
        shares[label] = [
            np.mean([p.contrast == "t1c" for p in drawn]),
            np.mean([p.view == "axial" for p in drawn]),
            np.mean([p.stripped for p in drawn]),
            np.mean([p.fat_suppressed for p in drawn]),
        ]
        assert 0.05 < shares[label][2] < 0.15
    spread = np.ptp(np.array(list(shares.values())), axis=0)
    assert spread.max() < 0.08


def test_fields_take_their_names_and_suit_the_kind() -> None:
    rng = np.random.default_rng(4)
    for label in brain.CLASSES:
        for _ in range(150):
            p = brain.draw_brain(label, rng)
            assert p.enhancement in brain.ENHANCEMENTS
            assert p.border in brain.BORDERS
            assert 0.0 <= p.mass_effect <= 1.0
            assert p.seen_enhancement == (p.enhancement if p.contrast == "t1c" else "none")
            if label == "notumor":
                assert (p.size, p.oedema, p.mass_effect, p.enhancement) == (0.0, 0.0, 0.0, "none")
            if p.kind in ("ring", "necrotic"):
                assert p.enhancement == "rim"
            if p.kind == "micro":
                assert p.size < 0.07
            if p.kind == "butterfly":
                assert p.place == "callosal"


def _middle_fluid(phantom: BrainPhantom, seed: int) -> float:
    """Horizontal centre of bright fluid in the middle of an axial T2 slice: the ventricles."""
    picture = _drawn(phantom, seed, 96)
    part = (picture[28:68, 28:68] > 190).astype(float)
    return float((part.sum(0) * np.arange(40)).sum() / part.sum()) - 19.5


def test_mass_effect_moves_the_midline_away_and_presses_the_ventricle() -> None:
    moved = []
    for seed in range(6):
        for side in (-1, 1):
            p = _phantom(
                "glioma", "infiltrating", "axial", level="middle", place="frontal", contrast="t2", side=side,
                size=0.14, oedema=0.0, atrophy=0.3, uptake=0.0, mass_effect=0.0,
            )  # fmt: skip
            moved.append(-side * (_middle_fluid(replace(p, mass_effect=1.0), seed) - _middle_fluid(p, seed)))
    assert np.mean(moved) > 1.5
    assert np.mean(np.array(moved) > 0) > 0.9
    strong = _phantom("glioma", "ring", "axial", side=1, mass_effect=1.0)
    assert press_of(strong)[1] < 0.5 < press_of(strong)[0]
    assert press_of(replace(strong, size=0.0)) == (1.0, 1.0)


@pytest.mark.parametrize("contrast", ["t2", "flair"])
def test_oedema_brightens_what_surrounds_the_tumour(contrast: str) -> None:
    brighter = darker = 0
    for seed in range(8):
        p = _phantom(
            "glioma", "ring", "axial", level="high", place="parietal", contrast=contrast, size=0.12, oedema=0.0,
            mass_effect=0.0, atrophy=0.0,
        )  # fmt: skip
        dry, without = _drawn(p, seed, 96), _without(p, seed, 96)
        wet = _drawn(replace(p, oedema=1.3), seed, 96)
        around = np.abs(dry - without) < 5  # outside the tumour itself
        brighter += int(((wet - without > 25) & around).sum())
        darker += int(((wet - without < -25) & around).sum())
    assert brighter > 8 * 60
    assert darker < 0.25 * brighter


@pytest.mark.parametrize(("label", "kind"), [("glioma", "ring"), ("meningioma", "round"), ("pituitary", "solid")])
@pytest.mark.parametrize("view", brain.VIEWS)
def test_enhancement_shows_after_contrast_agent_and_not_before(label: str, kind: str, view: str) -> None:
    gained = dict.fromkeys(("t1", "t1c", "t1c without uptake"), 0)
    for seed in range(6):
        for name in gained:
            p = _phantom(label, kind, view, contrast=name[:3].strip(), mass_effect=0.0, oedema=0.0, size=0.12)
            if "without" in name:
                p = replace(p, enhancement="none")
            gained[name] += int((_drawn(p, seed) - _without(p, seed) > 60).sum())
    assert gained["t1c"] > 6 * 15
    assert gained["t1c"] > 2 * gained["t1"]
    assert gained["t1c"] > 2 * gained["t1c without uptake"]


def test_stripped_slices_have_no_scalp() -> None:
    for view in brain.VIEWS:
        p = _phantom("notumor", "none", view, contrast="t1", atrophy=0.1)
        whole, bare = _drawn(p), _drawn(replace(p, stripped=True))
        assert bare.max() > 60
        assert (bare > 20).sum() < 0.9 * (whole > 20).sum()
        outline = [np.flatnonzero((picture > 20).any(axis=0)) for picture in (whole, bare)]
        assert outline[1][0] > outline[0][0]


def test_fat_suppression_darkens_fat_and_nothing_of_the_brain() -> None:
    plain = tissues("t1", np.random.default_rng(0))
    dark = tissues("t1", np.random.default_rng(0), fat_suppressed=True)
    assert dark["fat"] < 0.5 * plain["fat"]
    assert dark["white"] == plain["white"]


@pytest.mark.parametrize("seed", range(3))
def test_grey_values_keep_the_order_of_textbooks(seed: int) -> None:
    t = {name: tissues(name, np.random.default_rng(seed), 0.02) for name in CONTRASTS}
    for name in ("t1", "t1c"):
        assert t[name]["csf"] < t[name]["grey"] < t[name]["white"] < t[name]["fat"]
    assert t["t2"]["white"] < t["t2"]["grey"] < t["t2"]["oedema"] < t["t2"]["csf"]
    assert t["flair"]["csf"] < t["flair"]["white"] < t["flair"]["grey"] < t["flair"]["oedema"]
    assert t["t1c"]["enhancing"] > t["t1c"]["white"] + 0.2
    assert t["t1"]["blood"] > t["t1"]["white"]


def test_shapes_follow_the_frame_of_the_canvas() -> None:
    canvas = Canvas(100)
    canvas.frame(0.5, 0.2, -0.2)
    canvas.ellipse(0.4, 0.0, 0.3, 0.3, 1.0)
    rows, columns = np.nonzero(canvas.image > 0.5)
    assert columns.mean() == pytest.approx((0.5 * 0.4 + 0.2 + 1) * 50 - 0.5, abs=0.6)
    assert rows.mean() == pytest.approx((-0.2 + 1) * 50 - 0.5, abs=0.6)
    assert canvas.image.sum() * (2 / 100) ** 2 == pytest.approx(np.pi * 0.15**2, rel=0.05)


def test_a_pair_gives_way_on_the_pressed_side() -> None:
    canvas = Canvas(100)
    scene = Scene(canvas, {"csf": 1.0}, np.random.default_rng(0), "middle", 0.0, (0.3, 1.0))
    scene.pair((0.3, 0.0), (0.1, 0.2), "csf", fluid=True)
    assert canvas.image[:, :50].sum() < 0.6 * canvas.image[:, 50:].sum()


def test_crop_ghosts_and_ringing_do_what_they_say() -> None:
    p = _phantom("notumor", "none", "axial", contrast="t1", level="middle")
    clean = brain.render_brain(p, np.random.default_rng(3), 96)

    def scanned(**ranges: tuple[float, float]) -> np.ndarray:
        return scan(clean, BrainAppearance(**ranges), np.random.default_rng(0))[:, :, 0].astype(float)

    plain = scanned()
    tight, wide = scanned(crop=(1.0, 1.0)), scanned(crop=(-0.5, -0.5))
    assert (tight > 24).mean() > (plain > 24).mean() > 1.5 * (wide > 24).mean()
    assert (tight > 24).any(axis=0).mean() > 0.95
    assert np.abs(scanned(ghosting=(0.3, 0.3)) - plain).mean() > 2
    rung = np.abs(scanned(ringing=(1.0, 1.0)) - plain)
    assert 0.5 < rung.mean() < 20
