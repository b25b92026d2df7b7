"""A folder of DICOM files and a table of labels, as a hospital's archive exports them.

Files are found at any depth by what they hold and not by their names. The table has a column ``label`` and one that
says which images a row means: ``path``, ``sop_instance_uid``, ``series_instance_uid``, ``study_instance_uid``,
``accession_number`` or ``patient_id`` (or the DICOM keywords: ``SOPInstanceUID`` …); of several the first counts. A row
by series, study or patient labels all its images. ``frame``, from 0, names a frame of a file that holds several;
without it the middle one is taken. ``site``, ``patient``, ``sex``, ``age`` and ``age_band`` win over the tags.

Groups: the digest of the patient's identifier and its issuer, for all images of his studies; of a study without a
patient the digest of the study. Sites: the column ``site``. The
institution in the tags is never used unless the study names it, because it is the place of the scan and often a
department: ``sites.column = "institutionname"``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..classes import named_classes, suggestion
from ..cohort import Dataset, Skipped
from ..dicom_labels import KEYS, DicomImage, key_column, patient_of, patients_problem, rows_by_image
from ..dicom_patients import with_patients
from ..errors import DataError, DatasetLayoutError, EmptyClassError, TableError, UnknownClassError, UnreadableImageError
from ..grouping import subgroups_of
from ..listing import Item, Listing, Wanted
from ..pixels import DICOM_SUFFIXES
from ..readers.dicom import facts, is_dicom, patient_group
from ..source_labels import labels_path, unlike_names
from ..tables import Row, Table, read_table
from ..written import misspelt_class, same_id

# Never in a cell: a site column or a report could show them.
_IDENTIFIERS: Final = frozenset({"patient", *KEYS["patient_id"], *KEYS["accession_number"]})
_ONE_VALUE: Final = ("label", "patient", "site")  # what two rows of one image must agree on
_FROM_TAGS: Final = (
    "modality",
    "bodypartexamined",
    "laterality",
    "manufacturer",
    "manufacturermodelname",
    "institutionname",
)


@dataclass(slots=True)
class _Work:
    """What is gathered while rows are joined to images."""

    wanted: Wanted
    dataset: Dataset
    key: str
    patients: dict[str, str] = field(default_factory=dict)  # as compared -> as spelt
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)


def list_dicom_folder(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find DICOM images and join the table of labels; headers are read, pixels are not.

    Raises:
        DatasetLayoutError: the folder is not there, or cannot be listed, or the table is outside it.
        TableError: the table is not there, cannot be read, or has no label or no key column.
    """
    root = wanted.root
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetLayoutError(
            f"the data folder {kind}", where=str(root), remedy="give the folder that holds the DICOM files"
        )
    table_path = labels_path(wanted)
    if not table_path.is_file():
        raise TableError(
            "there is no table of labels",
            where=str(table_path),
            remedy=f"write one with the columns label and one of {', '.join(KEYS)}; or name it with the key labels",
        )
    table = read_table(table_path, ("label",))
    work = _Work(wanted, dataset, key_column(table))
    for patient in sorted({patient_of(row, work.key) for row in table.rows}):
        work.patients.setdefault(same_id(patient), patient)
    images = _find(root, table_path, work)
    skipped = frozenset(each.path.relative_to(root).as_posix() for each in work.skipped)
    rows, faults = rows_by_image(table, work.key, images, skipped)
    work.problems += faults
    dataset = _with_classes(table, work)
    work.dataset = dataset
    unnamed = patients_problem(table, work.key)
    work.problems += [unnamed] if unnamed else []
    items = [item for image in images for item in _items(image, rows.get(image.relative, ()), work)]
    items, torn = with_patients([*_without_copies(items, images, work)], images)
    work.problems += torn
    return Listing(
        root=root,
        dataset=dataset,
        items=tuple(sorted(items, key=lambda item: (item.relative, item.part))),
        skipped=tuple(sorted(work.skipped, key=lambda each: str(each.path))),
        problems=tuple(work.problems),
        columns=tuple(dict.fromkeys([*(c for c in table.columns if c not in _IDENTIFIERS), *_FROM_TAGS])),
    )


def _find(root: Path, table: Path, work: _Work) -> list[DicomImage]:
    """The images below the root by path; other files are skipped."""
    images: list[DicomImage] = []
    for path in _files(root, work):
        relative = path.relative_to(root).as_posix()
        if path == table:
            continue
        try:
            if not path.is_file():
                reason = "not a regular file, or a link to nothing"
            elif not is_dicom(path):
                reason = "not a DICOM file"
            elif path.suffix.lower() not in DICOM_SUFFIXES and not path.suffix[1:].isdigit():
                reason = f"a DICOM file named *{path.suffix}; name it *.dcm"
            else:
                images.append(DicomImage(relative, facts(path)))
                continue
        except UnreadableImageError as damaged:
            reason = damaged.what
        work.skipped.append(Skipped(path, reason))
    return images


def _files(root: Path, work: _Work) -> Iterator[Path]:
    """Visible files at any depth by path; links to folders are not followed, and named like folders left out."""

    def refuse(problem: OSError) -> None:
        folder = Path(problem.filename)
        reason = f"the folder cannot be listed ({problem.strerror})"
        if folder == root:
            raise DatasetLayoutError(reason, where=str(root), remedy="check that this user may read it")
        work.skipped.append(Skipped(folder, reason))

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in below:
            if os.path.islink(os.path.join(folder, name)):
                work.skipped.append(Skipped(Path(folder, name), "a link to a folder; links are not followed"))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _with_classes(table: Table, work: _Work) -> Dataset:
    """The data set with the study's classes; without any, a problem, and the labels that are there for a check."""
    there = tuple(dict.fromkeys(row.cells["label"] for row in table.rows if row.cells["label"]))
    try:
        return replace(work.dataset, classes=named_classes(work.wanted.classes, work.dataset, there))
    except DataError as refused:
        work.problems.insert(0, refused)
    try:
        return replace(work.dataset, classes=named_classes(unlike_names(sorted(there)), work.dataset, there))
    except DataError:
        return work.dataset  # one label, or labels that are one: the problem above is enough


def _items(image: DicomImage, rows: Sequence[Row], work: _Work) -> Iterator[Item]:
    """The pictures of one file that its rows ask for."""
    path = work.wanted.root / image.relative
    if not rows:
        work.skipped.append(Skipped(path, f"not listed in {work.wanted.labels}"))
        return
    if image.facts.burned_in == "YES" and not work.wanted.burned_in:
        work.skipped.append(Skipped(path, "text is burned into the picture, as its tag BurnedInAnnotation says"))
        return
    by_part: dict[str, Row] = {}
    for row in rows:
        part = _part(row, image, work)
        if part is None:
            continue
        earlier = by_part.setdefault(part, row)
        other = next((name for name in _ONE_VALUE if row.cells.get(name) != earlier.cells.get(name)), None)
        if other is not None:
            work.problems.append(
                TableError(
                    f"the column {other!r} says something else of the same image in row {earlier.number}",
                    where=row.where,
                    remedy="correct or remove one of the rows",
                )
            )
    for part, row in by_part.items():
        label = _label(row, path, work)
        if label is not None:
            yield _item(image, part, row, label, work)


def _part(row: Row, image: DicomImage, work: _Work) -> str | None:
    """``frame=K`` of a file with several frames, empty of one with one; None: there is no such frame."""
    written, frames = row.cells.get("frame", ""), image.facts.frames
    if not written:
        return f"frame={frames // 2}" if frames > 1 else ""
    if re.fullmatch(r"[0-9]{1,9}", written) and int(written) < frames:
        return f"frame={int(written)}" if frames > 1 else ""
    work.problems.append(
        TableError(
            f"the frame {written!r} is not one of the {frames} of its image",
            where=row.where,
            remedy=f"frames count from 0 to {frames - 1}",
        )
    )
    return None


def _label(row: Row, path: Path, work: _Work) -> int | None:
    written = row.cells["label"]
    label = work.dataset.class_index(written) if written else None
    if label is not None:
        return label
    near = misspelt_class(written, work.dataset) if written else None
    if written and near is None and work.wanted.classes is not None:
        work.skipped.append(Skipped(path, f"the label {written!r} is none of the classes asked for"))
    elif written and work.dataset.classes:
        work.problems.append(
            UnknownClassError(
                f"the label {written!r} is no class of the study",
                where=row.where,
                remedy=(
                    suggestion(written, work.dataset)
                    if near is None
                    else f"did you mean {near!r}? correct the rows, or remove them"
                ),
            )
        )
    elif not written:
        work.problems.append(
            EmptyClassError("the column 'label' is empty", where=row.where, remedy="fill it, or remove the row")
        )
    return None


def _item(image: DicomImage, part: str, row: Row, label: int, work: _Work) -> Item:
    found = image.facts
    tags = dict(
        zip(
            _FROM_TAGS,
            (found.modality, found.body_part, found.laterality, found.manufacturer, found.model, found.institution),
            strict=True,
        )
    )
    cells = {**tags, **{name: value for name, value in row.cells.items() if name not in _IDENTIFIERS}}
    people = {
        "sex": cells.get("sex") or found.sex,
        "age": cells.get("age") or found.age,
        "age_band": cells.get("age_band", ""),
        "source": cells.get("source", ""),
    }
    subgroups = dict(subgroups_of(people))
    device = " ".join(word for word in (found.manufacturer, found.model) if word)
    if device:
        subgroups["device"] = device
    patient = work.patients[same_id(patient_of(row, work.key))]
    return Item(
        relative=image.relative,
        label=label,
        part=part,
        group=patient_group(patient) if patient else None,
        site=cells.get("site") or None,
        subgroups=MappingProxyType(subgroups),
        cells=MappingProxyType(cells),
        where=row.where,
    )


def _without_copies(items: Sequence[Item], images: Sequence[DicomImage], work: _Work) -> Iterator[Item]:
    """The items without second files of one image, which exports hold; two labels for it are a problem."""
    instance = {image.relative: image.facts.instance for image in images}
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        known = instance[item.relative]
        earlier = first.setdefault((known, item.part), item) if known else item
        if earlier is item:
            yield item
        elif earlier.label == item.label:
            reason = f"the same image as {earlier.relative}, by its SOP instance UID"
            work.skipped.append(Skipped(work.wanted.root / item.name, reason))
        else:
            work.problems.append(
                TableError(
                    f"one image lies in two files, {earlier.relative!r} and {item.relative!r}, with two labels",
                    where=item.where,
                    remedy="remove one of the files, or correct its row",
                )
            )


DICOM_FOLDER: Final = Dataset(
    key="dicom-folder",
    title="a folder of DICOM files with a table of labels",
    modality="radiology",
    classes=(),
    layout=(
        "any folders and file names; DICOM is told by its content",
        "labels.csv (or the key labels): label, and one of " + ", ".join(KEYS),
        "optional columns: frame (from 0), site, patient, sex, age, age_band",
    ),
    group_key="patient (a digest of PatientID and its issuer), else study",
    site_key="the column site; institutionname only where the study names it",
    subgroup_columns=("sex", "age_band", "device"),
    licence="the hospital's own data",
    citation="DICOM standard, PS3.3 and PS3.5",
    obtain="export studies from the archive and write a table that gives each its label",
    read=list_dicom_folder,
    signature=("DICOMDIR", "*.dcm"),
)
