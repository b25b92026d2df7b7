"""The proximal term beside a sum written out, with its gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from wardround.platform.adapters import AdapterNorm, state_of
from wardround.platform.methods.proximal import proximal_term


def module() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), AdapterNorm(4), nn.Linear(4, 2)).double()
    made[2].bias.requires_grad_(False)
    return made


def test_term_and_gradient_are_those_of_the_formula() -> None:
    own = module()
    received = {name: tensor + 0.25 * torch.randn(tensor.shape).to(tensor) for name, tensor in state_of(own).items()}
    assert "1.running_mean" in received
    term = proximal_term(own, received)
    term.backward()  # type: ignore[no-untyped-call]
    slow = 0.0
    for name in ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight"):
        weight = own.get_parameter(name)
        for here, there in zip(weight.detach().flatten().tolist(), received[name].flatten().tolist(), strict=True):
            slow += (here - there) ** 2
        assert weight.grad is not None
        assert torch.allclose(weight.grad, 2 * (weight.detach() - received[name]), rtol=0, atol=1e-12)
    assert float(term.detach()) == pytest.approx(slow, abs=1e-9)
    assert own.get_parameter("2.bias").grad is None


def test_statistics_frozen_and_local_parameters_add_nothing() -> None:
    own = module()
    received = state_of(own)
    received["1.running_mean"] = received["1.running_mean"] + 5
    received["2.bias"] = own.get_parameter("2.bias").detach() + 5  # frozen here
    del received["0.weight"]
    with torch.no_grad():
        own.get_parameter("0.weight").add_(3.0)
    assert float(proximal_term(own, received).detach()) == 0.0
    assert float(proximal_term(own, {})) == 0.0


def test_the_received_tensors_are_constants() -> None:
    own = module()
    received = {"0.weight": torch.zeros((4, 3), dtype=torch.float64, requires_grad=True)}
    proximal_term(own, received).backward()  # type: ignore[no-untyped-call]
    assert received["0.weight"].grad is None
    assert own.get_parameter("0.weight").grad is not None
