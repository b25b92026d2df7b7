"""Which classes the data of a source hold, where its data set has none of its own: every one, before any is chosen.

A study that joins sources must say of each class where it goes, so all of them have to be known, not only those that
the study names. A table says it in its column ``label``; a folder of domains by the folders in those of its sites.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from .cohort import Dataset, normalise_name
from .errors import DatasetLayoutError, UnknownClassError
from .listing import Wanted
from .pixels import IMAGE_SUFFIXES
from .tables import read_table
from .written import path_below, quoted

TABLES: Final = frozenset({"csv", "dicom-folder", "nifti-folder"})
"""Keys of data sets whose table, ``wanted.labels``, has the class of every image in its column ``label``."""

FOLDERS: Final = frozenset({"domains"})
"""Keys of data sets with a folder a site and a folder a class in each."""

_SPLITS: Final = frozenset({"training", "train", "testing", "test", "validation", "valid", "val"})


def labels_path(wanted: Wanted) -> Path:
    """Where the table of labels is; it need not be there.

    Raises:
        DatasetLayoutError: the key ``labels`` names none below the data folder.
    """
    below = path_below(wanted.labels)
    if below is None:
        raise DatasetLayoutError(
            f"the table {quoted(wanted.labels)} is not below the data folder",
            where="labels",
            remedy="write its path relative to the data folder, without '..'",
        )
    return wanted.root / below


def labels_there(dataset: Dataset, wanted: Wanted, known: Iterable[str]) -> tuple[str, ...]:
    """Names of the classes in a source's data, each in the spelling that is met first; none where nothing tells them.

    Args:
        dataset: one without classes of its own; of others, none.
        wanted: where the data are; its classes are not looked at.
        known: names of classes that the study speaks of: a folder that holds one of these is no class, but lies
            above classes.

    Raises:
        DataError: the table cannot be read. A table or folder that is not there is the data set's own to report.
        UnknownClassError: a label has no letter or digit, by which labels are compared.
    """
    if dataset.classes or not wanted.root.is_dir():
        return ()
    if dataset.key in TABLES:
        table = labels_path(wanted)
        found: Iterable[str] = _column(table) if table.is_file() else ()
    else:
        plain = frozenset(normalise_name(name) for name in known)
        found = (name for site in _folders(wanted.root) for name in _classes(site, plain))
    return unlike_names(found)


def unlike_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names without those that are empty, or that an earlier one equals after :func:`.cohort.normalise_name`."""
    first: dict[str, str] = {}
    for name in names:
        plain = normalise_name(name)
        if plain:
            first.setdefault(plain, name)
    return tuple(first.values())


def _column(table: Path) -> Iterator[str]:
    for row in read_table(table, ("label",)).rows:
        label = row.cells["label"]
        if label and not normalise_name(label):
            raise UnknownClassError(
                f"the label {label!r} has no letter or digit", where=row.where, remedy="write a word for it"
            )
        yield label


def _classes(folder: Path, known: frozenset[str]) -> Iterator[str]:
    """Names of class folders below a site's folder, or below what lies between the two."""
    for path in _folders(folder):
        plain = normalise_name(path.name)
        if plain not in known and (plain in _SPLITS or any(normalise_name(name) in known for name in _below(path))):
            yield from _classes(path, known)
        elif _holds_images(path):
            yield path.name


def _below(folder: Path) -> Iterator[str]:
    return (name for _, names, _ in os.walk(folder) for name in names)


def _holds_images(folder: Path) -> bool:
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for _, _, files in os.walk(folder) for name in files)


def _folders(folder: Path) -> list[Path]:
    """Visible folders in a folder by name; none where it cannot be listed, which the data set reports."""
    try:
        return sorted(
            Path(entry.path)
            for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        )
    except OSError:
        return []
