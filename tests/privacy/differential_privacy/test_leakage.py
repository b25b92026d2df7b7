"""What a plain update shows of a record, and that a masked one and a private one show nothing."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wardround.privacy.differential_privacy.clipping import clipped_sum
from wardround.privacy.differential_privacy.leakage import (
    label_of,
    leakage,
    rank_of,
    read_as_plain,
    reconstruct,
    similarities,
)
from wardround.privacy.differential_privacy.mechanism import TrainingMechanism
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.errors import AuditError
from wardround.privacy.secure_aggregation.encoding import encode
from wardround.privacy.secure_aggregation.parameters import Block
from wardround.privacy.secure_aggregation.primitives import apply_masks

WIDTH, CLASSES, OTHERS = 96, 5, 500
OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
}


@dataclass
class Update:
    """What a site would send, and the truth."""

    weight: np.ndarray
    bias: np.ndarray
    head: np.ndarray
    records: Tensor
    labels: Tensor
    gallery: np.ndarray


def features(count: int, generator: torch.Generator) -> Tensor:
    """Unit-norm rows with a common part, as CLIP's are."""
    common = torch.ones(WIDTH) / WIDTH**0.5
    return F.normalize(0.7 * common + torch.randn(count, WIDTH, generator=generator) / WIDTH**0.5, dim=1)


def stack(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, CLASSES))


def trained_on(records: int, optimiser: str, steps: int, seed: int) -> Update:
    generator = torch.Generator().manual_seed(seed)
    rows, gallery = features(records, generator), features(OTHERS, generator)
    labels = torch.randint(0, CLASSES, (records,), generator=generator)
    model = stack(seed)
    before = copy.deepcopy(model.state_dict())
    step = OPTIMISERS[optimiser](model.parameters())
    for _ in range(steps):
        step.zero_grad()
        F.cross_entropy(model(rows), labels).backward()
        step.step()
    moved = {name: (value - before[name]).numpy() for name, value in model.state_dict().items()}
    return Update(moved["0.weight"], moved["0.bias"], moved["3.bias"], rows, labels, gallery.numpy())


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize(("optimiser", "cosine"), [("sgd", 0.999), ("adam", 0.6)])
def test_a_plain_update_of_one_record_shows_it(optimiser, cosine, steps):
    for seed in range(5):
        update = trained_on(1, optimiser, steps, seed)
        found = leakage(
            update.weight, update.bias, update.records[0].numpy(), update.gallery, classifier_bias=update.head
        )
        assert found.cosine > cosine
        assert found.rank == 1
        assert found.others == OTHERS
        assert found.label == int(update.labels[0])


def test_adams_first_step_gives_the_signs():
    update = trained_on(1, "adam", 1, seed=1)
    direction = reconstruct(update.weight, update.bias).directions[0]
    assert np.mean(np.sign(direction) == np.sign(update.records[0].numpy())) > 0.98


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_without_a_bias_the_direction_is_found_up_to_its_sign(optimiser):
    update = trained_on(1, optimiser, 1, seed=2)
    found = reconstruct(update.weight, None)
    assert not found.signed
    assert rank_of(update.records[0].numpy(), update.gallery, found) == 1


@pytest.mark.parametrize("steps", [1, 3])
def test_a_plain_gradient_update_of_eight_records_shows_all_of_them(steps):
    for seed in range(3):
        update = trained_on(8, "sgd", steps, seed)
        found = reconstruct(update.weight, update.bias, records=8)
        assert similarities(found, update.records.numpy()) == pytest.approx(np.ones(8), abs=1e-3)
        assert [rank_of(record, update.gallery, found) for record in update.records.numpy()] == [1] * 8


@pytest.mark.parametrize("steps", [1, 5])
def test_so_does_adams_update_of_eight_records(steps):
    ranks = []
    for seed in range(5):
        update = trained_on(8, "adam", steps, seed)
        found = reconstruct(update.weight, update.bias, records=8)
        ranks += [rank_of(record, update.gallery, found) for record in update.records.numpy()]
    assert np.mean(np.array(ranks) == 1) > 0.9


def masked(update: Update) -> tuple[np.ndarray, np.ndarray]:
    """The update as it travels, under a mask that nobody but the cohort can take off, read as if it had none."""
    flat = np.concatenate([update.weight.ravel(), update.bias]).astype(np.float32)
    block = Block("update", len(flat), 1.0, 20)
    words = encode({"update": flat}, (block,), 1.0).words
    open_values = read_as_plain(words, 20)
    np.testing.assert_allclose(open_values, flat, atol=2.0**-20)
    apply_masks(words, [os.urandom(32)], [])
    values = read_as_plain(words, 20)
    return values[: update.weight.size].reshape(update.weight.shape), values[update.weight.size :]


def private(update: Update, noise_multiplier: float) -> tuple[np.ndarray, np.ndarray]:
    """One noised step of Adam on the same record."""
    model = stack(3)
    trained = [name for name, _ in model.named_parameters()]
    clipped = clipped_sum(
        model,
        lambda: F.cross_entropy(model(update.records), update.labels, reduction="none"),
        clip=1.0,
        trained=trained,
    )
    mechanism = TrainingMechanism(noise_multiplier, 1.0, 1.0, 1.0, 1)
    noisy = mechanism.noisy_mean(clipped, SecretStream())
    before = copy.deepcopy(model.state_dict())
    step = torch.optim.Adam(model.parameters(), lr=1e-3)
    for name, parameter in model.named_parameters():
        parameter.grad = noisy[name].clone()
    step.step()
    moved = {name: (value - before[name]).numpy() for name, value in model.state_dict().items()}
    return moved["0.weight"], moved["0.bias"]


def ranks_behind(hide, trials: int = 40) -> np.ndarray:
    """Ranks of one record in many hidden updates."""
    ranks = []
    for seed in range(trials):
        update = trained_on(1, "adam", 1, seed)
        ranks.append(leakage(*hide(update), update.records[0].numpy(), update.gallery).rank)
    return np.array(ranks)


def is_chance(ranks: np.ndarray) -> bool:
    """Whether the mean of uniform ranks lies within five standard deviations, and hardly any record is found.

    The gallery's common part makes the ranks of one trial hang together in no way: trials are independent.
    """
    centre, spread = (OTHERS + 2) / 2, OTHERS / 12**0.5 / len(ranks) ** 0.5
    return bool(abs(ranks.mean() - centre) < 5 * spread and np.mean(ranks <= OTHERS // 50) < 0.2)


def test_a_masked_update_shows_nothing():
    assert is_chance(ranks_behind(masked))


def test_a_private_update_shows_nothing():
    assert is_chance(ranks_behind(lambda update: private(update, 1.0)))


def test_the_same_step_without_noise_shows_the_record():
    # What hides it is the noise and not the clipping, the optimiser or the attack's own weakness.
    assert (ranks_behind(lambda update: private(update, 0.0), trials=10) == 1).all()


def test_a_label_shows_only_where_one_class_rose():
    assert label_of(np.array([-0.2, 0.5, -0.3])) == 1
    assert label_of(np.array([0.2, 0.5, -0.7])) is None
    assert label_of(np.zeros(3)) is None


def test_an_update_of_nothing_finds_nobody():
    found = leakage(np.zeros((4, 6)), np.zeros(4), np.ones(6), np.eye(6))
    assert (found.cosine, found.rank, found.others, found.label) == (0.0, 7, 6, None)


def test_the_rank_counts_ties_against_the_attack():
    found = reconstruct(np.outer([1.0, 2.0], [1.0, 0.0, 0.0]), np.array([1.0, 2.0]))
    assert found.signed
    gallery = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [-1, 0, 0], [1, 0.01, 0]])
    assert rank_of(np.array([3.0, 0, 0]), gallery, found) == 2
    assert rank_of(np.array([0.6, 0, 0.8]), gallery, found) == 4
    assert rank_of(np.array([-1.0, 0, 0]), gallery, found) == 5


def test_more_records_than_directions_is_no_error():
    found = reconstruct(np.outer(np.ones(5), np.arange(4.0)), None, records=3)
    assert found.directions.shape == (1, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": np.zeros(4)},
        {"weight": np.full((4, 6), np.nan)},
        {"bias": np.zeros(6)},
        {"bias": np.full(4, np.inf)},
        {"records": 0},
        {"records": 5},
        {"true": np.ones(5)},
        {"true": np.ones((1, 6))},
        {"true": np.zeros(6)},
        {"gallery": np.ones((3, 5))},
        {"gallery": np.ones((0, 6))},
        {"gallery": np.full((3, 6), np.nan)},
        {"classifier_bias": np.ones((2, 2))},
    ],
    ids=lambda change: f"{next(iter(change))} {np.shape(next(iter(change.values())))}",
)
def test_what_does_not_fit_is_refused(change):
    generator = np.random.default_rng(0)
    arguments = {
        "weight": generator.normal(size=(4, 6)),
        "bias": generator.normal(size=4),
        "true": np.ones(6),
        "gallery": np.eye(6),
    }
    leakage(**arguments)
    with pytest.raises(AuditError):
        leakage(**(arguments | change))
