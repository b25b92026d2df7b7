"""What releases cost: epsilon from a list of releases, and the noise that a whole study needs to stay within one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..errors import AccountError
from .bounds import Event, allowance, gaussian_epsilon, numerical_epsilon, renyi_epsilon
from .releases import Release

TIGHTNESS = 1e-3
"""A noise multiplier that is smaller by this share would exceed the epsilon."""
LEAST_NOISE, MOST_NOISE = 0.01, 1e6
"""Noise multipliers that are searched."""
NO_NOISE = 1e-6
"""A noise multiplier below this protects nothing, and its square is no longer safe to divide by."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What releases cost together.

    Attributes:
        epsilon: the figure that counts; an upper bound.
        rdp_epsilon: the same by Renyi differential privacy, beside it: usually looser, and computed without Opacus.
        delta: probability with which epsilon may not hold.
    """

    epsilon: float
    rdp_epsilon: float
    delta: float


_SENSIBLE = 20.0
"""An epsilon above this promises nothing worth advising."""


def epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Epsilon of all the releases together, at one delta; 0 for none. Their order and kind have no influence.

    Exact (+ 2e-5) when nothing is sampled. Else an upper bound, within max(1 %, .011) of dp-accounting's privacy loss
    distributions for an epsilon up to 500, a delta above 1e-14 * all steps and up to 32 different trainings; beyond,
    the Renyi figure. Infinite when a noise multiplier is below NO_NOISE.

    Raises:
        AccountError: delta not in (0, 1).
    """
    _checked(delta)
    return _epsilon(_merged(releases), float(delta)) if _noisy(releases) else math.inf


def rdp_epsilon_of(releases: Sequence[Release], delta: float) -> float:
    """Epsilon of all the releases together by Renyi differential privacy: the second opinion.

    Usually 5 to 10 % looser; below `epsilon_of` by .01 at most, where both are next to nothing.

    Raises:
        AccountError: delta not in (0, 1).
    """
    _checked(delta)
    return renyi_epsilon(_merged(releases), float(delta)) if _noisy(releases) else math.inf


def spent_on(releases: Sequence[Release], delta: float) -> Spent:
    """Both figures of all the releases together.

    Raises:
        AccountError: delta not in (0, 1).
    """
    return Spent(epsilon_of(releases, delta), rdp_epsilon_of(releases, delta), delta)


def noise_multiplier_for(
    epsilon: float, delta: float, *, sample_rate: float, steps: int, others: Sequence[Release] = ()
) -> float:
    """The noise multiplier with which a training, together with `others`, costs at most epsilon.

    Args:
        epsilon: what all of it may cost; > 0.
        delta: in (0, 1).
        sample_rate, steps: of the whole planned training, all rounds; see `Release`.
        others: releases that count against the same epsilon, made or planned.

    Returns:
        A multiplier whose `epsilon_of` is at most epsilon, while that of one smaller by TIGHTNESS is not; at least
        LEAST_NOISE.

    Raises:
        AccountError: delta or epsilon out of range, or others leave nothing for the training.
        MechanismError: sample rate or steps out of range.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise AccountError(f"an epsilon of {epsilon!r}", remedy="Give a finite number above 0.")
    Release("training", 1.0, sample_rate, steps)  # refused here, before anything is computed with them
    before = epsilon_of(others, delta)

    def excess(log_noise: float) -> float:
        training = Release("training", math.exp(log_noise), sample_rate, steps)
        cost = epsilon_of((*others, training), delta)
        return math.log(cost / epsilon) if cost > 0 else -math.inf

    unreachable = AccountError(
        f"no noise keeps {steps} steps within epsilon {epsilon:g} at delta {delta:g}: "
        f"what is released beside them costs {before:.4g}",
        remedy="Make the other releases noisier or fewer"
        + (f", or allow an epsilon well above {before:.4g}." if before < _SENSIBLE else "."),
    )
    if before >= epsilon:
        raise unreachable
    guess = _guess(epsilon, before, delta, sample_rate, steps)
    return math.exp(_smallest_within(excess, math.log(min(max(guess, LEAST_NOISE), MOST_NOISE)), unreachable))


def _smallest_within(excess: Callable[[float], float], start: float, unreachable: AccountError) -> float:
    """The smallest x with excess(x) <= 0, for a falling and nearly straight function; from above, within TIGHTNESS."""
    bottom, top = math.log(LEAST_NOISE), math.log(MOST_NOISE)
    x, y = start, excess(start)
    below: tuple[float, float] | None = None
    above: tuple[float, float] | None = None
    stride = 1.0
    while True:
        if y > 0:
            below = (x, y)
        else:
            above = (x, y)
        if below is not None and above is not None:
            break
        if y > 0 and x >= top:
            raise unreachable
        if y <= 0 and x <= bottom:
            return x
        step = stride * min(max(abs(y), 0.005), 2.0)
        x = min(x + step, top) if y > 0 else max(x - step, bottom)
        y = excess(x)
        stride *= 2

    widths = [math.inf, math.inf]
    while (width := above[0] - below[0]) > TIGHTNESS:
        root = below[0] + width * below[1] / (below[1] - above[1])  # above's y may be minus infinity: then it is below
        if width > widths[-2] / 2:
            x = below[0] + width / 2
        else:  # just beside the root, first on the far side: two steps enclose it
            x = root + 0.4 * TIGHTNESS if above[0] - root > 0.5 * TIGHTNESS else root - 0.4 * TIGHTNESS
            x = min(max(x, below[0] + 0.1 * TIGHTNESS), above[0] - 0.1 * TIGHTNESS)
        widths.append(width)
        y = excess(x)
        if y > 0:
            below = (x, y)
        else:
            above = (x, y)
    return above[0]


def _guess(epsilon: float, before: float, delta: float, sample_rate: float, steps: int) -> float:
    """A noise multiplier to start from, by the central limit: mu = q sqrt(steps (exp(1 / multiplier^2) - 1)).

    Source: Bu, Dong, Long and Su 2020, the limit without its correction for large 1 / multiplier.
    """
    wanted = _mu_of(epsilon, delta) ** 2 - _mu_of(before, delta) ** 2
    per_step = max(wanted, 1e-12) / steps
    return 1 / math.sqrt(per_step if sample_rate == 1 else math.log1p(per_step / sample_rate**2))


def _mu_of(epsilon: float, delta: float) -> float:
    """The sensitivity in standard deviations with which one Gaussian mechanism costs about epsilon; 0 for 0."""
    low, high = -14.0, 14.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_epsilon(math.exp(middle), delta) < epsilon else (low, middle)
    return math.exp(low) if epsilon > 0 else 0.0


def _noisy(releases: Sequence[Release]) -> bool:
    return all(release.noise_multiplier >= NO_NOISE for release in releases)


def _checked(delta: float) -> None:
    if not 0 < delta < 1:
        raise AccountError(f"a delta of {delta!r}", remedy="It is a probability above 0 and below 1, below 1 / units.")


def _merged(releases: Sequence[Release]) -> tuple[Event, ...]:
    """Equal releases as one with all their steps, and unsampled ones as one: sum of 1 / multiplier^2.

    Multipliers above 1e9 count as 1e9: their squares would overflow.
    """
    steps: defaultdict[tuple[float, float], int] = defaultdict(int)
    precision = 0.0
    for release in releases:
        sigma, q = min(float(release.noise_multiplier), 1e9), float(release.sample_rate)
        if q == 1:
            precision += release.steps / sigma**2
        else:
            steps[sigma, q] += release.steps
    events = [(sigma, q, count) for (sigma, q), count in sorted(steps.items())]
    return (*events, (precision**-0.5, 1.0, 1)) if precision else tuple(events)


@lru_cache(maxsize=4096)
def _epsilon(events: tuple[Event, ...], delta: float) -> float:
    if not events:
        return 0.0
    bound = gaussian_epsilon(math.sqrt(sum(steps / sigma**2 for sigma, _, steps in events)), delta)
    if all(q == 1 for _, q, _ in events):
        return bound
    return min(bound, renyi_epsilon(events, delta) + allowance(events), numerical_epsilon(events, delta))
