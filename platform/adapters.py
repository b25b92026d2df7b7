"""The adapters that are trained and sent; the CLIP around them stays frozen.

All adapters map a unit-norm image feature I to attention weights g(I) over its coordinates; the adapted feature is
g(I) * I, renormalised (FedCLIP, arXiv 2302.13485, section 3; FACMIC, arXiv 2410.14707, section 2.2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import CheckpointError, MethodError

State = dict[str, Tensor]
"""Trained tensors by name; see :func:`trained_tensors`."""

Normalisation = Literal["batch", "batch-local", "layer"]


class AdapterNorm(nn.BatchNorm1d):
    """BatchNorm of an adapter: its running statistics are exact moments, set by :func:`set_statistics` alone.

    A backbone's own BatchNorm layers are no such layers: their pretrained statistics are kept.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, momentum=0.0)


class Adapter(nn.Module, ABC):
    """Attention over a feature's own coordinates; subclasses say how g(I) is computed."""

    @abstractmethod
    def scores(self, features: Tensor) -> Tensor:
        """Scores before the softmax: (B, D) -> (B, D)."""

    def forward(self, features: Tensor) -> Tensor:
        """Attention weights g(I): (B, D) float32 -> (B, D) float32, rows sum to 1."""
        return F.softmax(self.scores(features), dim=1)

    def adapt(self, features: Tensor) -> Tensor:
        """Adapted features I* = normalise(g(I) * I): (B, D) -> (B, D), unit-norm rows."""
        return F.normalize(self.forward(features) * features, dim=1)


class TanhAdapter(Adapter):
    """FedCLIP's adapter: Linear - Tanh - Linear - Softmax; 525,312 parameters at width 512.

    Args:
        width: feature dimension D of the backbone.
        seed: start values are drawn from a generator of this seed alone, so every site can check them.
    """

    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(width, width)
        self.project_out = nn.Linear(width, width)
        draw_linear(self, seed)

    def scores(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return self.project_out(torch.tanh(self.project_in(features)))  # type: ignore[no-any-return]


class AttentionAdapter(Adapter):
    """Linear - norm - LeakyReLU - Linear - Softmax, the adapter of FACMIC and FAA-CLIP.

    At width 512: 526,336 parameters with depth 5, 790,016 with depth 8; with LayerNorm as many as with BatchNorm.

    Args:
        width: feature dimension D of the backbone.
        seed: start values are drawn from a generator of this seed alone, so every site can check them.
        depth: 5 modules as published, or 8 with one more Linear - norm - LeakyReLU block.
        normalisation: ``batch`` (shared or local: the layer is the same), or ``layer``.
    """

    def __init__(
        self, width: int, *, seed: int, depth: Literal[5, 8] = 5, normalisation: Normalisation = "batch"
    ) -> None:
        super().__init__()
        if depth not in (5, 8):
            raise MethodError(f"depth = {depth}", where="adapter", remedy="Use 5 (the published adapter) or 8")
        layer = nn.LayerNorm if normalisation == "layer" else AdapterNorm
        self.project_in = nn.Linear(width, width)
        self.norm: nn.Module = layer(width)
        if depth == 8:
            self.project_between: nn.Module | None = nn.Linear(width, width)
            self.norm_between: nn.Module | None = layer(width)
        else:
            self.project_between, self.norm_between = None, None
        self.project_out = nn.Linear(width, width)
        draw_linear(self, seed)

    def scores(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        hidden = F.leaky_relu(self.norm(self.project_in(features)))
        if self.project_between is not None and self.norm_between is not None:
            hidden = F.leaky_relu(self.norm_between(self.project_between(hidden)))
        return self.project_out(hidden)  # type: ignore[no-any-return]


def draw_linear(module: nn.Module, seed: int) -> None:
    """Draw every Linear layer's start values from one generator: uniform in +-1/sqrt(inputs), torch's own range."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                for parameter in (layer.weight, layer.bias):
                    parameter.uniform_(-bound, bound, generator=generator)


def set_statistics(adapter: nn.Module, inputs: Tensor) -> None:
    """Set every :class:`AdapterNorm` to the exact moments of what it sees.

    Torch's moving average starts at variance 1, and on unit-norm features the true one is about 6e-4, so a short round
    would end with statistics of nothing. Exact moments also make the secure sum of a round equal those of the pooled
    data. Layers are set in order, each seeing its predecessors' new statistics; the variance is the biased one.

    Args:
        adapter: left in the mode it was in.
        inputs: (n, D) float32, n >= 1.
    """
    training = adapter.training
    adapter.eval()
    with torch.no_grad():
        for layer in adapter.modules():
            if isinstance(layer, AdapterNorm):
                seen: list[Tensor] = []
                handle = layer.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
                adapter(inputs)
                handle.remove()
                values = seen[0].double()
                layer.get_buffer("running_mean").copy_(values.mean(dim=0))
                layer.get_buffer("running_var").copy_(values.var(dim=0, unbiased=False))
    adapter.train(training)


@contextmanager
def source_statistics_only(adapter: nn.Module) -> Iterator[None]:
    """Evaluate with the site's own statistics inside: another domain's rows must not enter the batch moments."""
    training = adapter.training
    adapter.eval()
    try:
        yield
    finally:
        adapter.train(training)


def state_of(module: nn.Module) -> State:
    """What a method trains: parameters with a gradient and adapters' statistics, as detached copies."""
    # A backbone's convolutions may lie channels-last in memory; files hold tensors in their logical order.
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in trained_tensors(module).items()
    }


def trained_tensors(module: nn.Module) -> State:
    """The tensors themselves, by name: trained parameters, and the running moments of each :class:`AdapterNorm`."""
    found: State = {n: p for n, p in module.named_parameters() if p.requires_grad}
    for name, layer in module.named_modules():
        if isinstance(layer, AdapterNorm):
            for key in ("running_mean", "running_var"):
                found[f"{name}.{key}"] = layer.get_buffer(key)
    return found


def under(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a tensor lies under one of the prefixes, e.g. ``domain.hidden.weight`` under ``domain.``."""
    return any(name.startswith(prefix) for prefix in prefixes)


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, without: Sequence[str] = ()) -> None:
    """Put a :func:`state_of` back; names and shapes must be those of the module.

    Args:
        module: takes the values.
        state: its trained tensors, all of them but those under a prefix of ``without``, which keep their values.
        without: prefixes of local tensors.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or type, or not finite.
    """
    own = {name: tensor for name, tensor in trained_tensors(module).items() if not under(name, without)}
    check_tensors({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in own.items()}, state)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def check_tensors(expected: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], state: Mapping[str, Tensor]) -> None:
    """Refuse a state with other names, shapes or types than expected, or with values that are not finite.

    Raises:
        CheckpointError: names the first tensor that is wrong.
    """
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise CheckpointError(
                f"tensor '{name}' is {'missing' if name in expected else 'unknown'} in the adapter",
                remedy="It belongs to another method or is damaged",
            )
        dtype, shape = expected[name]
        if tuple(state[name].shape) != shape or state[name].dtype != dtype:
            raise CheckpointError(
                f"tensor '{name}' is {state[name].dtype} {tuple(state[name].shape)}, not {dtype} {shape}",
                remedy="It belongs to another backbone or is damaged",
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(
                f"tensor '{name}' holds values that are not finite", remedy="Use an earlier checkpoint"
            )


def class_logits(adapted: Tensor, text: Tensor, scale: float | Tensor) -> Tensor:
    """Scaled cosine similarity s I* T': (B, D) and (K, D), both unit-norm -> (B, K)."""
    return scale * adapted @ text.T
