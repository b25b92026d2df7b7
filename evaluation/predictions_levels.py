"""Values of a column of text as codes: groups, sites and subgroups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from .arrays import IntArray
from .errors import InvalidPredictionsError
from .figures.sample import MISSING, Column
from .predictions_header import shown

MOST_LEVELS = 100
NOT_RECORDED: Final = frozenset({"", "not recorded"})


class Levels:
    """Values of one column, numbered in order of first appearance.

    Args:
        name: of the column. where: the file, for messages.
        most: different values that are accepted; None for any number.
        missing: cells that say nothing.
    """

    def __init__(self, name: str, where: str, most: int | None, missing: frozenset[str] = frozenset()) -> None:
        self.name = name
        self._where = where
        self._most = most
        self._numbers: dict[str, int] = dict.fromkeys(missing, MISSING)
        self._missing = len(missing)

    def encode(self, cells: Sequence[str]) -> IntArray:
        """Codes of cells, int64, :data:`MISSING` for those that say nothing.

        Raises:
            InvalidPredictionsError: above the most values that such a column may have.
        """
        numbers, empty = self._numbers, self._missing
        codes = np.array([numbers.setdefault(cell, len(numbers) - empty) for cell in cells], dtype=np.int64)
        if self._most is not None and len(numbers) - empty > self._most:
            raise InvalidPredictionsError(
                f"the column {shown(self.name)} has more than {self._most} different values",
                where=f"{self._where}, column {shown(self.name)}",
                remedy="Put numbers into bands first, such as 40-59; a name of a patient is a group and no subgroup",
            )
        return codes

    def column(self, codes: IntArray) -> Column:
        """The column with its values in order: text by text, numbers within it by size."""
        names = [name for name, number in self._numbers.items() if number != MISSING]
        order = sorted(range(len(names)), key=lambda index: _natural(names[index]))
        rank = np.empty(len(names) + 1, dtype=np.int64)
        rank[order] = np.arange(len(names))
        rank[-1] = MISSING  # where a code of -1 points
        return Column(tuple(names[index] for index in order), rank[codes])


def _natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    parts = re.split(r"([0-9]+)", text)
    return tuple((index % 2 == 0, int(part) if index % 2 else 0, part) for index, part in enumerate(parts))
