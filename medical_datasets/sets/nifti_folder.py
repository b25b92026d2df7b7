"""NIfTI volumes with a table: a hospital's own export. The study names the classes.

Groups: ``patient`` or ``patient_id`` of the table, of whichever row of a file has one; rows of two patients for one
file are a problem. A file without any is its own group, so that the slices of a volume stay together; two volumes of
one patient then do not, and images are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ..cohort import Dataset, Skipped
from ..errors import DataError, DatasetLayoutError, TableError, UnreadableImageError
from ..grouping import group_of, subgroups_of
from ..image_files import ImageFiles, check_root
from ..listed_images import Labels, LeftOut
from ..listed_patients import settled
from ..listing import Item, Listing, Wanted
from ..readers.nifti import AXES, Plane, thin_plane
from ..readers.nifti_header import read_grid
from ..readers.nifti_slices import choose_slices, in_threads
from ..source_labels import labels_path
from ..study_classes import with_classes
from ..tables import Row, read_table
from ..written import quoted

_NIFTI: Final = frozenset({".nii", ".gz"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row that was understood: what is to be taken of which file."""

    row: Row
    label: int
    relative: str
    mask: str
    plane: Plane | None
    index: int | None
    volume: int | None


def list_nifti_folder(dataset: Dataset, wanted: Wanted) -> Listing:
    """The slices that a table names, or the chosen ones of the volumes that it names.

    Without a slice in its row, ``wanted.slices`` of a volume are taken by :func:`..nifti_slices.choose_slices`, with
    the row's mask if it has one; a file that is one slice thick gives that slice.

    Raises:
        DatasetLayoutError: the root is no folder, a folder cannot be listed, or the table is not there or outside.
        EmptyClassError, UnknownClassError: ``wanted.classes`` are no list of classes.
    """
    root = wanted.root
    check_root(dataset, root)
    path = labels_path(wanted)
    if not path.is_file():
        raise DatasetLayoutError(
            f"there is no table {wanted.labels!r} in the folder",
            where=str(root),
            remedy="write one with the columns path, label and patient, or name another with the key labels",
        )
    try:
        table = read_table(path, ("path", "label"))
    except DataError as refused:
        return Listing(root, dataset, (), problems=(refused,))
    dataset, unnamed = with_classes(dataset, wanted, [row.cells["label"] for row in table.rows])
    if not dataset.classes:
        return Listing(root, dataset, (), problems=unnamed, columns=table.columns)
    problems = list(unnamed)
    found = ImageFiles(root, _NIFTI)
    skipped = list(found.skipped)
    labels = Labels(dataset, replace(wanted, classes=None if wanted.classes is None else dataset.class_names))
    asked: list[_Asked] = []
    named: set[str] = set()  # files that some row has, as a volume or a mask
    for row in table.rows:
        try:
            for column in ("path", "mask"):
                if row.cells.get(column):
                    named |= set(found.by_path(row.cells[column], row))
            one = _understand(row, labels, found)
            if isinstance(one, LeftOut):
                skipped.append(Skipped(root / one.name, one.reason))
                continue
            asked.append(one)
        except DataError as refused:
            problems.append(refused)
    reason = f"not listed in {wanted.labels}"
    skipped += [Skipped(root / relative, reason) for relative in sorted(set(found.relatives) - named)]

    def choose(one: _Asked) -> tuple[str, ...] | str:
        try:
            return _parts(one, wanted) or "the mask, or the volume, is empty"
        except UnreadableImageError as damaged:
            return damaged.what

    items: dict[tuple[str, str], Item] = {}
    taken: dict[tuple[str, str], int] = {}  # the row that each slice comes from
    for one, parts in zip(asked, in_threads(choose, asked), strict=True):
        if isinstance(parts, str):
            skipped.append(Skipped(root / one.relative, parts))
            continue
        earlier = [taken[one.relative, part] for part in parts if (one.relative, part) in taken]
        if earlier:
            problems.append(
                TableError(
                    f"the row gives a slice that row {earlier[0]} gives too",
                    where=one.row.where,
                    remedy="remove one of the rows, or name the slices of both",
                )
            )
            continue
        taken |= {(one.relative, part): one.row.number for part in parts}
        items |= {(one.relative, part): _item(one, part) for part in parts}
    whose = settled(root, [items[key] for key in sorted(items)])
    return Listing(
        root,
        dataset,
        whose.items,
        tuple(skipped),
        (*problems, *whose.problems),
        columns=table.columns,
    )


def _understand(row: Row, labels: Labels, found: ImageFiles) -> _Asked | LeftOut:
    path = row.cells["path"]
    label = labels.of(row.cells["label"], row, path)
    if isinstance(label, LeftOut):
        return label
    files = {}
    for column in ("path", "mask"):
        written = row.cells.get(column, "")
        if written or column == "path":
            files[column] = next(iter(found.by_path(written, row)), "")
            if not files[column] or not files[column].lower().endswith((".nii", ".nii.gz")):
                raise TableError(
                    f"the column {column!r} names {quoted(written)}, which is no NIfTI file in the folder",
                    where=row.where,
                    remedy="paths are relative to the data folder and end in .nii or .nii.gz",
                )
    axis = row.cells.get("axis", "").lower()
    plane = next((name for name in AXES if name == axis), None)
    if axis and plane is None:
        raise TableError(f"the axis {axis!r} is none", where=row.where, remedy=f"write one of {', '.join(AXES)}")
    return _Asked(
        row=row,
        label=label,
        relative=files["path"],
        mask=files.get("mask", ""),
        plane=plane,
        index=_number(row, "slice"),
        volume=_number(row, "volume"),
    )


def _number(row: Row, column: str) -> int | None:
    written = row.cells.get(column, "")
    if not written:
        return None
    if not (written.isascii() and written.isdigit() and len(written) <= 9):
        raise TableError(
            f"the column {column!r} holds {written!r}",
            where=row.where,
            remedy="write a whole number from 0, or nothing",
        )
    return int(written)


def _parts(one: _Asked, wanted: Wanted) -> tuple[str, ...]:
    """The parts of a row's file: the slice it names, or chosen ones."""
    path = wanted.root / one.relative
    grid = read_grid(path)
    tail = f"volume={one.volume}" if one.volume else ""
    if one.index is None and one.plane is None and thin_plane(grid) is not None:
        return (tail,)
    plane = one.plane or "axial"
    if one.index is None:
        mask = wanted.root / one.mask if one.mask else None
        chosen = choose_slices(path, mask, wanted.slices, plane=plane, volume=one.volume or 0)
    else:
        chosen = (one.index,)
        if chosen == (0,) and plane == thin_plane(grid):
            return (tail,)
    return tuple(",".join(filter(None, (f"{plane}={index}", tail))) for index in chosen)


def _item(one: _Asked, part: str) -> Item:
    cells: Mapping[str, str] = one.row.cells
    return Item(
        relative=one.relative,
        label=one.label,
        part=part,
        group=group_of(cells),
        site=cells.get("site") or None,
        subgroups=subgroups_of(cells),
        cells=cells,
        where=one.row.where,
    )


NIFTI_FOLDER: Final = Dataset(
    key="nifti-folder",
    title="NIfTI volumes with a table",
    modality="radiology",
    classes=(),
    layout=(
        "any folders of *.nii and *.nii.gz",
        "labels.csv: path, label; optional patient or patient_id, mask, slice, volume, site, sex, age",
        "optional column axis: axial (else), coronal or sagittal",
    ),
    group_key="patient, else the volume",
    site_key="the column site",
    subgroup_columns=("sex", "age_band", "source"),
    licence="the hospital's own",
    citation="none: the hospital's own images",
    obtain="export the volumes as NIfTI and write a table with a row a volume, or a row a slice",
    read=list_nifti_folder,
)
"""A study names its classes, in the order that labels shall have."""
