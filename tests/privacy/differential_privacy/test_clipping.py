"""Closed-form clipping against gradients made one by one, a second opinion, and everything that is refused."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from wardround.privacy.differential_privacy.clipping import check_independent, clipped_sum
from wardround.privacy.errors import MechanismError

NAMES = ("tanh", "attention-5", "attention-8", "joint-5", "joint-8", "plain-layers")


def test_every_case_is_tested(cases):
    assert cases.names == NAMES


def assert_same(found, expected, tolerance=1e-10):
    assert set(found.gradients) == set(expected)
    for name, gradient in expected.items():
        assert found.gradients[name].shape == gradient.shape
        torch.testing.assert_close(found.gradients[name], gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("clip", [0.05, 1.0, 1e4])
def test_a_sum_over_records_is_that_of_vmap(cases, name, rows, clip):
    case = cases.build(name, rows)
    found = clipped_sum(case.module, case.losses, clip=clip, trained=case.trained)
    assert_same(found, cases.clip_slowly(case.row_gradients(), clip))
    assert found.dropped == 0
    assert all(parameter.grad is None for parameter in case.module.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("owners", [[0], [0, 0, 0], [2, 0, 1, 1, 0, 1, 4], [0, 1, 2, 3]], ids=str)
def test_a_sum_over_units_is_that_of_the_units_summed_losses(cases, name, owners):
    case = cases.build(name, len(owners), seed=3)
    unit_of = torch.tensor(owners)
    found = clipped_sum(case.module, case.losses, clip=0.7, trained=case.trained, owners=unit_of, units=6)
    assert_same(found, cases.clip_slowly(case.row_gradients(), 0.7, unit_of))


def test_a_unit_is_clipped_by_the_gradient_of_its_summed_loss_and_not_by_its_rows(cases):
    # By plain autograd, unit by unit: an oracle that knows nothing of rows.
    case, unit_of, clip = cases.build("joint-8", 9), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2]), 0.4
    parameters = dict(case.module.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for unit in range(3):
        loss = case.losses(torch.nonzero(unit_of == unit)[:, 0]).sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        factor = min(1.0, clip / float(torch.cat([g.flatten() for g in gradients]).norm()))
        for name, gradient in zip(parameters, gradients, strict=True):
            expected[name] += factor * gradient
    assert_same(clipped_sum(case.module, case.losses, clip=clip, trained=case.trained, owners=unit_of), expected)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(("tanh", "attention-5", "attention-8", "plain-layers")),
    owners=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    by_unit=st.booleans(),
    present=st.integers(1, 4),
    power=st.floats(-6, 6),
    seed=st.integers(0, 2**20),
)
def test_sums_are_those_of_the_slow_way(cases, name, owners, by_unit, present, power, seed):
    case, clip = cases.build(name, len(owners), seed=seed, present=present), 10.0**power
    unit_of = torch.tensor(owners) if by_unit else None
    found = clipped_sum(case.module, case.losses, clip=clip, trained=case.trained, owners=unit_of)
    expected = cases.clip_slowly(case.row_gradients(), clip, unit_of)
    assert_same(found, expected)
    units = len(set(owners)) if by_unit else len(owners)
    assert float(cases.flat(dict(found.gradients)).norm()) <= clip * units


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(("tanh", "attention-5", "plain-layers")),
    dtype=st.sampled_from((torch.float32, torch.float64)),
    rows=st.integers(1, 6),
    power=st.floats(-8, 3),
    seed=st.integers(0, 2**20),
)
def test_one_unit_never_gives_more_than_the_clip(cases, name, dtype, rows, power, seed):
    case, clip = cases.build(name, rows, dtype=dtype, seed=seed), 10.0**power
    owners = torch.zeros(rows, dtype=torch.int64)
    found = clipped_sum(case.module, case.losses, clip=clip, trained=case.trained, owners=owners)
    assert float(cases.flat(dict(found.gradients)).double().norm()) <= clip


def test_rows_that_cancel_stay_under_the_clip_in_float32(cases):
    # Two rows with opposite gradients: the sum is what rounding leaves, and its norm is far below the rows'.
    module = nn.Linear(64, 64)
    inputs = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)) * 1e3
    inputs[1] = inputs[0] * (1 + 1e-6)
    pulls = torch.tensor([[1.0], [-1.0]]) * torch.linspace(1, 2, 64)
    found = clipped_sum(
        module,
        lambda: (module(inputs) * pulls).sum(dim=1),
        clip=1e-3,
        trained=["weight", "bias"],
        owners=torch.zeros(2, dtype=torch.int64),
    )
    assert float(cases.flat(dict(found.gradients)).double().norm()) <= 1e-3


def test_float32_agrees_with_float64(cases):
    for name in NAMES:
        wide, narrow = cases.build(name, 8), cases.build(name, 8, dtype=torch.float32)
        expected = clipped_sum(wide.module, wide.losses, clip=0.5, trained=wide.trained)
        found = clipped_sum(narrow.module, narrow.losses, clip=0.5, trained=narrow.trained)
        assert found.gradients[
            "adapter." + ("first" if name == "plain-layers" else "project_in") + ".weight"
        ].dtype == (torch.float32)
        assert cases.apart(found, expected) < 1e-4


@pytest.mark.parametrize("trained", [["weight"], ["bias"]])
@pytest.mark.parametrize("owners", [None, [0, 0, 1, 1, 1]])
@pytest.mark.parametrize("layer", [nn.Linear(6, 6), nn.LayerNorm(6)], ids=["linear", "norm"])
def test_a_layer_may_be_trained_in_part(cases, layer, trained, owners):
    layer = layer.double()
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name in trained)
    inputs = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    unit_of = None if owners is None else torch.tensor(owners)

    def losses():
        return layer(inputs).square().sum(dim=1)

    rows = [torch.autograd.grad(losses()[row], getattr(layer, trained[0]))[0] for row in range(5)]
    expected = cases.clip_slowly({trained[0]: torch.stack(rows)}, 0.8, unit_of)
    assert_same(clipped_sum(layer, losses, clip=0.8, trained=trained, owners=unit_of), expected)


@pytest.mark.parametrize(
    "empty", [{"units": 0}, {"rows": 0}, {"owners": torch.zeros(0, dtype=torch.int64), "units": 3}]
)
def test_an_empty_batch_gives_zeros_without_a_forward_pass(cases, empty):
    case = cases.build("joint-5", 1)

    def losses():
        raise AssertionError("called")

    found = clipped_sum(case.module, losses, clip=1.0, trained=case.trained, **empty)
    assert set(found.gradients) == set(case.trained)
    assert all(not bool(gradient.any()) for gradient in found.gradients.values())
    assert found.dropped == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("owners", [None, [0, 0, 1, 2, 2]])
def test_units_whose_gradient_is_not_finite_give_nothing(cases, value, owners):
    case = cases.build("attention-5", 5)
    unit_of = torch.arange(5) if owners is None else torch.tensor(owners)
    bad = case.features.clone()
    bad[1, 3] = value
    weights = torch.ones(5, dtype=torch.float64)
    weights[1] = value  # so that a loss is not finite even where LayerNorm makes a huge feature harmless
    found = clipped_sum(
        case.module,
        lambda: case.module(bad, case.labels) * weights,
        clip=0.5,
        trained=case.trained,
        owners=None if owners is None else unit_of,
    )
    kept = unit_of != unit_of[1]
    expected = cases.clip_slowly({n: g[kept] for n, g in case.row_gradients().items()}, 0.5, unit_of[kept])
    assert found.dropped == 1
    assert_same(found, expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "plain-layers"])
def test_opacus_ghost_clipping_gives_the_same(cases, name):
    case, clip = cases.build(name, 6, dtype=torch.float32, seed=5), 0.6
    found = clipped_sum(case.module, case.losses, clip=clip, trained=case.trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

        wrapped = GradSampleModuleFastGradientClipping(
            case.module, batch_first=True, loss_reduction="sum", max_grad_norm=clip, use_ghost_clipping=True
        )
        optimiser = DPOptimizerFastGradientClipping(
            torch.optim.SGD(wrapped.parameters(), lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=clip,
            expected_batch_size=1,
            loss_reduction="sum",
        )
        optimiser.zero_grad()
        DPTensorFastGradientClipping(wrapped, optimiser, wrapped(case.features, case.labels), "sum").backward()
    for key, gradient in found.gradients.items():
        summed = case.module.get_parameter(key).grad
        torch.testing.assert_close(gradient, summed, rtol=1e-4, atol=1e-4 * clip)


# What is refused. Each test changes one thing of a legal call.


class Two(nn.Module):
    """Two layers and a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.wide = nn.LayerNorm((2, 4))
        self.own = nn.Parameter(torch.ones(4))
        self.convolution = nn.Conv1d(4, 4, 1)


@pytest.fixture
def two():
    module = Two()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(("first", "second")))
    return module


X = torch.linspace(-1, 1, 20).reshape(5, 4)
BOTH = ("first.weight", "first.bias", "second.weight", "second.bias")


def refused(module, losses, match, *, trained=BOTH, **options):
    with pytest.raises(MechanismError, match=match):
        clipped_sum(module, losses, **{"clip": 1.0, "trained": trained, **options})


def test_the_legal_call_is_legal(two):
    found = clipped_sum(two, lambda: two.second(two.first(X)).square().sum(dim=1), clip=1.0, trained=BOTH)
    assert set(found.gradients) == set(BOTH)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clip_is_a_positive_number(two, clip):
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "clip", clip=clip)


def test_layers_without_a_closed_form_are_refused(two):
    two.requires_grad_(True)
    refused(two, lambda: two.norm(X).sum(dim=1), "BatchNorm1d.*LayerNorm instead", trained=["norm.weight"])
    refused(two, lambda: (X * two.own).sum(dim=1), "'own' belongs to a Two", trained=["own"])
    refused(two, lambda: X.sum(dim=1), "belongs to a Conv1d", trained=["convolution.weight"])
    refused(two, lambda: X.sum(dim=1), "belongs to a LayerNorm", trained=["wide.weight"])


@pytest.mark.parametrize("training", [True, False])
def test_a_frozen_batch_norm_in_the_path_is_refused(two, training):
    two.norm.train(training)
    refused(two, lambda: two.second(two.norm(two.first(X))).sum(dim=1), "BatchNorm")


def test_a_subclass_of_a_layer_is_refused():
    class Scaled(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    layer = Scaled(4, 4)
    refused(layer, lambda: layer(X).sum(dim=1), "Scaled", trained=["weight", "bias"])


def test_a_parameter_of_two_layers_is_refused(two):
    two.second.weight = two.first.weight
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "is 'first.weight' too")


def test_a_layer_under_two_names_is_refused(two):
    two.second = two.first
    trained = ["first.weight", "first.bias"]
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "too", trained=trained)


def test_a_layer_called_twice_or_never_is_refused(two):
    refused(two, lambda: two.second(two.first(two.first(X))).sum(dim=1), "'first' was called 2 times")
    refused(two, lambda: two.first(X).sum(dim=1), "'second' was called 0 times")


def test_a_layer_with_other_rows_is_refused(two):
    refused(two, lambda: two.second(two.first(X).repeat(2, 1)).sum(dim=1), "saw 5 rows for 10 losses")
    refused(two, lambda: two.second(two.first(X)[:1]).sum(dim=1).expand(5), "saw 1 rows for 5 losses")
    refused(two, lambda: two.second(two.first(X[:, None])).sum(dim=(1, 2)), "matrix of rows")
    refused(two, lambda: two.second(two.first(input=X)).sum(dim=1), "matrix of rows")


def test_losses_are_one_for_each_row(two):
    refused(two, lambda: two.second(two.first(X)).sum(), r"losses of shape \(\)")
    refused(two, lambda: two.second(two.first(X)), r"losses of shape \(5, 4\)")
    refused(two, lambda: two.second(two.first(X)).sum(dim=1).detach(), "requires_grad False")


def test_a_parameter_that_is_not_trained_may_not_be_reached(two):
    two.own.requires_grad_(True)
    refused(two, lambda: (two.own * two.second(two.first(X))).sum(dim=1), r"shape \(4,\) that requires a gradient")
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "requires a gradient", trained=BOTH[:3])


def test_a_tensor_of_somebody_else_may_not_be_reached(two):
    prompts = torch.ones(4, requires_grad=True)
    refused(two, lambda: (prompts * two.second(two.first(X))).sum(dim=1), "requires a gradient")


def test_a_parameter_that_is_not_reached_is_refused(two):
    refused(two, lambda: two.second(two.first(X).detach()).sum(dim=1), "do not reach 'first.weight'")
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "no parameter 'third'", trained=[*BOTH, "third"])
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "no parameter is trained", trained=[])
    two.first.bias.requires_grad_(False)
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "requires_grad False")


@pytest.mark.parametrize("key", ["weight", "bias"])
def test_a_parameter_may_not_be_used_past_its_layer(two, key):
    def decayed():
        return two.second(two.first(X)).sum(dim=1) + getattr(two.first, key).square().sum()

    refused(two, decayed, f"use 'first.{key}' in another way")


def test_a_layer_whose_weight_is_used_by_hand_is_refused(two):
    def by_hand():
        two.first(X)  # the call that is seen has nothing to do with the loss
        return two.second(F.linear(X, two.first.weight, two.first.bias)).sum(dim=1)

    refused(two, by_hand, "in another way")


def test_a_hook_that_changes_an_output_is_refused(two):
    handle = two.first.register_forward_hook(lambda module, args, output: 3 * output)
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "in another way")
    handle.remove()


def test_changes_in_place_after_a_layer_are_right(two, cases):
    # The gradient is taken at the layer's output as it was, and the next layer's input is what it saw.
    case = clipped_sum(two, lambda: two.second(F.relu(two.first(X))).square().sum(dim=1), clip=0.1, trained=BOTH)
    same = clipped_sum(two, lambda: two.second(F.relu_(two.first(X))).square().sum(dim=1), clip=0.1, trained=BOTH)
    assert cases.apart(case, same) == 0.0


def test_an_input_changed_in_place_is_refused(two):
    def losses():
        inputs = X.clone()
        out = two.second(two.first(inputs)).sum(dim=1)
        inputs.zero_()
        return out

    refused(two, losses, "changed in place")


def test_types_are_float32_or_float64(two):
    two.half()
    refused(two, lambda: two.second(two.first(X.half())).sum(dim=1), "float16")


def test_autocast_is_refused(two):
    def losses():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return two.second(two.first(X)).sum(dim=1).float()

    refused(two, losses, "in another way|autocast")


@pytest.mark.parametrize(
    "options",
    [
        {"units": 4},
        {"rows": 4},
        {"owners": torch.arange(4)},
        {"owners": torch.arange(5), "units": 4},
        {"owners": torch.arange(5) - 1},
        {"owners": torch.arange(5).int()},
        {"owners": torch.zeros(5)},
    ],
    ids=str,
)
def test_units_and_owners_fit_the_losses(two, options):
    refused(two, lambda: two.second(two.first(X)).sum(dim=1), "fit|owners", **options)


def test_hooks_are_gone_after_an_error(two):
    refused(two, lambda: two.first(X).sum(), "losses of shape|called")
    assert not two.first._forward_hooks
    with pytest.raises(ZeroDivisionError):
        clipped_sum(two, lambda: 1 / 0, clip=1.0, trained=BOTH)
    assert not two.first._forward_hooks


# Independence.


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_legal_losses_are_independent(cases, name, dtype):
    case = cases.build(name, 9, dtype=dtype, seed=2)
    check_independent(case.module, case.losses, 9, trained=case.trained)
    check_independent(
        case.module, case.losses, 9, trained=case.trained, owners=torch.tensor([0, 0, 1, 2, 1, 5, 5, 5, 0])
    )


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_small_batches_can_be_checked(cases, rows):
    case = cases.build("attention-5", rows)
    check_independent(case.module, case.losses, rows, trained=case.trained)


def test_rows_that_are_not_finite_are_no_dependence(cases):
    case = cases.build("attention-5", 6)
    case.features[2] = float("nan")
    check_independent(case.module, case.losses, 6, trained=case.trained)


def dependent(two, kind):
    """Losses of rows that look at other rows."""

    def losses(rows):
        hidden = two.second(torch.tanh(two.first(X[rows])))
        match kind:
            case "divided by the batch":
                return hidden.square().sum(dim=1) / len(rows)
            case "centred":
                return (hidden - hidden.mean(dim=0)).square().sum(dim=1)
            case "centred, detached":
                return (hidden - hidden.mean(dim=0).detach()).square().sum(dim=1)
            case "turned around":
                return hidden.flip(0).square().sum(dim=1)
            case "softmax over rows":
                return hidden.log_softmax(dim=0).sum(dim=1)
            case "its gradient alone":
                value = hidden.square().sum(dim=1)
                return value.detach() + (value - value.detach()) / len(rows)
            case "the neighbour":
                return (hidden - hidden.roll(1, dims=0)).square().sum(dim=1)
            case "dropout":
                return F.dropout(hidden, 0.5).square().sum(dim=1)
            case "only gradients mix":
                value = hidden.square().sum(dim=1)
                mixed = value * value.mean().detach()
                return value.detach() + mixed - mixed.detach()

    return losses


@pytest.mark.parametrize(
    "kind",
    [
        "divided by the batch",
        "centred",
        "centred, detached",
        "turned around",
        "softmax over rows",
        "its gradient alone",
        "the neighbour",
        "dropout",
        "only gradients mix",
    ],
)
def test_dependent_losses_are_refused(two, kind):
    with pytest.raises(MechanismError, match="depends on who else is in the batch"):
        check_independent(two, dependent(two, kind), 5, trained=BOTH)


@pytest.mark.parametrize("kind", ["divided by the batch", "softmax over rows", "only gradients mix"])
def test_dependence_is_found_between_units(two, kind):
    with pytest.raises(MechanismError, match="depends on who else"):
        check_independent(two, dependent(two, kind), 5, trained=BOTH, owners=torch.tensor([0, 0, 1, 1, 1]))


@pytest.mark.parametrize("kind", ["divided by the batch", "softmax over rows"])
@pytest.mark.parametrize("rows", [1, 5])
def test_a_single_unit_is_put_beside_itself(two, kind, rows):
    with pytest.raises(MechanismError, match="depends on who else"):
        check_independent(two, dependent(two, kind), rows, trained=BOTH, owners=torch.zeros(rows, dtype=torch.int64))


def test_rows_of_one_unit_may_depend_on_one_another(two):
    # A unit's loss by its own mean is legal: the unit decides alone over it. Rows 0-2 and 3-4 are the units.
    owners = torch.tensor([0, 0, 0, 1, 1])

    def losses(rows):
        hidden = two.second(torch.tanh(two.first(X[rows])))
        same = (owners[rows][:, None] == owners[rows][None, :]).float()
        return (hidden - (same @ hidden) / same.sum(dim=1, keepdim=True)).square().sum(dim=1)

    with pytest.raises(MechanismError, match="depends on who else"):
        check_independent(two, losses, 5, trained=BOTH)


def test_losses_must_be_those_of_the_rows_asked_for(two):
    with pytest.raises(MechanismError, match=r"for \d rows"):
        check_independent(two, lambda rows: two.second(two.first(X[:4])).sum(dim=1), 5, trained=BOTH)
    with pytest.raises(MechanismError, match="4 owners for 5 rows"):
        check_independent(
            two, lambda rows: two.second(two.first(X[rows])).sum(dim=1), 5, trained=BOTH, owners=torch.arange(4)
        )
