"""Whose images the files of a DICOM export are, where only some of them say it.

Exports lose PatientID or its issuer in a part of the files. A study is of one patient, so its images are all his; a
PatientID without an issuer is that of the same PatientID with one, unless there are several.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from .dicom_labels import DicomImage
from .errors import DataError, TableError
from .listing import Item
from .readers.dicom import DicomFacts


def with_patients(items: Sequence[Item], images: Sequence[DicomImage]) -> tuple[list[Item], list[DataError]]:
    """The items with the groups of their patients, and what is wrong with these.

    Args:
        items: of images; a group that is there is the table's, and wins over the tags.
        images: all that were found; those without an item help to tell whose study it is.
    """
    tags = {image.relative: image.facts for image in images}
    issued: defaultdict[str, set[str]] = defaultdict(set)  # patients with an issuer, by PatientID alone
    for found in tags.values():
        if found.patient and found.group is not None and found.group != found.patient:
            issued[found.patient].add(found.group)
    by_study: defaultdict[str, set[str]] = defaultdict(set)  # patients that the tags name
    for found in tags.values():
        patient = _by_tags(found, issued)
        if patient is not None and found.study:
            by_study[found.study].add(patient)

    whole: list[Item] = []
    unclear: list[Item] = []
    for item in items:
        found = tags[item.relative]
        group = item.group or _by_tags(found, issued)
        if group is None:
            there = by_study[found.study] if found.study else set()
            those = there & issued[found.patient] if found.patient else there
            if len(those) == 1:
                group = min(those)
            elif those or found.patient:
                unclear.append(item)
            else:
                group = found.group
        whole.append(replace(item, group=group))
    return whole, [*_two_in_a_study(whole, tags), *_unclear(unclear)]


def _by_tags(found: DicomFacts, issued: defaultdict[str, set[str]]) -> str | None:
    """The patient that an image's own tags name; None: none, or one of several with different issuers."""
    if not found.patient:
        return None
    if found.group != found.patient or not issued[found.patient]:
        return found.group
    return min(issued[found.patient]) if len(issued[found.patient]) == 1 else None


def _two_in_a_study(items: Sequence[Item], tags: dict[str, DicomFacts]) -> list[DataError]:
    first: dict[str, Item] = {}
    torn: dict[str, tuple[Item, Item]] = {}
    for item in items:
        study = tags[item.relative].study
        if study and item.group is not None and first.setdefault(study, item).group != item.group:
            torn.setdefault(study, (first[study], item))
    if not torn:
        return []
    one, other = next(iter(torn.values()))
    return [
        TableError(
            f"{len(torn)} studies, by their StudyInstanceUID, have images of two patients; "
            f"the first has {one.relative!r} and {other.relative!r}",
            where=f"{one.where} and {other.where}",
            remedy="correct the patient in the files or in the table, or leave out what does not belong to the study",
        )
    ]


def _unclear(items: Sequence[Item]) -> list[DataError]:
    if not items:
        return []
    return [
        TableError(
            f"{len(items)} images could be of several patients: their tags do not say which, and neither does their "
            f"study; the first is {items[0].relative!r}",
            where=items[0].where,
            remedy="name the patient of every row in a column 'patient', or leave these images out",
        )
    ]
