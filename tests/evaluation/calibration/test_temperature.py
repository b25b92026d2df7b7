"""The fitted temperature against a fine scan, the federated one against pooling, and when there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration import temperature
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.metrics import figures


def calibrated_logits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n, 4)) * 1.5
    return z, np.array([generator.choice(4, p=row) for row in softmax(z)])


@given(st.integers(40, 200), st.integers(0, 1000), st.floats(0.2, 12.0))
@settings(max_examples=25, deadline=None)
def test_fit_is_the_minimum_of_a_fine_scan(n: int, seed: int, sharpness: float) -> None:
    z, y = calibrated_logits(n, seed)
    fitted = temperature.fit(z * sharpness, y)
    assert fitted is not None

    def slow_nll(t: float) -> float:
        powers = np.exp((z - z.max(axis=1, keepdims=True)) * sharpness / t)
        return float(-np.log(powers[np.arange(n), y] / powers.sum(axis=1)).mean())

    assert slow_nll(fitted) <= min(slow_nll(t) for t in np.exp(np.linspace(-1.2, math.log(50), 600))) + 1e-6


def test_fit_recovers_the_sharpness_of_a_calibrated_model() -> None:
    z, y = calibrated_logits(20_000, 1)
    assert temperature.fit(z * 4.0, y) == pytest.approx(4.0, rel=0.05)
    scaled, plain = temperature.fit(z * 8.0, y), temperature.fit(z, y)
    assert scaled is not None
    assert plain is not None
    assert scaled == pytest.approx(8 * plain, rel=1e-4)


def test_fit_never_worsens_the_likelihood_it_was_fitted_on() -> None:
    z, y = calibrated_logits(60, 2)
    fitted = temperature.fit(30 * z, y)
    before, after = (figures(30 * z, y, temperature=t, classes="abcd").nll for t in (None, fitted))
    assert before is not None
    assert after is not None
    assert after < before


def test_there_is_no_fit_without_enough_images_or_classes_or_an_optimum() -> None:
    z, y = calibrated_logits(9, 0)
    assert temperature.fit(z, y) is None
    assert temperature.fit(z[:0], y[:0]) is None
    many, _ = calibrated_logits(40, 0)
    assert temperature.fit(many, np.zeros(40, dtype=int)) is None
    # Every image right: the likelihood only rises as T falls, so nothing is learnt about confidence.
    assert temperature.fit(many, many.argmax(axis=1)) is None
    assert temperature.fit(1000 * many, many.argmax(axis=1)) is None


def test_a_model_worse_than_guessing_gets_the_soft_end() -> None:
    z, _ = calibrated_logits(50, 3)
    assert temperature.fit(5 * z, z.argmin(axis=1)) == temperature.HIGHEST


def test_saturated_logits_can_be_fitted() -> None:
    z, y = calibrated_logits(200, 4)
    fitted = temperature.fit(z * 20, y)
    assert fitted is not None
    assert 10 < fitted < 40


def test_grid_is_fixed_and_sums_of_sites_equal_the_pooled_sum() -> None:
    points = temperature.grid()
    assert points.shape == (64,)
    assert (points[0], points[-1]) == (pytest.approx(0.05), pytest.approx(50.0))
    assert np.all(np.diff(points) > 0)
    z, y = calibrated_logits(90, 5)
    parts = sum(temperature.grid_nll_sums(z[i::3], y[i::3]) for i in range(3))
    pooled = temperature.grid_nll_sums(z, y)
    assert np.allclose(parts, pooled)
    slow = [log_loss(y, softmax(z, t), labels=range(4)) * 90 for t in points[[10, 30, 50]]]
    assert pooled[[10, 30, 50]] == pytest.approx(slow, rel=1e-9)


def test_federated_fit_is_within_a_grid_step_of_the_pooled_fit() -> None:
    z, y = calibrated_logits(300, 6)
    own = temperature.fit(6 * z, y)
    shared = temperature.fit_federated(temperature.grid_nll_sums(6 * z, y), n=300)
    assert own is not None
    assert shared in temperature.grid()
    assert shared == pytest.approx(own, rel=0.12)


def test_federated_fit_without_data_or_optimum_is_none() -> None:
    z, y = calibrated_logits(30, 7)
    assert temperature.fit_federated(temperature.grid_nll_sums(z[:0], y[:0])) is None
    assert temperature.fit_federated(temperature.grid_nll_sums(z, y), n=9) is None
    separated = temperature.grid_nll_sums(1000 * z, z.argmax(axis=1))
    assert temperature.fit_federated(separated) is None
    for bad in (np.ones(63), np.r_[np.ones(63), np.nan]):
        with pytest.raises(InvalidPredictionsError, match="64"):
            temperature.fit_federated(bad)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("over", [0.7, 2.0, 5.0])
def test_the_temperature_is_that_of_netcal(over: float) -> None:
    """Slow because netcal's scaling imports a probabilistic programming language."""
    from netcal.scaling import TemperatureScaling

    z, y = calibrated_logits(800, 8)
    other = TemperatureScaling()
    other.fit(softmax(z * over), y)
    # netcal multiplies log odds by its weight; one weight for all classes is what a temperature is.
    weight = float(np.ravel(other.weights)[0])
    assert 1.0 / weight == pytest.approx(temperature.fit(z * over, y), rel=1e-3)
