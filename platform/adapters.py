"""The adapters that are trained and sent; the CLIP around them stays frozen.

All adapters map a unit-norm image feature I to attention weights g(I) over its coordinates; the adapted feature is
g(I) * I, renormalised (FedCLIP, arXiv 2302.13485, section 3; FACMIC, arXiv 2410.14707, section 2.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import CheckpointError


class AttentionAdapter(nn.Module):
    """Linear - BatchNorm - LeakyReLU - Linear - Softmax over the feature's own width.

    At width 512 it has 526,336 parameters, the published size of FACMIC and FAA-CLIP.

    Args:
        width: feature dimension D of the backbone.
        seed: start values are drawn from a generator of this seed alone, so every site can check them.
    """

    def __init__(self, width: int, *, seed: int) -> None:
        super().__init__()
        self.project_in = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width, momentum=0.0)  # running statistics are set by set_statistics alone
        self.project_out = nn.Linear(width, width)
        generator = torch.Generator().manual_seed(seed)
        bound = width**-0.5  # the range of torch's own default for a square Linear layer
        with torch.no_grad():
            for layer in (self.project_in, self.project_out):
                for parameter in (layer.weight, layer.bias):
                    parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """Attention weights g(I): (B, D) float32 -> (B, D) float32, rows sum to 1."""
        hidden = F.leaky_relu(self.norm(self.project_in(features)))
        return F.softmax(self.project_out(hidden), dim=1)

    def adapt(self, features: Tensor) -> Tensor:
        """Adapted features I* = normalise(g(I) * I): (B, D) -> (B, D), unit-norm rows."""
        return F.normalize(self.forward(features) * features, dim=1)


def set_statistics(adapter: nn.Module, features: Tensor) -> None:
    """Set every BatchNorm layer's running mean and variance to the exact moments of ``features``.

    Torch's moving average starts at variance 1, and on unit-norm features the true one is about 6e-4, so a short round
    would end with statistics of nothing. Exact moments also make the secure sum of a round equal those of the pooled
    data. Layers are set in order, each seeing its predecessors' new statistics; the variance is the biased one.

    Args:
        adapter: left in the mode it was in.
        features: (n, D) float32, n >= 1.
    """
    training = adapter.training
    adapter.eval()
    with torch.no_grad():
        for module in adapter.modules():
            if isinstance(module, nn.BatchNorm1d):
                seen: list[Tensor] = []
                handle = module.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
                adapter(features)
                handle.remove()
                values = seen[0].double()
                module.get_buffer("running_mean").copy_(values.mean(dim=0))
                module.get_buffer("running_var").copy_(values.var(dim=0, unbiased=False))
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


def state_of(adapter: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics, detached copies; without the count of batches, which is never sent."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(adapter).items()}


def _tensors(adapter: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in adapter.state_dict().items() if not name.endswith("num_batches_tracked")}


def load_state(adapter: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put a :func:`state_of` back; names and shapes must be those of the adapter.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or type, or not finite.
    """
    expected = _tensors(adapter)
    for name in sorted(expected.keys() | state.keys()):
        if name not in state or name not in expected:
            raise CheckpointError(
                f"tensor '{name}' is {'missing' if name in expected else 'unknown'} in the adapter",
                remedy="It belongs to another method or is damaged",
            )
        if state[name].shape != expected[name].shape or state[name].dtype != expected[name].dtype:
            raise CheckpointError(
                f"tensor '{name}' is {state[name].dtype} {tuple(state[name].shape)}, "
                f"not {expected[name].dtype} {tuple(expected[name].shape)}",
                remedy="It belongs to another backbone or is damaged",
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(
                f"tensor '{name}' holds values that are not finite", remedy="Use an earlier checkpoint"
            )
    adapter.load_state_dict(dict(state), strict=False)


def class_logits(adapted: Tensor, text: Tensor, scale: float) -> Tensor:
    """Scaled cosine similarity s I* T': (B, D) and (K, D), both unit-norm -> (B, K)."""
    return scale * adapted @ text.T
