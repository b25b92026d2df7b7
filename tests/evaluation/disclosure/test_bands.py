"""Bands cut all counts into pieces; ranges of figures are exactly what the bands allow."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.disclosure import ranges
from wardround.evaluation.disclosure.bands import Band, InvalidBandError, band_of, outward, total
from wardround.evaluation.disclosure.published import Margins, ReliabilityRow


def test_each_count_lies_in_one_band_and_bands_do_not_depend_on_anything_else() -> None:
    bands = {band_of(count) for count in range(500)}
    assert all(sum(band.low <= count <= band.high for band in bands) == 1 for count in range(490))
    assert {band.high - band.low + 1 for band in bands if band.low > 10} == {5}
    assert [band for band in bands if band.hidden] == [Band(1, 10)]
    assert band_of(0).text == "0"
    assert band_of(1234).text == "1,231-1,235"


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (4, 3)])
def test_what_is_no_band_is_refused(low: int, high: int) -> None:
    with pytest.raises(InvalidBandError):
        Band(low, high)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(InvalidBandError):
        band_of(-1)


def test_bounds_move_outward_only() -> None:
    assert outward(0.7285, 0.9661) == outward(0.728, 0.967)
    assert (outward(0.3, 0.3).low, outward(0.3, 0.3).high) == (0.3, 0.3)
    assert (outward(0.123, 0.961, 0.05).low, outward(0.123, 0.961, 0.05).high) == (0.1, 1.0)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=4), st.booleans())
def test_rates_are_what_the_bands_allow(counts: list[int], with_margins: bool) -> None:
    """Over all matrices within the bands: the printed range holds every value, and both ends are reached."""
    matrix = [[band_of(counts[0]), band_of(counts[1])], [band_of(counts[2]), band_of(counts[3])]]
    margins = None
    if with_margins:
        missed = (band_of(counts[1]), band_of(counts[2]))
        margins = Margins(band_of(counts[1] + counts[2]), missed, missed[::-1])
    boxes = [np.arange(band.low, band.high + 1.0) for row in matrix for band in row]
    a, b, c, d = (grid.ravel() for grid in np.meshgrid(*boxes))
    if margins is not None:
        inside = (b + c >= margins.wrong.low) & (b + c <= margins.wrong.high)
        a, b, c, d = a[inside], b[inside], c[inside], d[inside]
    with np.errstate(all="ignore"):
        values = {
            "sensitivity": a / (a + b),
            "ppv": a / (a + c),
            "accuracy": (a + d) / (a + b + c + d),
            "balanced": (a / (a + b) + d / (c + d)) / 2,
        }
    of_class = ranges.class_ranges(matrix, 0, margins)
    found = {
        "sensitivity": of_class.sensitivity,
        "ppv": of_class.ppv,
        "balanced": ranges.balanced_accuracy(matrix, margins),
        "accuracy": ranges.accuracy(matrix, margins),
    }
    for name, between in found.items():
        if between is None:
            assert name == "balanced" or np.isnan(values[name]).any()
            continue
        assert between.low <= np.nanmin(values[name]) + 1e-9
        assert between.high >= np.nanmax(values[name]) - 1e-9
        if margins is None:
            assert between.low == pytest.approx(np.nanmin(values[name]), abs=2e-3)
            assert between.high == pytest.approx(np.nanmax(values[name]), abs=2e-3)


def test_macro_f1_reaches_both_ends() -> None:
    matrix = [[band_of(12), band_of(3)], [band_of(0), band_of(20)]]
    found = []
    for a, b, d in product(range(11, 16), range(1, 11), range(16, 21)):
        found.append((2 * a / (2 * a + b) + 2 * d / (2 * d + b)) / 2)
    assert ranges.macro_f1(matrix) == outward(min(found), max(found))


def test_calibration_error_is_what_the_bands_allow() -> None:
    rows = (
        ReliabilityRow(0.5, 0.6, band_of(3), band_of(2)),
        ReliabilityRow(0.9, 1.0, band_of(12), band_of(0), 0.94),
    )
    found = []
    for a, b, c in product(range(1, 11), range(1, 11), range(11, 16)):
        for first, second in product((0.5, 0.55, 0.6), (0.935, 0.94, 0.945)):
            found.append((abs(a - first * (a + b)) + abs(c - second * c)) / (a + b + c))
    between = ranges.calibration_error(rows)
    assert between is not None
    assert between.high == pytest.approx(max(found), abs=1.1e-3)
    assert between.low <= min(found) + 1e-9
    assert between.low == pytest.approx(min(found), abs=6e-3)  # the grid above is coarse in confidence
    assert ranges.calibration_error((ReliabilityRow(0.0, 0.1, Band(0, 0), Band(0, 0)),)) is None


def test_a_wide_range_has_no_middle() -> None:
    assert ranges.shown(outward(0.7, 0.95)) is None
    assert ranges.shown(outward(0.85, 0.95)) == 0.9
    assert ranges.shown(None) is None
    assert total([]).text == "0"
