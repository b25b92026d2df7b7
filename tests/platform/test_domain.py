"""The adversarial loss beside a slow float64 computation, and the sign of its gradient on either side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from wardround.platform import domain as module
from wardround.platform.adapters import AdapterNorm, state_of, trained_tensors
from wardround.platform.domain import DomainClassifier, adversarial_loss, reverse_gradient
from wardround.platform.training import one_thread

from . import slow_methods as slow
from .slow_methods import Array

WIDTH = 4


@dataclass
class Batch:
    """A classifier of six hidden units in float64, and rows of both domains."""

    classifier: DomainClassifier
    source: torch.Tensor
    reference: torch.Tensor
    layer_norm: bool

    def numbers(self) -> dict[str, Array]:
        """The classifier's parameters as the slow formula takes them."""
        p = {f"domain.{name}": t.detach().numpy().copy() for name, t in self.classifier.named_parameters()}
        return p | ({"layer_norm": np.ones(1)} if self.layer_norm else {})

    def slow(self, p: dict[str, Array] | None = None, source: Array | None = None) -> float:
        own = self.source.detach().numpy() if source is None else source
        return slow.adversarial(own, self.reference.detach().numpy(), p or self.numbers())


def batch(monkeypatch: pytest.MonkeyPatch, *, layer_norm: bool = False, sizes: tuple[int, int] = (4, 3)) -> Batch:
    monkeypatch.setattr(module, "HIDDEN", 6)
    classifier = DomainClassifier(WIDTH, seed=1, layer_norm=layer_norm).double().train()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    rows = [torch.randn(size, WIDTH, generator=generator, dtype=torch.float64) for size in sizes]
    return Batch(classifier, rows[0].requires_grad_(), rows[1].requires_grad_(), layer_norm)


BATCHES = [(False, (4, 3)), (False, (2, 9)), (False, (1, 1)), (True, (4, 3)), (True, (1, 1)), (True, (1, 5))]


@pytest.mark.parametrize(("layer_norm", "sizes"), BATCHES)
def test_loss_and_gradients_equal_the_slow_formula(
    monkeypatch: pytest.MonkeyPatch, layer_norm: bool, sizes: tuple[int, int]
) -> None:
    b = batch(monkeypatch, layer_norm=layer_norm, sizes=sizes)
    loss = adversarial_loss(b.classifier, b.source, b.reference)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(b.slow(), abs=1e-9)
    generator, p = np.random.default_rng(0), b.numbers()
    for name, parameter in b.classifier.named_parameters():
        direction = generator.normal(size=parameter.shape)
        ends = [b.slow({**p, f"domain.{name}": p[f"domain.{name}"] + s * 1e-6 * direction}) for s in (1.0, -1.0)]
        assert parameter.grad is not None
        along = float((parameter.grad.numpy() * direction).sum())
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=2e-7), name  # the classifier learns to tell
    own = b.source.detach().numpy()
    direction = generator.normal(size=own.shape)
    ends = [b.slow(source=own + sign * 1e-6 * direction) for sign in (1.0, -1.0)]
    assert b.source.grad is not None
    along = float((b.source.grad.numpy() * direction).sum())
    assert along == pytest.approx(-(ends[0] - ends[1]) / 2e-6, abs=2e-7)  # what is fed to it learns to hide
    assert b.reference.grad is None


def test_the_reversal_is_the_identity_forwards_and_its_coefficient_scales_it_back() -> None:
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    reversed_x = reverse_gradient(x, 0.25)
    assert torch.equal(reversed_x, x)
    (reversed_x * torch.tensor([[3.0, 5.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [[-0.75, -1.25]]


def test_a_classifier_that_cannot_tell_loses_log_2(monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch(monkeypatch)
    with torch.no_grad():
        b.classifier.get_parameter("layers.6.weight").zero_()
        b.classifier.get_parameter("layers.6.bias").zero_()
    assert float(adversarial_loss(b.classifier, b.source, b.reference).detach()) == pytest.approx(math.log(2))


def test_each_domain_weighs_half_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    b = batch(monkeypatch, layer_norm=True)
    once = float(adversarial_loss(b.classifier, b.source, b.reference).detach())
    thrice = b.reference.repeat(3, 1)
    assert float(adversarial_loss(b.classifier, b.source, thrice).detach()) == pytest.approx(once, abs=1e-12)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_published_size(layer_norm: bool) -> None:
    classifier = DomainClassifier(512, seed=0, layer_norm=layer_norm)
    assert sum(p.numel() for p in classifier.parameters()) == 527_873


@pytest.mark.parametrize("width", [512, 640, 768, 1024])
def test_any_width_of_a_backbone_fits(width: int) -> None:
    classifier = DomainClassifier(width, seed=0)
    assert sum(p.numel() for p in classifier.parameters()) == 527_873 + (width - 512) * 512
    assert classifier(torch.ones(2, width)).shape == (2,)


def test_it_has_no_statistics_and_no_norm_that_the_adapters_statistics_are_set_for() -> None:
    classifier = DomainClassifier(8, seed=0)
    assert list(classifier.buffers()) == []
    assert not any(isinstance(layer, AdapterNorm) for layer in classifier.modules())
    assert trained_tensors(classifier).keys() == dict(classifier.named_parameters()).keys()


def test_batch_norm_takes_both_domains_together_in_training_and_in_evaluation() -> None:
    classifier = DomainClassifier(8, seed=0)
    drawn = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    near, far = drawn[:5], drawn[5:] + 4.0
    together = classifier.train()(torch.cat([near, far]))
    assert torch.equal(classifier.eval()(torch.cat([near, far])), together)
    alone = torch.cat([classifier(near), classifier(far)])
    assert not torch.allclose(alone, together, atol=1e-3)


def test_start_values_follow_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = state_of(DomainClassifier(8, seed=3))
    torch.manual_seed(2)
    second, other = state_of(DomainClassifier(8, seed=3)), state_of(DomainClassifier(8, seed=4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_it_learns_to_tell_while_what_it_sees_learns_to_hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both players at once, a step each: alone the classifier wins; against features that move, it does not."""
    monkeypatch.setattr(module, "HIDDEN", 16)
    reference = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    losses = {}
    for hides in (False, True):
        classifier, moved = DomainClassifier(8, seed=0), nn.Parameter(torch.zeros(8))
        source = torch.randn(40, 8, generator=torch.Generator().manual_seed(1)) + 1.0
        players = [*classifier.parameters(), *([moved] if hides else [])]
        adam = torch.optim.Adam(players, lr=1e-2)
        with one_thread():
            for _ in range(40):
                adam.zero_grad()
                loss = adversarial_loss(classifier, source + moved, reference)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
        losses[hides] = (float(loss.detach()), float((1.0 + moved.detach()).norm()))
    assert losses[True][0] > losses[False][0]
    assert losses[True][1] < losses[False][1]
