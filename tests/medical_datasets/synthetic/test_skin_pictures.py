"""Skin phantoms show what they state: structures, colours, borders; and the camera is neutral until asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from wardround.medical_datasets.synthetic import skin
from wardround.medical_datasets.synthetic.appearance import (
    DEMO_SKIN,
    PRETRAINING_SKIN,
    SkinAppearance,
    photograph,
)
from wardround.medical_datasets.synthetic.skin_looks import COLOUR_OF, LOOKS

ALL_KINDS = [(label, kind) for label in skin.PRETRAINING_CLASSES for kind in skin.KINDS[label]]
PLAIN = skin.SkinPhantom(
    label="nv",
    kind="homogeneous",
    size=0.6,
    tone=0.05,
    redness=0.2,
    damage=0.1,
    strength=1.0,
    structures=(),
    colours=("light brown",),
    border="sharp",
    shape="round",
    symmetry=0.9,
)


def _drawn(phantom: skin.SkinPhantom, seed: int = 0, size: int = 112) -> np.ndarray:
    return skin.render_skin(phantom, np.random.default_rng(seed), size).astype(np.float64)


def _inside(phantom: skin.SkinPhantom, seed: int) -> np.ndarray:
    """Where the lesion lies: what changes when its ground turns from black to white."""
    dark, light = (_drawn(replace(phantom, structures=(), colours=(name,)), seed) for name in ("black", "white"))
    return np.abs(dark - light).max(2) > 60


def test_the_demo_keeps_its_classes_and_pretraining_has_one_more() -> None:
    assert skin.CLASSES == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert (*skin.CLASSES, "scc") == skin.PRETRAINING_CLASSES
    assert skin.KINDS.keys() == LOOKS.keys() == set(skin.PRETRAINING_CLASSES)


def test_odds_are_odds_and_every_name_is_known() -> None:
    seen: set[str] = set()
    for looks in LOOKS.values():
        assert sum(look.share for look in looks.values()) == pytest.approx(1.0)
        for look in looks.values():
            for odds in (look.main, look.borders, look.shapes):
                assert sum(odds.values()) == pytest.approx(1.0)
            for chances in (look.also, look.signs):
                assert all(0.0 < chance <= 1.0 for chance in chances.values())
            assert set(look.main) | set(look.also) <= set(skin.COLOURS)
            assert set(look.borders) <= set(skin.BORDERS)
            assert set(look.shapes) <= set(skin.SHAPES)
            assert 0.0 <= look.symmetry[0] <= look.symmetry[1] <= 1.0
            seen |= set(look.signs)
    assert seen == set(skin.STRUCTURES)
    assert set(COLOUR_OF) <= set(skin.STRUCTURES)


@pytest.mark.parametrize(("label", "kind"), ALL_KINDS)
def test_every_kind_renders_within_the_range_of_a_picture(label: str, kind: str) -> None:
    rng = np.random.default_rng(7)
    while (phantom := skin.draw_skin(label, rng, tone=(0.0, 1.0))).kind != kind:
        pass
    picture = _drawn(phantom, 3, 96)
    assert np.array_equal(picture, _drawn(phantom, 3, 96))
    assert not np.array_equal(picture, _drawn(phantom, 4, 96))
    assert ((picture == 0) | (picture == 255)).mean() < 0.3
    assert picture.std() > 4
    assert 1 <= len(phantom.colours) <= 4
    assert len(set(phantom.colours)) == len(phantom.colours)


@pytest.mark.parametrize("name", skin.STRUCTURES)
@pytest.mark.parametrize("symmetry", [0.2, 0.9])
def test_a_stated_structure_is_there_and_only_near_the_lesion(name: str, symmetry: float) -> None:
    phantom = replace(PLAIN, symmetry=symmetry, structures=(name,))
    changed = []
    for seed in range(3):
        difference = np.abs(_drawn(phantom, seed) - _drawn(replace(phantom, structures=()), seed)).max(2)
        inside = _inside(phantom, seed)
        changed.append((difference[inside] > 12).mean())
        assert (difference[~inside] > 12).mean() < 0.12, "the skin around is left alone"
    assert min(changed) > 0.004
    assert np.mean(changed) > 0.01


def test_a_structure_looks_the_same_beside_another() -> None:
    alone, both = (replace(PLAIN, structures=names) for names in (("scale",), ("dots", "scale")))
    without = replace(PLAIN, structures=("dots",))
    added = np.abs(_drawn(both) - _drawn(without)).max(2) > 12
    expected = np.abs(_drawn(alone) - _drawn(PLAIN)).max(2) > 12
    assert (added & expected).sum() > 0.7 * expected.sum()


def _mean(colour: str, seed: int = 1) -> np.ndarray:
    phantom = replace(PLAIN, colours=(colour,))
    return _drawn(phantom, seed)[_inside(phantom, seed)].mean(0)


def test_colour_words_hold() -> None:
    mean = {name: _mean(name) for name in skin.COLOURS}
    grey = {name: float(value.mean()) for name, value in mean.items()}
    assert grey["black"] < grey["dark brown"] < grey["light brown"] < grey["skin-coloured"]
    assert grey["black"] < 70
    assert grey["white"] > grey["pink"] > grey["red"]
    assert mean["red"][0] > 1.7 * max(mean["red"][1:])
    assert mean["pink"][0] > 1.15 * max(mean["pink"][1:])
    for name in ("light brown", "dark brown", "yellow"):
        assert mean[name][0] > mean[name][1] > mean[name][2]
    assert mean["blue-grey"][2] >= mean["blue-grey"][0] - 12
    assert np.ptp(mean["white"]) < 45


def test_a_further_colour_takes_a_part_of_the_lesion() -> None:
    phantom = replace(PLAIN, colours=("light brown", "black"))
    inside = _inside(phantom, 2)
    darker = (_drawn(PLAIN, 2) - _drawn(phantom, 2)).mean(2)[inside] > 40
    assert 0.1 < darker.mean() < 0.7


def test_a_fading_border_is_wider_than_a_sharp_one() -> None:
    def steepest(border: str) -> float:
        phantom = replace(PLAIN, border=border, colours=("dark brown",))
        slopes = [np.abs(np.diff(_drawn(phantom, seed).mean(2), axis=0)) for seed in range(4)]
        return float(np.mean([np.quantile(slope, 0.99) for slope in slopes]))

    assert steepest("fading") < 0.7 * steepest("sharp")


def test_darker_skin_is_darker_all_the_way() -> None:
    corners = [_drawn(replace(PLAIN, tone=tone, size=0.2))[:12, :12].mean() for tone in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert corners == sorted(corners, reverse=True)
    assert corners[0] > 150
    assert corners[-1] < 75


def test_diagnoses_show_their_own_signs_more_often_than_others_do() -> None:
    rng = np.random.default_rng(0)
    drawn = {label: [skin.draw_skin(label, rng) for _ in range(250)] for label in skin.PRETRAINING_CLASSES}

    def often(label: str, name: str) -> float:
        return float(np.mean([name in phantom.structures for phantom in drawn[label]]))

    for label, name in {
        "akiec": "strawberry pattern", "bcc": "arborising vessels", "bkl": "milia-like cysts", "df": "white patch",
        "mel": "blue-white veil", "nv": "pigment network", "vasc": "red lacunae", "scc": "white circles",
    }.items():  # fmt: skip
        others = [often(other, name) for other in drawn if other not in (label, "df")]
        assert often(label, name) > max(others) + 0.1
    assert np.mean([p.symmetry for p in drawn["nv"]]) > np.mean([p.symmetry for p in drawn["mel"]]) + 0.2


def test_the_new_camera_parameters_are_neutral_by_default_and_do_what_they_say() -> None:
    clean = _drawn(PLAIN).astype(np.uint8)

    def shot(**ranges: tuple[float, float]) -> np.ndarray:
        return photograph(clean, SkinAppearance(**ranges), np.random.default_rng(0)).astype(float)

    plain = shot()
    assert np.abs(plain - clean).max() <= 1
    assert np.abs(shot(field=(-0.5, -0.5), bubbles=(-0.5, -0.5)) - clean).max() <= 1
    field = shot(field=(1.0, 1.0))
    assert field[0, 0].max() < 10
    assert np.abs(field - plain)[50:60, 50:60].max() <= 1
    bubbles = np.abs(shot(bubbles=(1.0, 1.0)) - plain).max(2) > 8
    assert 0.005 < bubbles.mean() < 0.5
    for site in (PRETRAINING_SKIN, DEMO_SKIN):
        assert site.field[1] > 0.0
        assert site.bubbles[1] > 0.0


def test_hair_comes_in_several_colours() -> None:
    card = np.full((112, 112, 3), 200, dtype=np.uint8)
    darkest = [
        photograph(card, SkinAppearance(hairs=(8.0, 8.0)), np.random.default_rng(seed)).min() for seed in range(30)
    ]
    assert min(darkest) < 60
    assert max(darkest) > 90


def test_a_choice_of_looks_is_kept_and_none_changes_nothing() -> None:
    few = {skin.draw_skin("nv", np.random.default_rng(seed), kinds=("blue", "dermal")).kind for seed in range(40)}
    assert few == {"blue", "dermal"}
    for label in skin.PRETRAINING_CLASSES:
        plain = skin.draw_skin(label, np.random.default_rng(3))
        assert skin.draw_skin(label, np.random.default_rng(3), kinds=skin.KINDS[label]) == plain
