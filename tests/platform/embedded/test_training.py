"""The training script at toy size: deterministic, independent of workers, and its parts against slow oracles."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_bytes
from wardround.platform.embedded import train as training_script
from wardround.platform.embedded import trainer as training
from wardround.platform.embedded.architecture import CONFIG, VOCABULARY, WEIGHTS, load_embedded
from wardround.platform.embedded.batches import KINDS
from wardround.platform.embedded.recipe import Recipe
from wardround.platform.embedded.train import FIRST_STAGE, train

pytestmark = pytest.mark.slow  # the embedded weights are trained by hand, not in use

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


@pytest.mark.parametrize("bf16", [False, True])
def test_two_steps_twice_give_the_same_files_and_another_seed_others(tmp_path: Path, bf16: bool) -> None:
    narrow = replace(TINY, bf16=bf16)
    for name, recipe in (("a", narrow), ("b", narrow), ("c", replace(narrow, seed=1))):
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


def test_the_command_trains_writes_in_between_and_takes_the_recipes_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {
        "brain": 8, "skin": 8, "textures": 0, "overlays": 2, "steps": 26, "align-steps": 2, "align-pictures": 30,
        "batch": 8, "skin-share": 0.5, "warmup": 1, "width": 8, "image-size": 32, "embed-dim": 16, "text-width": 16,
        "text-layers": 1, "context-length": 24, "merges": 40, "seed": 3, "workers": 0, "save-every": 10,
    }  # fmt: skip
    words = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path), *words])
    written: list[str] = []
    write = training_script.write_atomic
    monkeypatch.setattr(
        training_script,
        "write_atomic",
        lambda path, *rest, **more: (written.append(path.name), write(path, *rest, **more)),
    )
    training_script.main()
    assert written == [WEIGHTS, WEIGHTS, FIRST_STAGE, WEIGHTS]
    seen = capsys.readouterr().err
    assert "step 25/26 loss" in seen
    assert f"wrote {tmp_path / WEIGHTS}" in seen
    model, _ = load_embedded(tmp_path)
    assert model.visual.image_size == 32
    recipe = json.loads((tmp_path / CONFIG).read_text())["recipe"]
    assert (recipe["seed"], recipe["skin_share"], recipe["lr"]) == (3, 0.5, Recipe.lr)


def test_the_self_supervised_term_looks_at_the_kinds_of_the_recipe(tmp_path: Path) -> None:
    trainer = training.Trainer(replace(TINY, agree_on=("skin", "texture")), tmp_path, workers=0)
    batch = trainer.batches.next()
    seen = {KINDS[kind] for kind in batch.kinds[trainer._agreeing(batch)].tolist()}
    assert seen == {"skin", "texture"}
    assert trainer.step()["agreement"] > 0.0


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"steps": 0}, "steps must be above 0"),
        ({"textures": -1}, "textures must not be below 0"),
        ({"image_size": 48}, "multiple of 32, not 48"),
        ({"context_length": 3}, "at least 8"),
        ({"batch": 2}, "two pictures of each kind"),
        ({"skin_share": 2.0}, "skin_share is a share from 0 to below 1"),
        ({"lr": float("nan")}, "lr must be a number, not nan"),
        ({"textures": 9, "batch": 8, "texture_share": 0.3}, "raise batch, or set textures to 0"),
    ],
)
def test_numbers_that_no_training_can_run_on_are_refused_before_anything_is_drawn(
    change: dict[str, float],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match=part):
        train(replace(TINY, **change), tmp_path / "out", workers=0)
    words = [word for name, value in change.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit):
        training_script.main()
    assert part in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_used_is_refused_and_a_model_is_not_trained_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: object) -> str:
        monkeypatch.setattr("sys.argv", ["train", *map(str, words)])
        with pytest.raises(SystemExit):
            training_script.main()
        return capsys.readouterr().err

    (tmp_path / "file").write_text("")
    assert "is a file: name a folder" in said("--out", tmp_path / "file")
    out = tmp_path / "new"
    assert "--threads must be at least 1, not 0" in said("--out", out, "--threads", 0)
    assert "cannot be used" in said("--out", out, "--start", tmp_path / "nowhere")
    assert "cannot be used" in said("--out", out, "--start", tmp_path / "file")
    assert not out.exists()
    train(TINY, tmp_path / "done", workers=0)
    before = {path.name: path.read_bytes() for path in (tmp_path / "done").iterdir()}
    assert "holds a model already" in said("--out", tmp_path / "done")
    assert {path.name: path.read_bytes() for path in (tmp_path / "done").iterdir()} == before
    with pytest.raises(ValueError, match="is no first stage of this recipe"):
        train(replace(TINY, width=16), tmp_path / "other", workers=0, start=tmp_path / "done" / FIRST_STAGE)
