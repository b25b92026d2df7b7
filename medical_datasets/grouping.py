"""What belongs together: patient, lesion or near-duplicate group, and subgroup columns of a table's row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from .cohort import ImageRef, Skipped
from .errors import UnreadableImageError
from .near_duplicates import clusters, near_duplicate_pairs, pairs_by_key
from .reading import DIRECT, Reader, each

# The widest unit first: a patient has several lesions, a lesion several images.
GROUP_COLUMNS: Final = ("patient", "patient_id", "lesion_id", "near_duplicate_group", "isic_id")
_ISIC_ID: Final = re.compile(r"ISIC_\d{7}", re.IGNORECASE)
_AGE_BANDS: Final = ((20, "0-19"), (40, "20-39"), (60, "40-59"), (80, "60-79"), (131, "80+"))
_SEXES: Final = {"f": "female", "female": "female", "m": "male", "male": "male"}
_UNKNOWN: Final = frozenset({"", "na", "n/a", "nan", "none", "null", "unknown", "-1"})


def group_of(cells: Mapping[str, str]) -> str | None:
    """Group name of a row: the first of ``GROUP_COLUMNS`` that is filled, as ``column:value``; else None."""
    for column in GROUP_COLUMNS:
        value = cells.get(column, "")
        if value.lower() not in _UNKNOWN:
            return f"{column}:{value}"
    return None


def widest_first(group: str) -> tuple[int, str]:
    """Sort key of group names: patients, then lesions, as in ``GROUP_COLUMNS``; equal units by name."""
    column = group.partition(":")[0]
    return (GROUP_COLUMNS.index(column) if column in GROUP_COLUMNS else len(GROUP_COLUMNS), group)


def isic_id(path: str) -> str | None:
    """The ISIC id in a file name, or None. One id in two folders is one image."""
    found = _ISIC_ID.search(path.rsplit("/", 1)[-1])
    return found.group().upper() if found else None


def complete_groups(
    images: Sequence[ImageRef], known: Sequence[str | None], names: Sequence[str], reader: Reader = DIRECT
) -> tuple[tuple[str | None, ...], tuple[Skipped, ...]]:
    """A group for every image: the known ones as they are if all are known, else joined with near-duplicates.

    Images are decoded only if at least one has no known group. Then images that look alike, share an ISIC id or
    share a known group form one group, named by its widest known unit (a patient before a lesion) and of these by the
    smallest name, else by its first image.

    Args:
        images: in rising order.
        known: group names, None where there is none.
        names: what the images are called in a group's name, e.g. their relative paths.
        reader: makes the small pictures that are compared.

    Returns:
        Group names, None for an image that cannot be decoded; and those images.
    """
    if all(name is not None for name in known):
        return tuple(known), ()
    thumbnails = np.empty((len(images), 32, 32), dtype=np.uint8)  # grey levels are whole: 1 KB an image
    readable: list[int] = []
    skipped: list[Skipped] = []
    for index, answer in enumerate(each(images, reader.read_grey_thumbnail)):
        if isinstance(answer, UnreadableImageError):
            skipped.append(Skipped(Path(str(images[index])), answer.what))
            continue
        thumbnails[len(readable)] = answer
        readable.append(index)
    groups: list[str | None] = [None] * len(images)
    if readable:
        pairs = np.concatenate(
            [
                near_duplicate_pairs(thumbnails[: len(readable)]),
                pairs_by_key([known[index] for index in readable]),
                pairs_by_key([isic_id(images[index].path.name) for index in readable]),
            ]
        )
        numbers = clusters(len(readable), pairs)
        chosen: dict[int, str] = {}
        for index, number in zip(readable, numbers.tolist(), strict=True):
            name = known[index]
            if name is not None:
                chosen[number] = min(chosen.get(number, name), name, key=widest_first)
        for index, number in zip(readable, numbers.tolist(), strict=True):
            groups[index] = chosen.setdefault(number, f"similar:{names[index]}")
    return tuple(groups), tuple(skipped)


def subgroups_of(cells: Mapping[str, str]) -> Mapping[str, str]:
    """Subgroup columns of a row: ``sex``, ``age_band`` and ``source``; unknown values are left out."""
    found: dict[str, str] = {}
    sex = _SEXES.get(cells.get("sex", "").lower())
    if sex is not None:
        found["sex"] = sex
    band = cells.get("age_band", "") or age_band(cells.get("age", "") or cells.get("age_approx", ""))
    if band:
        found["age_band"] = band
    source = cells.get("source", "")
    if source.lower() not in _UNKNOWN:
        found["source"] = source
    return MappingProxyType(found)


def age_band(age: str) -> str | None:
    """Twenty-year band of an age in years, e.g. ``"40-59"``; None when it is unknown or not in 0 to 130."""
    try:
        years = float(age)
    except ValueError:
        return None
    if not 0 <= years <= 130:  # also refuses NaN
        return None
    return next(name for limit, name in _AGE_BANDS if years < limit)
