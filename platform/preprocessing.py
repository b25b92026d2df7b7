"""From a decoded picture to the encoder's input, exactly as the model's own configuration asks.

Geometry (resize, crop, pad) runs on 8-bit pixels, one image at a time, in decoding threads; scaling and normalisation
run on whole batches beside the encoder. Together they give the same numbers as open_clip's inference transform, which
is the oracle in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .errors import BackboneError

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a model expects of its input.

    Attributes:
        height: rows of the model's input, in pixels, > 0.
        width: columns of the model's input, in pixels, > 0.
        mean: per channel (red, green, blue), on the scale 0..1.
        std: per channel, on the scale 0..1, > 0.
        interpolation: "bicubic" or "bilinear", both with antialiasing.
        resize_mode: "shortest" (short edge to the input, centre crop), "longest" (long edge, padded) or "squash".
        fill_color: grey level 0..255 of the padding in "longest".
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise BackboneError(f"the input size {self.height} x {self.width} is not positive")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise BackboneError(f"mean {self.mean} and std {self.std} are not three channels with std above 0")
        if self.interpolation not in INTERPOLATIONS:
            raise BackboneError(
                f"interpolation {self.interpolation!r} is unknown",
                remedy=f"use one of {', '.join(INTERPOLATIONS)}",
            )
        if self.resize_mode not in RESIZE_MODES:
            raise BackboneError(
                f"resize mode {self.resize_mode!r} is unknown", remedy=f"use one of {', '.join(RESIZE_MODES)}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read open_clip's ``preprocess_cfg`` keys (size, mean, std, interpolation, resize_mode, fill_color).

        Raises:
            BackboneError: a key is missing or has a value that no transform exists for.
        """
        try:
            size = config["size"]
            height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
            mean, std = _triple(config["mean"]), _triple(config["std"])
            # open_clip ignores "random" at inference and takes bicubic.
            interpolation = str(config.get("interpolation") or "bicubic")
            interpolation = "bicubic" if interpolation == "random" else interpolation
            return cls(
                height=int(height),
                width=int(width),
                mean=mean,
                std=std,
                interpolation=interpolation,
                resize_mode=str(config.get("resize_mode") or "shortest"),
                fill_color=int(config.get("fill_color") or 0),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BackboneError(
                f"the model's preprocessing cannot be read: {error!r}",
                remedy="it needs size, mean and std, and may have interpolation, resize_mode and fill_color",
            ) from error

    def canonical(self) -> bytes:
        """The same bytes for the same preprocessing, for the fingerprint."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def geometry(self) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
        """A thread-safe function from uint8 (H, W, 3) of any size to uint8 (height, width, 3)."""
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import Normalize

        whole = image_transform_v2(
            PreprocessCfg(
                size=(self.height, self.width),
                mean=self.mean,
                std=self.std,
                interpolation=self.interpolation,
                resize_mode=self.resize_mode,
                fill_color=self.fill_color,
            ),
            is_train=False,
        ).transforms
        # open_clip ends every inference transform with: convert mode, to tensor, normalise. What comes before is the
        # geometry; the three are done in `normalise`, a batch at a time.
        if not isinstance(whole[-1], Normalize) or len(whole) < 4:
            raise BackboneError(
                "this version of open_clip builds its inference transform in another order",
                remedy="install the version of open_clip_torch that constraints.txt names",
            )
        steps = whole[:-3]

        def apply(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
            picture = _as_picture(rgb)
            for step in steps:
                picture = step(picture)
            if picture.mode != "RGB":
                # A grey picture has three equal channels: resized once, repeated here (np.repeat is ten times slower).
                grey = np.asarray(picture, dtype=np.uint8)
                three = np.empty((*grey.shape, 3), dtype=np.uint8)
                three[:] = grey[:, :, None]
                return three
            return np.array(picture, dtype=np.uint8)

        return apply

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """uint8 (n, height, width, 3) to float32 (n, 3, height, width): (pixel / 255 - mean) / std."""
        count, height, width, _ = batch.shape
        # Whole rows of pixels at a time: an innermost loop over three channels would be five times slower.
        mean = torch.tensor(self.mean * width, dtype=torch.float32, device=batch.device)
        std = torch.tensor(self.std * width, dtype=torch.float32, device=batch.device)
        rows = batch.reshape(count, height, width * 3).to(torch.float32).div_(255.0).sub_(mean).div_(std)
        # The permuted view of channel-last pixels already is PyTorch's channels_last format: no copy is needed.
        return rows.view(count, height, width, 3).permute(0, 3, 1, 2)


def _as_picture(rgb: NDArray[np.uint8]) -> Image.Image:
    """A Pillow picture; mode L where the three channels are equal, which resizes in a third of the time.

    Pillow resizes each 8-bit channel by itself with the same integer arithmetic, so the result has the same bits.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise BackboneError(f"a picture must be uint8 (H, W, 3) and not empty, not {rgb.dtype} {rgb.shape}")
    red = rgb[:, :, 0]
    # Half of colour pictures differ in the first row already, so the whole comparison is seldom made for nothing.
    if np.array_equal(rgb[0, :, 0], rgb[0, :, 2]) and _is_grey(rgb):
        return Image.fromarray(np.ascontiguousarray(red))
    return Image.fromarray(np.ascontiguousarray(rgb))


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    if rgb.strides[2] == 0:
        return True  # one memory for all channels
    return np.array_equal(rgb[:, :, 0], rgb[:, :, 1]) and np.array_equal(rgb[:, :, 0], rgb[:, :, 2])


def _triple(value: Any) -> tuple[float, float, float]:
    if isinstance(value, (int, float)):
        return (float(value), float(value), float(value))
    red, green, blue = (float(channel) for channel in value)
    return (red, green, blue)
