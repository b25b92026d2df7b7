"""Findings on names of patients and lesions: one unit under two names, and pictures that two units share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from ..grouping import PATIENT_COLUMNS, known_value, patient_of
from ..listing import Item
from .duplicates import Pairs, differing, together
from .looks import Look
from .report import Entry, Problem, finding

_ID_COLUMNS: Final = (*PATIENT_COLUMNS, "lesion_id")
_LIKENESS: Final = ("near_duplicate_group", "similar")  # groups that likeness made: that they are alike is no news
_WHOLE: Final = re.compile(r"(\d+)\.0*")
_ZEROS: Final = re.compile(r"(?<![\d.])0+(?=\d)")


def plain_id(written: str) -> str:
    """An identifier without what spreadsheets change: case, zeros before a number, and ``.0`` behind a whole one.

    >>> plain_id("P-007"), plain_id("7.0"), plain_id("0007")
    ('p-7', '7', '7')
    """
    folded = written.strip().casefold()
    whole = _WHOLE.fullmatch(folded)
    return _ZEROS.sub("", whole[1] if whole else folded)


def id_problems(items: Sequence[Item]) -> Iterator[Problem]:
    """Identifiers that are alike, and lesions of two patients; the identifiers themselves are not said."""
    spellings: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    patients: dict[str, dict[str, str]] = defaultdict(dict)
    for item in items:
        for column in _ID_COLUMNS:
            written = known_value(item.cells, column)
            if written:
                spellings[column, plain_id(written)].setdefault(written, item.name)
        lesion, patient = known_value(item.cells, "lesion_id"), patient_of(item.cells)
        if lesion and patient:
            patients[lesion].setdefault(plain_id(patient), item.name)
    alike = [
        Entry(tuple(images.values()), f"{len(images)} spellings in the column {column}")
        for (column, _), images in spellings.items()
        if len(images) > 1
    ]
    if alike:
        message = (
            "written in several ways (zeros in front, .0 or case); by zeros or .0 one patient or lesion counts as two, "
            "and may be trained on and tested: write each in one way"
        )
        yield finding("warning", "ids-alike", "identifier", message, alike)
    shared = [
        Entry(tuple(images.values()), f"{len(images)} patients") for images in patients.values() if len(images) > 1
    ]
    if shared:
        message = (
            "with one identifier under two patients; correct the table. Where lesions are numbered anew for each "
            "patient nothing is wrong"
        )
        yield finding("warning", "lesion-of-two-patients", "lesion", message, shared)


def shared_pictures(looks: Sequence[Look], pairs: Pairs) -> Iterator[Problem]:
    """Equal or similar pictures, ``pairs`` (m, 2), whose two patients or lesions are known and differ."""
    found = list(differing(looks, pairs, _unit))
    if found:
        message = (
            "of equal or nearly equal pictures under two patients or lesions; a split by these would test a model on "
            "what it trained on: correct the table, or remove one of the two"
        )
        yield finding("warning", "same-image-two-groups", "pair", message, together(found))


def _unit(look: Look) -> str | None:
    group = look.item.group
    return None if group is None or group.partition(":")[0] in _LIKENESS else group
