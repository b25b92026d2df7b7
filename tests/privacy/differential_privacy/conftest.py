"""Modules with row losses, and the slow sums that the closed forms are compared with; shared as the fixture ``cases``.

Test modules are imported one by one (``--import-mode=importlib``), so they share helpers through fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from wardround.platform import domain
from wardround.platform.adapters import AttentionAdapter, TanhAdapter, class_logits
from wardround.platform.domain import reverse_gradient
from wardround.privacy.differential_privacy.clipping import ClippedSum

WIDTH, CLASSES, SCALE = 12, 4, 20.0
NAMES = ("tanh", "attention-5", "attention-8", "joint-5", "joint-8", "plain-layers")


class PlainLayers(nn.Module):
    """Layers without bias or scale, and a LayerNorm whose eps is as large as the variance."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 9, bias=False)
        self.norm = nn.LayerNorm(9, eps=0.3)
        self.second = nn.Linear(9, WIDTH)
        self.shiftless = nn.LayerNorm(WIDTH, bias=False)
        self.constant = nn.LayerNorm(WIDTH, elementwise_affine=False)

    def adapt(self, features: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(features)))
        return F.normalize(self.constant(self.shiftless(self.second(hidden))), dim=1)


def reverse_by_detaching(features: Tensor) -> Tensor:
    """The same as the platform's reversal, in a form that vmap takes."""
    return 2.0 * features.detach() - features


class RowLosses(nn.Module):
    """(R, D) features and (R,) labels -> (R,) losses of an adapter, jointly with a domain classifier where asked."""

    def __init__(self, name: str, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        kind, _, depth = name.partition("-")
        if kind == "tanh":
            self.adapter: nn.Module = TanhAdapter(WIDTH, seed=seed)
        elif kind == "plain":
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.adapter = PlainLayers()
        else:
            self.adapter = AttentionAdapter(WIDTH, seed=seed, depth=8 if depth == "8" else 5, normalisation="layer")
        with mock.patch.object(domain, "HIDDEN", 2 * WIDTH):  # the published 512 would make the slow sums slower
            self.domain = domain.DomainClassifier(WIDTH, seed=seed, layer_norm=True) if kind == "joint" else None
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():  # scales that are not 1, shifts that are not 0
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        text = F.normalize(torch.randn((CLASSES, WIDTH), generator=generator), dim=1)
        self.register_buffer("text", text)
        self.reverse: Callable[[Tensor], Tensor] = reverse_gradient
        self.to(dtype)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        adapted = self.adapter.adapt(features)
        logits = class_logits(adapted, self.text, SCALE)
        losses = F.cross_entropy(logits, labels, reduction="none")
        if self.domain is not None:
            told = self.domain(self.reverse(adapted))
            losses = losses + 0.5 * F.binary_cross_entropy_with_logits(told, torch.zeros_like(told), reduction="none")
        return losses


@dataclass(frozen=True)
class Case:
    """A module, a batch, and everything that a clipped sum is called with."""

    module: RowLosses
    features: Tensor
    labels: Tensor

    @property
    def trained(self) -> list[str]:
        return [name for name, _ in self.module.named_parameters()]

    def losses(self, rows: Tensor | None = None) -> Tensor:
        chosen = slice(None) if rows is None else rows
        return self.module(self.features[chosen], self.labels[chosen])

    def row_gradients(self) -> dict[str, Tensor]:
        """(R, *shape) by name, by vmap."""
        parameters = {name: p.detach() for name, p in self.module.named_parameters()}

        def one(values: dict[str, Tensor], feature: Tensor, label: Tensor) -> Tensor:
            return functional_call(self.module, values, (feature[None], label[None]))[0]

        self.module.reverse = reverse_by_detaching
        try:
            return vmap(grad(one), in_dims=(None, 0, 0))(parameters, self.features, self.labels)
        finally:
            self.module.reverse = reverse_gradient


def build(name: str, rows: int, *, dtype: torch.dtype = torch.float64, seed: int = 0, present: int = CLASSES) -> Case:
    """A case with ``rows`` rows of at most ``present`` of the classes."""
    generator = torch.Generator().manual_seed(seed + 1)
    features = F.normalize(torch.randn((rows, WIDTH), generator=generator, dtype=torch.float64), dim=1).to(dtype)
    labels = torch.randint(present, (rows,), generator=generator)
    return Case(RowLosses(name, dtype, seed), features, labels)


def clip_slowly(gradients: dict[str, Tensor], clip: float, owners: Tensor | None = None) -> dict[str, Tensor]:
    """Sum over units of clipped gradients, from gradients of rows that were made one by one."""
    rows = len(next(iter(gradients.values())))
    owners = torch.arange(rows) if owners is None else owners
    total = {name: torch.zeros_like(gradient[0]) for name, gradient in gradients.items()}
    for unit in owners.unique().tolist():
        summed = {name: gradient[owners == unit].sum(dim=0) for name, gradient in gradients.items()}
        norm = torch.cat([part.flatten() for part in summed.values()]).norm()
        for name, part in summed.items():
            total[name] += part * min(1.0, clip / float(norm))
    return total


def flat(gradients: dict[str, Tensor]) -> Tensor:
    """All values in one vector, in the order of names."""
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def apart(first: ClippedSum, second: ClippedSum) -> float:
    """Norm of the difference of two sums."""
    return float((flat(dict(first.gradients)).double() - flat(dict(second.gradients)).double()).norm())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As training runs; and tensors this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cases() -> SimpleNamespace:
    """``build``, ``clip_slowly``, ``flat``, ``apart``, the names of all cases, width and number of classes."""
    return SimpleNamespace(
        build=build, clip_slowly=clip_slowly, flat=flat, apart=apart, names=NAMES, width=WIDTH, classes=CLASSES
    )
