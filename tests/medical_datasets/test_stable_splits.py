from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.splits import Split, dirichlet_sites, number_of, split_by_group
from wardround.medical_datasets.stable_splits import extend_sites, extend_split, stable_split

RATIOS = [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.98, 0.01, 0.01), (0.1, 0.1, 0.8), (0.0, 0.3, 0.7)]
Ratios = tuple[float, float, float]
Cohort = tuple[np.ndarray, list[str]]


@st.composite
def cohorts(draw: st.DrawFn, min_groups: int = 3, prefix: str = "") -> Cohort:
    n_groups = draw(st.integers(min_groups, 25))
    sizes = draw(st.lists(st.integers(1, 7), min_size=n_groups, max_size=n_groups))
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=n_groups, max_size=n_groups, unique=True))
    groups = [prefix + name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    seed = draw(st.integers(0, 2**32))
    return np.random.default_rng(seed).integers(0, 4, len(groups)), groups


def sides(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return split.train, split.validation, split.test


def side_by_group(split: Split, groups: Sequence[str]) -> dict[str, int]:
    """Side of each group; fails when one is on two."""
    found: dict[str, int] = {}
    for side, rows in enumerate(sides(split)):
        for row in rows.tolist():
            assert found.setdefault(groups[row], side) == side
    return found


def check_whole(split: Split, groups: Sequence[str], ratios: Ratios) -> dict[str, int]:
    assert sorted(np.concatenate(sides(split)).tolist()) == list(range(len(groups)))
    found = side_by_group(split, groups)
    assert set(found.values()) == {side for side in range(3) if ratios[side] > 0}
    assert all(side.dtype == np.int64 and (np.diff(side) > 0).all() for side in sides(split))
    return found


def drawn(n: int, seed: int, name: str = "old") -> Cohort:
    """n patients with one to eight images, four classes of unequal size."""
    generator = np.random.default_rng(seed)
    sizes = np.minimum(generator.geometric(0.5, n), 8)
    labels = generator.choice(4, n, p=(0.1, 0.2, 0.3, 0.4))
    groups = [f"patient_id:{name}-{seed}-{i}" for i, size in enumerate(sizes) for _ in range(size)]
    return np.repeat(labels, sizes), groups


@settings(max_examples=100, deadline=None)
@given(cohorts(), st.sampled_from(RATIOS), st.integers(-3, 2**40))
def test_groups_stay_whole_and_every_record_is_dealt_once(cohort: Cohort, ratios: Ratios, seed: int) -> None:
    labels, groups = cohort
    check_whole(stable_split(labels, groups, ratios, seed), groups, ratios)


@settings(max_examples=50, deadline=None)
@given(cohorts(), st.sampled_from(RATIOS), st.integers(0, 1000))
@example((np.array([1, 2, 3, 3, 0, 0]), ["0", "1", "00", "00", "00", "00"]), (0.0, 0.3, 0.7), 102)
def test_the_order_of_records_does_not_matter(cohort: Cohort, ratios: Ratios, seed: int) -> None:
    labels, groups = cohort
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = [groups[i] for i in order]
    before = side_by_group(stable_split(labels, groups, ratios, seed), groups)
    assert before == side_by_group(stable_split(labels[order], shuffled, ratios, seed), shuffled)
    known = dict(itertools.islice(before.items(), 2))

    def extended(labels: np.ndarray, groups: list[str]) -> dict[str, int] | str:
        """The sides, or why there are too few new groups for a side that has none."""
        try:
            return side_by_group(extend_split(labels, groups, known, (0.5, 0.3, 0.2), seed), groups)
        except SplitError as error:
            return error.what

    assert extended(labels, list(groups)) == extended(labels[order], shuffled)


def slow_sides(labels: np.ndarray, groups: Sequence[str], ratios: Ratios, seed: int) -> dict[str, int]:
    """The rule group by group in exact numbers, without the filling of empty sides."""
    strata: dict[int, list[str]] = {}
    images: dict[str, list[int]] = {}
    for label, group in zip(labels.tolist(), groups, strict=True):
        images.setdefault(group, []).append(label)
    for group, of_group in images.items():
        strata.setdefault(min(set(of_group), key=lambda each: (-of_group.count(each), each)), []).append(group)
    found = {}
    for stratum, members in strata.items():
        members.sort(key=lambda name: number_of("stable split", seed, name))
        fraction = Fraction((number_of("stable start", seed) / 2**128 + stratum * (5**0.5 - 1) / 2) % 1.0)
        total = sum(len(images[name]) for name in members)
        before = 0
        for name in members:
            place = (before + fraction * len(images[name])) / total
            before += len(images[name])
            borders = ((2, Fraction(ratios[2])), (1, Fraction(ratios[2] + ratios[1])), (0, Fraction(2)))
            found[name] = next(side for side, end in borders if ratios[side] > 0 and (place < end or end > 1))
    return found


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.sampled_from(RATIOS[:-1]), st.integers(0, 2**40))
def test_sides_are_those_of_the_slow_rule(cohort: Cohort, ratios: Ratios, seed: int) -> None:
    labels, groups = cohort
    slow = slow_sides(labels, groups, ratios, seed)
    assume(len(set(slow.values())) == 3)
    assert side_by_group(stable_split(labels, groups, ratios, seed), groups) == slow


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(RATIOS))
def test_every_side_of_every_stratum_is_right_to_within_its_largest_group(seed: int, ratios: Ratios) -> None:
    labels, groups = drawn(150, seed)
    split = stable_split(labels, groups, ratios, seed)
    size = {name: groups.count(name) for name in set(groups)}
    for stratum in range(4):
        total = (labels == stratum).sum()
        largest = max(size[groups[i]] for i in np.flatnonzero(labels == stratum))
        for rows, share in zip(sides(split), ratios, strict=True):
            # One group more where an empty side had to be filled.
            assert abs((labels[rows] == stratum).sum() - share * total) <= largest + 1e-6 + (
                largest if share else 0
            ) * (len(rows) <= 8)


def test_shares_are_right_on_average_even_where_every_stratum_is_one_group() -> None:
    labels, groups = np.arange(4), ["a", "b", "c", "d"]
    tests = [len(stable_split(labels, groups, (0.5, 0.0, 0.5), seed).test) for seed in range(600)]
    assert abs(np.mean(tests) - 2.0) < 0.1
    assert np.var(tests) < 0.6  # starts drawn one by one would give 1


def test_shares_are_right_on_average_with_a_large_group_and_it_reaches_every_side() -> None:
    groups = ["big"] * 9 + [f"p{i}" for i in range(21)]
    labels = np.zeros(30, dtype=np.int64)
    splits = [stable_split(labels, groups, (0.5, 0.2, 0.3), seed) for seed in range(500)]
    mean = np.mean([[len(rows) / 30 for rows in sides(split)] for split in splits], axis=0)
    assert np.abs(mean - (0.5, 0.2, 0.3)).max() < 0.02
    where = [side_by_group(split, groups)["big"] for split in splits]
    assert np.bincount(where, minlength=3).min() > 50


def moved(split: Callable[..., Split], n: int, share: float, seed: int) -> tuple[float, float]:
    """Shares of the old groups that change sides, and that go between training and test, when more groups come."""
    labels, groups = drawn(n, seed)
    more_labels, more = drawn(max(1, round(share * n)), seed, "new")
    before = side_by_group(split(labels, groups, seed=seed), groups)
    after = side_by_group(split(np.concatenate([labels, more_labels]), groups + more, seed=seed), groups + more)
    changes = [abs(side - after[name]) for name, side in before.items()]
    return float(np.mean([change > 0 for change in changes])), float(np.mean([change == 2 for change in changes]))


@pytest.mark.parametrize(("share", "balanced_at_least"), [(0.01, 0.1), (0.1, 0.25), (0.5, 0.3)])
def test_few_old_groups_change_sides_when_groups_are_added(share: float, balanced_at_least: float) -> None:
    """1,000 groups in four strata, 1, 10 and 50 % more; the bound holds for each of ten cohorts.

    k groups added to a stratum shift its border at t by |N(0, k t (1 - t))| groups at most; two borders in each, at
    t = 0.1 and 0.2. Groups that lie on a border may change besides.
    """
    stable = [moved(stable_split, 1000, share, seed) for seed in range(10)]
    variances = [1000 * share * part * t * (1 - t) for part in (0.1, 0.2, 0.3, 0.4) for t in (0.1, 0.2)]
    mean = np.sqrt(2 / np.pi) * np.sqrt(variances).sum()
    deviation = np.sqrt((1 - 2 / np.pi) * np.sum(variances))
    assert max(changed for changed, _ in stable) <= (mean + 4 * deviation + len(variances)) / 1000
    assert all(far == 0 for _, far in stable)  # nobody goes between training and test
    balanced = [moved(split_by_group, 1000, share, seed)[0] for seed in range(10)]
    assert min(balanced) > balanced_at_least
    changed = [each for each, _ in stable]
    print(
        f"{share:.0%} more: stable {np.mean(changed):.2%} change sides (most {max(changed):.2%}), "
        f"balanced {np.mean(balanced):.1%} (most {max(balanced):.1%})"
    )


def test_without_new_groups_nothing_moves_and_a_relabelled_group_stays_near_its_place() -> None:
    labels, groups = drawn(400, 3)
    before = side_by_group(stable_split(labels, groups, seed=3), groups)
    first = sorted(set(groups))[:20]
    changed = np.where(np.isin(groups, first), 3, labels)  # a corrected diagnosis moves patients to another stratum
    after = side_by_group(stable_split(changed, groups, seed=3), groups)
    assert np.mean([before[name] != after[name] for name in before]) < 0.02


def test_known_results_stay_the_same() -> None:
    """A study repeated with another version must divide its patients as before."""
    labels = np.arange(12) % 3
    groups = [f"patient-{i // 2}" for i in range(12)]
    split = stable_split(labels, groups, (0.5, 0.25, 0.25), seed=7)
    assert [side.tolist() for side in sides(split)] == [[4, 5, 6, 7, 8, 9], [0, 1, 10, 11], [2, 3]]
    sites = extend_sites(labels, groups, {"patient-0": 0, "patient-1": 1}, 2, seed=7)
    assert sites.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0]


@settings(max_examples=80, deadline=None)
@given(cohorts(), cohorts(prefix="new "), st.sampled_from(RATIOS), st.integers(0, 2**40), st.booleans())
def test_an_extended_split_keeps_every_known_side(
    old: Cohort, new: Cohort, ratios: Ratios, seed: int, stable: bool
) -> None:
    first = (stable_split if stable else split_by_group)(*old, ratios, seed)
    known = side_by_group(first, old[1])
    labels, groups = np.concatenate([old[0], new[0]]), old[1] + new[1]
    split = extend_split(labels, groups, known, ratios, seed)
    found = check_whole(split, groups, ratios)
    assert known.items() <= found.items()
    again = extend_split(labels, groups, found, ratios, seed + 1)
    assert side_by_group(again, groups) == found


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.sampled_from(RATIOS), st.integers(0, 2**40))
def test_with_nothing_known_the_extended_split_is_the_balanced_one(cohort: Cohort, ratios: Ratios, seed: int) -> None:
    balanced = split_by_group(*cohort, ratios, seed)
    extended = extend_split(*cohort, {}, ratios, seed)
    assert all((a == b).all() for a, b in zip(sides(balanced), sides(extended), strict=True))


def test_new_groups_fill_up_the_class_that_a_side_lacks() -> None:
    old = [f"old{i}" for i in range(100)]
    known = {name: (0 if i < 98 else i - 97) for i, name in enumerate(old)}  # validation and test have one of 100
    new = [f"new{i}" for i in range(100)]
    labels = np.concatenate([np.zeros(100, dtype=np.int64), np.arange(100) % 2])
    split = extend_split(labels, old + new, known, (0.6, 0.2, 0.2), seed=2)
    counts = np.array([np.bincount(labels[rows], minlength=2) for rows in sides(split)])
    assert counts[:, 1].tolist() == [30, 10, 10]
    assert counts[:, 0].tolist() == [98, 26, 26]  # all 50 new ones of class 0 to the sides that lack it


@settings(max_examples=80, deadline=None)
@given(
    cohorts(min_groups=12),
    cohorts(prefix="new "),
    st.integers(1, 4),
    st.sampled_from([0.01, 0.6, 1e4]),
    st.integers(0, 2**40),
    st.sampled_from(RATIOS),
)
def test_no_group_is_at_two_sites_or_on_two_sides(
    old: Cohort, new: Cohort, n_sites: int, alpha: float, seed: int, ratios: Ratios
) -> None:
    """Sites dealt out, then each site split; more images come, sites and splits are extended."""
    labels, groups = old
    site = dirichlet_sites(labels, groups, n_sites, alpha, seed)
    site_of = dict(zip(groups, site.tolist(), strict=True))
    sides_at: list[dict[str, int]] = []
    for number in range(n_sites):
        rows = np.flatnonzero(site == number)
        here = [groups[i] for i in rows]
        for split in (split_by_group, stable_split):
            found = check_whole(split(labels[rows], here, ratios, seed), here, ratios)
        sides_at.append(found)
    assert sum(len(found) for found in sides_at) == len(set(groups))

    labels, groups = np.concatenate([labels, new[0]]), groups + new[1]
    extended = extend_sites(labels, groups, site_of, n_sites, seed)
    assert extended.dtype == np.int64
    now: dict[str, int] = {}
    for name, number in zip(groups, extended.tolist(), strict=True):
        assert now.setdefault(name, number) == number
    assert site_of.items() <= now.items()
    for number in range(n_sites):
        rows = np.flatnonzero(extended == number)
        here = [groups[i] for i in rows]
        found = check_whole(extend_split(labels[rows], here, sides_at[number], ratios, seed), here, ratios)
        assert sides_at[number].items() <= found.items()


def test_new_groups_keep_the_sites_proportions() -> None:
    labels = np.arange(4000) % 4
    groups = [f"g{i}" for i in range(4000)]
    first = dirichlet_sites(labels[:2000], groups[:2000], 4, 0.5, 1)
    before = np.array([np.bincount(labels[:2000][first == site], minlength=4) for site in range(4)])
    known = dict(zip(groups[:2000], first.tolist(), strict=True))
    after_sites = extend_sites(labels, groups, known, 4, 1)
    after = np.array([np.bincount(labels[after_sites == site], minlength=4) for site in range(4)])
    assert np.abs(after - 2 * before).max() <= 1


def test_a_class_that_nobody_knew_goes_by_the_sites_sizes() -> None:
    known = {f"old{i}": int(i >= 75) for i in range(100)}
    groups = [*known, *(f"new{i}" for i in range(40))]
    sites = extend_sites(np.array([0] * 100 + [1] * 40), groups, known, 3, 0)
    assert np.bincount(sites[100:], minlength=3).tolist() == [30, 10, 0]


def test_what_cannot_be_extended_is_refused() -> None:
    labels, groups = np.array([0, 1, 0, 1]), ["a", "b", "c", "d"]
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: extend_split(labels, groups, {"a": 3}), "number 3.*group 'a'"),
        (lambda: extend_split(labels, groups, {"z": 0}), "none of the 1 known groups"),
        (lambda: extend_split(labels, groups, {"a": 1}, (0.5, 0.0, 0.5)), "side validation, which has share 0"),
        (lambda: extend_split(labels, groups, dict.fromkeys(groups, 0)), "side validation has no group"),
        (lambda: extend_split(labels, groups, dict.fromkeys(groups[:3], 0)), "side test has no group"),
        (lambda: extend_split(labels[:2], groups[:2], {}), "2 groups cannot fill 3 sides"),
        (lambda: extend_split(labels, groups, {}, (0.5, 0.5, 0.5)), "sum 1"),
        (lambda: extend_sites(labels, groups, {}, 2, 0), "dirichlet_sites"),
        (lambda: extend_sites(labels, groups, {"a": 2}, 2, 0), "0 to 1"),
        (lambda: extend_sites(labels, groups, {"a": 0}, 0, 0), "at least 1"),
        (lambda: stable_split(labels[:2], groups[:2]), "2 groups cannot fill 3 sides"),
        (lambda: stable_split(labels, groups, (1.2, -0.1, -0.1)), ">= 0"),
        (lambda: stable_split(labels, ["a", "", "c", "d"]), "record 1"),
    ]
    for call, words in cases:
        with pytest.raises(SplitError, match=words):
            call()


def test_a_patient_who_left_is_passed_over() -> None:
    found = side_by_group(
        extend_split([0, 1, 0, 1], list("abcd"), {"a": 2, "gone": 0}, (0.5, 0.25, 0.25)), list("abcd")
    )
    assert found["a"] == 2
