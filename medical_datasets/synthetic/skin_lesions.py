"""Lesions of dermoscopy phantoms: what each diagnosis adds to the skin's melanin, blood and surface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .canvas import Array, Canvas, ridges, smooth_noise

Tint = tuple[float, float, float]
WHITE: Tint = (0.95, 0.90, 0.89)
YELLOW: Tint = (0.90, 0.76, 0.56)
BLUE: Tint = (0.40, 0.44, 0.56)
PINK: Tint = (0.92, 0.68, 0.70)


@dataclass(slots=True)
class Layers:
    """What a lesion is made of: two pigments, and veils laid over them in order.

    Attributes:
        melanin, blood: float32 (size, size), absorber concentration, at least 0 when developed.
        veils: pairs of a float32 mask in [0, 1] and the tint that shows where it is 1.
    """

    melanin: Array
    blood: Array
    veils: list[tuple[Array, Tint]] = field(default_factory=list)


Draw = Callable[[Canvas, Layers, str, float, float, np.random.Generator], None]


def _body(c: Canvas, size: float, rough: float, rng: np.random.Generator, cells: int = 7, longer: float = 1.5) -> Array:
    """Depth inside a lesion: an ellipse with an uneven border."""
    stretch = float(np.sqrt(rng.uniform(1.0, longer)))
    uneven = np.float32(rough) * smooth_noise(rng, c.size, cells) + np.float32(0.35 * rough) * smooth_noise(
        rng, c.size, 3 * cells
    )
    whole = c.window(0.0, 0.0, 9.0, 9.0)
    return c.level(whole, 0.0, 0.0, size * stretch, size / stretch, rng.uniform(0.0, np.pi), uneven)


def honeycomb(c: Canvas, rng: np.random.Generator, cell: float) -> Array:
    """Bent hexagonal lattice with cells about ``cell`` wide: +3 in the holes, -1.5 on the lines."""
    turn, pitch = rng.uniform(0.0, np.pi), 2.0 * np.pi / cell
    wx, wy = (np.float32(0.35 * cell) * smooth_noise(rng, c.size, 10) for _ in range(2))
    total: Array = np.zeros_like(c.x)
    for k in range(3):
        a = turn + k * np.pi / 3.0
        total += np.cos((c.x + wx) * np.float32(pitch * np.cos(a)) + (c.y + wy) * np.float32(pitch * np.sin(a)))
    return total


def _net(c: Canvas, rng: np.random.Generator, cell: float) -> Array:
    lines: Array = np.clip(np.float32(0.25) - honeycomb(c, rng, cell) * np.float32(0.6), 0.0, 1.0)
    return lines


def _dots(c: Canvas, rng: np.random.Generator, cell: float, keep: float) -> Array:
    """Round dots on a bent lattice, of which a fraction ``keep`` (in patches) shows."""
    lattice: Array = np.clip(honeycomb(c, rng, cell) - np.float32(1.0), 0.0, 1.0)
    patches: Array = np.clip((smooth_noise(rng, c.size, 8) + np.float32(2.0 * keep - 1.0)) * np.float32(2.0), 0.0, 1.0)
    return lattice * patches


def _blobs(
    c: Canvas, rng: np.random.Generator, count: int, spread: float, radius: tuple[float, float], soft: float = 1.5
) -> Array:
    """Union of ``count`` small ellipses within ``spread`` of the middle."""
    out: Array = np.zeros_like(c.x)
    for _ in range(count):
        far, angle = spread * np.sqrt(rng.random()), rng.uniform(0.0, 2 * np.pi)
        cx, cy, r = far * np.cos(angle), far * np.sin(angle), rng.uniform(*radius)
        window = c.window(0.0, 0.0, 9.0, 9.0) if r > 0.3 else c.window(cx, cy, r + 0.35, r + 0.35)
        mask = c.mask(c.level(window, cx, cy, r, r * rng.uniform(0.6, 1.0), angle), soft)
        out[window] = np.maximum(out[window], mask)
    return out


def _vessels(c: Canvas, rng: np.random.Generator, cells: int, width: float) -> Array:
    lines: Array = np.clip(ridges(smooth_noise(rng, c.size, cells), width) * np.float32(1.6), 0.0, 1.0)
    parts: Array = np.clip(smooth_noise(rng, c.size, 5) + np.float32(0.3), 0.0, 1.0)
    return lines * parts


def _nv(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, 0.05, rng)
    mask = c.mask(depth - np.float32(0.05), rng.uniform(3.0, 9.0))
    base = strength * rng.uniform(0.35, 0.95)
    middle = np.clip(depth * np.float32(1.0 / size), 0.0, 1.0)
    if kind == "reticular":
        body = np.float32(0.45) + np.float32(0.95) * _net(c, rng, rng.uniform(0.09, 0.15))
    elif kind == "globular":
        body = np.float32(0.5) + np.float32(1.1) * _dots(c, rng, rng.uniform(0.1, 0.17), 0.9)
    elif kind == "two-toned":
        body = np.float32(0.5) + np.float32(1.2) * np.clip(middle * np.float32(3.0) - np.float32(0.8), 0.0, 1.0)
        body = body * (np.float32(0.85) + np.float32(0.3) * _net(c, rng, 0.12))
    else:
        body = np.float32(0.9) + np.float32(rng.uniform(-0.3, 0.5)) * middle
    out.melanin += mask * body * np.float32(base)
    out.blood += mask * np.float32(rng.uniform(0.0, 0.2))
    if rng.random() < 0.1:
        out.veils.append((mask * middle * np.float32(0.5), BLUE))


def _mel(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, rng.uniform(0.1, 0.24), rng, 5, 2.0)
    mask = c.mask(depth, rng.uniform(1.5, 4.0))
    patches = np.clip(smooth_noise(rng, c.size, 5) * np.float32(0.6) + np.float32(0.75), 0.1, 2.0)
    lean = rng.uniform(0.0, 2 * np.pi)
    slope = np.float32(1.0) + (c.x * np.cos(lean) + c.y * np.sin(lean)) * np.float32(0.6 / size)
    amount = strength * (rng.uniform(0.15, 0.35) if kind == "amelanotic" else rng.uniform(0.7, 1.5))
    melanin = mask * patches * np.clip(slope, 0.25, 2.0) * np.float32(amount)
    melanin *= np.float32(0.7) + np.float32(0.6) * _net(c, rng, rng.uniform(0.14, 0.24))
    black = _blobs(c, rng, int(rng.integers(1, 5)), size * 0.8, (0.05, 0.22), 4.0)
    out.melanin += melanin + black * mask * np.float32(0.2 if kind == "amelanotic" else 1.4)
    out.blood += mask * np.clip(smooth_noise(rng, c.size, 5), 0.0, 1.0) * np.float32(rng.uniform(0.1, 0.6))
    out.melanin += _dots(c, rng, 0.12, 0.3) * mask * np.float32(0.7)
    if kind in ("nodular", "superficial") or rng.random() < 0.3:
        veil = c.mask(depth - np.float32(0.08), 8.0) * np.clip(
            np.float32(0.6) * smooth_noise(rng, c.size, 4) + np.float32(0.2), 0.0, 1.0
        )
        out.veils.append((veil * np.float32(rng.uniform(0.3, 0.7)), BLUE))
    if kind == "regressing":
        scar = mask * np.clip(smooth_noise(rng, c.size, 5) * np.float32(1.5) - np.float32(0.4), 0.0, 1.0)
        out.veils.append((scar * np.float32(0.6), WHITE))
        out.veils.append((_dots(c, rng, 0.09, 0.4) * scar * np.float32(0.5), BLUE))
    if kind == "amelanotic":
        out.blood += mask * np.float32(0.5) + _vessels(c, rng, 16, 0.15) * mask * np.float32(0.6)


def _bcc(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, 0.14, rng)
    mask = c.mask(depth, 7.0)
    out.melanin -= mask * out.melanin * np.float32(0.5)
    out.blood += mask * np.float32(strength * rng.uniform(0.15, 0.45))
    out.veils.append(
        (mask * np.clip(smooth_noise(rng, c.size, 6) + np.float32(0.4), 0.0, 1.0) * np.float32(0.35), WHITE)
    )
    reach = c.mask(depth + np.float32(0.12), 6.0)
    tree = np.maximum(_vessels(c, rng, 4, 0.05), np.float32(0.7) * _vessels(c, rng, 9, 0.07))
    vessels = tree * reach * np.float32(0.45 if kind == "superficial" else 0.8)
    out.veils.append((np.clip(vessels, 0.0, 0.9), (0.66, 0.20, 0.24)))
    if kind == "pigmented" or rng.random() < 0.3:
        nests = _blobs(c, rng, int(rng.integers(3, 9)), size * 0.9, (0.03, 0.12), 2.5)
        out.veils.append((nests * np.float32(rng.uniform(0.5, 0.85)), (0.30, 0.30, 0.38)))
        out.melanin += (
            c.mask(depth, 3.0) * np.clip(smooth_noise(rng, c.size, 8) - np.float32(0.4), 0.0, 1.0) * np.float32(0.8)
        )
    if kind == "ulcerated" or rng.random() < 0.2:
        ulcer = _blobs(c, rng, int(rng.integers(1, 4)), size * 0.5, (0.06, 0.2), 3.0)
        out.veils.append((ulcer * np.float32(0.85), (0.45, 0.13, 0.10)))
        crust = ulcer * np.clip(smooth_noise(rng, c.size, 18), 0.0, 1.0)
        out.veils.append((crust * np.float32(0.7), (0.62, 0.42, 0.20)))


def _bkl(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, rng.uniform(0.08, 0.2), rng, 9, 1.9)
    bitten = np.clip(smooth_noise(rng, c.size, 12) - np.float32(0.8), 0.0, 1.0) * np.float32(0.1)
    mask = c.mask(depth - bitten, rng.uniform(0.8, 2.0))
    amount = strength * {"cerebriform": 0.55, "cystic": 0.75, "flat": 0.35, "dark": 1.4}[kind]
    body = np.float32(0.8) + np.float32(0.2) * smooth_noise(rng, c.size, 7)
    if kind in ("cerebriform", "dark"):
        body = body + np.float32(0.75) * np.clip(ridges(smooth_noise(rng, c.size, 15), 0.4), 0.0, 1.0)
    elif kind == "flat":
        body = body + np.float32(0.4) * np.clip(ridges(smooth_noise(rng, c.size, 24), 0.45), 0.0, 1.0)
    out.melanin += mask * np.clip(body, 0.2, 2.0) * np.float32(amount)
    out.veils.append((mask * np.float32(rng.uniform(0.0, 0.25)), YELLOW))
    if kind in ("cystic", "dark") or rng.random() < 0.5:
        cysts = _blobs(c, rng, int(rng.integers(5, 14)), size * 0.85, (0.015, 0.045))
        out.veils.append((cysts * mask * np.float32(rng.uniform(0.5, 0.85)), (0.97, 0.92, 0.78)))
    if kind == "cystic" or rng.random() < 0.5:
        plugs = _blobs(c, rng, int(rng.integers(4, 14)), size * 0.85, (0.02, 0.05))
        out.melanin += plugs * mask * np.float32(1.1)


def _df(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, 0.07, rng, 6, 1.35)
    mask = c.mask(depth, 9.0)
    net = np.float32(0.45) + np.float32(0.7) * _net(c, rng, rng.uniform(0.08, 0.12))
    out.melanin += mask * net * np.float32(strength * rng.uniform(0.25, 0.6))
    out.blood += mask * np.float32(strength * (0.4 if kind == "pink" else rng.uniform(0.1, 0.3)))
    inner = depth - np.float32(size * rng.uniform(0.35, 0.6))
    uneven = np.float32(0.8) + np.float32(0.25) * smooth_noise(rng, c.size, 12)
    scar = np.clip(c.mask(inner, 5.0) * uneven, 0.0, 1.0)
    out.veils.append(
        (scar * np.float32(0.25 if kind == "pink" else rng.uniform(0.45, 0.8)), WHITE if kind != "pink" else PINK)
    )
    if kind == "ring":
        ring = c.mask(inner + np.float32(0.14), 4.0) - c.mask(inner, 4.0)
        out.melanin += np.clip(ring, 0.0, 1.0) * np.float32(0.5 * strength)


def _vasc(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, 0.07, rng, 6, 1.6)
    mask = c.mask(depth, 1.5)
    if kind == "spider":
        out.blood += c.mask(depth, 9.0) * np.float32(0.35 * strength)
        out.blood += _vessels(c, rng, 10, 0.2) * c.mask(depth, 5.0) * np.float32(1.4 * strength)
        out.blood += _dots(c, rng, 0.1, 0.5) * c.mask(depth, 5.0) * np.float32(0.9)
        return
    if kind == "lacunar":
        lakes = _blobs(c, rng, int(rng.integers(6, 18)), size * 0.85, (size * 0.12, size * 0.34), 1.5)
        out.blood += lakes * np.float32(strength * rng.uniform(0.9, 1.8)) + c.mask(depth, 3.0) * np.float32(0.35)
    else:
        out.blood += (
            mask
            * np.float32(strength * rng.uniform(0.9, 1.7))
            * (np.float32(1.0) + np.float32(0.15) * smooth_noise(rng, c.size, 9))
        )
    if rng.random() < 0.5:
        out.veils.append((mask * np.clip(smooth_noise(rng, c.size, 5), 0.0, 1.0) * np.float32(0.5), (0.42, 0.28, 0.50)))
    if kind == "thrombosed":
        clot = np.clip(_blobs(c, rng, int(rng.integers(1, 5)), size * 0.6, (size * 0.3, size * 0.65), 3.0), 0.0, 1.0)
        out.veils.append((clot * mask * np.float32(rng.uniform(0.65, 0.95)), (0.12, 0.06, 0.10)))
    if rng.random() < 0.3:
        out.veils.append(
            (mask * np.clip(ridges(smooth_noise(rng, c.size, 6), 0.25), 0.0, 1.0) * np.float32(0.4), WHITE)
        )


def _akiec(c: Canvas, out: Layers, kind: str, size: float, strength: float, rng: np.random.Generator) -> None:
    depth = _body(c, size, 0.2, rng, 7, 1.7)
    mask = c.mask(depth, 9.0)
    out.blood += (
        mask
        * np.float32(strength * rng.uniform(0.12, 0.4))
        * (np.float32(1.0) + np.float32(0.3) * smooth_noise(rng, c.size, 12))
    )
    scale = np.clip(
        smooth_noise(rng, c.size, 20) + np.float32(0.5) * smooth_noise(rng, c.size, 36) - np.float32(0.7), 0.0, 1.0
    )
    out.veils.append((scale * mask * np.float32(rng.uniform(0.15, 0.6)), WHITE))
    if kind == "strawberry":
        net = _net(c, rng, rng.uniform(0.12, 0.18))
        out.blood += net * mask * np.float32(0.5)
        out.veils.append((_dots(c, rng, rng.uniform(0.12, 0.18), 0.8) * mask * np.float32(0.6), YELLOW))
    elif kind == "crusted":
        crust = _blobs(c, rng, int(rng.integers(2, 6)), size * 0.6, (0.06, 0.2), 4.0)
        tint: Tint = (0.80, 0.66, 0.42) if rng.random() < 0.6 else WHITE
        out.veils.append(
            (crust * np.clip(np.float32(0.6) + np.float32(0.4) * smooth_noise(rng, c.size, 22), 0.0, 0.95), tint)
        )
    elif kind == "pigmented":
        out.melanin += (
            mask * np.clip(smooth_noise(rng, c.size, 14) + np.float32(0.3), 0.0, 1.0) * np.float32(0.6 * strength)
        )
    if rng.random() < 0.5:
        out.blood += _dots(c, rng, 0.08, 0.4) * mask * np.float32(0.7)


LESIONS: dict[str, Draw] = {
    "akiec": _akiec, "bcc": _bcc, "bkl": _bkl, "df": _df, "mel": _mel, "nv": _nv, "vasc": _vasc,
}  # fmt: skip
