"""From a study to its records: one folder, several joined, or phantoms. No picture is encoded here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..medical_datasets.catalog import DATASETS, list_images
from ..medical_datasets.class_maps import map_classes
from ..medical_datasets.classes import keep_classes, named_classes
from ..medical_datasets.cohort import Cohort, Dataset
from ..medical_datasets.errors import DataError
from ..medical_datasets.joined import Source, join
from ..medical_datasets.listing import Listing, Wanted
from ..medical_datasets.loading import cohort_of
from ..medical_datasets.reading import DIRECT, Reader
from ..medical_datasets.synthetic.population import PhantomStudy, demo_study
from ..medical_datasets.synthetic.writer import materialise
from .config import Study
from .errors import StudyFileError


@dataclass(frozen=True, slots=True)
class Listed:
    """One folder of a study.

    Attributes:
        name: for messages: its path; of several, with its place in the study file.
        listing: what was found in it.
        column: column of its table that names the site; None: the data set's own key.
    """

    name: str
    listing: Listing
    column: str | None


def phantom_study(study: Study) -> PhantomStudy:
    """The phantom sites that a synthetic study describes; its reference site is one more of them."""
    kind = DATASETS[study.data.dataset].modality
    extra = 1 if study.reference.source == "site" else 0
    return demo_study(
        "brain" if kind == "brain-mri" else "skin",
        sites=study.sites.count + extra,
        seed=study.seed,
        images_per_site=study.data.images_per_site,
    )


def study_dataset(study: Study, key: str = "", where: str = "data.dataset") -> Dataset:
    """The data set that a study (or one of its sources, by ``key``) names.

    Raises:
        StudyFileError: there is none of that name.
    """
    key = key or study.data.dataset
    if key not in DATASETS:
        near = difflib.get_close_matches(key, DATASETS, n=1)
        raise StudyFileError(
            f"unknown data set '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""),
            where=where,
            remedy=f"Known: {', '.join(DATASETS)}; `wardround data list` describes them",
        )
    return DATASETS[key]


def read_cohort(
    study: Study,
    phantoms: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    reader: Reader = DIRECT,
    note: Callable[[str], None] = lambda _: None,
) -> Cohort:
    """Load (or generate) the study's records.

    Args:
        study: what to read.
        phantoms: folder for generated images; written only when the study is synthetic.
        progress: called with (done, total) while phantoms are drawn.
        reader: answers what is asked of image files, e.g. an index that remembers them.
        note: told where a map of classes between data sets is not exact.

    Raises:
        StudyFileError: the study names a data set that does not exist, or prompts for a class that it does not have.
        DataError: from the loaders: missing folder, unknown or empty class, bad table.
    """
    dataset = study_dataset(study)
    if study.data.source == "phantoms":
        return materialise(phantom_study(study), phantoms, progress)
    listed = list(listed_images(study))
    if study.data.source == "folder":
        (only,) = listed
        classes = study.data.classes if dataset.classes and study.data.classes else None
        cohort = cohort_of(only.listing, classes=classes, site_column=only.column, reader=reader)
    else:
        cohort = _joined(study, _target(study, dataset), listed, reader, note)
    return replace(cohort, dataset=with_prompts(cohort.dataset, study))


def _joined(
    study: Study, target: Dataset, listed: Sequence[Listed], reader: Reader, note: Callable[[str], None]
) -> Cohort:
    keys = [section.dataset for section in study.data.sources]
    sources = []
    for at, (section, each) in enumerate(zip(study.data.sources, listed, strict=True)):
        earlier = keys[:at].count(section.dataset)
        try:
            found = map_classes(each.listing.dataset, target, section.map, section.exclude)
        except DataError as error:
            raise StudyFileError(error.what, where=f"data.sources.{at}", remedy=error.remedy) from None
        for words in found.notes:
            note(f"class map of {each.name}: {words}")
        sources.append(
            Source(
                name=f"{section.dataset}-{earlier + 1}" if earlier else section.dataset,
                listing=each.listing,
                labels=found.labels,
                site=section.site,
                site_column=each.column,
            )
        )
    return join(target, sources, reader=reader)


def listed_images(study: Study) -> Iterator[Listed]:
    """The images of each folder of a study that has folders, before any of them is opened.

    Raises:
        StudyFileError, DataError: as :func:`read_cohort`.
    """
    data = study.data
    if data.source == "folder":
        wanted = Wanted(Path(data.path), data.classes or None, data.labels, data.slices, data.burned_in)
        yield Listed(data.path, list_images(study_dataset(study), wanted), study.sites.column or None)
        return
    names = _target(study, study_dataset(study)).class_names  # what a source without classes of its own may say too
    for at, source in enumerate(data.sources):
        where = f"data.sources.{at}"
        dataset = study_dataset(study, source.dataset, f"{where}.dataset")
        own = None if dataset.classes else tuple(dict.fromkeys((*source.map, *source.exclude, *names)))
        wanted = Wanted(Path(source.path), own, source.labels, source.slices, source.burned_in)
        column = source.column or study.sites.column or None
        yield Listed(f"{where} ({source.path})", list_images(dataset, wanted), column)


def with_prompts(dataset: Dataset, study: Study) -> Dataset:
    """The data set with the study's own sentences for its classes.

    Raises:
        StudyFileError: they are for a class that the data set does not have.
    """
    classes = list(dataset.classes)
    for name, sentences in study.data.prompts.items():
        label = dataset.class_index(name)
        if label is None:
            raise StudyFileError(
                f"'{name}' is no class of the study",
                where="data.prompts",
                remedy=f"Its classes are {', '.join(dataset.class_names)}",
            )
        classes[label] = replace(classes[label], prompts=sentences)
    return replace(dataset, classes=tuple(classes))


def _target(study: Study, dataset: Dataset) -> Dataset:
    """The classes of a joined study: those of its data set that it keeps, or those that it names."""
    names = study.data.classes or None
    if dataset.classes:
        return keep_classes(dataset, names)
    return replace(dataset, classes=named_classes(names, dataset, ()))
