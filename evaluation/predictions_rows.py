"""Rows of a predictions file as arrays, block by block, and the first fault with its line and column.

A block is first converted column by column, which is fast and says only whether all of it is sound. Where it is not,
:meth:`RowReader._examine` looks at one row after the other, which is slow and can name the fault. The two agree because
they share the conversion of a number and the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .arrays import FloatArray, IntArray
from .predictions_header import PREFIX, SHOWN, Layout, listed, nearest, shown
from .predictions_levels import MOST_LEVELS, NOT_RECORDED, Levels

SPLITS: Final = ("validation", "test", "train")
ROUNDING = 0.0005
LARGEST_TOLERANCE = 0.01
INEXACT = 1e-6
_SLACK = 1e-9  # rounding of the sum itself

Row = list[str]


def sum_tolerance(k: int) -> float:
    """How far from 1 ``k`` probabilities may sum: what rounding to three decimals can do, at most 0.01."""
    return min(ROUNDING * k, LARGEST_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row: the line that it begins on, the column in words ('' for all), and what to do."""

    line: int
    column: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Block:
    """Sound rows: probabilities (n, K) as written, labels (n,) and codes (n,) of each wanted column."""

    probabilities: FloatArray
    labels: IntArray
    codes: dict[int, IntArray]


class _UnsoundError(Exception):
    """Some row of a block has a fault."""


def _number(cell: str) -> float:
    """A decimal number in ASCII. Raises ValueError for all else, also for the underscores that Python allows."""
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return float(cell)


def _total(columns: Sequence[FloatArray]) -> FloatArray:
    """The sum of each row, always added in the same order."""
    total = columns[0].copy()
    for column in columns[1:]:
        total += column
    return total


class RowReader:
    """Turns blocks of rows into arrays and counts what cannot be used.

    Args:
        layout: what the header says. where: the file, for messages.

    Attributes:
        fault: the first one; None as long as all is sound. faulty: rows with one.
        rows: rows seen, but for empty ones at the end. levels: of columns whose values become codes, by column number.
    """

    def __init__(self, layout: Layout, where: str) -> None:
        self.layout = layout
        self.fault: Fault | None = None
        self.faulty = 0
        self.rows = 0
        self.levels: dict[int, Levels] = {}
        if layout.group is not None:
            self.levels[layout.group] = Levels(layout.names[layout.group], where, None)
        for index in (*layout.subgroups, *(() if layout.site is None else (layout.site,))):
            self.levels[index] = Levels(layout.names[index], where, MOST_LEVELS, NOT_RECORDED)
        self._tolerance = sum_tolerance(len(layout.classes)) + _SLACK
        self._labels = {name: number for number, name in enumerate(layout.classes)}
        self._splits = {name: number for number, name in enumerate(SPLITS)}
        self._mark = ""  # the decimal mark: '.' or ',', '' until one has been seen
        self._empty: list[int] = []  # lines of empty rows that are a fault only if more rows follow

    def read(self, rows: list[Row], lines: Sequence[int]) -> Block | None:
        """The block as arrays; None where a row is faulty, now or before: then :attr:`fault` and the counts go on.

        Args:
            rows: cells. lines: the line of the file on which each row begins, from 1.

        Raises:
            InvalidPredictionsError: a subgroup column has too many values.
        """
        if not self._empty:
            try:
                block = self._convert(rows)
            except _UnsoundError:
                pass  # looked at row by row below
            else:
                self.rows += len(rows)
                return None if self.fault else block
        kept = self._examine(rows, lines)
        return None if self.fault or not kept else self._convert(kept)

    def _convert(self, rows: list[Row]) -> Block:
        layout = self.layout
        if set(map(len, rows)) != {len(layout.names)}:
            raise _UnsoundError
        columns = tuple(zip(*rows, strict=True))

        def cells(index: int) -> list[str]:
            return list(map(str.strip, columns[index]))

        wanted = {index: cells(index) for index in self.levels}
        if layout.group is not None and "" in wanted[layout.group]:
            raise _UnsoundError
        labels = _look_up(self._labels, cells(layout.label))
        splits = None if layout.split is None else _look_up(self._splits, cells(layout.split))
        numbers = self._numbers([cells(index) for index in layout.probabilities])
        codes = {index: self.levels[index].encode(values) for index, values in wanted.items()}
        if layout.split is not None and splits is not None:
            codes[layout.split] = splits
        return Block(np.stack(numbers, axis=1), labels, codes)

    def _numbers(self, columns: list[list[str]]) -> list[FloatArray]:
        text = "".join("".join(cells) for cells in columns)
        comma, mark = "," in text, self._mark
        if "_" in text or not text.isascii():
            raise _UnsoundError
        if comma or "." in text:
            mark = "," if comma else "."
            if (comma and ("." in text or self.layout.delimiter == ",")) or self._mark not in ("", mark):
                raise _UnsoundError
        if comma:
            columns = [[cell.replace(",", ".") for cell in cells] for cells in columns]
        try:
            numbers = [np.array(list(map(float, cells)), dtype=np.float64) for cells in columns]
        except ValueError as error:
            raise _UnsoundError from error
        for column in numbers:
            # The negated comparison also catches NaN, which compares false with everything.
            if not ((column >= 0) & (column <= 1)).all():
                raise _UnsoundError
        if not (np.abs(_total(numbers) - 1) <= self._tolerance).all():
            raise _UnsoundError
        self._mark = mark
        return numbers

    def _examine(self, rows: list[Row], lines: Sequence[int]) -> list[Row]:
        """The rows that are not empty, after looking for faults in each."""
        kept = []
        for row, line in zip(rows, lines, strict=True):
            if not "".join(row).strip():
                self._empty.append(line)
                continue
            for gap in self._empty:
                self._note(Fault(gap, "", "the row is empty", "Remove it: only at the end are empty rows passed over"))
            self._empty = []
            found = self._first_fault(row, line)
            if found is None:
                self.rows += 1
                kept.append(row)
            else:
                self._note(found)
        return kept

    def _note(self, fault: Fault) -> None:
        self.rows += 1
        self.faulty += 1
        self.fault = self.fault or fault

    def _first_fault(self, row: Row, line: int) -> Fault | None:
        layout = self.layout
        if len(row) != len(layout.names):
            return self._wrong_width(row, line)
        label = row[layout.label].strip()
        if label not in self._labels:
            return Fault(line, self._column(layout.label), *self._unknown_label(label))
        values = []
        for index in layout.probabilities:
            value = self._probability(row[index].strip())
            if isinstance(value, tuple):
                return Fault(line, self._column(index), *value)
            values.append(value)
        total = float(_total([np.array([value]) for value in values])[0])
        if not abs(total - 1) <= self._tolerance:
            return Fault(
                line,
                f"columns {' + '.join(shown(layout.names[index]) for index in layout.probabilities[:SHOWN])}",
                f"the probabilities sum to {total:.6g}, not to 1",
                f"They may miss 1 by {sum_tolerance(len(values)):g} (rounding to three decimals); give all classes, "
                "after softmax",
            )
        if layout.group is not None and not row[layout.group].strip():
            return Fault(
                line,
                self._column(layout.group),
                "the group is empty",
                "Name the patient, lesion or cluster of every image; one that is alone needs a name of its own",
            )
        if layout.split is not None and (part := row[layout.split].strip()) not in self._splits:
            return Fault(
                line,
                self._column(layout.split),
                f"the part is {shown(part)}, which is none of {', '.join(SPLITS)}" if part else "the part is empty",
                "Write validation, test or train, or rename the column if it says something else",
            )
        return None

    def _column(self, index: int) -> str:
        return f"column {shown(self.layout.names[index])}"

    def _wrong_width(self, row: Row, line: int) -> Fault:
        layout, have, want = self.layout, len(row), len(self.layout.names)
        column = self._column(have) if have < want else f"column {want + 1}, which has no name"
        remedy = "Put quotation marks around a cell that holds the separator"
        if have > want and layout.delimiter == ",":
            remedy += ", and write decimals with a point or separate columns by semicolon"
        if have < want:
            remedy = "Give every column a cell, an empty one where nothing is known"
        return Fault(line, column, f"the row has {have} cells, the header {want}", remedy)

    def _unknown_label(self, label: str) -> tuple[str, str]:
        classes = f"the classes are {listed(self.layout.classes)}"
        if not label:
            return "the label is empty", f"Name the true class of every image: {classes}"
        near = nearest(label, self.layout.classes)
        hint = f"Did you mean {shown(near)}? T" if near else "T"
        column = shown(PREFIX + label)
        return f"the label {shown(label)} has no column {column}", f"{hint}{classes[1:]}; or add the column {column}"

    def _probability(self, cell: str) -> float | tuple[str, str]:
        if not cell:
            return "the probability is empty", "Leave the image out if there is no prediction; a missing one is not 0"
        mark = "," if "," in cell else "." if "." in cell else ""
        if mark == "," and self.layout.delimiter == ",":
            return (
                f"the probability {shown(cell)} has a decimal comma",
                "Write a point, or separate columns by semicolon",
            )
        if (mark and self._mark not in ("", mark)) or ("," in cell and "." in cell):
            return (
                f"the probability {shown(cell)} mixes decimal point and comma, in itself or with rows before",
                "Write all numbers with a point",
            )
        try:
            value = _number(cell.replace(",", "."))
        except ValueError:
            value = math.nan
        if math.isnan(value):
            return (
                f"the probability is {shown(cell)}, not a number",
                "Leave the image out, or give a number from 0 to 1",
            )
        if not 0 <= value <= 1:
            return (
                f"the probability is {shown(cell)}, outside 0 to 1",
                "Give probabilities: per cent divided by 100, logits after softmax",
            )
        self._mark = mark or self._mark
        return value


def _look_up(numbers: dict[str, int], cells: list[str]) -> IntArray:
    find: Callable[[str], int] = lambda cell: numbers.get(cell, -1)  # noqa: E731
    found = np.array(list(map(find, cells)), dtype=np.int64)
    if (found < 0).any():
        raise _UnsoundError
    return found
