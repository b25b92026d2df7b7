"""Weights from every place they may come from, and refusals that say what to do; never the network."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file
from wardround.platform import backbone_weights
from wardround.platform.backbone import Backbone, load_backbone
from wardround.platform.errors import BackboneError

NAME = "wardround-tiny-test"
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"size": 32, "mean": [0.2, 0.3, 0.4], "std": [0.5, 0.25, 0.2], "interpolation": "bilinear"}
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """open_clip knows a tiny model by name, the hub's cache is empty, and no one ordered a download."""
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(backbone_weights.ALLOW_DOWNLOAD, raising=False)
    path = tmp_path / f"{NAME}.json"
    path.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(path)
    yield
    factory._MODEL_CONFIG_PATHS.remove(path)
    factory._MODEL_CONFIGS.pop(NAME)


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: tensor.clone() for name, tensor in open_clip.CLIP(**CONFIG).state_dict().items()}


def save_hub_folder(folder: Path, *, binary: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": PREPROCESS}))
    if binary:
        torch.save(state(), folder / "open_clip_pytorch_model.bin")
    else:
        save_file(state(), folder / "open_clip_model.safetensors")
    return folder


def save_hub_cache(cache: Path, repository: str) -> None:
    """The layout of the hub's local cache: refs/main names a snapshot."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    save_hub_folder(root / "snapshots" / ("0" * 40))


def load(name: str, weights: str | Path | None, **options: Any) -> Backbone:
    return load_backbone(name, None if weights is None else str(weights), device="cpu", **options)


def test_files_of_every_kind_give_the_same_model(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    torch.save(state(), tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state().items()}}, tmp_path / "w.bin")
    loaded = [load(NAME, tmp_path / f"w{suffix}") for suffix in (".safetensors", ".pt", ".bin")]
    assert len({one.fingerprint for one in loaded}) == 1
    features = [one.encode_images(PICTURES) for one in loaded]
    assert all(np.array_equal(features[0], other) for other in features[1:])
    assert loaded[0].embed_dim == 24
    assert loaded[0].preprocessing.interpolation == "bicubic"  # open_clip's own, where a file brings none
    save_file(state(1), tmp_path / "other.safetensors")
    assert load(NAME, tmp_path / "other.safetensors").fingerprint != loaded[0].fingerprint


@pytest.mark.parametrize("binary", [False, True])
def test_a_folder_brings_its_own_model_and_preprocessing(tmp_path: Path, binary: bool) -> None:
    folder = save_hub_folder(tmp_path / "carried", binary=binary)
    loaded = load("a name of ours", folder)
    assert (loaded.preprocessing.height, loaded.preprocessing.interpolation) == (32, "bilinear")
    assert loaded.preprocessing.mean == (0.2, 0.3, 0.4)
    save_file(state(), tmp_path / "w.safetensors")
    tensors = load(NAME, tmp_path / "w.safetensors")
    assert np.array_equal(loaded.encode_texts(["a glioma"]), tensors.encode_texts(["a glioma"]))
    assert loaded.fingerprint != tensors.fingerprint  # another preprocessing


def test_a_folder_without_configuration_needs_the_models_name(tmp_path: Path) -> None:
    folder = save_hub_folder(tmp_path / "carried")
    (folder / "open_clip_config.json").unlink()
    assert load(NAME, folder).embed_dim == 24
    with pytest.raises(BackboneError, match="not a model that open_clip knows"):
        load("a name of ours", folder)


def test_a_folder_with_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="another model than ViT-B-32"):
        load("ViT-B-32", save_hub_folder(tmp_path / "carried"))


@pytest.mark.parametrize("broken", ["empty", "no json", "no model"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, broken: str) -> None:
    folder = save_hub_folder(tmp_path / "carried")
    if broken == "empty":
        (folder / "open_clip_model.safetensors").unlink()
    else:
        (folder / "open_clip_config.json").write_text("{" if broken == "no json" else "{}")
    with pytest.raises(BackboneError) as caught:
        load("ours", folder)
    assert str(folder) in caught.value.where
    assert caught.value.remedy


def test_the_hubs_local_cache_is_used_without_the_network(tmp_path: Path) -> None:
    save_hub_cache(tmp_path / "hub", "some/model")
    by_name, by_weights = load("hf-hub:some/model", None), load(NAME, "hf-hub:some/model")
    assert by_name.fingerprint == by_weights.fingerprint
    assert by_name.weights == "hf-hub:some/model"
    with pytest.raises(BackboneError, match="leave the weights out"):
        load("hf-hub:some/model", "openai")


@pytest.mark.parametrize(
    ("name", "weights", "commands"),
    [
        ("ViT-B-32", "openai", ("hf download timm/vit_base_patch32_clip_224.openai", 'name = "ViT-B-32"')),
        ("hf-hub:some/model", None, ("hf download some/model", "--local-dir model")),
    ],
)
def test_missing_weights_say_how_to_carry_them_over(name: str, weights: str | None, commands: tuple[str, ...]) -> None:
    with pytest.raises(BackboneError, match="not on this machine") as caught:
        load(name, weights)
    for part in (*commands, "open_clip_model.safetensors", "WARDROUND_ALLOW_DOWNLOAD=1"):
        assert part in caught.value.remedy


def test_a_download_happens_only_on_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool, bool]] = []

    def fetch(repository: str, file: str, *, local_files_only: bool) -> str:
        asked.append((file, local_files_only, hub.HF_HUB_OFFLINE))
        if local_files_only:
            raise FileNotFoundError
        return str(folder / file)

    folder = save_hub_folder(tmp_path / "fetched")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(BackboneError):
        load("hf-hub:some/model", None)
    assert asked
    assert all(local and offline for _, local, offline in asked)
    monkeypatch.setenv(backbone_weights.ALLOW_DOWNLOAD, "1")
    asked.clear()
    assert load("hf-hub:some/model", None).embed_dim == 24
    assert ("open_clip_model.safetensors", False, False) in asked
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not backbone_weights.downloads_allowed()


def test_the_offline_guard_restores_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    with backbone_weights.network_as_allowed():
        assert hub.HF_HUB_OFFLINE
        assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert not hub.HF_HUB_OFFLINE
    assert "HF_HUB_OFFLINE" not in os.environ
    assert os.environ["TRANSFORMERS_OFFLINE"] == "0"


def test_a_model_without_weights_is_refused_unless_asked_for() -> None:
    with pytest.raises(BackboneError, match="no weights were given"):
        load(NAME, None)
    drawn = load(NAME, None, allow_random=True)
    assert drawn.weights == "random"
    assert load(NAME, None, allow_random=True).fingerprint == drawn.fingerprint


@pytest.mark.parametrize(
    ("name", "weights", "part"),
    [
        ("ViT-B-23", "openai", "ViT-B-32"),
        ("ViT-B-32", "opnai", "did you mean openai"),
        (NAME, "nowhere.pt", "give a file or folder"),
        ("ViT-B-32", "models/nowhere", "is a path, and there is nothing at it"),
        ("embedded", "openai", "leave the weights out"),
        ("hf-hub:nothing", None, "organisation/name"),
        ("local-dir:/x", None, "not a model"),
    ],
)
def test_names_that_mean_nothing_are_refused_with_the_nearest(name: str, weights: str | None, part: str) -> None:
    with pytest.raises(BackboneError) as caught:
        load(name, weights)
    assert part in str(caught.value)


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"state_dict": Bomb(mark)}, tmp_path / "bomb.pt")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Bomb(mark)))
    for file in ("bomb.pt", "plain.bin"):
        with pytest.raises(BackboneError, match="more than plain tensors"):
            load(NAME, tmp_path / file)
    assert not mark.exists()


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:-100])
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(BackboneError, match=r"Missing key\(s\) in state_dict"):
        load(NAME, tmp_path / "foreign.safetensors")
    (tmp_path / "w.npz").write_bytes(b"PK")
    for file in ("cut.safetensors", "foreign.safetensors", "w.npz"):
        with pytest.raises(BackboneError) as caught:
            load(NAME, tmp_path / file)
        assert file in caught.value.where
        assert caught.value.remedy


def test_a_tag_brings_its_activation_and_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"hf_hub": "some/model/", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, NAME, {"tagged": entry})
    save_hub_cache(tmp_path / "hub", "some/model")
    tagged = load(NAME, "tagged")
    assert tagged.weights == "tagged"
    assert tagged.preprocessing.mean == (0.5, 0.5, 0.5)
    save_file(state(), tmp_path / "w.safetensors")
    plain = load(NAME, tmp_path / "w.safetensors")
    assert plain.preprocessing.mean == (0.5, 0.5, 0.5)  # all its tags agree
    assert not np.array_equal(plain.encode_texts(["glioma"]), tagged.encode_texts(["glioma"]))


def test_the_embedded_model_loads_and_repeats() -> None:
    pytest.importorskip("wardround.platform.embedded.architecture")
    from wardround.platform.embedded.architecture import FOLDER, WEIGHTS

    if not (FOLDER / WEIGHTS).is_file():
        pytest.skip("this checkout has no embedded weights yet")
    loaded = load_backbone()
    assert (loaded.name, loaded.weights, loaded.embed_dim) == ("embedded", "shipped", 512)
    size = loaded.preprocessing.height
    batch = np.random.default_rng(0).integers(0, 256, (19, size, size, 3), dtype=np.uint8)
    whole = loaded.encode_images(batch)
    assert np.array_equal(loaded.encode_images(batch[3:7]), whole[3:7])
    assert load_backbone().fingerprint == loaded.fingerprint
