"""Images that the witnesses build have the counts, the Brier score and the AUROC that they are said to have."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from wardround.evaluation.disclosure import witnesses
from wardround.evaluation.disclosure.bands import Range
from wardround.evaluation.disclosure.softening import before, reaches

CELLS = np.array([[12, 2, 1], [0, 9, 3], [4, 0, 20]])
PLACES = [(0, 0.4, 0.5), (1, 0.5, 0.6), (2, 0.9, 1.0)]
MEANS = (0.45, 0.57, 0.96)
RIGHT, WRONG = (5, 16, 20), (6, 4, 0)


def kinds() -> witnesses.Kinds:
    return witnesses.kinds_of(CELLS, {True: RIGHT, False: WRONG}, PLACES)


def scores(brier: Range | None, auroc: Range | None = None) -> witnesses.Scores:
    return witnesses.Scores(brier, auroc, means=MEANS)


def images(spread: float, even: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    top, split = witnesses._spread(kinds(), MEANS, 3, spread)
    shares = witnesses._shares(split, top, 3, np.full(len(top), even))
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
    for b, low, high in PLACES:
        top = shares.max(axis=1)[row == b]
        assert ((top >= low) & (top < high)).all()
        assert top.mean() == pytest.approx(MEANS[b])
        assert (truth == called)[row == b].sum() == RIGHT[b]
        assert (truth != called)[row == b].sum() == WRONG[b]


def test_a_brier_score_is_possible_only_where_images_have_it() -> None:
    shares, truth, _, _ = images(0.0, 0.5)
    exact = float(np.square(shares - np.eye(3)[truth]).sum(axis=1).mean())
    assert witnesses.possible(kinds(), 3, scores(Range(exact - 0.003, exact + 0.003)))
    assert not witnesses.possible(kinds(), 3, scores(Range(0.0, 0.05)))
    assert not witnesses.possible(kinds(), 3, scores(Range(1.5, 1.6)))


def test_auroc_moves_between_the_two_ways_to_break_ties() -> None:
    shares, truth, _, _ = images(0.0, 0.5)
    step = 1e-4 * np.eye(3)[truth]
    best, worst = (
        float(np.mean([roc_auc_score(truth == k, (shares + sign * step)[:, k]) for k in range(3)])) for sign in (1, -1)
    )
    top, split = witnesses._spread(kinds(), MEANS, 3, 0.0)
    given = witnesses._shares(split, top, 3, np.full(len(top), 0.5))
    assert best > worst
    assert witnesses._reaches(split, given, 3, Range(best - 1e-6, best + 0.001))
    assert witnesses._reaches(split, given, 3, Range(worst - 0.001, worst + 1e-6))
    assert witnesses._reaches(split, given, 3, Range((best + worst) / 2 - 0.005, (best + worst) / 2 + 0.005))
    assert not witnesses._reaches(split, given, 3, Range(best + 0.001, 1.0))
    assert not witnesses._reaches(split, given, 3, Range(0.0, worst - 0.001))


def test_no_images_have_no_scores() -> None:
    none = witnesses.kinds_of(np.zeros((2, 2), dtype=np.int64), {True: [0], False: [0]}, PLACES[:1])
    assert witnesses.possible(none, 2, scores(None))
    assert not witnesses.possible(none, 2, scores(Range(0.0, 1.0)))


@pytest.mark.parametrize("divisor", [0.6, 1.7])
def test_images_have_their_called_classes_and_their_bins_before_the_temperature(divisor: float) -> None:
    """Counts of real images in, images with the same counts out: by called class and segment, by segment and bin."""
    draw = np.random.default_rng(5)
    shares = draw.dirichlet([0.6] * 3, size=400)
    truth, called, top = draw.integers(0, 3, 400), shares.argmax(axis=1), shares.max(axis=1)
    raw = before(shares, divisor).max(axis=1)
    edges = [b / 10 for b in range(11)]
    reach = {(s, r.bin): r for s in range(3, 10) for r in reaches(3, divisor, edges[s], edges[s + 1], edges)}
    segment, bin_ = (np.minimum((10 * x).astype(int), 9) for x in (top, raw))
    known = np.array([pair in reach for pair in zip(segment.tolist(), bin_.tolist(), strict=True)])
    assert known.mean() > 0.98  # what is left out lies within a hair of an edge
    truth, called, segment, bin_ = (x[known] for x in (truth, called, segment, bin_))
    right = truth == called
    cells = np.zeros((3, 3), dtype=np.int64)
    np.add.at(cells, (truth, called), 1)
    tables = {flag: np.zeros((3, 10), dtype=np.int64) for flag in (True, False)}
    bins: dict[bool, dict[tuple[int, int], int]] = {flag: dict.fromkeys(reach, 0) for flag in (True, False)}
    for flag, c, s, b in zip(right.tolist(), called, segment.tolist(), bin_.tolist(), strict=True):
        tables[flag][c, s] += 1
        bins[flag][s, b] += 1
    places = [(s, edges[s], edges[s + 1]) for s in range(10)]
    totals = {flag: table.sum(axis=0).tolist() for flag, table in tables.items()}
    found = witnesses.kinds_of(cells, totals, places, tables, bins, reach)
    assert found.count.sum() == len(truth)
    made, split = witnesses._spread(found, (), 3, 0.6)
    limits = witnesses._limits(split, made, 3, divisor)
    assert limits is not None
    again = witnesses._shares(split, made, 3, np.clip(0.5, *limits))
    softened = before(again, divisor).max(axis=1)
    for flag in (True, False):
        for s, b in reach:
            here = (split.row == s) & (split.bin == b) & ((split.truth == split.called) == flag)
            assert split.count[here].sum() == bins[flag][s, b]
            assert ((again.max(axis=1) >= edges[s]) & (again.max(axis=1) < edges[s + 1]))[here].all()
            assert ((softened >= edges[b] - 1e-9) & (softened < edges[b + 1] + 1e-9))[here].all()
        for c in range(3):
            for s in range(10):
                here = (split.row == s) & (split.called == c) & ((split.truth == split.called) == flag)
                assert split.count[here].sum() == tables[flag][c, s]
