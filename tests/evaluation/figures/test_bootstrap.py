"""The shared resamples against scoring repeated rows with scikit-learn, one resample at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score, roc_auc_score
from wardround.evaluation.arrays import group_codes, softmax
from wardround.evaluation.figures import bootstrap as module
from wardround.evaluation.figures.answers import Answers
from wardround.evaluation.figures.bootstrap import group_bootstrap
from wardround.evaluation.figures.calibration_figures import brier_estimate
from wardround.evaluation.figures.discrimination import FEW_OF_CLASS, auroc, discrimination
from wardround.evaluation.figures.figure_set import Estimate
from wardround.evaluation.figures.risk_coverage import area_under_risk, risk_coverage
from wardround.evaluation.intervals import BUNDLES, ONE_CLASS, TOO_FEW, UNDER_COVERS


def cohort(n_groups: int, per: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    groups = generator.permutation(np.repeat(np.arange(n_groups), per))
    labels = generator.integers(0, k, n_groups)[groups]
    z = (
        1.2 * np.eye(k)[labels]
        + generator.normal(size=(n_groups, k))[groups]
        + 0.5 * generator.normal(size=(len(groups), k))
    )
    return np.round(z, 2), labels, groups


def naive(weights: np.ndarray, codes: np.ndarray, figure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    values = [figure(np.repeat(np.arange(len(codes)), weight[codes].astype(int))) for weight in weights]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def bounds(found: Estimate) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_every_interval_equals_a_naive_resampling_loop() -> None:
    z, y, groups = cohort(24, 3, 3, 2)
    answers, p, called = Answers.of(z, y), softmax(z), z.argmax(axis=1)
    drawn = group_bootstrap(groups, np.random.default_rng(3), 16)
    codes = drawn.codes
    found = discrimination(answers, drawn)

    def macro(score: Callable[..., float], rows: np.ndarray) -> float:
        return float(score(y[rows], called[rows], labels=np.unique(y[rows]), average="macro", zero_division=0))

    def area(rows: np.ndarray, c: int) -> float:
        return float(roc_auc_score(y[rows] == c, p[rows, c]))

    wanted = {
        "accuracy": lambda rows: accuracy_score(y[rows], called[rows]),
        "balanced_accuracy": lambda rows: macro(recall_score, rows),
        "macro_f1": lambda rows: macro(f1_score, rows),
        "macro_auroc": lambda rows: float(np.mean([area(rows, c) for c in np.unique(y[rows])])),
    }
    for name, figure in wanted.items():
        estimate = getattr(found, name)
        assert estimate.value == pytest.approx(figure(np.arange(len(y))), abs=1e-9)
        assert bounds(estimate) == pytest.approx(naive(drawn.weights, codes, figure), abs=1e-9)
    for c in range(3):
        single = naive(drawn.weights, codes, lambda rows, c=c: f1_score(y[rows] == c, called[rows] == c))
        assert bounds(found.f1[c]) == pytest.approx(single, abs=1e-9)
        assert bounds(found.auroc[c]) == pytest.approx(naive(drawn.weights, codes, lambda rows, c=c: area(rows, c)))
    brier = naive(drawn.weights, codes, lambda rows: float(np.square(p[rows] - np.eye(3)[y[rows]]).sum(1).mean()))
    assert bounds(brier_estimate(answers, drawn)) == pytest.approx(brier, abs=1e-9)
    loss = -np.log(p[np.arange(len(y)), y])
    found_loss = drawn.estimate(float(loss.mean()), lambda: drawn.means(loss))
    assert found_loss.value == pytest.approx(log_loss(y, p))
    assert bounds(found_loss) == pytest.approx(naive(drawn.weights, codes, lambda rows: loss[rows].mean()))
    wrong = 1.0 - answers.right
    top = answers.confidence
    aurc = naive(drawn.weights, codes, lambda rows: area_under_risk(top[rows], wrong[rows]) or 0.0)
    assert bounds(risk_coverage(top, wrong, drawn).aurc) == pytest.approx(aurc, abs=1e-9)


def test_dense_and_sparse_tables_and_any_block_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y, groups = cohort(30, 2, 3, 4)
    drawn = group_bootstrap(groups, np.random.default_rng(0), 30)
    cells = np.arange(60) % 7
    dense = drawn.cell_sums(cells, 7, z[:, 0])
    whole = discrimination(Answers.of(z, y), drawn)
    assert np.allclose(dense, drawn.cell_sums(cells, 7000, z[:, 0])[:, :7])
    monkeypatch.setattr(module, "BLOCK_CELLS", 100)
    assert discrimination(Answers.of(z, y), drawn) == whole


def test_coarse_ranks_move_an_interval_by_less_than_a_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    z, y, groups = cohort(1500, 2, 3, 5)
    drawn = group_bootstrap(groups, np.random.default_rng(0), 200)
    exact = discrimination(Answers.of(z, y), drawn)
    risk = risk_coverage(Answers.of(z, y).confidence, 1 - Answers.of(z, y).right, drawn).aurc
    monkeypatch.setattr("wardround.evaluation.figures.discrimination.EXACT_CELLS", 100)
    coarse = discrimination(Answers.of(z, y), drawn)
    assert bounds(coarse.macro_auroc) == pytest.approx(bounds(exact.macro_auroc), abs=1e-3)
    assert coarse.macro_auroc.value == exact.macro_auroc.value
    again = risk_coverage(Answers.of(z, y).confidence, 1 - Answers.of(z, y).right, drawn).aurc
    assert bounds(again) == pytest.approx(bounds(risk), abs=1e-3)


def test_bundles_of_many_groups_give_the_width_of_the_groups() -> None:
    generator = np.random.default_rng(6)
    right = (generator.random(12_000) < 0.8).astype(float)
    drawn = group_bootstrap(np.arange(12_000), np.random.default_rng(1), 1000)
    assert drawn.weights.shape == (1000, BUNDLES)
    assert drawn.n_groups == 12_000
    low, high = bounds(drawn.estimate(float(right.mean()), lambda: drawn.means(right)))
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 12_000), rel=0.12)


def test_correlated_slices_widen_the_interval_of_patients_over_that_of_images() -> None:
    z, y, groups = cohort(20, 10, 2, 3)
    answers = Answers.of(z, y)
    patients = bounds(discrimination(answers, group_bootstrap(groups, np.random.default_rng(0))).balanced_accuracy)
    images = bounds(
        discrimination(answers, group_bootstrap(np.arange(200), np.random.default_rng(0))).balanced_accuracy
    )
    assert patients[1] - patients[0] > 1.5 * (images[1] - images[0])


@pytest.mark.parametrize(("n_groups", "note"), [(9, TOO_FEW), (10, UNDER_COVERS), (39, UNDER_COVERS), (40, "")])
def test_few_groups_are_said_to_be_few(n_groups: int, note: str) -> None:
    z, y, groups = cohort(n_groups, 4, 2, 8)
    found = discrimination(Answers.of(z, y), group_bootstrap(groups, np.random.default_rng(0), 100))
    for estimate in (found.accuracy, found.balanced_accuracy, found.macro_f1, found.macro_auroc):
        assert estimate.note == note
        assert (estimate.value is None) == (estimate.low is None) == (note == TOO_FEW)


def test_one_class_site_is_null_and_not_one() -> None:
    z, _, groups = cohort(50, 2, 3, 1)
    y = np.zeros(100, dtype=np.int64)
    z[:, 0] += 50.0
    found = discrimination(Answers.of(z, y), group_bootstrap(groups, np.random.default_rng(0), 100))
    for estimate in (found.balanced_accuracy, found.macro_f1, found.macro_auroc, found.auroc[0]):
        assert (estimate.value, estimate.low, estimate.note) == (None, None, ONE_CLASS)
    assert found.accuracy.value == 1.0
    assert found.f1[1].value is None


def test_a_class_of_few_groups_has_a_value_and_no_interval() -> None:
    z, y, groups = cohort(50, 2, 2, 1)
    y = np.where(groups < 4, 1, 0)
    found = discrimination(Answers.of(z, y), group_bootstrap(groups, np.random.default_rng(0), 100))
    assert found.f1[1].value is not None
    assert (found.f1[1].low, found.f1[1].note) == (None, FEW_OF_CLASS)


def test_auroc_counts_ties_half_and_keeps_the_order_of_saturated_odds() -> None:
    generator = np.random.default_rng(2)
    score, positive = np.round(generator.random(200), 1), (generator.random(200) < 0.4).astype(float)
    assert auroc(positive, score) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
    assert auroc(np.array([0.0, 1.0]), np.array([50.0, 60.0])) == 1.0
    assert auroc(np.ones(3), np.arange(3.0)) is None
    assert auroc(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("top", [7, 10_000_000])
def test_groups_are_numbered_in_order_of_first_appearance(top: int) -> None:
    groups = np.random.default_rng(1).integers(0, 7, 50)
    groups[groups == 6] = top
    drawn = group_bootstrap(groups, np.random.default_rng(0))
    assert drawn.groups.tolist() == group_codes(groups.tolist(), 50).tolist()
