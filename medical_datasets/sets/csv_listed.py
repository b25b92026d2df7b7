"""Images that a table lists by path, with the classes that a study names: the way to bring data of any layout.

The table is a study's ``labels`` file. Paths are relative to its folder and stay below the data folder. Groups: rows
that share any of ``patient`` or ``patient_id``, ``lesion_id``, ``near_duplicate_group`` and ``isic_id``, named by the
first of them that is filled. Without a patient, the tags of a DICOM file say whose it is, and slices of one NIfTI file
are one group; else near-duplicates.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from ..cohort import Dataset, normalise_name
from ..errors import DatasetLayoutError, TableError
from ..grouping import group_of, subgroups_of
from ..image_files import check_root
from ..listed_images import Entry, Labels, LeftOut, list_rows
from ..listing import Listing, Wanted
from ..pixels import DICOM_SUFFIXES, IMAGE_SUFFIXES
from ..source_labels import labels_path
from ..study_classes import with_classes
from ..tables import PHANTOM_TABLE, Row, no_path, read_table
from ..written import path_below

# Every suffix that a reader takes; a row may name a file of any other, which is then refused by name.
_SUFFIXES: Final = IMAGE_SUFFIXES | (DICOM_SUFFIXES - {""}) | {".nii", ".gz", ".mat", ".npz", ".npy"}
_SPLITS: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


def list_csv(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of a table; rows of classes that are not asked for are left out and named.

    Without classes in the study, those of the table are taken, and the first problem says that it must name them.

    Raises:
        DatasetLayoutError: the folder or the table is not there, or the table is outside the folder.
        TableError: the table cannot be read, or has no column ``path`` or ``label``.
        EmptyClassError: the study names one class.
        UnknownClassError: it names one twice.
    """
    check_root(dataset, wanted.root)
    path = labels_path(wanted)
    if not path.is_file():
        raise DatasetLayoutError(
            f"there is no table {wanted.labels!r}",
            where=str(wanted.root),
            remedy="name it with the key labels; it needs the columns path and label",
        )
    table = read_table(path, ("path", "label"))
    named, problems = with_classes(dataset, wanted, [row.cells["label"] for row in table.rows])
    if not named.classes:
        return Listing(wanted.root, named, (), problems=problems, columns=table.columns)
    labels = Labels(named, replace(wanted, classes=None if wanted.classes is None else named.class_names))
    folder = PurePosixPath(path.relative_to(wanted.root).as_posix()).parent

    def understand(row: Row) -> Entry | LeftOut:
        name = _below(folder, row)
        number = labels.of(row.cells["label"], row, name)
        if isinstance(number, LeftOut):
            return number
        return Entry(
            name=name,
            label=number,
            part=row.cells.get("part", ""),
            group=group_of(row.cells),
            site=row.cells.get("site") or None,
            split=_split(row),
            subgroups=subgroups_of(row.cells),
        )

    return list_rows(
        named,
        replace(wanted, classes=None),
        table,
        understand,
        by="path",
        suffixes=frozenset(_SUFFIXES),
        problems=problems,
        synthetic=(wanted.root / PHANTOM_TABLE).is_file(),
    )


def _below(folder: PurePosixPath, row: Row) -> str:
    """The path of a row relative to the data folder; the table's folder is where it starts."""
    path = path_below(row.cells["path"])
    if path is None:
        raise no_path(row.cells["path"], row)
    return str(folder / path)


def _split(row: Row) -> str | None:
    written = row.cells.get("split", "")
    if not written:
        return None
    known = _SPLITS.get(normalise_name(written))
    if known is None:
        raise TableError(
            f"the split {written!r} is none of train, validation and test",
            where=row.where,
            remedy="correct the cell, or leave it empty",
        )
    return known


CSV_LISTED: Final = Dataset(
    key="csv",
    title="Images listed in a table",
    modality="any",
    classes=(),
    layout=(
        "labels.csv (or the table that the key labels names): path, label",
        "optional columns: part, patient or patient_id, lesion_id, site, split, sex, age or age_band, source",
        "the images below the table's folder, in any format that is read: JPEG, PNG, TIFF, DICOM, NIfTI and others",
    ),
    group_key="patient or lesion of the table or of DICOM tags, else volume, else near-duplicate group",
    site_key="the column site, or the column that the study names",
    subgroup_columns=("sex", "age_band", "source"),
    licence="that of the images",
    citation="none: cite where the images came from",
    obtain="write a table with the columns path and label beside your images, and name the classes in the study",
    read=list_csv,
)
