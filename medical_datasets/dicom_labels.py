"""The table of labels beside DICOM files: which of its rows means which image, by path, identifier or patient."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .errors import DataError, TableError
from .readers.dicom import DicomFacts, patient_group
from .readers.dicom_tags import accession_key
from .tables import Row, Table
from .written import composed, quoted

KEYS: Final = {
    "path": ("path",),
    "sop_instance_uid": ("sop_instance_uid", "sopinstanceuid"),
    "series_instance_uid": ("series_instance_uid", "seriesinstanceuid"),
    "study_instance_uid": ("study_instance_uid", "studyinstanceuid"),
    "accession_number": ("accession_number", "accessionnumber"),
    "patient_id": ("patient_id", "patientid"),
}
"""Columns that say which image a row means, the most specific first, and how each may be written."""


@dataclass(frozen=True, slots=True)
class DicomImage:
    """A file that was found, by its path below the root, and what its tags say."""

    relative: str
    facts: DicomFacts


def key_column(table: Table) -> str:
    """The key of :data:`KEYS` by which a table means images.

    Raises:
        TableError: it has no such column.
    """
    for key, spellings in KEYS.items():
        if any(spelling in table.columns for spelling in spellings):
            return key
    every = [spelling for spellings in KEYS.values() for spelling in spellings]
    near = [match for name in table.columns for match in difflib.get_close_matches(name, every, n=1, cutoff=0.8)]
    raise TableError(
        f"no column says which image a row means; the table has {', '.join(table.columns)}",
        where=str(table.path),
        remedy=f"did you mean {near[0]!r}?" if near else f"add one of {', '.join(KEYS)}",
    )


def rows_by_image(
    table: Table, key: str, images: Sequence[DicomImage], skipped: frozenset[str]
) -> tuple[Mapping[str, Sequence[Row]], tuple[DataError, ...]]:
    """Rows by the relative path of their images, and what is wrong with them.

    Args:
        table: of labels.
        key: as :func:`key_column` gives it.
        images: those that were found.
        skipped: relative paths of files that give no image; a row that names one is no fault.
    """
    problems: list[DataError] = []
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        by_key[composed(_keys(image)[key])].append(image.relative)
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    missing: list[Row] = []
    for row in table.rows:
        written = _cell(row, key)
        if not written:
            problems.append(
                TableError(
                    f"the column {key!r} is empty",
                    where=row.where,
                    remedy="say which image the row means, or remove it",
                )
            )
            continue
        value = composed(_comparable(key, written))
        if value not in by_key:
            if not (key == "path" and value in skipped):
                missing.append(row)
            continue
        for relative in by_key[value]:
            rows[relative].append(row)
    if missing:
        also = f"; {len(skipped)} files were skipped and may be among them" if skipped else ""
        problems.append(
            TableError(
                f"{len(missing)} of {len(table.rows)} rows have no image, the first is row {missing[0].number}"
                + (_example(key, missing[0], images) if not rows else ""),
                where=missing[0].where,
                remedy=_remedy(key, missing) + also,
            )
        )
    return rows, tuple(problems)


def _example(key: str, row: Row, images: Sequence[DicomImage]) -> str:
    """What the table has and what the files have; of people and visits only digests are known, and none is shown."""
    held = _keys(images[0])[key] if images else ""
    if not held or key in ("patient_id", "accession_number"):
        return ""
    return f"; it has {quoted(_cell(row, key))}, and the first file {quoted(held)}"


def _remedy(key: str, missing: Sequence[Row]) -> str:
    if key != "path" and all(re.fullmatch(r"[0-9]+[.,]0", _cell(row, key)) for row in missing):
        return f"write the column {key!r} as text: Excel makes numbers of it that end in .0; or remove the rows"
    return f"correct the column {key!r}, or remove the rows"


def _keys(image: DicomImage) -> Mapping[str, str]:
    found = image.facts
    return {
        "path": image.relative,
        "sop_instance_uid": found.instance,
        "series_instance_uid": found.series,
        "study_instance_uid": found.study,
        "accession_number": found.accession,
        "patient_id": found.patient,
    }


def _comparable(key: str, written: str) -> str:
    """A cell of the key column as :func:`_keys` has it: identifiers as digests."""
    if key == "patient_id":
        return patient_group(written)
    if key == "accession_number":
        return accession_key(written)
    return written.replace("\\", "/").removeprefix("./")


def _cell(row: Row, key: str) -> str:
    return next((row.cells[name] for name in KEYS[key] if row.cells.get(name)), "")


def patient_of(row: Row, key: str) -> str:
    """The patient by the table: the column ``patient``, else ``patient_id`` where it is not what finds the image."""
    return row.cells.get("patient", "") or ("" if key == "patient_id" else _cell(row, "patient_id"))


def patients_problem(table: Table, key: str) -> TableError | None:
    """What is wrong if a table names some patients: one named here and only by tags there would be two groups."""
    empty = [row for row in table.rows if not patient_of(row, key)]
    if not empty or len(empty) == len(table.rows):
        return None
    return TableError(
        f"the table names no patient in {len(empty)} of {len(table.rows)} rows",
        where=empty[0].where,
        remedy="name one in every row, or remove the column: the tags then say whose image it is",
    )
