"""One training run, audited: what epsilon do its canaries prove?

Each of m canaries is in the training set or not, by a fair coin of its own. An auditor who sees what training released
gives every canary a score, guesses "in" for the highest and "out" for the lowest, and keeps silent about the rest.
Under (epsilon, delta) no auditor is right much more often than a coin that falls right with probability
e^epsilon / (1 + e^epsilon); being right more often disproves that epsilon.

Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", arXiv 2305.08846, section 5 and
appendix D.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom

from ..errors import AuditError

CANARIES = 1000
GUESSES = 200
CONFIDENCE = 0.95
_HALVINGS = 60


@dataclass(frozen=True)
class AuditResult:
    """What one audited run proved.

    Attributes:
        canaries: m, how many coins were flipped.
        guesses: r, fixed before the run.
        right: how many guesses were right.
        lower_bound: at this confidence the run was not (epsilon, delta)-DP for any epsilon below; 0: nothing proved.
        ceiling: the bound if all guesses had been right; no audit of this size can prove more.
        confidence: probability that a bound does not exceed the true epsilon, over coins and noise.
        delta: of the claim that was tested.
    """

    canaries: int
    guesses: int
    right: int
    lower_bound: float
    ceiling: float
    confidence: float
    delta: float


def p_value(epsilon: float, *, canaries: int, guesses: int, right: int, delta: float) -> float:
    """Upper bound on the probability that an (epsilon, delta)-DP run lets an auditor be right at least so often.

    With W ~ Binomial(guesses, e^epsilon / (1 + e^epsilon)) it is

        P[W >= right]  +  2 * canaries * delta * max over i = 1 ... right of  P[right - i <= W < right] / i,

    at most 1. The second term pays for delta: with small probability a run may give several canaries away at once.

    Args:
        epsilon: >= 0.
        canaries: m >= 1; all of them count, those without a guess too.
        guesses: r in [0, m]; right: in [0, r].
        delta: in [0, 1).

    Raises:
        AuditError: a value outside its range.
    """
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise AuditError(f"an epsilon of {epsilon}", remedy="It must be a finite number of at least 0.")
    _check(canaries, guesses, right, delta, CONFIDENCE)
    return _p_value(epsilon, canaries, guesses, right, delta)


def lower_bound(*, canaries: int, guesses: int, right: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest epsilon that these guesses disprove; 0 when they disprove none.

    Args:
        canaries, guesses, right, delta: see :func:`p_value`.
        confidence: 1 - the p-value below which an epsilon is disproved; in (0, 1).

    Raises:
        AuditError: a value outside its range.
    """
    _check(canaries, guesses, right, delta, confidence)
    level = 1 - confidence

    def disproved(epsilon: float) -> bool:
        return _p_value(epsilon, canaries, guesses, right, delta) < level

    if not disproved(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while disproved(high):
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if disproved(middle) else (low, middle)
    return low  # the end that is disproved, so that rounding never claims more


def ceiling(guesses: int, canaries: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The bound when every guess is right: 5.8 with 1,000 guesses about 1,000 canaries at delta 1e-5.

    Raises:
        AuditError: a value outside its range.
    """
    return lower_bound(canaries=canaries, guesses=guesses, right=guesses, delta=delta, confidence=confidence)


def flip_coins(count: int) -> NDArray[np.bool_]:
    """One fair coin for each canary, from the operating system's randomness: True is in; shape (count,)."""
    octets = np.frombuffer(os.urandom((count + 7) // 8), dtype=np.uint8)
    return np.unpackbits(octets, count=count).astype(np.bool_)


def guesses_of(scores: NDArray[np.floating], guesses: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The auditor's guesses: the canaries guessed in, and those guessed out.

    The guesses // 2 highest scores are guessed in, the same number of lowest out, ties by position. The number must be
    chosen before scores are seen: choosing the best of several numbers afterwards proves nothing.

    Args:
        scores: (m,), finite; higher means more likely in.
        guesses: even, in [2, m].

    Returns:
        Two arrays of shape (guesses // 2,), int64: positions in ``scores``.

    Raises:
        AuditError: scores of another shape or not finite; an odd number, or one outside its range.
    """
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise AuditError("scores that are not one finite number for each canary")
    if guesses % 2 or not 2 <= guesses <= len(scores):
        raise AuditError(
            f"{guesses} guesses about {len(scores)} canaries", remedy="Use an even number, 2 to the number of canaries."
        )
    order = np.argsort(scores, kind="stable").astype(np.int64)
    return order[len(order) - guesses // 2 :], order[: guesses // 2]


def audit(
    scores: NDArray[np.floating],
    included: NDArray[np.bool_],
    *,
    delta: float,
    guesses: int = GUESSES,
    confidence: float = CONFIDENCE,
) -> AuditResult:
    """Guess from the scores, look at the coins, and say what was proved.

    Args:
        scores: (m,), finite; higher means more likely in. They may depend on all that training released and on the
            canaries, never on the coins.
        included: (m,), bool; the coins of :func:`flip_coins`.
        delta: of the claim under test.
        guesses: fixed beforehand; see :func:`guesses_of`.
        confidence: in (0, 1).

    Raises:
        AuditError: arrays that do not fit each other, or a value outside its range.
    """
    if included.shape != scores.shape or included.dtype != np.bool_:
        raise AuditError(f"coins of shape {included.shape} and type {included.dtype} for {scores.shape} scores")
    guessed_in, guessed_out = guesses_of(scores, guesses)
    right = int(included[guessed_in].sum() + (~included[guessed_out]).sum())
    canaries = len(scores)
    return AuditResult(
        canaries=canaries,
        guesses=guesses,
        right=right,
        lower_bound=lower_bound(canaries=canaries, guesses=guesses, right=right, delta=delta, confidence=confidence),
        ceiling=ceiling(guesses, canaries, delta, confidence),
        confidence=confidence,
        delta=delta,
    )


def _p_value(epsilon: float, canaries: int, guesses: int, right: int, delta: float) -> float:
    """See :func:`p_value`; counted in wrong guesses, whose probability keeps its digits when epsilon is large."""
    miss = float(expit(-epsilon))
    wrong = guesses - right
    tail = float(binom.cdf(wrong, guesses, miss))
    if delta == 0 or right == 0:
        return min(1.0, tail)
    counts = np.arange(1, right + 1)
    windows = np.cumsum(binom.pmf(wrong + counts, guesses, miss))
    return min(1.0, tail + 2 * canaries * delta * float((windows / counts).max()))


def _check(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> None:
    if not (canaries >= 1 and 0 <= right <= guesses <= canaries):
        raise AuditError(
            f"{right} right of {guesses} guesses about {canaries} canaries",
            remedy="There are at most as many guesses as canaries, and as many right as guesses.",
        )
    if not 0 <= delta < 1:
        raise AuditError(f"a delta of {delta}", remedy="It must be at least 0 and below 1.")
    if not 0 < confidence < 1:
        raise AuditError(f"a confidence of {confidence}", remedy="It must lie between 0 and 1, such as 0.95.")
