from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.splits import Split, dirichlet_sites, split_by_group

RATIOS = [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.98, 0.01, 0.01), (0.1, 0.1, 0.8)]


@st.composite
def cohorts(draw: st.DrawFn, min_groups: int = 3) -> tuple[np.ndarray, list[str]]:
    n_groups = draw(st.integers(min_groups, 30))
    sizes = draw(st.lists(st.integers(1, 9), min_size=n_groups, max_size=n_groups))
    names = draw(st.lists(st.text(min_size=1, max_size=6), min_size=n_groups, max_size=n_groups, unique=True))
    groups = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    labels = draw(st.lists(st.integers(0, 4), min_size=len(groups), max_size=len(groups)))
    return np.array(labels, dtype=np.int64), groups


def sides(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.validation, split.test


@settings(max_examples=150, deadline=None)
@given(cohorts(), st.sampled_from(RATIOS), st.integers(-3, 2**40))
def test_no_group_on_two_sides_and_every_record_once(
    cohort: tuple[np.ndarray, list[str]], ratios: tuple[float, float, float], seed: int
) -> None:
    labels, groups = cohort
    split = split_by_group(labels, groups, ratios, seed)
    assert sorted(np.concatenate(sides(split)).tolist()) == list(range(len(labels)))
    held = [{groups[index] for index in side} for side in sides(split)]
    assert all(held)
    for first, second in itertools.combinations(held, 2):
        assert not first & second
    assert all(side.dtype == np.int64 for side in sides(split))


@settings(max_examples=50, deadline=None)
@given(cohorts(), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_split_depends_on_content_not_on_order(cohort: tuple[np.ndarray, list[str]], seed: int, random: object) -> None:
    labels, groups = cohort
    order = np.random.default_rng(seed).permutation(len(labels))
    before = split_by_group(labels, groups, seed=seed)
    after = split_by_group(labels[order], [groups[i] for i in order], seed=seed)
    for first, second in zip(sides(before), sides(after), strict=True):
        assert {groups[i] for i in first} == {groups[order[i]] for i in second}


@pytest.mark.parametrize("ratios", RATIOS)
def test_single_image_groups_meet_the_ratios_in_every_class(ratios: tuple[float, float, float]) -> None:
    labels = np.repeat(np.arange(4), [400, 200, 100, 300])
    split = split_by_group(labels, [f"p{i}" for i in range(1000)], ratios, seed=5)
    for side, share in zip(sides(split), ratios, strict=True):
        counts = np.bincount(labels[side], minlength=4)
        assert np.abs(counts - share * np.bincount(labels)).max() <= 1.5


def test_uneven_groups_come_near_the_ratios() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.geometric(0.3, size=600)
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = np.repeat(generator.integers(0, 5, size=600), sizes)
    split = split_by_group(labels, groups, (0.7, 0.1, 0.2), seed=3)
    for side, share in zip(sides(split), (0.7, 0.1, 0.2), strict=True):
        counts = np.bincount(labels[side], minlength=5) / np.bincount(labels)
        assert np.abs(counts - share).max() < 0.02


def test_seed_moves_large_groups_too() -> None:
    groups = ["big"] * 9 + [f"mid{i}" for i in range(30) for _ in range(8)]
    labels = np.zeros(len(groups), dtype=np.int64)
    found = set()
    for seed in range(40):
        split = split_by_group(labels, groups, (0.4, 0.3, 0.3), seed)
        found.add(next(k for k, side in enumerate(sides(split)) if 0 in side))
    assert found == {0, 1, 2}


def test_known_results_stay_the_same() -> None:
    """A study repeated with another version must divide its patients as before."""
    labels = np.arange(12) % 3
    groups = [f"patient-{i // 2}" for i in range(12)]
    split = split_by_group(labels, groups, (0.5, 0.25, 0.25), seed=7)
    assert [side.tolist() for side in sides(split)] == [[0, 1, 4, 5, 6, 7, 8, 9], [2, 3], [10, 11]]
    assert dirichlet_sites(labels, groups, 2, 0.6, seed=7).tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]


def test_a_share_of_zero_is_an_empty_side() -> None:
    split = split_by_group([0, 1, 0, 1], ["a", "b", "c", "d"], (0.5, 0.0, 0.5))
    assert len(split.validation) == 0
    assert len(split.train) == len(split.test) == 2


@pytest.mark.parametrize(
    ("labels", "groups", "ratios", "words"),
    [
        ([0, 1], ["a", "b"], (0.8, 0.1, 0.1), "2 groups cannot fill 3 sides"),
        ([0, 1, 1], ["a", "b", "c"], (0.8, 0.1, 0.2), "sum 1"),
        ([0, 1, 1], ["a", "b", "c"], (1.2, -0.1, -0.1), ">= 0"),
        ([0, 1, 1], ["a", "b", "c"], (float("nan"), 0.5, 0.5), ">= 0"),
        ([0, 1, 1], ["a", "b"], (0.8, 0.1, 0.1), "3 labels but 2 groups"),
        ([0, -1, 1], ["a", "b", "c"], (0.8, 0.1, 0.1), "smallest is -1"),
        ([0, 1, 1], ["a", "", "c"], (0.8, 0.1, 0.1), "record 1"),
        ([], [], (0.8, 0.1, 0.1), "empty cohort"),
        ([0.5, 1.0, 1.0], ["a", "b", "c"], (0.8, 0.1, 0.1), "integers"),
    ],
)
def test_bad_splits_are_refused(
    labels: list[int], groups: list[str], ratios: tuple[float, float, float], words: str
) -> None:
    with pytest.raises(SplitError, match=words):
        split_by_group(labels, groups, ratios)


@settings(max_examples=120, deadline=None)
@given(cohorts(min_groups=12), st.integers(1, 4), st.sampled_from([0.01, 0.1, 0.6, 5.0, 1e4]), st.integers(0, 2**40))
def test_sites_keep_groups_whole_and_none_is_empty(
    cohort: tuple[np.ndarray, list[str]], n_sites: int, alpha: float, seed: int
) -> None:
    labels, groups = cohort
    site = dirichlet_sites(labels, groups, n_sites, alpha, seed)
    assert site.shape == labels.shape
    assert site.dtype == np.int64
    site_of: dict[str, int] = {}
    for name, number in zip(groups, site.tolist(), strict=True):
        assert site_of.setdefault(name, number) == number
    assert set(site_of.values()) == set(range(n_sites))
    assert min(np.bincount(list(site_of.values()))) >= 3
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = dirichlet_sites(labels[order], [groups[i] for i in order], n_sites, alpha, seed)
    assert (shuffled == site[order]).all()


def skew(labels: np.ndarray, site: np.ndarray) -> float:
    """Mean total-variation distance of the sites' class shares from the pooled ones."""
    pooled = np.bincount(labels, minlength=4) / len(labels)
    local = [np.bincount(labels[site == s], minlength=4) / (site == s).sum() for s in range(site.max() + 1)]
    return float(np.mean([np.abs(shares - pooled).sum() / 2 for shares in local]))


def test_small_alpha_skews_and_large_alpha_does_not() -> None:
    labels = np.arange(2000) % 4
    groups = [f"g{i // 2}-{i % 4}" for i in range(2000)]
    skews = {
        alpha: np.mean([skew(labels, dirichlet_sites(labels, groups, 4, alpha, s)) for s in range(10)])
        for alpha in (0.1, 0.6, 1000.0)
    }
    assert skews[0.1] > skews[0.6] + 0.05
    assert skews[0.6] > 0.15
    assert skews[1000.0] < 0.03


def test_no_site_is_tiny_even_at_strong_skew() -> None:
    labels = np.arange(3000) % 4
    groups = [f"g{i}" for i in range(3000)]
    for seed in range(20):
        sizes = np.bincount(dirichlet_sites(labels, groups, 5, 0.2, seed), minlength=5)
        assert sizes.min() >= 0.1 * 3000 / 5 - 5


def test_ten_thousand_records_take_seconds_not_minutes() -> None:
    labels = np.arange(10_000) % 7
    groups = [f"lesion-{i * 3 // 4}" for i in range(10_000)]
    start = time.process_time()
    dirichlet_sites(labels, groups, 5, 0.5, 1)
    split_by_group(labels, groups, seed=1)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("n_sites", "alpha", "words"),
    [
        (4, 0.5, "10 groups cannot give 4 sites 3 groups"),
        (0, 0.5, "at least 1"),
        (2, 0.0, "above 0"),
        (2, float("nan"), "above 0"),
        (2, float("inf"), "above 0"),
    ],
)
def test_impossible_sites_are_refused(n_sites: int, alpha: float, words: str) -> None:
    with pytest.raises(SplitError, match=words):
        dirichlet_sites(np.arange(10) % 2, [f"g{i}" for i in range(10)], n_sites, alpha, 0)
