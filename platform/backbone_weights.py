"""Where a frozen model's weights come from: the package, a local file or folder, a local hub cache, or the network.

The network is used only when the user orders it (``hub_cache.py``). Checkpoints are read as tensors, never as code.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .clip_configs import (
    CONFIG_FILE,
    PREPROCESS_KEYS,
    check_agreement,
    essence_of,
    folder_config,
    known_config,
    shared_preprocessing,
    ways_to_weights,
)
from .errors import BackboneError
from .hub_cache import ALLOW_DOWNLOAD, downloads_allowed, hub_file, network_as_allowed
from .preprocessing import Preprocessing
from .text_towers import TOKENIZER_EXTRAS, VOCABULARIES, find_text_tower

HUB_PREFIX = "hf-hub:"
FOLDER_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
SAFE_SUFFIX = ".safetensors"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded model and all that a Backbone is made from; ``config`` is what the fingerprint covers."""

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
    config = known_config(name)
    if weights is None:
        if not allow_random:
            raise BackboneError(
                f"no weights were given for {name}, and an untrained model cannot tell one picture from another",
                remedy=ways_to_weights(name),
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
        return _build(name, checkpoint, known_config(name), weights=weights)
    config = folder_config(folder / CONFIG_FILE)
    if name is not None:
        check_agreement(name, config, folder)
    return _build(f"local-dir:{folder}", checkpoint, config, weights=weights, shown=name or weights)


def _from_hub(repository: str, name: str | None) -> Parts:
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) is None:
        raise BackboneError(
            f"{HUB_PREFIX}{repository} is not of the form {HUB_PREFIX}organisation/name",
            remedy="copy the name from the model's page, letters, digits, dots, dashes and underscores",
        )
    config = hub_file(repository, (CONFIG_FILE,))
    checkpoint = hub_file(repository, FOLDER_WEIGHTS)
    if config is None or checkpoint is None:
        raise BackboneError(
            f"the weights of {HUB_PREFIX}{repository} are not on this machine"
            if not downloads_allowed()
            else f"{HUB_PREFIX}{repository} could not be fetched, or has no {CONFIG_FILE}",
            remedy=_carry_over(repository, None, name or repository.rpartition("/")[2]),
        )
    if downloads_allowed() and folder_config(config)["text_cfg"].get("hf_tokenizer_name"):
        for file in (*VOCABULARIES, *TOKENIZER_EXTRAS):  # those that there are
            hub_file(repository, (file,))
    return _from_folder(config.parent, name, weights=f"{HUB_PREFIX}{repository}")


def _from_tag(name: str, tag: str, config: dict[str, Any]) -> Parts:
    """Weights that open_clip knows by a tag; they are looked for in the local hub cache first."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    entry = get_pretrained_cfg(name, tag)
    if not entry and ("/" in tag or Path(tag).suffix in (SAFE_SUFFIX, *TORCH_SUFFIXES)):
        raise BackboneError(
            f'weights = "{tag}" is a path, and there is nothing at it',
            where=str(Path(tag).expanduser().absolute()),
            remedy="correct the path: give a file or folder; a tag has no slash",
        )
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
    checkpoint = hub_file(repository, wanted)
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

    chosen = shared_preprocessing(source) if preprocess is None else preprocess
    shown = shown or source
    tower = find_text_tower(config, None if checkpoint is None else checkpoint.parent, model=shown)
    try:
        # Drawn from seed 0 so that a model that is random on purpose is the same model twice.
        with network_as_allowed(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, _, _ = open_clip.create_model_and_transforms(
                source,
                # open_clip finds a folder's own checkpoint, by the order of FOLDER_WEIGHTS.
                None if checkpoint is None or source.startswith("local-dir:") else str(checkpoint),
                precision="fp32",
                device="cpu",
                force_quick_gelu=bool(config.get("quick_gelu", False)),
                pretrained_image=False,
                pretrained_text=False,
                weights_only=True,
                **{f"image_{key}": chosen.get(key) for key in PREPROCESS_KEYS},
                **({} if tower is None else {"text_cfg": tower.settings}),
            )
            tokenizer = open_clip.get_tokenizer(source) if tower is None else tower.tokenizer
    except ImportError as error:
        raise BackboneError(
            f"{shown} needs a package that is not installed: {error}",
            remedy=f"install it: pip install {error.name or 'transformers'}",
        ) from error
    except Exception as error:  # open_clip raises a dozen kinds; each means that this checkpoint is not this model
        # The first line of a list of misfits ends with a colon; the first misfit tells more.
        said = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
        raise BackboneError(
            f"{shown} cannot be loaded: {said[:400] or type(error).__name__}",
            where=weights,
            remedy="check that the weights belong to this model and were carried over whole",
        ) from error
    identity = config if tower is None else {**config, "text_cfg": tower.identity}
    return Parts(
        model, tokenizer, essence_of(identity), Preprocessing.from_config(model.visual.preprocess_cfg), weights
    )


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


def _carry_over(repository: str, file: str | None, name: str) -> str:
    folder = repository.rpartition("/")[2]
    target = f"{folder}/{file}" if file else folder
    what = file or f"{CONFIG_FILE} {FOLDER_WEIGHTS[0]}"
    other = "" if file else f" Where the repository has no {FOLDER_WEIGHTS[0]}, name {FOLDER_WEIGHTS[-1]} instead."
    return (
        "on a machine with a connection run: pip install huggingface_hub && "
        f"hf download {repository} {what} --local-dir {folder} ; "
        f'carry the folder {folder} over and set under [backbone] name = "{name}" and weights = "/path/to/{target}".'
        f"{other} docs/backbones.md goes through it, checksums included. "
        f"Where this machine itself may use the network, set {ALLOW_DOWNLOAD}=1"
    )
