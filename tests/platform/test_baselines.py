"""What federation is compared with: rounds of the same local training without a sum, and all data in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from wardround.platform.adapters import State
from wardround.platform.baselines import train_alone, train_pooled
from wardround.platform.config import Study
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.method import TrainingPart
from wardround.platform.methods.table import method_of
from wardround.platform.study_data import StudyData
from wardround.platform.terms import start_state
from wardround.platform.training import Carried, LocalResult, derive_seed, train_locally

Data = Callable[..., StudyData]
Make = Callable[..., Study]


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("optimiser_state", ["keep", "reset"])
def test_a_site_on_its_own_trains_the_same_rounds(toy_data: Data, toy_study: Make, optimiser_state: str) -> None:
    data, study = toy_data(), toy_study(rounds=2, seed=5, training={"optimiser_state": optimiser_state})
    site, told = data.sites[1], []
    part, held_out = site.train.training(), site.validation.training()
    found = train_alone(
        study, Facmic(), site.name, part, held_out, data.shared, lambda *now: told.append((now[0], now[2]))
    )

    def seed(number: int) -> int:
        return derive_seed(study.digest(), site.name, 5, number)

    start = start_state(study, Facmic(), data.shared)
    first = train_locally(Facmic(), start, part, data.shared, study.training, seed=seed(1))
    carried = Carried(first.moments) if optimiser_state == "keep" else None
    second = train_locally(Facmic(), first.state, part, data.shared, study.training, seed=seed(2), carried=carried)
    assert same(found, second.state)
    assert told == [(1, first.loss), (2, second.loss)]


def test_local_tensors_go_on_from_round_to_round(toy_data: Data, toy_study: Make) -> None:
    """FAA-CLIP's domain classifier: from the start values once, then from where the site's last round left it."""
    data, study = toy_data(), toy_study(rounds=3, method="faa-clip")
    method, site = method_of(study), data.sites[0]
    part, held_out = site.train.training(), site.validation.training()
    states: list[State] = []
    found = train_alone(
        study, method, site.name, part, held_out, data.shared, lambda _, state, __: states.append(state)
    )
    expected: list[LocalResult] = []
    state, carried = start_state(study, method, data.shared), Carried()
    assert not any(name.startswith("domain.") for name in state)
    for number in (1, 2, 3):
        seed = derive_seed(study.digest(), site.name, study.seed, number)
        result = train_locally(method, state, part, data.shared, study.training, seed=seed, carried=carried)
        local = {name: tensor for name, tensor in result.state.items() if name.startswith("domain.")}
        state = {name: tensor for name, tensor in result.state.items() if name not in local}
        carried = Carried(result.moments, local)
        expected.append(result)
    assert [same(mine, theirs.state) for mine, theirs in zip(states, expected, strict=True)] == [True] * 3
    assert same(found, expected[-1].state)
    assert any(name.startswith("domain.") for name in found)
    assert not torch.equal(states[0]["domain.layers.0.weight"], states[1]["domain.layers.0.weight"])


def test_pooled_is_one_site_with_everybodys_pictures(toy_data: Data, toy_study: Make) -> None:
    data, study = toy_data(), toy_study(rounds=2, method="pooled")
    method = method_of(study)
    whole = TrainingPart(
        torch.cat([torch.from_numpy(site.train.features) for site in data.sites]),
        torch.cat([torch.from_numpy(site.train.labels) for site in data.sites]),
    )
    held = data.sites[0].validation.training()  # without a temperature in the adapter nothing is fitted on it
    assert len(whole.labels) == 24 + 27 + 30
    assert same(train_pooled(study, method, data), train_alone(study, method, "pooled", whole, held, data.shared))


def test_the_baselines_train_without_the_reference_set(toy_data: Data, toy_study: Make) -> None:
    """A method without adaptation may have a reference set at hand; what is in it must not matter."""
    data = toy_data()
    other = replace(data, shared=replace(data.shared, reference=-data.shared.reference))
    for base in ("facmic", "faa-clip"):
        study = toy_study(rounds=1, method="pooled", baseline={"method": base})
        method = method_of(study)
        assert same(train_pooled(study, method, data), train_pooled(study, method, other))
    adapting = toy_study(rounds=1)
    facmic, part, held = method_of(adapting), data.sites[0].train.training(), data.sites[0].validation.training()
    assert not same(
        train_alone(adapting, facmic, "site-1", part, held, data.shared),
        train_alone(adapting, facmic, "site-1", part, held, other.shared),
    )
