"""A membership attack on the final model alone: can its losses tell who was trained on?

The attacker knows the start model and the final one and nothing in between, as whoever downloads a released model does.
A record that was trained on has become easier; by how much, compared with records that were not, is the evidence. Half
of the canaries, whose membership the attacker knows, calibrate the attack; it is judged on the other half.

Source: likelihood-ratio attack with Gaussians, and the log odds of the true class: Carlini et al. 2022, "Membership
Inference Attacks From First Principles", arXiv 2112.03570, here with one pair of Gaussians for all canaries. Epsilon
from error rates: Kairouz, Oh and Viswanath 2015, "The Composition Theorem for Differential Privacy", arXiv 1311.0776;
Jagielski, Ullman and Oprea 2020, "Auditing Differentially Private Machine Learning", arXiv 2006.07709.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv
from scipy.stats import rankdata

from ..errors import AuditError
from .audit import CONFIDENCE

FALSE_POSITIVES = 0.01
LEAST = 40
"""Canaries below which neither a Gaussian nor a rate can be estimated."""
_SMALLEST_DEVIATION = 1e-12

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class MembershipResult:
    """How well membership could be told, over the canaries that did not calibrate the attack.

    Attributes:
        members, others: how many of each it was judged on.
        auc: probability that a member looks more like one than a non-member does, ties half; 0.5 is chance.
        true_positive_rate: share of members found at the strictest threshold that lets at most
            ``false_positive_rate`` of the non-members through.
        false_positive_rate: the rate asked for.
        lower_bound: at this confidence epsilon is at least this, by Clopper-Pearson limits of both error rates at a
            threshold that was chosen on the other half; 0: nothing proved. The limits count canaries as if each had
            been trained alone. :mod:`.audit` needs no such assumption and is the bound to rely on.
        confidence: of the bound, for both limits together.
        delta: of the claim that was tested.
    """

    members: int
    others: int
    auc: float
    true_positive_rate: float
    false_positive_rate: float
    lower_bound: float
    confidence: float
    delta: float


@dataclass(frozen=True)
class _Ratio:
    """The log likelihood ratio of two Gaussians: members over others."""

    member_mean: float
    member_deviation: float
    other_mean: float
    other_deviation: float

    @classmethod
    def fitted(cls, members: Floats, others: Floats) -> _Ratio:
        return cls(
            float(members.mean()),
            max(float(members.std(ddof=1)), _SMALLEST_DEVIATION),
            float(others.mean()),
            max(float(others.std(ddof=1)), _SMALLEST_DEVIATION),
        )

    def __call__(self, values: Floats) -> Floats:
        member = (values - self.member_mean) / self.member_deviation
        other = (values - self.other_mean) / self.other_deviation
        result: Floats = math.log(self.other_deviation / self.member_deviation) + (other**2 - member**2) / 2
        return result


def margins(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """Log odds of the true class: log p_y / (1 - p_y). Closer to a Gaussian than a loss, which piles up at zero.

    Args:
        logits: (n, K), K >= 2, finite. labels: (n,), in [0, K).

    Returns:
        (n,), float64; higher means easier.

    Raises:
        AuditError: arrays that do not fit each other.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or labels.shape != values.shape[:1] or not np.isfinite(values).all():
        raise AuditError(f"logits of shape {values.shape} with labels of shape {labels.shape}, or not finite")
    if len(labels) and not (labels.min() >= 0 and labels.max() < values.shape[1]):
        raise AuditError(f"a label outside 0 ... {values.shape[1] - 1}")
    rows = np.arange(len(labels))
    true = values[rows, labels]
    others = values.copy()
    others[rows, labels] = -np.inf
    result: Floats = true - np.logaddexp.reduce(others, axis=1)
    return result


def attack(
    final: NDArray[np.floating],
    start: NDArray[np.floating],
    included: NDArray[np.bool_],
    *,
    delta: float,
    confidence: float = CONFIDENCE,
    false_positive_rate: float = FALSE_POSITIVES,
) -> MembershipResult:
    """Judge the likelihood-ratio attack on canaries of known membership.

    Canaries at even positions calibrate it, those at odd positions judge it: their order must be chance, as it is when
    membership was decided by coins.

    Args:
        final: (m,), finite; one number for each canary under the final model: its loss, or its :func:`margins`.
            Whether members have the higher or the lower ones is learned from the first half.
        start: (m,), finite; the same under the start model. It takes away how hard a record is for anybody.
        included: (m,), bool; True for members.
        delta: in [0, 1). confidence, false_positive_rate: in (0, 1).

    Raises:
        AuditError: arrays that do not fit each other, fewer than 40 canaries, fewer than two members or non-members in
            a half, or a value outside its range.
    """
    _check(final, start, included, delta, confidence, false_positive_rate)
    gain = final.astype(np.float64) - start.astype(np.float64)
    known, known_in = gain[::2], included[::2]
    ratio = _Ratio.fitted(known[known_in], known[~known_in])
    calibration, evidence = ratio(known), ratio(gain[1::2])
    judged_in = included[1::2]
    found, let_through = evidence[judged_in], evidence[~judged_in]
    return MembershipResult(
        members=len(found),
        others=len(let_through),
        auc=auc(found, let_through),
        true_positive_rate=true_positive_rate(found, let_through, false_positive_rate),
        false_positive_rate=false_positive_rate,
        lower_bound=_bound(
            calibration[known_in], calibration[~known_in], found, let_through, delta=delta, confidence=confidence
        ),
        confidence=confidence,
        delta=delta,
    )


def auc(members: Floats, others: Floats) -> float:
    """Area under the ROC curve of scores that are higher for members, ties half; in [0, 1].

    Args:
        members, others: (k,) and (l,), not empty.
    """
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    above = float(ranks.sum()) - len(members) * (len(members) + 1) / 2
    return above / (len(members) * len(others))


def true_positive_rate(members: Floats, others: Floats, false_positive_rate: float) -> float:
    """Share of members above the lowest threshold that at most this share of the others exceeds.

    Args:
        members, others: (k,) and (l,), not empty; higher means more likely a member.
        false_positive_rate: in (0, 1).
    """
    allowed = math.floor(false_positive_rate * len(others) + 1e-9)
    threshold = np.sort(others)[len(others) - 1 - allowed]
    return float(np.mean(members > threshold))


def epsilon_of_rates(
    true_positives: int, members: int, false_positives: int, others: int, *, delta: float, confidence: float
) -> float:
    """Lower bound on epsilon from counts of an attack whose threshold was fixed before.

    (epsilon, delta)-DP allows a test TPR <= e^epsilon FPR + delta, and the same of the rates of "out". Each rate is
    replaced by its one-sided Clopper-Pearson limit; four limits share 1 - confidence.

    Args:
        true_positives: of ``members`` >= 1. false_positives: of ``others`` >= 1.
        delta: in [0, 1). confidence: in (0, 1).

    Returns:
        >= 0, finite.
    """
    counts = np.array([true_positives]), np.array([false_positives])
    return float(_epsilons(*counts, members, others, delta, confidence)[0])


def _epsilons(
    true_positives: Counts, false_positives: Counts, members: int, others: int, delta: float, confidence: float
) -> Floats:
    """:func:`epsilon_of_rates` of many thresholds at once: (t,), (t,) -> (t,)."""
    level = (1 - confidence) / 4
    found, kept_out = (
        _lower_limits(true_positives, members, level),
        _lower_limits(others - false_positives, others, level),
    )
    # The upper limit of a rate is what the lower limit of its opposite leaves.
    ratios = np.maximum(found - delta, 0) / (1 - kept_out), np.maximum(kept_out - delta, 0) / (1 - found)
    result: Floats = np.log(np.maximum(np.maximum(*ratios), 1.0))
    return result


def _bound(
    known_in: Floats, known_out: Floats, found: Floats, let_through: Floats, *, delta: float, confidence: float
) -> float:
    """Choose the threshold that proves most on the first half, then count on the second."""

    thresholds = np.unique(np.concatenate([known_in, known_out]))
    proved = _epsilons(
        _above(known_in, thresholds), _above(known_out, thresholds), len(known_in), len(known_out), delta, confidence
    )
    chosen = float(thresholds[int(proved.argmax())])
    return epsilon_of_rates(
        int(np.sum(found > chosen)),
        len(found),
        int(np.sum(let_through > chosen)),
        len(let_through),
        delta=delta,
        confidence=confidence,
    )


def _above(values: Floats, thresholds: Floats) -> Counts:
    """How many values exceed each threshold; (t,)."""
    return (len(values) - np.searchsorted(np.sort(values), thresholds, side="right")).astype(np.int64)


def _lower_limits(successes: Counts, trials: int, level: float) -> Floats:
    """Clopper-Pearson: the rates at which so many successes or more have probability ``level``; 0 without a success."""
    some = np.maximum(successes, 1)
    result: Floats = np.where(successes == 0, 0.0, betaincinv(some, trials - some + 1, level))
    return result


def _check(
    final: NDArray[np.floating],
    start: NDArray[np.floating],
    included: NDArray[np.bool_],
    delta: float,
    confidence: float,
    false_positive_rate: float,
) -> None:
    if final.ndim != 1 or start.shape != final.shape or included.shape != final.shape or included.dtype != np.bool_:
        raise AuditError(
            f"{final.shape} numbers under the final model, {start.shape} under the start model, "
            f"{included.shape} memberships of type {included.dtype}"
        )
    if not (np.isfinite(final).all() and np.isfinite(start).all()):
        raise AuditError("a number that is not finite", remedy="The model diverged; there is nothing to attack.")
    if len(final) < LEAST:
        raise AuditError(f"{len(final)} canaries", remedy=f"Use at least {LEAST}.")
    for half in (included[::2], included[1::2]):
        if not 2 <= half.sum() <= len(half) - 2:
            raise AuditError("half of the canaries holds fewer than two members or fewer than two others")
    if not 0 <= delta < 1:
        raise AuditError(f"a delta of {delta}", remedy="It must be at least 0 and below 1.")
    if not (0 < confidence < 1 and 0 < false_positive_rate < 1):
        raise AuditError(
            f"a confidence of {confidence} and a false-positive rate of {false_positive_rate}",
            remedy="Both must lie between 0 and 1.",
        )
