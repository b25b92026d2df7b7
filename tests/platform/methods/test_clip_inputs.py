"""What methods get of the frozen CLIP: its tokens and classes, its pictures, and refusals that say what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform.backbone import Backbone, load_backbone
from wardround.platform.errors import MethodError
from wardround.platform.methods.clip_inputs import (
    CHUNK,
    clip_inputs,
    in_chunks,
    pixels_of,
    required_clip,
    unit_features,
)
from wardround.platform.methods.method import SharedInputs

from .tiny_clips import inputs_of, pictures, tiny_clip

PROMPTS = [["an MRI of a glioma", "a glioma"], ["a healthy brain"], ["a meningioma", "an MRI", "a tumour of the dura"]]
CLINICAL = ["Glioma", "No tumour", "Meningioma"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(device="cpu")


def test_tokens_and_classes_are_in_order(backbone: Backbone) -> None:
    inputs = clip_inputs(backbone, PROMPTS, CLINICAL)
    assert inputs.prompt_classes.tolist() == [0, 0, 1, 2, 2, 2]
    assert torch.equal(inputs.prompt_tokens, backbone.tokenize([line for lines in PROMPTS for line in lines]))
    assert torch.equal(inputs.name_tokens, backbone.tokenize(CLINICAL))
    assert inputs.prompt_tokens.dtype == inputs.prompt_classes.dtype == inputs.name_tokens.dtype == torch.int64
    assert inputs.prompt_tokens.shape[1] == inputs.name_tokens.shape[1] == 56


def test_the_model_is_the_backbones_own_and_frozen(backbone: Backbone) -> None:
    inputs = clip_inputs(backbone, PROMPTS, CLINICAL)
    assert inputs.model is backbone.model
    assert not inputs.model.training
    assert not any(parameter.requires_grad for parameter in inputs.model.parameters())


def test_features_by_the_inputs_are_those_of_the_backbone(backbone: Backbone) -> None:
    inputs = clip_inputs(backbone, PROMPTS, CLINICAL)
    model: Any = inputs.model
    batch = pictures(3, size=128)
    images = unit_features(model.encode_image(pixels_of(batch, inputs, model.logit_scale))).numpy()
    assert np.abs(images - backbone.encode_images(batch.numpy())).max() < 1e-5
    text = unit_features(model.encode_text(inputs.prompt_tokens)).numpy()
    assert np.abs(text - backbone.encode_texts([line for lines in PROMPTS for line in lines])).max() < 1e-5


def test_no_text_has_no_tokens(backbone: Backbone) -> None:
    assert backbone.tokenize([]).shape == (0, 1)
    assert backbone.encode_texts([]).shape == (0, 512)


@pytest.mark.parametrize(
    ("prompts", "names", "message"),
    [
        ([], [], "0 class names"),
        ([["a"], ["b"]], ["A"], "1 class names and prompts for 2"),
        ([["a"], []], ["A", "Beta"], "'Beta'"),
        ([["a"], ["b", "  "]], ["A", "Beta"], "'Beta'"),
        ([["a"], ["b"]], ["A", " "], "' '"),
        ([["a"], "abc"], ["A", "Beta"], "'Beta'"),
    ],
)
def test_classes_that_do_not_fit_are_refused(backbone: Backbone, prompts: Any, names: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        clip_inputs(backbone, prompts, names)


def test_a_study_without_the_clip_is_refused_by_the_methods_name() -> None:
    shared = SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3)))
    with pytest.raises(MethodError, match=r"needs the CLIP itself.*moon"):
        required_clip(shared, "moon")
    inputs = inputs_of(tiny_clip())
    assert required_clip(SharedInputs(torch.eye(3), 10.0, torch.zeros((0, 3)), clip=inputs), "moon") is inputs


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros((2, 32)), torch.zeros((2, 32, 32, 3)), torch.zeros((2, 3, 32, 32), dtype=torch.uint8)],
)
def test_only_uint8_pictures_are_taken(wrong: torch.Tensor) -> None:
    with pytest.raises(MethodError, match=r"no uint8 \(n, H, W, 3\)"):
        pixels_of(wrong, inputs_of(tiny_clip()), torch.zeros(()))


def test_pixels_take_the_type_of_the_model() -> None:
    found = pixels_of(pictures(2), inputs_of(tiny_clip()), torch.zeros((), dtype=torch.float64))
    assert found.dtype == torch.float64
    assert found.shape == (2, 3, 32, 32)


def test_chunks_are_small_and_in_order() -> None:
    sizes = []

    def encode(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return 2 * rows

    rows = torch.arange(2.0 * (2 * CHUNK + 5)).reshape(-1, 2)
    found = in_chunks(encode, rows, 2)
    assert sizes == [CHUNK, CHUNK, 5]
    assert torch.equal(found, 2 * rows.double())
    assert in_chunks(encode, rows[:0], 7).shape == (0, 7)
    assert len(sizes) == 3


def test_a_tower_that_returns_its_patches_too() -> None:
    pooled, patches = torch.tensor([[3.0, 4.0]]), torch.ones((1, 5, 2))
    assert torch.allclose(unit_features((pooled, patches)), torch.tensor([[0.6, 0.8]]))
    assert torch.equal(unit_features((pooled, patches)), unit_features(pooled))
