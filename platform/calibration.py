"""A temperature that is learnt under federation: part of the adapter, fitted on held-out images every round.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2. A temperature that
is trained on training images only learns that they are fitted; so each site fits it on its validation part, with the
adapter held still, and what it learnt is averaged with the adapter in the same secure sum.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from ..evaluation.calibration.temperature import FEWEST_RECORDS

FITTED = ("log_temperature",)
"""Tensors that are fitted so, and neither trained nor moved by a server optimiser."""
LOWEST, HIGHEST = math.log(0.05), math.log(20.0)


def carries_temperature(state: Collection[str]) -> bool:
    """Whether a model's tensors, by name, have a temperature among them, so that none is to be fitted afterwards."""
    return not set(FITTED).isdisjoint(state)


def worth_fitting(logits: Tensor, labels: Tensor) -> bool:
    """Whether held-out images say anything of a temperature; where they do not, a site leaves it as it received it.

    Not with fewer than 10 images or one class; and not where every image is right by a margin, because the likelihood
    then only rises towards temperature 0: sharpening without end is an artefact of few images, not a calibration.

    Args:
        logits: (n, K) float64. labels: (n,) int64.
    """
    if len(labels) < FEWEST_RECORDS or int(labels.min()) == int(labels.max()):
        return False
    own = logits.gather(1, labels[:, None])
    best_other = logits.scatter(1, labels[:, None], -math.inf).amax(dim=1, keepdim=True)
    return bool((own <= best_other).any())


def fit_log_temperature(logits: Tensor, labels: Tensor, start: float, steps: int) -> float:
    """Newton steps on the mean negative log likelihood over t = log temperature.

    With z the logits before the temperature, u = z / e^t, p = softmax(u) and m = sum_k p_k u_k:
    d NLL / dt = mean(u_y - m), and its derivative is mean(Var_p(u) + m - u_y). Where that is not positive, the step is
    downhill by at most 0.5. Each step is at most 1.

    Args:
        logits: (n, K) float64, before any temperature. labels: (n,) int64.
        start: log temperature to start from.
        steps: how many steps.

    Returns:
        The log temperature, in [log 0.05, log 20]; ``start`` where n = 0.
    """
    if len(labels) == 0:
        return start
    value = start
    for _ in range(steps):
        scaled = logits.double() * math.exp(-value)
        probabilities = torch.softmax(scaled, dim=1)
        mean = (probabilities * scaled).sum(dim=1)
        own = scaled.gather(1, labels[:, None]).squeeze(1)
        slope = float((own - mean).mean())
        spread = (probabilities * (scaled - mean[:, None]) ** 2).sum(dim=1)
        curvature = float((spread + mean - own).mean())
        if slope == 0.0:  # at the minimum, or logits that no temperature changes
            break
        step = -slope / curvature if curvature > 0 else -math.copysign(0.5, slope)
        value = min(max(value + min(max(step, -1.0), 1.0), LOWEST), HIGHEST)
        if abs(step) < 1e-9:
            break
    return value
