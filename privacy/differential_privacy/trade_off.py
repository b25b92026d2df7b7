"""What privacy costs before a study begins: the noise for every number of units and every epsilon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import AccountError
from .accountant import epsilon_of, noise_multiplier_for
from .releases import Release


@dataclass(frozen=True, slots=True)
class TradeOff:
    """One plan of a site.

    Attributes:
        units: how many units the site trains on; >= 1.
        epsilon: what the whole study may cost a unit, other releases included.
        noise_multiplier: the least that keeps to it; None where the other releases alone cost as much.
        sample_rate: probability that a unit is in a batch, in (0, 1].
        steps: noisy steps of all rounds.
        noise_to_signal: standard deviation of the noise in every coordinate of the mean gradient, in units of the clip:
            noise multiplier / expected batch. None with the multiplier.
    """

    units: int
    epsilon: float
    noise_multiplier: float | None
    sample_rate: float
    steps: int
    noise_to_signal: float | None


def trade_off(
    units: Sequence[int],
    epsilons: Sequence[float],
    *,
    rounds: int,
    expected_batch: int,
    local_epochs: int,
    delta: float,
    others: Sequence[Release] = (),
) -> list[TradeOff]:
    """A row for every number of units and every epsilon, in the order given, units first.

    Args:
        units: numbers of units (patients, lesions or records); each >= 1.
        epsilons: each > 0.
        rounds, local_epochs: of the study; >= 1. A round has local_epochs * ceil(units / batch) steps.
        expected_batch: units that a step draws on average, >= 1; all of them where there are fewer.
        delta: in (0, 1).
        others: releases beside the training that count against the same epsilon.

    Raises:
        AccountError: a number out of range.
    """
    for name, value in [("rounds", rounds), ("expected_batch", expected_batch), ("local_epochs", local_epochs)]:
        _positive(name, value)
    for count in units:
        _positive("units", count)
    before = epsilon_of(others, delta)
    rows = []
    for count in units:
        batch = min(expected_batch, count)
        rate, steps = batch / count, rounds * local_epochs * math.ceil(count / batch)
        for epsilon in epsilons:
            noise = None
            if not 0 < epsilon <= before:
                noise = noise_multiplier_for(epsilon, delta, sample_rate=rate, steps=steps, others=others)
            rows.append(TradeOff(count, epsilon, noise, rate, steps, None if noise is None else noise / batch))
    return rows


def _positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AccountError(f"{name} = {value!r}", remedy="Give a whole number of at least 1.")
