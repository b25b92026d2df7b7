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


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_a_sum_over_two_sites_needs_noise_at_every_site(n):
    with pytest.raises(ParameterError, match=rf"m = 2 with n = {n} sites. Choose between 3 and {n}"):
        Thresholds(n, choose_thresholds(n).t, 2)
    with pytest.raises(ParameterError, match="m = 2"):
        choose_thresholds(n, m=2)
    private = choose_thresholds(n, m=2, private=True)
    assert (private.t, private.m, private.private) == (choose_thresholds(n).t, 2, True)
    assert private.least == max(private.t, 2)
    assert private.colluding == collusion_bound(n, private.t, 2)
    with pytest.raises(ParameterError, match=rf"m = 1 with n = {n} sites. Choose between 2 and {n}"):
        Thresholds(n, private.t, 1, private=True)


def test_noise_changes_neither_the_default_cohort_nor_the_bounds_of_the_threshold():
    assert choose_thresholds(3, private=True).m == choose_thresholds(3).m == 3
    assert choose_thresholds(3, m=2, private=True).least == 2  # one dropout of three is survived
    assert choose_thresholds(3, m=2, private=True).colluding == 0
    for n, t in ((4, 2), (4, 5), (2, 2)):
        with pytest.raises(ParameterError):
            Thresholds(n, t, 2, private=True)


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


def test_the_limit_is_the_reach_or_what_the_bits_hold():
    full, packed = Block("x", 1, 1.0, 6), Block("x", 1, 1.0, 6, bits=8)
    assert [block.reach(1.0) for block in (full, packed)] == [65, 65]
    assert [block.limit(1.0) for block in (full, packed)] == [65, 65]
    assert [block.reach(1.99) for block in (full, packed)] == [128, 128]
    assert [block.limit(1.99) for block in (full, packed)] == [128, 127]
    assert Block("x", 1, 4.0, 30).limit(1.0) == 2**31 - 1  # such a block is refused for any number of sites
    with pytest.raises(ParameterError, match="overflow"):
        check_blocks((Block("x", 1, 4.0, 30),), 3, 1.0)


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
