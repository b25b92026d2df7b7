"""Isotonic curves against scikit-learn, and what becomes of zeros, ties and classes with few images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from wardround.evaluation.arrays import log_softmax, softmax
from wardround.evaluation.calibration import isotonic
from wardround.evaluation.calibration.checks import InvalidCalibratorError
from wardround.evaluation.calibration.isotonic import Curve, IsotonicCurves

World = Callable[..., tuple[np.ndarray, np.ndarray]]


def fitted(z: np.ndarray, y: np.ndarray) -> IsotonicCurves:
    found = isotonic.fit(z, y)
    assert found is not None
    return found


@pytest.mark.parametrize("over", [0.5, 2.0, 40.0])
def test_curves_are_those_of_scikit_learn(world: World, over: float) -> None:
    """At 40 most probabilities are saturated, so ties are pooled."""
    generator = np.random.default_rng(1)
    z, y = world(600, generator, over=over)
    new, _ = world(300, generator, over=over)
    p, q = softmax(z), softmax(new)
    slow = np.stack(
        [
            IsotonicRegression(out_of_bounds="clip").fit(p[:, k], (y == k).astype(float)).predict(q[:, k])
            for k in range(4)
        ],
        axis=1,
    )
    slow = np.maximum(slow, 1 / 602)
    expected = slow / slow.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(fitted(z, y).apply(new)), expected, atol=1e-9)


def test_it_improves_a_model_that_is_too_sure(world: World) -> None:
    generator = np.random.default_rng(2)
    z, y = world(800, generator, over=6.0)
    new, truth = world(4000, generator, over=6.0)
    rows = np.arange(4000)
    after = -log_softmax(fitted(z, y).apply(new))[rows, truth].mean()
    assert after < -log_softmax(new)[rows, truth].mean() - 0.2


def test_no_probability_is_zero_and_an_image_that_no_curve_believes_in_is_even() -> None:
    flat = Curve((0.2, 0.6), (0.0, 1.0))
    curves = IsotonicCurves((flat, flat, flat, Curve((0.5,), (0.0,))), 0.01)
    logits = np.log(np.array([[0.2, 0.2, 0.2, 0.4], [0.97, 0.01, 0.01, 0.01], [0.45, 0.45, 0.05, 0.05]]))
    p = softmax(curves.apply(logits))
    np.testing.assert_allclose(p[0], 0.25)
    np.testing.assert_allclose(p[1], np.array([1.0, 0.01, 0.01, 0.01]) / 1.03)
    np.testing.assert_allclose(p[2], np.array([0.625, 0.625, 0.01, 0.01]) / 1.27)
    assert np.isfinite(curves.apply(logits)).all()


def test_every_class_needs_thirty_images(world: World) -> None:
    z, y = world(900, np.random.default_rng(3))
    rare = np.flatnonzero(y == 3)
    assert isotonic.fit(z, y) is not None
    for count, known in ((29, False), (30, True)):
        rows = np.r_[np.flatnonzero(y < 3), rare[:count]]
        assert (isotonic.fit(z[rows], y[rows]) is not None) == known
    assert isotonic.fit(z[y < 2], y[y < 2]) is None
    assert isotonic.fit(z[:0], y[:0], fewest=0) is None


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ((), ()),
        ((0.1, 0.2), (0.0,)),
        ((0.2, 0.1), (0.0, 1.0)),
        ((0.1, 0.1), (0.0, 1.0)),
        ((0.1, 0.2), (0.6, 0.5)),
        ((0.1, 1.2), (0.0, 1.0)),
        ((0.1, 0.2), (-0.1, 1.0)),
        ((0.1, float("nan")), (0.0, 1.0)),
    ],
)
def test_a_curve_that_is_none_is_refused(at: tuple[float, ...], value: tuple[float, ...]) -> None:
    with pytest.raises(InvalidCalibratorError):
        Curve(at, value)


@pytest.mark.parametrize("floor", [0.0, 1.0, float("nan")])
def test_a_floor_of_nothing_or_everything_is_refused(floor: float) -> None:
    curve = Curve((0.5,), (0.5,))
    with pytest.raises(InvalidCalibratorError):
        IsotonicCurves((curve, curve), floor)
    with pytest.raises(InvalidCalibratorError):
        IsotonicCurves((curve,), 0.1)
