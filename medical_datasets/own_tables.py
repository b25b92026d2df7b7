"""Tables that a data set brings itself: found below its root, and joined where it has several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .cohort import Dataset
from .errors import DatasetLayoutError, TableError
from .image_files import check_root, image_id
from .tables import Row, Table


def find_table(dataset: Dataset, root: Path, patterns: Sequence[str]) -> Path:
    """The first file below ``root`` that one of the globs matches, earlier globs first.

    Raises:
        DatasetLayoutError: the root is no folder, or there is no such file.
    """
    check_root(dataset, root)
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                return path
    raise DatasetLayoutError(
        f"the table of {dataset.title} is not there; looked for {', '.join(patterns)}",
        where=str(root),
        remedy=f"give the folder that holds it, with the images below: {'; '.join(dataset.layout)}",
    )


def join_rows(table: Table, side: Table, column: str) -> Table:
    """``table`` with the cells of ``side`` beside those of equal ``column``; cells of ``table`` win.

    Raises:
        TableError: ``side`` has two rows of one key, or none for a row of ``table``.
    """
    by_key: dict[str, Row] = {}
    for row in side.rows:
        key = image_id(row.cells[column])
        if key in by_key:
            raise TableError(
                f"two rows have the same {column!r}",
                where=f"{row.where}, and row {by_key[key].number}",
                remedy="remove one of the rows",
            )
        by_key[key] = row
    rows: list[Row] = []
    alone: list[Row] = []
    for row in table.rows:
        beside = by_key.get(image_id(row.cells[column]))
        if beside is None:
            alone.append(row)
        else:
            rows.append(Row(row.table, row.number, {**beside.cells, **row.cells}))
    if alone:
        raise TableError(
            f"{len(alone)} of {len(table.rows)} rows have no row in {side.path.name}, the first is "
            f"{alone[0].cells[column]!r}",
            where=alone[0].where,
            remedy=f"restore {side.path.name}, or remove it: groups are then made by similarity",
        )
    return Table(table.path, tuple(dict.fromkeys((*table.columns, *side.columns))), tuple(rows))
