"""Several sources in one cohort: their classes mapped to the study's, one picture kept once, groups joined across them.

Ids of the ISIC archive mean the same wherever they are met: HAM10000 and BCN20000 lie inside ISIC 2019, so one lesion,
or one picture, may come from two sources. All other ids are those of the site that a source is of, for a hospital has
one numbering, however many exports; of a source without a site, its own. Patient 17 of one hospital is not patient 17
of another, and their groups get the name of the site or source.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .cohort import Cohort, Dataset, Record, Skipped
from .errors import DataError, DatasetLayoutError, EmptyClassError
from .grouping import PATIENT_COLUMNS, Groups, complete_groups, isic_id, join_by_keys, patient_of
from .listing import Item, Listing
from .loading import check_site_column, left_out, readable_items, site_of
from .reading import DIRECT, Reader, each
from .sets.brats import edition_of
from .subgroups import plain_subgroups

ISIC_FAMILY: Final = frozenset({"ham10000", "isic", "isic-2018", "isic-2019", "isic-2020", "bcn20000", "dermamnist"})
"""Keys of data sets whose pictures are in the ISIC archive."""

# Image, lesion and patient ids as the archive and the collections in it write them.
_ARCHIVE_ID: Final = re.compile(r"(?:ISIC|IL|IP|HAM|BCN|MSK\d?)_\d{7}", re.IGNORECASE)
_IMAGE_ID: Final = re.compile(r"(ISIC_\d{7})(?:_downsampled)?(?:\.[a-z]+)?", re.IGNORECASE)
_IMAGE_COLUMNS: Final = ("isic_id", "image", "image_id", "image_name", "img_id")
_OWNER_COLUMNS: Final = ("patient_id", "lesion_id")


@dataclass(frozen=True, slots=True)
class Source:
    """One data set among several.

    Attributes:
        name: what messages, groups and the subgroup ``source`` call it; unique, without ``/`` and ``:``.
        listing: what was found in it.
        labels: for each class of ``listing.dataset`` the label in the target, or None where it is left out.
        site: the site that holds all of it, without ``/`` and ``:``; empty: the items' own.
        site_column: column of its table that says the site, where ``site`` is empty; None: the data set's own key.
    """

    name: str
    listing: Listing
    labels: tuple[int | None, ...]
    site: str = ""
    site_column: str | None = None

    @property
    def space(self) -> str:
        """Within which ids are one numbering: the site, else the source itself."""
        return self.site or self.name


@dataclass(frozen=True, slots=True)
class _Found:
    """A readable image of one source; of a second copy ``twin`` says so in words, and ``of`` names the first.

    ``content`` is the hash of a file that another source may have too; else empty.
    """

    source: Source
    item: Item
    path: Path
    label: int
    content: str = ""
    twin: str = ""
    of: str = ""


def join(target: Dataset, sources: Sequence[Source], *, allow_empty: bool = False, reader: Reader = DIRECT) -> Cohort:
    """One cohort of several sources.

    A picture with the same ISIC id in two sources, or the same file, or a file of the same bytes, is kept in the first
    and skipped by name in later ones. If any image of any source has no known group, all images of all sources are
    compared, and those that look alike are joined (see :func:`..grouping.complete_groups`).

    Args:
        target: gives the classes and everything else that is said of the cohort.
        sources: in the order of precedence, at least one.
        allow_empty: accept a class without any image.
        reader: answers what is asked of the files.

    Returns:
        The cohort; its root is the folder above all roots. Every record has the subgroup ``source``; of the others
        those are left out that may name persons (see :func:`.subgroups.plain_subgroups`). Classes that a
        map leaves out are in ``skipped``, each image with its class and the class's count.

    Raises:
        DataError: the first problem of a listing, with the source's name.
        DatasetLayoutError: there is no source, a source's name or map does not fit, or sources hold two editions of
            BraTS.
        EmptyClassError: a class of the target has no readable image.
        TableError: a source has no such site column, or it is empty for an image.
    """
    _check(target, sources)
    found: list[_Found] = []
    skipped: list[Skipped] = []
    for source in sources:
        readable, left_out = _of_source(source, reader)
        found += readable
        skipped += left_out
    _refuse_editions(found)
    found = _marked_twins(_with_contents(found, reader), target)
    # Twins are grouped too: what one source knows of a picture counts for the copy that is kept.
    known = _known_groups(found)
    kept = sorted(
        ((image, group) for image, group in zip(found, known.names, strict=True) if not image.twin),
        key=lambda pair: (pair[0].path.as_posix(), pair[0].item.part),
    )
    skipped += [Skipped(_shown(image), image.twin, image.of) for image in found if image.twin]
    complete = complete_groups(
        [image.item.image(_root(image.source)) for image, _ in kept], [group for _, group in kept], reader
    )
    skipped += complete.skipped
    subgroups = plain_subgroups([image.item.subgroups for image, _ in kept])
    records = tuple(
        Record(
            path=image.path,
            label=image.label,
            group=group,
            site=image.source.site or site_of(image.item, image.source.site_column),
            subgroups=MappingProxyType({**shown, "source": image.source.name}),
            part=image.item.part,
        )
        for (image, _), group, shown in zip(kept, complete.names, subgroups.rows, strict=True)
        if group is not None
    )
    cohort = Cohort(
        dataset=replace(target, subgroup_columns=_columns(target, sources)),
        root=_common([_root(source) for source in sources]),
        records=records,
        synthetic=any(source.listing.synthetic for source in sources),
        notes=tuple(f"subgroup column {note}" for note in subgroups.notes),
        skipped=tuple(sorted(skipped, key=lambda each: str(each.path))),
        aliases=_aliases(known, complete),
    )
    if not allow_empty:
        _refuse_empty(cohort, sources)
    return cohort


def _check(target: Dataset, sources: Sequence[Source]) -> None:
    if not sources:
        raise DatasetLayoutError("there is no source", where="sources", remedy="name at least one")
    names = [source.name for source in sources]
    for at, source in enumerate(sources):
        if not source.name or not source.name.isprintable() or {"/", ":"} & set(source.name):
            raise DatasetLayoutError(
                f"{source.name!r} cannot be a source's name", where="sources", remedy="use letters, digits and dashes"
            )
        if source.name in names[:at]:
            raise DatasetLayoutError(
                f"two sources are called {source.name!r}", where="sources", remedy="give each a name of its own"
            )
        if {"/", ":"} & set(source.site) or (not source.site and source.name in {other.site for other in sources}):
            raise DatasetLayoutError(
                f"{source.site or source.name!r} cannot be the name of a site here: ids of patients could not be told "
                "apart by it",
                where=f"source {source.name!r}",
                remedy="give the site another name, of letters, digits and dashes, that no source has",
            )
        classes = source.listing.dataset.class_names
        if len(source.labels) != len(classes) or not all(
            label is None or 0 <= label < len(target.classes) for label in source.labels
        ):
            raise DatasetLayoutError(
                f"the class map {source.labels} does not fit {len(classes)} classes mapped to {len(target.classes)}",
                where=f"source {source.name!r}",
                remedy=f"say for each of {', '.join(classes)} which class it becomes, or that it is left out",
            )
        if source.listing.problems:
            first = source.listing.problems[0]
            raise _named(first, source)
        if not source.site:
            check_site_column(source.site_column, source.listing)


def _named(problem: DataError, source: Source) -> DataError:
    """The problem again, saying in which source it is; its kind is kept."""
    where = f"source {source.name!r}, {problem.where}" if problem.where else f"source {source.name!r}"
    return type(problem)(problem.what, where=where, remedy=problem.remedy)


def _of_source(source: Source, reader: Reader) -> tuple[list[_Found], list[Skipped]]:
    """Readable images with their target labels; and what is left out."""
    listing, root = source.listing, _root(source)
    kept = {label: to for label, to in enumerate(source.labels) if to is not None}
    items, damaged = readable_items(listing, kept, reader)
    counts = Counter(item.label for item in listing.items)
    names = listing.dataset.class_names
    unmapped = [
        Skipped(
            listing.root / item.name,
            f"the class {names[item.label]!r} of {source.name} is left out by the class map "
            f"({counts[item.label]} images)",
        )
        for item in listing.items
        if item.label not in kept
    ]
    found = [_Found(source, item, root / item.relative, kept[item.label]) for item in items]
    return found, [*listing.skipped, *damaged, *unmapped]


def _with_contents(found: Sequence[_Found], reader: Reader) -> list[_Found]:
    """The images again; those with a hash that are in another source too, byte by byte.

    Only files whose size is that of a file in another source are read. One that cannot be read is nobody's copy.
    """
    sizes: dict[Path, int] = {}
    for path in {image.path for image in found}:
        with contextlib.suppress(OSError):
            sizes[path] = path.stat().st_size  # of what a link leads to
    of_size: defaultdict[int, set[str]] = defaultdict(set)
    for image in found:
        of_size[sizes.get(image.path, 0)].add(image.source.name)
    asked = [at for at, image in enumerate(found) if len(of_size[sizes.get(image.path, 0)]) > 1]
    refs = [found[at].item.image(_root(found[at].source)) for at in asked]
    hashes = {
        at: told for at, told in zip(asked, each(refs, reader.content_hash), strict=True) if isinstance(told, str)
    }
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for at, content in hashes.items():
        holders[content].add(found[at].source.name)
    return [
        replace(image, content=hashes[at]) if len(holders[hashes.get(at, "")]) > 1 else image
        for at, image in enumerate(found)
    ]


def _marked_twins(found: Sequence[_Found], target: Dataset) -> list[_Found]:
    """The images again; those that an earlier source has too say so."""
    first: dict[Hashable, _Found] = {}
    marked: list[_Found] = []
    for image in found:
        keys: list[Hashable] = [(image.path, image.item.part)]
        if image.content:
            keys.append(("content", image.content))
        archive = _image_id(image.item)
        if archive is not None:
            keys.append(archive)
        # Within one source a repeated id is one group and stays: the data set came so, and a check reports it.
        earlier = next((first[key] for key in keys if key in first and first[key].source is not image.source), None)
        if earlier is None:
            for key in keys:
                first.setdefault(key, image)
            marked.append(image)
            continue
        words = f"the same picture is in {earlier.source.name}, where it is kept"
        if earlier.label != image.label:
            there, here = target.class_names[earlier.label], target.class_names[image.label]
            words += f"; the class there is {there!r}, here {here!r}"
        marked.append(replace(image, twin=words, of=earlier.item.name))
    return marked


def _refuse_editions(found: Sequence[_Found]) -> None:
    """Editions of BraTS hold the same patients under names that do not show it."""
    first: dict[str, str] = {}
    for image in found:
        edition = edition_of(image.item.relative.rpartition("/")[2])
        if edition:
            first.setdefault(edition, image.source.name)
    if len(first) > 1:
        held = " and ".join(f"{edition} (source {first[edition]!r})" for edition in sorted(first))
        raise DatasetLayoutError(
            f"the sources hold BraTS cases of {held}, which are partly the same patients under other names",
            where="sources",
            remedy="keep one edition",
        )


def _known_groups(found: Sequence[_Found]) -> Groups:
    """Group names of the images, None where nothing is known; what shares any id has one name."""
    return join_by_keys([_group_name(image) for image in found], [tuple(_shared_ids(image)) for image in found])


def _aliases(known: Groups, complete: Groups) -> Mapping[str, tuple[str, ...]]:
    """All names of groups that ids and likeness joined; of those that still have an image."""
    aliases = {}
    for name in dict.fromkeys(name for name in complete.names if name is not None):
        own = complete.aliases.get(name, (name,))
        every = {alias for part in own for alias in known.aliases.get(part, (part,))}
        if len(every) > 1:
            aliases[name] = tuple(sorted(every))
    return MappingProxyType(aliases)


def _group_name(image: _Found) -> str | None:
    """The group as the source knows it; an id that is not the archive's gets the name of its site or source."""
    if image.item.group is None:
        return None
    column, _, value = image.item.group.partition(":")
    if _of_archive(image, value):
        return f"{column}:{value.upper()}"
    # Clusters of pictures are numbered by whoever made the table, patients and lesions by the hospital.
    space = image.source.name if column == "near_duplicate_group" else image.source.space
    return f"{column}:{space}/{value}"


def _shared_ids(image: _Found) -> Iterator[Hashable]:
    """Ids that mean the same in every source; the picture itself; and at one site, its patients."""
    yield (image.path, image.item.part)
    if image.content:
        yield ("content", image.content)
    if image.source.site:
        from .readers.dicom_tags import patient_group

        column, _, value = (image.item.group or "").partition(":")
        for patient in {value if column in PATIENT_COLUMNS else "", patient_of(image.item.cells)} - {""}:
            # A table has identifiers, DICOM files digests of them: one export of each is one patient too.
            for either in (patient, patient_group(patient).partition(":")[2]):
                yield ("patient", image.source.site, either)
    named = isic_id(image.item.relative)
    for written in (named, _image_id(image.item)):
        if written is not None:
            yield f"isic_id:{written}"
    for column in _OWNER_COLUMNS:
        value = image.item.cells.get(column, "")
        if _of_archive(image, value):
            yield f"{column}:{value.upper()}"


def _of_archive(image: _Found, value: str) -> bool:
    return image.source.listing.dataset.key in ISIC_FAMILY and _ARCHIVE_ID.fullmatch(value) is not None


def _image_id(item: Item) -> str | None:
    """The ISIC id of the whole picture, or None; a file that is called after an id but not by it is another picture."""
    for written in (item.relative.rsplit("/", 1)[-1], *(item.cells.get(column, "") for column in _IMAGE_COLUMNS)):
        named = _IMAGE_ID.fullmatch(written)
        if named is not None:
            return named.group(1).upper()
    return None


def _root(source: Source) -> Path:
    return Path(os.path.abspath(source.listing.root))


def _shown(image: _Found) -> Path:
    return image.source.listing.root / image.item.name


def _common(roots: Sequence[Path]) -> Path:
    return Path(os.path.commonpath(roots))


def _columns(target: Dataset, sources: Sequence[Source]) -> tuple[str, ...]:
    every = [target.subgroup_columns, *(source.listing.dataset.subgroup_columns for source in sources), ("source",)]
    return tuple(dict.fromkeys(column for columns in every for column in columns))


def _refuse_empty(cohort: Cohort, sources: Sequence[Source]) -> None:
    present = {record.label for record in cohort.records}
    empty = [name for label, name in enumerate(cohort.dataset.class_names) if label not in present]
    if empty:
        words, remedy = left_out(cohort.skipped, every=not present)
        raise EmptyClassError(
            f"no readable image of {', '.join(repr(name) for name in empty)} in any of "
            f"{', '.join(source.name for source in sources)}{words}",
            where=str(cohort.root),
            remedy=remedy + "map a class of a source to it, add images, or leave the class out with the key classes",
        )
