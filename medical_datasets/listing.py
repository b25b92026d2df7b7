"""What the file of a data set yields: images found on disk with what their tables and tags say of them.

A data set's ``read`` turns a folder into a :class:`Listing` without decoding a picture; :mod:`.loading` makes a cohort
of it, and ``data check`` looks at it as it is, faults included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from .cohort import Dataset, ImageRef, Skipped
from .errors import DataError

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a data set.

    Attributes:
        root: the folder (or, where the data set says so, the one file).
        classes: names or aliases of the classes to keep; None: all. Their order is the label order where the data set
            has no classes of its own.
        labels: the table of a data set that has no fixed one, relative to ``root``.
        slices: pictures taken of each volume, >= 1.
        burned_in: take images whose tag says that text is burned into the picture.
    """

    root: Path
    classes: tuple[str, ...] | None = None
    labels: str = "labels.csv"
    slices: int = 1
    burned_in: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One image that was found.

    Attributes:
        relative: path below the root, with forward slashes.
        label: index into the listing's classes.
        part: which picture of the file; empty: it holds one.
        group: what related images share, as ``column:value``, e.g. ``"patient_id:17"``; None: not known.
        site: the site that holds it by the data set's own key, or None.
        split: ``train``, ``validation`` or ``test`` as the data came, or None.
        subgroups: for subgroup figures; unknown values are left out.
        cells: the row of its table, column names in lower case. They stay on the machine.
        where: table and row, for messages.
    """

    relative: str
    label: int
    part: str = ""
    group: str | None = None
    site: str | None = None
    split: str | None = None
    subgroups: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    cells: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    where: str = ""

    @property
    def name(self) -> str:
        """The image in one word, for local people: its path below the root, and its part."""
        return f"{self.relative}#{self.part}" if self.part else self.relative

    def image(self, root: Path) -> ImageRef:
        """What :mod:`.pixels` reads."""
        return ImageRef(root / self.relative, self.part)


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a folder, before any of them is opened.

    Attributes:
        root: the folder that relative paths start from.
        dataset: the data set with its classes; where the study names them, those.
        items: sorted by relative path, then part; classes that were not asked for may be left out.
        skipped: files and rows that give no image, each with its reason.
        problems: what a loader refuses, in the order in which a person would mend it; a check reports all of them.
        columns: columns of the tables that were read, in lower case.
        folders: class folders by label, relative to the root, for messages.
        synthetic: phantoms.
    """

    root: Path
    dataset: Dataset
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = ()
    problems: tuple[DataError, ...] = ()
    columns: tuple[str, ...] = ()
    folders: Mapping[int, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    synthetic: bool = False
