"""Confusion matrix and per-class rates against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as reference
from wardround.evaluation.confusion import confusion_matrix, row_shares
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.intervals import wilson
from wardround.evaluation.per_class import per_class


def test_matrix_equals_scikit_learn_and_adds_over_sites() -> None:
    generator = np.random.default_rng(0)
    y, called = generator.integers(0, 5, 200), generator.integers(0, 5, 200)
    matrix = confusion_matrix(y, called, 5)
    assert (matrix == reference(y, called, labels=range(5))).all()
    assert (matrix == confusion_matrix(y[:90], called[:90], 5) + confusion_matrix(y[90:], called[90:], 5)).all()


def test_rates_equal_counting() -> None:
    generator = np.random.default_rng(1)
    y, called = generator.integers(0, 3, 90), generator.integers(0, 3, 90)
    for k, row in enumerate(per_class(y, called, np.arange(90), "abc")):
        pairs = {
            row.sensitivity: (called == k)[y == k],
            row.specificity: (called != k)[y != k],
            row.ppv: (y == k)[called == k],
            row.npv: (y != k)[called != k],
            row.called: called == k,
        }
        for rate, outcomes in pairs.items():
            assert (rate.numerator, rate.denominator) == (outcomes.sum(), len(outcomes))
            assert rate.value == pytest.approx(outcomes.mean())
            assert (rate.low, rate.high) == wilson(rate.numerator, rate.denominator)
        assert (row.n, row.predicted) == ((y == k).sum(), (called == k).sum())


def test_absent_and_never_called_classes_are_none() -> None:
    rows = per_class(np.array([0, 0, 1]), np.array([0, 2, 2]), np.arange(3), "abcd")
    assert rows[3].sensitivity.value is None
    assert rows[3].ppv.value is None
    assert rows[3].specificity.value == 1.0
    assert rows[1].ppv.value is None
    assert rows[1].sensitivity.value == 0.0
    assert rows[2].ppv.value == 0.0


def test_no_images() -> None:
    empty = np.zeros(0, dtype=np.int64)
    matrix = confusion_matrix(empty, empty, 3)
    assert matrix.tolist() == [[0] * 3] * 3
    assert np.isnan(row_shares(matrix)).all()
    assert per_class(empty, empty, empty, "abc")[0].specificity.value is None


def test_rates_of_patients_are_wider_and_have_the_same_counts() -> None:
    generator = np.random.default_rng(2)
    y, called = (np.repeat(generator.integers(0, 3, 30), 4) for _ in range(2))
    patients = np.repeat(np.arange(30), 4)
    for mine, plain in zip(
        per_class(y, called, patients, "abc"), per_class(y, called, np.arange(120), "abc"), strict=True
    ):
        assert (mine.n, mine.predicted) == (plain.n, plain.predicted)
        for name in ("sensitivity", "specificity", "ppv", "npv", "called"):
            wide, narrow = getattr(mine, name), getattr(plain, name)
            assert (wide.numerator, wide.denominator) == (narrow.numerator, narrow.denominator)
            assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


@pytest.mark.parametrize(("labels", "called"), [([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0], [0, 1])])
def test_bad_indices_are_refused(labels: list[int], called: list[int]) -> None:
    with pytest.raises(InvalidPredictionsError):
        confusion_matrix(np.array(labels), np.array(called), 3)
    with pytest.raises(InvalidPredictionsError):
        per_class(np.array(labels), np.array(called), np.arange(len(labels)), "abc")
