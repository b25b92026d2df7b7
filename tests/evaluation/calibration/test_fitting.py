"""A whole calibration from validation images: what gives way to what, and what it promises on new images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration import abstention, conformal, fitting, isotonic, temperature, vector_scaling
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.fitting import fit_calibrator, from_sums
from wardround.evaluation.calibration.group_draws import group_folds, one_per_group
from wardround.evaluation.errors import InvalidPredictionsError

World = Callable[..., tuple[np.ndarray, np.ndarray]]
EVEN = (0.25, 0.25, 0.25, 0.25)


def fit(kind: Any, z: np.ndarray, y: np.ndarray, groups: Any = None, **options: Any) -> Calibrator:
    options = {"coverage": 0.9, "risk": None, "abstain_below": 0.5} | options
    return fit_calibrator(kind, z, y, np.arange(len(y)) if groups is None else groups, **options)


def test_each_kind_is_what_its_module_fits(world: World) -> None:
    z, y = world(400, np.random.default_rng(1), mix=EVEN)
    assert fit("none", z, y).parameters is None
    assert fit("temperature", z, y).parameters == temperature.fit(z, y)
    assert fit("vector", z, y).parameters == vector_scaling.fit(z, y)
    assert fit("isotonic", z, y).parameters == isotonic.fit(z, y)
    for kind in ("temperature", "vector", "isotonic"):
        made = fit(kind, z, y)
        assert (made.kind, made.wanted, made.source, made.n, made.classes) == (kind, kind, "site", 400, 4)
        assert made == fit(kind, z, y)  # no randomness but the fixed seed


def test_a_kind_with_too_few_images_gives_way(world: World) -> None:
    z, y = world(80, np.random.default_rng(2), mix=EVEN)
    few = fit("isotonic", z, y)
    assert (few.kind, few.wanted, few.source) == ("temperature", "isotonic", "site")
    two = y < 2  # two of four classes at this site
    assert fit("vector", z[two], y[two]).kind == "temperature"
    nothing = fit("vector", z[:8], y[:8])
    assert (nothing.kind, nothing.wanted, nothing.source, nothing.n) == ("none", "vector", "none", 8)
    lent = fit("vector", z[:8], y[:8], federated_temperature=1.7)
    assert (lent.kind, lent.source, lent.parameters, lent.n) == ("temperature", "federated", 1.7, None)
    one = fit("temperature", z[y == 0], y[y == 0], federated_temperature=1.7)
    assert one.source == "federated"
    # Asked for none, or the model has its own: nothing is lent.
    assert fit("none", z[:8], y[:8], federated_temperature=1.7).source == "none"
    own = fit("vector", z, y, federated_temperature=1.7, own_temperature=True)
    assert (own.kind, own.wanted, own.source, own.parameters) == ("none", "none", "model", None)
    assert own.sets == conformal.fit(softmax(z), y, nominal=0.9)


def test_a_site_without_validation_images_has_every_class_in_every_set(world: World) -> None:
    z, y = world(30, np.random.default_rng(3))
    empty = fit("isotonic", z[:0], y[:0], risk=0.1)
    assert (empty.kind, empty.n, empty.risk_reached, empty.abstain_below) == ("none", 0, False, 0.5)
    sets = empty.in_set(empty.probabilities(z))
    assert sets is not None
    assert sets.all()


def test_the_threshold_for_a_risk_replaces_the_fixed_one_where_it_is_reached(world: World) -> None:
    z, y = world(400, np.random.default_rng(4))
    reached = fit("temperature", z, y, risk=0.1)
    p = reached.probabilities(z)
    assert reached.risk_reached
    expected = abstention.choose(p, y, np.arange(400), np.random.default_rng(0), risk=0.1)
    assert reached.abstain_below == expected.threshold
    assert reached.abstain_below != 0.5
    assert 0.05 < reached.answers(p).mean() < 1.0
    missed = fit("temperature", z, y, risk=0.001)
    assert (missed.risk_reached, missed.abstain_below, missed.abstain_risk) == (False, 0.5, 0.001)


def test_groups_count_once(world: World) -> None:
    z, y = world(100, np.random.default_rng(5))
    alone = fit("temperature", z, y)
    copies = fit("temperature", z.repeat(3, axis=0), y.repeat(3), np.arange(100).repeat(3))
    assert copies.sets is not None
    assert alone.sets is not None
    assert (copies.sets.n, copies.sets.n_by_class) == (100, alone.sets.n_by_class)
    assert alone.sets.n_by_class is not None
    assert copies.sets.marginal == pytest.approx(alone.sets.marginal)
    assert copies.n == 300


def test_thresholds_do_not_come_from_the_numbers_of_the_scaling(world: World) -> None:
    """Cross-fitted scores are no better than new ones; scores of the fit itself would be."""
    z, y = world(300, np.random.default_rng(6), mix=EVEN)
    made = fit("isotonic", z, y)
    naive = conformal.fit(made.probabilities(z), y, nominal=0.9)
    assert made.sets is not None
    assert made.sets != naive
    # By hand, fold by fold.
    fold = group_folds(y, np.arange(300), fitting.FOLDS, np.random.default_rng(fitting.SEED))
    held = np.empty_like(z)
    for k in range(fitting.FOLDS):
        part = isotonic.fit(z[fold != k], y[fold != k], fewest=15)
        assert part is not None
        held[fold == k] = part.apply(z[fold == k])
    assert made.sets == conformal.fit(softmax(held), y, nominal=0.9)


def test_folds_keep_groups_whole_and_classes_even() -> None:
    generator = np.random.default_rng(7)
    groups = generator.integers(0, 50, size=200)
    labels = groups % 2
    fold = group_folds(labels, groups, 5, generator)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    for label in (0, 1):
        dealt = [len(set(groups[(fold == k) & (labels == label)])) for k in range(5)]
        assert max(dealt) - min(dealt) <= 1
    assert group_folds(labels[:0], groups[:0], 5, generator).shape == (0,)


def test_one_image_of_each_group_is_drawn_evenly() -> None:
    groups = ["b", "a", "b", "b", "c"]
    generator = np.random.default_rng(8)
    drawn = [one_per_group(groups, generator).tolist() for _ in range(600)]
    assert all(len(rows) == 3 and rows == sorted(rows) and {1, 4} <= set(rows) for rows in drawn)
    share = np.mean([0 in rows for rows in drawn])
    assert 0.27 < share < 0.4
    assert one_per_group([], generator).tolist() == []


def test_out_of_sums_it_is_what_one_place_would_fit(world: World) -> None:
    z, y = world(600, np.random.default_rng(9))
    sums = [temperature.grid_nll_sums(z[i::3], y[i::3]) for i in range(3)]
    divisor = temperature.fit_federated(sum(sums))
    assert divisor is not None
    p = softmax(z, divisor)
    scores = sum(conformal.score_histogram(p[i::3], y[i::3]) for i in range(3))
    tops = sum(abstention.confidence_histogram(p[i::3], y[i::3]) for i in range(3))
    options: dict[str, Any] = {"classes": 4, "coverage": 0.9, "risk": 0.1, "abstain_below": 0.5}
    made = from_sums(divisor, n=600, scores=scores, confidences=tops, **options)
    assert (made.kind, made.source, made.parameters, made.n) == ("temperature", "federated", divisor, 600)
    exact = conformal.fit(p, y, nominal=0.9)
    assert made.sets is not None
    assert (made.sets.n, made.sets.n_by_class) == (None, None)  # it is published
    assert exact.marginal is not None
    assert made.sets.marginal is not None
    assert exact.marginal <= made.sets.marginal <= exact.marginal + 0.005
    assert made.risk_reached
    assert made.abstain_below == abstention.choose_from_histogram(tops, risk=0.1).threshold
    assert Calibrator.from_dict(made.to_dict()) == made
    bare = from_sums(None, **options)
    assert (bare.kind, bare.source, bare.sets, bare.risk_reached, bare.n) == ("none", "none", None, False, None)
    own = from_sums(divisor, n=600, own_temperature=True, scores=scores, **options)
    assert (own.kind, own.source) == ("none", "model")
    with pytest.raises(InvalidPredictionsError, match="classes"):
        from_sums(divisor, n=600, scores=scores[:3], **options)


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 200, 600])
@pytest.mark.parametrize("kind", ["none", "temperature", "vector", "isotonic"])
def test_coverage_of_a_whole_calibration(world: World, kind: str, n: int) -> None:
    """What cross-fitting costs: mean coverage of 200 calibrations of n images, at most 3 points from what was named."""
    generator = np.random.default_rng(10)
    rows, held, apart, risks = np.arange(1000), [], [], []
    for _ in range(200):
        z, y = world(n, generator, mix=EVEN)
        new, truth = world(1000, generator, mix=EVEN)
        made = fit(kind, z, y, risk=0.1)
        p = made.probabilities(new)
        together, each = made.in_set(p, by_class=False), made.in_set(p)
        assert together is not None
        assert each is not None
        held.append(together[rows, truth].mean())
        apart.append(np.mean([each[rows, truth][truth == k].mean() for k in range(4)]))
        if made.risk_reached and (answered := made.answers(p)).any():
            risks.append((p.argmax(axis=1) != truth)[answered].mean())
    mean, by_class = np.mean(held), np.mean(apart)
    exceeded = sum(risk > 0.1 for risk in risks) / 200
    print(f"{kind}, n = {n}: {mean:.4f}, by class {by_class:.4f}; risk above 10 % in {exceeded:.3f} of runs")
    assert 0.88 <= mean <= 0.93
    assert 0.88 <= by_class <= 0.95
    # Of 1,000 new images; the share wrong has an error of its own of about 1 point.
    assert exceeded <= 0.15


PER = 3  # images a patient


def patients(n: int, per: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and groups of n patients of four even classes; most of the noise is a patient's own."""
    y = generator.integers(0, 4, n)
    noise = 0.8 * generator.normal(size=(n, 1, 4)) + 0.6 * generator.normal(size=(n, per, 4))
    z = 4.0 * (noise + 2.0 * np.eye(4)[y][:, None, :])  # too sure by a factor of 2
    return z.reshape(n * per, 4), np.repeat(y, per), np.repeat(np.arange(n), per)


def held(made: Calibrator, generator: np.random.Generator) -> tuple[float, float]:
    """Share of sets of 1,000 new patients that hold the class, with the one threshold, and mean over classes."""
    new, truth, _ = patients(1000, 1, generator)
    p = made.probabilities(new)
    together, each = made.in_set(p, by_class=False), made.in_set(p, by_class=True)
    assert together is not None
    assert each is not None
    rows = np.arange(1000)
    return float(together[rows, truth].mean()), float(np.mean([each[rows, truth][truth == k].mean() for k in range(4)]))


def one_site(n: int, generator: np.random.Generator) -> Calibrator:
    z, y, groups = patients(n, PER, generator)
    return fit("temperature", z, y, groups)


def three_sites(n: int, generator: np.random.Generator) -> Calibrator:
    """Sites add up likelihoods on the grid, then histograms at the temperature that follows."""
    sites = [patients(part, PER, generator) for part in (n // 2, n // 4, n - n // 2 - n // 4)]
    divisor = temperature.fit_federated(sum(temperature.grid_nll_sums(z, y) for z, y, _ in sites))
    assert divisor is not None
    scores, once = np.zeros((4, conformal.SCORE_BINS), dtype=np.int64), np.zeros(conformal.SCORE_BINS, dtype=np.int64)
    for z, y, groups in sites:
        p = softmax(z, divisor)
        pairs, alone = one_per_group(groups * 4 + y, generator), one_per_group(groups, generator)
        scores += conformal.score_histogram(p[pairs], y[pairs])
        once += conformal.score_histogram(p[alone], y[alone]).sum(axis=0)
    return from_sums(divisor, classes=4, coverage=0.9, risk=None, abstain_below=0.5, scores=scores, once=once)


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 200])
@pytest.mark.parametrize("make", [one_site, three_sites])
def test_mean_coverage_over_500_simulations_of_the_whole_pipeline(
    make: Callable[[int, np.random.Generator], Calibrator], n: int
) -> None:
    """n patients of three alike images: the temperature and the thresholds are fitted on the same ones.

    The one threshold is from n images, so mean coverage lies in [nominal - .01, nominal + 1 / (n + 1) + .01]; those of
    the classes are from about n / 4 each.
    """
    generator = np.random.default_rng([11, n])
    runs = np.array([held(make(n, generator), generator) for _ in range(500)])
    together, by_class = runs.mean(axis=0)
    error = runs.std(axis=0).max() / np.sqrt(500)
    print(f"{make.__name__}, {n} patients: {together:.4f}, by class {by_class:.4f}; standard error {error:.4f}")
    assert 0.9 - 0.01 <= together <= 0.9 + 1 / (n + 1) + 0.01
    assert by_class >= 0.9 - 0.01
    if n == 200:  # with 60, a class has now and then fewer than the 9 patients that a threshold of its own takes
        assert by_class <= 0.9 + 1 / (n / 4 + 1) + 0.01
