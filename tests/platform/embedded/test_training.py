"""The training script at toy size: deterministic, independent of workers, and its parts against slow oracles."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from open_clip.modified_resnet import AttentionPool2d
from safetensors.torch import load as load_bytes
from wardround.medical_datasets.synthetic import brain, skin
from wardround.platform.embedded import train as training
from wardround.platform.embedded.architecture import CONFIG, VOCABULARY, WEIGHTS, load_embedded
from wardround.platform.embedded.augment import augment_brain, augment_skin
from wardround.platform.embedded.caption_words import KIND_WORDS, NAMES
from wardround.platform.embedded.captions import (
    ATTRIBUTES,
    KINDS,
    LABELS,
    WIDTHS,
    attributes,
    caption,
    corpus,
    described,
)
from wardround.platform.embedded.losses import contrastive, crowding
from wardround.platform.embedded.phantom_pool import draw_pool
from wardround.platform.embedded.pooling import spread, whitening
from wardround.platform.embedded.train import Recipe, train
from wardround.platform.embedded.vocabulary import learn_merges, vocabulary_bytes, vocabulary_size

TINY = Recipe(
    brain=12, skin=14, steps=2, align_steps=1, align_pictures=40, batch=8, warmup=1, bf16=False,
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


def test_a_pool_does_not_depend_on_workers_or_length(tmp_path: Path) -> None:
    (tmp_path / VOCABULARY).write_bytes(vocabulary_bytes(learn_merges(corpus(0, 50), 30)))

    def pool(count: int, workers: int):
        return draw_pool("skin", count, seed=3, size=32, context_length=16, folder=tmp_path, workers=workers)

    alone, together, longer = pool(6, 0), pool(6, 1), pool(9, 0)
    for name in ("images", "truth", "tokens", "states"):
        assert np.array_equal(getattr(alone, name), getattr(together, name))
        assert np.array_equal(getattr(alone, name), getattr(longer, name)[:6])


@settings(max_examples=60, deadline=None)
@given(
    truth=arrays(np.int64, (5, 3), elements=st.integers(0, 2)),
    states=arrays(np.int64, (4, 3), elements=st.integers(-1, 2)),
)
def test_described_agrees_with_the_obvious_loop(truth: np.ndarray, states: np.ndarray) -> None:
    slow = [[all(s in (-1, t) for s, t in zip(said, fact, strict=True)) for said in states] for fact in truth]
    assert described(truth, states).tolist() == slow


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), label=st.sampled_from(LABELS))
def test_a_caption_is_true_of_its_phantom_and_names_what_it_states(seed: int, label: str) -> None:
    rng = np.random.default_rng(seed)
    phantom = brain.draw_brain(label, rng) if label in brain.CLASSES else skin.draw_skin(label, rng)
    truth = attributes(phantom)
    assert all(0 <= value < WIDTHS[name] for name, value in zip(ATTRIBUTES, truth, strict=True))
    said = caption(phantom, rng)
    assert described(np.array([truth]), np.array([said.states])).all()
    stated = dict(zip(ATTRIBUTES, said.states, strict=True))
    if stated["label"] >= 0:
        short = [name.removeprefix("a ").removeprefix("an ") for name in NAMES[label]]
        assert any(name in said.text for name in short)
    if stated["kind"] >= 0:
        assert KIND_WORDS[KINDS[stated["kind"]]] in said.text
    if stated["view"] >= 0:
        assert phantom.view in said.text
    assert "  " not in said.text


def test_every_class_has_names_and_every_kind_words() -> None:
    assert NAMES.keys() == set(LABELS)
    assert {kind for kind in KINDS if kind != "notumor/none"} == KIND_WORDS.keys()


def test_merges_on_a_known_example() -> None:
    merges = learn_merges(["low low low lower lower newest"], 3)
    assert merges == [("l", "o"), ("lo", "w</w>"), ("w", "e")]  # the third: w e in lower and newest
    assert vocabulary_size(merges) == 512 + 3 + 2
    assert learn_merges(["aa"], 99) == [("a", "a</w>")]


def test_augmentation_gives_pictures_in_range_and_follows_its_generator() -> None:
    grey = torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    colour = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for change, batch in ((augment_brain, grey), (augment_skin, colour)):
        first = change(batch, torch.Generator().manual_seed(1))
        again = change(batch, torch.Generator().manual_seed(1))
        other = change(batch, torch.Generator().manual_seed(2))
        assert first.shape == (8, 3, 32, 32)
        assert first.dtype == torch.float32
        assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_the_contrastive_loss_equals_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(4, 32, generator=generator), torch.randn(4, 32, generator=generator)
    positive = described(np.array([[0, 0], [0, 1], [1, 0], [0, 0]]), np.array([[0, -1], [0, 1], [1, 0], [0, 0]]))
    loss = float(contrastive(images, texts, torch.tensor(9.0), torch.from_numpy(positive).float()))
    a, b = images.double().numpy(), texts.double().numpy()
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    logits = 9.0 * a @ b.T
    total = 0.0
    for matrix, target in ((logits, positive.astype(float)), (logits.T, positive.T.astype(float))):
        for row, wanted in zip(matrix, target, strict=True):
            log_p = row - np.log(np.exp(row).sum())
            total -= (log_p * wanted / wanted.sum()).sum() / len(matrix) / 2
    assert loss == pytest.approx(total, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 20), width=st.integers(2, 30))
def test_crowding_is_that_of_the_covariance_spectrum(seed: int, n: int, width: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, width))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    spectrum = np.linalg.eigvalsh(np.cov(unit.T, bias=True))
    slow = np.log((spectrum**2).sum() / spectrum.sum() ** 2)
    fast = float(crowding(torch.from_numpy(rows).float()))
    assert fast == pytest.approx(slow, abs=2e-3)
    assert -np.log(min(n - 1, width)) - 1e-3 <= fast <= 1e-3


def test_the_second_stage_leaves_the_convolutions_alone_and_spreads_the_features(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=6, align_steps=2, align_pictures=200, batch=20)
    directions: list[float] = []
    first = train(replace(recipe, align_steps=0), tmp_path / "first", workers=0)
    both = train(recipe, tmp_path / "both", workers=0, report=lambda _, seen: directions.append(seen["directions"]))
    for name, tensor in both.model.state_dict().items():
        if name.startswith("visual.") and "attnpool" not in name:
            assert torch.equal(tensor, first.model.state_dict()[name]), name
    assert not torch.equal(both.model.text_projection, first.model.text_projection)
    assert min(directions[6:]) > max(directions[3:6])


def test_the_second_stage_can_start_from_stored_weights(tmp_path: Path) -> None:
    train(replace(TINY, align_steps=0), tmp_path / "first", workers=0)
    begun = train(TINY, tmp_path / "second", workers=0, start=tmp_path / "first" / WEIGHTS)
    stored = load_bytes((tmp_path / "first" / WEIGHTS).read_bytes())
    for name, tensor in begun.model.state_dict().items():
        if name.startswith("visual.") and "attnpool" not in name:
            assert torch.equal(tensor.half() if tensor.is_floating_point() else tensor, stored[name]), name


def test_spread_makes_an_attention_pooling_a_mean_and_a_projection() -> None:
    generator = torch.Generator().manual_seed(0)
    pool = AttentionPool2d(3, 128, 2, 16)
    maps = torch.randn(50, 128, 3, 3, generator=generator) * torch.linspace(0.1, 2.0, 128).view(1, 128, 1, 1)
    pooled = maps.mean((2, 3))
    spread(pool, pooled)
    matrix, offset = whitening(pooled, 16)
    with torch.no_grad():
        out = pool(maps)
    assert torch.allclose(out, (pooled @ matrix.T + offset) / 4.0, atol=1e-5)


def test_whitening_agrees_with_the_singular_values() -> None:
    rows = np.random.default_rng(0).normal(size=(80, 6)) @ np.diag([5, 3, 2, 1, 0.1, 0.01])
    matrix, offset = whitening(torch.from_numpy(rows).float(), 4)
    out = rows @ matrix.numpy().T + offset.numpy()
    assert np.abs(out.mean(0)).max() < 1e-4
    covariance = out.T @ out / len(rows)
    variance = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / len(rows)
    expected = variance[:4] / (variance[:4] + variance.mean())
    assert np.allclose(covariance, np.diag(expected), atol=1e-3)
