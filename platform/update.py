"""What one site sends after a round, and how it becomes the next global adapter.

An update is three named blocks of float32:

- ``update``: local minus global parameters, flat, in the layout's order;
- ``buffers``: BatchNorm's running mean and E[x^2] = running variance + mean^2. Both are plain averages, so their
  weighted sums are those of the pooled data even where site means differ; a sum of variances is not;
- ``metrics``: the mean training loss, one number.

The number of batches seen is not sent: it says how many images a site has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

State = dict[str, Tensor]
UPDATE, BUFFERS, METRICS = "update", "buffers", "metrics"


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of an adapter's tensors, in the order in which they are flattened.

    Attributes:
        parameters: (name, shape) of each trained tensor.
        norms: prefix and width of each BatchNorm layer, e.g. ``("norm", 512)``.
    """

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    norms: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, adapter: nn.Module) -> Layout:
        """Layout of a module whose only buffers are those of BatchNorm layers."""
        return cls(
            parameters=tuple((name, tuple(p.shape)) for name, p in adapter.named_parameters()),
            norms=tuple(
                (name, module.num_features)
                for name, module in adapter.named_modules()
                if isinstance(module, nn.BatchNorm1d)
            ),
        )

    def sizes(self) -> dict[str, int]:
        """Length of each block of an update."""
        return {
            UPDATE: sum(int(np.prod(shape)) for _, shape in self.parameters),
            BUFFERS: sum(2 * width for _, width in self.norms),
            METRICS: 1,
        }

    def flatten(self, state: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """Parameters of ``state`` as one float32 vector of length ``sizes()["update"]``."""
        return np.concatenate([state[name].detach().cpu().numpy().ravel() for name, _ in self.parameters])

    def moments(self, state: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """Mean and E[x^2] of each BatchNorm layer as one float32 vector of length ``sizes()["buffers"]``."""
        parts: list[NDArray[np.float32]] = []
        for name, _ in self.norms:
            mean = state[f"{name}.running_mean"].double()
            second = state[f"{name}.running_var"].double() + mean**2
            parts += [mean.float().numpy(), second.float().numpy()]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Update:
    """The blocks that one site sends, before clipping and masking. All float32, one-dimensional."""

    blocks: Mapping[str, NDArray[np.float32]]

    @classmethod
    def between(cls, layout: Layout, before: Mapping[str, Tensor], after: Mapping[str, Tensor], loss: float) -> Update:
        """The update of a site that received ``before`` and trained it to ``after``."""
        return cls(
            {
                UPDATE: layout.flatten(after) - layout.flatten(before),
                BUFFERS: layout.moments(after),
                METRICS: np.array([loss], dtype=np.float32),
            }
        )


def apply_mean(layout: Layout, state: Mapping[str, Tensor], mean: Mapping[str, NDArray[np.float64]]) -> State:
    """The next global adapter: ``state`` moved by the weighted mean of the survivors' updates.

    Args:
        layout: of the adapter.
        state: the global adapter that the sites received.
        mean: float64 block means, as the secure sum gives them.

    Returns:
        New tensors, float32. The variance is E[x^2] - mean^2, clamped at 0 (rounding may leave it just below).
    """
    result: State = {name: tensor.clone() for name, tensor in state.items()}
    position = 0
    for name, shape in layout.parameters:
        length = int(np.prod(shape))
        step = torch.from_numpy(mean[UPDATE][position : position + length].reshape(shape))
        result[name] = (state[name].double() + step).float()
        position += length
    position = 0
    for name, width in layout.norms:
        first = mean[BUFFERS][position : position + width]
        second = mean[BUFFERS][position + width : position + 2 * width]
        result[f"{name}.running_mean"] = torch.from_numpy(first).float()
        result[f"{name}.running_var"] = torch.from_numpy(np.maximum(second - first**2, 0.0)).float()
        position += 2 * width
    return result
