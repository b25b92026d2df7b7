"""Tables beside the images: ``groups.csv``, ``metadata.csv`` and ``phantoms.csv``.

All are read from the root of the data set; where there are several, their columns are joined by path. Commas,
semicolons and tabs separate; a byte-order mark is accepted.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from .classes import suggestion
from .cohort import Dataset
from .errors import TableError, UnknownClassError
from .folders import ImageFile

PHANTOM_TABLE: Final = "phantoms.csv"
# Name -> columns it must have. The first table that has a column decides it.
REQUIRED_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    PHANTOM_TABLE: ("path", "label", "patient", "site"),
    "metadata.csv": ("path", "label"),
    "groups.csv": ("path", "near_duplicate_group"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: the table's path, its line number from 1 (the header) and its cells by column."""

    table: Path
    number: int
    cells: Mapping[str, str]

    @property
    def where(self) -> str:
        """The line, for an error message."""
        return f"{self.table}, row {self.number}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table beside the images: its columns in lower case, and its rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_tables(root: Path) -> tuple[Table, ...]:
    """The tables that ``root`` holds, each checked for its required columns.

    Raises:
        TableError: a table cannot be read, has no rows, or lacks a column.
    """
    return tuple(
        read_table(root / name, required) for name, required in REQUIRED_COLUMNS.items() if (root / name).is_file()
    )


def read_table(path: Path, required: Iterable[str]) -> Table:
    """One table. Column names are compared in lower case, cells are stripped.

    Raises:
        TableError: it is not UTF-8 text, has no rows, a row of the wrong length, two columns of one name, or lacks a
            required column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise TableError(
            f"the table cannot be read ({problem})", where=str(path), remedy="save it as UTF-8 text"
        ) from problem
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as problem:
        raise TableError(
            f"the table is not valid CSV ({problem})", where=str(path), remedy="export it again"
        ) from problem
    columns = tuple(name.strip().lower() for name in lines[0]) if lines else ()
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:  # one of them would be read and the other not
        raise TableError(
            f"the table has two columns {twice[0]!r}; capitals and spaces around a name do not count",
            where=str(path),
            remedy="remove or rename one of them",
        )
    for name in required:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"rename the column {near[0]!r}" if near else f"add a column {name!r}, or remove the table"
            raise TableError(
                f"the table has no column {name!r}; it has {', '.join(columns) or 'none'}",
                where=str(path),
                remedy=hint,
            )
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise TableError(
                f"the row has {len(cells)} cells, the header {len(columns)}",
                where=f"{path}, row {number}",
                remedy="put quotes around a cell that holds the separator",
            )
        named = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
        rows.append(Row(path, number, named))
    if not rows:
        raise TableError("the table has no rows", where=str(path), remedy="fill it, or remove it")
    return Table(path, columns, tuple(rows))


def rows_by_image(tables: Iterable[Table], images: Iterable[ImageFile], root: Path, dataset: Dataset) -> dict[str, Row]:
    """Rows by relative image path, after checking every row against the folders.

    Cells of several tables are joined; the earlier table wins. Rows of files that exist but are not among
    ``images`` (classes left out, unreadable files) are dropped.

    Raises:
        TableError: a path is absolute or leaves the folder, appears twice, or names no file; or a row's label
            is not the class of its folder.
        UnknownClassError: a row's label is no class of the data set.
    """
    labels = {image.relative: image.label for image in images}
    joined: dict[str, Row] = {}
    for table in tables:
        seen: dict[str, Row] = {}
        missing: list[Row] = []
        for row in table.rows:
            relative = _relative(row)
            if relative in seen:
                raise TableError(
                    f"the path {relative!r} is already in row {seen[relative].number}",
                    where=row.where,
                    remedy="remove one of the rows",
                )
            seen[relative] = row
            if relative not in labels:
                if not (root / relative).is_file():
                    missing.append(row)
                continue
            _check_label(row, labels[relative], dataset)
            earlier = joined.get(relative)
            cells = {**row.cells, **earlier.cells} if earlier else row.cells
            joined[relative] = Row(earlier.table, earlier.number, cells) if earlier else row
        if missing:
            raise TableError(
                f"{len(missing)} of {len(table.rows)} rows name a file that does not exist, "
                f"the first is {missing[0].cells['path']!r}",
                where=missing[0].where,
                remedy="paths are relative to the folder of the table; restore the files or remove the rows",
            )
    return joined


def _relative(row: Row) -> str:
    written = row.cells["path"].replace("\\", "/")
    path = PurePosixPath(written)
    if not written or path.is_absolute() or ".." in path.parts:
        raise TableError(
            f"the path {row.cells['path']!r} is not a path below the table's folder",
            where=row.where,
            remedy="write it relative to the table, without '..'",
        )
    return str(path)


def _check_label(row: Row, label: int, dataset: Dataset) -> None:
    written = row.cells.get("label")
    if written is None:
        return
    named = dataset.class_index(written)
    if named is None:
        raise UnknownClassError(
            f"the label {written!r} is no class of {dataset.title}",
            where=row.where,
            remedy=suggestion(written, dataset),
        )
    if named != label:
        raise TableError(
            f"the table says {dataset.class_names[named]!r}, the folder says {dataset.class_names[label]!r}",
            where=f"{row.where} ({row.cells['path']})",
            remedy="move the image or correct the row",
        )
