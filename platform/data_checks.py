"""Keys of ``[data]`` and ``[sites]`` that would have no effect, and names of sites that cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .data_sections import DataSection, SourceSection

if TYPE_CHECKING:
    from .config import Study

READ_BY = {
    "labels": ("dicom-folder", "nifti-folder", "csv"),
    "slices": ("nifti-folder", "brats"),
    "burned_in": ("dicom-folder", "csv", "isic-2020"),
}
"""Data sets that look at a key."""


def data_problems(study: Study) -> Iterator[str]:
    """Each such key as ``table.key: what is wrong; what to do``."""
    data, sites = study.data, study.sites
    yield from _options(data)
    for at, source in enumerate(data.sources):
        yield from _source(f"data.sources.{at}", source, study)
    if not sites.column:
        return
    if data.source == "phantoms":
        yield "sites.column: phantoms come with their sites and have no table; leave the key out"
    elif not takes_sites(study):
        yield (
            "sites.column: it is not looked at where sites are dealt out; set sites.partition = 'column', or leave the "
            "key out"
        )
    elif data.sources and all(source.site or source.column for source in data.sources):
        yield "sites.column: every source has a site or a column of its own; leave the key out"


def _options(data: DataSection) -> Iterator[str]:
    for key, readers in READ_BY.items():
        if getattr(data, key) == type(data).model_fields[key].default:
            continue
        if data.source == "phantoms":
            yield f"data.{key}: phantoms have none; leave the key out"
        elif data.source == "joined":
            yield f"data.{key}: each source of a joined study has its own; set data.sources.{key} where it is needed"
        elif data.dataset not in readers and _is_known(data.dataset):
            yield _unread(f"data.{key}", data.dataset, readers)


def _source(where: str, source: SourceSection, study: Study) -> Iterator[str]:
    from .site_names import SiteNameError, plain_site  # it needs the module that checks studies

    for key, readers in READ_BY.items():
        set_here = getattr(source, key) != type(source).model_fields[key].default
        if set_here and source.dataset not in readers and _is_known(source.dataset):
            yield _unread(f"{where}.{key}", source.dataset, readers)
    if source.site and source.column:
        yield f"{where}.column: '{source.site}' holds all of this source; leave out either site or column"
    if source.site:
        try:
            name = plain_site(source.site)
        except SiteNameError as error:
            yield f"{where}.site: {error.what}; {error.remedy[0].lower()}{error.remedy[1:]}"
        else:
            if name != source.site:
                yield f"{where}.site: '{source.site}' cannot be a site's name; write '{name}'"
    for key in ("site", "column"):
        if getattr(source, key) and not takes_sites(study):
            yield (
                f"{where}.{key}: it is not looked at where sites are dealt out; set sites.partition = 'column', or "
                "leave the key out"
            )


def _unread(key: str, dataset: str, readers: tuple[str, ...]) -> str:
    return f"{key}: '{dataset}' does not look at it, only {', '.join(readers)} do; leave the key out"


def takes_sites(study: Study) -> bool:
    """Whether it matters which site an image of a folder came with."""
    return study.sites.partition == "column" or study.reference.source == "site"


def _is_known(dataset: str) -> bool:
    """Whether there is such a data set; of another, its name is what is wrong."""
    from ..medical_datasets.catalog import DATASETS  # every reader, for the few studies that set such a key

    return dataset in DATASETS
