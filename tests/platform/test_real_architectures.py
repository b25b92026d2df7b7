"""ViT-B-32, ViT-B-16, RN50 and ViT-L-14 as they really are, with random weights, from every format of weights."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_file
from wardround.platform.backbone import Backbone, load_backbone
from wardround.platform.clip_configs import essence_of
from wardround.platform.preprocessing import Preprocessing

from .real_models import (
    CLIP_MEAN,
    CLIP_STD,
    SENTENCES,
    drawn,
    edit_json,
    offline,
    own_features,
    picture,
    pixels_of,
    save_cache,
    save_folder,
    state_of,
)

FORMATS = ("plain .pt", "training .pt", ".safetensors", "folder", "hf-hub", "tag")
SINGLE_FILES = FORMATS[:3]


@dataclasses.dataclass(frozen=True)
class Case:
    """A real model: its tag stands in open_clip's own table, with the repository that would hold the weights."""

    name: str
    tag: str
    embed_dim: int
    quick_gelu: bool = False
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    half: bool = False


CASES = (
    Case("ViT-B-32", "laion2b_s34b_b79k", 512),
    Case("RN50", "openai", 1024, quick_gelu=True),
    Case("ViT-B-16", "openai", 512, quick_gelu=True),
    # This tag has other colours than the model's other tags, so a single file of it cannot know them.
    Case("ViT-L-14", "laion2b_s32b_b82k", 768, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), half=True),
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a loaded backbone says and does; the backbone itself would fill the memory."""

    fingerprint: str
    embed_dim: int
    logit_scale: float
    preprocessing: Preprocessing
    pixels: torch.Tensor
    images: np.ndarray
    texts: np.ndarray


def look_at(loaded: Backbone) -> Seen:
    loaded.batch_size = 2  # two rows need not be padded to sixteen here
    batch = np.stack([loaded.prepare(rgb) for rgb in (picture(), picture()[::-1])])
    return Seen(
        loaded.fingerprint,
        loaded.embed_dim,
        loaded.logit_scale,
        loaded.preprocessing,
        loaded.preprocessing.normalise(torch.from_numpy(batch)).contiguous(),
        loaded.encode_images(batch),
        loaded.encode_texts(SENTENCES),
    )


class Saved:
    """One real model in every format on disk."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case, self.root = case, root
        entry = get_pretrained_cfg(case.name, case.tag)
        self.repository = entry["hf_hub"].strip("/")
        colours = {"mean": case.mean, "std": case.std}
        assert {key: tuple(entry[key]) for key in colours} == colours
        assert bool(entry.get("quick_gelu", False)) is case.quick_gelu
        self.model = drawn(case.name, half=case.half, force_quick_gelu=case.quick_gelu, force_preprocess_cfg=colours)
        self.config = open_clip.get_model_config(case.name) | ({"quick_gelu": True} if case.quick_gelu else {})
        state = state_of(self.model, half=case.half)
        torch.save(state, root / "plain.pt")
        inner = {f"module.{name}": tensor for name, tensor in state.items()}
        optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.98)}]}
        torch.save({"epoch": 3, "name": "run", "state_dict": inner, "optimizer": optimizer}, root / "training.pt")
        save_file(state, root / "weights.safetensors")
        self.folder = save_folder(root / "carried", self.model, self.config, root / "weights.safetensors")
        save_cache(root / "hub", self.repository, self.folder)
        self.seen: dict[str, Seen] = {}

    @cached_property
    def own(self) -> tuple[np.ndarray, np.ndarray]:
        return own_features(self.model, open_clip.get_tokenizer(self.case.name)(SENTENCES))

    def load(self, form: str) -> Backbone:
        # A single file says nothing about the activation; the name must.
        file_name = self.case.name + ("-quickgelu" if self.case.quick_gelu else "")
        name, weights = {
            "plain .pt": (file_name, str(self.root / "plain.pt")),
            "training .pt": (file_name, str(self.root / "training.pt")),
            ".safetensors": (file_name, str(self.root / "weights.safetensors")),
            "folder": (self.case.name, str(self.folder)),
            "hf-hub": (f"hf-hub:{self.repository}", None),
            "tag": (self.case.name, self.case.tag),
        }[form]
        return load_backbone(name, weights, device="cpu")

    def look(self, form: str) -> Seen:
        if form not in self.seen:
            self.seen[form] = look_at(self.load(form))
        return self.seen[form]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if at > 1 else []) for at, case in enumerate(CASES)
    ],
)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saved]:
    """Gigabytes, so they are removed here: pytest would keep them for three runs."""
    root = tmp_path_factory.mktemp("real")
    try:
        with offline(root / "hub"):
            yield Saved(request.param, root)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_models_own_features(saved: Saved, form: str) -> None:
    seen, case = saved.look(form), saved.case
    assert seen.embed_dim == case.embed_dim
    assert seen.logit_scale == pytest.approx(float(saved.model.logit_scale.detach().exp()), rel=1e-6)
    images, texts = saved.own
    np.testing.assert_allclose(seen.texts, texts, atol=5e-6)
    if form not in SINGLE_FILES or case.mean == CLIP_MEAN:
        np.testing.assert_allclose(seen.images, images, atol=5e-6)
    assert np.abs(seen.images[0] - seen.images[1]).max() > 1e-4  # the weights do look at the picture
    assert np.abs(seen.texts[0] - seen.texts[1]).max() > 1e-4


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_brings_the_models_own_preprocessing(saved: Saved, form: str) -> None:
    case = saved.case
    colours = (CLIP_MEAN, CLIP_STD) if form in SINGLE_FILES else (case.mean, case.std)
    wanted = Preprocessing(224, 224, *colours, interpolation="bicubic", resize_mode="shortest")
    assert saved.look(form).preprocessing == wanted
    own = {"size": 224, "mean": colours[0], "std": colours[1], "interpolation": "bicubic", "resize_mode": "shortest"}
    assert torch.equal(saved.look(form).pixels, pixels_of(own))
    if form not in SINGLE_FILES:
        ours = Preprocessing.from_config(saved.model.visual.preprocess_cfg)
        assert ours == wanted


def test_one_fingerprint_whichever_format_brought_the_weights(saved: Saved) -> None:
    same = FORMATS if saved.case.mean == CLIP_MEAN else FORMATS[len(SINGLE_FILES) :]
    assert len({saved.look(form).fingerprint for form in same}) == 1
    assert len({saved.look(form).fingerprint for form in SINGLE_FILES}) == 1


def test_a_folder_with_another_preprocessing_is_believed(saved: Saved, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "other", saved.model, saved.config, saved.root / "weights.safetensors")
    (folder / "open_clip_model.safetensors").unlink()
    os.link(saved.root / "plain.pt", folder / "open_clip_pytorch_model.bin")  # what older repositories hold
    other = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bilinear", "resize_mode": "squash"}
    edit_json(folder / "open_clip_config.json", preprocess_cfg=other)
    seen = look_at(load_backbone(saved.case.name, str(folder), device="cpu"))
    wanted = Preprocessing(224, 224, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bilinear", resize_mode="squash")
    assert seen.preprocessing == wanted
    assert torch.equal(seen.pixels, pixels_of({"size": 224, **other}))
    assert np.abs(seen.images - saved.own[0]).max() > 1e-4
    np.testing.assert_allclose(seen.texts, saved.own[1], atol=5e-6)
    assert seen.fingerprint != saved.look("folder").fingerprint
    shutil.rmtree(folder)


def test_the_activation_comes_with_tags_folders_and_quickgelu_names(saved: Saved) -> None:
    """The same tensors under the other activation are another model; a single file takes the name's word."""
    case = saved.case
    other = case.name if case.quick_gelu else f"{case.name}-quickgelu"
    seen = look_at(load_backbone(other, str(saved.root / "weights.safetensors"), device="cpu"))
    assert np.abs(seen.texts - saved.own[1]).max() > 1e-4
    assert seen.fingerprint != saved.look(".safetensors").fingerprint
    kept = json.loads((saved.folder / "open_clip_config.json").read_text())["model_cfg"]
    assert kept.get("quick_gelu", False) is case.quick_gelu


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_spelled_out_defaults_leave_the_fingerprint_as_it_is(name: str) -> None:
    """Repositories were written by many versions of open_clip, some of which name what others leave out."""
    config = open_clip.get_model_config(name)
    wordy: dict[str, Any] = config | {"quick_gelu": False}
    wordy["vision_cfg"] = {"head_width": 64, "mlp_ratio": 4.0, "timm_model_pretrained": False, **config["vision_cfg"]}
    wordy["text_cfg"] = {"hf_tokenizer_name": None, "pad_id": 0, **config["text_cfg"]}
    assert essence_of(wordy) == essence_of(config)
    assert essence_of(wordy | {"quick_gelu": True}) != essence_of(config)
    wordy["vision_cfg"] = config["vision_cfg"] | {"head_width": 32}  # the same tensors, another model
    assert essence_of(wordy) != essence_of(config)


def test_the_documented_models_are_those_of_open_clips_own_tables() -> None:
    text = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| `(\S+)` \| (\d+) MB \| (\d+) \| (\d+) \|$", text, re.M)
    assert {row[0] for row in rows} == {case.name for case in CASES}
    for name, tag, repository, _, width, side in rows:
        config = open_clip.get_model_config(name)
        assert (config["embed_dim"], config["vision_cfg"]["image_size"]) == (int(width), int(side))
        assert get_pretrained_cfg(name, tag)["hf_hub"] == f"{repository}/"


def test_the_documented_size_is_that_of_the_weights(saved: Saved) -> None:
    text = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
    sizes = {int(size) for size in re.findall(rf"^\| `{saved.case.name}` .* (\d+) MB ", text, re.M)}
    assert len(sizes) == 1
    true = 4 * sum(tensor.numel() for tensor in saved.model.state_dict().values()) / 1e6
    assert sizes.pop() == pytest.approx(true, abs=1)
