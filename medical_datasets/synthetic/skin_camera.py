"""What lies between the camera and the lesion: hair, ruler marks, gel bubbles and the edge of the field of view.

Everything is laid over the picture with an opacity that does not depend on the picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .canvas import Array
from .skin_layers import Points

_FINE = 2  # layers are drawn at this many times the picture's resolution
_HAIR = ((28, 21, 18), (58, 40, 28), (112, 78, 48), (196, 164, 116), (170, 166, 162))  # black to blond, and grey
_HAIR_ODDS = (0.36, 0.3, 0.14, 0.12, 0.08)


def lay_over(image: Image.Image, hairs: int, marks: int, bubbles: float, rng: np.random.Generator) -> Image.Image:
    """Lay hairs, ruler marks and bubbles over an RGB picture.

    Args:
        image: square RGB picture; returned as it is if there is nothing to lay over.
        hairs: number of hairs; marks: number of ruler ticks, none below 2; bubbles: 0 none to 1 many.
        rng: source of colours, places and thickness.
    """
    count = round(max(bubbles, 0.0) * 12.0)
    if hairs <= 0 and marks <= 1 and count == 0:
        return image
    size = image.size[0]
    layer = Image.new("RGBA", (size * _FINE, size * _FINE))
    _marks(ImageDraw.Draw(layer), size * _FINE, marks, rng)
    layer.alpha_composite(_bubbles(size * _FINE, count, rng))
    _hair(ImageDraw.Draw(layer), size * _FINE, hairs, rng)
    small = layer.resize((size, size), Image.Resampling.BOX)
    out = image.convert("RGBA")
    out.alpha_composite(small)
    return out.convert("RGB")


def field_of_view(colour: Array, strength: float, rng: np.random.Generator) -> Array:
    """Darken what lies outside the dermoscope's round field of view.

    Args:
        colour: float32 (size, size, 3).
        strength: 0 or less leaves the picture as it is; at 1 the field is narrower than the picture.
        rng: source of the field's place and softness.
    """
    if strength <= 0.0:
        return colour
    axis = np.linspace(-1.0, 1.0, colour.shape[0], dtype=np.float32)
    x, y = rng.normal(0.0, 0.06 * strength, 2).astype(np.float32)
    far = np.hypot(axis[:, None] - y, axis[None, :] - x)
    edge = (far - np.float32(1.42 - 0.5 * strength)) / np.float32(rng.uniform(0.02, 0.12))
    dark = np.clip(edge, 0.0, 1.0) * np.float32(min(1.0, 4.0 * strength))
    return np.asarray(colour * (np.float32(1.0) - dark)[:, :, None], dtype=np.float32)


def _bow(middle: Points, angle: float, reach: float, bend: Points) -> list[tuple[float, float]]:
    steps = np.linspace(0.0, 1.0, 11)[:, None]
    half = reach * np.array([np.cos(angle), np.sin(angle)])
    points = (1 - steps) ** 2 * (middle - half) + 2 * steps * (1 - steps) * (middle + bend) + steps**2 * (middle + half)
    return [(float(x), float(y)) for x, y in points]


def _hair(pen: ImageDraw.ImageDraw, size: int, hairs: int, rng: np.random.Generator) -> None:
    """Hairs of one person: one colour, one or two directions, fine to thick."""
    base = _HAIR[int(rng.choice(len(_HAIR), p=_HAIR_ODDS))]
    leans = rng.uniform(0.0, np.pi, 2)
    crossing, spread, thick = rng.random() < 0.5, rng.uniform(0.15, 0.7), rng.uniform(0.008, 0.02)
    for _ in range(hairs):
        lean = leans[int(crossing and rng.random() < 0.4)]
        angle, reach = float(lean + rng.normal(0.0, spread)), float(rng.uniform(0.2, 0.6) * size)
        line = _bow(rng.uniform(0.0, size, 2), angle, reach, rng.normal(0.0, 0.12 * size, 2))
        shade = int(rng.integers(-14, 15))
        red, green, blue = (max(0, value + shade) for value in base)
        width = max(1, round(thick * size * rng.uniform(0.7, 1.4)))
        pen.line(line, fill=(red, green, blue, int(rng.integers(200, 256))), width=width, joint="curve")


def _marks(pen: ImageDraw.ImageDraw, size: int, marks: int, rng: np.random.Generator) -> None:
    """Ticks of a ruler at the edge, with or without a base line, or of a round graticule."""
    if marks <= 1:
        return
    ink = (30, 28, 30, int(rng.integers(170, 256)))
    width = max(1, round(0.008 * size))
    if rng.random() < 0.3:
        radius, start = rng.uniform(0.35, 0.47) * size, rng.uniform(0.0, 2 * np.pi)
        for k in range(marks):
            way = np.array([np.cos(start + 0.09 * k), np.sin(start + 0.09 * k)])
            inner, outer = size / 2 + way * radius, size / 2 + way * (radius + (0.06 if k % 5 == 0 else 0.03) * size)
            pen.line([(inner[0], inner[1]), (outer[0], outer[1])], fill=ink, width=width)
        return
    step, along, x = rng.uniform(0.03, 0.06) * size, rng.uniform(0.0, 0.4) * size, rng.uniform(0.0, 0.06) * size
    flip, upright, based = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.4
    b = size - x if flip else x
    for k in range(marks):
        a, far = along + k * step, (0.1 if k % 5 == 0 else 0.06) * size * (-1 if flip else 1)
        pen.line([(b, a), (b + far, a)] if upright else [(a, b), (a, b + far)], fill=ink, width=width)
    if based:
        end = along + (marks - 1) * step
        pen.line([(b, along), (b, end)] if upright else [(along, b), (end, b)], fill=ink, width=width)


def _bubbles(size: int, count: int, rng: np.random.Generator) -> Image.Image:
    """Bubbles of immersion gel: a faint bright disc, a darker rim and a glint."""
    layer = Image.new("RGBA", (size, size))
    for _ in range(count):
        x, y = rng.uniform(0.0, size, 2)
        r = float(np.exp(rng.uniform(np.log(0.012), np.log(0.09)))) * size
        one = Image.new("RGBA", (size, size))
        pen = ImageDraw.Draw(one)
        rim = int(rng.integers(50, 110))
        pen.ellipse(
            (x - r, y - r, x + r, y + r),
            fill=(255, 250, 248, 28),
            outline=(70, 50, 48, rim),
            width=max(1, round(0.1 * r)),
        )
        gx, gy, g = x - 0.4 * r, y - 0.4 * r, max(0.18 * r, 0.004 * size)
        pen.ellipse((gx - g, gy - g, gx + g, gy + g), fill=(255, 255, 255, int(rng.integers(150, 245))))
        layer.alpha_composite(one)
    return layer
