"""Small trees of skin data sets for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from wardround.medical_datasets.cohort import Dataset
from wardround.medical_datasets.listing import Item, Listing, Wanted

from ..pictures import pattern, save


def table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]], *, separator: str = ",") -> Path:
    """A table as spreadsheets write it: byte-order mark, CRLF, quotes where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(f'"{cell}"' if separator in cell else cell for cell in row) for row in (columns, *rows)]
    path.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    return path


def images(folder: Path, names: Iterable[str]) -> None:
    """One small coloured picture a name; each looks different."""
    for seed, name in zip(itertools.count(len(str(folder)) * 1000), names, strict=False):
        save(folder / name, pattern(seed, 32, colour=True))


def one_hot(names: Sequence[str], name: str) -> list[str]:
    """Cells like ``0.0`` with one ``1.0``."""
    return ["1.0" if each == name else "0.0" for each in names]


def listed(dataset: Dataset, root: Path, *classes: str) -> Listing:
    """What the data set finds."""
    return dataset.read(dataset, Wanted(root, classes or None))


def by_stem(listing: Listing) -> dict[str, Item]:
    """Items by file name without its suffix."""
    assert not listing.problems, listing.problems
    return {Path(item.relative).stem: item for item in listing.items}


def reasons(listing: Listing) -> dict[str, str]:
    """Why files were skipped, by file name."""
    return {skipped.path.name: skipped.reason for skipped in listing.skipped}
