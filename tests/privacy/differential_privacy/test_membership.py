"""The membership attack: figures of known distributions, limits against the binomial, and nothing from nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from sklearn.metrics import roc_auc_score
from wardround.privacy.differential_privacy.membership import (
    attack,
    auc,
    epsilon_of_rates,
    margins,
    true_positive_rate,
)
from wardround.privacy.errors import AuditError

DELTA = 1e-5


def scores(separation: float, count: int, seed: int, spread: float = 1.0):
    """Numbers under the final and the start model: hard and easy records, members easier by ``separation``."""
    generator = np.random.default_rng(seed)
    included = generator.random(count) < 0.5
    start = generator.normal(0, 5, count)
    gain = generator.normal(0, 1, count) * np.where(included, spread, 1.0) + separation * included
    return start + gain, start, included


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_gaussian_scores_give_the_figures_of_theory(separation):
    result = attack(*scores(separation, 40_000, seed=1), delta=DELTA)
    assert result.auc == pytest.approx(norm.cdf(separation / math.sqrt(2)), abs=0.012)
    assert result.true_positive_rate == pytest.approx(norm.cdf(separation - norm.ppf(0.99)), abs=0.025)
    assert result.members + result.others == 20_000
    assert (result.false_positive_rate, result.confidence, result.delta) == (0.01, 0.95, DELTA)


def test_the_start_model_takes_away_how_hard_a_record_is():
    final, start, included = scores(1.0, 10_000, seed=2)
    with_start = attack(final, start, included, delta=DELTA).auc
    without = attack(final, np.zeros_like(start), included, delta=DELTA).auc
    assert with_start > without + 0.15


def test_losses_fall_and_margins_rise_and_both_are_understood():
    final, start, included = scores(1.5, 4_000, seed=3)
    risen, fallen = attack(final, start, included, delta=DELTA), attack(-final, -start, included, delta=DELTA)
    assert risen.auc == pytest.approx(fallen.auc, abs=1e-12)
    assert risen.lower_bound == pytest.approx(fallen.lower_bound, abs=1e-12)


def test_members_that_only_spread_more_are_found():
    # The same mean: a threshold on the score itself is blind, the likelihood ratio is not.
    final, start, included = scores(0.0, 20_000, seed=4, spread=3.0)
    assert attack(final, start, included, delta=DELTA).auc > 0.65


def test_chance_proves_nothing():
    results = [attack(*scores(0.0, 1_000, seed), delta=DELTA) for seed in range(200)]
    assert np.mean([result.auc for result in results]) == pytest.approx(0.5, abs=0.01)
    assert sum(result.lower_bound > 0 for result in results) <= 10


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_covers_randomised_response(epsilon):
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    above, found = 0, []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        included = generator.random(2_000) < 0.5
        answers = np.where(generator.random(2_000) < keep, included, ~included) + generator.normal(0, 0.1, 2_000)
        bound = attack(answers, np.zeros(2_000), included, delta=0.0).lower_bound
        above += bound > epsilon
        found.append(bound)
    assert above <= 10
    assert np.mean(found) > 0.4 * epsilon


def test_full_separation_is_limited_by_the_number_of_canaries():
    final, start, included = scores(50.0, 2_000, seed=5)
    result = attack(final, start, included, delta=DELTA)
    assert result.auc == 1
    assert result.true_positive_rate == 1
    # Nobody let through of about 500: the upper limit is 1 - 0.0125^(1/n).
    limit = 1 - 0.0125 ** (1 / result.others)
    assert 0.8 * math.log(1 / limit) < result.lower_bound < 1.05 * math.log(1 / limit)


def test_scores_without_any_spread_are_told_apart_all_the_same():
    included = np.arange(200) % 3 == 0
    result = attack(included.astype(float), np.zeros(200), included, delta=DELTA)
    assert result.auc == 1


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
)
def test_the_area_counts_pairs(members, others):
    pairs = [(member > other) + (member == other) / 2 for member in members for other in others]
    area = auc(np.array(members, dtype=float), np.array(others, dtype=float))
    assert area == pytest.approx(np.mean(pairs), abs=1e-12)
    truth = [1] * len(members) + [0] * len(others)
    assert area == pytest.approx(roc_auc_score(truth, members + others), abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    st.sampled_from([0.01, 0.1, 0.5]),
)
def test_the_true_positive_rate_is_the_best_of_all_thresholds(members, others, rate):
    found, let_through = np.array(members, dtype=float), np.array(others, dtype=float)
    legal = [
        np.mean(found > threshold)
        for threshold in np.arange(-6, 6)
        if np.sum(let_through > threshold) <= math.floor(rate * len(others) + 1e-9)
    ]
    assert true_positive_rate(found, let_through, rate) == pytest.approx(max(legal), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 200), st.integers(1, 200), st.sampled_from([0.0, 1e-5, 0.05]))
def test_the_limits_are_where_the_binomial_tail_reaches_the_level(data, members, others, delta):
    found, let_through = data.draw(st.integers(0, members)), data.draw(st.integers(0, others))
    level = 0.05 / 4

    def lower(successes, trials):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if binom.sf(successes - 1, trials, middle) < level else (low, middle)
        return low if successes else 0.0

    def ratio(good, bad):
        return math.log((good - delta) / bad) if good > delta else 0.0

    by_hand = max(
        0.0,
        ratio(lower(found, members), 1 - lower(others - let_through, others)),
        ratio(lower(others - let_through, others), 1 - lower(found, members)),
    )
    assert epsilon_of_rates(found, members, let_through, others, delta=delta, confidence=0.95) == pytest.approx(
        by_hand, abs=1e-9
    )


def test_margins_are_log_odds():
    logits = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(50) % 4
    p = logits.softmax(1)[torch.arange(50), labels]
    np.testing.assert_allclose(margins(logits.numpy(), labels.numpy()), torch.log(p / (1 - p)).numpy(), atol=1e-12)
    # Where the probability itself is 1 in floating point.
    assert margins(np.array([[900.0, 0.0]], dtype=np.float32), np.array([0]))[0] == 900
    assert margins(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((3, 2)), np.array([0, 1])),
        (np.zeros((2, 1)), np.array([0, 0])),
        (np.zeros(3), np.array([0, 0, 0])),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.zeros((2, 2)), np.array([-1, 0])),
        (np.full((2, 2), np.nan), np.array([0, 1])),
    ],
)
def test_logits_that_do_not_fit_are_refused(logits, labels):
    with pytest.raises(AuditError):
        margins(logits, labels)


@pytest.mark.parametrize(
    "change",
    [
        {"final": np.zeros(99)},
        {"start": np.zeros((100, 1))},
        {"included": np.arange(100) % 2},
        {"final": np.full(100, np.inf)},
        {"start": np.full(100, np.nan)},
        {"included": np.zeros(100, dtype=bool)},
        {"included": np.arange(100) % 2 == 0},
        {"final": np.zeros(38), "start": np.zeros(38), "included": np.arange(38) % 3 == 0},
        {"delta": 1.0},
        {"confidence": 1.0},
        {"false_positive_rate": 0.0},
    ],
    ids=["length", "shape", "type", "infinite", "nan", "no member", "one half", "few", "delta", "confidence", "rate"],
)
def test_what_cannot_be_judged_is_refused(change):
    arguments = {"final": np.zeros(100), "start": np.zeros(100), "included": np.arange(100) % 3 == 0, "delta": DELTA}
    attack(**arguments)
    with pytest.raises(AuditError):
        attack(**(arguments | change))
