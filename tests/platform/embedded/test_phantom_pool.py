"""Pictures for training: drawn once, the same whoever draws them; seen through augmentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from wardround.medical_datasets.synthetic.appearance import photograph
from wardround.platform.embedded import phantom_pool
from wardround.platform.embedded.architecture import VOCABULARY
from wardround.platform.embedded.augment import _warp, augment_brain, augment_skin, augment_texture, lay_over
from wardround.platform.embedded.batches import KINDS, Batches
from wardround.platform.embedded.captions import corpus, described
from wardround.platform.embedded.phantom_pool import draw_overlays, draw_pool, draw_textures
from wardround.platform.embedded.recipe import MEAN, STD, Recipe
from wardround.platform.embedded.textures import FIELDS, texture
from wardround.platform.embedded.vocabulary import learn_merges, vocabulary_bytes


def test_a_pool_does_not_depend_on_workers_or_length(tmp_path: Path) -> None:
    (tmp_path / VOCABULARY).write_bytes(vocabulary_bytes(learn_merges(corpus(0, 50), 30)))

    def pool(count: int, workers: int):
        return draw_pool("skin", count, seed=3, size=32, context_length=16, folder=tmp_path, workers=workers)

    alone, together, longer = pool(6, 0), pool(6, 1), pool(9, 0)
    for name in ("images", "truth", "tokens", "states"):
        assert np.array_equal(getattr(alone, name), getattr(together, name))
        assert np.array_equal(getattr(alone, name), getattr(longer, name)[:6])


def test_augmentation_gives_pictures_in_range_and_follows_its_generator() -> None:
    grey = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colour = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for change, batch in ((augment_brain, grey), (augment_skin, colour), (augment_texture, colour)):
        first = change(batch, torch.Generator().manual_seed(1))
        again = change(batch, torch.Generator().manual_seed(1))
        other = change(batch, torch.Generator().manual_seed(2))
        assert first.shape == (8, 3, 32, 32)
        assert first.dtype == torch.float32
        assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.slow
def test_textures_are_in_range_differ_and_do_not_depend_on_workers() -> None:
    alone, together = (draw_textures(5, seed=4, size=32, workers=workers) for workers in (0, 1))
    assert np.array_equal(alone, together)
    assert alone.shape == (5, 3, 32, 32)
    assert len({picture.tobytes() for picture in alone}) == 5
    assert draw_textures(0, seed=4, size=32, workers=0).shape == (0, 3, 32, 32)
    grey = [np.ptp(texture(32, np.random.default_rng(seed)), axis=2).max() <= 1 for seed in range(60)]
    assert 15 <= sum(grey) <= 45
    for field in set(FIELDS):
        values = field(48, np.random.default_rng(1))
        assert values.shape == (48, 48)
        assert (values.min(), values.max()) == (0.0, 1.0)


def test_an_overlay_on_a_picture_is_the_photograph_of_that_picture() -> None:
    overlays = draw_overlays(6, seed=2, size=48)
    picture = np.random.default_rng(0).integers(60, 200, (48, 48, 3), dtype=np.uint8)
    for index, overlay in enumerate(overlays):
        taken = photograph(picture, phantom_pool._LAID_OVER, np.random.default_rng((2, 3, index)))
        opacity = overlay[3].astype(float)[:, :, None] / 255.0
        laid = picture * (1.0 - opacity) + overlay[:3].transpose(1, 2, 0)
        assert np.abs(laid - taken).mean() < 1.0
    assert max(int(overlay[3].max()) for overlay in overlays) > 200  # hair is there


def test_overlays_are_laid_over_a_share_of_the_pictures() -> None:
    overlays = torch.zeros(2, 4, 16, 16, dtype=torch.uint8)
    overlays[:, 3, :8] = 255
    overlays[:, 0, :8] = 90
    pictures = torch.full((200, 3, 16, 16), 150, dtype=torch.uint8)
    laid = lay_over(pictures, overlays, torch.Generator().manual_seed(0), share=0.5)
    changed = (laid != 150).flatten(1).any(1)
    assert 70 < int(changed.sum()) < 130
    assert torch.equal(laid[changed][:, 0].flatten(1).eq(90).sum(1), torch.full((int(changed.sum()),), 128))
    assert len({one.numpy().tobytes() for one in laid[changed]}) == 4  # the half lies above, below, left or right
    assert torch.equal(lay_over(pictures, overlays[:0], torch.Generator(), share=1.0), pictures)


def test_a_batch_holds_two_views_of_each_picture_and_true_captions(tmp_path: Path) -> None:
    recipe = Recipe(brain=8, skin=16, textures=6, overlays=4, batch=24, image_size=32, context_length=24, merges=40)
    (tmp_path / VOCABULARY).write_bytes(vocabulary_bytes(learn_merges(corpus(0, 50), 40)))
    batches = Batches(recipe, tmp_path, workers=0)
    counts = recipe.counts()
    assert counts == {"brain": 7, "skin": 4, "texture": 1}
    batch = batches.next()
    assert batch.images.shape == (24, 3, 32, 32)
    assert [KINDS[kind] for kind in batch.kinds.tolist()] == ["brain"] * 7 + ["skin"] * 4 + ["texture"]
    assert batch.captioned.tolist() == [*range(11), *range(12, 23)]
    assert len(batch.truth) == len(batch.tokens) == len(batch.states) == 22
    assert np.array_equal(batch.truth[:11], batch.truth[11:])
    assert described(batch.truth, batch.states).diagonal().all()
    shown = batch.images * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)
    assert -1e-5 <= float(shown.min()) <= float(shown.max()) <= 1 + 1e-5
    same = (batch.images[:12] - batch.images[12:]).abs().mean((1, 2, 3))
    assert float(same.min()) > 0.0
    without = Batches(replace(recipe, textures=0), tmp_path, workers=0).next()
    assert "texture" not in {KINDS[kind] for kind in without.kinds.tolist()}


def test_every_picture_is_shown_before_any_a_second_time(tmp_path: Path) -> None:
    recipe = Recipe(brain=12, skin=8, textures=0, overlays=0, batch=12, skin_share=1 / 3, image_size=32, merges=40)
    (tmp_path / VOCABULARY).write_bytes(vocabulary_bytes(learn_merges(corpus(0, 50), 40)))
    batches = Batches(recipe, tmp_path, workers=0)
    for _ in range(2):
        taken = np.concatenate([batches._take("brain", 4) for _ in range(3)])
        assert sorted(taken.tolist()) == list(range(12))


def test_a_shift_keeps_within_its_range_at_any_zoom_and_tilt() -> None:
    """A spot in the middle is seen at most as far off as the appearance says."""
    spot = torch.zeros(400, 1, 65, 65)
    spot[:, :, 30:35, 30:35] = 1.0
    seen = _warp(spot, (0.9, 1.4), (-20.0, 20.0), (0.0, 0.12), "zeros", torch.Generator().manual_seed(0))
    axis = (torch.arange(65) - 32) / 32.5
    mass = seen.sum((1, 2, 3))
    right, down = (seen.sum(1).sum(1) * axis).sum(1) / mass, (seen.sum(1).sum(2) * axis).sum(1) / mass
    for moved in (right, down):
        assert 0.1 < float(moved.abs().max()) < 0.125
        assert abs(float(moved.mean())) < 0.02
