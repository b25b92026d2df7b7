"""The embedded CLIP model: built from a configuration file, loaded from the weights that ship beside it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import PlatformError
from .image_tower import ImageTower

FOLDER = Path(__file__).parent
WEIGHTS = "weights.safetensors"
CONFIG = "model.json"
VOCABULARY = "vocabulary.txt.gz"
Tokenizer = Callable[[str | list[str]], Tensor]


class EmbeddedModelError(PlatformError):
    """A file of the embedded model is missing, damaged, or does not fit the others."""


def read_config(folder: Path = FOLDER) -> dict[str, Any]:
    """Read ``model.json``: keys "model" (open_clip configuration) and "preprocess" (size, mean, std, interpolation).

    Raises:
        EmbeddedModelError: the file is missing, is no JSON, or lacks a key.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, f"the embedded model's configuration cannot be read ({type(error).__name__})") from error
    if not isinstance(config, dict) or not {"model", "preprocess"} <= config.keys():
        raise _broken(path, 'the embedded model\'s configuration lacks "model" or "preprocess"')
    return config


def build_model(config: Mapping[str, Any]) -> open_clip.CLIP:
    """Build the model with random weights, in train mode: open_clip's CLIP with our image tower in it.

    Args:
        config: "embed_dim", "text_cfg" as open_clip has them; "vision_cfg" with "layers", "width", "image_size" and
            "stages", the arguments of :class:`ImageTower`.
    """
    width, vision = int(config["embed_dim"]), config["vision_cfg"]
    # The tower that open_clip makes is thrown away at once; one block a stage keeps it small.
    smallest = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}
    model = open_clip.CLIP(embed_dim=width, vision_cfg=smallest, text_cfg=dict(config["text_cfg"]))
    model.visual = ImageTower(
        layers=vision["layers"],
        width=int(vision["width"]),
        image_size=int(vision["image_size"]),
        output_dim=width,
        stages=vision["stages"],
    )
    return model


def load_tokenizer(folder: Path = FOLDER, *, context_length: int) -> SimpleTokenizer:
    """Tokenizer of the embedded vocabulary: text or list of texts -> int64 (n, context_length).

    Raises:
        EmbeddedModelError: the vocabulary is missing or damaged.
    """
    path = folder / VOCABULARY
    try:
        with gzip.open(path) as stream:
            stream.read().decode("utf-8")
        return SimpleTokenizer(bpe_path=str(path), context_length=context_length)
    except (OSError, EOFError, ValueError) as error:
        raise _broken(path, f"the embedded vocabulary cannot be read ({type(error).__name__})") from error


def load_embedded(folder: Path = FOLDER) -> tuple[open_clip.CLIP, SimpleTokenizer]:
    """Load the embedded model, frozen and in eval mode, with float32 weights, and its tokenizer.

    Raises:
        EmbeddedModelError: a file is missing or damaged, or a tensor is missing, unknown, misshapen or not finite.
    """
    config = read_config(folder)["model"]
    try:
        model = build_model(config)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(folder / CONFIG, f"{CONFIG} describes no model: {error!r}") from error
    tokenizer = load_tokenizer(folder, context_length=int(config["text_cfg"]["context_length"]))
    if tokenizer.vocab_size != int(config["text_cfg"]["vocab_size"]):
        raise _broken(folder / VOCABULARY, f"the vocabulary has {tokenizer.vocab_size} tokens, {CONFIG} says otherwise")
    path = folder / WEIGHTS
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _broken(path, f"the embedded weights cannot be read ({type(error).__name__})") from error
    wanted = model.state_dict()
    for name in sorted(wanted.keys() ^ stored.keys()):
        raise _broken(path, f"tensor {name!r} is {'missing' if name in wanted else 'unknown'}")
    for name, tensor in stored.items():
        if tensor.shape != wanted[name].shape:
            raise _broken(path, f"tensor {name!r} has shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _broken(path, f"tensor {name!r} holds a value that is not finite")
    model.load_state_dict({name: tensor.to(wanted[name].dtype) for name, tensor in stored.items()})
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model, tokenizer


def _broken(path: Path, what: str) -> EmbeddedModelError:
    return EmbeddedModelError(
        what, where=str(path), remedy="reinstall wardround, or name another backbone in the study"
    )
