"""Data sets by class folders: what the folders and the tables beside them say of each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .classes import kept_labels, nearest_class, suggestion
from .cohort import Dataset, Skipped, normalise_name
from .errors import DataError, DatasetLayoutError, TableError, UnknownClassError
from .folders import FolderScan, ImageFile, UnknownFolder, scan
from .grouping import Told, group_of, linked_groups, subgroups_of
from .listing import Item, Listing, Wanted
from .tables import PHANTOM_TABLE, Row, Table, read_tables, rows_by_image
from .written import misspelt_class

_MAX_UNLISTED: Final = 0.5  # above this share of images without a row the table belongs to other data


def list_class_folders(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find images in class folders, at any of the depths that :mod:`.folders` knows, and join the tables beside them.

    With ``wanted.classes``, folders of other names are left out and counted, unless one looks like a misspelt kept
    class.

    Raises:
        DatasetLayoutError: the folder is missing or cannot be listed, or class folders are nested.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    root = wanted.root
    kept = kept_labels(dataset, wanted.classes)
    found = scan(root, dataset)
    problems: list[DataError] = []
    skipped = list(found.skipped)
    if not found.class_folders:
        problems.append(no_class_folder(found, dataset))
    for folder in found.unknown:
        if wanted.classes is None or misspelt_class(Path(folder.relative).name, dataset, kept) is not None:
            problems.append(unknown_folder(folder, found, dataset))
            continue
        reason = f"the folder {folder.relative!r} is none of the classes asked for"
        skipped += [Skipped(root / name, reason) for name in folder.images]

    images = [image for image in found.images if image.label in kept]
    tables: tuple[Table, ...] = ()
    rows: dict[str, Row] = {}
    try:
        tables = read_tables(root)
        rows = rows_by_image(tables, images, root, dataset)
    except DataError as refused:
        problems.append(refused)
        tables = ()
    if tables:
        listed = [image for image in images if image.relative in rows]
        unlisted = [image for image in images if image.relative not in rows]
        names = " or ".join(table.path.name for table in tables)
        if len(unlisted) > _MAX_UNLISTED * len(images):
            problems.append(
                TableError(
                    f"{len(unlisted)} of {len(images)} images have no row, the first is {unlisted[0].relative!r}",
                    where=str(tables[0].path),
                    remedy="give every image a row, or remove the table: groups are then made by similarity",
                )
            )
        # Without a row the group is unknown; keeping the image could put one patient on two sides of a split.
        skipped += [Skipped(root / image.relative, f"not listed in {names}") for image in unlisted]
        images = listed

    items = []
    told = [rows[image.relative].cells if image.relative in rows else {} for image in images]
    groups = linked_groups([Told(group_of(cells), cells) for cells in told])
    for image, group in zip(images, groups, strict=True):
        row = rows.get(image.relative)
        try:
            site = _site(image, row)
        except TableError as contradiction:
            problems.append(contradiction)
            site = image.site
        cells = row.cells if row else {}
        items.append(
            Item(
                relative=image.relative,
                label=image.label,
                group=group,
                site=site,
                split=image.split,
                subgroups=subgroups_of(cells),
                cells=cells,
                where=row.where if row else "",
            )
        )
    return Listing(
        root=root,
        dataset=dataset,
        items=tuple(items),
        skipped=tuple(skipped),
        problems=tuple(problems),
        columns=tuple(dict.fromkeys(column for table in tables for column in table.columns)),
        folders=found.class_folders,
        synthetic=(root / PHANTOM_TABLE).is_file(),
    )


def no_class_folder(found: FolderScan, dataset: Dataset) -> DatasetLayoutError:
    """The error for a folder in which no class was recognised: what is there and what was expected."""
    near = [(name, nearest_class(name, dataset)) for name in found.top]
    hints = [f"{name!r} may mean {match!r}" for name, match in near if match is not None]
    return DatasetLayoutError(
        f"no class folder of {dataset.title} was found; the folder holds {folder_names(found.top)}",
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


def folder_names(names: Sequence[str], limit: int = 12) -> str:
    """Names of folders in words, the first few of them."""
    if not names:
        return "no folders"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "the folders " + ", ".join(repr(name) for name in names[:limit]) + more


def _site(image: ImageFile, row: Row | None) -> str | None:
    written = row.cells.get("site", "") if row else ""
    if written and image.site and normalise_name(written) != normalise_name(image.site) and row:
        raise TableError(
            f"the table says site {written!r}, the folder says {image.site!r}",
            where=f"{row.where} ({image.relative})",
            remedy="move the image, correct the row, or choose the column with sites.column",
        )
    return written or image.site
