"""The training script at toy size: deterministic, independent of workers, and its parts against slow oracles."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_bytes
from wardround.platform.embedded import trainer as training
from wardround.platform.embedded.architecture import CONFIG, VOCABULARY, WEIGHTS, load_embedded
from wardround.platform.embedded.recipe import Recipe
from wardround.platform.embedded.train import FIRST_STAGE, train

TINY = Recipe(
    brain=12, skin=14, textures=6, overlays=3, steps=2, align_steps=1, align_pictures=40,
    batch=16, skin_share=0.4, texture_share=0.25, warmup=1, bf16=False,
    layers=(1, 1, 1, 1), width=8, image_size=32,
    embed_dim=32, text_width=16, text_layers=1, context_length=24, merges=60,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_steps_twice_give_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, recipe in (("a", TINY), ("b", TINY), ("c", replace(TINY, seed=1))):
        train(recipe, tmp_path / name, workers=0)
    for name in (WEIGHTS, VOCABULARY, CONFIG):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / WEIGHTS).read_bytes() != (tmp_path / "c" / WEIGHTS).read_bytes()


def test_what_training_writes_can_be_loaded(tmp_path: Path) -> None:
    trainer = train(TINY, tmp_path, workers=0)
    model, tokenizer = load_embedded(tmp_path)
    assert tokenizer.vocab_size == trainer.config["text_cfg"]["vocab_size"]
    stored = load_bytes((tmp_path / WEIGHTS).read_bytes())
    for name, tensor in trainer.model.state_dict().items():
        assert torch.allclose(stored[name].float(), tensor.float(), atol=2e-3, rtol=2e-3)
    with torch.no_grad():
        assert model.encode_text(tokenizer("a glioma")).shape == (1, 32)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = replace(TINY, steps=25, lr=3e-3, warmup=3)
    train(recipe, tmp_path, workers=0, report=lambda step, figures: losses.append(figures["loss"]))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


def test_the_learning_rate_rises_and_falls(tmp_path: Path) -> None:
    trainer = training.Trainer(replace(TINY, steps=10, warmup=4, lr=1.0), tmp_path, workers=0)
    rates = []
    for done in range(10):
        trainer.done = done
        rates.append(trainer.rate())
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert all(first > second for first, second in pairwise(rates[4:]))
    assert rates[-1] < 0.1


def test_the_second_stage_leaves_the_convolutions_alone_and_spreads_the_features(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=6, align_steps=2, align_pictures=200, batch=20)
    directions: list[float] = []
    first = train(replace(recipe, align_steps=0), tmp_path / "first", workers=0)
    both = train(recipe, tmp_path / "both", workers=0, report=lambda _, seen: directions.append(seen["directions"]))
    for name, tensor in both.model.state_dict().items():
        if name.startswith("visual.") and "project" not in name:
            assert torch.equal(tensor, first.model.state_dict()[name]), name
    assert not torch.equal(both.model.text_projection, first.model.text_projection)
    assert min(directions[6:]) > max(directions[3:6])


def test_the_second_stage_can_start_from_stored_weights(tmp_path: Path) -> None:
    train(replace(TINY, align_steps=0), tmp_path / "first", workers=0)
    begun = train(TINY, tmp_path / "second", workers=0, start=tmp_path / "first" / FIRST_STAGE)
    stored = load_bytes((tmp_path / "first" / FIRST_STAGE).read_bytes())
    for name, tensor in begun.model.state_dict().items():
        if name.startswith("visual.") and "project" not in name:
            assert torch.equal(tensor.half() if tensor.is_floating_point() else tensor, stored[name]), name
