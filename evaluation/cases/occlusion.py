"""What a model attends to, asked of it: cover one square of the picture after the other and see what is lost.

Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2 (occlusion sensitivity).
Here the score is the log odds of the called class after calibration. It needs no gradient, so it is the same for every
encoder, and it says something that can be checked by hand: "with this square covered, the answer would have been 54 %".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import FloatArray, IntArray
from ..errors import InvalidPredictionsError

GRID = 7
"""Squares along each side: 49 encodings a picture."""
LEAST = 0.25
"""A drop of the log odds under this is no finding: it moves 50 % to 44 % at most."""
_SMALLEST = 1e-30
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


def edges(size: int, grid: int = GRID) -> IntArray:
    """Where the squares along one side begin and end: (grid + 1,) int64 from 0 to ``size``, as even as pixels allow.

    Raises:
        InvalidPredictionsError: fewer pixels than squares.
    """
    if size < grid or grid < 1:
        raise InvalidPredictionsError(
            f"a side of {size} pixels cannot be cut into {grid} squares", remedy="Use a coarser grid"
        )
    return (np.arange(grid + 1, dtype=np.int64) * size) // grid


def covered(picture: NDArray[np.uint8], grid: int = GRID) -> NDArray[np.uint8]:
    """The picture once for every square, with that square painted in the picture's mean colour.

    The mean is the least telling colour: black or white would be a structure of its own.

    Args:
        picture: (H, W, 3) uint8, the model's input. grid: squares along each side.

    Returns:
        (grid * grid, H, W, 3) uint8, rows from the top, columns from the left.
    """
    rows, columns = edges(picture.shape[0], grid), edges(picture.shape[1], grid)
    mean = np.rint(picture.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    stack = np.repeat(picture[None], grid * grid, axis=0)
    for at in range(grid * grid):
        r, c = divmod(at, grid)
        stack[at, rows[r] : rows[r + 1], columns[c] : columns[c + 1]] = mean
    return stack


def log_odds(probabilities: ArrayLike, label: int) -> FloatArray:
    """Log odds of one class: (n, K) probabilities -> (n,) float64, in nats.

    The odds are against the sum of the other classes, which keeps digits where 1 - p has none. Both are held above
    1e-30, so that a calibration that says 0 or 1 gives a finite number.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    own = p[:, label]
    rest = np.delete(p, label, axis=1).sum(axis=1)
    return np.asarray(np.log(np.maximum(own, _SMALLEST)) - np.log(np.maximum(rest, _SMALLEST)), dtype=np.float64)


def drops(probabilities: ArrayLike, label: int, grid: int = GRID) -> FloatArray:
    """The map of one picture.

    Args:
        probabilities: (1 + grid * grid, K): of the picture itself, then of :func:`covered`.
        label: the called class.

    Returns:
        (grid, grid) float64: log odds uncovered minus covered.
    """
    odds = log_odds(probabilities, label)
    if odds.shape != (1 + grid * grid,):
        raise InvalidPredictionsError(f"{len(odds)} rows of probabilities instead of {1 + grid * grid}")
    return np.asarray((odds[0] - odds[1:]).reshape(grid, grid), dtype=np.float64)


def places(given: ArrayLike) -> tuple[str, ...]:
    """Where a map is strong, in words, strongest first: thirds of the picture that hold a square over half the largest.

    Left and right are those of the picture. Empty where no square reaches ``LEAST``.
    """
    values = np.asarray(given, dtype=np.float64)
    top = float(values.max())
    if top < LEAST:
        return ()
    found: dict[str, float] = {}
    grid = len(values)
    for r, c in zip(*np.nonzero(values >= top / 2), strict=True):
        name = _place(int(3 * (r + 0.5) / grid), int(3 * (c + 0.5) / grid))
        found[name] = max(found.get(name, 0.0), float(values[r, c]))
    return tuple(sorted(found, key=lambda name: (-found[name], name)))


def _place(row: int, column: int) -> str:
    return "centre" if row == column == 1 else f"{_ROWS[row]} {_COLUMNS[column]}"
