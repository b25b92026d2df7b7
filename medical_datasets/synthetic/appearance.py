"""What a site's scanner or camera does to a clean phantom, and the ranges that keep the demo away from pretraining.

A range is a pair (low, high); every picture draws its own value from the ranges of its site. The embedded model was
trained on :data:`PRETRAINING_BRAIN` and :data:`PRETRAINING_SKIN`, augmentation included; the demo's sites draw from
:data:`DEMO_BRAIN` and :data:`DEMO_SKIN`. Where the two do not overlap, the demo shows the model something new.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from .canvas import Array, smooth_noise
from .skin_camera import field_of_view, lay_over

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class BrainAppearance:
    """Ranges of a scanner.

    Attributes:
        gamma: exponent on grey values; above 1 darkens the middle tones.
        gain: factor on grey values.
        floor: grey value of the air outside the head.
        bias: strength of the slow shading across the picture.
        noise: standard deviation of the noise, as a fraction of full scale (Rician: it lifts the black).
        blur: standard deviation of the point spread, in hundredths of the picture's side.
        zoom: magnification; tilt: rotation in degrees; shift: displacement as a fraction of half the picture.
        uptake: how much of a tumour's own grey value shows; 1 all of it, 0 none (dose and timing of contrast agent).
        inverted: probability that black and white are exchanged, as a single value twice.
        crop: how far the picture is cut to the head and stretched to fill the square; 0 leaves it, 1 cuts to the
            head's bounding box, below 0 adds as wide a border.
        ghosting: strength of motion ghosts along one axis, as a fraction of the picture's grey values.
        ringing: share, in [0, 1], of the edge ripples that a truncated spatial spectrum gives (Gibbs).
    """

    gamma: Range = (1.0, 1.0)
    gain: Range = (1.0, 1.0)
    floor: Range = (0.0, 0.0)
    bias: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    blur: Range = (0.0, 0.0)
    zoom: Range = (1.0, 1.0)
    tilt: Range = (0.0, 0.0)
    shift: Range = (0.0, 0.0)
    uptake: Range = (1.0, 1.0)
    inverted: Range = (0.0, 0.0)
    crop: Range = (0.0, 0.0)
    ghosting: Range = (0.0, 0.0)
    ringing: Range = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class SkinAppearance:
    """Ranges of a camera and of the people before it.

    Attributes:
        red, green, blue: channel gains (the cast of light and white balance).
        gamma: exponent on values; above 1 darkens the middle tones.
        saturation: 1 leaves colour as it is, 0 is grey.
        vignette: darkening towards the corners, in [0, 1].
        hairs: number of hairs; marks: number of ruler ticks.
        tone: melanin of the skin, in [0, 1].
        blur: standard deviation of the point spread, in hundredths of the picture's side.
        noise: standard deviation of the noise, as a fraction of full scale.
        zoom: magnification; shift: displacement as a fraction of half the picture.
        field: edge of the round field of view: 0 or less none, 1 strong; ranges that start below 0 leave some without.
        bubbles: bubbles of immersion gel with their glints: 0 or less none, 1 many.
    """

    red: Range = (1.0, 1.0)
    green: Range = (1.0, 1.0)
    blue: Range = (1.0, 1.0)
    gamma: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    vignette: Range = (0.0, 0.0)
    hairs: Range = (0.0, 0.0)
    marks: Range = (0.0, 0.0)
    tone: Range = (0.0, 0.5)
    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    zoom: Range = (1.0, 1.0)
    shift: Range = (0.0, 0.0)
    field: Range = (0.0, 0.0)
    bubbles: Range = (0.0, 0.0)


SiteAppearance = BrainAppearance | SkinAppearance

PRETRAINING_BRAIN = BrainAppearance(
    gamma=(0.6, 1.7), gain=(0.55, 1.15), floor=(0.0, 0.06), bias=(0.0, 0.3), noise=(0.0, 0.045), blur=(0.0, 0.9),
    zoom=(0.9, 1.4), tilt=(-20.0, 20.0), shift=(0.0, 0.12), uptake=(0.7, 1.1), inverted=(0.05, 0.05),
    crop=(-0.4, 1.0), ghosting=(0.0, 0.08), ringing=(0.0, 0.6),
)  # fmt: skip
PRETRAINING_SKIN = SkinAppearance(
    red=(0.85, 1.1), green=(0.82, 1.08), blue=(0.8, 1.2), gamma=(0.6, 1.4), saturation=(0.6, 1.2),
    vignette=(0.0, 0.5), hairs=(0.0, 6.0), marks=(0.0, 10.0), tone=(0.0, 0.3), blur=(0.0, 0.9), noise=(0.0, 0.03),
    zoom=(0.85, 1.8), shift=(0.0, 0.15), field=(-0.6, 0.8), bubbles=(-0.6, 0.8),
)  # fmt: skip
DEMO_BRAIN = BrainAppearance(
    gamma=(1.5, 1.9), gain=(1.16, 1.3), floor=(0.0, 0.05), bias=(0.25, 0.36), noise=(0.048, 0.056), blur=(1.0, 1.3),
    zoom=(0.95, 1.2), tilt=(-10.0, 10.0), shift=(0.0, 0.06), uptake=(1.15, 1.5), inverted=(0.0, 0.0),
)  # fmt: skip
DEMO_SKIN = SkinAppearance(
    red=(0.58, 0.7), green=(0.85, 1.05), blue=(1.05, 1.35), gamma=(1.41, 1.7), saturation=(1.3, 1.6),
    vignette=(0.52, 0.7), hairs=(7.0, 11.0), marks=(0.0, 6.0), tone=(0.36, 0.46), blur=(1.2, 1.5),
    noise=(0.04, 0.055), zoom=(0.95, 1.4), shift=(0.0, 0.1), field=(-0.2, 0.3), bubbles=(-0.2, 0.3),
)  # fmt: skip


def draw(span: Range, rng: np.random.Generator) -> float:
    """One value from a range."""
    return float(rng.uniform(*span))


def disjoint(first: SiteAppearance, second: SiteAppearance) -> tuple[str, ...]:
    """Names of the parameters whose ranges have no value in common."""
    names = []
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        if a[1] < b[0] or b[1] < a[0]:
            names.append(item.name)
    return tuple(names)


def narrow(wide: SiteAppearance, share: float, rng: np.random.Generator) -> SiteAppearance:
    """A site's own ranges: inside ``wide``, each ``share`` of its width, placed at random."""
    kept = {}
    for item in fields(wide):
        low, high = getattr(wide, item.name)
        start = low + (high - low) * (1.0 - share) * float(rng.random())
        kept[item.name] = (round(start, 4), round(start + (high - low) * share, 4))
    return type(wide)(**kept)


def reframe(picture: NDArray[np.uint8], zoom: float, tilt: float, dx: float, dy: float) -> NDArray[np.uint8]:
    """Magnify, turn (degrees) and shift (fractions of half the picture); what comes into view is black."""
    size = picture.shape[0]
    half, angle = size / 2.0, np.deg2rad(tilt)
    c, s = float(np.cos(angle)) / zoom, float(np.sin(angle)) / zoom
    ox, oy = half * (1.0 + dx), half * (1.0 + dy)
    image = Image.fromarray(picture)
    matrix = (c, s, half - c * ox - s * oy, -s, c, half + s * ox - c * oy)
    turned = image.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(turned)


def scan(picture: NDArray[np.uint8], site: BrainAppearance, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pass a clean slice through a site's scanner.

    Args:
        picture: uint8 (size, size, 3) with equal channels.
        site: ranges to draw from (``uptake`` is applied when the slice is drawn, not here).
        rng: source of every draw.

    Returns:
        uint8 (size, size, 3) with equal channels.
    """
    size = picture.shape[0]
    plain = np.ascontiguousarray(picture[:, :, 0])
    if site.crop != (0.0, 0.0):
        plain = _cut_to_head(plain, draw(site.crop, rng))
    shift = draw(site.shift, rng)
    framed = reframe(
        plain,
        draw(site.zoom, rng),
        draw(site.tilt, rng),
        shift * float(rng.uniform(-1, 1)),
        shift * float(rng.uniform(-1, 1)),
    )
    grey: Array = framed.astype(np.float32) * np.float32(1.0 / 255.0)
    if site.ghosting != (0.0, 0.0) or site.ringing != (0.0, 0.0):
        grey = _ghost_and_ring(grey, draw(site.ghosting, rng), draw(site.ringing, rng), rng)
    sigma = draw(site.blur, rng) * size / 100.0
    if sigma > 0.25:
        grey = gaussian_filter(grey, sigma, truncate=3.0)
    grey = np.clip(grey * np.float32(draw(site.gain, rng)), 0.0, 1.0) ** np.float32(draw(site.gamma, rng))
    strength = draw(site.bias, rng)
    if strength > 0.0:
        grey = grey * np.exp(np.float32(strength) * np.clip(smooth_noise(rng, size, 1), -2.0, 2.0))
    grey = grey + np.float32(draw(site.floor, rng)) * (np.float32(1.0) - grey)
    noise = draw(site.noise, rng)
    if noise > 0.0:
        parts = rng.standard_normal((2, size, size), dtype=np.float32) * np.float32(noise)
        grey = np.sqrt((grey + parts[0]) ** 2 + parts[1] ** 2)
    if rng.random() < site.inverted[0]:
        grey = np.float32(1.0) - grey
    out = (np.clip(grey, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    return np.repeat(out[:, :, None], 3, axis=2)


def _cut_to_head(picture: NDArray[np.uint8], crop: float) -> NDArray[np.uint8]:
    """Move the frame towards the box round what is not black (``crop`` 1), or away from it (below 0)."""
    size = picture.shape[0]
    filled = picture > 24
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if crop == 0.0 or rows.size < size // 8 or columns.size < size // 8:
        return picture
    if crop < 0.0:
        pad = round(-crop * size / 2.0)
        wide = Image.fromarray(np.pad(picture, pad))
        return np.asarray(wide.resize((size, size), Image.Resampling.BILINEAR))
    left, right = crop * float(columns[0]), size - crop * float(size - 1 - columns[-1])
    top, bottom = crop * float(rows[0]), size - crop * float(size - 1 - rows[-1])
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(image)


def _ghost_and_ring(grey: Array, ghosting: float, ringing: float, rng: np.random.Generator) -> Array:
    """Motion ghosts along one axis and the ripples of a truncated spectrum; float32 (size, size) in, the same out."""
    size, axis = grey.shape[0], int(rng.integers(2))
    step = int(rng.integers(size // 8, size // 2))
    if ghosting > 0.0:
        grey = grey + np.float32(0.5 * ghosting) * (np.roll(grey, step, axis) + np.roll(grey, -step, axis))
    if ringing > 0.0:
        spectrum = np.fft.rfft2(grey)
        kept = float(rng.uniform(0.5, 0.9)) * 0.5
        low = (np.abs(np.fft.fftfreq(size))[:, None] < kept) & (np.fft.rfftfreq(size)[None, :] < kept)
        cut = np.fft.irfft2(spectrum * low, s=grey.shape).astype(np.float32)
        grey = grey + np.float32(ringing) * (cut - grey)
    return np.clip(grey, 0.0, None)


def photograph(picture: NDArray[np.uint8], site: SkinAppearance, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pass a clean lesion through a site's camera: framing, hair, ruler, vignette, cast, blur and noise.

    Args:
        picture: uint8 RGB (size, size, 3).
        site: ranges to draw from (``tone`` is applied when the lesion is drawn, not here).
        rng: source of every draw.

    Returns:
        uint8 RGB (size, size, 3).
    """
    size = picture.shape[0]
    shift = draw(site.shift, rng)
    image = Image.fromarray(
        _crop(picture, draw(site.zoom, rng), shift * rng.uniform(-1, 1), shift * rng.uniform(-1, 1))
    )
    hairs, marks = round(draw(site.hairs, rng)), round(draw(site.marks, rng))
    image = lay_over(image, hairs, marks, draw(site.bubbles, rng), rng)
    colour: Array = np.asarray(image).astype(np.float32) * np.float32(1.0 / 255.0)
    colour = field_of_view(colour, draw(site.field, rng), rng)
    sigma = draw(site.blur, rng) * size / 100.0
    if sigma > 0.25:
        colour = gaussian_filter(colour, (sigma, sigma, 0.0), truncate=3.0)
    grey = colour.mean(axis=2, keepdims=True)
    colour = np.clip(grey + (colour - grey) * np.float32(draw(site.saturation, rng)), 0.0, 1.0)
    gains = np.array([draw(site.red, rng), draw(site.green, rng), draw(site.blue, rng)], dtype=np.float32)
    colour = colour ** np.float32(draw(site.gamma, rng)) * gains
    strength = draw(site.vignette, rng)
    if strength > 0.0:
        axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
        corner = np.clip((axis[:, None] ** 2 + axis[None, :] ** 2) - np.float32(0.45), 0.0, None) * np.float32(1.1)
        colour = colour * np.clip(np.float32(1.0) - np.float32(strength) * corner, 0.0, 1.0)[:, :, None]
    noise = draw(site.noise, rng)
    if noise > 0.0:
        colour = colour + rng.standard_normal(colour.shape, dtype=np.float32) * np.float32(noise)
    return (np.clip(colour, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)


def _crop(picture: NDArray[np.uint8], zoom: float, dx: float, dy: float) -> NDArray[np.uint8]:
    size = picture.shape[0]
    pad = max(0, int(np.ceil(size * (max(1.0 / zoom, 1.0) + abs(dx) + abs(dy) - 1.0) / 2.0)) + 2)
    wide = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    side, middle = size / zoom, pad + size / 2.0
    left, top = middle + dx * size / 2.0 - side / 2.0, middle + dy * size / 2.0 - side / 2.0
    box = (max(left, 0.0), max(top, 0.0), min(left + side, wide.shape[1]), min(top + side, wide.shape[0]))
    resized = Image.fromarray(wide).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)
