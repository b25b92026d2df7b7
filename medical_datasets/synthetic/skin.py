"""Dermoscopy phantoms: one lesion on skin, drawn from parameters by a small model of pigment and blood.

Colour comes from absorption: skin is a bright surface, melanin and haemoglobin darken its channels unequally
(transmission is exp(-absorbance x concentration)), and scattering structures (scale, scar, blue-white veil) are laid
over it. The same few maps therefore give brown nets, black blotches, red lacunae and grey-blue veils.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .canvas import Array, Canvas, smooth_noise
from .skin_lesions import LESIONS, Layers

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
KINDS = {
    "akiec": ("scaly", "strawberry", "crusted", "pigmented"),
    "bcc": ("nodular", "superficial", "pigmented", "ulcerated"),
    "bkl": ("cerebriform", "cystic", "flat", "dark"),
    "df": ("white patch", "ring", "pink"),
    "mel": ("superficial", "nodular", "regressing", "amelanotic"),
    "nv": ("reticular", "globular", "homogeneous", "two-toned"),
    "vasc": ("lacunar", "homogeneous", "thrombosed", "spider"),
}
_MELANIN = np.array([0.55, 0.98, 1.35], dtype=np.float32)
_BLOOD = np.array([0.16, 1.15, 0.85], dtype=np.float32)
_BASE = np.array([0.94, 0.83, 0.81], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class SkinPhantom:
    """Everything that decides a photograph before the camera touches it.

    Attributes:
        label: one of :data:`CLASSES`.
        kind: one of ``KINDS[label]``.
        size: lesion radius as a fraction of half the picture.
        tone: melanin of the skin around it, in [0, 1]; 0 is the fairest.
        redness: blood in the skin around it, in [0, 1].
        damage: sun damage in [0, 1]: spots and uneven colour, grows with age.
        strength: how much pigment or blood the lesion holds, about 1.
    """

    label: str
    kind: str
    size: float
    tone: float
    redness: float
    damage: float
    strength: float


def draw_skin(
    label: str, rng: np.random.Generator, *, age: float = 50.0, tone: tuple[float, float] = (0.0, 0.5)
) -> SkinPhantom:
    """Draw the parameters of a photograph of class ``label``; ``tone`` bounds the skin's melanin."""
    size = {"df": (0.22, 0.5), "vasc": (0.16, 0.5), "nv": (0.22, 0.6)}.get(label, (0.28, 0.7))
    return SkinPhantom(
        label=label,
        kind=str(rng.choice(KINDS[label])),
        size=float(rng.uniform(*size)),
        tone=float(rng.uniform(*tone)),
        redness=float(rng.beta(1.6, 2.6)),
        damage=float(np.clip((age - 30.0) / 70.0 + 0.15 * rng.standard_normal(), 0.0, 1.0)),
        strength=float(rng.uniform(0.65, 1.3)),
    )


def another_photograph(phantom: SkinPhantom, rng: np.random.Generator) -> SkinPhantom:
    """The same lesion photographed again: another distance and pressure."""
    return replace(
        phantom,
        size=float(np.clip(phantom.size * rng.uniform(0.85, 1.15), 0.12, 0.8)),
        redness=float(np.clip(phantom.redness + rng.uniform(-0.1, 0.1), 0.0, 1.0)),
    )


def render_skin(phantom: SkinPhantom, rng: np.random.Generator, size: int = 112) -> NDArray[np.uint8]:
    """Draw a lesion as a clean camera would give it.

    Args:
        phantom: what to draw.
        rng: source of everything that the parameters leave open.
        size: pixels per side, at least 32.

    Returns:
        uint8 RGB array of shape (size, size, 3).
    """
    c = Canvas(size)
    c.x = c.x - np.float32(rng.normal(0.0, 0.1))
    c.y = c.y - np.float32(rng.normal(0.0, 0.1))
    gentle = np.float32(0.03)
    c.bend(gentle * smooth_noise(rng, size, 3), gentle * smooth_noise(rng, size, 3))
    layers = _skin(c, phantom, rng)
    LESIONS[phantom.label](c, layers, phantom.kind, phantom.size, phantom.strength, rng)
    return _develop(layers)


def _skin(c: Canvas, phantom: SkinPhantom, rng: np.random.Generator) -> Layers:
    size = c.size
    uneven = smooth_noise(rng, size, 4)
    fine = smooth_noise(rng, size, 40)
    melanin = np.float32(0.03 + 1.15 * phantom.tone) * (np.float32(1.0) + np.float32(0.08) * uneven)
    melanin += np.float32(0.03) * fine
    blood = np.float32(0.04 + 0.28 * phantom.redness) * (
        np.float32(1.0) + np.float32(0.22) * smooth_noise(rng, size, 6)
    )
    blood += np.float32(0.03) * smooth_noise(rng, size, 26)
    if phantom.damage > 0.35:
        spots = np.clip(smooth_noise(rng, size, 9) - np.float32(1.1), 0.0, 1.0)
        melanin += np.float32(0.4 * phantom.damage) * spots
        blood += np.float32(0.07 * phantom.damage) * smooth_noise(rng, size, 12)
    if rng.random() < 0.35:  # creases of the skin
        lines = np.abs(np.sin((c.x * rng.uniform(-1, 1) + c.y) * rng.uniform(20, 45) + np.float32(1.5) * uneven))
        melanin += np.float32(0.05) * (np.float32(1.0) - lines)
    return Layers(melanin=melanin, blood=blood, veils=[])


def _develop(layers: Layers) -> NDArray[np.uint8]:
    melanin, blood = np.maximum(layers.melanin, 0.0), np.maximum(layers.blood, 0.0)
    absorbed = melanin[:, :, None] * _MELANIN + blood[:, :, None] * _BLOOD
    colour: Array = _BASE * np.exp(-absorbed)
    for mask, tint in layers.veils:
        colour += (np.asarray(tint, dtype=np.float32) - colour) * mask[:, :, None]
    return (np.clip(colour, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
