"""The shared language of the loaders: data sets, classes, records and cohorts.

A data set is described once, in its own file; class order comes from there and never from a folder listing, because
alphabetical order differs between public copies of the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from .listing import Listing, Wanted

Modality = Literal["brain-mri", "radiology", "dermoscopy", "clinical-photograph", "microscopy", "any"]
GREY: Final[frozenset[Modality]] = frozenset({"brain-mri", "radiology"})
"""Modalities whose pictures have no colour."""


@dataclass(frozen=True, slots=True)
class Code:
    """A class in a terminology that hospitals exchange.

    Attributes:
        system: which terminology.
        code: the concept's identifier there, e.g. ``"372244006"``.
        display: the terminology's own words for it.
    """

    system: Literal["SNOMED CT", "ICD-O-3", "ICD-10"]
    code: str
    display: str


@dataclass(frozen=True, slots=True)
class ClassLabel:
    """One class of a data set.

    Attributes:
        name: the key used in files, studies and reports, e.g. ``"glioma"``.
        clinical_name: how a clinician writes it, e.g. ``"Glioma"``.
        prompts: sentences whose text features are averaged to the class prompt; at least one.
        aliases: other spellings that folders and tables use for it, compared after :func:`normalise_name`.
        codes: the class in clinical terminologies, where one concept of them is the same class; else empty.
    """

    name: str
    clinical_name: str
    prompts: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    codes: tuple[Code, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is known of a data set before any picture of it is read, and how its images are found.

    Attributes:
        key: the name that studies use, e.g. ``"brain-mri"``.
        title: full name in words.
        modality: kind of picture.
        classes: classes in fixed order; a label is an index into this tuple. Empty where the study names them.
        layout: folders and files as they are unpacked, one line each.
        group_key: what two related images share: patient, lesion or near-duplicate cluster.
        site_key: what says which site an image belongs to, in words; empty: nothing does.
        subgroup_columns: names of the subgroups that records can have, e.g. ``("sex", "age_band")``.
        licence: terms of the public copy, in words.
        citation: paper or page to cite.
        obtain: how a person gets it, in words.
        read: finds the images; see :class:`..listing.Listing`.
        signature: names of files that only this data set has; any of them in the folder tells it.
    """

    key: str
    title: str
    modality: Modality
    classes: tuple[ClassLabel, ...]
    layout: tuple[str, ...]
    group_key: str
    site_key: str
    subgroup_columns: tuple[str, ...]
    licence: str
    citation: str
    obtain: str
    read: Callable[[Dataset, Wanted], Listing] = field(compare=False, repr=False)
    signature: tuple[str, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether its pictures have no colour."""
        return self.modality in GREY

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(label.name for label in self.classes)

    def class_index(self, name: str) -> int | None:
        """Label of a class by name or alias, or None when the data set has no such class."""
        wanted = normalise_name(name)
        for index, label in enumerate(self.classes):
            if wanted in {normalise_name(spelling) for spelling in (label.name, *label.aliases)}:
                return index
        return None


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """Where one picture is: a file, or a part of one.

    Attributes:
        path: the file.
        part: which picture in it, in the words of its reader, e.g. ``"frame=3"`` or ``"axial=77"``; empty: the file
            holds one.
    """

    path: Path
    part: str = ""

    def __str__(self) -> str:
        return f"{self.path}#{self.part}" if self.part else str(self.path)


Picture = Path | ImageRef
"""What the readers take: a file that holds one picture, or a reference."""


def picture_named(written: Path) -> Picture:
    """A picture as a person names it: a file, or ``FILE#PART`` where there is no file of that whole name."""
    file, mark, part = str(written).rpartition("#")
    if mark and not written.exists():
        return ImageRef(Path(file), part)
    return written


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a cohort.

    Attributes:
        path: the image file.
        label: index into the cohort's classes.
        group: patient, lesion or near-duplicate group; never on two sides of a split.
        site: the site that holds it, or None where sites are made later.
        subgroups: columns for subgroup figures, e.g. ``{"sex": "female", "age_band": "40-59"}``.
        part: which picture of the file; empty: it holds one.
    """

    path: Path
    label: int
    group: str
    site: str | None = None
    subgroups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    part: str = ""

    @property
    def image(self) -> ImageRef:
        """What :mod:`.pixels` reads."""
        return ImageRef(self.path, self.part)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was left out, and why. Shown to local people only: it names a file.

    Attributes:
        path: the file.
        reason: equal for all files that were left out for one reason: it names no other file.
        of: the file that was kept in its place, where there is one.
    """

    path: Path
    reason: str
    of: str = ""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Records of one data set, in a fixed order.

    Attributes:
        dataset: the data set; its ``classes`` are those of this cohort (a study may keep a subset).
        root: the folder it was read from.
        records: sorted by path relative to ``root``, then by part.
        synthetic: True for phantoms; every report made from them says so.
        skipped: files that were left out.
        notes: what was done about the whole of it, for whoever runs a study: columns that were dropped.
        aliases: all names of each group that has several, its own among them, rising: a group of images that look alike
            has one for each image, so that it is found again when images come or go.
    """

    dataset: Dataset
    root: Path
    records: tuple[Record, ...]
    synthetic: bool = False
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


def normalise_name(name: str) -> str:
    """Lower case with every character but letters and digits removed: ``"No_Tumor"`` -> ``"notumor"``."""
    return "".join(character for character in name.lower() if character.isalnum())
