"""What a temperature does to confidences: every real image is where the link says that it may be."""

from __future__ import annotations

import numpy as np
import pytest
from wardround.evaluation.disclosure.softening import before, mixed, reaches, weights

EDGES = [b / 10 for b in range(11)]


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("temperature", [0.4, 1.5, 3.0])
def test_real_images_lie_in_reach(k: int, temperature: float) -> None:
    draw = np.random.default_rng(k)
    logits = draw.normal(size=(4000, k)) * 2.5
    raw = np.exp(logits - logits.max(axis=1, keepdims=True))
    raw /= raw.sum(axis=1, keepdims=True)
    soft = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    soft /= soft.sum(axis=1, keepdims=True)
    assert np.allclose(before(soft, temperature), raw)
    within = np.zeros(4000, dtype=bool)
    top, first = soft.max(axis=1), raw.max(axis=1)
    for s in range(10):
        for reach in reaches(k, temperature, EDGES[s], EDGES[s + 1], EDGES) if EDGES[s + 1] * k > 1 else ():
            inside = (top >= EDGES[s]) & (top < EDGES[s + 1]) & (first >= EDGES[reach.bin])
            inside &= first <= EDGES[reach.bin + 1]
            # Ends are those of 40 steps in the segment, so they may lie a step too far inside.
            step = (EDGES[s + 1] - EDGES[s]) / 30
            within |= inside & (top >= reach.low - step) & (top <= reach.high + step)
    assert within.mean() > 0.995  # the rest lies nearer to an edge than a step
    assert reaches(k, 1.0, 0.7, 0.8, EDGES)[0].bin == 7


def test_all_that_is_in_reach_is_made_by_some_mix() -> None:
    for s in range(4, 10):
        for reach in reaches(4, 1.6, EDGES[s], EDGES[s + 1], EDGES):
            for top in np.linspace(reach.low, reach.high, 7):
                found = weights(4, 1.6, float(top), EDGES[reach.bin], EDGES[reach.bin + 1])
                if found is None:  # only where a corner of the bin is narrower than a step of the mixes
                    assert reach.high - reach.low < 0.03
                    continue
                for even in found:
                    raw = before(mixed(np.array([top]), 4, np.array([even])), 1.6).max()
                    assert EDGES[reach.bin] <= raw < EDGES[reach.bin + 1]


def test_both_ends_grow_with_the_confidence() -> None:
    for k in (2, 3, 5, 8):
        top = np.linspace(1 / k + 1e-6, 1 - 1e-6, 400)
        for temperature in (0.3, 0.8, 1.4, 4.0):
            for even in (0.0, 1.0):
                raw = before(mixed(top, k, np.full(400, even)), temperature).max(axis=1)
                assert (np.diff(raw) > -1e-12).all()


def test_mixes_are_probabilities_with_the_top_one_first() -> None:
    for even in (0.0, 0.4, 1.0):
        shares = mixed(np.linspace(0.26, 0.99, 50), 4, np.full(50, even))
        assert np.allclose(shares.sum(axis=1), 1.0)
        assert (shares.argmax(axis=1) == 0).all()
