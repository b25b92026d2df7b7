"""Splits and partitions over groups: a patient, lesion or near-duplicate cluster is never divided.

Both functions depend only on the seed, the group names and the labels in each group, not on the order of records,
the time or the machine: the same cohort read elsewhere is divided the same way.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import SplitError

_DRAWS = 200


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the records on each side, int64, rising; together every record exactly once."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups in the order of their names.

    Attributes:
        names: distinct group names, sorted.
        of_record: int64 (n,), group number of each record.
        counts: int64 (n_groups, n_classes), images of each class in each group.
        order: int64 (n_groups,), large groups first, equal sizes in an order drawn from the seed.
    """

    names: tuple[str, ...]
    of_record: NDArray[np.int64]
    counts: NDArray[np.int64]
    order: NDArray[np.int64]


def split_by_group(
    labels: ArrayLike,
    groups: Sequence[str],
    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> Split:
    """Divide records into training, validation and test, whole groups at a time and stratified by class.

    Groups are dealt one by one, large ones first, to the side that then deviates least from the wanted class counts
    (sum over sides and classes of (count - wanted)^2 / wanted, Pearson's chi-square). Ratios are met as nearly as
    the sizes of the groups allow.

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
    grouped = group_records(labels, groups, seed, "split")
    n_groups = len(grouped.counts)
    check_enough(n_groups, len(sides))
    wanted = np.outer([ratios[side] for side in sides], grouped.counts.sum(axis=0)).astype(np.float64)
    assigned = np.zeros(n_groups, dtype=np.int64)
    deal(assigned, grouped.order.tolist(), grouped, np.zeros_like(wanted), wanted)
    fill_sides(assigned, grouped, len(sides), 1)
    return split_of_sides(np.array(sides, dtype=np.int64)[assigned][grouped.of_record])


def dirichlet_sites(
    labels: ArrayLike,
    groups: Sequence[str],
    n_sites: int,
    alpha: float,
    seed: int,
    *,
    min_groups: int = 3,
) -> NDArray[np.int64]:
    """Partition records over sites with label skew, whole groups at a time.

    For every class the shares of the sites are drawn from a symmetric Dirichlet distribution (T.-M. H. Hsu, H. Qi,
    M. Brown, Measuring the effects of non-identical data distribution, 2019, section 3, drawn per class). Shares
    that would leave a site with under a tenth of an equal part are drawn again, at most 200 times; then the draw
    with the largest smallest site is taken, and groups move from the largest site until each has ``min_groups``.

    Args:
        labels: integers (n,), >= 0.
        groups: n group names, not empty.
        n_sites: number of sites, >= 1.
        alpha: concentration, > 0; small values skew more, 100 is nearly even.
        seed: any integer.
        min_groups: groups that every site gets at least, >= 1; 3 allow training, validation and test.

    Returns:
        int64 array (n,), the site of each record, 0 to n_sites - 1.

    Raises:
        SplitError: bad arguments, or fewer than ``n_sites * min_groups`` groups.
    """
    if n_sites < 1 or min_groups < 1:
        raise SplitError(f"n_sites and min_groups must be at least 1, not {n_sites} and {min_groups}")
    if not (math.isfinite(alpha) and alpha > 0):
        raise SplitError(f"alpha must be a number above 0, not {alpha}", where="alpha", remedy="e.g. 0.6")
    grouped = group_records(labels, groups, seed, "dirichlet")
    n_groups = len(grouped.counts)
    if n_groups < n_sites * min_groups:
        raise SplitError(
            f"{n_groups} groups cannot give {n_sites} sites {min_groups} groups each",
            where="groups",
            remedy="use fewer sites, or data with more patients or lesions",
        )
    totals = grouped.counts.sum(axis=0)
    wanted = _draw_shares(n_sites, alpha, totals, seed) * totals
    assigned = np.zeros(n_groups, dtype=np.int64)
    for group in grouped.order.tolist():
        count = grouped.counts[group]
        # To the site that still lacks most of what the group holds: class counts end within a group's size.
        site = int(np.argmax(wanted @ count))
        assigned[group] = site
        wanted[site] -= count
    fill_sides(assigned, grouped, n_sites, min_groups)
    return assigned[grouped.of_record]


def sides_of(ratios: tuple[float, float, float]) -> list[int]:
    """Sides with a share above 0, of 0 (training), 1 (validation) and 2 (test).

    Raises:
        SplitError: not three numbers >= 0 with sum 1.
    """
    if len(ratios) != 3 or not all(math.isfinite(share) and share >= 0 for share in ratios):
        raise SplitError(f"ratios must be three numbers >= 0, not {ratios}", where="ratios")
    if abs(sum(ratios) - 1.0) > 1e-6:
        raise SplitError(
            f"ratios must have the sum 1, not {sum(ratios):g}", where="ratios", remedy="e.g. (0.8, 0.1, 0.1)"
        )
    return [side for side in range(3) if ratios[side] > 0]


def check_enough(n_groups: int, n_sides: int) -> None:
    """Refuse fewer groups than sides.

    Raises:
        SplitError: there are.
    """
    if n_groups < n_sides:
        raise SplitError(
            f"{n_groups} groups cannot fill {n_sides} sides",
            where="groups",
            remedy="add patients or lesions, or set the share of a side to 0",
        )


def split_of_sides(side_of_record: NDArray[np.int64]) -> Split:
    """The split whose record ``i`` is on side ``side_of_record[i]``: 0 training, 1 validation, 2 test."""
    train, validation, test = (np.flatnonzero(side_of_record == side).astype(np.int64) for side in range(3))
    return Split(train, validation, test)


def deal(
    assigned: NDArray[np.int64],
    order: Sequence[int],
    grouped: Groups,
    have: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> None:
    """Assign the groups of ``order`` one by one, in place, to the side that then deviates least from ``wanted``.

    Args:
        assigned: int64 (n_groups,), written for the groups in ``order``.
        order: group numbers.
        grouped: the groups.
        have: (n_sides, n_classes), images that each side has already; the dealt ones are added in place.
        wanted: (n_sides, n_classes), images that each side shall have, >= 0.
    """
    wanted = np.maximum(wanted, 1e-9)  # a class without images has no group that could touch its column
    for group in order:
        count = grouped.counts[group]
        # The change of (have - wanted)^2 / wanted when the group is added to each side.
        cost = (count * (2.0 * (have - wanted) + count) / wanted).sum(axis=1)
        side = int(np.argmin(cost))
        assigned[group] = side
        have[side] += count


def _draw_shares(n_sites: int, alpha: float, totals: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Shares (n_sites, n_classes), columns with sum 1."""
    generator = np.random.default_rng(number_of("dirichlet shares", seed))
    enough = 0.1 * float(totals.sum()) / n_sites
    best, best_size = np.full((n_sites, len(totals)), 1.0 / n_sites), -1.0
    for _ in range(_DRAWS):
        shares = generator.dirichlet(np.full(n_sites, alpha), size=len(totals)).T
        smallest = float((shares @ totals).min())
        if np.isfinite(shares).all() and smallest > best_size:
            best, best_size = shares, smallest
        if best_size >= enough:
            break
    return best


def fill_sides(assigned: NDArray[np.int64], grouped: Groups, n_sides: int, at_least: int) -> None:
    """Move groups, in place, until each side has ``at_least``; there are enough groups for that."""
    sizes = np.bincount(assigned, minlength=n_sides)
    for side in range(n_sides):
        while sizes[side] < at_least:
            donor = int(np.argmax(sizes))
            # The smallest groups come last in the order: moving one changes the shares least.
            moved = next(group for group in grouped.order[::-1].tolist() if assigned[group] == donor)
            assigned[moved] = side
            sizes[donor] -= 1
            sizes[side] += 1


def group_records(labels: ArrayLike, groups: Sequence[str], seed: int, purpose: str) -> Groups:
    """Groups of records, counted by class.

    Args:
        labels: integers (n,), >= 0.
        groups: n group names, not empty.
        seed, purpose: fix the order of groups of like size.

    Raises:
        SplitError: labels are no integers >= 0, there are none, or groups are missing or without a name.
    """
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or len(numbers) == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise SplitError(
            f"labels must be integers in one dimension, not {numbers.dtype} of shape {numbers.shape}",
            where="labels",
            remedy="give one label for every record; an empty cohort cannot be divided",
        )
    if len(groups) != len(numbers):
        raise SplitError(f"{len(numbers)} labels but {len(groups)} groups", where="groups")
    if numbers.min() < 0:
        raise SplitError(f"labels must be >= 0, the smallest is {numbers.min()}", where="labels")
    unnamed = next((index for index, name in enumerate(groups) if not name), None)
    if unnamed is not None:
        raise SplitError(
            "the group name is empty", where=f"record {unnamed}", remedy="name the patient, lesion or group"
        )
    # Python's own sort, not numpy's: numpy drops trailing NULs of strings, which would merge two names.
    names = sorted(set(groups))
    index = {name: number for number, name in enumerate(names)}
    of_record = np.array([index[name] for name in groups], dtype=np.int64)
    counts = np.zeros((len(names), int(numbers.max()) + 1), dtype=np.int64)
    np.add.at(counts, (of_record, numbers), 1)
    # Sizes by powers of two: exact order by size would send the same few groups to the same side at every seed.
    sizes = counts.sum(axis=1).tolist()
    keys = [(-size.bit_length(), number_of(purpose, seed, name)) for size, name in zip(sizes, names, strict=True)]
    order = sorted(range(len(names)), key=keys.__getitem__)
    return Groups(tuple(names), of_record, counts, np.array(order, dtype=np.int64))


def number_of(purpose: str, seed: int, name: str = "") -> int:
    """128 bits from a purpose, a seed and a name; equal on every machine and Python."""
    text = f"wardround/{purpose}/{seed}/{name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:16], "big")
