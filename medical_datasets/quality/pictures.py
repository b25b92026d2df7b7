"""Findings on single pictures: colour where there is none, odd shapes and sizes, and pictures that show nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

from ..cohort import Dataset
from ..near_duplicates import flat
from .looks import Look, Looks
from .report import Entry, Problem, Severity, finding, images

_MIN_SIDE: Final = 64
_MAX_ASPECT: Final = 2.5
_FOREIGN_SHARE: Final = 0.05  # above this share of colour images an MRI set is taken for something else
_ODD_SIZE: Final = 4.0  # times the median side
_COLOURED: Final = frozenset({"dermoscopy", "clinical-photograph"})


def picture_problems(looks: Looks, dataset: Dataset) -> Iterator[Problem]:
    """What a person would see at once in a picture by itself."""
    seen = looks.readable
    yield from _colour(seen, dataset)
    blank = [look.name for look, nothing in zip(seen, flat(looks.thumbnails), strict=True) if nothing]
    if blank:
        yield finding(
            "warning", "blank-images", "picture", "of a single grey, showing nothing; leave it out", images(blank)
        )
    small = [_sized(look) for look in seen if min(look.height, look.width) < _MIN_SIDE]
    if small:
        yield finding("warning", "small-images", "image", f"with a side under {_MIN_SIDE} pixels", small)
    long = [_sized(look) for look in seen if max(look.height, look.width) > _MAX_ASPECT * min(look.height, look.width)]
    if long:
        message = f"more than {_MAX_ASPECT} times as long as wide; much is lost when they are cropped"
        yield finding("warning", "odd-aspect", "image", message, long)
    yield from _odd_sizes(seen)


def _colour(seen: Sequence[Look], dataset: Dataset) -> Iterator[Problem]:
    if not dataset.grey and dataset.modality not in _COLOURED:
        return
    odd = [look.name for look in seen if look.colour == dataset.grey]
    if not odd:
        return
    share = len(odd) / len(seen)
    kind, what = ("colour", "in colour") if dataset.grey else ("grey", "grey")
    severity: Severity = "error" if share > _FOREIGN_SHARE else "warning"
    message = f"{what} ({share:.1%}), unusual for {dataset.title}; look at them"
    yield finding(severity, f"{kind}-images", "image", message, images(odd))


def _odd_sizes(seen: Sequence[Look]) -> Iterator[Problem]:
    if not seen:
        return
    sides = [math.sqrt(look.height * look.width) for look in seen]
    middle = statistics.median(sides)
    far = [
        _sized(look) for look, side in zip(seen, sides, strict=True) if not 1 / _ODD_SIZE <= side / middle <= _ODD_SIZE
    ]
    # Where many differ there is no common size; that one class is larger is another finding.
    if far and len(far) <= _FOREIGN_SHARE * len(seen):
        message = f"over {_ODD_SIZE:.0f} times larger or smaller than most ({middle:.0f} pixels a side)"
        yield finding("warning", "odd-size", "image", f"{message}; look where they come from", far)


def _sized(look: Look) -> Entry:
    return Entry((look.name,), f"{look.width} x {look.height} pixels")
