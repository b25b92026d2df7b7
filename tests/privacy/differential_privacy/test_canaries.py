"""Canaries: products against gradients record by record, evidence against the formula, and real private training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from wardround.privacy.differential_privacy.accountant import noise_multiplier_for
from wardround.privacy.differential_privacy.audit import AuditResult
from wardround.privacy.differential_privacy.canaries import (
    Scorer,
    audit_training,
    draw_canaries,
    evidence,
    inner_products,
)
from wardround.privacy.differential_privacy.clipping import clipped_sum
from wardround.privacy.differential_privacy.mechanism import TrainingMechanism
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.errors import AuditError, MechanismError

DELTA = 1e-5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in real training: threads that wait for each other take longer than steps of this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Adapter(nn.Module):
    """Attention over a feature's coordinates: Linear - LayerNorm - LeakyReLU - Linear - softmax."""

    def __init__(self, width: int, seed: int, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.project_in = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, width, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        scores = self.project_out(F.leaky_relu(self.norm(self.project_in(features))))
        return F.normalize(scores.softmax(dim=1) * features, dim=1)


def key(*numbers: int) -> bytes:
    return bytes(numbers).ljust(32, b"\0")


def prompts(width: int, classes: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(classes, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def class_prompt(text: Tensor) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    return lambda module, features, labels: F.cross_entropy(30 * module(features) @ text.T, labels, reduction="none")


# --- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e3], ids=["all clipped", "some clipped", "none clipped"])
def test_products_and_norms_are_those_of_every_records_own_gradient(clip, bias):
    text = prompts(12, 3, seed=0).double()
    losses = class_prompt(text)
    module = Adapter(12, seed=1, bias=bias).double()
    generator = torch.Generator().manual_seed(2)
    features = F.normalize(torch.randn(20, 12, dtype=torch.float64, generator=generator), dim=1)
    labels = torch.arange(20) % 3
    parameters = dict(module.named_parameters())
    noisy = {name: torch.randn(p.shape, dtype=p.dtype, generator=generator) for name, p in parameters.items()}

    def loss(values, x, y):
        adapted = functional_call(module, values, (x[None],))
        return F.cross_entropy(30 * adapted @ text.T, y[None])

    single = vmap(grad(loss), in_dims=(None, 0, 0))({n: p.detach() for n, p in parameters.items()}, features, labels)
    flat = torch.cat([single[name].flatten(1) for name in parameters], dim=1)
    flat *= (clip / flat.norm(dim=1, keepdim=True)).clamp(max=1)
    expected = flat @ torch.cat([noisy[name].flatten() for name in parameters])

    products, norms = inner_products(
        module, lambda: losses(module, features, labels), noisy, clip=clip, trained=list(parameters)
    )
    assert products.dtype == norms.dtype == torch.float64
    torch.testing.assert_close(products, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(norms, flat.norm(dim=1), rtol=1e-10, atol=1e-12)
    assert all(parameter.grad is None for parameter in parameters.values())


def test_the_product_with_the_clipped_sum_itself_is_the_sum_of_products():
    # sum_i <c_i, S> = |S|^2 where S is the sum of the clipped gradients, as training makes it.
    module, losses = Adapter(16, seed=3), class_prompt(prompts(16, 4, seed=3))
    canaries = draw_canaries(16, 4, SecretStream(key(3)), count=50)
    trained = [name for name, _ in module.named_parameters()]

    def own() -> Tensor:
        return losses(module, canaries.features, canaries.labels)

    total = clipped_sum(module, own, clip=0.5, trained=trained).gradients
    products, norms = inner_products(module, own, total, clip=0.5, trained=trained)
    assert float(products.sum()) == pytest.approx(
        sum(float(g.double().square().sum()) for g in total.values()), rel=1e-4
    )
    assert float(norms.max()) <= 0.5 * (1 + 1e-6)


def test_a_frozen_part_takes_no_part():
    module, losses = Adapter(8, seed=4), class_prompt(prompts(8, 2, seed=4))
    module.project_in.requires_grad_(False)
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    canaries = draw_canaries(8, 2, SecretStream(key(4)), count=5)
    noisy = {name: torch.ones_like(p) for name, p in module.named_parameters()}
    products, _ = inner_products(
        module, lambda: losses(module, canaries.features, canaries.labels), noisy, clip=1e9, trained=trained
    )
    losses(module, canaries.features, canaries.labels).sum().backward()
    by_hand = sum(float(p.grad.sum()) for p in module.parameters() if p.grad is not None)
    assert float(products.sum()) == pytest.approx(by_hand, rel=1e-4, abs=1e-6)


def test_a_record_without_a_finite_gradient_gives_nothing():
    module, losses = Adapter(8, seed=5), class_prompt(prompts(8, 2, seed=5))
    features = draw_canaries(8, 2, SecretStream(key(5)), count=4).features
    features[1] = math.nan
    trained = [name for name, _ in module.named_parameters()]
    noisy = {name: torch.ones_like(p) for name, p in module.named_parameters()}
    labels = torch.zeros(4, dtype=torch.int64)
    products, norms = inner_products(module, lambda: losses(module, features, labels), noisy, clip=1.0, trained=trained)
    assert products[1] == norms[1] == 0
    assert bool(torch.isfinite(products).all())
    assert bool((norms[[0, 2, 3]] > 0).all())


def test_what_is_not_clipped_is_not_audited():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    noisy = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for trained in (["0.weight"], ["1.weight"]):
        with pytest.raises(MechanismError):
            inner_products(module, lambda: module(x).square().sum(1), noisy, clip=1.0, trained=trained)
    with pytest.raises(AuditError, match=r"2\.bias"):
        inner_products(module, lambda: module(x).sum(1), {}, clip=1.0, trained=["2.bias"])
    with pytest.raises(AuditError, match="clip"):
        inner_products(module, lambda: module(x).sum(1), noisy, clip=0.0, trained=["2.bias"])


# --- evidence -------------------------------------------------------------------------------------------------------


def evidence_of(products, norms, labels=None, rate=0.1):
    labels = np.zeros(len(products), dtype=int) if labels is None else labels
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return evidence(products, norms, groups=groups, sample_rate=rate)


@pytest.mark.parametrize("rate", [0.01, 0.3, 1.0])
def test_evidence_is_the_log_likelihood_ratio_with_a_measured_spread(rate):
    generator = np.random.default_rng(1)
    norms = generator.uniform(0.2, 1.0, 20_001)
    noise, shift = 2.5, 7.0
    products = (shift + noise * generator.normal(size=20_001)) * norms
    along = products / norms - np.median(products / norms)
    likelihood_in = (1 - rate) + rate * np.exp((2 * along * norms - norms**2) / (2 * noise**2))
    np.testing.assert_allclose(evidence_of(products, norms, rate=rate), np.log(likelihood_in), atol=0.05, rtol=0.05)


def test_data_of_a_class_shift_nothing():
    generator = np.random.default_rng(2)
    products, norms, labels = generator.normal(size=999), np.ones(999), np.arange(999) % 3
    plain = evidence_of(products, norms, labels)
    shifted = evidence_of(products + np.array([5.0, -40.0, 0.3])[labels], norms, labels)
    np.testing.assert_allclose(shifted, plain, atol=1e-9)


def test_evidence_rises_with_the_product_and_never_overflows():
    products = np.concatenate([np.linspace(-3, 3, 101), [1e9, -1e9]])
    found = evidence_of(products, np.ones(103))
    assert np.isfinite(found).all()
    assert (np.diff(found[np.argsort(products)]) >= 0).all()


def test_a_step_of_nothing_says_nothing():
    assert (evidence_of(np.zeros(5), np.ones(5)) == 0).all()
    assert (evidence_of(np.zeros(5), np.zeros(5)) == 0).all()
    norms = np.array([1.0, 1.0, 0.0, 1.0])
    found = evidence_of(np.array([1.0, 2.0, 0.0, 4.0]), norms)
    assert found[2] == 0
    assert (found[[0, 1, 3]] != 0).all()


# --- canaries and the observer --------------------------------------------------------------------------------------


def test_canaries_are_random_directions_with_random_labels():
    canaries = draw_canaries(64, 5, SecretStream(key(6)), count=1000)
    assert canaries.features.shape == (1000, 64)
    assert canaries.features.dtype == torch.float32
    torch.testing.assert_close(canaries.features.norm(dim=1), torch.ones(1000))
    cosines = (canaries.features @ canaries.features.T).fill_diagonal_(0)
    assert float(cosines.square().mean().sqrt()) == pytest.approx(1 / 8, rel=0.05)
    assert canaries.labels.dtype == torch.int64
    assert torch.bincount(canaries.labels, minlength=5).min() > 130
    assert not torch.equal(draw_canaries(64, 5, SecretStream()).features, draw_canaries(64, 5, SecretStream()).features)
    for numbers in ((0, 2, 3), (4, 0, 3), (4, 2, 0)):
        with pytest.raises(AuditError):
            draw_canaries(*numbers[:2], SecretStream(key(6)), count=numbers[2])


def a_scorer(rate: float = 0.1) -> Scorer:
    canaries = draw_canaries(8, 2, SecretStream(key(7)), count=10)
    return Scorer(canaries, class_prompt(prompts(8, 2, 7)), clip=1.0, trained=["norm.weight"], sample_rate=rate)


@pytest.mark.parametrize("rate", [0.0, 1.5, math.nan])
def test_a_sample_rate_outside_its_range_is_refused(rate):
    with pytest.raises(AuditError, match="sample rate"):
        a_scorer(rate)


def test_steps_are_seen_in_order():
    scorer, module = a_scorer(), Adapter(8, seed=7)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name == "norm.weight")
    noisy = {"norm.weight": torch.randn(8, generator=torch.Generator().manual_seed(7))}
    scorer(0, module, noisy)
    first = scorer.scores.copy()
    scorer(1, module, noisy)
    np.testing.assert_allclose(scorer.scores, 2 * first)
    assert scorer.steps == 2
    for step in (1, 3):
        with pytest.raises(AuditError, match="step"):
            scorer(step, module, noisy)


def test_training_gets_the_included_canaries_and_must_show_its_steps():
    canaries = draw_canaries(8, 2, SecretStream(key(8)), count=10)
    coins = np.arange(10) % 3 == 0
    seen = []
    arguments = {"clip": 1.0, "trained": ["norm.weight"], "sample_rate": 0.5, "delta": DELTA, "guesses": 4}

    def train(features: Tensor, labels: Tensor, observer: object) -> None:
        seen.append((features, labels))

    with pytest.raises(AuditError, match="no step"):
        audit_training(train, canaries, class_prompt(prompts(8, 2, 8)), coins=coins, **arguments)
    assert torch.equal(seen[0][0], canaries.features[::3])
    assert torch.equal(seen[0][1], canaries.labels[::3])
    for wrong in (coins[:9], coins.astype(float)):
        with pytest.raises(AuditError, match="coins"):
            audit_training(train, canaries, class_prompt(prompts(8, 2, 8)), coins=wrong, **arguments)


# --- real private training ------------------------------------------------------------------------------------------


def audited(
    seed: int,
    noise_multiplier: float,
    *,
    width: int = 128,
    count: int = 1000,
    data: int = 0,
    rate: float = 0.02,
    steps: int = 300,
    guesses: int = 200,
) -> AuditResult:
    """One run of private training with Adam on canaries and, where asked, on data that can be learned."""
    classes, clip = 4, 1.0
    text = prompts(width, classes, seed)
    losses = class_prompt(text)
    module = Adapter(width, seed)
    trained = [name for name, _ in module.named_parameters()]
    generator = torch.Generator().manual_seed(seed)
    data_labels = torch.randint(0, classes, (data,), generator=generator)
    data_features = F.normalize(text[data_labels] + 0.1 * torch.randn(data, width, generator=generator), dim=1)

    def train(features: Tensor, labels: Tensor, observer: Callable[[int, nn.Module, dict[str, Tensor]], None]) -> None:
        features, labels = torch.cat([features, data_features]), torch.cat([labels, data_labels])
        slots = count + data
        mechanism = TrainingMechanism(noise_multiplier, clip, rate, rate * slots, steps)
        noise, sampling = SecretStream(key(seed, 1)), SecretStream(key(seed, 2))
        adam = torch.optim.Adam(module.parameters(), lr=1e-3)
        for step in range(steps):
            drawn = torch.from_numpy(sampling.include(slots, rate))
            drawn = drawn[drawn < len(features)]  # the slots of canaries that are out are empty
            clipped = clipped_sum(
                module,
                lambda rows=drawn: losses(module, features[rows], labels[rows]),
                clip=clip,
                trained=trained,
                units=len(drawn),
            )
            mean = mechanism.noisy_mean(clipped, noise)
            observer(step, module, {name: value * mechanism.expected_batch for name, value in mean.items()})
            for name, parameter in module.named_parameters():
                parameter.grad = mean[name].clone()
            adam.step()

    return audit_training(
        train,
        draw_canaries(width, classes, SecretStream(key(seed, 3)), count=count),
        losses,
        clip=clip,
        trained=trained,
        sample_rate=rate,
        delta=DELTA,
        guesses=guesses,
        coins=SecretStream(key(seed, 4)).words(count) % np.uint64(2) == 1,
    )


def test_a_small_audit_sees_whether_there_is_noise():
    small = {"width": 64, "count": 300, "rate": 0.05, "steps": 100, "guesses": 60}
    private, bare = audited(1, 4.0, **small), audited(1, 0.0, **small)
    assert private.lower_bound < 0.5
    assert bare.lower_bound >= 0.8 * bare.ceiling
    assert (bare.canaries, bare.guesses, bare.confidence, bare.delta) == (300, 60, 0.95, DELTA)


@cache
def noise_of_epsilon_1() -> float:
    return noise_multiplier_for(1.0, DELTA, sample_rate=0.02, steps=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("share", "low", "high"),
    [(1.0, 0.0, 1.0), (0.25, 1.3, math.inf), (0.125, 3.0, math.inf), (0.0, 0.8, math.inf)],
    ids=["true noise", "noise / 4", "noise / 8", "noise off"],
)
def test_the_audit_of_training_at_epsilon_1(seed, share, low, high):
    result = audited(seed, share * noise_of_epsilon_1())
    print(f"noise * {share}, seed {seed}: {result.right} right, {result.lower_bound:.2f} of {result.ceiling:.2f}")
    assert low * (result.ceiling if share == 0 else 1) <= result.lower_bound <= high


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_data_beside_the_canaries_hide_no_broken_noise(seed):
    sound = audited(seed, noise_of_epsilon_1(), data=2000)
    broken = audited(seed, noise_of_epsilon_1() / 8, data=2000)
    assert sound.lower_bound <= 1
    assert broken.lower_bound > 3
