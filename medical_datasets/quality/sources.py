"""Findings on what tells the class besides the picture: source, site, device, and how the file was saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .looks import Look
from .report import Entry, Problem

_CONFOUNDED: Final = 0.5  # Cramér's V from which a column tells much of the class
_RARE: Final = 5  # images; rarer values stand together, since a value that comes once tells its class by chance
_DEVICES: Final = ("device", "camera", "scanner", "manufacturer", "manufacturermodelname", "model", "dermoscope")
_SOURCES: Final = ("source", "dataset", "attribution", "copyright_license")


def source_problems(looks: Sequence[Look]) -> Iterator[Problem]:
    """A finding for each column, and for format and size, that is associated with the class."""
    for code, words, values in (
        ("source-confounded", "source of an image", [_first(look, _SOURCES) for look in looks]),
        ("site-confounded", "site of an image", [look.item.site or "" for look in looks]),
        ("device-confounded", "device", [_first(look, _DEVICES) or look.tags.device for look in looks]),
        ("format-confounded", "file format and size of a picture", _formats(looks)),
    ):
        pairs = [(value, look.item.label) for value, look in zip(values, looks, strict=True) if value]
        strength = association(pairs)
        if strength > _CONFOUNDED:
            found = Counter(value for value, _ in pairs)
            message = (
                f"the {words} tells much of its class (Cramér's V {strength:.2f}): a model may learn "
                f"{'the camera' if code != 'format-confounded' else 'how files were saved'}; "
                "report figures by source, or take classes that come from the same ones"
            )
            entries = tuple(Entry(note=f"{value}: {count} images") for value, count in found.most_common())
            yield Problem("warning", code, message, len(found), entries)


def cramers_v(pairs: Sequence[tuple[str, int]]) -> float:
    """Association of two columns, 0 (independent) to 1 (one tells the other); 0 if either is constant.

    H. Cramér, Mathematical Methods of Statistics, 1946, section 21.9.
    """
    table = _table(pairs)
    if min(table.shape) < 2:
        return 0.0
    return float(np.sqrt(_phi_squared(table) / (min(table.shape) - 1)))


def association(pairs: Sequence[tuple[str, int]]) -> float:
    """:func:`cramers_v` without what chance adds to it, 0 to 1: many values and few images would look associated.

    W. Bergsma, A bias-correction for Cramér's V and Tschuprow's T, 2013, equations 3 to 5.
    """
    table = _table(pairs)
    if min(table.shape) < 2:
        return 0.0
    n = table.sum()
    r, c = table.shape
    phi = max(0.0, _phi_squared(table) - (r - 1) * (c - 1) / (n - 1))
    r_, c_ = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(r_, c_) - 1
    return min(1.0, float(np.sqrt(phi / least))) if least > 0 else 0.0


def _table(pairs: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
    """Counts of each value (rows) in each class (columns)."""
    rows = {value: index for index, value in enumerate(sorted({first for first, _ in pairs}))}
    columns = {value: index for index, value in enumerate(sorted({second for _, second in pairs}))}
    table = np.zeros((len(rows), len(columns)))
    for first, second in pairs:
        table[rows[first], columns[second]] += 1
    return table


def _phi_squared(table: NDArray[np.float64]) -> float:
    """Pearson's chi-square of a table without an empty row or column, over its sum."""
    n = table.sum()
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / n
    return float(((table - expected) ** 2 / expected).sum() / n)


def _first(look: Look, columns: Sequence[str]) -> str:
    """The first of these columns that the image's row fills."""
    return next((look.item.cells[column] for column in columns if look.item.cells.get(column)), "")


def _formats(looks: Sequence[Look]) -> list[str]:
    """Ending and size of each picture; rare ones share the ending alone, and the rarest are one."""
    whole = [f"{look.suffix} {look.width} x {look.height}" for look in looks]
    often = Counter(whole)
    short = [kind if often[kind] >= _RARE else look.suffix for kind, look in zip(whole, looks, strict=True)]
    often = Counter(short)
    return [kind if often[kind] >= _RARE else "others" for kind in short]
