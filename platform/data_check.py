"""Check the images of a folder, or of every folder of a study, with the embedded encoder's opinion of each picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..medical_datasets.catalog import find_dataset, list_images, recognise
from ..medical_datasets.cohort import Picture
from ..medical_datasets.errors import DataError
from ..medical_datasets.listing import Listing, Wanted
from ..medical_datasets.quality.check import check_listing, outlier_problems
from ..medical_datasets.quality.outliers import LEAST_IMAGES
from ..medical_datasets.quality.report import Problem, QualityReport
from .config import Study
from .data_checks import READ_BY
from .errors import PlatformError, StudyFileError
from .study_cohort import listed_images
from .watching import Watcher

if TYPE_CHECKING:
    from .features import Progress

Encode = Callable[[Sequence[Picture], "Progress"], tuple[NDArray[np.int64], NDArray[np.float32]]]
"""Images to (kept, features): indices of those that could be read, and float32 (kept, D) rows of norm 1."""


@dataclass(frozen=True, slots=True)
class Source:
    """One folder to check.

    Attributes:
        name: what the report calls it; empty where it is the only one.
        listing: what was found in it.
        classes: look at these alone; None: all of the listing.
        site_column: column that names the site; None: the data set's own key.
    """

    name: str
    listing: Listing
    classes: tuple[str, ...] | None = None
    site_column: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A source and the findings on it."""

    listing: Listing
    report: QualityReport


def folder_source(folder: Path, *, dataset: str | None = None, labels: str | None = None) -> Source:
    """A folder as the data set of a key, else as what it looks like.

    Args:
        folder: the folder (or, where the data set says so, the one file).
        dataset: a key that ``wardround data list`` prints.
        labels: the table of a data set that has no fixed one, relative to the folder.

    Raises:
        DatasetLayoutError: unknown key, missing folder or table, or nothing in the folder is known.
        PlatformError: ``labels`` is given, and the data set does not look at it.
    """
    # Pictures said to have text burned in are what a person should look at before a study leaves them out.
    wanted = Wanted(folder, burned_in=True) if labels is None else Wanted(folder, labels=labels, burned_in=True)
    found = recognise(folder, wanted.labels) if dataset is None else find_dataset(dataset)
    if labels is not None and found.key not in READ_BY["labels"]:
        known = "recognised as" if dataset is None else "checked as"
        raise PlatformError(
            f"--labels {labels} would have no effect: the folder is {known} {found.key}, which does not look at it",
            where=str(folder),
            remedy=f"Leave it out, or give --dataset with one of {', '.join(READ_BY['labels'])}, which do",
        )
    try:
        return Source("", list_images(found, wanted))
    except DataError as refused:
        # The same refusal meets a study, which writes keys; here the way out is an option.
        remedy = refused.remedy.replace("the key labels", "--labels FILE")
        raise type(refused)(refused.what, where=refused.where, remedy=remedy) from refused


def study_sources(study: Study, where: Path) -> Iterator[Source]:
    """The folders of a study.

    Args:
        study: as it was read. where: its file, for messages.

    Raises:
        StudyFileError: the study draws its images, or names what does not exist.
        DataError: a folder or table is missing.
    """
    if study.data.source == "phantoms":
        raise StudyFileError(
            "the study generates its images; there is no folder to check",
            where=str(where),
            remedy="Run it, then check RUN/phantoms",
        )
    alone = study.data.source == "folder"
    for each in listed_images(study):
        # The sources of a joined study are checked whole: what its class maps leave out may be what is wrong.
        classes = study.data.classes if alone and study.data.classes and each.listing.dataset.classes else None
        yield Source("" if alone else each.name, each.listing, classes, each.column)


def check_source(source: Source, *, encode: Encode | None, watcher: Watcher, workers: int = 2) -> Checked:
    """Check one source.

    Args:
        source: what to look at.
        encode: makes features for the search of foreign pictures; None leaves that search out. Too few images for it
            are an info finding ``foreign-not-looked-for``.
        watcher: told how far it is.
        workers: threads that read and compare pictures, >= 1.

    Raises:
        DataError: the classes are none of the data set's.
        BackboneError, CacheError: as ``features.encode``.
    """
    listing = _with_sites(source)
    watcher.stage(f"looking at images{f' of {source.name}' if source.name else ''}")
    report = check_listing(
        listing,
        name=source.name,
        classes=source.classes,
        workers=workers,
        progress=lambda done, total: watcher.progress(done, total, "images"),
    )
    if encode is not None and report.readable >= LEAST_IMAGES:
        watcher.stage("encoding")
        # Classes that were not asked for may well look different.
        asked = {listing.dataset.class_index(name) for name in source.classes or listing.dataset.class_names}
        items = [item for item in listing.items if item.label in asked]
        kept, features = encode(
            [item.image(listing.root) for item in items],
            lambda done, total, rate: watcher.progress(done, total, "images", rate),
        )
        report = report.with_problems(outlier_problems([items[at].name for at in kept.tolist()], features))
    elif encode is not None:
        message = (
            f"foreign pictures were not looked for: {report.readable} readable images are too few to tell what is "
            f"usual, which takes {LEAST_IMAGES}; look at them yourself"
        )
        report = report.with_problems([Problem("info", "foreign-not-looked-for", message, report.readable)])
    return Checked(listing, report)


def embedded_encoder(cache: Path | None = None) -> Encode:
    """Features of the embedded encoder, which needs no download; those in the cache are used and new ones kept there.

    Args:
        cache: feature cache; None for WARDROUND_CACHE or its default.

    Raises:
        BackboneError: its weights cannot be read.
    """
    from .backbone import load_backbone  # torch takes seconds to import
    from .features import default_cache, encode

    backbone = load_backbone("embedded")

    def run(images: Sequence[Picture], progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        table = encode(images, backbone, cache=cache or default_cache(), progress=progress)
        return table.kept, table.features

    return run


def _with_sites(source: Source) -> Listing:
    """The listing with each image's site by the study's column, where it is filled."""
    column = source.site_column.lower() if source.site_column else None
    if column is None or column not in source.listing.columns:
        return source.listing
    items = tuple(replace(item, site=item.cells.get(column) or None) for item in source.listing.items)
    return replace(source.listing, items=items)
