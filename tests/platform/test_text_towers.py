"""BiomedCLIP's architecture, small and whole: a text tower of the transformers library out of one carried folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from wardround.platform.backbone import Backbone, load_backbone
from wardround.platform.errors import BackboneError
from wardround.platform.hub_cache import ALLOW_DOWNLOAD
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
    state_of,
)

library = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason='transformers is not installed: pip install "wardround[biomedclip]"',
)
BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
# The model_cfg of BiomedCLIP's repository, word for word; it names no interpolation.
CONFIG: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {
        "timm_model_name": "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "text_cfg": {
        "hf_model_name": BERT,
        "hf_tokenizer_name": BERT,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    },
}
SMALL = CONFIG | {"embed_dim": 48, "vision_cfg": CONFIG["vision_cfg"] | {"timm_model_name": "vit_tiny_patch16_224"}}
TOWER: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
SMALL_TOWER = TOWER | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 300,
}
# What the repository's config.json became when another library's files were added to it: no text tower's.
COMPOSITE = {
    "model_type": "clip",
    "auto_map": {"AutoModel": "modeling_biomed_clip.BiomedCLIPModel"},
    "text_config": {"model_type": "bert"},
}


def vocabulary(size: int) -> str:
    """A WordPiece vocabulary: BERT's special words, letters, a few words, and fillers up to the size."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += ["glioma", "healthy", "brain", "an", "mri", "of", "##oma", ".", ",", ":", "##5", "3"]
    return "\n".join([*words, *(f"[unused{at}]" for at in range(size - len(words)))]) + "\n"


def save_tower(folder: Path, tower: dict[str, Any]) -> Path:
    """The text tower's own repository, without its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(tower))
    (folder / "vocab.txt").write_text(vocabulary(tower["vocab_size"]))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return folder


def save_tokenizer(folder: Path, size: int) -> None:
    """The tokenizer's files of BiomedCLIP's repository: the library's own, with a tokenizer.json."""
    (folder / "vocab.txt").write_text(vocabulary(size))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 10**30}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special))


def save_biomedclip(root: Path, config: dict[str, Any], tower: dict[str, Any]) -> tuple[Path, Any]:
    """BiomedCLIP's repository as it can be fetched, carried with the tower's configuration in it; and the model."""
    source, folder = save_tower(root / "bert", tower), root / "carried"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}})
    )
    # open_clip's own way to such a model: the tower's name in the configuration is a local folder.
    text = config["text_cfg"] | {"hf_model_name": str(source), "hf_model_pretrained": False}
    model = drawn(f"local-dir:{folder}", text_cfg=text)
    # The real file still has this tensor, which the library no longer knows.
    extra = {"text.transformer.embeddings.position_ids": torch.arange(512)[None]}
    torch.save(state_of(model) | extra, folder / "open_clip_pytorch_model.bin")
    save_tokenizer(folder, tower["vocab_size"])
    (folder / "text_tower").mkdir()
    shutil.copy(source / "config.json", folder / "text_tower")
    return folder, model


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    root = tmp_path_factory.mktemp("biomedclip")
    with offline(root / "nothing"):
        yield save_biomedclip(root, SMALL, SMALL_TOWER)


@pytest.fixture
def carried(small: tuple[Path, Any], tmp_path: Path) -> Iterator[Path]:
    """A copy of the carried folder to change, and an empty hub cache."""
    with offline(tmp_path / "hub"):
        yield Path(shutil.copytree(small[0], tmp_path / "models" / "biomedclip"))


def load(weights: Path | str, name: str = "BiomedCLIP") -> Backbone:
    loaded = load_backbone(name, str(weights), device="cpu")
    loaded.batch_size = 2
    return loaded


def check_against_open_clip(loaded: Backbone, model: Any, folder: Path) -> None:
    from transformers import BertTokenizer

    tokens = BertTokenizer.from_pretrained(str(folder))(
        SENTENCES, max_length=256, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(loaded._tokenizer(SENTENCES), tokens)
    images, texts = own_features(model, tokens)
    batch = np.stack([loaded.prepare(rgb) for rgb in (picture(), picture()[::-1])])
    np.testing.assert_allclose(loaded.encode_images(batch), images, atol=5e-6)
    np.testing.assert_allclose(loaded.encode_texts(SENTENCES), texts, atol=5e-6)
    assert np.abs(texts[0] - texts[1]).max() > 1e-4
    wanted = Preprocessing(224, 224, CLIP_MEAN, CLIP_STD, interpolation="bicubic", resize_mode="shortest")
    assert loaded.preprocessing == wanted
    pixels = loaded.preprocessing.normalise(torch.from_numpy(batch))
    assert torch.equal(pixels, pixels_of({"size": 224, "mean": CLIP_MEAN, "std": CLIP_STD}))


@library
def test_a_carried_folder_is_all_that_is_needed(small: tuple[Path, Any], carried: Path) -> None:
    loaded = load(carried)
    assert loaded.embed_dim == 48
    check_against_open_clip(loaded, small[1], carried)


@library
@pytest.mark.slow
def test_biomedclip_as_it_really_is(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with offline(tmp_path / "hub"):
        folder, model = save_biomedclip(tmp_path, CONFIG, TOWER)
        AutoTokenizer.from_pretrained(str(folder)).backend_tokenizer.save(str(folder / "tokenizer.json"))
        loaded = load(folder)
        assert (loaded.embed_dim, len(model.state_dict())) == (512, len(loaded._model.state_dict()))
        check_against_open_clip(loaded, model, folder)
    for file in tmp_path.rglob("*.bin"):
        file.unlink()


@library
@pytest.mark.parametrize("way", ["moved", "in the root", "noted by another version", "edited names", "hub's cache"])
def test_two_hospitals_agree_on_the_fingerprint(small: tuple[Path, Any], carried: Path, way: str) -> None:
    """Where the files lie, and what wrote them, says nothing about the model."""
    here: Path | str = carried
    if way == "in the root":
        (carried / "text_tower" / "config.json").rename(carried / "config.json")
    elif way == "noted by another version":
        edit_json(carried / "text_tower" / "config.json", transformers_version="4.4.2", _name_or_path="/home/me/bert")
    elif way == "edited names":
        place = str(carried / "text_tower")
        text = SMALL["text_cfg"] | {"hf_model_name": place, "hf_tokenizer_name": place}
        edit_json(carried / "open_clip_config.json", model_cfg=SMALL | {"text_cfg": text})
    elif way == "hub's cache":
        cache = carried.parents[1] / "hub"
        save_cache(cache, BIOMEDCLIP, carried)
        save_cache(cache, BERT, carried / "text_tower")
        here = f"hf-hub:{BIOMEDCLIP}"
    assert load(here).fingerprint == load(small[0]).fingerprint


@library
@pytest.mark.parametrize("change", ["vocabulary", "case", "heads"])
def test_another_tokenizer_or_tower_has_another_fingerprint(
    small: tuple[Path, Any], carried: Path, change: str
) -> None:
    """None of these changes a tensor."""
    if change == "vocabulary":
        words = (carried / "vocab.txt").read_text().replace("glioma\nhealthy", "healthy\nglioma")
        (carried / "vocab.txt").write_text(words)
    elif change == "case":
        edit_json(carried / "tokenizer_config.json", do_lower_case=False)
    else:
        edit_json(carried / "text_tower" / "config.json", num_attention_heads=8)
    assert load(carried).fingerprint != load(small[0]).fingerprint


@library
def test_a_configuration_of_another_library_in_the_root_is_passed_over(small: tuple[Path, Any], carried: Path) -> None:
    (carried / "config.json").write_text(json.dumps(COMPOSITE))
    assert load(carried).fingerprint == load(small[0]).fingerprint
    shutil.rmtree(carried / "text_tower")
    with pytest.raises(BackboneError, match="is not on this machine") as caught:
        load(carried)
    assert "config.json is of another model" in caught.value.where


@library
def test_what_is_missing_is_named_with_the_commands_that_bring_it(carried: Path) -> None:
    shutil.rmtree(carried / "text_tower")
    with pytest.raises(BackboneError, match=r"text tower of BiomedCLIP .*config\.json") as caught:
        load(carried)
    assert str(carried) in caught.value.where
    for part in (
        f"hf download {BERT}",
        '--include "config.json"',
        str(carried / "text_tower"),
        "WARDROUND_ALLOW_DOWNL",
    ):
        assert part in caught.value.remedy
    save_tower(carried / "text_tower", SMALL_TOWER)
    for file in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (carried / file).unlink()
    assert load(carried).embed_dim == 48  # the tower's own tokenizer, where the folder has none
    (carried / "text_tower" / "vocab.txt").unlink()
    with pytest.raises(BackboneError, match=r"the tokenizer of BiomedCLIP .*vocab\.txt") as caught:
        load(carried)
    assert f'hf download {BERT} --include "config.json" --include "tokenizer*"' in caught.value.remedy


@library
def test_a_tokenizer_of_the_library_before_open_clips_own_tower(tmp_path: Path) -> None:
    """As SigLIP has it: only the tokenizer comes from the library, with options of its own."""
    text = {"context_length": 16, "vocab_size": 300, "width": 16, "heads": 2, "layers": 1}
    text |= {"hf_tokenizer_name": "some/model", "tokenizer_kwargs": {"strip_sep_token": True}}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    colours = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": colours}))
    torch.save(state_of(open_clip.CLIP(**config)), tmp_path / "open_clip_pytorch_model.bin")
    with offline(tmp_path / "hub"):
        with pytest.raises(BackboneError, match=r"the tokenizer of ours \(some/model: one of tokenizer\.json"):
            load(tmp_path, "ours")
        save_tokenizer(tmp_path, 300)
        loaded = load(tmp_path, "ours")
        tokens = loaded._tokenizer(["A healthy brain"])
        assert tokens.shape == (1, 16)
        assert set(tokens[0, :4].tolist()) >= {2, 58, 59}  # [CLS], healthy, brain
        assert 3 not in tokens  # [SEP] was stripped
        edit_json(tmp_path / "open_clip_config.json", model_cfg=config | {"text_cfg": text | {"tokenizer_kwargs": {}}})
        assert load(tmp_path, "ours").fingerprint != loaded.fingerprint


@library
def test_an_ordered_download_brings_the_tower_and_the_tokenizer(
    small: tuple[Path, Any], carried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(carried / "text_tower")
    tower = save_tower(carried.parent / "bert", SMALL_TOWER)
    asked: set[tuple[str, str]] = set()

    def fetch(repository: str, file: str, *, local_files_only: bool) -> str:
        asked.add((repository, file))
        found = {BIOMEDCLIP: carried, BERT: tower}[repository] / file
        if local_files_only or not found.is_file():
            raise LocalEntryNotFoundError(file)
        return str(found)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with pytest.raises(BackboneError, match="not on this machine"):
        load(f"hf-hub:{BIOMEDCLIP}")
    monkeypatch.setenv(ALLOW_DOWNLOAD, "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    asked.clear()
    assert load(f"hf-hub:{BIOMEDCLIP}").fingerprint == load(small[0]).fingerprint
    assert {(BIOMEDCLIP, "vocab.txt"), (BIOMEDCLIP, "tokenizer_config.json"), (BERT, "config.json")} <= asked


@library
def test_files_that_are_damaged_or_carry_code_are_refused(carried: Path) -> None:
    tower = carried / "text_tower" / "config.json"
    whole = tower.read_text()
    tower.write_text("{")
    with pytest.raises(BackboneError, match="cannot be read") as caught:
        load(carried)
    assert caught.value.where == str(tower)
    tower.write_text(json.dumps(SMALL_TOWER | {"auto_map": {"AutoModel": "evil.Model"}}))
    (carried / "text_tower" / "evil.py").write_text("raise SystemExit('code of the folder ran')")
    with pytest.raises(BackboneError, match="is not on this machine"):
        load(carried)
    tower.write_text(whole)
    (carried / "vocab.txt").unlink()
    (carried / "tokenizer.json").write_text("{")
    with pytest.raises(BackboneError, match="tokenizer of BiomedCLIP cannot be made") as caught:
        load(carried)
    assert caught.value.where == str(carried)


def test_without_the_library_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(BackboneError, match="transformers, which is not installed") as caught:
        load(tmp_path)
    assert 'pip install "wardround[biomedclip]"' in caught.value.remedy


def test_a_folder_with_a_tower_of_the_library_is_not_a_model_of_open_clips_own(tmp_path: Path) -> None:
    text = CONFIG["text_cfg"] | {"context_length": 77}
    config = CONFIG | {"text_cfg": text, "vision_cfg": open_clip.get_model_config("ViT-B-16")["vision_cfg"]}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(BackboneError, match="another model than ViT-B-16: only one of the two has a hf_model_name"):
        load(tmp_path, "ViT-B-16")
