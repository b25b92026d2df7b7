"""What a folder without a known file or class folder holds, told by a bounded look into it.

Only what a few files and one table say is looked at, so that a folder of 100,000 files is told as fast as one of ten.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from .cohort import normalise_name
from .dicom_labels import KEYS
from .errors import DataError, UnreadableImageError
from .pixels import DICOM_SUFFIXES, IMAGE_SUFFIXES
from .readers.dicom_file import is_dicom
from .tables import read_table

_LOOK: Final = 64  # files or rows that are looked at
_ENTRIES: Final = 512  # of a folder
_DEPTH: Final = 6
_SPLITS: Final = frozenset({"training", "train", "testing", "test", "validation", "valid", "val"})
_NIFTI: Final = (".nii", ".nii.gz")
_ARCHIVE_NAMES: Final = frozenset({*(column for columns in KEYS.values() for column in columns)} - {"path"})


def by_content(root: Path, labels: str = "labels.csv") -> str:
    """The key of the data set that a folder holds by its table, its files or its tree; empty: none is told.

    In this order: ``csv``, ``nifti-folder`` or ``dicom-folder`` by the table ``labels`` and the files that its first
    rows name; ``dicom-folder`` or ``nifti-folder`` by the first files; ``figshare-brain`` by ``cjdata`` in a ``N.mat``;
    ``domains`` by two folders that share two folders with pictures.
    """
    table = root / labels
    kind = _of_table(root, table) if table.is_file() else ""
    if kind:
        return kind
    first = list(islice(_files(root), _LOOK))
    if any(_dicom(path) for path in first):
        return "dicom-folder"
    if any(path.name.lower().endswith(_NIFTI) for path in first):
        return "nifti-folder"
    numbered = [path for path in first if path.suffix.lower() == ".mat" and path.stem.isdigit()]
    if any(_figshare(path) for path in numbered[:3]):
        return "figshare-brain"
    return "domains" if len(domain_classes(root)) > 1 else ""


def domain_classes(root: Path) -> list[str]:
    """Names of folders with pictures that lie in two folders of the root or more, as first written, by name."""
    found: dict[str, str] = {}
    sites: Counter[str] = Counter()
    for site in _folders(root):
        if normalise_name(site.name) in _SPLITS:
            continue
        below = _folders(site)
        parts = [each for each in below if normalise_name(each.name) in _SPLITS]
        inside = [each for part in parts for each in _folders(part)] if parts else below
        there = {normalise_name(each.name): each.name for each in inside if _has_picture(each)}
        sites.update(there.keys())
        found = there | found
    return sorted(found[name] for name, count in sites.items() if count > 1 and name)


def _of_table(root: Path, table: Path) -> str:
    try:
        read = read_table(table, ("label",))
    except DataError:
        return ""
    if "path" in read.columns:
        named = [row.cells["path"].replace("\\", "/") for row in read.rows[:_LOOK]]
        if named and all(name.lower().endswith(_NIFTI) for name in named):
            return "nifti-folder"
        paths = [root / name for name in named if name and ".." not in Path(name).parts]
        there = [path for path in paths if path.is_file()]
        if there and all(_dicom(path) for path in there):
            return "dicom-folder"
        return "csv"
    if _ARCHIVE_NAMES.isdisjoint(read.columns):
        return ""
    return "dicom-folder" if any(_dicom(path) for path in islice(_files(root), _LOOK)) else ""


def _dicom(path: Path) -> bool:
    """Whether a file that the DICOM reader takes by its name is one by its content."""
    suffix = path.suffix.lower()
    if suffix not in DICOM_SUFFIXES and not suffix[1:].isdigit():
        return False
    try:
        return is_dicom(path)
    except UnreadableImageError:
        return False


def _figshare(path: Path) -> bool:
    from .readers.matlab import facts  # imported where there is such a file

    try:
        facts(path)
    except UnreadableImageError:
        return False
    return True


def _files(root: Path) -> Iterator[Path]:
    """Visible regular files below a folder, a folder's own before those below it; links to folders are not followed."""
    level = [root]
    for _ in range(_DEPTH):
        below: list[Path] = []
        for folder in level:
            for entry in _entries(folder):
                if entry.is_file():
                    yield Path(entry.path)
                elif entry.is_dir(follow_symlinks=False) and len(below) < _ENTRIES:
                    below.append(Path(entry.path))
        level = below


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def _has_picture(folder: Path) -> bool:
    return any(entry.is_file() and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in _entries(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The first visible entries of a folder by name; none of one that cannot be listed, which its reader reports."""
    try:
        with os.scandir(folder) as listing:
            seen = [entry for entry in islice(listing, _ENTRIES) if not entry.name.startswith((".", "__MACOSX"))]
    except OSError:
        return []
    return sorted(seen, key=lambda entry: entry.name)
