"""What one site adds to the figures of the federation: arrays of its own predictions, as fields of a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..arrays import FloatArray, IntArray, check_predictions, group_codes, log_odds, log_softmax, softmax
from ..calibration.abstention import confidence_histogram
from ..calibration.conformal import score_histogram
from ..calibration.fitting import SEED
from ..calibration.group_draws import one_per_group
from ..calibration.temperature import grid_nll_sums
from ..confusion import confusion_matrix
from ..reliability import bin_sums
from .layout import SCORE_BINS, SHARE_BINS, score_bin


def temperature_fields(logits: FloatArray, labels: IntArray, bits: int) -> dict[str, FloatArray]:
    """Fields of `layout.temperature_layout`.

    A sum that is too large for the vector is cut to what fits: a temperature at which the likelihood is so bad is not
    the one that is looked for.

    Args:
        logits: (n, K) of validation images, n may be 0. labels: (n,). bits: of a coordinate.
    """
    largest = 2.0**bits - 2
    return {"n": np.array(float(len(labels))), "nll": np.minimum(grid_nll_sums(logits, labels), largest)}


def evaluation_fields(
    logits: FloatArray,
    labels: IntArray,
    subgroups: Mapping[str, Sequence[str]],
    levels: Mapping[str, Sequence[str]],
    validation: tuple[FloatArray, IntArray, Sequence[str] | Sequence[int]],
    temperature: float | None,
    thresholds: Sequence[float],
) -> dict[str, FloatArray]:
    """Fields of `layout.evaluation_layout`.

    Args:
        logits, labels: of test images, (n, K), (n,); n may be 0.
        subgroups: by column, the value of each test image; empty text where none is recorded.
        levels: the columns and values that the study counts.
        validation: logits, labels and groups of validation images.
        temperature: divides all logits; None for 1.
        thresholds: probabilities of a class at which somebody would act.
    """
    z, y = check_predictions(logits, labels)
    k, divisor = z.shape[1], temperature or 1.0
    shares = _shares(z, divisor)
    right = (_called(z) == y).astype(np.float64)
    truth = np.eye(k)[y]
    by_class = [bin_sums(shares[:, c], truth[:, c]) for c in range(k)]
    odds = log_odds(z, divisor) if len(y) else np.zeros((0, k))
    reached = [shares >= threshold for threshold in thresholds]
    fields = {
        "confusion": confusion_matrix(y, _called(z), k).astype(np.float64),
        **_top_bins("", shares, right),
        **_top_bins("raw_", _shares(z, 1.0), right),
        "class_bin_n": np.stack([row[0] for row in by_class]),
        "class_bin_share": np.stack([row[1] for row in by_class]),
        "class_bin_hits": np.stack([row[2] for row in by_class]),
        "positives": _histograms(odds, truth),
        "negatives": _histograms(odds, 1.0 - truth),
        "acted": np.array([each.sum(axis=0) for each in reached], dtype=np.float64).reshape(-1, k).T,
        "acted_rightly": np.array([(each * truth).sum(axis=0) for each in reached], dtype=np.float64).reshape(-1, k).T,
        "brier": np.array(np.square(shares - truth).sum()),
        "raw_brier": np.array(np.square(_shares(z, 1.0) - truth).sum()),
        "nll": np.array(max(-float(log_softmax(z, divisor)[np.arange(len(y)), y].sum()), 0.0) if len(y) else 0.0),
        **_validation_fields(*validation, divisor),
    }
    for number, (column, named) in enumerate(levels.items()):
        level = _codes(subgroups.get(column, [""] * len(y)), named)
        totals = np.zeros((len(named) + 2, k))
        np.add.at(totals, (level, y), 1.0)
        hit = np.zeros_like(totals)
        np.add.at(hit, (level, y), right)
        holders = (totals.sum(axis=1) > 0).astype(np.float64)
        fields |= {f"right_{number}": hit, f"total_{number}": totals, f"holders_{number}": holders}
    return fields


def _shares(z: FloatArray, divisor: float) -> FloatArray:
    """Probabilities (n, K), none above 1 by a rounding."""
    shares: FloatArray = np.minimum(softmax(z, divisor), 1.0) if len(z) else np.zeros(z.shape)
    return shares


def _called(z: FloatArray) -> IntArray:
    called: IntArray = z.argmax(axis=1).astype(np.int64) if len(z) else np.zeros(0, dtype=np.int64)
    return called


def _top_bins(prefix: str, shares: FloatArray, right: FloatArray) -> dict[str, FloatArray]:
    """Reliability bins of the top label."""
    count, confidence, hits = bin_sums(shares.max(axis=1, initial=0.0), right)
    return {f"{prefix}bin_n": count, f"{prefix}bin_right": hits, f"{prefix}bin_confidence": confidence}


def _histograms(odds: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted counts of each class's column by score bin, (K, H)."""
    where = score_bin(odds)
    rows = [np.bincount(where[:, c], weights=weights[:, c], minlength=SCORE_BINS) for c in range(odds.shape[1])]
    return np.stack(rows).astype(np.float64)


def _validation_fields(
    logits: FloatArray, labels: IntArray, groups: Sequence[str] | Sequence[int], divisor: float
) -> dict[str, FloatArray]:
    z, y = check_predictions(logits, labels)
    codes, shares = group_codes(groups, len(y)), _shares(z, divisor)
    # Images of one group resemble each other: each counts once, and once a class, drawn as a site's own fit draws them.
    draw = np.random.default_rng(SEED)
    once, by_class = one_per_group(codes, draw), one_per_group(codes * z.shape[1] + y, draw)
    answers = confidence_histogram(shares[once], y[once], SHARE_BINS).astype(np.float64)
    return {
        "scores": score_histogram(shares[once], y[once], SHARE_BINS).sum(axis=0).astype(np.float64),
        "class_scores": score_histogram(shares[by_class], y[by_class], SHARE_BINS).astype(np.float64),
        "answers": answers[0],
        "right_answers": answers[1],
    }


def _codes(values: Sequence[str], named: Sequence[str]) -> IntArray:
    """Number of each value among the named ones; then other, then not recorded."""
    order = {name: code for code, name in enumerate(named)}
    codes = [order.get(value, len(named)) if value else len(named) + 1 for value in values]
    return np.array(codes, dtype=np.int64)
