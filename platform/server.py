"""What the coordinator makes of the sites' mean update: plain averaging, server momentum, or server Adam.

Source: Reddi et al. 2021, "Adaptive Federated Optimization", arXiv 2003.00295, algorithm 2 (FedAdam); Hsu et al. 2019,
arXiv 1909.06335, section 4.1 (FedAvgM). The mean update is a pseudo-gradient, already pointing downhill. BatchNorm's
statistics and the temperature are no directions to run along: they are replaced by the sites' mean.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..privacy.secure_aggregation.roster import Roster
from ..privacy.secure_aggregation.unmasking import SecureSum
from .adapters import State
from .calibration import FITTED
from .method_sections import ServerSection
from .update import Layout, mean_statistics, mean_step

FIRST, SECOND = "first.", "second."


def means(total: SecureSum, roster: Roster) -> dict[str, NDArray[np.float64]]:
    """Each block's mean over the survivors: weighted, or plain where the block is not weighted."""
    divisors = {
        block.name: total.weight if block.weighted else float(len(total.survivors)) for block in roster.blocks("update")
    }
    return {name: values / divisors[name] for name, values in total.values.items()}


def apply_mean(
    layout: Layout,
    state: Mapping[str, Tensor],
    mean: Mapping[str, NDArray[np.float64]],
    server: ServerSection | None = None,
    memory: Mapping[str, Tensor] | None = None,
) -> tuple[State, State]:
    """The next global adapter: ``state`` moved by the server optimiser along the survivors' mean update.

    Args:
        layout: of the adapter.
        state: the global adapter that the sites received.
        mean: float64 block means, as the secure sum gives them.
        server: optimiser and its constants; None for plain averaging.
        memory: the optimiser's moments after the round before, float64, by ``first.<tensor>`` and
            ``second.<tensor>``; empty before the first round.

    Returns:
        The adapter's new tensors, float32, and the optimiser's new moments.
    """
    settings, known = server or ServerSection(), memory or {}
    result: State = {name: tensor.clone() for name, tensor in state.items()}
    kept: State = {}
    for name, delta in mean_step(layout, mean).items():
        step = delta
        if name not in FITTED:
            step, moments = _step(settings, name, delta, known)
            kept |= moments
        result[name] = (state[name].double() + step).float()
    return result | mean_statistics(layout, mean), kept


def _step(settings: ServerSection, name: str, delta: Tensor, known: Mapping[str, Tensor]) -> tuple[Tensor, State]:
    """How far one tensor moves, and the moments it leaves; moments start at 0, and FedAdam's second at tau^2."""
    if settings.optimiser == "mean":
        return settings.lr * delta, {}
    first = known.get(FIRST + name, torch.zeros_like(delta))
    if settings.optimiser == "fedavgm":
        first = settings.beta1 * first + delta
        return settings.lr * first, {FIRST + name: first}
    first = settings.beta1 * first + (1.0 - settings.beta1) * delta
    second = known.get(SECOND + name, torch.full_like(delta, settings.tau**2))
    second = settings.beta2 * second + (1.0 - settings.beta2) * delta**2
    return settings.lr * first / (second.sqrt() + settings.tau), {FIRST + name: first, SECOND + name: second}
