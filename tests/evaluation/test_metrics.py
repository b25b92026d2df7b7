"""Figures against slow loops and against three other libraries, and the traps that make figures lie."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.arrays import log_odds, softmax
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.metrics import Figures, figures

KEYS = ["n", "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "ece", "classwise_ece", "brier", "nll"]


def names(k: int) -> list[str]:
    return [f"class-{i}" for i in range(k)]


def sample(n: int, k: int, seed: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    return generator.normal(size=(n, k)) * scale + 1.5 * np.eye(k)[labels], labels


def slow_ece(probabilities: list[float], hits: list[bool], n_bins: int) -> float:
    """The definition in exact fractions of the stored floats."""
    total = 0.0
    for i in range(n_bins):
        inside = [
            j
            for j, p in enumerate(probabilities)
            if Fraction(i, n_bins) <= Fraction(p)
            and (Fraction(p) < Fraction(i + 1, n_bins) or (i == n_bins - 1 and p <= 1.0 + 1e-12))
        ]
        if inside:
            accuracy = sum(hits[j] for j in inside) / len(inside)
            confidence = sum(probabilities[j] for j in inside) / len(inside)
            total += len(inside) / len(probabilities) * abs(accuracy - confidence)
    return total


def slow_auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in scores[positive] for b in scores[~positive]]
    return sum(wins) / len(wins)


def slow_figures(z: np.ndarray, y: np.ndarray, temperature: float) -> dict[str, float]:
    n, k = z.shape
    p = np.array([[math.exp((a - max(row)) / temperature) for a in row] for row in z])
    p = p / p.sum(axis=1, keepdims=True)
    predicted = [int(np.argmax(row)) for row in z]
    recalls, f1s, aurocs = [], [], []
    for c in sorted(set(y.tolist())):
        hit = sum(t == c and q == c for t, q in zip(y, predicted, strict=True))
        truth, called = sum(t == c for t in y), sum(q == c for q in predicted)
        recalls.append(hit / truth)
        f1s.append(2 * hit / (truth + called))
        aurocs.append(slow_auroc(p[:, c], y == c))
    hits = [bool(t == q) for t, q in zip(y, predicted, strict=True)]
    return {
        "n": n,
        "accuracy": sum(hits) / n,
        "balanced_accuracy": sum(recalls) / len(recalls),
        "macro_f1": sum(f1s) / len(f1s),
        "macro_auroc": sum(aurocs) / len(aurocs),
        "ece": slow_ece([float(row.max()) for row in p], hits, 10),
        "classwise_ece": sum(slow_ece(p[:, c].tolist(), [bool(t == c) for t in y], 10) for c in range(k)) / k,
        "brier": sum((p[i, c] - (y[i] == c)) ** 2 for i in range(n) for c in range(k)) / n,
        "nll": -sum(math.log(p[i, y[i]]) for i in range(n)) / n,
    }


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 10_000), st.sampled_from([0.5, 1.0, 2.7]))
@settings(max_examples=60, deadline=None)
def test_every_figure_equals_its_slow_definition(n: int, k: int, seed: int, temperature: float) -> None:
    z, y = sample(n, k, seed)
    y[0], y[1] = 0, 1
    result = figures(z, y, temperature=temperature, classes=names(k)).as_dict()
    slow = slow_figures(z, y, temperature)
    for key in KEYS:
        assert result[key] == pytest.approx(slow[key], abs=1e-9), key
    assert result["temperature"] == temperature


@pytest.mark.parametrize("k", [2, 4, 7])
def test_figures_agree_with_other_libraries(k: int) -> None:
    z, y = sample(400, k, 7 + k)
    result = figures(z, y, classes=names(k))
    p = softmax(z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from netcal.metrics import ECE
        from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
        from torchmetrics.functional.classification import (
            binary_calibration_error,
            multiclass_calibration_error,
            multiclass_f1_score,
        )

        tp, ty = torch.tensor(p), torch.tensor(y)
        assert result.ece == pytest.approx(
            float(multiclass_calibration_error(tp, ty, num_classes=k, n_bins=10, norm="l1")), abs=1e-6
        )
        if k > 2:  # given two columns netcal measures the second class, which is another figure
            assert result.ece == pytest.approx(float(ECE(bins=10).measure(p, y)), abs=1e-6)
        classwise = [float(binary_calibration_error(tp[:, c], (ty == c).int(), n_bins=10)) for c in range(k)]
        assert result.classwise_ece == pytest.approx(np.mean(classwise), abs=1e-6)
        assert result.macro_f1 == pytest.approx(
            float(multiclass_f1_score(tp, ty, num_classes=k, average="macro")), abs=1e-6
        )
        assert result.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, z.argmax(1)), abs=1e-12)
        assert result.nll == pytest.approx(log_loss(y, p), abs=1e-9)
        if k > 2:
            assert result.macro_auroc == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-9)


def test_no_images_gives_null_and_never_zero() -> None:
    result = figures(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), classes=names(4)).as_dict()
    assert result.pop("n") == 0
    assert set(result.values()) == {None}


@pytest.mark.parametrize("n", [1, 5])
def test_one_class_site_is_null_and_not_one(n: int) -> None:
    result = figures(np.tile([9.0, 0, 0, 0], (n, 1)), np.zeros(n, dtype=np.int64), classes=names(4))
    assert result.accuracy == 1.0
    assert (result.balanced_accuracy, result.macro_f1, result.macro_auroc) == (None, None, None)
    assert result.ece is not None
    assert result.nll is not None


def test_two_of_four_classes_average_over_the_classes_present() -> None:
    z, y = sample(80, 4, 3)
    y = y % 2
    result = figures(z, y, classes=names(4))
    predicted = z.argmax(axis=1)
    recalls = [float(np.mean(predicted[y == c] == c)) for c in (0, 1)]
    assert result.balanced_accuracy == pytest.approx(np.mean(recalls), abs=1e-12)
    # Probability on classes that nobody here has still counts against calibration.
    p = softmax(z)
    assert result.classwise_ece == pytest.approx(
        np.mean([slow_ece(p[:, c].tolist(), [bool(t == c) for t in y], 10) for c in range(4)]), abs=1e-9
    )


def test_saturated_logits_stay_finite_and_keep_their_order() -> None:
    z = np.array([[2000.0, 0.0, 0.0], [0.0, 900.0, 0.0], [50.0, 0.0, 0.0], [45.0, 0.0, 0.0]])
    y = np.array([0, 2, 0, 1])
    result = figures(z, y, classes=names(3))
    assert result.nll == pytest.approx((900 + 45) / 4, rel=1e-12)
    assert result.ece == pytest.approx(0.5, abs=1e-12)
    assert all(value is None or math.isfinite(value) for value in result.as_dict().values())
    # All four stated confidences are 1.0 in float64; class 0 still ranks 2000 and 50 above 45 and the rest.
    only_zero = figures(z[:, :2], np.array([0, 1, 0, 1]), classes=names(2))
    assert softmax(z)[2, 0] == softmax(z)[3, 0] == 1.0
    assert only_zero.macro_auroc == 1.0


def test_prior_only_model_has_no_top_label_error_and_is_exposed_by_balanced_accuracy() -> None:
    y = np.repeat([0, 1, 2], [94, 5, 1])
    z = np.tile(np.log([0.94, 0.05, 0.01]), (100, 1))
    result = figures(z, y, classes=names(3))
    assert result.ece == pytest.approx(0.0, abs=1e-9)
    assert result.balanced_accuracy == pytest.approx(1 / 3)
    assert result.macro_auroc == pytest.approx(0.5)


def test_temperature_changes_calibration_and_no_decision() -> None:
    z, y = sample(200, 4, 1, scale=8.0)
    sharp, soft = (figures(z, y, temperature=t, classes=names(4)) for t in (1.0, 4.0))
    assert (sharp.accuracy, sharp.balanced_accuracy) == (soft.accuracy, soft.balanced_accuracy)
    assert sharp.nll is not None
    assert soft.nll is not None
    assert soft.nll < sharp.nll


def test_none_and_temperature_one_differ_only_in_name() -> None:
    z, y = sample(50, 3, 2)
    none, one = figures(z, y, classes=names(3)).as_dict(), figures(z, y, temperature=1.0, classes=names(3)).as_dict()
    assert none.pop("temperature") is None
    assert one.pop("temperature") == 1.0
    assert none == one


def test_keys_are_the_contract_of_summary_json() -> None:
    assert [*Figures.__dataclass_fields__] == [*KEYS, "temperature"]


def test_log_odds_equal_the_textbook_formula() -> None:
    z, _ = sample(30, 5, 4)
    p = softmax(z, 1.7)
    assert np.allclose(log_odds(z, 1.7), np.log(p / (1 - p)), atol=1e-9)


@pytest.mark.parametrize(
    ("logits", "labels", "temperature", "said"),
    [
        ([[1.0, float("nan")]], [0], None, "not finite"),
        ([[1.0, float("inf")]], [0], None, "not finite"),
        ([[1.0, 1e13]], [0], None, "exceeds"),
        ([[1.0, 2.0]], [2], None, "outside"),
        ([[1.0, 2.0]], [-1], None, "outside"),
        ([[1.0, 2.0]], [0.0], None, "integers"),
        ([[1.0, 2.0]], [0, 1], None, "labels have shape"),
        ([1.0, 2.0], [0, 1], None, "logits have shape"),
        ([[1.0]], [0], None, "logits have shape"),
        ([[1.0, 2.0, 3.0]], [0], None, "class names"),
        ([[1.0, 2.0]], [0], 0.0, "temperature"),
        ([[1.0, 2.0]], [0], float("nan"), "temperature"),
    ],
)
def test_bad_input_is_refused_in_words(logits: object, labels: object, temperature: float | None, said: str) -> None:
    with pytest.raises(InvalidPredictionsError, match=said):
        figures(logits, labels, temperature=temperature, classes=names(2))  # type: ignore[arg-type]


def test_examples_in_docstrings_hold() -> None:
    import doctest

    from wardround.evaluation import intervals, metrics

    for module in (metrics, intervals):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0
