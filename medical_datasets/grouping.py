"""What belongs together: patient, lesion or near-duplicate group, and subgroup columns of a table's row."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from .cohort import ImageRef, Skipped
from .errors import UnreadableImageError
from .near_duplicates import clusters, near_duplicate_pairs, pairs_by_key
from .reading import DIRECT, Reader, each
from .written import same_id

# The widest unit first: a patient has several lesions, a lesion several images.
GROUP_COLUMNS: Final = ("patient", "patient_id", "lesion_id", "near_duplicate_group", "isic_id")
_ISIC_ID: Final = re.compile(r"ISIC_\d{7}", re.IGNORECASE)
_AGE_BANDS: Final = ((20, "0-19"), (40, "20-39"), (60, "40-59"), (80, "60-79"), (131, "80+"))
_BAND: Final = re.compile(r"[0-9]{1,3}(?:-[0-9]{1,3}|\+)")
_SEXES: Final = {"f": "female", "female": "female", "m": "male", "male": "male"}
_UNKNOWN: Final = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "unknown", "unk", "undefined", "missing"}
    | {"anon", "anonymous", "anonymised", "anonymized", "removed", "redacted", "not available", "not known"}
    | {"?", "-", "--", ".", "-1", "-1.0"}
)
_ZERO: Final = re.compile(r"0+(\.0*)?")  # a number like others, or what stands where there is none: it joins nothing
PATIENT_COLUMNS: Final = ("patient", "patient_id")
SIMILAR: Final = "similar"
"""How names of groups begin whose images have no known unit."""

Unit = tuple[str, str]
"""A column and a value of it; both columns of patients are ``patient``."""
NO_ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Groups:
    """A group for every image.

    Attributes:
        names: by image; None for one that cannot be decoded.
        skipped: these images.
        aliases: see :class:`..cohort.Cohort`.
    """

    names: tuple[str | None, ...]
    skipped: tuple[Skipped, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NO_ALIASES)


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one image before it is looked at.

    Attributes:
        group: its group by its own data set, or None.
        cells: its row; the columns of ``GROUP_COLUMNS`` count.
        volume: the file, where all pictures in it are of one patient; else empty.
        tags: what the tags of its file say, as ``column:value``; the first is its group by them.
    """

    group: str | None
    cells: Mapping[str, str]
    volume: str = ""
    tags: tuple[str, ...] = ()


def known_value(cells: Mapping[str, str], column: str) -> str:
    """What a row has in a column; empty where that is missing or a placeholder such as ``unknown``."""
    value = cells.get(column, "")
    return "" if same_id(value) in _UNKNOWN else value


def group_of(cells: Mapping[str, str], columns: Iterable[str] = GROUP_COLUMNS) -> str | None:
    """Group name of a row: the first of ``columns`` that is filled, as ``column:value``; else None."""
    for column in columns:
        value = known_value(cells, column)
        if value:
            return f"{column}:{value}"
    return None


def patient_of(cells: Mapping[str, str]) -> str:
    """The patient of a row: ``patient``, else ``patient_id``; empty: not known."""
    return next(filter(None, (known_value(cells, column) for column in PATIENT_COLUMNS)), "")


def linked_groups(told: Sequence[Told]) -> tuple[str | None, ...]:
    """Groups of images whose rows share a unit, whichever columns each of them fills; None where nothing is known.

    Rows of one patient, one near-duplicate group, one ISIC id or one volume are one group. So are rows of one lesion,
    of one second patient's name (``patient_id`` where ``patient`` is filled too, or the tags') and of what else the
    tags say, unless rows give it to several patients: such names are counted within each patient, or stand for
    "unknown". Identifiers that differ in case, Unicode form or spaces only are one (:func:`.written.same_id`). The
    widest unit names the group (a patient before a lesion), of equal ones the first by name, spelt as it is written.
    """
    owners = [_owner(each) for each in told]
    sure: list[set[Unit]] = [_sure(each, owner) for each, owner in zip(told, owners, strict=True)]
    hints = [_hints(each) - {owner} for each, owner in zip(told, owners, strict=True)]
    names = [each.group for each in told]
    for one, units in zip(told, sure, strict=True):
        column, _, value = (one.group or "").partition(":")
        if value:
            units.add((f"group {column}", same_id(value)))
    numbers = _components(names, sure)
    patients: defaultdict[Unit, set[int]] = defaultdict(set)
    for number, owner, units in zip(numbers, owners, hints, strict=True):
        for unit in units if owner else ():
            patients[unit].add(number)
    every = [
        units | {unit for unit in more if len(patients[unit]) < 2} for units, more in zip(sure, hints, strict=True)
    ]
    return join_by_keys(names, every).names


def _owner(told: Told) -> Unit | None:
    patient = patient_of(told.cells)
    if patient:
        return ("patient", same_id(patient))
    for said in (told.group or "", *told.tags[:1]):
        column, _, value = said.partition(":")
        if column in PATIENT_COLUMNS:
            return ("patient", same_id(value))
    return None


def _sure(told: Told, owner: Unit | None) -> set[Unit]:
    found = {("volume", told.volume)} if told.volume else set()
    for column in ("near_duplicate_group", "isic_id"):
        value = known_value(told.cells, column)
        if value and not _ZERO.fullmatch(value):
            found.add((column, same_id(value)))
    return found | ({owner} if owner else set())


def _hints(told: Told) -> set[Unit]:
    found = {("patient", known_value(told.cells, column)) for column in PATIENT_COLUMNS}
    found.add(("lesion_id", known_value(told.cells, "lesion_id")))
    for column, _, value in (tag.partition(":") for tag in told.tags):
        found.add(("patient" if column in PATIENT_COLUMNS else column, value))
    return {(column, same_id(value)) for column, value in found if value and not _ZERO.fullmatch(value)}


def join_by_keys(names: Sequence[str | None], keys: Sequence[Collection[Hashable]]) -> Groups:
    """One name for all images that a name or any key joins, directly or in chains: the widest of their names.

    Args:
        names: of the groups as known so far.
        keys: what else each image shares with others.
    """
    numbers = _components(names, keys)
    of: defaultdict[int, set[str]] = defaultdict(set)
    for number, name in zip(numbers, names, strict=True):
        if name is not None:
            of[number].add(name)
    best = {number: min(found, key=widest_first) for number, found in of.items()}
    return Groups(
        tuple(best.get(number) for number in numbers),
        aliases=MappingProxyType(
            {best[number]: tuple(sorted(found)) for number, found in sorted(of.items()) if len(found) > 1}
        ),
    )


def _components(names: Sequence[str | None], keys: Sequence[Collection[Hashable]]) -> list[int]:
    last: dict[Hashable, int] = {}
    pairs: list[tuple[int, int]] = []
    for index, (name, shared) in enumerate(zip(names, keys, strict=True)):
        for key in (*shared, *(() if name is None else (name,))):
            if key in last:
                pairs.append((last[key], index))
            last[key] = index
    return clusters(len(names), np.array(pairs, dtype=np.int64).reshape(-1, 2)).tolist()  # type: ignore[no-any-return]


def widest_first(group: str) -> tuple[int, str]:
    """Sort key of group names: patients, then lesions, as in ``GROUP_COLUMNS``; equal units by name."""
    column = group.partition(":")[0]
    unseen = len(GROUP_COLUMNS) + (column == SIMILAR)  # any unit that is known before likeness
    return (GROUP_COLUMNS.index(column) if column in GROUP_COLUMNS else unseen, group)


def isic_id(path: str) -> str | None:
    """The ISIC id in a file name, or None. One id in two folders is one image."""
    found = _ISIC_ID.search(path.rsplit("/", 1)[-1])
    return found.group().upper() if found else None


def complete_groups(images: Sequence[ImageRef], known: Sequence[str | None], reader: Reader = DIRECT) -> Groups:
    """A group for every image: the known ones as they are if all are known, else joined with near-duplicates.

    Images are decoded only if at least one has no known group. Then images that look alike, share an ISIC id or
    share a known group form one group. It is named by its widest known unit (a patient before a lesion) and of these
    by the smallest name; without one ``similar:`` and the first 32 digits of the smallest content hash of its
    images, so that neither a file's name nor its folder changes it.

    Args:
        images: in rising order.
        known: group names, None where there is none.
        reader: makes the small pictures that are compared, and the hashes of images without a known group.

    Returns:
        Groups; an image that cannot be decoded has none. ``aliases`` has every group of several names.
    """
    if all(name is not None for name in known):
        return Groups(tuple(known))
    hashed = [index for index, name in enumerate(known) if name is None]
    hashes = dict(zip(hashed, each([images[index] for index in hashed], reader.content_hash), strict=True))
    thumbnails = np.empty((len(images), 32, 32), dtype=np.uint8)  # grey levels are whole: 1 KB an image
    readable: list[int] = []
    skipped: list[Skipped] = []
    for index, answer in enumerate(each(images, reader.read_grey_thumbnail)):
        content = hashes.get(index)
        if isinstance(answer, UnreadableImageError):
            refused = answer
        elif isinstance(content, UnreadableImageError):  # gone or changed meanwhile
            refused = content
        else:
            thumbnails[len(readable)] = answer
            readable.append(index)
            continue
        skipped.append(Skipped(Path(str(images[index])), refused.what))
    own = [known[index] or f"{SIMILAR}:{str(hashes[index])[:32]}" for index in readable]
    pairs = np.concatenate(
        [
            near_duplicate_pairs(thumbnails[: len(readable)]),
            pairs_by_key(own),
            pairs_by_key([isic_id(images[index].path.name) for index in readable]),
        ]
    )
    numbers = clusters(len(readable), pairs).tolist()
    joined = join_by_keys(own, [(number,) for number in numbers])
    groups: list[str | None] = [None] * len(images)
    for index, name in zip(readable, joined.names, strict=True):
        groups[index] = name
    return Groups(tuple(groups), tuple(skipped), joined.aliases)


def subgroups_of(cells: Mapping[str, str]) -> Mapping[str, str]:
    """Subgroup columns of a row: ``sex``, ``age_band`` and ``source``; unknown values are left out.

    ``age_band`` is the column of that name where it is written as ``40-59`` or ``60+``, else made of the age.
    ``source`` is as it is written: :func:`.subgroups.plain_subgroups` takes out what may name a person.
    """
    found: dict[str, str] = {}
    sex = _SEXES.get(cells.get("sex", "").lower())
    if sex is not None:
        found["sex"] = sex
    band = cells.get("age_band", "")
    if not _BAND.fullmatch(band):
        band = age_band(cells.get("age", "") or cells.get("age_approx", "")) or ""
    if band:
        found["age_band"] = band
    source = cells.get("source", "")
    if same_id(source) not in _UNKNOWN:
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
