"""One frozen CLIP: load it by name, encode images and prompts with the same bits every time.

The encoder always sees batches of one shape (short ones are padded) and runs every operation on one thread, so that
neither the number of images, nor their neighbours, nor the number of cores changes a bit of a feature. Several cores
are used by encoding several batches at once (``features.py``), not by splitting one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import BackboneError
from .preprocessing import Preprocessing

ENCODER_VERSION = 1  # raised when a change of this code changes a feature of the same image and weights
CPU_BATCH = 16
CUDA_BATCH = 128

_REGION = threading.RLock()


@contextmanager
def fixed_numerics() -> Iterator[None]:
    """One thread per operation, plain float32 and deterministic kernels inside; the caller's settings after.

    The settings belong to the process, so only one thread is inside at a time (a thread may enter again).
    Threads started inside must call ``torch.set_num_threads(1)`` themselves, because OpenMP counts per thread.
    """
    with _REGION:
        threads = torch.get_num_threads()
        precision = torch.get_float32_matmul_precision()
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.set_num_threads(threads)


class Backbone:
    """A frozen image and text encoder with what identifies it.

    Attributes:
        name: model name as the study gives it, e.g. ``"embedded"`` or ``"ViT-B-32"``.
        weights: where the weights came from: a tag, file, folder or hub name; "shipped" or "random" otherwise.
        fingerprint: 64 hexadecimal digits, SHA-256 over weights, configuration, preprocessing and ENCODER_VERSION.
        embed_dim: width D of a feature.
        logit_scale: factor on the cosine similarity, exponential already applied; > 0.
        device: where it runs.
        preprocessing: what its input must look like.
        batch_size: rows of every batch that the encoder sees.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        *,
        name: str,
        weights: str,
        config: Mapping[str, Any],
        preprocessing: Preprocessing,
        device: torch.device,
    ) -> None:
        model = model.float().eval().requires_grad_(False)
        self.name = name
        self.weights = weights
        self.preprocessing = preprocessing
        self.device = device
        self.embed_dim = int(config["embed_dim"])
        self.logit_scale = _logit_scale(model)
        self.fingerprint = fingerprint(model.state_dict(), config, preprocessing)
        self.batch_size = CUDA_BATCH if device.type == "cuda" else CPU_BATCH
        self._model = model.to(device)
        # Convolutions read channels-last pixels a fifth faster on CPU; the weights' values are the same.
        self._model.visual.to(memory_format=torch.channels_last)
        self._tokenizer = tokenizer
        self._geometry = preprocessing.geometry()

    @property
    def model(self) -> torch.nn.Module:
        """The frozen CLIP itself, in eval mode: whoever trains it trains a copy."""
        return self._model  # type: ignore[no-any-return]

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Tokens of sentences, int64 (n, context length); longer sentences are cut off. (0, 1) for none."""
        return self._tokenizer(list(texts)) if texts else torch.zeros((0, 1), dtype=torch.long)

    def prepare(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop one uint8 (H, W, 3) picture to this model's input; thread-safe."""
        return self._geometry(rgb)

    def encode_images(self, batch: NDArray[np.uint8] | torch.Tensor) -> NDArray[np.float32]:
        """Unit-norm features of pictures.

        Args:
            batch: uint8 (n, height, width, 3) as :meth:`prepare` makes them, or float32 (n, 3, height, width) already
                normalised; n >= 0.

        Returns:
            float32 of shape (n, embed_dim), rows of norm 1.

        Raises:
            BackboneError: another shape or type, or a feature that is not finite or is zero.
        """
        rows = batch if isinstance(batch, torch.Tensor) else torch.from_numpy(np.require(batch, requirements="W"))
        height, width = self.preprocessing.height, self.preprocessing.width
        shape = (height, width, 3) if rows.dtype == torch.uint8 else (3, height, width)
        if rows.dtype not in (torch.uint8, torch.float32) or tuple(rows.shape[1:]) != shape:
            raise BackboneError(
                f"a batch of {rows.dtype} {tuple(rows.shape)} does not fit {self.name}",
                remedy=f"pass uint8 (n, {height}, {width}, 3) or float32 (n, 3, {height}, {width})",
            )
        with fixed_numerics():
            return self._in_batches(rows, self.encode_prepared)

    def encode_prepared(self, rows: torch.Tensor) -> NDArray[np.float32]:
        """Encode at most ``batch_size`` checked rows; the caller is inside :func:`fixed_numerics`."""
        with torch.inference_mode():
            full = _padded(rows, self.batch_size).to(self.device)
            pixels = self.preprocessing.normalise(full) if full.dtype == torch.uint8 else full
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            return self._unit(self._model.encode_image(pixels), rows.shape[0])

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit-norm features of sentences, float32 of shape (n, embed_dim)."""
        tokens = self.tokenize(texts)

        def encode(rows: torch.Tensor) -> NDArray[np.float32]:
            with torch.inference_mode():
                full = _padded(rows, self.batch_size).to(self.device)
                return self._unit(self._model.encode_text(full), rows.shape[0])

        with fixed_numerics():
            return self._in_batches(tokens, encode)

    def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """One text feature per class: the mean of its prompts' unit-norm features, normalised again.

        Args:
            prompts: K classes of at least one sentence each.

        Returns:
            float32 of shape (K, embed_dim), rows of norm 1.

        Raises:
            BackboneError: no class, a class without a sentence, or sentences that cancel out.
        """
        if not prompts:
            raise BackboneError("there are no classes to write prompts for")
        for index, sentences in enumerate(prompts):
            if isinstance(sentences, str) or not sentences or not all(line.strip() for line in sentences):
                raise BackboneError(
                    "a class needs a list of prompts, none of them empty", where=f"class number {index}"
                )
        features = self.encode_texts([line for sentences in prompts for line in sentences]).astype(np.float64)
        bounds = np.cumsum([0, *(len(sentences) for sentences in prompts)])
        means = np.stack([features[a:b].mean(axis=0) for a, b in itertools.pairwise(bounds)])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        if not (norms > 1e-6).all():
            raise BackboneError("the prompts of a class cancel out", where=f"class number {int(norms.argmin())}")
        return np.asarray(means / norms, dtype=np.float32)

    def _in_batches(
        self, rows: torch.Tensor, encode: Callable[[torch.Tensor], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        parts = [encode(rows[at : at + self.batch_size]) for at in range(0, rows.shape[0], self.batch_size)]
        return np.concatenate(parts) if parts else np.zeros((0, self.embed_dim), dtype=np.float32)

    def _unit(self, raw: torch.Tensor, count: int) -> NDArray[np.float32]:
        # Row by row in float64 on the host: the norm must not depend on how a device sums.
        values = raw[:count].to("cpu", torch.float32).numpy().astype(np.float64)
        norms = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
        if values.shape[1] != self.embed_dim or not np.isfinite(norms).all() or not (norms > 0).all():
            raise BackboneError(
                f"{self.name} made a feature that is not finite, is zero or is not {self.embed_dim} wide",
                remedy="the weights are damaged or belong to another model: load them again",
            )
        return np.asarray(values / norms, dtype=np.float32)


def load_backbone(
    name: str = "embedded", weights: str | None = None, *, device: str = "auto", allow_random: bool = False
) -> Backbone:
    """Load a frozen CLIP.

    Args:
        name: ``"embedded"`` (ships with the package), an open_clip model name such as ``"ViT-B-32"``, or
            ``"hf-hub:org/name"``.
        weights: None for "embedded" and "hf-hub:…"; else an open_clip tag (``"openai"``), a local file (.safetensors,
            .pt, .pth, .bin), a local folder with ``open_clip_config.json``, or ``"hf-hub:org/name"``.
        device: ``"auto"`` (CUDA where there is one, else CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        allow_random: accept a model without trained weights; they are then drawn from seed 0.

    Raises:
        BackboneError: unknown model, weights that cannot be had without the network, do not fit or are not safe to
            read, or no such device. The message says what to do.
    """
    from .backbone_weights import load_parts  # open_clip takes seconds to import

    where = choose_device(device)
    parts = load_parts(name, weights, allow_random=allow_random)
    return Backbone(
        parts.model,
        parts.tokenizer,
        name=name,
        weights=parts.weights,
        config=parts.config,
        preprocessing=parts.preprocessing,
        device=where,
    )


def choose_device(device: str) -> torch.device:
    """``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` as a device that exists here."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise BackboneError(f"device {device!r} is unknown", remedy="use auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise BackboneError(f"device {device!r} is not supported", remedy="use auto, cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BackboneError(
            f"device {device!r} was asked for and this machine has {torch.cuda.device_count()} CUDA devices",
            remedy='use "auto" or "cpu", or install a CUDA build of torch and its driver',
        )
    return chosen


def fingerprint(state: Mapping[str, torch.Tensor], config: Mapping[str, Any], preprocessing: Preprocessing) -> str:
    """SHA-256 over ENCODER_VERSION, configuration, preprocessing and every tensor's name, type, shape and bytes.

    Tensors are taken in order of their names. The configuration is part of it because it decides what the weights do
    not show, such as the number of heads and the activation.
    """
    digest = hashlib.sha256(f"wardround encoder {ENCODER_VERSION}\n".encode())
    for block in (json.dumps(config, sort_keys=True, default=str).encode(), preprocessing.canonical()):
        digest.update(len(block).to_bytes(8, "little") + block)
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        header = json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode()
        digest.update(len(header).to_bytes(8, "little") + header)
        # A view as bytes: works for every dtype, and reshape(-1) keeps scalars in.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _padded(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Repeat zeros after the rows up to ``size``; a full batch is returned as it is."""
    missing = size - rows.shape[0]
    if missing == 0:
        return rows
    return torch.cat([rows, torch.zeros((missing, *rows.shape[1:]), dtype=rows.dtype)])


def _logit_scale(model: Any) -> float:
    scale = float(model.logit_scale.detach().double().exp().reshape(-1)[0])
    if not math.isfinite(scale) or scale <= 0:
        raise BackboneError(f"the model's logit scale {scale} is not a positive number")
    return scale
