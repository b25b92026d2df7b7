"""Against scikit-learn, netcal and torchmetrics on continuous probabilities, and where netcal is not what it seems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from wardround.evaluation.arrays import softmax
from wardround.evaluation.figures.compute import compute
from wardround.evaluation.figures.sample import Sample
from wardround.evaluation.reliability import bin_index, bin_sums


@pytest.mark.parametrize(("k", "seed"), [(2, 0), (4, 1), (7, 2)])
def test_figures_agree_with_three_libraries(k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, k, 400)
    z = generator.normal(size=(400, k)) * 2 + 1.5 * np.eye(k)[y]
    p, called = softmax(z), z.argmax(axis=1)
    found = compute(Sample(z, y, np.arange(400), tuple(map(str, range(k)))), model="m", seed=0, resamples=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from netcal.metrics import ECE, MCE
        from sklearn.metrics import (
            accuracy_score,
            balanced_accuracy_score,
            brier_score_loss,
            f1_score,
            log_loss,
            roc_auc_score,
        )
        from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

        tp, ty = torch.tensor(p), torch.tensor(y)
        for norm, estimate in (("l1", found.before.ece), ("max", found.before.mce)):
            theirs = float(multiclass_calibration_error(tp, ty, num_classes=k, n_bins=10, norm=norm))
            assert estimate.value == pytest.approx(theirs, abs=1e-6)
        if k > 2:  # given two columns netcal measures the second class, which is another figure
            assert found.before.ece.value == pytest.approx(float(ECE(bins=10).measure(p, y)), abs=1e-6)
            assert found.before.mce.value == pytest.approx(float(MCE(bins=10).measure(p, y)), abs=1e-6)
            assert found.macro_auroc.value == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
        single = [float(binary_calibration_error(tp[:, c], (ty == c).int(), n_bins=10)) for c in range(k)]
    assert found.before.classwise_ece.value == pytest.approx(np.mean(single), abs=1e-6)
    for c, row in enumerate(found.per_class):
        assert row.ece.value == pytest.approx(single[c], abs=1e-6)
        assert row.auroc.value == pytest.approx(roc_auc_score(y == c, p[:, c]), abs=1e-6)
        assert row.f1.value == pytest.approx(f1_score(y == c, called == c), abs=1e-6)
    assert found.accuracy.value == pytest.approx(accuracy_score(y, called), abs=1e-6)
    assert found.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(y, called), abs=1e-6)
    assert found.macro_f1.value == pytest.approx(f1_score(y, called, average="macro"), abs=1e-6)
    assert found.before.nll.value == pytest.approx(log_loss(y, p), abs=1e-6)
    brier = brier_score_loss(y, p, scale_by_half=False) if k > 2 else 2 * brier_score_loss(y, p[:, 1])
    assert found.before.brier.value == pytest.approx(brier, abs=1e-6)


def test_netcals_ace_is_the_mean_gap_of_equal_width_bins_and_not_adaptive() -> None:
    generator = np.random.default_rng(4)
    y = generator.integers(0, 4, 500)
    z = generator.normal(size=(500, 4)) * 3 + 2.0 * np.eye(4)[y]
    p = softmax(z)
    found = compute(Sample(z, y, np.arange(500), tuple("abcd")), model="m", seed=0, resamples=20).before
    counts, stated, right = bin_sums(p.max(axis=1), (z.argmax(axis=1) == y).astype(float))
    filled = counts > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from netcal.metrics import ACE

        theirs = float(ACE(bins=10).measure(p, y))
    assert theirs == pytest.approx((np.abs(right - stated)[filled] / counts[filled]).mean(), abs=1e-6)
    assert abs(theirs - (found.ece_equal_mass.value or 0.0)) > 0.01


def test_rounded_probabilities_have_one_exact_answer_here_where_libraries_differ() -> None:
    generator = np.random.default_rng(5)
    top = generator.integers(6, 10, 300) / 10  # every confidence lies on an edge
    p = np.stack([top, 1 - top], axis=1)
    y = (generator.random(300) > top).astype(np.int64)
    found = compute(Sample(np.log(p), y, np.arange(300), ("a", "b")), model="m", seed=0, resamples=20).before
    # One value a bin at most: whatever bin an edge falls in, the error is the mean gap by value.
    stated = softmax(np.log(p)).max(axis=1)
    right = (y == 0).astype(float)
    by_value = sum(abs((right - stated)[np.isclose(stated, v)].sum()) for v in (0.6, 0.7, 0.8, 0.9)) / 300
    assert found.ece_equal_mass.value is not None
    assert found.ece.value is not None
    bins = bin_index(stated)
    exact = sum(abs((right - stated)[bins == b].sum()) for b in set(bins.tolist())) / 300
    assert found.ece.value == pytest.approx(exact, abs=1e-12)
    assert by_value >= exact - 1e-12  # values that share a bin can only cancel
