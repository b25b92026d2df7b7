"""What one site sends after a round, and the mean of what all sent.

An update is named blocks of float32:

- one block for each top-level child of the method's module, by its name (``adapter``, ``text_adapter``, ``domain``,
  ``clip``, ``lora``, ``context``, ``log_temperature``): local minus global parameters, flat, in the layout's order;
- ``buffers``: running mean and E[x^2] = running variance + mean^2 of adapters' BatchNorm. Both are plain averages, so
  their weighted sums are those of the pooled data even where site means differ; a sum of variances is not;
- ``metrics``: the mean training loss, one number; not under differential privacy, where nothing un-noised is sent.

The number of batches seen is not sent: it says how many images a site has.

Constants (the federation's class means) travel with the adapter to the sites, and no update holds anything of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .adapters import AdapterNorm, State, check_tensors, under

BUFFERS, METRICS = "buffers", "metrics"


@dataclass(frozen=True, slots=True)
class ParameterBlock:
    """Parameters that are sent as one stretch of the vector.

    Attributes:
        name: of the module's child.
        tensors: (name, shape) of each parameter, in the order in which they are flattened.
    """

    name: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(int(np.prod(shape)) for _, shape in self.tensors)


@dataclass(frozen=True, slots=True)
class Layout:
    """What of a module is sent, by block.

    Attributes:
        blocks: of trained parameters.
        norms: prefix and width of each adapter's BatchNorm layer, e.g. ``("adapter.norm", 512)``.
        constants: shape of each tensor that the coordinator sends along and nobody trains, by name.
        metrics: whether the mean training loss is sent; under differential privacy it is not.
    """

    blocks: tuple[ParameterBlock, ...]
    norms: tuple[tuple[str, int], ...]
    constants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metrics: bool = True

    @classmethod
    def of(
        cls,
        module: nn.Module,
        *,
        local: Sequence[str] = (),
        constants: Mapping[str, tuple[int, ...]] | None = None,
        metrics: bool = True,
    ) -> Layout:
        """Layout of a module's trained parameters, without those under a prefix in ``local``, and of constants."""
        blocks: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and not under(name, local):
                blocks.setdefault(name.split(".")[0], []).append((name, tuple(parameter.shape)))
        norms = tuple(
            (name, layer.num_features)
            for name, layer in module.named_modules()
            if isinstance(layer, AdapterNorm) and not under(f"{name}.", local)
        )
        sent = tuple(ParameterBlock(name, tuple(tensors)) for name, tensors in blocks.items())
        return cls(sent, norms, dict(constants or {}), metrics)

    @property
    def parameters(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """(name, shape) of every parameter that is sent."""
        return tuple(tensor for block in self.blocks for tensor in block.tensors)

    def sizes(self) -> dict[str, int]:
        """Length of each block of an update."""
        sizes = {block.name: block.size for block in self.blocks}
        if self.norms:
            sizes[BUFFERS] = sum(2 * width for _, width in self.norms)
        return {**sizes, METRICS: 1} if self.metrics else sizes

    def check(self, state: Mapping[str, Tensor]) -> None:
        """Refuse a global state, constants included, that is not of this layout.

        Raises:
            CheckpointError: names the first tensor that is missing, unknown, misshapen or not finite.
        """
        expected = {name: (torch.float32, shape) for name, shape in (*self.parameters, *self.constants.items())}
        for name, width in self.norms:
            expected |= {f"{name}.{key}": (torch.float32, (width,)) for key in ("running_mean", "running_var")}
        check_tensors(expected, state)

    def split(self, tensors: Mapping[str, Tensor]) -> tuple[State, State]:
        """What travelled together, apart again: the adapter's tensors and the constants, by reference.

        Raises:
            CheckpointError: a constant is missing, or of another shape or type.
        """
        constants = {name: tensor for name, tensor in tensors.items() if name in self.constants}
        check_tensors({name: (torch.float32, shape) for name, shape in self.constants.items()}, constants)
        return {name: tensor for name, tensor in tensors.items() if name not in constants}, constants

    def blank(self) -> State:
        """Constants before they are known: zeros."""
        return {name: torch.zeros(shape) for name, shape in self.constants.items()}

    def shared(self, state: Mapping[str, Tensor]) -> State:
        """The part of a site's state that is global and trained, by reference."""
        names = {name for name, _ in self.parameters}
        names |= {f"{name}.{key}" for name, _ in self.norms for key in ("running_mean", "running_var")}
        return {name: tensor for name, tensor in state.items() if name in names}

    def flatten(self, block: ParameterBlock, state: Mapping[str, Tensor]) -> NDArray[np.float32]:
        """A block's parameters in ``state`` as one float32 vector of length ``block.size``."""
        return np.concatenate([state[name].detach().cpu().numpy().ravel() for name, _ in block.tensors])

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
        blocks = {block.name: layout.flatten(block, after) - layout.flatten(block, before) for block in layout.blocks}
        if layout.norms:
            blocks[BUFFERS] = layout.moments(after)
        if layout.metrics:
            blocks[METRICS] = np.array([loss], dtype=np.float32)
        return cls(blocks)


def mean_step(layout: Layout, mean: Mapping[str, NDArray[np.float64]]) -> State:
    """The survivors' mean update as tensors by parameter name, float64."""
    step: State = {}
    for block in layout.blocks:
        position = 0
        for name, shape in block.tensors:
            length = int(np.prod(shape))
            step[name] = torch.from_numpy(mean[block.name][position : position + length].reshape(shape))
            position += length
    return step


def mean_statistics(layout: Layout, mean: Mapping[str, NDArray[np.float64]]) -> State:
    """Running means and variances of the survivors' pooled data, float32.

    The variance is E[x^2] - mean^2, clamped at 0 (rounding may leave it just below).
    """
    statistics: State = {}
    position = 0
    for name, width in layout.norms:
        first = mean[BUFFERS][position : position + width]
        second = mean[BUFFERS][position + width : position + 2 * width]
        statistics[f"{name}.running_mean"] = torch.from_numpy(first).float()
        statistics[f"{name}.running_var"] = torch.from_numpy(np.maximum(second - first**2, 0.0)).float()
        position += 2 * width
    return statistics
