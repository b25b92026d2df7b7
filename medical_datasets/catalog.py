"""The data sets that Wardround reads, by key, and the one function that turns a folder into a cohort."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .class_folders import folder_names
from .cohort import Cohort, Dataset, normalise_name
from .errors import DatasetLayoutError
from .folders import scan
from .listing import Listing, Wanted
from .loading import cohort_of
from .reading import DIRECT, Reader
from .recognition import by_content
from .sets.bcn20000 import BCN20000
from .sets.brain_mri import BRAIN_MRI
from .sets.brats import BRATS
from .sets.csv_listed import CSV_LISTED
from .sets.derm7pt import DERM7PT
from .sets.dicom_folder import DICOM_FOLDER
from .sets.domains import DOMAINS
from .sets.facmic_brain import FACMIC_BRAIN
from .sets.figshare_brain import FIGSHARE_BRAIN
from .sets.fitzpatrick17k import FITZPATRICK17K, FITZPATRICK17K_NINE
from .sets.ham10000 import HAM10000
from .sets.isic_2018 import ISIC_2018
from .sets.isic_2019 import ISIC_2019
from .sets.isic_2020 import ISIC_2020
from .sets.isic_folders import ISIC
from .sets.medmnist import MEDMNIST
from .sets.nifti_folder import NIFTI_FOLDER
from .sets.pad_ufes_20 import PAD_UFES_20

DATASETS: Final[dict[str, Dataset]] = {
    data.key: data
    for data in (
        BRAIN_MRI,
        FACMIC_BRAIN,
        FIGSHARE_BRAIN,
        BRATS,
        HAM10000,
        ISIC,
        ISIC_2018,
        ISIC_2019,
        ISIC_2020,
        BCN20000,
        PAD_UFES_20,
        DERM7PT,
        FITZPATRICK17K,
        FITZPATRICK17K_NINE,
        *MEDMNIST,
        DICOM_FOLDER,
        NIFTI_FOLDER,
        CSV_LISTED,
        DOMAINS,
    )
}
"""In the order in which they are listed; of two that fit a folder equally well, the earlier is recognised."""

_FOLDER_SETS: Final = ("brain-mri", "ham10000", "isic")  # those that class folders without any table can be


def find_dataset(key: str) -> Dataset:
    """The data set of a key.

    Raises:
        DatasetLayoutError: there is none; the nearest key is named.
    """
    if key in DATASETS:
        return DATASETS[key]
    near = difflib.get_close_matches(key.lower(), DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DatasetLayoutError(
        f"there is no data set {key!r}", where="dataset", remedy=f"{hint}known are {', '.join(DATASETS)}"
    )


def recognise(root: Path, labels: str = "labels.csv") -> Dataset:
    """The data set that a folder holds: by a file of its own, by the names of its folders, or by a look inside.

    Of class folders, the data set whose class names fit best is taken; names count before aliases. One class folder
    alone may have its name by chance: then what the folder holds (:func:`..recognition.by_content`) comes first.

    Args:
        root: the folder, or the one file of a data set that is a file.
        labels: the table of a data set that has no fixed one, relative to ``root``.

    Raises:
        DatasetLayoutError: ``root`` is missing, is a file that is no data set, or nothing in it tells one.
    """
    if not root.exists():
        raise DatasetLayoutError("the folder does not exist", where=str(root), remedy="give the folder with the images")
    signed = [(len(_signed(root, dataset)), dataset) for dataset in DATASETS.values()]
    most, sure = max(signed, key=lambda score: score[0])
    if most:
        return sure
    if not root.is_dir():
        raise DatasetLayoutError(
            "this is a file, and only an archive of MedMNIST is a data set of one file",
            where=str(root),
            remedy=f"give the folder with the images, such as {root.parent}; a table of labels is named by --labels "
            "with it, a study file ends in .toml",
        )
    scores: list[tuple[int, int, Dataset]] = []
    for dataset in (DATASETS[key] for key in _FOLDER_SETS):
        found = scan(root, dataset)
        names = {normalise_name(Path(name).name) for each in found.class_folders.values() for name in each}
        exact = sum(normalise_name(name) in names for name in dataset.class_names)
        scores.append((len(found.class_folders), exact, dataset))
    labelled, _, best = max(scores, key=lambda score: score[:2])
    if labelled > 1:
        return best
    told = by_content(root, labels)
    if told:
        return DATASETS[told]
    if labelled == 0:
        known = "; ".join(f"{key}: {', '.join(DATASETS[key].class_names)}" for key in _FOLDER_SETS)
        raise DatasetLayoutError(
            "no folder has the name of a class of any known data set, and no file tells one",
            where=f"{root} (holds {folder_names(scan(root, BRAIN_MRI).top)})",
            remedy=f"name the data set: --dataset KEY, data.dataset in a study (wardround data list prints the keys); "
            f"for a table of images, labels.csv with the columns path and label, or --labels FILE; "
            f"or name the class folders like one of these: {known}",
        )
    return best


def list_images(dataset: Dataset, wanted: Wanted) -> Listing:
    """Find the images of a data set, none of them opened; items sorted by path and part.

    Raises:
        DatasetLayoutError: the folder or the data set's table is not there. What else is wrong is in the listing.
    """
    return dataset.read(dataset, wanted)


def load_cohort(
    dataset_key: str,
    root: Path,
    *,
    classes: Sequence[str] | None = None,
    site_column: str | None = None,
    allow_empty: bool = False,
    labels: str = "labels.csv",
    slices: int = 1,
    burned_in: bool = False,
    reader: Reader = DIRECT,
) -> Cohort:
    """Read a folder of images into a cohort.

    Args:
        dataset_key: a key of ``DATASETS``.
        root: the folder in the layout that the data set's file describes.
        classes, labels, slices, burned_in: see :class:`..listing.Wanted`.
        site_column, allow_empty, reader: see :func:`..loading.cohort_of`.

    Returns:
        The cohort, records sorted by relative path.

    Raises:
        DatasetLayoutError: missing folder, unknown key, or no class folder.
        UnknownClassError: a folder, a row or ``classes`` names a class that the data set does not have.
        EmptyClassError: a kept class has no readable image.
        TableError: a table contradicts the folders or lacks a column.
    """
    dataset = find_dataset(dataset_key)
    kept = None if classes is None else tuple(classes)
    listing = list_images(dataset, Wanted(root, kept, labels, slices, burned_in))
    return cohort_of(
        listing,
        classes=classes if dataset.classes else None,  # else they are the listing's classes already
        site_column=site_column,
        allow_empty=allow_empty,
        reader=reader,
    )


def _signed(root: Path, dataset: Dataset) -> list[str]:
    """Names of the data set's own files that are there, directly in the folder; or the file itself."""
    if root.is_file():
        return [name for name in dataset.signature if root.match(name)]
    return [name for name in dataset.signature if any(root.glob(name))]
