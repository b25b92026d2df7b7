"""Splits that hardly change when images are added, and splits and sites that are extended without any change.

A side that is a function of each group alone never changes, but is stratified only in expectation; a split that meets
the ratios in every class must move some groups when others come, unless it remembers what it did. So there are two:
:func:`stable_split` remembers nothing, meets the ratios within one group a class and moves few;
:func:`extend_split` is given the former sides, and moves none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import SplitError
from .splits import Groups, Split, check_enough, deal, group_records, number_of, sides_of, split_of_sides

_TRAIN, _VALIDATION, _TEST = range(3)
_NAMES: Final = ("training", "validation", "test")
# Test first and training last: their common border is then the end of the line, which no added group shifts, and a
# group that drifts over one of the other two borders goes to or from validation.
_ON_THE_LINE: Final = (_TEST, _VALIDATION, _TRAIN)
_GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


def stable_split(
    labels: ArrayLike,
    groups: Sequence[str],
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Split:
    """Divide records as :func:`..splits.split_by_group` does, so that few groups change sides when others are added.

    A group's stratum is its most frequent class (of equals, the smallest label). In each stratum the groups lie on a
    line, as long as their images and in the order of a hash of seed and name; a group is on the side in whose stretch
    one point of it lies, at the same fraction w of every group (systematic sampling with a random start, W. G. Cochran,
    Sampling Techniques, 3rd ed. 1977, section 8.1). So every side of a stratum has the wanted number of images to
    within the largest group, and exactly in expectation over w. As a stratum grows, a group's place on the line tends
    to its own hash: adding k groups to n shifts the border at a share t by about sqrt(k t (1 - t)) groups. The border
    between test and training is the end of the line and does not shift.

    Args:
        labels: integers (n,), >= 0.
        groups: n group names, not empty.
        ratios: shares of training, validation and test, each >= 0 with sum 1; a share of 0 gives an empty side.
        seed: any integer.

    Returns:
        The split; every side with a share above 0 has at least one group.

    Raises:
        SplitError: bad arguments, or fewer groups than sides.
    """
    sides = sides_of(ratios)
    grouped = group_records(labels, groups, seed, "stable split")
    check_enough(len(grouped.counts), len(sides))
    places = _places(grouped, seed)
    stretches = _stretches(ratios, sides)
    # Right of every border but the last: a place at or beyond the end falls to the last side.
    ends = np.array([end for _, _, end in stretches[:-1]])
    on_the_line = np.array([side for side, _, _ in stretches], dtype=np.int64)
    assigned = on_the_line[np.searchsorted(ends, places, side="right")]
    _fill_nearest(assigned, places, stretches)
    return split_of_sides(assigned[grouped.of_record])


def extend_split(
    labels: ArrayLike,
    groups: Sequence[str],
    known: Mapping[str, int],
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Split:
    """The split of a cohort that has grown: groups of the former split keep their sides, new ones fill up what lacks.

    New groups are dealt by the rule of :func:`..splits.split_by_group`, counting what the known ones already give to
    each side; with nothing known the result is that function's.

    Args:
        labels: integers (n,), >= 0.
        groups: n group names, not empty.
        known: side of each group of the former split, 0 training, 1 validation, 2 test. Groups that are no longer in
            the cohort are passed over.
        ratios: shares of training, validation and test, each >= 0 with sum 1; a share of 0 gives an empty side.
        seed: any integer.

    Returns:
        The split; every side with a share above 0 has at least one group.

    Raises:
        SplitError: bad arguments; a known group is on a side of share 0; none of the known groups is in the cohort; or
            a side stays empty because there are too few new groups.
    """
    sides = sides_of(ratios)
    grouped = group_records(labels, groups, seed, "split")
    assigned, new = _recall(grouped, known, 3)
    column = {side: index for index, side in enumerate(sides)}
    lost = next((side for side in sorted(set(assigned[assigned >= 0].tolist())) if side not in column), None)
    if lost is not None:
        raise SplitError(
            f"groups of the former split are on the side {_NAMES[lost]}, which has share 0",
            where="ratios",
            remedy="give the side a share above 0, or make a new split",
        )
    if not known:
        check_enough(len(grouped.counts), len(sides))
    dealt = np.array([column[side] if side >= 0 else -1 for side in assigned.tolist()], dtype=np.int64)
    have = _held(dealt, grouped, len(sides))
    wanted = np.outer([ratios[side] for side in sides], grouped.counts.sum(axis=0)).astype(np.float64)
    deal(dealt, new, grouped, have, wanted)
    sizes = np.bincount(dealt, minlength=len(sides))
    movable = new[::-1]  # the smallest come last in the order: moving one changes the shares least
    for side in np.flatnonzero(sizes == 0).tolist():
        donors = sorted({int(dealt[group]) for group in movable if sizes[dealt[group]] > 1})
        if not donors:
            raise SplitError(
                f"the side {_NAMES[sides[side]]} has no group, and there is no new one to give it",
                where="groups",
                remedy="known groups keep their sides: add patients or lesions, or make a new split",
            )
        donor = max(donors, key=sizes.__getitem__)
        moved = next(group for group in movable if dealt[group] == donor)
        dealt[moved] = side
        sizes[donor] -= 1
        sizes[side] += 1
    return split_of_sides(np.array(sides, dtype=np.int64)[dealt][grouped.of_record])


def extend_sites(
    labels: ArrayLike, groups: Sequence[str], known: Mapping[str, int], n_sites: int, seed: int
) -> NDArray[np.int64]:
    """Sites of a cohort that has grown, in the proportions that the sites have: known groups keep their sites.

    A site's share of a class is its share of the known groups' images of it; of a class that none of them has, its
    share of all their images. New groups go to the site that then lacks most of what they hold, as in
    :func:`..splits.dirichlet_sites`.

    Args:
        labels: integers (n,), >= 0.
        groups: n group names, not empty.
        known: site of each group of the former partition, 0 to ``n_sites`` - 1. Groups that are no longer in the
            cohort are passed over.
        n_sites: number of sites, >= 1.
        seed: any integer.

    Returns:
        int64 array (n,), the site of each record.

    Raises:
        SplitError: bad arguments, or none of the known groups is in the cohort.
    """
    if n_sites < 1:
        raise SplitError(f"n_sites must be at least 1, not {n_sites}", where="n_sites")
    if not known:
        raise SplitError(
            "no group has a site yet, so the sites have no proportions to keep",
            where="known",
            remedy="make the sites with dirichlet_sites",
        )
    grouped = group_records(labels, groups, seed, "dirichlet")
    assigned, new = _recall(grouped, known, n_sites)
    have = _held(assigned, grouped, n_sites)
    of_class = have.sum(axis=0)
    overall = have.sum(axis=1, keepdims=True) / have.sum()
    shares = np.where(of_class > 0, have / np.maximum(of_class, 1.0), overall)
    lacking = shares * grouped.counts.sum(axis=0) - have
    for group in new:
        count = grouped.counts[group]
        site = int(np.argmax(lacking @ count))
        assigned[group] = site
        lacking[site] -= count
    return assigned[grouped.of_record]


def _places(grouped: Groups, seed: int) -> NDArray[np.float64]:
    """Where the fraction w of each group lies on its stratum's line, float64 (n_groups,), in [0, 1)."""
    sizes = grouped.counts.sum(axis=1)
    strata = grouped.counts.argmax(axis=1)  # of equals the first: the smallest label
    keys = [number_of("stable split", seed, name) for name in grouped.names]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    start = number_of("stable start", seed) / 2**128
    places = np.zeros(len(keys))
    for stratum in np.unique(strata).tolist():
        members = order[strata[order] == stratum]
        before = np.cumsum(sizes[members]) - sizes[members]
        # Starts of neighbouring strata spread evenly, so that what several small strata round off does not add up.
        fraction = (start + stratum * _GOLDEN) % 1.0
        places[members] = (before + fraction * sizes[members]) / sizes[members].sum()
    return places


def _stretches(ratios: tuple[float, float, float], sides: list[int]) -> list[tuple[int, float, float]]:
    """(side, begin, end) along the line, for sides with a share."""
    stretches = []
    begin = 0.0
    for side in _ON_THE_LINE:
        if side in sides:
            stretches.append((side, begin, begin + ratios[side]))
            begin += ratios[side]
    return stretches


def _fill_nearest(
    assigned: NDArray[np.int64], places: NDArray[np.float64], stretches: list[tuple[int, float, float]]
) -> None:
    """Give each empty side, in place, the group of the side with most groups that lies nearest to its stretch."""
    sizes = np.bincount(assigned, minlength=3)
    for side, begin, end in stretches:
        if sizes[side]:
            continue
        donor = int(np.argmax(sizes))
        distance = np.maximum(np.maximum(begin - places, places - end), 0.0)
        moved = int(np.argmin(np.where(assigned == donor, distance, np.inf)))
        assigned[moved] = side
        sizes[donor] -= 1
        sizes[side] += 1


def _recall(grouped: Groups, known: Mapping[str, int], limit: int) -> tuple[NDArray[np.int64], list[int]]:
    """Known numbers of the groups, int64 (n_groups,) with -1 for new ones; and the new ones in the order of dealing."""
    for name, number in known.items():
        if not 0 <= number < limit:
            raise SplitError(
                f"a group is known under the number {number}, which must be 0 to {limit - 1}",
                where=f"group {name!r}",
                remedy="give the former split of this study",
            )
    assigned = np.array([known.get(name, -1) for name in grouped.names], dtype=np.int64)
    if known and (assigned < 0).all():
        raise SplitError(
            f"none of the {len(known)} known groups is in the cohort",
            where="known",
            remedy="check that split and images are of one data set; or make a new split",
        )
    return assigned, [group for group in grouped.order.tolist() if assigned[group] < 0]


def _held(assigned: NDArray[np.int64], grouped: Groups, n_sides: int) -> NDArray[np.float64]:
    """Images of each class that the assigned groups give to each side, float64 (n_sides, n_classes)."""
    have = np.zeros((n_sides, grouped.counts.shape[1]))
    there = assigned >= 0
    np.add.at(have, assigned[there], grouped.counts[there])
    return have
