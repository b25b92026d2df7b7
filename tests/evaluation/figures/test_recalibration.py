"""Slope and intercept against scikit-learn and a solver, their intervals against refits, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from wardround.evaluation.figures.bootstrap import NO_IMAGES, GroupBootstrap, group_bootstrap
from wardround.evaluation.figures.recalibration import (
    FEW_OUTCOMES,
    ONE_OUTCOME,
    SEPARATED,
    TOO_EXTREME,
    fit_intercept,
    fit_slope,
    recalibration,
)
from wardround.evaluation.intervals import TOO_FEW, UNDER_COVERS


def draws(n_groups: int, per: int = 1, seed: int = 0) -> GroupBootstrap:
    return group_bootstrap(np.arange(n_groups * per) // per, np.random.default_rng(seed), 200)


def study(n: int, seed: int, slope: float = 0.6, start: float = -0.4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n) * 2 + 0.5
    return x, (generator.random(n) < expit(start + slope * x)).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_fits_equal_scikit_learn_and_a_root_finder(seed: int) -> None:
    x, y = study(150, seed)
    fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000, solver="newton-cholesky").fit(x[:, None], y)
    start, slope = fit_slope(x, y)
    assert slope == pytest.approx(fitted.coef_[0, 0], abs=1e-6)
    assert start == pytest.approx(fitted.intercept_[0], abs=1e-6)
    assert fit_intercept(x, y) == pytest.approx(brentq(lambda a: (y - expit(a + x)).sum(), -50, 50), abs=1e-8)


def test_calibrated_statements_have_slope_one_and_intercept_zero_within_their_intervals() -> None:
    x, y = study(4000, 3, slope=1.0, start=0.0)
    found = recalibration(x, y, draws(4000))
    for estimate, truth in ((found.slope, 1.0), (found.intercept, 0.0)):
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.25


def test_interval_is_the_sandwich_written_as_loops_and_near_a_bootstrap_of_refits() -> None:
    x, y = study(300, 5)
    bootstrap = draws(100, 3)
    found = recalibration(x, y, bootstrap)
    start, slope = fit_slope(x, y)
    bread, meat, totals = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((100, 2))
    for i in range(300):
        row, p = np.array([1.0, x[i]]), 1 / (1 + np.exp(-start - slope * x[i]))
        bread += p * (1 - p) * np.outer(row, row)
        totals[i // 3] += (y[i] - p) * row
    for total in totals:
        meat += np.outer(total, total)
    variance = np.linalg.inv(bread) @ meat @ np.linalg.inv(bread) * 100 / 99
    assert found.slope.high == pytest.approx(slope + 1.959963984540054 * np.sqrt(variance[1, 1]))
    refits = []
    for weight in bootstrap.weights[:150]:
        rows = np.repeat(np.arange(300), weight[np.arange(300) // 3].astype(int))
        refits.append(fit_slope(x[rows], y[rows])[1])
    assert np.std(refits) == pytest.approx(np.sqrt(variance[1, 1]), rel=0.2)


def test_separated_outcomes_have_no_slope_but_an_intercept() -> None:
    x = np.r_[np.linspace(-3, -1, 20), np.linspace(-1, 3, 20)]  # they touch at -1: still no finite slope
    found = recalibration(x, np.r_[np.zeros(20), np.ones(20)], draws(40))
    assert (found.slope.value, found.slope.note) == (None, SEPARATED)
    assert found.intercept.value is not None
    constant = recalibration(np.zeros(40), np.r_[np.zeros(20), np.ones(20)], draws(40))
    assert constant.slope.note == SEPARATED
    assert constant.intercept.value == pytest.approx(0.0, abs=1e-9)


def test_one_outcome_few_of_one_and_no_image_have_neither() -> None:
    x = np.linspace(-2, 2, 30)
    for y, note in ((np.ones(30), ONE_OUTCOME), ((np.arange(30) < 4).astype(float), FEW_OUTCOMES)):
        found = recalibration(x, y, draws(30))
        assert (found.slope.value, found.intercept.value, found.slope.note) == (None, None, note)
    assert recalibration(np.zeros(0), np.zeros(0), draws(0)).slope.note == NO_IMAGES


def test_saturated_log_odds_are_finite_and_one_of_them_does_not_decide_the_slope() -> None:
    x, y = study(400, 6, slope=1.0, start=0.0)
    x[0], y[0] = 1e4, 1.0
    found = recalibration(x, y, draws(400))
    assert found.slope.value == pytest.approx(1.0, abs=0.35)
    both = np.r_[np.full(50, 1e4), np.full(50, -1e4)]
    wrong = np.r_[np.ones(40), np.zeros(10), np.zeros(40), np.ones(10)]
    told = recalibration(both, wrong, draws(100))
    assert told.slope.value == pytest.approx(np.log(4) / 36, rel=1e-6)
    assert (told.intercept.value, told.intercept.low, told.intercept.note) == (0.0, None, TOO_EXTREME)
    all_sure = recalibration(np.full(50, 1e4), np.r_[np.ones(40), np.zeros(10)], draws(50))
    assert all_sure.intercept.value == pytest.approx(np.log(4) - 36, abs=1e-6)


def test_few_groups_are_said_to_be_few() -> None:
    x, y = study(60, 7)
    few = recalibration(x, y, draws(6, 10)).slope
    assert (few.value, few.low, few.note) == (None, None, TOO_FEW)
    assert recalibration(x, y, draws(20, 3)).slope.note == UNDER_COVERS
