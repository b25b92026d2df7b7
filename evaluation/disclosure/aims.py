"""Where to look for images with the published Brier scores: nearly linear rows, so that fewer solutions are in vain.

A Brier score is a sum over images, and an image with a confidence has one that lies between two numbers, whatever the
other classes get. So counts whose sums of these cannot reach the published range need not be tried. The rows are made
with the printed mean confidence of each bin, so they are about right: they aim the search and prove nothing.
"""

from __future__ import annotations

import numpy as np

from .bands import Range
from .confidence_links import PARTS, inside
from .published import Published
from .softening import before, mixed
from .system import System, Terms

WIDER = 0.002
"""A mean that is rounded, and a spread around it, move a score of one image by about so much."""


def add_aims(system: System, published: Published, place: int) -> None:
    """Rows for the Brier scores of a report, which is the one with this number in the system."""
    for score, temperature in ((published.brier, 1.0), (published.raw_brier, published.temperature or 1.0)):
        if score is not None and published.reliability:
            _add(system, published, place, score, temperature)


def _add(system: System, published: Published, place: int, score: Range, temperature: float) -> None:
    key, k, edges = system.keys[place], published.n_classes, system.edges
    least: Terms = {}
    most: Terms = {}
    for row in published.reliability:
        for s in inside(edges, row.low, row.high):
            low, high = max(edges[s], 1.0 / k), edges[s + 1]
            if high <= low:
                continue
            whole = row.mean_confidence is not None and edges[s] <= row.low and row.high <= edges[s + 1]
            tops = [min(max(row.mean_confidence or low, low), high)] if whole else [low, high]
            for part in PARTS:
                scores = [one for top in tops for one in _scores(top, k, part, temperature)]
                spread = 2.0 * ((high - low) / 2.0) ** 2
                least[key[part, s]] = min(scores) - WIDER - score.high
                most[key[part, s]] = max(scores) + WIDER + spread - score.low
    system.aims.append((least, -float("inf"), 0.0))
    system.aims.append((most, 0.0, float("inf")))


def _scores(top: float, k: int, part: str, temperature: float) -> list[float]:
    """Brier scores of a right or a wrong image with this confidence, the rest going to few or evenly."""
    shares = before(mixed(np.full(2, top), k, np.array([0.0, 1.0])), temperature)
    truth = np.zeros(k)
    truth[0 if part == "hits" else 1] = 1.0
    found: list[float] = np.square(shares - truth).sum(axis=1).tolist()
    return found
