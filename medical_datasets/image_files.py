"""Image files below a folder, found once and looked up by id or by path; nothing is opened."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .cohort import Dataset, Skipped, normalise_name
from .errors import DatasetLayoutError, TableError
from .folders import LEADS_UP, leads_up
from .pixels import IMAGE_SUFFIXES
from .tables import Row, no_path
from .written import composed, path_below

_MAX_DEPTH: Final = 8
# Tables and papers that belong beside images; anything else is named.
_COMPANIONS: Final = frozenset(
    {".csv", ".tsv", ".tab", ".txt", ".md", ".json", ".toml", ".yaml", ".yml", ".xlsx", ".xls", ".ods", ".pdf", ".html"}
)
_COMPANION_NAMES: Final = frozenset({"license", "licence", "readme", "thumbsdb", "desktopini"})


def check_root(dataset: Dataset, root: Path) -> None:
    """Refuse a root that is no folder.

    Raises:
        DatasetLayoutError: it is missing, or a file.
    """
    if not root.is_dir():
        kind = "is a file, not a folder" if root.exists() else "does not exist"
        raise DatasetLayoutError(
            f"the data folder {kind}",
            where=str(root),
            remedy=f"give the folder that holds the table of {dataset.title}: {dataset.obtain}",
        )


def image_id(name: str) -> str:
    """The id in a file name or cell: without folders and image suffix, in lower case and Unicode form NFC."""
    last = composed(name).replace("\\", "/").rsplit("/", 1)[-1].lower()
    stem, suffix = os.path.splitext(last)
    return stem if suffix in IMAGE_SUFFIXES or suffix in (".dcm", ".dicom") else last


class ImageFiles:
    """The image files below a root.

    Args:
        root: a folder; links to folders are followed, but not to one that holds the link.
        suffixes: suffixes, in lower case with their dot, of files that count as images.

    Attributes:
        relatives: paths below the root, with forward slashes.
        skipped: files that are neither images nor tables and papers beside them, and folders that are not looked into.

    Raises:
        DatasetLayoutError: a folder cannot be listed.
    """

    def __init__(self, root: Path, suffixes: frozenset[str]) -> None:
        self.root = root
        self.relatives: list[str] = []
        self.skipped: list[Skipped] = []
        for relative, entry in _walk(root, self.skipped):
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in suffixes and entry.is_file():
                self.relatives.append(relative)
            elif suffix in suffixes:  # a pipe or a link to nowhere can have any name
                self.skipped.append(Skipped(root / relative, "not a regular file, or a link to nothing"))
            elif suffix not in _COMPANIONS and normalise_name(entry.name) not in _COMPANION_NAMES:
                self.skipped.append(Skipped(root / relative, "not an image file"))
        self._set = frozenset(self.relatives)
        self._by_composed: defaultdict[str, list[str]] = defaultdict(list)
        self._by_id: defaultdict[str, list[str]] = defaultdict(list)
        for relative in self.relatives:
            self._by_composed[composed(relative)].append(relative)
            self._by_id[image_id(relative)].append(relative)

    def by_id(self, name: str, row: Row) -> list[str]:
        """Files of an id, the one to read first; empty: none.

        Ordinary pictures come before other kinds; files of one kind and size count as copies.

        Raises:
            TableError: the name is empty, or files of one kind differ in size.
        """
        key = image_id(name)
        if not key:
            raise TableError("the row names no image", where=row.where, remedy="fill the cell, or remove the row")
        found = self._by_id.get(key, [])
        if len(found) < 2:
            return found
        found = sorted(found, key=lambda relative: (not _ordinary(relative), relative))
        same_kind = [relative for relative in found if _ordinary(relative) == _ordinary(found[0])]
        if len(same_kind) > 1 and len({(self.root / relative).stat().st_size for relative in same_kind}) > 1:
            raise TableError(
                f"an id has {len(same_kind)} files that differ",
                where=f"{row.where} ({', '.join(same_kind)})",
                remedy="move all but the original images out of the folder",
            )
        return found

    def by_path(self, name: str, row: Row) -> list[str]:
        """The file of a path below the root, or nothing; in whichever Unicode form its name is, if only one is there.

        Raises:
            TableError: the path is empty, absolute or leaves the root.
        """
        path = path_below(name)
        if path is None:
            raise no_path(name, row, "the data folder")
        relative = str(path)
        # A name that no file can have, as one of 300 characters, is that of no file.
        if relative in self._set or os.path.isfile(self.root / relative):
            return [relative]
        alike = self._by_composed.get(composed(relative), [])
        return alike if len(alike) == 1 else []


def _ordinary(relative: str) -> bool:
    return os.path.splitext(relative)[1].lower() in IMAGE_SUFFIXES


def _walk(
    root: Path, skipped: list[Skipped], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Visible files below a folder with their relative paths, in the order of their names."""
    folder = root / prefix
    try:
        with os.scandir(folder) as listing:
            entries = sorted(
                (entry for entry in listing if not entry.name.startswith((".", "__MACOSX"))),
                key=lambda entry: entry.name,
            )
    except OSError as problem:
        raise DatasetLayoutError(
            f"the folder cannot be listed ({problem.strerror})",
            where=str(folder),
            remedy="check that this user may read it",
        ) from problem
    for entry in entries:
        relative = f"{prefix}/{entry.name}" if prefix else entry.name
        if not entry.is_dir():
            yield relative, entry
        elif leads_up(root, prefix, entry):
            skipped.append(Skipped(root / relative, LEADS_UP))
        elif depth < _MAX_DEPTH:
            yield from _walk(root, skipped, relative, depth + 1)
        else:
            skipped.append(Skipped(root / relative, f"a folder more than {_MAX_DEPTH} folders deep"))
