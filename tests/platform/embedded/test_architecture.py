"""The embedded model: what ships, how it loads, and how damage is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.platform.embedded.architecture import (
    CONFIG,
    FOLDER,
    VOCABULARY,
    WEIGHTS,
    EmbeddedModelError,
    build_model,
    load_embedded,
    load_tokenizer,
    read_config,
)

_LENGTH = int(read_config()["model"]["text_cfg"]["context_length"])


@pytest.fixture(scope="module")
def loaded():
    return load_embedded()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in (CONFIG, VOCABULARY, WEIGHTS):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


def test_all_that_ships_is_at_most_20_megabytes() -> None:
    total = sum((FOLDER / name).stat().st_size for name in (CONFIG, VOCABULARY, WEIGHTS))
    assert total <= 20_000_000


def test_the_model_is_512_wide_frozen_float32_and_in_eval_mode(loaded) -> None:
    model, _ = loaded
    config = read_config()
    assert config["model"]["embed_dim"] == 512
    assert config["model"]["text_cfg"]["width"] <= 64
    size = config["preprocess"]["size"]
    assert size == config["model"]["vision_cfg"]["image_size"] <= 224
    assert len(config["preprocess"]["mean"]) == len(config["preprocess"]["std"]) == 3
    assert not model.training
    assert all(parameter.dtype == torch.float32 and not parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert model.encode_image(torch.zeros(2, 3, size, size)).shape == (2, 512)
        assert 1.0 < float(model.logit_scale.exp()) <= 100.5


def test_loading_twice_gives_the_same_features(loaded) -> None:
    model, tokenizer = loaded
    again, _ = load_embedded()
    size = read_config()["preprocess"]["size"]
    pictures = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32))
    tokens = tokenizer(["a brain MRI of a glioma", "a dermoscopy image of a melanoma"])
    with torch.no_grad():
        assert torch.equal(model.encode_image(pictures), again.encode_image(pictures))
        assert torch.equal(model.encode_text(tokens), again.encode_text(tokens))


def test_stored_weights_are_half_precision_and_those_loaded(loaded) -> None:
    stored = load_file(FOLDER / WEIGHTS)
    state = loaded[0].state_dict()
    assert stored.keys() == state.keys()
    for name, tensor in stored.items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float16
        assert torch.equal(tensor.to(state[name].dtype), state[name])


def test_prompts_of_one_class_are_nearer_than_those_of_another_modality(loaded) -> None:
    model, tokenizer = loaded
    with torch.no_grad():
        means = []
        for dataset in (BRAIN_MRI, HAM10000):
            rows = [
                model.encode_text(tokenizer(list(label.prompts)), normalize=True).mean(0) for label in dataset.classes
            ]
            means.append(torch.nn.functional.normalize(torch.stack(rows), dim=1))
    across = means[0] @ means[1].T
    for label, row in zip(BRAIN_MRI.classes, means[0], strict=True):
        own = torch.nn.functional.normalize(
            model.encode_text(tokenizer([f"a brain MRI with {label.clinical_name.lower()}"])), dim=1
        )
        assert float((own @ row).max()) > float(across.max())


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_can_be_tokenised(text: str) -> None:
    tokenizer = _tokenizer()
    tokens = tokenizer(text)
    assert tokens.shape == (1, _LENGTH)
    assert tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) == tokenizer.vocab_size - 1  # the end mark, which the text tower looks for
    assert int(tokens[0, 0]) == tokenizer.vocab_size - 2


def _tokenizer(cache: list = []):  # noqa: B006 - one tokenizer for all examples
    if not cache:
        cache.append(load_tokenizer(context_length=_LENGTH))
    return cache[0]


@pytest.mark.parametrize("text", ["a glioma", "Dermatofibrom", "naïve café", "神経膠腫", "🧠"])
def test_tokens_decode_to_the_text(text: str) -> None:
    tokenizer = _tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)).strip() == text.lower()


def test_medical_words_are_short() -> None:
    tokenizer = _tokenizer()
    for word in ("glioma", "meningioma", "pituitary", "melanoma", "dermoscopy", "mri"):
        assert len(tokenizer.encode(word)) <= 2


@pytest.mark.parametrize("name", [CONFIG, VOCABULARY, WEIGHTS])
def test_a_missing_file_is_named(name: str, copied: Path) -> None:
    (copied / name).unlink()
    with pytest.raises(EmbeddedModelError) as caught:
        load_embedded(copied)
    assert str(copied / name) in caught.value.where
    assert "reinstall" in caught.value.remedy


@pytest.mark.parametrize("name", [CONFIG, VOCABULARY, WEIGHTS])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_file_is_refused(name: str, damage: str, copied: Path) -> None:
    path = copied / name
    content = path.read_bytes()
    bad = {"cut": content[: len(content) // 2], "empty": b"", "noise": bytes(range(256)) * 8}[damage]
    path.write_bytes(bad)
    with pytest.raises(EmbeddedModelError) as caught:
        load_embedded(copied)
    assert name in caught.value.where


def test_weights_of_another_shape_or_name_are_refused(copied: Path) -> None:
    stored = load_file(copied / WEIGHTS)
    save_file({**stored, "logit_scale": torch.zeros(3)}, copied / WEIGHTS)
    with pytest.raises(EmbeddedModelError, match="logit_scale"):
        load_embedded(copied)
    save_file({**stored, "extra": torch.zeros(3)}, copied / WEIGHTS)
    with pytest.raises(EmbeddedModelError, match="'extra' is unknown"):
        load_embedded(copied)
    save_file({name: tensor for name, tensor in stored.items() if name != "logit_scale"}, copied / WEIGHTS)
    with pytest.raises(EmbeddedModelError, match="'logit_scale' is missing"):
        load_embedded(copied)


def test_weights_that_are_not_finite_are_refused(copied: Path) -> None:
    stored = load_file(copied / WEIGHTS)
    stored["text_projection"][0, 0] = float("nan")
    save_file(stored, copied / WEIGHTS)
    with pytest.raises(EmbeddedModelError, match="text_projection"):
        load_embedded(copied)


def test_a_vocabulary_of_another_size_is_refused(copied: Path) -> None:
    document = json.loads((copied / CONFIG).read_text())
    document["model"]["text_cfg"]["vocab_size"] += 1
    (copied / CONFIG).write_text(json.dumps(document))
    with pytest.raises(EmbeddedModelError, match="tokens"):
        load_embedded(copied)


@pytest.mark.parametrize("stages", [None, [4, 3], "2"])
def test_a_configuration_that_describes_no_model_is_refused(stages: object, copied: Path) -> None:
    document = json.loads((copied / CONFIG).read_text())
    document["model"]["vision_cfg"].pop("stages")
    if stages is not None:
        document["model"]["vision_cfg"]["stages"] = stages
    (copied / CONFIG).write_text(json.dumps(document))
    with pytest.raises(EmbeddedModelError, match="describes no model"):
        load_embedded(copied)


def test_a_configuration_without_its_parts_is_refused(copied: Path) -> None:
    (copied / CONFIG).write_text('{"model": {}}')
    with pytest.raises(EmbeddedModelError, match="preprocess"):
        load_embedded(copied)


def test_a_model_is_built_from_its_configuration_alone() -> None:
    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "stages": [2, 3]},
        "text_cfg": {"context_length": 8, "vocab_size": 600, "width": 16, "heads": 1, "layers": 1},
    }
    model = build_model(tiny)
    assert model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 16)
    assert model.encode_text(torch.ones(2, 8, dtype=torch.int64)).shape == (2, 16)
