"""Lesions of dermoscopy phantoms: the ground of stated colours, and the stated structures on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import skin_pigment as pigment
from . import skin_surface as surface
from . import skin_vessels as vessels
from .canvas import Array
from .skin_layers import BLUE, PINK, WHITE, YELLOW, Layers, Lesion, Tint
from .skin_looks import COLOUR_OF, STRUCTURES

Draw = Callable[[Lesion, Layers, np.random.Generator], None]
# In the order of drawing: what lies deep comes first.
_DRAW: dict[str, Draw] = {
    "pigment network": pigment.network,
    "atypical network": pigment.atypical_network,
    "globules": pigment.globules,
    "cerebriform ridges": pigment.cerebriform,
    "fingerprint lines": pigment.fingerprint,
    "streaks": pigment.streaks,
    "blotch": pigment.blotch,
    "dots": pigment.dots,
    "pseudonetwork": pigment.pseudonetwork,
    "leaf-like areas": pigment.leaves,
    "blue-grey nests": pigment.nests,
    "regression": pigment.regression,
    "blue-white veil": pigment.blue_white_veil,
    "strawberry pattern": vessels.strawberry,
    "red lacunae": vessels.lacunae,
    "dark clots": vessels.clots,
    "white patch": surface.white_patch,
    "arborising vessels": vessels.arborising,
    "dotted vessels": vessels.dotted,
    "hairpin vessels": vessels.hairpin,
    "coiled vessels": vessels.coiled,
    "comma vessels": vessels.comma,
    "irregular vessels": vessels.irregular,
    "white lines": surface.white_lines,
    "milia-like cysts": surface.milia,
    "comedo-like openings": surface.comedones,
    "white circles": surface.white_circles,
    "keratin mass": surface.keratin,
    "ulceration": surface.ulcer,
    "scale": surface.scale,
    "crust": surface.crust,
}
# Melanin and blood added, share of the skin's own melanin removed, opacity of a veil and its tint.
_RECIPES: dict[str, tuple[float, float, float, float, Tint]] = {
    "light brown": (0.48, 0.06, 0.0, 0.0, WHITE),
    "dark brown": (1.25, 0.12, 0.0, 0.0, WHITE),
    "black": (2.7, 0.2, 0.0, 0.4, (0.11, 0.085, 0.095)),
    "red": (0.0, 1.0, 0.4, 0.0, WHITE),
    "pink": (0.03, 0.32, 0.35, 0.15, PINK),
    "white": (0.0, 0.06, 0.7, 0.6, WHITE),
    "blue-grey": (0.65, 0.08, 0.1, 0.88, BLUE),
    "yellow": (0.12, 0.06, 0.4, 0.55, YELLOW),
    "skin-coloured": (0.07, 0.10, 0.1, 0.0, WHITE),
}


def draw_lesion(
    lesion: Lesion, out: Layers, colours: Sequence[str], structures: Sequence[str], rng: np.random.Generator
) -> None:
    """Draw the ground and then every structure, each from random numbers of its own.

    A structure therefore looks the same whether or not others are drawn.

    Args:
        lesion: where and how strong.
        out: what to draw into.
        colours: names of the ground colour and of further ones, at least one.
        structures: names of structures.
        rng: source of everything that the arguments leave open.
    """
    seeds = rng.integers(0, 2**62, len(STRUCTURES) + 1)
    _ground(lesion, out, _of_ground(colours, structures), np.random.default_rng(seeds[-1]))
    for name, draw in _DRAW.items():
        if name in structures:
            draw(lesion, out, np.random.default_rng(seeds[STRUCTURES.index(name)]))


def _of_ground(colours: Sequence[str], structures: Sequence[str]) -> tuple[str, ...]:
    """The ground's colour and those further ones that no structure brings with it."""
    brought = {COLOUR_OF.get(name) for name in structures}
    return (colours[0], *(name for name in colours[1:] if name not in brought))


def _ground(lesion: Lesion, out: Layers, colours: Sequence[str], rng: np.random.Generator) -> None:
    melanin, blood, cleared, opacity, tint = _RECIPES[colours[0]]
    parts: list[Array] = [np.full_like(lesion.depth, value) for value in (melanin, blood, cleared)]
    zones: list[tuple[Array, str]] = []
    for name in colours[1:]:
        zone = lesion.zone(rng, rng.uniform(0.2, 0.42), int(rng.integers(3, 7)), rng.uniform(1.0, 2.6))
        for part, value in zip(parts, _RECIPES[name][:3], strict=True):
            part += (np.float32(value) - part) * zone
        zones.append((zone, name))
    lopsided = np.float32((1.0 - lesion.symmetry) * 0.5 / lesion.size)
    c = lesion.canvas
    slope = (c.x * np.float32(np.cos(lesion.lean)) + c.y * np.float32(np.sin(lesion.lean))) * lopsided
    dome = lesion.depth * np.float32(rng.uniform(-0.15, 0.35) / lesion.size)
    patchy = np.float32(0.08 + 0.16 * (1.0 - lesion.symmetry))
    vary = np.float32(1.0) + slope + dome + patchy * lesion.noise(rng, 5) + np.float32(0.07) * lesion.noise(rng, 18)
    vary = np.clip(vary, 0.45, 1.7) * np.float32(lesion.strength)
    mask = lesion.mask
    out.melanin *= np.float32(1.0) - mask * parts[2]
    out.melanin += mask * parts[0] * vary
    out.blood += mask * parts[1] * vary
    grain = np.clip(np.float32(0.9) + np.float32(0.22) * lesion.noise(rng, 8), 0.2, 1.0)
    if opacity:
        rest = np.float32(1.0) - sum((zone for zone, _ in zones), np.zeros_like(mask)).clip(0.0, 1.0)
        out.veil(mask * rest * grain, tint, opacity)
    for zone, name in zones:
        if _RECIPES[name][3]:
            out.veil(mask * zone * grain, _RECIPES[name][4], _RECIPES[name][3])
