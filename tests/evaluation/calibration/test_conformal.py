"""Thresholds against their definition, coverage in simulation, and histograms that are never less careful."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration import conformal
from wardround.evaluation.calibration.checks import InvalidCalibratorError
from wardround.evaluation.calibration.conformal import Thresholds
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.figures.sample import Column

World = Callable[..., tuple[np.ndarray, np.ndarray]]
MIX = (0.25, 0.25, 0.25, 0.25)


def test_the_rank_is_exact_where_floats_are_not() -> None:
    for n in range(1, 200):
        for tenths in (5, 8, 9):
            exact = math.ceil(Fraction((n + 1) * tenths, 10))
            assert conformal.rank(n, tenths / 10) == (exact if exact <= n else None)
    assert conformal.rank(0, 0.9) is None
    # Too few exactly where n + 1 < 1 / alpha.
    assert [n for n in range(30) if conformal.rank(n, 0.9) is None] == list(range(9))
    assert [n for n in range(30) if conformal.rank(n, 0.95) is None] == list(range(19))


def test_thresholds_are_order_statistics_of_the_scores_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]])
    y = np.array([0, 0, 0, 1, 1])  # scores .1 .2 .7 | .6 .5
    found = conformal.fit(p, y, nominal=0.5)
    assert found.marginal == pytest.approx(0.5)  # third of five
    assert found.by_class == (pytest.approx(0.2), pytest.approx(0.6))
    assert (found.n, found.n_by_class) == (5, (3, 2))
    strict = conformal.fit(p, y, nominal=0.75)
    assert strict.by_class == (pytest.approx(0.7), None)
    new = np.array([[0.85, 0.15], [0.55, 0.45]])
    assert conformal.prediction_sets(new, strict, by_class=True).tolist() == [[True, True], [True, True]]
    assert conformal.prediction_sets(new, found).tolist() == [[True, False], [False, True]]
    assert conformal.prediction_sets(new, found, by_class=False).tolist() == [[True, False], [True, False]]


def test_a_class_with_too_few_images_is_in_every_set_by_class_and_the_one_threshold_is_used_instead(
    world: World,
) -> None:
    z, y = world(300, np.random.default_rng(1), mix=(0.5, 0.3, 0.2, 0.0))
    found = conformal.fit(softmax(z), y, nominal=0.9)
    assert found.by_class[3] is None
    sure = np.array([[1.0, 0.0, 0.0, 0.0]])
    assert conformal.prediction_sets(sure, found, by_class=True).tolist() == [[True, False, False, True]]
    assert not found.each_class
    assert conformal.prediction_sets(sure, found).tolist() == [[True, False, False, False]]
    nothing = conformal.fit(softmax(z[:0]), y[:0], nominal=0.9)
    assert nothing.marginal is None
    for by_class in (True, False):
        assert conformal.prediction_sets(softmax(z), nothing, by_class=by_class).all()


@given(st.integers(0, 300), st.integers(0, 10_000), st.sampled_from([1, 7, 200]), st.sampled_from([0.5, 0.8, 0.9]))
@settings(max_examples=60, deadline=None)
def test_a_histogram_never_covers_less_than_the_scores(n: int, seed: int, bins: int, nominal: float) -> None:
    generator = np.random.default_rng(seed)
    p = softmax(generator.normal(size=(n, 3)) * generator.choice([0.0, 1.0, 30.0]))
    y = generator.integers(0, 3, size=n)
    exact = conformal.fit(p, y, nominal=nominal)
    counts = conformal.score_histogram(p, y, bins)
    rough = conformal.thresholds_from_histogram(counts, nominal=nominal)
    assert (rough.n, rough.n_by_class) == (exact.n, exact.n_by_class)
    for by_class in (True, False):
        narrow, wide = (conformal.prediction_sets(p, t, by_class=by_class) for t in (exact, rough))
        assert not (narrow & ~wide).any()
    for fine, coarse in zip((exact.marginal, *exact.by_class), (rough.marginal, *rough.by_class), strict=True):
        assert (fine is None) == (coarse is None)
        if fine is not None and coarse is not None:
            assert fine <= coarse <= fine + 1 / bins + 1e-12


def test_histograms_of_sites_add_up_to_that_of_all(world: World) -> None:
    z, y = world(90, np.random.default_rng(2))
    p = softmax(z)
    parts = sum(conformal.score_histogram(p[i::3], y[i::3]) for i in range(3))
    np.testing.assert_array_equal(parts, conformal.score_histogram(p, y))
    assert parts.shape == (4, 200)
    empty = conformal.score_histogram(p[:0], y[:0])
    assert empty.sum() == 0
    for bad in (np.zeros(5, dtype=int), np.full((2, 5), -1), np.zeros((1, 5), dtype=int)):
        with pytest.raises(InvalidPredictionsError, match="no count"):
            conformal.thresholds_from_histogram(bad, nominal=0.9)


def test_scores_are_of_one_image_a_group_and_by_class_of_one_a_group_and_class(world: World) -> None:
    z, y = world(60, np.random.default_rng(3))
    groups = np.repeat(np.arange(20), 3)
    found = conformal.fit_by_group(softmax(z), y, groups, np.random.default_rng(0), nominal=0.9)
    assert found.n == 20
    assert found.n_by_class == tuple(len(set(groups[y == k])) for k in range(4))
    alone = conformal.fit_by_group(softmax(z), y, np.arange(60), np.random.default_rng(0), nominal=0.9)
    assert alone == conformal.fit(softmax(z), y, nominal=0.9)


def simulate(world: World, runs: int, n: int, seed: int) -> dict[str, tuple[float, float]]:
    """Mean coverage over calibration sets of n images, and of n images a class, by variant: (mean, n behind it)."""
    generator = np.random.default_rng(seed)
    held: dict[str, list[float]] = {}
    for _ in range(runs):
        z, y = world(n, generator, mix=MIX)
        new, truth = world(1000, generator, mix=MIX)
        # As many of each class as there are of all together, so that one bound holds for both.
        many, labels = world(8 * n, generator, mix=MIX)
        chosen = np.concatenate([np.flatnonzero(labels == k)[:n] for k in range(4)])
        p, q, r = softmax(z / 2), softmax(new / 2), softmax(many[chosen] / 2)
        for name, fit in (
            ("exact", conformal.fit),
            (
                "histogram",
                lambda p, y, nominal: conformal.thresholds_from_histogram(
                    conformal.score_histogram(p, y), nominal=nominal
                ),
            ),
        ):
            marginal = conformal.prediction_sets(q, fit(p, y, nominal=0.9), by_class=False)
            held.setdefault(f"{name}, marginal", []).append(marginal[np.arange(1000), truth].mean())
            apart = conformal.prediction_sets(q, fit(r, labels[chosen], nominal=0.9))[np.arange(1000), truth]
            for k in range(4):
                held.setdefault(f"{name}, class {k}", []).append(apart[truth == k].mean())
    return {name: (float(np.mean(values)), float(np.std(values) / math.sqrt(runs))) for name, values in held.items()}


def test_mean_coverage_is_what_was_named(world: World) -> None:
    """The short one: as the slow one below, within five standard errors more."""
    for name, (mean, error) in simulate(world, 60, 60, 5).items():
        assert 0.9 - 0.01 - 5 * error < mean < 0.9 + 1 / 61 + 0.01 + 5 * error, name


@pytest.mark.slow
def test_mean_coverage_over_500_simulations(world: World) -> None:
    for n in (20, 100):
        for name, (mean, _) in simulate(world, 500, n, 6).items():
            print(f"n = {n}, {name}: {mean:.4f}")
            assert 0.9 - 0.01 <= mean <= 0.9 + 1 / (n + 1) + 0.01, (n, name)


def test_coverage_counts_all_images_each_class_and_each_site() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]], dtype=bool)
    labels = np.array([0, 1, 1, 0])
    site = Column(("alder", "birch", "cedar"), np.array([0, 0, 1, 1]))
    rows = {row.name: row for row in conformal.coverage(sets, labels, ("a", "b", "c"), nominal=0.9, site=site)}
    assert list(rows) == ["all", "a", "b", "c", "alder", "birch", "cedar"]
    assert (rows["all"].covered.numerator, rows["all"].covered.denominator) == (2, 4)
    assert (rows["all"].mean_size, rows["all"].empty, rows["all"].single) == (1.0, 0.25, 0.5)
    assert rows["a"].covered.value == 0.5
    assert rows["alder"].covered.value == 1.0
    assert rows["birch"].covered.value == 0.0
    for name in ("c", "cedar"):  # nobody there: nothing is known
        assert rows[name].covered.value is None
        assert (rows[name].mean_size, rows[name].empty, rows[name].single) == (None, None, None)
    with pytest.raises(InvalidPredictionsError, match="shape"):
        conformal.coverage(sets, labels, ("a", "b"), nominal=0.9)


@pytest.mark.parametrize("nominal", [0.0, 1.0, float("nan")])
def test_a_coverage_of_nothing_or_everything_is_refused(nominal: float) -> None:
    with pytest.raises(InvalidCalibratorError):
        Thresholds(nominal, 0.5, (0.5, 0.5), 100, (50, 50))


@pytest.mark.parametrize("bad", [[[0.5, 0.6]], [[-0.1, 1.1]], [[float("nan"), 1.0]], [[1.0]], [0.5, 0.5]])
def test_what_is_no_probability_is_refused(bad: list[object]) -> None:
    thresholds = Thresholds(0.9, 0.5, (0.5, 0.5), 100, (50, 50))
    with pytest.raises(InvalidPredictionsError):
        conformal.prediction_sets(np.array(bad), thresholds)
