"""The federated temperature's fit beside scipy's minimisation, and where there is nothing to fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from wardround.platform.calibration import HIGHEST, LOWEST, fit_log_temperature, worth_fitting

Array = NDArray[np.float64]


def nll(logits: Array, labels: Array, log_temperature: float) -> float:
    """Mean negative log likelihood, row by row."""
    total = []
    for row, label in zip(logits, labels, strict=True):
        scaled = [float(z) / math.exp(log_temperature) for z in row]
        top = max(scaled)
        total.append(top + math.log(math.fsum(math.exp(z - top) for z in scaled)) - scaled[int(label)])
    return math.fsum(total) / len(total)


def best(logits: Array, labels: Array) -> float:
    """The log temperature of the smallest NLL, by a search that knows no derivative."""
    found = minimize_scalar(
        lambda t: nll(logits, labels, t), bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)


def fitted(logits: Array, labels: Array, start: float = 0.0, steps: int = 100) -> float:
    return fit_log_temperature(torch.from_numpy(logits), torch.from_numpy(labels.astype(np.int64)), start, steps)


def drawn(seed: int, rows: int = 40, classes: int = 4, sharp: float = 3.0) -> tuple[Array, Array]:
    """Logits of a model that is right about half of the time."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, size=rows)
    logits = sharp * draw.normal(size=(rows, classes))
    logits[np.arange(rows), labels] += sharp
    return logits, labels


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(5, 30),
    classes=st.integers(2, 5),
    sharp=st.sampled_from([0.3, 1.0, 4.0, 12.0]),
    start=st.sampled_from([0.0, LOWEST, HIGHEST, 1.0, -2.0]),
)
def test_it_ends_at_the_minimum_from_wherever_it_starts(
    seed: int, rows: int, classes: int, sharp: float, start: float
) -> None:
    logits, labels = drawn(seed, rows, classes, sharp)
    target = best(logits, labels)
    assume(LOWEST + 0.05 < target < HIGHEST - 0.05 and nll(logits, labels, target) > 1e-3)  # else flat
    found = fitted(logits, labels, start)
    assert nll(logits, labels, found) <= nll(logits, labels, target) + 1e-9
    assert found == pytest.approx(target, abs=1e-4)


def test_a_few_newton_steps_are_enough() -> None:
    logits, labels = drawn(1)
    distances = [abs(fitted(logits, labels, 0.0, steps) - best(logits, labels)) for steps in (1, 2, 3, 5, 8)]
    assert distances == sorted(distances, reverse=True)
    assert distances[3] < 1e-3
    assert distances[4] < 1e-6


def test_one_step_is_newtons_formula() -> None:
    logits, labels = drawn(2, sharp=1.0)

    def slope(t: float) -> float:
        return (nll(logits, labels, t + 1e-5) - nll(logits, labels, t - 1e-5)) / 2e-5

    curvature = (slope(1e-3) - slope(-1e-3)) / 2e-3
    expected = -slope(0.0) / curvature
    assert 0.0 < abs(expected) < 1.0
    assert fitted(logits, labels, 0.0, 1) == pytest.approx(expected, rel=1e-3)


def test_no_step_is_longer_than_one_and_none_leaves_the_range() -> None:
    logits, labels = drawn(3, sharp=12.0)
    wrong = (labels + 1) % 4
    for start in (LOWEST, -1.0, 0.0, 2.0, HIGHEST):
        for chosen in (labels, wrong):
            found = fitted(logits, chosen, start, 1)
            assert abs(found - start) <= 1.0
            assert LOWEST <= found <= HIGHEST


def test_without_rows_it_is_where_it_was() -> None:
    empty = np.zeros((0, 3))
    assert fitted(empty, np.zeros(0), 0.37) == 0.37


@pytest.mark.parametrize("scale", [50.0, 1e3, 1e6])
def test_saturated_logits_that_are_right_go_to_the_coldest_and_never_leave_the_range(scale: float) -> None:
    labels = np.arange(12) % 3
    logits = scale * np.eye(3)[labels]
    found = fitted(logits, labels)
    assert LOWEST <= found <= 0.0
    assert nll(logits, labels, found) <= nll(logits, labels, 0.0)


def test_saturated_logits_that_are_wrong_go_to_the_hottest() -> None:
    labels = np.arange(12) % 3
    logits = 1e4 * np.eye(3)[(labels + 1) % 3]
    assert fitted(logits, labels) == pytest.approx(HIGHEST)


def test_saturated_logits_that_are_mostly_right_have_the_minimum_of_the_search() -> None:
    labels = np.arange(20) % 2
    logits = 400.0 * np.eye(2)[labels]
    logits[:3] = logits[:3, ::-1]
    found, target = fitted(logits, labels), best(logits, labels)
    assert nll(logits, labels, found) <= nll(logits, labels, target) + 1e-9
    assert found == pytest.approx(target, abs=1e-4)


def test_float32_logits_are_fitted_in_double_precision() -> None:
    logits, labels = drawn(5)
    single = torch.from_numpy(logits).float()
    found = fit_log_temperature(single, torch.from_numpy(labels), 0.0, 100)
    assert found == fitted(single.double().numpy(), labels)


def worth(logits: list[list[float]], labels: list[int]) -> bool:
    return worth_fitting(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels))


def test_a_site_leaves_the_temperature_where_its_images_say_nothing_of_it() -> None:
    mixed = [[2.0, 0.0], [0.0, 2.0], [1.5, 0.0], [0.0, 1.0], [0.0, 0.5]] * 2
    assert worth(mixed, [0, 1, 0, 1, 0] * 2)  # the fifth is wrong
    assert not worth(mixed, [0, 1, 0, 1, 1] * 2)  # all right: only ever sharper
    assert not worth(mixed[:9], [0, 1, 0, 1, 0, 0, 1, 0, 1])  # nine images
    assert not worth(mixed, [0] * 10)  # one class
    assert worth([[1.0, 1.0]] * 10, [0, 1] * 5)  # a tie is not right by a margin


def test_logits_that_no_temperature_changes_leave_it_where_it_is() -> None:
    assert fitted(np.ones((12, 3)), np.arange(12) % 3, start=0.7) == 0.7
