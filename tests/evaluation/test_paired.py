"""The paired bootstrap against resampling by hand, on nulls where the answer is known, and Holm's correction."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from wardround.evaluation import paired
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.intervals import ONE_CLASS, TOO_FEW, UNDER_COVERS
from wardround.evaluation.paired import PairedPart, holm, paired_difference

K = 4


def answers(rng: np.random.Generator, *, strata: int, per: int, effect: float = 0.0) -> list[PairedPart]:
    """Two models of equal skill (without ``effect``), whose answers resemble each other within a group."""
    parts = []
    for stratum in range(strata):
        groups = np.repeat(np.arange(per), rng.integers(1, 4, per))
        labels = rng.integers(0, K, per)[groups]
        hard = 0.8 * rng.normal(size=per)[groups]
        first, second = (
            (hard + 0.6 * rng.normal(size=per)[groups] + rng.normal(size=len(groups)) + gain > 0).astype(float)
            for gain in (effect, 0.0)
        )
        names = [f"{stratum}-{group}" for group in groups]
        parts.append(PairedPart(f"site {stratum}", labels.tolist(), names, first.tolist(), second.tolist()))
    return parts


def slow_difference(parts: list[PairedPart], weight: dict[str, float]) -> float:
    """Image by image, with a weight for each group."""
    seen: dict[int, float] = defaultdict(float)
    ahead: dict[int, float] = defaultdict(float)
    for part in parts:
        for label, group, first, second in zip(part.labels, part.groups, part.first, part.second, strict=True):
            seen[label] += weight[group]
            ahead[label] += weight[group] * (first - second)
    return float(np.mean([ahead[label] / seen[label] for label in seen if seen[label] > 0]))


def test_every_resample_equals_scoring_the_images_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = answers(np.random.default_rng(0), strata=3, per=5)
    parts[0] = PairedPart("site 0", parts[0].labels, parts[0].groups, [0.25] * len(parts[0].labels), parts[0].second)
    drawn: list[np.ndarray] = []
    scored: list[np.ndarray] = []
    weigh, score = paired._weights, paired._differences

    def watch_weights(*given: object) -> np.ndarray:
        drawn.append(weigh(*given))  # type: ignore[arg-type]
        return drawn[-1]

    def watch_scores(*given: object) -> np.ndarray:
        scored.append(score(*given))  # type: ignore[arg-type]
        return scored[-1]

    monkeypatch.setattr(paired, "_weights", watch_weights)
    monkeypatch.setattr(paired, "_differences", watch_scores)
    found = paired_difference(parts, np.random.default_rng(1), resamples=40)
    names = list(dict.fromkeys(name for part in parts for name in part.groups))
    assert found.difference == pytest.approx(slow_difference(parts, dict.fromkeys(names, 1.0)), abs=1e-12)
    (weights,) = drawn
    by_hand = [slow_difference(parts, dict(zip(names, row, strict=True))) for row in weights]
    np.testing.assert_allclose(scored[1], by_hand, atol=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))
    beyond = sum(abs(value - found.difference) >= abs(found.difference) - 1e-12 for value in by_hand)
    assert found.p == pytest.approx((1 + beyond) / 41)


def test_groups_are_drawn_within_their_stratum_with_the_right_variance() -> None:
    strata = [np.arange(3), np.arange(3, 10)]
    weights = paired._weights(strata, 40_000, np.random.default_rng(0))
    for codes in strata:
        np.testing.assert_allclose(weights[:, codes].sum(axis=1), len(codes))
        # A mean of h independent values has variance s^2 / h, with s^2 over h - 1.
        values = np.random.default_rng(1).normal(size=len(codes))
        means = weights[:, codes] @ values / len(codes)
        assert means.var() == pytest.approx(values.var(ddof=1) / len(codes), rel=0.05)


def test_p_is_uniform_and_the_interval_covers_where_nothing_differs() -> None:
    ps, covered = [], 0
    for seed in range(300):
        found = paired_difference(
            answers(np.random.default_rng(seed), strata=5, per=12), np.random.default_rng(seed), resamples=400
        )
        assert found.p is not None
        assert found.low is not None
        assert found.high is not None
        ps.append(found.p)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / 300 <= 0.98
    assert kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) < 0.05) < 0.09


def test_a_real_difference_is_found() -> None:
    found = paired_difference(answers(np.random.default_rng(0), strata=5, per=30, effect=1.0), np.random.default_rng(0))
    assert found.low is not None
    assert found.low > 0.1
    assert found.p == pytest.approx(1 / 2001)
    assert found.note == ""


def test_the_same_seed_gives_the_same_answer_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = answers(np.random.default_rng(3), strata=1, per=20)
    whole = paired_difference(parts, np.random.default_rng(5), resamples=100)
    assert paired_difference(parts, np.random.default_rng(5), resamples=100) == whole
    monkeypatch.setattr(paired, "BLOCK_CELLS", 20 * 7)
    assert paired_difference(parts, np.random.default_rng(5), resamples=100) == whole
    assert whole.note == UNDER_COVERS


def test_two_models_that_answer_alike() -> None:
    parts = [
        PairedPart(part.stratum, part.labels, part.groups, part.first, part.first)
        for part in answers(np.random.default_rng(0), strata=2, per=20)
    ]
    found = paired_difference(parts, np.random.default_rng(0))
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_too_few_groups_give_a_difference_and_no_test() -> None:
    found = paired_difference(answers(np.random.default_rng(0), strata=3, per=3), np.random.default_rng(0))
    assert found.difference is not None
    assert (found.low, found.high, found.p, found.note, found.n_groups) == (None, None, None, TOO_FEW, 9)


def test_one_class_and_no_images_give_nothing() -> None:
    names = [str(i) for i in range(20)]
    one = paired_difference([PairedPart("a", [1] * 20, names, [1.0] * 20, [0.0] * 20)], np.random.default_rng(0))
    none = paired_difference([PairedPart("a", [], [], [], [])], np.random.default_rng(0))
    assert (one.difference, one.p, one.note, one.n_images) == (None, None, ONE_CLASS, 20)
    assert (none.difference, none.n_groups, none.n_images) == (None, 0, 0)


def test_images_tested_again_in_other_folds_do_not_count_as_new_ones() -> None:
    parts = answers(np.random.default_rng(8), strata=2, per=20)
    once = paired_difference(parts, np.random.default_rng(0))
    thrice = paired_difference([*parts, *parts, *parts], np.random.default_rng(0))
    assert thrice.n_groups == once.n_groups
    assert thrice.n_images == 3 * once.n_images
    assert (thrice.low, thrice.high, thrice.p) == pytest.approx((once.low, once.high, once.p))


def test_groups_alone_in_their_stratum_are_drawn_together() -> None:
    parts = [PairedPart(f"s{i}", [i % 2], [f"g{i}"], [float(i % 3 > 0)], [float(i % 2)]) for i in range(12)]
    order = {f"g{i}": i for i in range(12)}
    assert [codes.tolist() for codes in paired._strata(parts, order)] == [list(range(12))]
    lone = [PairedPart("big", [0, 1], ["a", "b"], [1, 0], [0, 1]), PairedPart("lone", [1], ["c"], [1], [0])]
    assert [codes.tolist() for codes in paired._strata(lone, {"a": 0, "b": 1, "c": 2})] == [[0, 1, 2]]
    assert paired_difference(parts, np.random.default_rng(0)).p is not None


def test_answers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidPredictionsError, match="2 labels"):
        PairedPart("a", [0, 1], ["x"], [1.0], [1.0])
    with pytest.raises(InvalidPredictionsError, match="between 0 and 1"):
        PairedPart("a", [0], ["x"], [1.5], [1.0])
    with pytest.raises(InvalidPredictionsError, match="between 0 and 1"):
        PairedPart("a", [0], ["x"], [float("nan")], [1.0])


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=12))
def test_holm_rejects_what_the_step_down_procedure_rejects(values: list[float | None]) -> None:
    corrected = holm(values)
    assert [value is None for value in corrected] == [value is None for value in values]
    known = sorted(value for value in values if value is not None)
    for level in (0.01, 0.05, 0.3):
        rejected = 0
        for rank, value in enumerate(known):  # Holm's own words: stop at the first that does not hold
            if value * (len(known) - rank) > level:
                break
            rejected += 1
        assert sum(value is not None and value <= level for value in corrected) == rejected
