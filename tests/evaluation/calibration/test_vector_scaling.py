"""Vector scaling against a slow optimiser without gradients, and what the ridge and the refusals do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from wardround.evaluation.calibration import temperature, vector_scaling
from wardround.evaluation.calibration.checks import InvalidCalibratorError
from wardround.evaluation.calibration.vector_scaling import VectorScaling

World = Callable[..., tuple[np.ndarray, np.ndarray]]
SHIFTED = (0.15, 0.2, 0.25, 0.4)


def nll(z: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(logsumexp(z, axis=1) - z[np.arange(len(y)), y]))


@pytest.mark.parametrize("ridge", [0.0, 4.0])
def test_it_is_the_minimum_that_a_slow_optimiser_finds(world: World, ridge: float) -> None:
    z, y = world(150, np.random.default_rng(1), mix=SHIFTED)
    fitted = vector_scaling.fit(z, y, ridge=ridge)
    assert fitted is not None
    centred = z - z.mean(axis=1)[:, None]
    scale = np.sqrt((centred**2).mean())

    def objective(theta: np.ndarray) -> float:
        w, b = theta[:4], theta[4:]
        extra = sum((scale * (w - w.mean())) ** 2) + sum(b**2)
        return nll(w * centred + b, y) + 0.5 * ridge * extra / len(y)

    slow = minimize(
        objective, np.r_[np.full(4, 0.5), np.zeros(4)], method="Powell", options={"maxfev": 6000, "ftol": 1e-13}
    )
    biases = np.array(fitted.biases)
    assert objective(np.r_[fitted.weights, biases - biases.mean()]) == pytest.approx(slow.fun, abs=1e-6)
    if ridge == 0.0:
        assert nll(fitted.apply(z), y) == pytest.approx(slow.fun, abs=1e-6)


def test_a_large_ridge_is_temperature_scaling_and_a_small_one_fits_better(world: World) -> None:
    z, y = world(200, np.random.default_rng(2), mix=SHIFTED)
    scaled = temperature.fit(z, y)
    held = vector_scaling.fit(z, y, ridge=1e9)
    assert scaled is not None
    assert held is not None
    np.testing.assert_allclose(held.weights, 1.0 / scaled, rtol=1e-3)
    np.testing.assert_allclose(held.biases, 0.0, atol=1e-6)
    losses = [nll(fit.apply(z), y) for r in (0.0, 4.0, 100.0) if (fit := vector_scaling.fit(z, y, ridge=r))]
    assert losses == sorted(losses)
    assert losses[-1] < nll(z / scaled, y)


def test_the_ridge_keeps_few_images_from_overfitting(world: World) -> None:
    """Mean loss on new images of a world where a temperature is all there is to learn."""
    generator = np.random.default_rng(3)
    gains = []
    for _ in range(5):
        z, y = world(40, generator)
        new, truth = world(2000, generator)
        fits = [vector_scaling.fit(z, y, ridge=ridge, fewest=2) for ridge in (0.0, vector_scaling.RIDGE)]
        if all(fits):
            bare, drawn = (nll(fit.apply(new), truth) for fit in fits if fit)
            gains.append(bare - drawn)
    assert len(gains) >= 3
    assert np.mean(gains) > 0.05


def test_it_learns_another_mix_of_classes_where_a_temperature_cannot(world: World) -> None:
    generator = np.random.default_rng(4)
    z, y = world(150, generator, mix=SHIFTED)
    new, truth = world(4000, generator, mix=SHIFTED)
    fitted, scaled = vector_scaling.fit(z, y), temperature.fit(z, y)
    assert fitted is not None
    assert scaled is not None
    assert nll(fitted.apply(new), truth) < nll(new / scaled, truth) - 0.05


def test_what_an_images_logits_share_changes_nothing(world: World) -> None:
    z, y = world(80, np.random.default_rng(5))
    moved = z + np.random.default_rng(6).normal(size=(80, 1)) * 50
    first, second = vector_scaling.fit(z, y), vector_scaling.fit(moved, y)
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(first.apply(moved), first.apply(z), atol=1e-9)
    np.testing.assert_allclose(second.weights, first.weights, rtol=1e-4)


def test_too_few_images_of_a_class_give_no_fit(world: World) -> None:
    z, y = world(200, np.random.default_rng(7))
    assert vector_scaling.fit(z[:0], y[:0]) is None
    assert vector_scaling.fit(z[:9], y[:9]) is None
    present = y < 2  # two of four classes at a site
    assert vector_scaling.fit(z[present], y[present]) is None
    assert vector_scaling.fit(z, np.zeros(200, dtype=int)) is None
    few = np.r_[np.flatnonzero(y < 3), np.flatnonzero(y == 3)[:4]]
    assert vector_scaling.fit(z[few], y[few]) is None
    enough = np.r_[np.flatnonzero(y < 3), np.flatnonzero(y == 3)[:5]]
    assert vector_scaling.fit(z[enough], y[enough]) is not None
    assert vector_scaling.fit(z, z.argmax(axis=1)) is None  # all right by a margin


@pytest.mark.parametrize(
    ("weights", "biases"),
    [
        ((1.0,), (0.0,)),
        ((1.0, 1.0), (0.0,)),
        ((1.0, 0.0), (0.0, 0.0)),
        ((1.0, -1.0), (0.0, 0.0)),
        ((1.0, 21.0), (0.0, 0.0)),
        ((1.0, float("nan")), (0.0, 0.0)),
        ((1.0, 1.0), (0.0, float("inf"))),
    ],
)
def test_parameters_out_of_range_are_refused(weights: tuple[float, ...], biases: tuple[float, ...]) -> None:
    with pytest.raises(InvalidCalibratorError):
        VectorScaling(weights, biases)
