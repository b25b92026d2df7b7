"""Thresholds, the collusion bound and the ring bound."""

from __future__ import annotations

from itertools import product

import pytest
from wardround.privacy.errors import ParameterError
from wardround.privacy.secure_aggregation.parameters import (
    Block,
    Thresholds,
    check_blocks,
    choose_thresholds,
    collusion_bound,
)


@pytest.mark.parametrize(("n", "t", "c"), [(3, 2, 1), (4, 3, 1), (5, 4, 2), (8, 6, 3), (16, 11, 5), (100, 67, 33)])
def test_defaults(n, t, c):
    chosen = choose_thresholds(n)
    assert (chosen.t, chosen.m, chosen.colluding) == (t, 3, c)


@pytest.mark.parametrize(
    ("n", "t", "m"), [(2, 2, 2), (1001, 700, 3), (4, 2, 3), (4, 5, 3), (4, 3, 2), (4, 3, 5), (0, 0, 0)]
)
def test_refused(n, t, m):
    with pytest.raises(ParameterError):
        Thresholds(n, t, m)


def test_fewer_than_three_sites_are_refused_by_name():
    with pytest.raises(ParameterError, match=r"2 sites. Between 3 and 1000"):
        choose_thresholds(2)


@pytest.mark.parametrize("n", range(3, 13))
def test_more_collusion_gets_the_smallest_t_and_m_or_a_refusal(n):
    for asked in range(n + 1):
        fits = [
            (t, m)
            for t, m in product(range(choose_thresholds(n).t, n + 1), range(3, n + 1))
            if collusion_bound(n, t, m) >= asked
        ]
        if fits:
            chosen = choose_thresholds(n, colluding=asked)
            assert (chosen.t, chosen.m) == min(fits)
        else:
            with pytest.raises(ParameterError, match="cannot withstand"):
                choose_thresholds(n, colluding=asked)
            assert asked > n - 2


def test_ring_bound_names_block_and_limit():
    wide = Block("update", 10, 700.0, 20)
    with pytest.raises(ParameterError, match=r"block update.*clip of at most 127\.9") as error:
        check_blocks((Block("counts", 1, 10.0, 0), wide), 4, 4.0)
    largest = float(error.value.remedy.split()[6].rstrip(","))
    check_blocks((Block("update", 10, largest, 20),), 4, 4.0)
    with pytest.raises(ParameterError):
        check_blocks((Block("update", 10, largest + 0.001, 20),), 4, 4.0)


def test_an_unweighted_block_is_bounded_without_the_weight():
    block = Block("counts", 1, 400.0, 20, weighted=False)
    check_blocks((block,), 4, 4.0)
    with pytest.raises(ParameterError, match="overflow"):
        check_blocks((Block("counts", 1, 400.0, 20),), 4, 4.0)


@pytest.mark.parametrize(
    "arguments",
    [("", 1, 1.0), ("x", 0, 1.0), ("x", 1, 0.0), ("x", 1, float("nan")), ("x", 1, float("inf")), ("x", 1, 1.0, 31)],
)
def test_bad_blocks(arguments):
    with pytest.raises(ParameterError):
        Block(*arguments)


def test_blocks_of_one_name():
    with pytest.raises(ParameterError, match="same name"):
        check_blocks((Block("x", 1, 1.0), Block("x", 1, 1.0)), 3, 1.0)
