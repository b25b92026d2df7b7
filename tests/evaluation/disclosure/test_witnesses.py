"""Images that the witnesses build have the counts, the Brier score and the AUROC that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from wardround.evaluation.disclosure import witnesses
from wardround.evaluation.disclosure.bands import Range

CELLS = np.array([[12, 2, 1], [0, 9, 3], [4, 0, 20]])
EDGES = [(0.4, 0.5, 0.45), (0.5, 0.6, 0.57), (0.9, 1.0, 0.96)]
RIGHT, WRONG = (5, 16, 20), (6, 4, 0)


def images(spread: float, even: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    kinds = witnesses.kinds_of(CELLS, RIGHT, WRONG)
    top, split = witnesses._spread(kinds, EDGES, 3, spread)
    shares = witnesses._shares(split, top, 3, even)
    times = split.count.astype(int)
    return tuple(np.repeat(x, times, axis=0) for x in (shares, split.truth, split.called, split.row))  # type: ignore[return-value]


@pytest.mark.parametrize("spread", witnesses.SPREADS)
@pytest.mark.parametrize("even", [0.0, 0.5, 1.0])
def test_images_have_all_published_counts(spread: float, even: float) -> None:
    shares, truth, called, row = images(spread, even)
    assert np.allclose(shares.sum(axis=1), 1.0)
    assert (shares >= -1e-12).all()
    assert (shares.max(axis=1) <= shares[np.arange(len(truth)), called] + 1e-12).all()
    matrix = np.zeros((3, 3), dtype=int)
    np.add.at(matrix, (truth, called), 1)
    assert (matrix == CELLS).all()
    for b, (low, high, mean) in enumerate(EDGES):
        top = shares.max(axis=1)[row == b]
        assert ((top >= low) & (top < high)).all()
        assert top.mean() == pytest.approx(mean)
        assert (truth == called)[row == b].sum() == RIGHT[b]
        assert (truth != called)[row == b].sum() == WRONG[b]


def test_a_brier_score_is_possible_only_where_images_have_it() -> None:
    shares, truth, _, _ = images(0.0, 0.5)
    exact = float(np.square(shares - np.eye(3)[truth]).sum(axis=1).mean())
    kinds = witnesses.kinds_of(CELLS, RIGHT, WRONG)
    assert witnesses.possible(kinds, EDGES, 3, Range(exact - 0.003, exact + 0.003), None)
    assert not witnesses.possible(kinds, EDGES, 3, Range(0.0, 0.05), None)
    assert not witnesses.possible(kinds, EDGES, 3, Range(1.5, 1.6), None)


def test_auroc_moves_between_the_two_ways_to_break_ties() -> None:
    shares, truth, _, _ = images(0.0, 0.5)
    step = 1e-4 * np.eye(3)[truth]
    best, worst = (
        float(np.mean([roc_auc_score(truth == k, (shares + sign * step)[:, k]) for k in range(3)])) for sign in (1, -1)
    )
    kinds = witnesses.kinds_of(CELLS, RIGHT, WRONG)
    top, split = witnesses._spread(kinds, EDGES, 3, 0.0)
    given = witnesses._shares(split, top, 3, 0.5)
    assert best > worst
    assert witnesses._reaches(split, given, 3, Range(best - 1e-6, best + 0.001))
    assert witnesses._reaches(split, given, 3, Range(worst - 0.001, worst + 1e-6))
    assert witnesses._reaches(split, given, 3, Range((best + worst) / 2 - 0.005, (best + worst) / 2 + 0.005))
    assert not witnesses._reaches(split, given, 3, Range(best + 0.001, 1.0))
    assert not witnesses._reaches(split, given, 3, Range(0.0, worst - 0.001))


def test_no_images_have_no_scores() -> None:
    none = witnesses.kinds_of(np.zeros((2, 2), dtype=np.int64), [0], [0])
    assert witnesses.possible(none, EDGES[:1], 2, None, None)
    assert not witnesses.possible(none, EDGES[:1], 2, Range(0.0, 1.0), None)
