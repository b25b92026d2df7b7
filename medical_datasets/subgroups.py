"""Which subgroup columns of a cohort can be shown: free text that may name a person is not.

``source``, ``device`` and other columns come as people and scanners write them, and reports show their levels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

MAX_LENGTH: Final = 40
MAX_LEVELS: Final = 30
FEW_IMAGES: Final = 3
_CLOSED: Final = frozenset({"sex", "age_band"})  # read into words and numbers of ours


@dataclass(frozen=True, slots=True)
class Subgroups:
    """The subgroups of every image, without what was dropped.

    Attributes:
        rows: by image.
        notes: what was dropped and why, a sentence each; they name columns and no level.
    """

    rows: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...] = ()


def plain_subgroups(rows: Sequence[Mapping[str, str]], fixed: Iterable[str] = ()) -> Subgroups:
    """Drop levels longer than 40 characters; columns of over 30 levels; and columns most of whose levels are rare.

    A level is rare that has fewer than 3 images: where more than half of a column's levels are, it tells images apart
    and not groups of them. That last rule is not for ``sex`` and ``age_band``, whose levels are ours.

    Args:
        rows: subgroups by image.
        fixed: columns that the study itself fills, which stay.
    """
    stay = frozenset(fixed)
    notes: list[str] = []
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for column, level in row.items():
            if column not in stay:
                counts.setdefault(column, Counter())[level] += 1
    dropped: set[str] = set()
    long: set[str] = set()
    for column, levels in sorted(counts.items()):
        too_long = sum(len(level) > MAX_LENGTH for level in levels)
        rare = sum(images < FEW_IMAGES for images in levels.values())
        if len(levels) > MAX_LEVELS:
            dropped.add(column)
            notes.append(f"{column}: left out, because {len(levels)} levels, more than {MAX_LEVELS}, may be names")
        elif column not in _CLOSED and 2 * rare > len(levels):
            dropped.add(column)
            notes.append(
                f"{column}: left out, because {rare} of {len(levels)} levels have fewer than {FEW_IMAGES} images and "
                "may be names"
            )
        elif too_long:
            long.add(column)
            notes.append(f"{column}: {too_long} levels of more than {MAX_LENGTH} characters are left out")
    if not notes:
        return Subgroups(tuple(rows))
    kept = (
        {
            column: level
            for column, level in row.items()
            if column not in dropped and not (column in long and len(level) > MAX_LENGTH)
        }
        for row in rows
    )
    return Subgroups(tuple(MappingProxyType(row) for row in kept), tuple(notes))
