"""A whole figure set: agreement with the study's other pages, determinism, and the traps that make figures lie."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.figures.compute import compute
from wardround.evaluation.figures.figure_set import Estimate, FigureSet
from wardround.evaluation.figures.sample import Column, Sample
from wardround.evaluation.figures.subgroups import NOT_RECORDED, TOO_FEW_IMAGES
from wardround.evaluation.figures.twins import from_json, to_json
from wardround.evaluation.intervals import ONE_CLASS, TOO_FEW
from wardround.evaluation.metrics import figures as metrics
from wardround.evaluation.per_class import rate
from wardround.evaluation.report_model import ClassName, Predictions
from wardround.evaluation.scores import score


def make(n: int, k: int, *, per: int = 2, seed: int = 0, scale: float = 1.0, calibrated: bool = False) -> Sample:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    z = (generator.normal(size=(n, k)) * 1.5 + 1.5 * np.eye(k)[labels]) * scale
    names = tuple(f"class {i}" for i in range(k))
    return Sample(z, labels, np.arange(n) // per, names, z / 2 if calibrated else None, group_key="patient")


def quick(sample: Sample, **more: object) -> FigureSet:
    return compute(sample, model="m", seed=4, resamples=40, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("draws", [None, 60])
def test_headline_interval_is_the_one_of_the_dossier(draws: int | None) -> None:
    sample = make(150, 4, calibrated=True)
    names = tuple(ClassName(name, name) for name in sample.classes)
    told = score(
        Predictions.from_arrays(sample.logits, sample.labels, sample.groups.tolist(), temperature=2.0), names, seed=7
    )
    whole = compute(sample, model="m", seed=7, resamples=draws)
    found, calibration = whole.balanced_accuracy, whole.calibration
    assert calibration.chance is not None
    assert (told.ece_once, told.ece_bound) == (calibration.chance.observed, calibration.chance.bound)
    assert told.brier == calibration.brier.value
    assert draws is not None or (told.brier_low, told.brier_high) == (calibration.brier.low, calibration.brier.high)
    assert (found.value, found.low, found.high) == (pytest.approx(told.balanced_accuracy), told.low, told.high)
    assert found.note == told.note


def test_values_equal_the_figures_of_metrics_before_and_after() -> None:
    sample = make(200, 3, calibrated=True, seed=2)
    found = quick(sample)
    assert found.after is not None
    for part, temperature in ((found.before, None), (found.after, 2.0)):
        known = metrics(sample.logits, sample.labels, temperature=temperature, classes=sample.classes)
        for name in ("ece", "classwise_ece", "brier", "nll"):
            assert getattr(part, name).value == pytest.approx(getattr(known, name), abs=1e-9)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        assert getattr(found, name).value == pytest.approx(getattr(known, name), abs=1e-9)
    assert found.calibration is found.after


def test_same_seed_same_figures_and_another_seed_other_intervals() -> None:
    sample = make(80, 3)
    assert quick(sample) == quick(sample)
    other = compute(sample, model="m", seed=5, resamples=40)
    assert other.accuracy.value == quick(sample).accuracy.value
    assert other.accuracy.low != quick(sample).accuracy.low


@pytest.mark.parametrize("k", range(2, 9))
@pytest.mark.parametrize("n", [0, 1, 2, 37])
def test_any_size_and_number_of_classes_gives_finite_figures_or_null(n: int, k: int) -> None:
    found = quick(make(n, k, calibrated=True), abstain_below=0.5)
    assert b"NaN" not in to_json(found)
    assert from_json(to_json(found)) == found  # a nan or an infinity would come back as null
    assert (found.n, len(found.per_class), len(found.decision)) == (n, k, k)
    assert np.array(found.confusion).sum() == n


def test_n_is_one() -> None:
    found = quick(make(1, 4))
    assert (found.accuracy.value, found.accuracy.low, found.accuracy.note) == (None, None, TOO_FEW)
    assert np.array(found.confusion).sum() == 1
    assert (found.balanced_accuracy.value, found.balanced_accuracy.note) == (None, ONE_CLASS)
    assert found.before.mce_n == 1
    assert found.before.slope.value is None


def estimates(value: object) -> Iterator[Estimate]:
    """Every estimate in nested dataclasses and tuples."""
    if isinstance(value, Estimate):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from estimates(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from estimates(getattr(value, field.name))


@pytest.mark.parametrize(("n", "known"), [(90, False), (100, True)])
def test_under_ten_groups_every_figure_is_null_and_every_count_stays(n: int, known: bool) -> None:
    sample = make(n, 3, per=10, calibrated=True)
    found = quick(sample, abstain_below=0.5)
    assert found.n_groups == n // 10
    assert (found.accuracy.value is not None, found.before.chance is not None) == (known, known)
    assert known or all(each.value is None and each.note for each in estimates(found))
    assert known or all(curve.points == () for curve in found.decision)
    assert np.array(found.confusion).sum() == sum(held.n for held in found.before.bins) == n
    assert found.per_class[0].sensitivity.denominator == found.counts[0]


def test_rates_bins_and_risks_are_by_patient_and_plain_for_one_image_a_patient() -> None:
    generator = np.random.default_rng(8)
    labels = np.repeat(generator.integers(0, 2, 30), 10)
    z = np.repeat(generator.normal(size=(30, 2)), 10, axis=0) + 1.2 * np.eye(2)[labels]
    z += 0.3 * generator.normal(size=z.shape)
    patients = quick(Sample(z, labels, np.repeat(np.arange(30), 10), ("a", "b")), abstain_below=0.7)
    images = quick(Sample(z, labels, np.arange(300), ("a", "b")), abstain_below=0.7)
    pairs = [
        (getattr(mine, name), getattr(plain, name))
        for mine, plain in zip(patients.per_class, images.per_class, strict=True)
        for name in ("sensitivity", "specificity", "ppv", "npv", "called")
    ]
    pairs += [(a.risk, b.risk) for a, b in zip(patients.risk.points, images.risk.points, strict=True)]
    for mine, plain in pairs:
        assert plain == rate(plain.numerator, plain.denominator)
        assert (mine.numerator, mine.denominator, mine.value) == (plain.numerator, plain.denominator, plain.value)
        assert mine.low <= plain.low
        assert mine.high >= plain.high
    assert np.mean([(a.high - a.low) / (b.high - b.low) for a, b in pairs]) > 1.5
    for mine, plain in zip(patients.before.bins, images.before.bins, strict=True):
        assert (mine.n, mine.correct, mine.accuracy) == (plain.n, plain.correct, plain.accuracy)
        assert plain.n == 0 or mine.accuracy_low <= plain.accuracy_low


def test_no_image_is_null_and_never_zero() -> None:
    found = quick(make(0, 3))
    for estimate in (found.accuracy, found.before.ece, found.before.brier, found.risk.aurc, found.per_class[0].auroc):
        assert estimate.value is None
        assert estimate.note
    assert (found.before.chance, found.risk.points, found.classes_present) == (None, (), ())


def test_two_of_four_classes_at_a_site() -> None:
    sample = make(120, 4)
    here = sample.at(np.flatnonzero(sample.labels < 2))
    found = quick(here)
    assert found.classes_present == ("class 0", "class 1")
    recalls = [found.per_class[c].sensitivity.value for c in (0, 1)]
    assert found.balanced_accuracy.value == pytest.approx(np.mean([r for r in recalls if r is not None]))
    assert found.balanced_accuracy.low is not None
    absent = found.per_class[3]
    assert (absent.n, absent.sensitivity.value, absent.f1.value, absent.auroc.value) == (0, None, None, None)
    assert found.decision[3].points == ()
    assert absent.ece.value is not None  # probability given to a class that does not occur is an error all the same


def test_one_class_site_is_null_and_not_one() -> None:
    sample = make(60, 3)
    found = quick(sample.at(np.flatnonzero(sample.labels == 0)))
    for estimate in (found.balanced_accuracy, found.macro_f1, found.macro_auroc):
        assert (estimate.value, estimate.low, estimate.note) == (None, None, ONE_CLASS)


def test_saturated_logits_and_confidence_of_exactly_one() -> None:
    sample = make(100, 4, scale=1e4)
    found = quick(sample, abstain_below=0.99)
    assert found.before.bins[9].n == 100
    assert found.before.ece.value == pytest.approx(1 - (found.accuracy.value or 0), abs=1e-9)
    assert found.before.nll.value is not None
    assert math.isfinite(found.before.nll.value)
    assert (found.macro_auroc.value or 0) > 0.6  # the order of log odds survives, that of probabilities would not
    assert found.risk.chosen is not None
    assert found.risk.chosen.coverage == 1.0
    assert from_json(to_json(found)) == found


def test_prior_only_model_hides_in_top_label_ece_and_is_seen_elsewhere() -> None:
    labels = np.repeat([0, 1, 2], [94, 5, 1])
    z = np.tile(np.log([0.94, 0.05, 0.01]), (100, 1))
    found = quick(Sample(z, labels, np.arange(100), ("nv", "mel", "df")))
    assert found.before.ece.value == pytest.approx(0.0, abs=1e-12)
    assert found.balanced_accuracy.value == pytest.approx(1 / 3)
    assert found.macro_auroc.value == pytest.approx(0.5)
    # A model as sure of itself, with the two minorities exchanged: only the classwise error sees it.
    exchanged = quick(Sample(z[:, [0, 2, 1]], labels, np.arange(100), ("nv", "mel", "df")))
    assert exchanged.before.ece.value == pytest.approx(0.0, abs=1e-12)
    assert exchanged.before.classwise_ece.value == pytest.approx(0.08 / 3)
    assert found.before.classwise_ece.value == pytest.approx(0.0, abs=1e-12)


def test_ties_on_bin_edges_fall_where_exact_fractions_say() -> None:
    p = np.array([[0.5, 0.5], [0.7, 0.3], [0.9, 0.1], [0.6, 0.4]])
    found = quick(Sample(np.log(np.repeat(p, 3, axis=0)), np.zeros(12, dtype=np.int64), np.arange(12), ("a", "b")))
    # A softmax of logarithms stores .9 as 0.8999999999999999: the bin is that of the number stored, in exact fractions.
    wanted = [0] * 10
    for row in softmax(np.log(p)):
        wanted[min(9, int(Fraction(float(row.max())) * 10))] += 3
    assert [held.n for held in found.before.bins] == wanted
    assert [held.accuracy for held in found.before.bins if held.n == 0] == [None] * wanted.count(0)


def test_correlated_slices_show_the_effective_number_and_a_wider_interval() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat(generator.integers(0, 2, 30), 10)
    z = np.repeat(generator.normal(size=(30, 2)), 10, axis=0) + 1.2 * np.eye(2)[labels]
    patients = quick(Sample(z, labels, np.repeat(np.arange(30), 10), ("a", "b")))
    images = quick(Sample(z, labels, np.arange(300), ("a", "b")))
    assert patients.before.chance is not None
    assert patients.before.chance.effective_n == 30
    for name in ("accuracy", "balanced_accuracy", "macro_auroc"):
        wide, narrow = getattr(patients, name), getattr(images, name)
        assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_subgroups_follow_their_columns_with_missing_values_as_a_level() -> None:
    generator = np.random.default_rng(5)
    base = make(200, 3, calibrated=True)
    codes = generator.integers(-1, 2, 200)
    rare = np.where(np.arange(200) < 4, 0, np.where(np.arange(200) < 12, 1, 2))
    columns = {"sex": Column(("female", "male"), codes), "age": Column(("< 18", "18-60", "> 60", "> 90"), rare)}
    sample = Sample(base.logits, base.labels, base.groups, base.classes, base.calibrated, columns, columns["sex"])
    found = quick(sample)
    assert [(row.column, row.level) for row in found.subgroups] == [
        *(("age", level) for level in ("< 18", "18-60", "> 60", "> 90")),
        *(("sex", level) for level in ("female", "male", NOT_RECORDED)),
    ]
    assert [(m.column, m.missing, m.n) for m in found.missingness] == [
        ("age", 0, 200),
        ("sex", int((codes < 0).sum()), 200),
    ]
    four, eight, many, none = found.subgroups[:4]
    assert (four.n, four.accuracy.value, four.note) == (4, None, TOO_FEW_IMAGES)
    assert (eight.n, eight.n_groups, eight.accuracy.value, eight.note) == (8, 4, None, TOO_FEW)
    assert many.accuracy.low is not None
    assert (none.n, none.accuracy.value, none.accuracy.note) == (0, None, "no images")
    for level, code in zip(found.subgroups[4:], (0, 1, -1), strict=True):
        known = metrics(
            sample.logits[codes == code], sample.labels[codes == code], temperature=2.0, classes=sample.classes
        )
        for name in ("accuracy", "balanced_accuracy", "macro_auroc", "brier", "ece"):
            assert getattr(level, name).value == pytest.approx(getattr(known, name), abs=1e-9)
    assert [row.column for row in found.sites] == ["site"] * 3


def test_vector_scaling_may_change_answers_and_confusion_follows_what_is_stated() -> None:
    base = make(60, 3)
    moved = base.logits + np.array([0.0, 5.0, 0.0])
    found = quick(Sample(base.logits, base.labels, base.groups, base.classes, moved))
    assert sum(row[1] for row in found.confusion) == int((moved.argmax(axis=1) == 1).sum())
    assert found.before.bins != (found.after or found.before).bins


def test_thresholds_are_checked_before_anything_is_computed() -> None:
    with pytest.raises(InvalidPredictionsError, match="threshold"):
        quick(make(20, 2), thresholds=(1.5,))
