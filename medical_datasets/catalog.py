"""The data sets that Wardround reads, by key, and the one function that turns a folder into a cohort."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from .brain_mri import BRAIN_MRI
from .cohort import Cohort, Dataset, Record, Skipped, normalise_name
from .errors import DatasetLayoutError, EmptyClassError, TableError, UnknownClassError, UnreadableImageError
from .folders import FolderScan, ImageFile, UnknownFolder, scan
from .grouping import complete_groups, group_of, subgroups_of
from .ham10000 import HAM10000
from .isic_folders import ISIC
from .pixels import check_header
from .tables import PHANTOM_TABLE, Row, Table, nearest_class, read_tables, rows_by_image, suggestion

DATASETS: Final[dict[str, Dataset]] = {"brain-mri": BRAIN_MRI, "ham10000": HAM10000, "isic": ISIC}

_MAX_UNLISTED: Final = 0.5  # above this share of images without a row the table belongs to other data


def find_dataset(key: str) -> Dataset:
    """The data set of a key.

    Raises:
        DatasetLayoutError: there is none; the nearest key is named.
    """
    if key in DATASETS:
        return DATASETS[key]
    near = difflib.get_close_matches(key.lower(), DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DatasetLayoutError(
        f"there is no data set {key!r}", where="dataset", remedy=f"{hint}known are {', '.join(DATASETS)}"
    )


def recognise(root: Path) -> Dataset:
    """The data set whose class names fit the folders under ``root`` best; names count before aliases.

    Raises:
        DatasetLayoutError: ``root`` is missing, or no data set knows any folder in it.
    """
    scores: list[tuple[int, int, Dataset]] = []
    for dataset in DATASETS.values():
        found = scan(root, dataset)
        names = {normalise_name(Path(name).name) for each in found.class_folders.values() for name in each}
        exact = sum(normalise_name(name) in names for name in dataset.class_names)
        scores.append((len(found.class_folders), exact, dataset))
    labels, _, best = max(scores, key=lambda score: score[:2])
    if labels == 0:
        known = "; ".join(f"{key}: {', '.join(each.class_names)}" for key, each in DATASETS.items())
        raise DatasetLayoutError(
            "no folder has the name of a class of any known data set",
            where=f"{root} (holds {_listing(scan(root, BRAIN_MRI).top)})",
            remedy=f"name the class folders like one of these: {known}",
        )
    return best


def load_cohort(
    dataset_key: str,
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    site_column: str | None = None,
    allow_empty: bool = False,
) -> Cohort:
    """Read a folder of images into a cohort.

    Files whose header shows that they are no picture are skipped, counted and named; a picture damaged further in
    is found when it is decoded. Groups come from a table beside the images, else from near-duplicate hashing,
    which decodes every image once.

    Args:
        dataset_key: a key of ``DATASETS``.
        root: the folder that holds the class folders, at any of the depths that :mod:`.folders` knows.
        classes: names or aliases of the classes to keep, at least two; order stays the data set's. With it,
            folders of other names are left out and counted, unless one looks like a misspelt kept class.
        site_column: column of the table that says which site an image belongs to; None: the ``site`` column of
            phantoms, else the folder above the class folder.
        allow_empty: accept a class without any image, as one site of many may have.

    Returns:
        The cohort, records sorted by relative path.

    Raises:
        DatasetLayoutError: missing folder, unknown key, or no class folder.
        UnknownClassError: a folder, a row or ``classes`` names a class that the data set does not have.
        EmptyClassError: a kept class has no readable image.
        TableError: a table contradicts the folders or lacks a column.
    """
    dataset = find_dataset(dataset_key)
    kept = _kept_labels(dataset, classes)
    found = scan(root, dataset)
    chosen = [image for image in found.images if image.label in kept]
    if not found.class_folders:
        raise no_class_folder(found, dataset)
    skipped = list(found.skipped)
    for folder in found.unknown:
        problem = unknown_folder(folder, found, dataset)
        near = nearest_class(Path(folder.relative).name, dataset, cutoff=0.8)
        if classes is None or (near is not None and dataset.class_index(near) in kept):
            raise problem
        reason = f"the folder {folder.relative!r} is none of the classes asked for"
        skipped += [Skipped(root / name, reason) for name in folder.images]

    readable: list[ImageFile] = []
    for image in chosen:
        try:
            check_header(root / image.relative)
            readable.append(image)
        except UnreadableImageError as damaged:
            skipped.append(Skipped(root / image.relative, damaged.what))

    tables = read_tables(root)
    _check_site_column(site_column, tables, root)
    rows = rows_by_image(tables, readable, root, dataset)
    if tables:
        listed = [image for image in readable if image.relative in rows]
        unlisted = [image for image in readable if image.relative not in rows]
        names = " or ".join(table.path.name for table in tables)
        if len(unlisted) > _MAX_UNLISTED * len(readable):
            raise TableError(
                f"{len(unlisted)} of {len(readable)} images have no row, the first is {unlisted[0].relative!r}",
                where=str(tables[0].path),
                remedy="give every image a row, or remove the table: groups are then made by similarity",
            )
        # Without a row the group is unknown; keeping the image could put one patient on two sides of a split.
        skipped += [Skipped(root / image.relative, f"not listed in {names}") for image in unlisted]
        readable = listed

    cells = [rows[image.relative].cells if image.relative in rows else {} for image in readable]
    groups, undecodable = complete_groups(
        root, [image.relative for image in readable], [group_of(each) for each in cells]
    )
    skipped += undecodable
    new_label = {label: index for index, label in enumerate(kept)}
    records = tuple(
        Record(
            path=root / image.relative,
            label=new_label[image.label],
            group=group,
            site=_site(image, rows.get(image.relative), site_column),
            subgroups=subgroups_of(each),
        )
        for image, group, each in zip(readable, groups, cells, strict=True)
        if group is not None
    )
    cohort = Cohort(
        dataset=keep_classes(dataset, classes),
        root=root,
        records=records,
        synthetic=(root / PHANTOM_TABLE).is_file(),
        skipped=tuple(sorted(skipped, key=lambda item: str(item.path))),
    )
    if not allow_empty:
        _refuse_empty(cohort, found)
    return cohort


def keep_classes(dataset: Dataset, classes: Sequence[str] | None) -> Dataset:
    """The data set with some of its classes, named in any order and by any spelling; None keeps all.

    Raises:
        UnknownClassError: a name is no class, or names one twice.
        EmptyClassError: fewer than two are named.
    """
    return replace(dataset, classes=tuple(dataset.classes[label] for label in _kept_labels(dataset, classes)))


def no_class_folder(found: FolderScan, dataset: Dataset) -> DatasetLayoutError:
    """The error for a folder in which no class was recognised: what is there and what was expected."""
    near = [(name, nearest_class(name, dataset)) for name in found.top]
    hints = [f"{name!r} may mean {match!r}" for name, match in near if match is not None]
    return DatasetLayoutError(
        f"no class folder of {dataset.title} was found; the folder holds {_listing(found.top)}",
        where=str(found.root),
        remedy="; ".join(
            [
                f"expected folders named {', '.join(dataset.class_names)}",
                "they may lie inside Training and Testing, or inside a folder for each site",
                *hints,
            ]
        ),
    )


def unknown_folder(folder: UnknownFolder, found: FolderScan, dataset: Dataset) -> UnknownClassError:
    """The error for a folder with images whose name is no class."""
    return UnknownClassError(
        f"the folder {folder.relative!r} ({len(folder.images)} images) is no class of {dataset.title}",
        where=str(found.root / folder.relative),
        remedy=(
            f"{suggestion(Path(folder.relative).name, dataset)}; rename or move the folder, or name the classes to "
            "keep with the key classes"
        ),
    )


def _kept_labels(dataset: Dataset, classes: Sequence[str] | None) -> tuple[int, ...]:
    if classes is None:
        return tuple(range(len(dataset.classes)))
    kept: set[int] = set()
    for name in classes:
        label = dataset.class_index(name)
        if label is None:
            raise UnknownClassError(
                f"{name!r} is no class of {dataset.title}", where="classes", remedy=suggestion(name, dataset)
            )
        if label in kept:
            raise UnknownClassError(
                f"{name!r} names the class {dataset.class_names[label]!r} a second time",
                where="classes",
                remedy="name every class once",
            )
        kept.add(label)
    if len(kept) < 2:
        raise EmptyClassError(
            f"{len(kept)} classes are asked for; a classifier needs at least 2",
            where="classes",
            remedy=f"the classes are {', '.join(dataset.class_names)}",
        )
    return tuple(sorted(kept))


def _check_site_column(site_column: str | None, tables: Sequence[Table], root: Path) -> None:
    if site_column is None:
        return
    columns = [column for table in tables for column in table.columns]
    if site_column.lower() not in columns:
        near = difflib.get_close_matches(site_column.lower(), columns, n=1)
        have = f"the tables have {', '.join(dict.fromkeys(columns))}" if tables else "there is no table"
        raise TableError(
            f"no table has the site column {site_column!r}; {have}",
            where=str(root),
            remedy=f"did you mean {near[0]!r}?" if near else "name a column of metadata.csv or groups.csv",
        )


def _site(image: ImageFile, row: Row | None, site_column: str | None) -> str | None:
    if site_column is None:
        written = row.cells.get("site", "") if row else ""
        if written and image.site and normalise_name(written) != normalise_name(image.site) and row:
            raise TableError(
                f"the table says site {written!r}, the folder says {image.site!r}",
                where=f"{row.where} ({image.relative})",
                remedy="move the image, correct the row, or choose the column with site_column",
            )
        return written or image.site
    written = row.cells.get(site_column.lower(), "") if row else ""
    if not written:
        raise TableError(
            f"the site column {site_column!r} is empty for {image.relative!r}",
            where=row.where if row else image.relative,
            remedy="fill it, or use another column",
        )
    return written


def _refuse_empty(cohort: Cohort, found: FolderScan) -> None:
    names = cohort.dataset.class_names
    present = {record.label for record in cohort.records}
    empty = [name for index, name in enumerate(names) if index not in present]
    if not empty:
        return
    filled = [name for name in names if name not in empty]
    folders = [
        folder
        for label, each in found.class_folders.items()
        if DATASETS[cohort.dataset.key].class_names[label] in empty
        for folder in each
    ]
    state = f"the folder {', '.join(folders)} holds none" if folders else "there is no folder for it"
    raise EmptyClassError(
        f"no readable image of {', '.join(repr(name) for name in empty)}; {state}",
        where=str(cohort.root),
        remedy=(
            "add images, or leave the class out with the key "
            f"classes = [{', '.join(chr(34) + name + chr(34) for name in filled)}]"
        ),
    )


def _listing(names: Sequence[str], limit: int = 12) -> str:
    if not names:
        return "no folders"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "the folders " + ", ".join(repr(name) for name in names[:limit]) + more
