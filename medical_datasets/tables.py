"""Tables beside the images: ``groups.csv``, ``metadata.csv`` and ``phantoms.csv``.

All are read from the root of the data set; where there are several, their columns are joined by path. Commas,
semicolons and tabs separate; a byte-order mark is accepted.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .classes import suggestion
from .cohort import Dataset
from .errors import TableError, UnknownClassError
from .folders import ImageFile
from .written import composed, path_below, quoted

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
        read_table(root / name, required, optional=True)
        for name, required in REQUIRED_COLUMNS.items()
        if (root / name).is_file()
    )


def read_table(path: Path, required: Iterable[str], *, optional: bool = False) -> Table:
    """One table. Column names are compared in lower case, cells are stripped.

    Args:
        path: the file.
        required: columns that it must have.
        optional: the data set can be read without it, so that a remedy may be to remove it.

    Raises:
        TableError: it is not UTF-8 text, has no rows, a row of the wrong length, two columns of one name, or lacks a
            required column.
    """
    or_remove = ", or remove the table" if optional else ""
    lines = _lines(path)
    if not lines:
        raise TableError(
            "the table is empty", where=str(path), remedy=f"write the columns {', '.join(required)}{or_remove}"
        )
    columns = tuple(name.strip().lower() for name in lines[0])
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
            hint = f"rename the column {near[0]!r}" if near else f"add a column {name!r}{or_remove}"
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
                remedy=(
                    "put quotes around a cell that holds the separator"
                    if len(cells) > len(columns)
                    else "add what is missing: an empty cell has a separator, too"
                ),
            )
        named = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
        rows.append(Row(path, number, named))
    if not rows:
        raise TableError(
            "the table has a header and no rows", where=str(path), remedy=f"write a row for every image{or_remove}"
        )
    return Table(path, columns, tuple(rows))


def _lines(path: Path) -> list[list[str]]:
    """The cells of every line."""
    text = _text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    lines: list[list[str]] = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            lines.append(cells)
    except csv.Error as problem:
        raise TableError(
            f"the table is not valid CSV ({problem})",
            where=f"{path}, row {len(lines) + 1}",
            remedy="look for a quote that is not closed in this row, or export the table again",
        ) from problem
    return lines


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise TableError(
            f"the table cannot be read ({problem.strerror or problem})",
            where=str(path),
            remedy="check that this user may read it",
        ) from problem
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        line = content[: problem.start].count(b"\n") + 1
        raise TableError(
            "the table is UTF-16 text, and not UTF-8" if wide else "a letter in the table is not UTF-8",
            where=str(path) if wide else f"{path}, line {line}",
            remedy="save it as UTF-8, which Excel calls 'CSV UTF-8 (comma delimited)'",
        ) from problem


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
    spelt = {composed(relative): relative for relative in labels}
    joined: dict[str, Row] = {}
    for table in tables:
        seen: dict[str, Row] = {}
        missing: list[Row] = []
        for row in table.rows:
            relative = _relative(row)
            if relative not in labels:
                relative = spelt.get(composed(relative), relative)
            if relative in seen:
                raise TableError(
                    f"the path {relative!r} is already in row {seen[relative].number}",
                    where=row.where,
                    remedy="remove one of the rows",
                )
            seen[relative] = row
            if relative not in labels:
                if not os.path.isfile(root / relative):  # False for what can be no file's name, too
                    missing.append(row)
                continue
            _check_label(row, labels[relative], dataset)
            earlier = joined.get(relative)
            cells = {**row.cells, **earlier.cells} if earlier else row.cells
            joined[relative] = Row(earlier.table, earlier.number, cells) if earlier else row
        if missing:
            raise TableError(
                f"{len(missing)} of {len(table.rows)} rows name a file that does not exist, "
                f"the first is {quoted(missing[0].cells['path'])}",
                where=missing[0].where,
                remedy="paths are relative to the folder of the table; restore the files or remove the rows",
            )
    return joined


def _relative(row: Row) -> str:
    written = row.cells["path"]
    path = path_below(written)
    if path is None:
        raise no_path(written, row)
    return str(path)


def no_path(written: str, row: Row, folder: str = "the table's folder") -> TableError:
    """The error for a cell that :func:`.written.path_below` takes for none; ``folder`` is where paths start."""
    return TableError(
        f"the path {quoted(written)} is not a path below {folder}" if written else "the row names no file",
        where=row.where,
        remedy=f"write it relative to {folder}, without '..'" if written else "fill the cell, or remove the row",
    )


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
