"""The one-run bound: the paper's figures, exact probabilities, and what it must never claim."""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.differential_privacy.audit import (
    audit,
    ceiling,
    flip_coins,
    guesses_of,
    lower_bound,
    p_value,
)
from wardround.privacy.errors import AuditError


def exact_p_value(epsilon: float, canaries: int, guesses: int, right: int, delta: float) -> float:
    """The formula word for word, in fractions."""
    q = Fraction(math.exp(epsilon)) / (1 + Fraction(math.exp(epsilon)))

    def mass(k: int) -> Fraction:
        return math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k)

    tail = sum((mass(k) for k in range(right, guesses + 1)), Fraction(0))
    worst = max(
        (sum((mass(k) for k in range(right - i, right)), Fraction(0)) / i for i in range(1, right + 1)),
        default=Fraction(0),
    )
    return float(min(Fraction(1), tail + 2 * canaries * Fraction(delta) * worst))


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
    ids=["appendix D", "section 7"],
)
def test_the_figures_printed_in_the_paper(canaries, guesses, right, delta, published):
    bound = lower_bound(canaries=canaries, guesses=guesses, right=right, delta=delta)
    assert bound == pytest.approx(published, abs=1e-3)  # cut, not rounded, after three digits


@settings(max_examples=60, deadline=None)
@given(
    st.data(),
    st.integers(0, 18),
    st.integers(0, 20),
    st.floats(0, 4),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.05]),
)
def test_the_p_value_is_the_formula_in_exact_arithmetic(data, guesses, silent, epsilon, delta):
    right = data.draw(st.integers(0, guesses))
    canaries = max(1, guesses + silent)
    computed = p_value(epsilon, canaries=canaries, guesses=guesses, right=right, delta=delta)
    assert computed == pytest.approx(exact_p_value(epsilon, canaries, guesses, right, delta), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
def test_without_delta_randomised_response_attains_the_p_value(epsilon):
    # Every outcome of five canaries under the mechanism that the theorem is tight for.
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    for right in range(6):
        probability = math.fsum(
            math.prod(keep if kept else 1 - keep for kept in outcome)
            for outcome in itertools.product([True, False], repeat=5)
            if sum(outcome) >= right
        )
        assert p_value(epsilon, canaries=5, guesses=5, right=right, delta=0) == pytest.approx(probability, rel=1e-12)


def test_the_ceiling():
    assert ceiling(1000, 1000, 1e-5) == pytest.approx(5.8, abs=0.05)
    # All right: q^r = 0.05, solved by hand.
    q = 0.05 ** (1 / 200)
    assert ceiling(200, 1000, 0.0) == pytest.approx(math.log(q / (1 - q)), rel=1e-9)
    assert ceiling(200, 1000, 1e-5) < ceiling(200, 1000, 0.0)
    assert ceiling(200, 1000, 1e-5) < ceiling(400, 1000, 1e-5) < ceiling(400, 1000, 1e-5, 0.9)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3, 0.02])
@pytest.mark.parametrize(("guesses", "canaries"), [(20, 20), (200, 1000), (1000, 1000)])
def test_more_right_guesses_never_prove_less(guesses, canaries, delta):
    bounds = [
        lower_bound(canaries=canaries, guesses=guesses, right=right, delta=delta)
        for right in range(0, guesses + 1, max(1, guesses // 40))
    ]
    assert bounds == sorted(bounds)
    assert bounds[-1] == ceiling(guesses, canaries, delta)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 300), st.floats(0, 1e-3), st.floats(0.5, 0.99))
def test_the_bound_is_where_the_p_value_reaches_the_level(data, guesses, delta, confidence):
    right = data.draw(st.integers(0, guesses))
    arguments = {"canaries": 300, "guesses": guesses, "right": right, "delta": delta}
    bound = lower_bound(**arguments, confidence=confidence)
    assert bound >= 0
    assert p_value(bound + 1e-9, **arguments) >= 1 - confidence - 1e-9
    # Everything below is disproved too: the p-value rises with epsilon until there.
    assert all(p_value(bound * part, **arguments) < 1 - confidence for part in (0.0, 0.25, 0.5, 0.9) if bound > 0)


def test_a_coin_proves_nothing():
    for right in range(101):
        assert lower_bound(canaries=1000, guesses=200, right=right, delta=1e-5) == 0


def test_delta_and_confidence_weaken_the_bound():
    bounds = [lower_bound(canaries=1000, guesses=200, right=170, delta=delta) for delta in (0, 1e-5, 1e-4, 1e-3, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert lower_bound(canaries=1000, guesses=200, right=170, delta=1e-5, confidence=0.99) < bounds[1]


@functools.cache
def bound_of(canaries: int, guesses: int, right: int, delta: float) -> float:
    return lower_bound(canaries=canaries, guesses=guesses, right=right, delta=delta)


def right_guesses(scores: np.ndarray, coins: np.ndarray, guesses: int) -> int:
    guessed_in, guessed_out = guesses_of(scores, guesses)
    return int(coins[guessed_in].sum() + (~coins[guessed_out]).sum())


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_the_bound_covers_randomised_response(epsilon):
    generator = np.random.default_rng(int(epsilon * 10))
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    trials, above = 2000, 0
    for _ in range(trials):
        coins = generator.random(300) < 0.5
        answers = np.where(generator.random(300) < keep, coins, ~coins)
        # Answers are all an auditor sees, and equally certain: which of them become guesses is chance.
        right = right_guesses(answers + generator.random(300) / 2, coins, 100)
        above += bound_of(300, 100, right, 0.0) > epsilon
    assert 0 < above <= trials * 0.05 + 3 * math.sqrt(trials * 0.05 * 0.95)


def test_the_bound_covers_a_mechanism_that_uses_its_delta():
    # Randomised response that gives a canary away with probability delta is (epsilon, delta)-DP; the given-away
    # canaries are the surest guesses, so without the correction the bound would often be wrong.
    epsilon, delta, canaries, guesses = 1.0, 0.01, 1000, 20
    generator = np.random.default_rng(3)
    keep = math.exp(epsilon) / (1 + math.exp(epsilon))
    trials, above, uncorrected = 500, 0, 0
    for _ in range(trials):
        coins = generator.random(canaries) < 0.5
        scores = np.where(generator.random(canaries) < keep, coins, ~coins) * 2.0 - 1 + generator.random(canaries) / 2
        given_away = generator.random(canaries) < delta
        scores[given_away] = np.where(coins, 9.0, -9.0)[given_away]
        right = right_guesses(scores, coins, guesses)
        above += bound_of(canaries, guesses, right, delta) > epsilon
        uncorrected += bound_of(canaries, guesses, right, 0.0) > epsilon
    assert above <= trials * 0.05
    assert uncorrected > trials * 0.15  # three times what the confidence allows


def test_the_bound_finds_a_mechanism_that_gives_everything_away():
    coins = flip_coins(1000)
    result = audit(coins.astype(np.float64), coins, delta=1e-5)
    assert (result.canaries, result.guesses, result.right) == (1000, 200, 200)
    assert result.lower_bound == result.ceiling > 4
    # Turned round, every guess is wrong and proves nothing: an auditor may not turn afterwards.
    assert audit(-coins.astype(np.float64), coins, delta=1e-5).lower_bound == 0


def test_guesses_are_the_extremes_and_ties_go_by_position():
    scores = np.array([3.0, -1.0, 2.0, 2.0, -5.0, 0.0])
    guessed_in, guessed_out = guesses_of(scores, 4)
    assert sorted(guessed_in) == [0, 3]
    assert sorted(guessed_out) == [1, 4]
    guessed_in, guessed_out = guesses_of(np.zeros(4), 4)
    assert sorted([*guessed_in, *guessed_out]) == [0, 1, 2, 3]


def test_coins_are_fair_and_differ():
    coins = flip_coins(20_001)
    assert coins.shape == (20_001,)
    assert coins.dtype == np.bool_
    assert abs(coins.mean() - 0.5) < 0.025  # seven standard deviations
    assert not np.array_equal(coins, flip_coins(20_001))
    assert flip_coins(0).shape == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"canaries": 0, "guesses": 0, "right": 0},
        {"guesses": 11},
        {"right": 9},
        {"right": -1},
        {"delta": -0.1},
        {"delta": 1.0},
        {"delta": math.nan},
        {"confidence": 0.0},
        {"confidence": 1.0},
    ],
    ids=str,
)
def test_values_outside_their_range_are_refused(change):
    with pytest.raises(AuditError):
        lower_bound(**({"canaries": 10, "guesses": 8, "right": 5, "delta": 1e-5} | change))


@pytest.mark.parametrize("epsilon", [-1.0, math.inf, math.nan])
def test_an_epsilon_outside_its_range_is_refused(epsilon):
    with pytest.raises(AuditError, match="epsilon"):
        p_value(epsilon, canaries=10, guesses=8, right=5, delta=0)


@pytest.mark.parametrize(
    ("scores", "coins", "guesses"),
    [
        (np.zeros(10), np.zeros(9, dtype=bool), 4),
        (np.zeros(10), np.zeros(10), 4),
        (np.zeros((2, 5)), np.zeros((2, 5), dtype=bool), 4),
        (np.array([0.0, math.nan, 1.0, 2.0]), np.zeros(4, dtype=bool), 2),
        (np.zeros(10), np.zeros(10, dtype=bool), 3),
        (np.zeros(10), np.zeros(10, dtype=bool), 0),
        (np.zeros(10), np.zeros(10, dtype=bool), 12),
    ],
    ids=["lengths", "no coins", "matrix", "nan", "odd", "none", "too many"],
)
def test_scores_that_do_not_fit_are_refused(scores, coins, guesses):
    with pytest.raises(AuditError):
        audit(scores, coins, delta=1e-5, guesses=guesses)
