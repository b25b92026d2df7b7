"""The occlusion map, pixel by pixel and in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from wardround.evaluation.cases.occlusion import LEAST, covered, drops, edges, log_odds, places
from wardround.evaluation.errors import InvalidPredictionsError


@pytest.mark.parametrize(("size", "grid"), [(7, 7), (16, 3), (128, 7), (225, 7), (10, 1)])
def test_squares_cover_a_side_once_and_evenly(size: int, grid: int) -> None:
    found = edges(size, grid)
    assert found[0] == 0
    assert found[-1] == size
    widths = np.diff(found)
    assert len(widths) == grid
    assert widths.max() - widths.min() <= 1


def test_fewer_pixels_than_squares_are_refused() -> None:
    with pytest.raises(InvalidPredictionsError, match="6 pixels cannot be cut into 7"):
        edges(6)


def test_covered_pictures_differ_in_their_own_square_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    found = covered(picture, 4)
    assert found.shape == (16, 11, 9, 3)
    for at in range(16):
        for y in range(11):
            for x in range(9):
                inside = (4 * y + 3) // 11, (4 * x + 3) // 9  # floor(k * size / 4) <= y picks the last such k
                for channel in range(3):
                    expected = int(picture[y, x, channel])
                    if inside == divmod(at, 4):
                        expected = round(float(picture[:, :, channel].astype(float).mean()))
                    assert found[at, y, x, channel] == expected, (at, y, x)


def test_log_odds_are_those_of_the_class_against_the_rest() -> None:
    p = np.random.default_rng(1).dirichlet((1.0, 1.0, 1.0, 1.0), 20)
    for label in range(4):
        expected = [math.log(row[label] / (1 - row[label])) for row in p]
        np.testing.assert_allclose(log_odds(p, label), expected, atol=1e-12)
    sure = np.array([[1.0, 1e-20], [1.0, 1e-25], [1.0, 0.0], [0.0, 1.0]])
    odds = log_odds(sure, 0)
    assert np.isfinite(odds).all()
    assert odds[0] < odds[1] < odds[2]
    assert odds[3] == -odds[2]


def test_drops_are_uncovered_minus_covered_in_the_order_of_the_squares() -> None:
    p = np.random.default_rng(2).dirichlet((1.0, 2.0), 10)
    found = drops(p, 1, 3)
    for r in range(3):
        for c in range(3):
            before, after = p[0, 1], p[1 + 3 * r + c, 1]
            assert found[r, c] == pytest.approx(math.log(before / (1 - before)) - math.log(after / (1 - after)))
    with pytest.raises(InvalidPredictionsError, match="10 rows of probabilities instead of 50"):
        drops(p, 1)


@pytest.mark.parametrize(
    ("strong", "said"),
    [
        ({(0, 0): 1.0}, ("upper left",)),
        ({(3, 3): 1.0}, ("centre",)),
        ({(6, 6): 1.0, (0, 3): 0.6}, ("lower right", "upper middle")),
        ({(6, 0): 1.0, (6, 6): 0.4}, ("lower left",)),
        ({(3, 6): LEAST}, ("middle right",)),
        ({(3, 6): LEAST - 0.01}, ()),
        ({}, ()),
    ],
)
def test_places_name_where_at_least_half_of_the_largest_drop_is(
    strong: dict[tuple[int, int], float], said: tuple[str, ...]
) -> None:
    values = np.full((7, 7), -0.5)
    for (r, c), value in strong.items():
        values[r, c] = value
    assert places(values) == said
