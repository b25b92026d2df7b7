"""Which rows belong to which unit, and which of them a step sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.units import Units
from wardround.privacy.errors import MechanismError

KEY = bytes(range(32))


def test_groups_are_numbered_by_first_appearance_and_forgotten():
    units = Units.of_groups(["p7", "p1", "p7", "p3", "p1"])
    assert units.count == 3
    np.testing.assert_array_equal(units.owners, [0, 1, 0, 2, 1])
    assert units.owners.dtype == np.int64
    assert "p7" not in repr(units)


def test_records_are_units_of_their_own():
    units = Units.records(4)
    assert units.count == 4
    np.testing.assert_array_equal(units.owners, np.arange(4))


def test_owners_cannot_be_changed():
    given_owners = np.array([0, 1, 1])
    units = Units(given_owners, 3)
    given_owners[0] = 2
    np.testing.assert_array_equal(units.owners, [0, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        units.owners[0] = 1
    with pytest.raises(AttributeError):
        units.count = 5  # type: ignore[misc]


def test_a_unit_without_rows_keeps_its_slot():
    units = Units(np.array([2, 0]), 4)
    rows, positions = units.rows_of(np.array([1, 2, 3]), 5, SecretStream(KEY))
    np.testing.assert_array_equal(rows, [0])
    np.testing.assert_array_equal(positions, [1])


@given(
    owners=st.lists(st.integers(0, 6), max_size=40),
    chosen=st.lists(st.integers(0, 6), max_size=7, unique=True),
    most=st.integers(1, 5),
)
def test_rows_are_some_of_each_units_own(owners, chosen, most):
    units = Units(np.array(owners, dtype=np.int64), 7)
    rows, positions = units.rows_of(np.array(chosen, dtype=np.int64), most, SecretStream(KEY))
    assert rows.dtype == positions.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(positions) >= 0).all()
    for place, unit in enumerate(chosen):
        own = {row for row, owner in enumerate(owners) if owner == unit}
        seen = set(rows[positions == place].tolist())
        assert seen <= own
        assert len(seen) == min(len(own), most)


def test_the_choice_among_a_units_rows_is_uniform_and_of_each_unit_alone():
    units, stream = Units(np.array([0] * 5 + [1] * 2 + [2] * 4), 3), SecretStream(KEY)
    pairs = []
    for _ in range(4_000):
        rows, positions = units.rows_of(np.array([2, 0]), 2, stream)
        assert positions.tolist() == [0, 0, 1, 1]
        pairs.append((tuple(sorted(rows[:2].tolist())), tuple(sorted(rows[2:].tolist()))))
    firsts, seconds = sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})
    assert (len(firsts), len(seconds)) == (6, 10)
    table = np.zeros((6, 10))
    for first, second in pairs:
        table[firsts.index(first), seconds.index(second)] += 1
    assert stats.chisquare(table.sum(axis=0)).pvalue > 1e-3
    assert stats.chisquare(table.sum(axis=1)).pvalue > 1e-3
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_an_empty_sample_has_no_rows():
    rows, positions = Units.records(3).rows_of(np.zeros(0, dtype=np.int64), 1, SecretStream(KEY))
    assert rows.shape == positions.shape == (0,)


@pytest.mark.parametrize(
    ("owners", "count", "match"),
    [([], 0, "0 units"), ([0, 3], 3, "units 0 to 3 of 3"), ([-1], 2, "units -1"), ([[0]], 2, "shape")],
)
def test_owners_that_do_not_fit_are_refused(owners, count, match):
    with pytest.raises(MechanismError, match=match):
        Units(np.array(owners, dtype=np.int64), count)
    with pytest.raises(MechanismError, match="0 units"):
        Units.of_groups([])


@pytest.mark.parametrize(
    ("chosen", "most", "match"),
    [([0], 0, "at most 0"), ([3], 1, "units 3"), ([-1], 1, "units -1"), ([1, 1], 1, "twice")],
)
def test_choices_that_do_not_fit_are_refused(chosen, most, match):
    with pytest.raises(MechanismError, match=match):
        Units.records(3).rows_of(np.array(chosen), most, SecretStream(KEY))
