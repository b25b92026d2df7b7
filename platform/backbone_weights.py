"""Where a frozen model's weights come from: the package, a local file or folder, a local hub cache, or the network.

The network is used only when the user orders it with ``WARDROUND_ALLOW_DOWNLOAD=1``; everything else happens with the
hub's client in offline mode. Checkpoints are read as tensors only, never as code.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import BackboneError
from .preprocessing import Preprocessing

ALLOW_DOWNLOAD = "WARDROUND_ALLOW_DOWNLOAD"
HUB_PREFIX = "hf-hub:"
CONFIG_FILE = "open_clip_config.json"
FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
SAFE_SUFFIX = ".safetensors"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded model and all that a Backbone is made from."""

    model: Any
    tokenizer: Callable[[list[str]], torch.Tensor]
    config: Mapping[str, Any]
    preprocessing: Preprocessing
    weights: str


def load_parts(name: str, weights: str | None, *, allow_random: bool = False) -> Parts:
    """Find, check and load a model; see ``backbone.load_backbone`` for the arguments and errors."""
    if name == "embedded":
        return _embedded(weights)
    if name.startswith(HUB_PREFIX):
        if weights is not None:
            raise BackboneError(
                f"{name} brings its own weights and weights = {weights!r} was given as well",
                remedy="leave the weights out",
            )
        return _from_hub(name.removeprefix(HUB_PREFIX), None)
    if weights is not None and weights.startswith(HUB_PREFIX):
        return _from_hub(weights.removeprefix(HUB_PREFIX), name)
    path = None if weights is None else Path(weights).expanduser()
    if path is not None and path.is_dir():
        return _from_folder(path, name, weights=str(weights))
    config = _known_config(name)
    if weights is None:
        if not allow_random:
            raise BackboneError(
                f"no weights were given for {name}, and an untrained model cannot tell one picture from another",
                remedy=_ways(name),
            )
        return _build(name, None, config, weights="random")
    if path is not None and path.is_file():
        _check_checkpoint(path)
        return _build(name, path, config, weights=weights)
    return _from_tag(name, weights, config)


def _embedded(weights: str | None) -> Parts:
    if weights is not None:
        raise BackboneError(
            f'the embedded model has its own weights and weights = "{weights}" was given as well',
            remedy='leave the weights out, or name the model they belong to, e.g. backbone.name = "ViT-B-32"',
        )
    from .embedded.architecture import load_embedded, read_config

    config = read_config()
    model, tokenizer = load_embedded()
    return Parts(model, tokenizer, config["model"], Preprocessing.from_config(config["preprocess"]), "shipped")


def _from_folder(folder: Path, name: str | None, *, weights: str) -> Parts:
    """A folder in the hub's layout; without a configuration of its own, the named model's is used."""
    checkpoint = next((folder / file for file in FOLDER_WEIGHTS if (folder / file).is_file()), None)
    if checkpoint is None:
        raise BackboneError(
            "the folder holds no weights",
            where=str(folder),
            remedy=f"it needs one of {', '.join(FOLDER_WEIGHTS)}, with {CONFIG_FILE} beside it",
        )
    _check_checkpoint(checkpoint)
    if not (folder / CONFIG_FILE).is_file():
        if name is None:
            raise BackboneError(f"the folder has no {CONFIG_FILE}", where=str(folder), remedy="carry it over too")
        return _build(name, checkpoint, _known_config(name), weights=weights)
    config = _folder_config(folder / CONFIG_FILE)
    if name is not None:
        _agree(name, config, folder)
    return _build(f"local-dir:{folder}", None, config, weights=weights, shown=name or weights)


def _folder_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise KeyError("embed_dim, vision_cfg or text_cfg")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"the model's configuration cannot be read: {error!r}",
            where=str(path),
            remedy="carry the file over again; it is JSON with model_cfg and preprocess_cfg",
        ) from error
    return dict(config)


def _agree(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder that holds another model than the study names; a name of the user's own says nothing."""
    from open_clip.factory import get_model_config

    known = None if ":" in name else get_model_config(name)
    if known is None:
        return
    for section in (None, "vision_cfg", "text_cfg"):
        ours, theirs = (known, config) if section is None else (known[section], config[section])
        for key in ("embed_dim", "width", "layers", "patch_size", "image_size", "context_length", "vocab_size"):
            if key in ours and key in theirs and ours[key] != theirs[key]:
                raise BackboneError(
                    f"the folder holds another model than {name}: {key} is {theirs[key]} and not {ours[key]}",
                    where=str(folder / CONFIG_FILE),
                    remedy="name the model that these weights belong to, or carry over the right folder",
                )


def _from_hub(repository: str, name: str | None) -> Parts:
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise BackboneError(f"{HUB_PREFIX}{repository} is not of the form {HUB_PREFIX}organisation/name")
    config = _hub_file(repository, (CONFIG_FILE,))
    checkpoint = _hub_file(repository, FOLDER_WEIGHTS)
    if config is None or checkpoint is None:
        raise BackboneError(
            f"the weights of {HUB_PREFIX}{repository} are not on this machine"
            if not downloads_allowed()
            else f"{HUB_PREFIX}{repository} could not be fetched, or has no {CONFIG_FILE}",
            remedy=_carry_over(repository, None, name or repository.rpartition("/")[2]),
        )
    return _from_folder(config.parent, name, weights=f"{HUB_PREFIX}{repository}")


def _from_tag(name: str, tag: str, config: dict[str, Any]) -> Parts:
    """Weights that open_clip knows by a tag; they are looked for in the local hub cache first."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    entry = get_pretrained_cfg(name, tag)
    if not entry:
        tags = list_pretrained_tags_by_model(name)
        close = difflib.get_close_matches(tag, tags, n=1)
        raise BackboneError(
            f'weights = "{tag}" is no file, no folder and no tag of {name}',
            remedy=(f"did you mean {close[0]}? " if close else "")
            + (f"tags of {name}: {', '.join(tags)}" if tags else f"{name} has no tags: give a file or folder"),
        )
    repository, _, file = str(entry["hf_hub"]).rpartition("/")
    wanted = (Path(file).with_suffix(SAFE_SUFFIX).name, file) if file else FOLDER_WEIGHTS
    checkpoint = _hub_file(repository, wanted)
    if checkpoint is None:
        missing = "could not be fetched" if downloads_allowed() else "are not on this machine"
        raise BackboneError(
            f'the weights "{tag}" of {name} {missing}', remedy=_carry_over(repository, file or None, name)
        )
    _check_checkpoint(checkpoint)
    # A tag says which activation it was trained with; open_clip only warns when the model's differs, and the features
    # are then quietly worse.
    quick = bool(entry.get("quick_gelu", False) or config.get("quick_gelu", False))
    return _build(name, checkpoint, config | {"quick_gelu": quick}, weights=tag, preprocess=entry)


def _build(
    source: str,
    checkpoint: Path | None,
    config: dict[str, Any],
    *,
    weights: str,
    preprocess: Mapping[str, Any] | None = None,
    shown: str | None = None,
) -> Parts:
    """Let open_clip make the model and its tokenizer, without the network unless it is allowed."""
    import open_clip

    keys = ("mean", "std", "interpolation", "resize_mode")
    chosen = _shared_preprocessing(source) if preprocess is None else preprocess
    try:
        # Drawn from seed 0 so that a model that is random on purpose is the same model twice.
        with network_as_allowed(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, _, _ = open_clip.create_model_and_transforms(
                source,
                None if checkpoint is None else str(checkpoint),
                precision="fp32",
                device="cpu",
                force_quick_gelu=bool(config.get("quick_gelu", False)),
                pretrained_image=False,
                pretrained_text=False,
                weights_only=True,
                **{f"image_{key}": chosen.get(key) for key in keys},
            )
            tokenizer = open_clip.get_tokenizer(source)
    except ImportError as error:
        raise BackboneError(
            f"{shown or source} needs a package that is not installed: {error}",
            remedy=f"install it: pip install {error.name or 'transformers'}",
        ) from error
    except Exception as error:  # open_clip raises a dozen kinds; each means that this checkpoint is not this model
        first = str(error).strip().splitlines()
        raise BackboneError(
            f"{shown or source} cannot be loaded: {first[0] if first else type(error).__name__}",
            where=weights,
            remedy="check that the weights belong to this model and were carried over whole",
        ) from error
    return Parts(model, tokenizer, config, Preprocessing.from_config(model.visual.preprocess_cfg), weights)


def _shared_preprocessing(name: str) -> dict[str, Any]:
    """What all tags of a model agree on, for a local file without a configuration (SigLIP differs from CLIP)."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    entries = [get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name)]
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {
        key: entries[0].get(key)
        for key in keys
        if entries and all(entry.get(key) == entries[0].get(key) for entry in entries)
    }


def _known_config(name: str) -> dict[str, Any]:
    from open_clip import list_models
    from open_clip.factory import get_model_config

    config = None if ":" in name else get_model_config(name)
    if config is None:
        close = difflib.get_close_matches(name, ["embedded", *list_models()], n=3, cutoff=0.5)
        raise BackboneError(
            f'backbone.name = "{name}" is not a model that open_clip knows',
            remedy=f"did you mean {', '.join(close)}?" if close else 'use "embedded", or a name such as "ViT-B-32"',
        )
    return dict(config)


def _check_checkpoint(path: Path) -> None:
    """Refuse what could run code or is not a checkpoint, before open_clip opens it."""
    if path.suffix == SAFE_SUFFIX:
        return
    if path.suffix not in TORCH_SUFFIXES:
        raise BackboneError(
            f"{path.suffix or 'a file without a suffix'} is not a kind of checkpoint that is read here",
            where=str(path),
            remedy=f"use {SAFE_SUFFIX}, or {', '.join(TORCH_SUFFIXES)} with plain tensors",
        )
    try:
        # Tensors only: open_clip asks for the same, but falls back to a full unpickling on some errors.
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise BackboneError(
            "the checkpoint is damaged, or holds more than plain tensors (a TorchScript archive or pickled code)",
            where=str(path),
            remedy="carry it over again, or take the .safetensors file of the same weights",
        ) from error


def downloads_allowed() -> bool:
    """True when the user ordered downloads with WARDROUND_ALLOW_DOWNLOAD=1 and did not set the hub offline."""
    return os.environ.get(ALLOW_DOWNLOAD) == "1" and os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0")


@contextmanager
def network_as_allowed() -> Iterator[None]:
    """Keep the hub's client offline inside, unless downloads are allowed."""
    import huggingface_hub.constants as hub

    if downloads_allowed():
        yield
        return
    # The client reads its variable once, at import, so the constant is set as well as the variables that other
    # libraries read.
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    before, constant = {name: os.environ.get(name) for name in names}, hub.HF_HUB_OFFLINE
    os.environ.update(dict.fromkeys(names, "1"))
    hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = constant
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _hub_file(repository: str, files: Sequence[str]) -> Path | None:
    """The first of ``files`` that is in the local hub cache, or, when allowed, that can be fetched."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    for local in (True, False) if downloads_allowed() else (True,):
        for file in files:
            try:
                with network_as_allowed():
                    return Path(hf_hub_download(repository, file, local_files_only=local))
            except (EntryNotFoundError, HfHubHTTPError, ConnectionError, FileNotFoundError):
                continue
    return None


def _carry_over(repository: str, file: str | None, name: str) -> str:
    folder = repository.rpartition("/")[2]
    what = file or f'--include "{CONFIG_FILE}" --include "open_clip_model.safetensors"'
    target = f"{folder}/{file}" if file else folder
    return (
        "on a machine with a connection run: pip install huggingface_hub && "
        f"hf download {repository} {what} --local-dir {folder} ; "
        f'carry the folder {folder} over and set under [backbone] name = "{name}" and weights = "/path/to/{target}". '
        f"Where this machine itself may use the network, set {ALLOW_DOWNLOAD}=1"
    )


def _ways(name: str) -> str:
    from open_clip.pretrained import list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    return (
        f"set weights to {'a tag (' + ', '.join(tags[:4]) + '), ' if tags else ''}"
        "a local file or a folder, or allow_random = true under [backbone]"
    )
