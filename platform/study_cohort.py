"""From a study to its records: one folder, several joined, or phantoms. No picture is encoded here."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import abspath
from pathlib import Path

from ..medical_datasets.catalog import DATASETS, list_images
from ..medical_datasets.class_maps import map_classes
from ..medical_datasets.classes import keep_classes, named_classes
from ..medical_datasets.cohort import Cohort, Dataset, normalise_name
from ..medical_datasets.errors import DataError, TableError
from ..medical_datasets.joined import Source, join
from ..medical_datasets.listing import Listing, Wanted
from ..medical_datasets.loading import cohort_of
from ..medical_datasets.reading import DIRECT, Reader
from ..medical_datasets.sets.medmnist import REFUSED
from ..medical_datasets.source_labels import labels_there, unlike_names
from ..medical_datasets.synthetic.population import PhantomStudy, demo_study
from ..medical_datasets.synthetic.writer import materialise
from .config import Study
from .data_checks import takes_sites
from .errors import StudyFileError
from .site_names import SiteNameError, plain_sites


@dataclass(frozen=True, slots=True)
class Listed:
    """One folder of a study.

    Attributes:
        name: for messages: its path; of several, with its place in the study file.
        listing: what was found in it.
        column: column of its table that names the site; None: the data set's own key.
        labels: classes that its data hold, where they are not the data set's; empty: all of the listing's.
    """

    name: str
    listing: Listing
    column: str | None
    labels: tuple[str, ...] = ()


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
    return known_dataset(key or study.data.dataset, where)


def known_dataset(key: str, where: str = "dataset") -> Dataset:
    """The data set of a key.

    Raises:
        StudyFileError: there is none of that name; the nearest is named, or why it is not read.
    """
    if key in DATASETS:
        return DATASETS[key]
    if key.lower() in REFUSED:
        raise StudyFileError(
            f"the data set '{key}' is not read: {REFUSED[key.lower()]}",
            where=where,
            remedy="Choose another: `wardround data list` describes those that are read",
        )
    near = difflib.get_close_matches(key.lower(), DATASETS, n=1)
    raise StudyFileError(
        f"unknown data set '{key}'" + (f"; did you mean '{near[0]}'?" if near else ""),
        where=where,
        remedy=f"Known: {', '.join(DATASETS)}; `wardround data list` describes them",
    )


def read_cohort(
    study: Study,
    phantoms: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    reader: Reader = DIRECT,
    note: Callable[[str], None] = lambda _: None,
    only: Collection[int] | None = None,
) -> Cohort:
    """Load (or generate) the study's records.

    Where the study takes sites from the data, each gets its name by :func:`..site_names.plain_site`.

    Args:
        study: what to read.
        phantoms: folder for generated images; written only when the study is synthetic.
        progress: called with (done, total) while phantoms are drawn.
        reader: answers what is asked of image files, e.g. an index that remembers them.
        note: told where a map of classes between data sets is not exact.
        only: of a joined study, the sources to read, by their place; a class may then be without images. None: all.

    Raises:
        StudyFileError: the study names a data set that does not exist, or prompts for a class that it does not have.
        DataError: from the loaders: missing folder, unknown or empty class, bad table; or a site cannot be called as
            it is written.
    """
    dataset = study_dataset(study)
    if study.data.source == "phantoms":
        return materialise(phantom_study(study), phantoms, progress)
    listed = list(listed_images(study, only))
    if study.data.source == "folder":
        (whole,) = listed
        classes = study.data.classes if dataset.classes and study.data.classes else None
        cohort = cohort_of(whole.listing, classes=classes, site_column=whole.column, reader=reader)
    else:
        cohort = _joined(study, target_dataset(study, dataset), listed, reader, note, only)
    if takes_sites(study):
        cohort = _with_plain_sites(cohort, study, listed)
    return replace(cohort, dataset=with_prompts(cohort.dataset, study))


def own_sources(study: Study, sites: Collection[str]) -> tuple[int, ...]:
    """Places of the sources that are of these sites."""
    return tuple(at for at, source in enumerate(study.data.sources) if source.site in sites)


def source_names(study: Study) -> tuple[str, ...]:
    """What each source of a joined study is called, in its groups and messages: its data set, numbered if repeated."""
    keys = [section.dataset for section in study.data.sources]
    return tuple(f"{key}-{n + 1}" if (n := keys[:at].count(key)) else key for at, key in enumerate(keys))


def _with_plain_sites(cohort: Cohort, study: Study, listed: Sequence[Listed]) -> Cohort:
    fixed = {section.site for section in study.data.sources if section.site}
    try:
        names = plain_sites({record.site for record in cohort.records if record.site} - fixed, fixed)
    except SiteNameError as error:
        rows = (
            item.where or item.name
            for record in cohort.records
            if record.site == error.written
            for each in listed
            for item in each.listing.items
            if item.part == record.part and abspath(each.listing.root / item.relative) == abspath(record.path)
        )
        raise TableError(error.what, where=next(rows, "data.sources"), remedy=error.remedy) from None
    records = (replace(each, site=names[each.site] if each.site else None) for each in cohort.records)
    return replace(cohort, records=tuple(records))


def _joined(
    study: Study,
    target: Dataset,
    listed: Sequence[Listed],
    reader: Reader,
    note: Callable[[str], None],
    only: Collection[int] | None,
) -> Cohort:
    sources = []
    names = source_names(study)
    for at, each in zip(_places(study, only), listed, strict=True):
        name, section = names[at], study.data.sources[at]
        dataset = each.listing.dataset
        there = {normalise_name(label) for label in each.labels} or set(map(normalise_name, dataset.class_names))
        held = [label for label, known in enumerate(dataset.class_names) if normalise_name(known) in there]
        judged = replace(dataset, classes=tuple(dataset.classes[label] for label in held))
        try:
            found = map_classes(judged, target, section.map, section.exclude)
        except DataError as error:
            raise StudyFileError(error.what, where=f"data.sources.{at}", remedy=error.remedy) from None
        for words in found.notes:
            note(f"class map of {each.name}: {words}")
        to = dict(zip(held, found.labels, strict=True))
        sources.append(
            Source(
                name=name,
                listing=each.listing,
                labels=tuple(to.get(label) for label in range(len(dataset.classes))),
                site=section.site,
                site_column=each.column,
            )
        )
    return join(target, sources, allow_empty=only is not None, reader=reader)


def _places(study: Study, only: Collection[int] | None) -> list[int]:
    return [at for at in range(len(study.data.sources)) if only is None or at in only]


def listed_images(study: Study, only: Collection[int] | None = None) -> Iterator[Listed]:
    """The images of each folder of a study that has folders, before any of them is opened.

    Args:
        study: says which. only: of a joined study, the sources to list, by their place; None: all.

    Raises:
        StudyFileError, DataError: as :func:`read_cohort`.
    """
    data = study.data
    if data.source == "folder":
        wanted = Wanted(Path(data.path), data.classes or None, data.labels, data.slices, data.burned_in)
        yield Listed(data.path, list_images(study_dataset(study), wanted), study.sites.column or None)
        return
    names = target_dataset(
        study, study_dataset(study)
    ).class_names  # what a source without classes of its own may say too
    for at in _places(study, only):
        source = data.sources[at]
        where = f"data.sources.{at}"
        dataset = study_dataset(study, source.dataset, f"{where}.dataset")
        wanted = Wanted(Path(source.path), None, source.labels, source.slices, source.burned_in)
        there = labels_there(dataset, wanted, (*source.map, *source.exclude, *names))
        if not dataset.classes:
            # A source may hold one class alone, or none that can be told; a data set is read for two at least.
            more = () if len(there) > 1 else (*source.map, *source.exclude, *names)
            wanted = replace(wanted, classes=unlike_names((*there, *more)))
        column = source.column or study.sites.column or None
        yield Listed(f"{where} ({source.path})", list_images(dataset, wanted), column, there)


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


def target_dataset(study: Study, dataset: Dataset) -> Dataset:
    """The classes of a joined study: those of its data set that it keeps, or those that it names."""
    names = study.data.classes or None
    if dataset.classes:
        return keep_classes(dataset, names)
    return replace(dataset, classes=named_classes(names, dataset, ()))
