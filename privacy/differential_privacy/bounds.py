"""Three upper bounds of epsilon for Poisson-sampled Gaussian mechanisms one after the other.

`gaussian_epsilon` is exact where nothing is sampled, `numerical_epsilon` is tight, `renyi_epsilon` always works. The
smallest of upper bounds is one too. Every figure is for zeroing out one unit; see `releases.Relation`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.optimize import brentq
from scipy.special import gammaln, log_ndtr, logsumexp

Event = tuple[float, float, int]
"""Noise multiplier > 0, sample rate in (0, 1], steps >= 1: one line of an Opacus history."""

MARGIN = 1e-5
"""What `gaussian_epsilon` adds to the exact figure: rounding, and the grid of accountants that it is compared with."""

_FRACTIONS = 1 + np.geomspace(1e-3, 11, 150)
_INTEGERS = np.unique(np.round(np.geomspace(12, 8192, 70)).astype(np.int64))
ORDERS: NDArray[np.float64] = np.concatenate([_FRACTIONS, _INTEGERS])
"""Renyi orders: near 1 for an epsilon in the thousands, in the thousands for one of a hundredth."""

_FEW, _MANY = 2**19, 2**22
"""Grid points of the privacy loss: the first attempt (a tenth of a second an event), and at most (about 400 MB)."""
_MOST_EVENTS = 32
"""Different events that are composed on a grid: a tenth of a second each."""
_FARTHEST = 650.0
"""Largest privacy loss on a grid: exp(loss) must stay a finite float64."""
_RELATIVE_ERROR = 0.006
_SMALLEST_RATE = 1e-9
"""Rates below are counted as this one: exp(loss) - 1 + q would be rounding only."""


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of a Gaussian mechanism whose sensitivity is mu standard deviations, at most 2e-5 above the exact one.

    Many unsampled releases are one, with mu^2 = sum of 1 / multiplier^2. Sampling only lowers epsilon.

    Source: Balle and Wang 2018, theorem 8. Solved in logarithms, so that it holds for every delta in (0, 1).
    """

    def excess(epsilon: float) -> float:
        high = log_ndtr(mu / 2 - epsilon / mu)
        low = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(high + np.log1p(-np.exp(low - high))) - math.log(delta) if low < high else -math.inf

    if excess(0.0) <= 0:
        return 0.0
    top = 1.0
    while excess(top) > 0:
        top *= 2
    # brentq wants finite ends; far out the two terms are equal to the last digit and the excess is minus infinity.
    root = float(brentq(lambda epsilon: max(excess(epsilon), -1e4), 0.0, top, xtol=1e-12, rtol=1e-13))
    return root * (1 + 1e-9) + MARGIN


@lru_cache(maxsize=4096)
def renyi_divergence(noise_multiplier: float, sample_rate: float) -> NDArray[np.float64]:
    """Renyi divergence of one step at every one of ORDERS, shape (len(ORDERS),), read-only.

    Integer orders by the binomial sum, in the form whose terms are all positive; fractional ones by the trapezoid rule,
    which is exact to rounding for an analytic integrand on a fine grid. The series that other libraries use for
    fractional orders does not converge in 1,000 terms near order 1, and their binomials overflow beyond order 1,029.

    Source: Mironov, Talwar and Zhang 2019, section 3.3.
    """
    sigma, q = noise_multiplier, sample_rate
    unsampled: NDArray[np.float64] = ORDERS / (2 * sigma**2)
    if q == 1:
        unsampled.setflags(write=False)
        return unsampled
    log_q, log_rest = math.log(q), math.log1p(-q)

    fractional = np.full(len(_FRACTIONS), math.inf)
    if sigma >= 0.05:  # below it the grid is long and sampling no longer helps
        # The integrand is analytic for |Im z| < pi sigma^2: a step of half a sigma^2 errs by exp(-4 pi^2) = 7e-18.
        step = min(sigma / 3, sigma**2 / 2)
        z = np.arange(-10 * sigma, _FRACTIONS[-1] + 10 * sigma, step)
        ratio = np.logaddexp(log_rest, log_q + (2 * z - 1) / (2 * sigma**2))
        terms = _FRACTIONS[:, None] * ratio - z**2 / (2 * sigma**2)
        log_moment = logsumexp(terms, axis=1) + math.log(step / (sigma * math.sqrt(2 * math.pi)))
        fractional = np.maximum(log_moment, 0.0) / (_FRACTIONS - 1)

    whole = np.empty(len(_INTEGERS))
    for place, order in enumerate(_INTEGERS.tolist()):
        k = np.arange(2, order + 1)
        growth = k * (k - 1) / (2 * sigma**2)
        with np.errstate(over="ignore"):
            log_growth = np.where(growth > 30, growth, np.log(np.expm1(np.minimum(growth, 30))))
        binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        log_excess = logsumexp(binomial + k * log_q + (order - k) * log_rest + log_growth)
        whole[place] = np.logaddexp(0.0, log_excess) / (order - 1)

    divergence: NDArray[np.float64] = np.minimum(np.concatenate([fractional, whole]), unsampled)
    divergence.setflags(write=False)
    return divergence


def renyi_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon by Renyi differential privacy: an upper bound, usually 5 to 10 % above the true one. 0 for no events.

    Source: conversion by Balle et al. 2020, theorem 21.
    """
    if not events:
        return 0.0
    divergence = np.zeros(len(ORDERS))
    for sigma, q, steps in events:
        divergence = divergence + steps * renyi_divergence(sigma, q)
    epsilons = divergence + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(epsilons.min()))


def allowance(events: Sequence[Event]) -> float:
    """The least error that a sampled epsilon carries: .0001 sqrt(steps), at most .01.

    dp-accounting puts the privacy loss of every step on a grid of .0001. Where that loss is far smaller, its epsilon
    exceeds the true one by up to this much (measured: .011 at 20,000 steps of multiplier 100, rate .003, delta 1e-8).
    With the allowance ours is not below it, so that who checks the figure does not compute a higher one.
    """
    return min(1e-4 * math.sqrt(sum(steps for _, _, steps in events)), 0.01)


def numerical_epsilon(events: Sequence[Event], delta: float) -> float:
    """Epsilon by composing privacy losses on a grid with Opacus: an upper bound within .6 % or .01 of the true one.

    The grid is ours, because that of Opacus' own accountant has a fixed step: with 20 different events or at an epsilon
    of 100 it takes half a minute and gigabytes, and at a delta near 1e-12 rounding puts it below the true figure. The
    error is first what a small grid gives, and is reduced where that is too much for the epsilon that came out.

    Returns:
        Epsilon; infinity where the grid cannot give a bound in seconds: delta at the rounding of the steps, epsilon
        above 500, more than 32 different events.

    Source: Gopi, Lee and Wutschitz 2021, theorem 5.5 and remark 5.6.
    """
    if len(events) > _MOST_EVENTS:
        return math.inf
    total = sum(steps for _, _, steps in events)
    delta_error = delta / 1000
    # An FFT raised to a power errs by about power * 1e-16 of all mass; measured against the closed form: below a fifth.
    rounding = 2 * (total + len(events)) * float(np.finfo(np.float64).eps)
    if rounding > delta / 20:
        return math.inf
    reach = 3 + max(
        renyi_epsilon(events, delta_error / 4),
        *(renyi_epsilon([(sigma, q, 1)], delta_error / (8 * total)) for sigma, q, _ in events),
    )
    if reach > _FARTHEST:
        return math.inf

    steps_to_error = math.sqrt(total / 2 * math.log(12 / delta_error))  # error / mesh, by theorem 5.5
    few = _FEW if len(events) <= 4 else _FEW // 2
    most = min(_MANY, max(few, 2 * _MANY // len(events)))

    def error_of(points: int) -> float:
        return 2 * steps_to_error * reach / max(points - 2 * steps_to_error, 1)

    error = min(max(error_of(few), allowance(events)), 1.0)  # the theorem needs an error below 1
    if error < error_of(most):
        return math.inf
    lower, upper = _compose(events, delta, delta_error + rounding, error, reach + error, error / steps_to_error)
    wanted = max(0.01, _RELATIVE_ERROR * lower)
    if error > wanted:
        error = max(wanted, error_of(most))
        finer = _compose(events, delta, delta_error + rounding, error, reach + error, error / steps_to_error)
        upper = min(upper, finer[1])
    return upper


def _compose(
    events: Sequence[Event], delta: float, delta_error: float, error: float, reach: float, mesh: float
) -> tuple[float, float]:
    """Lower and upper bound of epsilon from a grid of `mesh` over +- `reach`; (0, infinity) where Opacus gives up."""
    from opacus.accountants.analysis import prv  # slow to import

    half = next_fast_len(math.ceil(reach / mesh) + 1, real=True)
    domain = prv.Domain(-(half - 1) * mesh, half * mesh, 2 * half)
    composed: Any = None
    # Opacus takes logarithms of 0 where the probability is 0, and integrates with more warnings than error.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for sigma, q, steps in events:
                loss = prv.PoissonSubsampledGaussianPRV(max(q, _SMALLEST_RATE), sigma)
                truncated = prv.TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max)
                discrete = prv.discretize(truncated, domain)
                # One event at a time: all at once would need memory for every one of them.
                parts, times = ([discrete], [steps]) if composed is None else ([composed, discrete], [1, steps])
                composed = prv.compose_heterogeneous(dprvs=parts, num_self_compositions=times)
            lower, _, upper = composed.compute_epsilon(delta, delta_error, error)
        except (RuntimeError, ValueError, IndexError):  # mean off the grid, delta below rounding, epsilon off the grid
            return 0.0, math.inf
    if not math.isfinite(upper):
        return 0.0, math.inf
    return max(0.0, float(lower)) if math.isfinite(lower) else 0.0, max(0.0, float(upper))
