"""Whose pictures the rows of a table name: what the rows say, the tags of DICOM files and shared files, together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .cohort import Picture, Skipped
from .errors import TableError, UnreadableImageError
from .grouping import PATIENT_COLUMNS, Told, known_value, linked_groups
from .listing import Item
from .parts import is_dicom_name
from .readers.dicom import DicomFacts, facts
from .reading import each
from .written import same_id

BURNED_IN: Final = "text is burned into the picture, as its tag BurnedInAnnotation says"


@dataclass(frozen=True, slots=True)
class Settled:
    """Items with their groups; items that are left out; and what is wrong with the rows."""

    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...]
    problems: tuple[TableError, ...]


def settled(root: Path, items: Sequence[Item], others: Iterable[Told] = (), *, burned_in: bool = False) -> Settled:
    """The items of a table with the groups that rows, tags and files give them together.

    The tags of DICOM files are read, their pixels are not. Where a row names no patient, the digest of the tags'
    patient is the group; without one the row's lesion, else the tags' study. A file whose tag says that text is burned
    into the picture is left out. All slices of a NIfTI file, and all frames of a DICOM file, are one patient's: without
    any known unit their group is ``volume:`` and the file. How rows are joined: :func:`..grouping.linked_groups`.

    Args:
        root: the folder that relative paths start from.
        items: with the groups of their own rows.
        others: what rows say that give no item; they may link rows that do.
        burned_in: keep images with burned-in text.

    Returns:
        The items in their order. One problem for all files that rows give to two patients.
    """
    tags = _tags(root, items)
    kept: list[Item] = []
    skipped: list[Skipped] = []
    for item in items:
        if not burned_in and item.relative in tags and tags[item.relative].burned_in == "YES":
            skipped.append(Skipped(root / item.name, BURNED_IN))
        else:
            kept.append(item)
    told = [_told(item, tags.get(item.relative)) for item in kept]
    groups = linked_groups([*told, *others])
    named = tuple(
        replace(item, group=group or (f"volume:{one.volume}" if one.volume else None))
        for item, one, group in zip(kept, told, groups, strict=False)  # the others have no item
    )
    return Settled(named, tuple(skipped), tuple(_two_patients(kept, told)))


def _tags(root: Path, items: Sequence[Item]) -> Mapping[str, DicomFacts]:
    """What DICOM files among the items say, by relative path; unreadable ones are left to the look at their header."""
    paths = {item.relative: root / item.relative for item in items if is_dicom_name(item.relative)}

    def ask(picture: Picture) -> DicomFacts:
        return facts(picture if isinstance(picture, Path) else picture.path)

    answers = each(list(paths.values()), ask)
    return {
        relative: answer
        for relative, answer in zip(paths, answers, strict=True)
        if not isinstance(answer, UnreadableImageError)
    }


def _told(item: Item, tags: DicomFacts | None) -> Told:
    group, said = item.group, () if tags is None else _said(tags)
    if said and (group is None or (said[0].startswith("patient_id:") and _column(group) not in PATIENT_COLUMNS)):
        group = said[0]
    whole = item.relative.lower().endswith((".nii", ".nii.gz")) or (tags is not None and tags.frames > 1)
    return Told(group, item.cells, item.relative if whole else "", said)


def _said(tags: DicomFacts) -> tuple[str, ...]:
    """Patient or study by its group first; the identifier without its issuer and the study, which files may lack."""
    if tags.group is None:
        return ()
    return tuple(filter(None, (tags.group, tags.patient, tags.study and f"study:{tags.study}")))


def _column(group: str) -> str:
    return group.partition(":")[0]


def _two_patients(items: Sequence[Item], told: Sequence[Told]) -> Iterable[TableError]:
    first: dict[tuple[str, str], Item] = {}
    wrong: dict[str, tuple[Item, Item]] = {}
    for item, one in zip(items, told, strict=True):
        for column in PATIENT_COLUMNS if one.volume else ():
            value = known_value(item.cells, column)
            earlier = first.setdefault((one.volume, column), item) if value else item
            if same_id(value) != same_id(known_value(earlier.cells, column)):
                wrong.setdefault(one.volume, (earlier, item))
    if wrong:
        file, (earlier, later) = next(iter(wrong.items()))
        yield TableError(
            "rows give one file to two patients" + (f" ({len(wrong)} files)" if len(wrong) > 1 else ""),
            where=f"{earlier.where}; {later.where} ({file})",
            remedy="correct the patient in one of the rows",
        )
