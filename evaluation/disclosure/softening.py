"""What a temperature does to the confidence of the top label, so that the tables before and after it are linked.

The logits are divided by T, so p is proportional to q^(1/T) and q to p^T, where q are the probabilities before and p
those after. From the top probability c = max p alone, max q is known to lie in an interval: its ends are reached where
the rest 1 - c goes to as few other classes as can take it, and where it is spread evenly, and everything between them
by mixing both. Both ends grow with c. With two classes the interval is a point: the tables are two cuts of
one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray

STEPS = 40
"""Confidences that are tried within a segment."""
WEIGHTS = 41
"""Mixes that are tried between all to few and evenly."""
HAIR = 1e-6
"""How far inside of its bin a confidence must lie, so that no rounding moves it out."""


def mixed(top: FloatArray, k: int, even: FloatArray) -> FloatArray:
    """Probabilities (m, k), the top one first, then the rest: a share ``even`` (m,) of it evenly, else to few."""
    shares = np.zeros((len(top), k))
    shares[:, 0] = top
    left = 1.0 - top
    shares[:, 1:] += (even * left / (k - 1))[:, None]
    for column in range(1, k):
        taken = np.minimum(left, top)
        shares[:, column] += (1.0 - even) * taken
        left = left - taken
    return shares


def before(shares: FloatArray, temperature: float) -> FloatArray:
    """Probabilities before the temperature, same shape."""
    logs = temperature * np.log(np.maximum(shares, 1e-300))
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    raw: FloatArray = found / found.sum(axis=1, keepdims=True)
    return raw


@dataclass(frozen=True, slots=True)
class Reach:
    """Images of one segment after the temperature that can lie in one bin before it.

    Attributes:
        bin: before. low, high: between which confidences after the temperature such images are.
    """

    bin: int
    low: float
    high: float


def reaches(k: int, temperature: float, low: float, high: float, edges: Sequence[float]) -> tuple[Reach, ...]:
    """Bins before the temperature that images with a confidence in [low, high) after it can have."""
    inside = np.linspace(max(low, 1.0 / k) + HAIR, high - HAIR, STEPS)
    ends = np.stack(
        [before(mixed(inside, k, np.full(STEPS, even)), temperature).max(axis=1) for even in (0.0, 1.0)], axis=1
    )
    found = []
    for b in range(len(edges) - 1):
        hit = (ends.max(axis=1) >= edges[b] + HAIR) & (ends.min(axis=1) <= edges[b + 1] - HAIR)
        if hit.any():
            found.append(Reach(b, float(inside[hit].min()), float(inside[hit].max())))
    return tuple(found)


def weights(k: int, temperature: float, top: float, low: float, high: float) -> tuple[float, float] | None:
    """Between which mixes an image with this confidence has one in [low, high) before; None where there is none."""
    tried = np.linspace(0.0, 1.0, WEIGHTS)
    raw = before(mixed(np.full(WEIGHTS, top), k, tried), temperature).max(axis=1)
    hit = tried[(raw >= low) & (raw < high)]
    return (float(hit.min()), float(hit.max())) if len(hit) else None
