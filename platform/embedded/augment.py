"""Augmentation of whole batches during pretraining.

Ranges are those of the frozen pretraining appearance. Beside them, and in no site's appearance: a stretch of at most
8 %, mirror images, compression blocks, covered boxes, and all that is done to pictures of nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ...medical_datasets.synthetic.appearance import (
    PRETRAINING_BRAIN,
    PRETRAINING_SKIN,
    BrainAppearance,
    SkinAppearance,
)

_Pair = tuple[float, float]


def _draw(span: _Pair, count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=generator) * (span[1] - span[0]) + span[0]


def _warp(batch: Tensor, zoom: _Pair, tilt: _Pair, shift: _Pair, pad: str, generator: torch.Generator) -> Tensor:
    count = batch.shape[0]
    scale = 1.0 / _draw(zoom, count, generator).flatten()
    stretch = 1.0 + 0.08 * (torch.rand(count, generator=generator) * 2 - 1)
    angle = torch.deg2rad(_draw(tilt, count, generator).flatten())
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    move = (torch.rand(count, 2, generator=generator) * 2 - 1) * shift[1]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    turn = torch.stack([torch.stack([cos * flip * stretch, -sin], 1), torch.stack([sin * flip, cos / stretch], 1)], 1)
    # The matrix says where each pixel comes from, so a displacement of what is seen goes through it, backwards.
    grid = F.affine_grid(torch.cat([turn, -turn @ move[:, :, None]], 2), list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode=pad, align_corners=False)


def _blur(batch: Tensor, span: _Pair, generator: torch.Generator, groups: int = 4) -> Tensor:
    size, channels = batch.shape[-1], batch.shape[1]
    out = []
    for part in batch.chunk(groups):
        sigma = float(_draw(span, 1, generator)) * size / 100.0
        if sigma < 0.3:
            out.append(part)
            continue
        steps = torch.arange(-3.0, 4.0)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        kernel = kernel / kernel.sum()
        across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        part = F.conv2d(F.pad(part, (3, 3, 0, 0), mode="replicate"), across, groups=channels)
        down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        out.append(F.conv2d(F.pad(part, (0, 0, 3, 3), mode="replicate"), down, groups=channels))
    return torch.cat(out)


def augment_brain(batch: Tensor, generator: torch.Generator, site: BrainAppearance = PRETRAINING_BRAIN) -> Tensor:
    """Scan a batch of clean slices.

    Args:
        batch: uint8 (n, 1, size, size).
        generator: source of every draw.
        site: ranges.

    Returns:
        float32 (n, 3, size, size) in [0, 1].
    """
    count, size = batch.shape[0], batch.shape[-1]
    grey = _warp(batch.float() / 255.0, site.zoom, site.tilt, site.shift, "zeros", generator)
    grey = _blur(grey, site.blur, generator)
    grey = (grey * _draw(site.gain, count, generator)).clamp_(1e-4, 1.0) ** _draw(site.gamma, count, generator)
    coarse = torch.randn(count, 1, 3, 3, generator=generator).clamp_(-2, 2) * _draw(site.bias, count, generator)
    grey = grey * torch.exp(F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True))
    grey = grey + _draw(site.floor, count, generator) * (1.0 - grey)
    level = _draw(site.noise, count, generator)
    first = torch.randn(grey.shape, generator=generator) * level
    grey = torch.sqrt((grey + first) ** 2 + first.roll((size // 3, size // 2), (2, 3)) ** 2)
    grey = _coarsen(grey, generator)
    turned = torch.rand(count, 1, 1, 1, generator=generator) < site.inverted[0]
    grey = torch.where(turned, 1.0 - grey, grey)
    return _hide(grey.clamp_(0.0, 1.0), generator).expand(-1, 3, -1, -1)


def augment_skin(batch: Tensor, generator: torch.Generator, site: SkinAppearance = PRETRAINING_SKIN) -> Tensor:
    """Photograph a batch of clean lesions; hair, ruler marks and bubbles come before, with :func:`lay_over`.

    Args:
        batch: uint8 (n, 3, size, size).
        generator: source of every draw.
        site: ranges.

    Returns:
        float32 (n, 3, size, size) in [0, 1].
    """
    count, size = batch.shape[0], batch.shape[-1]
    colour = _warp(batch.float() / 255.0, site.zoom, (-180.0, 180.0), site.shift, "reflection", generator)
    colour = _blur(colour, site.blur, generator)
    grey = colour.mean(1, keepdim=True)
    colour = (grey + (colour - grey) * _draw(site.saturation, count, generator)).clamp_(1e-4, 1.0)
    gains = torch.cat([_draw(span, count, generator) for span in (site.red, site.green, site.blue)], 1)
    colour = colour ** _draw(site.gamma, count, generator) * gains
    axis = torch.linspace(-1.0, 1.0, size)
    corner = (axis[:, None] ** 2 + axis[None, :] ** 2 - 0.45).clamp(min=0.0) * 1.1
    colour = colour * (1.0 - _draw(site.vignette, count, generator) * corner).clamp(0.0, 1.0)
    colour = colour + torch.randn(colour.shape, generator=generator) * _draw(site.noise, count, generator)
    return _hide(_coarsen(colour, generator).clamp_(0.0, 1.0), generator)


def augment_texture(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, turn, blur and recolour pictures of nothing.

    Args:
        batch: uint8 (n, 3, size, size).
        generator: source of every draw.

    Returns:
        float32 (n, 3, size, size) in [0, 1].
    """
    count = batch.shape[0]
    colour = _warp(batch.float() / 255.0, (0.9, 1.8), (-25.0, 25.0), (0.0, 0.2), "reflection", generator)
    colour = _blur(colour, (0.0, 0.9), generator)
    gains = 1.0 + 0.2 * (torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1)
    colour = colour.clamp_(1e-4, 1.0) ** _draw((0.7, 1.4), count, generator) * gains
    colour = colour + torch.randn(colour.shape, generator=generator) * _draw((0.0, 0.04), count, generator)
    return _hide(colour.clamp_(0.0, 1.0), generator)


def lay_over(batch: Tensor, overlays: Tensor, generator: torch.Generator, share: float = 0.6) -> Tensor:
    """Lay hair, ruler marks, bubbles or a dark field over a share of the pictures, each mirrored and turned at random.

    Args:
        batch: uint8 (n, 3, size, size).
        overlays: uint8 (m, 4, size, size): three colours, already multiplied by the opacity, and the opacity.
        generator: source of every draw.
        share: of pictures that get one.

    Returns:
        uint8 (n, 3, size, size).
    """
    count = batch.shape[0]
    if not len(overlays):
        return batch
    chosen = overlays[torch.randint(len(overlays), (count,), generator=generator)].float()
    turned = torch.randint(8, (count,), generator=generator).tolist()
    chosen = torch.stack(
        [
            (one.transpose(1, 2) if way & 1 else one).flip([axis for axis, bit in ((1, 2), (2, 4)) if way & bit])
            for one, way in zip(chosen, turned, strict=True)
        ]
    )
    shown = (torch.rand(count, 1, 1, 1, generator=generator) < share).float()
    colour, opacity = chosen[:, :3] * shown, chosen[:, 3:] * shown / 255.0
    return (batch.float() * (1.0 - opacity) + colour).round_().clamp_(0.0, 255.0).to(torch.uint8)


def _hide(batch: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Cover a box in a share of the pictures with one grey value (random erasing, Zhong et al. 2020)."""
    count, size = batch.shape[0], batch.shape[-1]
    middle = torch.rand(count, 2, 1, generator=generator) * size
    half = (torch.rand(count, 2, 1, generator=generator) * 0.11 + 0.04) * size
    axis = torch.arange(size).view(1, 1, -1)
    inside = (axis - middle).abs() < half
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & (torch.rand(count, 1, 1, generator=generator) < share)
    return torch.where(box[:, None], torch.rand(count, 1, 1, 1, generator=generator), batch)


def _coarsen(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Lossy-compression look for a random quarter of the pictures: 4-pixel blocks partly replaced by their mean."""
    count = batch.shape[0]
    chosen = torch.rand(count, 1, 1, 1, generator=generator) < 0.25
    share = torch.rand(count, 1, 1, 1, generator=generator) * 0.4 * chosen
    flat = F.interpolate(F.avg_pool2d(batch, 4), scale_factor=4.0, mode="nearest")
    return batch + (flat - batch) * share
