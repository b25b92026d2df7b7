"""The bound against its definition, thresholds by hand, and how often a chosen threshold breaks its promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration import abstention
from wardround.evaluation.errors import InvalidPredictionsError

World = Callable[..., tuple[np.ndarray, np.ndarray]]


@given(st.integers(0, 40), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_the_bound_is_the_risk_at_which_so_few_errors_are_just_improbable(wrong: int, more: int) -> None:
    bound = abstention.upper_bound(wrong, wrong + more)
    assert binom.cdf(wrong, wrong + more, bound) == pytest.approx(0.05, abs=1e-9)
    assert abstention.upper_bound(wrong + more, wrong + more) == 1.0


@given(st.floats(0.005, 0.9), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_fewest_is_the_smallest_number_that_can_pass(risk: float, room: int) -> None:
    found = abstention.fewest(risk, room)
    assert abstention.upper_bound(room, found) <= risk
    assert abstention.upper_bound(room, found - 1) > risk


def two_classes(top: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([top, 1 - top], axis=1), np.where(right, 0, 1)


def test_the_threshold_is_the_last_that_passes_by_hand() -> None:
    """80 sure and right, then 20 unsure and wrong: only the sure ones may be answered at a risk of 10 %."""
    top = np.r_[np.linspace(0.99, 0.9, 80), np.linspace(0.7, 0.6, 20)]
    p, y = two_classes(top, np.arange(100) < 80)
    found = abstention.choose(p, y, range(100), np.random.default_rng(0), risk=0.1)
    assert found.threshold is not None
    # 3 of 83 wrong have the bound .0912, 4 of 84 .1055; a rung has one image.
    assert (found.answered, found.wrong) == (83, 3)
    assert found.threshold == pytest.approx(top[82])
    assert found.upper == pytest.approx(abstention.upper_bound(3, 83))
    rough = abstention.choose_from_histogram(abstention.confidence_histogram(p, y), risk=0.1)
    assert rough.threshold is not None
    assert found.threshold - 0.005 <= rough.threshold <= top[79]
    assert rough.n == 100


def test_the_search_stops_at_the_first_failure_though_a_later_threshold_would_pass() -> None:
    """Fixed sequence: errors among the most confident are not made good by many right answers below."""
    right = np.r_[np.zeros(10, bool), np.ones(490, bool)]
    p, y = two_classes(np.linspace(0.999, 0.6, 500), right)
    found = abstention.choose(p, y, range(500), np.random.default_rng(0), risk=0.1)
    assert found.threshold is None
    assert "wrong too often" in found.reason
    assert abstention.upper_bound(10, 500) < 0.1


def test_too_few_groups_are_named(world: World) -> None:
    z, y = world(200, np.random.default_rng(1))
    p = softmax(z)
    found = abstention.choose(p, y, np.arange(200) // 8, np.random.default_rng(0), risk=0.1)
    assert (found.threshold, found.n, found.upper, found.answered) == (None, 25, None, 0)
    assert found.reason == "too few: 25 of 29 validation groups"
    nothing = abstention.choose(p[:0], y[:0], [], np.random.default_rng(0), risk=0.1)
    assert nothing.reason == "too few: 0 of 29 validation groups"
    empty = abstention.choose_from_histogram(abstention.confidence_histogram(p[:0], y[:0]), risk=0.1)
    assert empty.threshold is None


def test_saturated_probabilities_are_answered_together() -> None:
    p, y = two_classes(np.ones(200), np.arange(200) % 25 > 0)  # 8 of 200 wrong, all equally sure
    found = abstention.choose(p, y, range(200), np.random.default_rng(0), risk=0.1)
    assert (found.threshold, found.answered, found.wrong) == (1.0, 200, 8)
    rough = abstention.choose_from_histogram(abstention.confidence_histogram(p, y), risk=0.1)
    assert (rough.threshold, rough.answered, rough.wrong) == (pytest.approx(0.995), 200, 8)


def test_histograms_of_sites_add_up_and_foreign_counts_are_refused(world: World) -> None:
    z, y = world(90, np.random.default_rng(2))
    p = softmax(z)
    parts = sum(abstention.confidence_histogram(p[i::3], y[i::3]) for i in range(3))
    np.testing.assert_array_equal(parts, abstention.confidence_histogram(p, y))
    assert parts[0].sum() == 90
    assert parts[1].sum() == (p.argmax(axis=1) == y).sum()
    for bad in (parts[0], parts[::-1], -parts):
        with pytest.raises(InvalidPredictionsError, match="no count"):
            abstention.choose_from_histogram(bad, risk=0.1)
    for risk in (0.0, 1.0):
        with pytest.raises(InvalidPredictionsError, match="risk"):
            abstention.choose(p, y, range(90), np.random.default_rng(0), risk=risk)


def broken(world: World, runs: int, n: int, risk: float, sharp: float, per: int = 1) -> dict[str, tuple[float, float]]:
    """(share of runs with a threshold, share of runs whose true risk exceeds the named one), by variant.

    Args:
        per: images a group; all are copies of one another, the most that a group can mislead.
    """
    generator = np.random.default_rng(11)
    sure, truth = world(20_000, generator, sharp=sharp)
    top, wrong = softmax(sure / 2).max(axis=1), sure.argmax(axis=1) != truth
    found: dict[str, list[tuple[bool, bool]]] = {}
    for _ in range(runs):
        z, y = world(n, generator, sharp=sharp)
        p, y, groups = softmax(z / 2).repeat(per, axis=0), y.repeat(per), np.arange(n).repeat(per)
        once = np.arange(0, n * per, per)
        for name, chosen in (
            ("exact", abstention.choose(p, y, groups, generator, risk=risk)),
            (
                "histogram",
                abstention.choose_from_histogram(abstention.confidence_histogram(p[once], y[once]), risk=risk),
            ),
        ):
            answered = top >= (2.0 if chosen.threshold is None else chosen.threshold)
            exceeds = bool(answered.any() and wrong[answered].mean() > risk)
            found.setdefault(name, []).append((chosen.threshold is not None, exceeds))
    return {
        name: (float(np.mean([a for a, _ in rows])), float(np.mean([b for _, b in rows])))
        for name, rows in found.items()
    }


def test_a_chosen_threshold_seldom_breaks_its_promise(world: World) -> None:
    """The short one: at most 5 % of runs and three standard errors; and it does find thresholds."""
    for name, (known, exceeded) in broken(world, 60, 200, 0.1, 2.0, per=3).items():
        assert known > 0.5, name
        assert exceeded <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60), name


@pytest.mark.slow
def test_the_risk_over_500_simulations(world: World) -> None:
    for n, risk, sharp in ((100, 0.1, 2.0), (300, 0.1, 2.0), (300, 0.05, 2.0), (300, 0.2, 1.3)):
        for name, (known, exceeded) in broken(world, 500, n, risk, sharp).items():
            print(f"n = {n}, risk {risk}, {name}: a threshold in {known:.3f} of runs, exceeded in {exceeded:.3f}")
            assert exceeded <= 0.05 + 0.015, (n, risk, name)
