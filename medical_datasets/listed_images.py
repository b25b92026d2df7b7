"""Data sets by a table: rows that name images by id or by path are joined with the files on disk.

A data set's ``read`` opens its table, says in one small function what a row means (an :class:`Entry`, or a
:class:`LeftOut` with its reason), and :func:`list_rows` does the rest: files are found once, however they are spread
over folders, and what is missing, doubled or without a row is collected. :func:`list_table` also finds and opens the
table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from .classes import kept_labels, suggestion
from .cohort import Dataset, Skipped
from .errors import DataError, TableError, UnknownClassError
from .grouping import PATIENT_COLUMNS, Told, group_of
from .image_files import ImageFiles, check_root
from .listed_patients import settled
from .listing import NOTHING, Item, Listing, Wanted
from .own_tables import find_table
from .parts import canonical_part
from .pixels import IMAGE_SUFFIXES
from .tables import Row, Table, read_table
from .written import misspelt_class, quoted


@dataclass(frozen=True, slots=True)
class Entry:
    """What one row says of one image; the fields are those of :class:`..listing.Item`.

    Attributes:
        name: the image as the row writes it: an id or file name where images are found by id, else a path below the
            root.
        label: index into the data set's classes.
        part, group, site, split, subgroups: see :class:`..listing.Item`.
    """

    name: str
    label: int
    part: str = ""
    group: str | None = None
    site: str | None = None
    split: str | None = None
    subgroups: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that gives no image, by rule.

    Attributes:
        name: the image as the row writes it.
        reason: why, in words that name neither image nor patient.
    """

    name: str
    reason: str


Understand: TypeAlias = Callable[[Row], "Entry | LeftOut"]
"""What a row means. A DataError that it raises is a problem: one for all rows that fail in equal words."""


class Labels:
    """Labels of the classes that rows write, by name or alias.

    Args:
        dataset: the data set with its classes.
        wanted: with ``wanted.classes``, a name that is no class is left out, unless it looks like a misspelt class
            that is wanted (:func:`.written.misspelt_class`).
    """

    def __init__(self, dataset: Dataset, wanted: Wanted) -> None:
        self._dataset = dataset
        self._kept = None if wanted.classes is None else frozenset(kept_labels(dataset, wanted.classes))
        self._known: dict[str, int | str] = {}  # as written -> label, or why the row is left out
        self._refused: dict[str, str] = {}  # as written -> what to write instead

    def of(self, written: str, row: Row, name: str) -> int | LeftOut:
        """The label of a class as ``row`` writes it for the image ``name``.

        Raises:
            TableError: it is empty.
            UnknownClassError: it is no class of the data set.
        """
        if not written:
            raise TableError("the row names no class", where=row.where, remedy="fill the cell, or remove the row")
        if written not in self._known and written not in self._refused:
            self._look_up(written)
        if written in self._refused:
            raise UnknownClassError(
                f"the label {written!r} is no class of {self._dataset.title}",
                where=row.where,
                remedy=self._refused[written],
            )
        known = self._known[written]
        return LeftOut(name, known) if isinstance(known, str) else known

    def _look_up(self, written: str) -> None:
        label = self._dataset.class_index(written)
        near = misspelt_class(written, self._dataset, self._kept)
        if label is not None:
            self._known[written] = label
        elif self._kept is None:
            self._refused[written] = (
                f"{suggestion(written, self._dataset)}; correct the rows, or name the classes to keep with the key "
                "classes"
            )
        elif near is None:
            self._known[written] = f"the class {written!r} is none of the classes asked for"
        else:
            self._refused[written] = f"did you mean {near!r}? correct the rows, or remove them"


def list_table(
    dataset: Dataset,
    wanted: Wanted,
    patterns: Sequence[str],
    required: Iterable[str],
    understanding: Callable[[Table], tuple[Table, Understand]],
    *,
    by: Literal["id", "path"] = "id",
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
) -> Listing:
    """The images that the data set's own table names.

    Args:
        dataset, wanted, by, suffixes: see :func:`list_rows`.
        patterns: where the table may be, as globs relative to the root; the first that is there is read.
        required: columns that it must have.
        understanding: the table as read -> the table to list, perhaps with the cells of further tables joined, and
            what its rows mean.

    Returns:
        The listing; a table that cannot be read is its only problem.

    Raises:
        DatasetLayoutError: the root or the table is not there.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    path = find_table(dataset, wanted.root, patterns)
    kept_labels(dataset, wanted.classes)
    try:
        table, understand = understanding(read_table(path, required))
    except DataError as refused:
        return Listing(wanted.root, dataset, (), problems=(refused,))
    return list_rows(dataset, wanted, table, understand, by=by, suffixes=suffixes)


def list_rows(
    dataset: Dataset,
    wanted: Wanted,
    table: Table,
    understand: Understand,
    *,
    by: Literal["id", "path"] = "id",
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
    problems: Iterable[DataError] = (),
    synthetic: bool = False,
) -> Listing:
    """Join the rows of a table with the image files below the root; of DICOM files the tags are read, else no image.

    Rows that share a patient, a lesion or another unit are one group, whichever columns each of them fills; what the
    tags of DICOM files say counts too (see :func:`..listed_patients.settled`).

    By id, a file belongs to a row whose name equals the file's, without folders and image suffix and in any case. Of
    several files of that name an ordinary picture is taken before any other kind; a second one of the same size is a
    copy and skipped by name, one of another size is a problem. By path, a row's name is a path below the root with
    either kind of slash. Rows of classes that are not wanted claim their file and give no item.

    Args:
        dataset: the data set, with the classes that labels index.
        wanted: root, classes to keep, and whether to take images with burned-in text.
        table: its rows; its columns become the listing's.
        understand: what a row means.
        by: how rows name images.
        suffixes: suffixes, in lower case with their dot, of files that count as images here; by path, a row may name
            any other file too.
        problems: found before, kept first.
        synthetic: phantoms.

    Returns:
        The listing. Problems, besides those of ``understand``: an image named by two rows; an id that several files
        of different size have; images that are not on disk (one problem for all); files of two patients. Skipped: rows
        left out, files without a row, copies, files that are no image, DICOM files with burned-in text.

    Raises:
        DatasetLayoutError: the root is missing or cannot be listed.
        UnknownClassError, EmptyClassError: ``wanted.classes`` are no classes of the data set.
    """
    check_root(dataset, wanted.root)
    kept = frozenset(kept_labels(dataset, wanted.classes))
    files = ImageFiles(wanted.root, suffixes)
    faults = _Faults()
    claims: dict[tuple[str, str], Row] = {}
    claimed: set[str] = set()
    items: list[Item] = []
    others: list[Told] = []  # a row without an item can still say whose lesion another row's is
    skipped = [item for item in files.skipped if item.path != table.path]  # a table may have any name
    missing: list[tuple[Row, str]] = []
    for row in table.rows:
        try:
            meaning = understand(row)
            found = files.by_id(meaning.name, row) if by == "id" else files.by_path(meaning.name, row)
            first, *copies = found or [""]
            if isinstance(meaning, Entry) and first and meaning.part:
                meaning = replace(meaning, part=_part(wanted.root, first, meaning.part, row))
            _claim(claims, (first or meaning.name, meaning.part if isinstance(meaning, Entry) else ""), row)
        except DataError as refused:
            faults.add(refused)
            continue
        claimed.update(found)
        skipped += [Skipped(wanted.root / copy, "a copy of another file of its name", first) for copy in copies]
        if isinstance(meaning, LeftOut):
            others.append(Told(group_of(row.cells, (*PATIENT_COLUMNS, "lesion_id")), row.cells))
            skipped.append(Skipped(wanted.root / (first or meaning.name), meaning.reason))
        elif meaning.label not in kept:
            others.append(Told(meaning.group, row.cells))
        elif not first:
            missing.append((row, meaning.name))
        else:
            items.append(_item(first, meaning, row))
    if missing:
        row, name = missing[0]
        there = f"; the folder holds {quoted(files.relatives[0])}" if not claimed and files.relatives else ""
        faults.add(
            TableError(
                f"{len(missing)} of {len(table.rows)} rows name an image that is not there, the first is "
                f"{quoted(name)}{there}",
                where=row.where,
                remedy=f"restore the files below {wanted.root}, or remove the rows",
            )
        )
    whose = settled(wanted.root, items, others, burned_in=wanted.burned_in)
    skipped += whose.skipped
    # Without a row the class and the patient are unknown. A row that was refused may have meant a file, too.
    reason = f"not listed in {table.path.name}" + (", or its row was refused" if faults.any else "")
    skipped += [Skipped(wanted.root / relative, reason) for relative in files.relatives if relative not in claimed]
    return Listing(
        root=wanted.root,
        dataset=dataset,
        items=tuple(sorted(whose.items, key=lambda item: (item.relative, item.part))),
        skipped=tuple(sorted(skipped, key=lambda item: str(item.path))),
        problems=(*problems, *faults.merged(), *whose.problems),
        columns=table.columns,
        synthetic=synthetic,
    )


class _Faults:
    """What rows were refused for; faults of equal words are one."""

    def __init__(self) -> None:
        self._found: dict[tuple[type[DataError], str, str], list[DataError]] = {}

    @property
    def any(self) -> bool:
        return bool(self._found)

    def add(self, fault: DataError) -> None:
        self._found.setdefault((type(fault), fault.what, fault.remedy), []).append(fault)

    def merged(self) -> Iterator[DataError]:
        for (kind, what, remedy), faults in self._found.items():
            more = f" (in {len(faults)} rows)" if len(faults) > 1 else ""
            yield kind(what + more, where=faults[0].where, remedy=remedy)


def _item(relative: str, entry: Entry, row: Row) -> Item:
    return Item(
        relative=relative,
        label=entry.label,
        part=entry.part,
        group=entry.group,
        site=entry.site,
        split=entry.split,
        subgroups=entry.subgroups,
        cells=row.cells,
        where=row.where,
    )


def _part(root: Path, relative: str, part: str, row: Row) -> str:
    written, part = part, canonical_part(root / relative, part)
    if part and os.path.splitext(relative)[1].lower() in IMAGE_SUFFIXES:
        raise TableError(
            f"the row names the part {quoted(written)} of an ordinary picture, which has none",
            where=f"{row.where} ({relative})",
            remedy="leave the cell empty",
        )
    return part


def _claim(claims: dict[tuple[str, str], Row], image: tuple[str, str], row: Row) -> None:
    earlier = claims.setdefault(image, row)
    if earlier is not row:
        raise TableError(
            "two rows name one image",
            where=f"{row.where}, and row {earlier.number} ({image[0]})",
            remedy="remove one of the rows",
        )
