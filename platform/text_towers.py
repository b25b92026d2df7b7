"""Text towers that come from the transformers library, as BiomedCLIP's does, without asking a hub for them.

open_clip asks the hub for such a tower's configuration and tokenizer by name. Here both are looked for in the folder
of the weights first, so that one carried folder is all that a machine without a connection needs. What a fingerprint
covers is the content of these files, never the place or name they were found under.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import BackboneError
from .hub_cache import ALLOW_DOWNLOAD, hub_file, network_as_allowed

LIBRARY = "transformers"
TOWER_FOLDER = "text_tower"
TOWER_CONFIG = "config.json"
# One of these is a tokenizer; the others only say how to use it.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "vocab.json",
)
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
# Says where a configuration came from and which version wrote it, and nothing about the tower.
NEUTRAL_KEYS = frozenset({"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"})
HUB_KEYS = ("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained")
# Upper case, accents, digits, signs, other scripts and more tokens than any context: where tokenizers differ.
PROBES = (
    "A photo of Glioma, grade IV.",
    "Ménière's disease: 3.5 mm",
    "T2-weighted\tMRI  (axial)",
    "脑 Ж µ",
    "lesion " * 600,
)


@dataclass(frozen=True, slots=True)
class TextTower:
    """A tower of the transformers library, found on this machine.

    Attributes:
        settings: open_clip's ``text_cfg``, pointing at local folders.
        tokenizer: sentences to token numbers of shape (n, context length).
        identity: ``text_cfg`` for the fingerprint: without names and places, with what the files hold.
    """

    settings: dict[str, Any]
    tokenizer: Callable[[list[str]], torch.Tensor]
    identity: dict[str, Any]


def find_text_tower(config: Mapping[str, Any], folder: Path | None, *, model: str) -> TextTower | None:
    """The tower that an open_clip configuration names, or None where open_clip has all of it itself.

    Args:
        config: open_clip's ``model_cfg``.
        folder: where the weights lie; None for weights drawn at random.
        model: what to call the model in messages.

    Raises:
        BackboneError: the library is not installed, or the tower's files are not on this machine, are damaged or ask
            for code of their own.
    """
    text = dict(config["text_cfg"])
    if not (text.get("hf_model_name") or text.get("hf_tokenizer_name")):
        return None
    if importlib.util.find_spec(LIBRARY) is None:
        raise BackboneError(
            f"the text tower of {model} comes from the package {LIBRARY}, which is not installed",
            remedy='install it: pip install "wardround[biomedclip]"',
        )
    places = [] if folder is None else [folder / TOWER_FOLDER, folder]
    content, options = None, {}
    if text.get("hf_model_name"):
        place, content = _tower_config(str(text["hf_model_name"]), places, model)
        text |= {"hf_model_name": str(place), "hf_model_pretrained": False}
        options = {"config": place}
    # The tokenizer beside the weights is the one they were published with; the tower's own comes after it.
    source = _tokenizer_folder(str(text.get("hf_tokenizer_name") or text["hf_model_name"]), places[::-1], model)
    tokenizer = _tokenizer(source, text, model, **options)
    text["hf_tokenizer_name"] = str(source)
    identity = {key: value for key, value in text.items() if key not in HUB_KEYS}
    return TextTower(text, tokenizer, identity | {"tower": content, "tokenizer": _tokenizer_digest(tokenizer)})


def _tower_config(name: str, places: list[Path], model: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the tower's ``config.json`` and what it says, without what does not matter."""
    passed = []
    for place in places:
        content = _read(place / TOWER_CONFIG)
        # A repository of a CLIP often has a config.json of its own, for another library: it is not the tower's.
        if content is not None and _is_tower(content):
            return place, _essence(content)
        if content is not None:
            passed.append(str(place / TOWER_CONFIG))
    cached = _cached(name, (TOWER_CONFIG,))
    content = None if cached is None else _read(cached / TOWER_CONFIG)
    if cached is not None and content is not None and _is_tower(content):
        return cached, _essence(content)
    raise BackboneError(
        f"the configuration of the text tower of {model} ({name}, {TOWER_CONFIG}) is not on this machine",
        where=f"{passed[0]} is of another model" if passed else _looked_in(places),
        remedy=_carry_tower(name, places),
    )


def _is_tower(content: Mapping[str, Any]) -> bool:
    """A kind of model that open_clip can use as a text tower, and that asks for no code of its own."""
    from open_clip.hf_configs import arch_dict

    return content.get("model_type") in arch_dict and "auto_map" not in content


def _tokenizer_folder(name: str, places: list[Path], model: str) -> Path:
    for place in places:
        if any((place / file).is_file() for file in VOCABULARIES):
            return place
    cached = _cached(name, VOCABULARIES)
    if cached is None:
        raise BackboneError(
            f"the tokenizer of {model} ({name}: one of {', '.join(VOCABULARIES[:3])}) is not on this machine",
            where=_looked_in(places),
            remedy=_carry_tower(name, places),
        )
    for extra in TOKENIZER_EXTRAS:  # fetched where that is allowed; a tokenizer need not have them
        _cached(name, (extra,))
    return cached


def _tokenizer(
    source: Path, text: Mapping[str, Any], model: str, *, config: Path | None = None
) -> Callable[[list[str]], torch.Tensor]:
    """open_clip's wrapper of a tokenizer in a local folder; a tokenizer that needs code of its own is refused."""
    from open_clip.tokenizer import HFTokenizer
    from transformers import AutoConfig

    try:
        with network_as_allowed():
            tower = None if config is None else AutoConfig.from_pretrained(str(config), trust_remote_code=False)
            made: Callable[[list[str]], torch.Tensor] = HFTokenizer(
                str(source),
                context_length=text.get("context_length", 77),
                tokenizer_mode=text.get("tokenizer_mode"),
                trust_remote_code=False,
                **({} if tower is None else {"config": tower}),
                **(text.get("tokenizer_kwargs") or {}),
            )
    except Exception as error:  # the library raises many kinds; each means that these files make no tokenizer
        first = str(error).strip().splitlines()
        raise BackboneError(
            f"the tokenizer of {model} cannot be made: {first[0] if first else type(error).__name__}",
            where=str(source),
            remedy=f"carry {', '.join((*VOCABULARIES[:2], *TOKENIZER_EXTRAS[:2]))} over again, as many as there are",
        ) from error
    return made


def _tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over the vocabulary and over the token numbers of a few sentences that tell tokenizers apart."""
    words = sorted(tokenizer.tokenizer.get_vocab().items())
    numbers = tokenizer(list(PROBES)).tolist()
    return hashlib.sha256(json.dumps([words, numbers]).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise BackboneError(
            f"the text tower's configuration cannot be read: {error}", where=str(path), remedy="carry it over again"
        ) from error
    return content


def _essence(content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in NEUTRAL_KEYS}


def _cached(name: str, files: tuple[str, ...]) -> Path | None:
    """The folder in the hub's cache, or a folder that an edited configuration names, that holds one of the files."""
    named = Path(name).expanduser()
    if named.is_absolute():
        return named if any((named / file).is_file() for file in files) else None
    found = hub_file(name, files)
    return None if found is None else found.parent


def _looked_in(places: list[Path]) -> str:
    return "looked in " + ", ".join([*map(str, places), "the hub's local cache"])


def _carry_tower(name: str, places: list[Path]) -> str:
    """Commands that bring a tower's configuration and tokenizer, without its weights."""
    if Path(name).expanduser().is_absolute():
        return f"write the hub's name of the tower in place of {name}, or carry its files over to {TOWER_FOLDER}"
    target = next((str(place) for place in places if place.name == TOWER_FOLDER), "the folder of the weights")
    globs = (TOWER_CONFIG, "tokenizer*", "vocab*", "special_tokens_map.json", "*.model")
    includes = " ".join(f'--include "{glob}"' for glob in globs)
    return (
        f"on a machine with a connection run: pip install huggingface_hub && hf download {name} {includes} "
        f"--local-dir {TOWER_FOLDER} ; carry the folder {TOWER_FOLDER} over to {target}. "
        f"Where this machine itself may use the network, set {ALLOW_DOWNLOAD}=1"
    )
