"""What model an open_clip configuration describes: by name, in a carried folder, and for the fingerprint."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import BackboneError
from .text_towers import HUB_KEYS

CONFIG_FILE = "open_clip_config.json"
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


def known_config(name: str) -> dict[str, Any]:
    """``model_cfg`` of a model that open_clip knows by name; any other name is refused with the nearest ones."""
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


def folder_config(path: Path) -> dict[str, Any]:
    """``model_cfg`` of a carried ``open_clip_config.json``; one that describes no model is refused."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise KeyError("embed_dim, vision_cfg or text_cfg")
        if not (isinstance(config["vision_cfg"], dict) and isinstance(config["text_cfg"], dict)):
            raise TypeError("vision_cfg and text_cfg must be objects")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackboneError(
            f"the model's configuration cannot be read: {error!r}",
            where=str(path),
            remedy="carry the file over again; it is JSON with model_cfg and preprocess_cfg",
        ) from error
    return dict(config)


def check_agreement(name: str, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder that holds another model than the study names; a name of the user's own says nothing."""
    from open_clip.factory import get_model_config

    known = None if ":" in name else get_model_config(name)
    if known is None:
        return
    for section in (None, "vision_cfg", "text_cfg"):
        ours, theirs = (known, config) if section is None else (known[section], config[section])
        for key in ("timm_model_name", "hf_model_name"):
            if (key in ours) != (key in theirs):
                raise BackboneError(
                    f"the folder holds another model than {name}: only one of the two has a {key}",
                    where=str(folder / CONFIG_FILE),
                    remedy="name the model that these weights belong to, or carry over the right folder",
                )
        for key in ("embed_dim", "width", "layers", "patch_size", "image_size", "context_length", "vocab_size"):
            if key in ours and key in theirs and ours[key] != theirs[key]:
                raise BackboneError(
                    f"the folder holds another model than {name}: {key} is {theirs[key]} and not {ours[key]}",
                    where=str(folder / CONFIG_FILE),
                    remedy="name the model that these weights belong to, or carry over the right folder",
                )


def shared_preprocessing(name: str) -> dict[str, Any]:
    """What all tags of a model agree on, for a local file without a configuration (SigLIP differs from CLIP)."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    entries = [get_pretrained_cfg(name, tag) for tag in list_pretrained_tags_by_model(name)]
    return {
        key: entries[0].get(key)
        for key in PREPROCESS_KEYS
        if entries and all(entry.get(key) == entries[0].get(key) for entry in entries)
    }


def ways_to_weights(name: str) -> str:
    """What to write for the weights of a model that open_clip knows."""
    from open_clip.pretrained import list_pretrained_tags_by_model

    tags = list_pretrained_tags_by_model(name)
    return (
        f"set weights to {'a tag (' + ', '.join(tags[:4]) + '), ' if tags else ''}"
        "a local file or a folder, or allow_random = true under [backbone]"
    )


def essence_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration for the fingerprint: without what says nothing about the model that its weights make.

    Left out are open_clip's defaults, spelled out or not, and what to start training from. So a tag, a file, a folder
    and a hub's repository of the same weights have one fingerprint.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    essence = {key: value for key, value in config.items() if key != "quick_gelu" or value}
    for section, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        idle = asdict(kind()) | dict.fromkeys(("timm_model_pretrained", *HUB_KEYS), ...)
        essence[section] = {
            key: value
            for key, value in config[section].items()
            if key not in idle or (idle[key] is not ... and value != idle[key])
        }
    return essence
