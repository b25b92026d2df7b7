"""What the tables of skin data sets have in common: one-hot classes, lesions, and subgroups under many names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ..errors import TableError
from ..grouping import PATIENT_COLUMNS, group_of, subgroups_of
from ..tables import Row

_UNKNOWN: Final = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown"})
_SKIN_TYPES: Final = ("I", "II", "III", "IV", "V", "VI")
_SPLITS: Final = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "test": "test"}


def one_hot(row: Row, columns: Sequence[str]) -> str:
    """The column that is 1 where all others are 0.

    Args:
        row: a row with cells like ``1.0``.
        columns: names in lower case.

    Raises:
        TableError: a cell is neither 0 nor 1, or not exactly one of them is 1.
    """
    ones = []
    for column in columns:
        try:
            value = float(row.cells[column])
        except ValueError:
            value = -1.0
        if value not in (0.0, 1.0):
            raise TableError(
                "a class column holds something else than 0 and 1",
                where=f"{row.where}, column {column!r} ({row.cells[column]!r})",
                remedy="restore the table, or remove the row",
            )
        if value:
            ones.append(column)
    if len(ones) != 1:
        raise TableError(
            f"{len(ones)} class columns of the row are 1; one image has one class",
            where=row.where,
            remedy="correct the row, or remove it",
        )
    return ones[0]


def patient_or_lesion(cells: Mapping[str, str]) -> str | None:
    """The group of a row by its patient, else its lesion; None where both are blank.

    A blank lesion does not mean that the lesion has one image; it means that nobody wrote it down, so such an image is
    compared with all others.
    """
    return group_of(cells, (*PATIENT_COLUMNS, "lesion_id"))


def skin_subgroups(
    cells: Mapping[str, str], *, sex: str = "sex", age: str = "", place: str = "", skin_type: str = "", source: str = ""
) -> Mapping[str, str]:
    """Subgroups of a row: ``sex``, ``age_band``, ``source``, ``localisation``, ``skin_type``; unknown ones left out.

    Args:
        cells: the row.
        sex, age, place, skin_type: the columns that hold them; empty: there is none.
        source: the source itself.
    """
    found = dict(subgroups_of({"sex": cells.get(sex, ""), "age": cells.get(age, ""), "source": source}))
    where = cells.get(place, "").lower()
    if where not in _UNKNOWN:
        found["localisation"] = where
    kind = fitzpatrick_type(cells.get(skin_type, ""))
    if kind is not None:
        found["skin_type"] = kind
    return MappingProxyType(found)


def fitzpatrick_type(written: str) -> str | None:
    """Fitzpatrick skin type, ``I`` to ``VI``, of a number like ``3`` or ``3.0``; None of any other, such as -1."""
    try:
        number = float(written)
    except ValueError:
        return None
    return _SKIN_TYPES[int(number) - 1] if number in (1, 2, 3, 4, 5, 6) else None


def supplied_split(written: str) -> str | None:
    """``train``, ``validation`` or ``test`` of a cell that says so; None where it says something else."""
    return _SPLITS.get(written.lower())
