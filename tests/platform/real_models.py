"""Randomly drawn models of real architectures, saved in each format that weights come in; and a network that is off."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import huggingface_hub.constants as hub
import numpy as np
import open_clip
import pytest
import torch
from open_clip.push_to_hf_hub import save_config_for_hf
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from wardround.platform.hub_cache import ALLOW_DOWNLOAD

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SENTENCES = ["an MRI of a glioma", "a healthy brain"]
COMMIT = "0" * 40


@contextmanager
def offline(cache: Path) -> Iterator[None]:
    """The hub's cache is in ``cache``, nobody ordered a download, and reaching for the network fails the test.

    One thread, too: several of them wait for one another where other work shares the cores.
    """
    attempts: list[str] = []
    threads = torch.get_num_threads()

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        attempts.append(repr(arguments[:2]))
        raise OSError("the network is off in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "HF_HUB_CACHE", str(cache))
        patch.delenv(ALLOW_DOWNLOAD, raising=False)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
    assert attempts == []


def drawn(source: str, *, seed: int = 0, half: bool = False, **options: Any) -> Any:
    """A model with every tensor drawn at random, also those that start as zeros or ones; eval mode, float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(source, pretrained_text=False, **options)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.ndim == 1 and tensor.is_floating_point():
                    tensor += 0.1 * torch.randn(tensor.shape)
                if name.endswith("bn3.weight"):  # zeros, which would switch a block off
                    tensor += 1
            _settle(model)
            for tensor in model.state_dict().values():
                if half and tensor.is_floating_point():
                    tensor.copy_(tensor.half())  # so that saving in half precision loses nothing
    return model.eval()


def _settle(model: Any) -> None:
    """Give batch normalisation the moments of real-looking pictures, as training would: else all look alike."""
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    if layers:
        for layer in layers:
            layer.momentum = 1.0
        model.train()
        model.encode_image(pixels_of(model.visual.preprocess_cfg))


def state_of(model: Any, *, half: bool = False) -> dict[str, torch.Tensor]:
    return {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }


def save_folder(folder: Path, model: Any, config: dict[str, Any], state: dict[str, torch.Tensor] | Path) -> Path:
    """A repository as open_clip writes it; ``state`` may be a .safetensors file, which is linked and not copied."""
    folder.mkdir(parents=True)
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    if isinstance(state, Path):
        os.link(state, folder / "open_clip_model.safetensors")
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


def save_cache(cache: Path, repository: str, *folders: Path) -> Path:
    """The hub's local cache: files lie under blobs, and links under snapshots give them their names."""
    root = cache / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text(COMMIT)
    for file in (file for folder in folders for file in folder.iterdir() if file.is_file()):
        blob = root / "blobs" / f"blob-of-{file.name.replace('.', '-')}"
        os.link(file, blob)
        (root / "snapshots" / COMMIT / file.name).symlink_to(Path("../..") / "blobs" / blob.name)
    return root / "snapshots" / COMMIT


def picture(width: int = 301, height: int = 257) -> np.ndarray:
    """Something like a photograph: smooth shading, an edge, a texture and noise; uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    disc = ((x - width * 0.45) ** 2 + (y - height * 0.55) ** 2) < (0.3 * height) ** 2
    grain = np.random.default_rng(5).normal(0, 6, (height, width, 3))
    shades = [120 + 90 * np.sin(x / 37 + k) * np.cos(y / 53) + 25 * np.sin((x + y) / (2 + k)) for k in range(3)]
    return np.clip(np.stack(shades, axis=2) + 60 * disc[:, :, None] * [1, -0.5, 0.2] + grain, 0, 255).astype(np.uint8)


def pixels_of(preprocess: dict[str, Any]) -> torch.Tensor:
    """The picture as open_clip's own inference transform prepares it, as a batch of two."""
    transform = image_transform_v2(PreprocessCfg(**preprocess), is_train=False)
    rgb = picture()
    return torch.stack([transform(Image.fromarray(rgb)), transform(Image.fromarray(rgb[::-1].copy()))])


def own_features(model: Any, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Image and text features by open_clip alone."""
    with torch.inference_mode():
        images = model.encode_image(pixels_of(model.visual.preprocess_cfg), normalize=True)
        return images.numpy(), model.encode_text(tokens, normalize=True).numpy()


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
