"""From a listing to a cohort: classes kept, headers looked at, sites and groups completed, empty classes refused."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from .classes import keep_classes, kept_labels
from .cohort import Cohort, Record, Skipped
from .errors import EmptyClassError, TableError
from .grouping import complete_groups
from .listing import Item, Listing
from .reading import DIRECT, Reader, each
from .subgroups import plain_subgroups

BURNED_IN_TAG: Final = "BurnedInAnnotation"
"""What the reason of an image says that is left out because text is burned into it."""


def cohort_of(
    listing: Listing,
    *,
    classes: Sequence[str] | None = None,
    site_column: str | None = None,
    allow_empty: bool = False,
    reader: Reader = DIRECT,
) -> Cohort:
    """The cohort of a listing.

    Files whose header shows that they are no picture are skipped, counted and named; a picture damaged further in is
    found when it is decoded. Images without a known group are compared with all others, which decodes every image
    once. Subgroup columns that may name persons are dropped, and levels that are too long to be a group's name: see
    :func:`.subgroups.plain_subgroups`.

    Args:
        listing: what was found; its first problem is raised.
        classes: names or aliases of the classes to keep, at least two; order stays the data set's.
        site_column: column of the table that says which site an image belongs to; None: the data set's own key.
        allow_empty: accept a class without any image, as one site of many may have.
        reader: answers what is asked of the files, e.g. an :class:`..index.Index`.

    Raises:
        DataError: the listing's first problem.
        EmptyClassError: a kept class has no readable image.
        TableError: there is no such column, or it is empty for an image.
    """
    if listing.problems:
        raise listing.problems[0]
    root, dataset = listing.root, listing.dataset
    kept = kept_labels(dataset, classes)
    items, damaged = readable_items(listing, kept, reader)
    skipped = [*listing.skipped, *damaged]
    check_site_column(site_column, listing)
    groups = complete_groups([item.image(root) for item in items], [item.group for item in items], reader)
    skipped += groups.skipped
    subgroups = plain_subgroups([item.subgroups for item in items])
    new_label = {label: index for index, label in enumerate(kept)}
    records = tuple(
        Record(
            path=root / item.relative,
            label=new_label[item.label],
            group=group,
            site=site_of(item, site_column),
            subgroups=shown,
            part=item.part,
        )
        for item, group, shown in zip(items, groups.names, subgroups.rows, strict=True)
        if group is not None
    )
    cohort = Cohort(
        dataset=keep_classes(dataset, classes) if classes is not None else dataset,
        root=root,
        records=records,
        synthetic=listing.synthetic,
        notes=tuple(f"subgroup column {note}" for note in subgroups.notes),
        skipped=tuple(sorted(skipped, key=lambda item: str(item.path))),
        aliases=groups.aliases,
    )
    if not allow_empty:
        _refuse_empty(cohort, listing)
    return cohort


def readable_items(
    listing: Listing, labels: Collection[int], reader: Reader = DIRECT
) -> tuple[list[Item], list[Skipped]]:
    """Items with one of ``labels`` whose header shows a picture, and the others of these labels, with the reason."""
    root = listing.root
    asked = [item for item in listing.items if item.label in labels]
    items: list[Item] = []
    skipped: list[Skipped] = []
    for item, damaged in zip(asked, each([item.image(root) for item in asked], reader.check_header), strict=True):
        if damaged is None:
            items.append(item)
        else:
            skipped.append(Skipped(root / item.name, damaged.what))
    return items, skipped


def check_site_column(site_column: str | None, listing: Listing) -> None:
    """Refuse a site column that no table of the listing has; None is no column.

    Raises:
        TableError: there is no such column; the nearest is named.
    """
    if site_column is None or site_column.lower() in listing.columns:
        return
    near = difflib.get_close_matches(site_column.lower(), listing.columns, n=1)
    have = f"the tables have {', '.join(listing.columns)}" if listing.columns else "there is no table"
    raise TableError(
        f"no table has the site column {site_column!r}; {have}",
        where=str(listing.root),
        remedy=f"did you mean {near[0]!r}?" if near else "name a column of the data set's table",
    )


def site_of(item: Item, site_column: str | None) -> str | None:
    """The site of an item by a column of its row; None: by the data set's own key, None where that says nothing.

    Raises:
        TableError: the cell is empty.
    """
    if site_column is None:
        return item.site
    written = item.cells.get(site_column.lower(), "")
    if not written:
        raise TableError(
            f"the site column {site_column!r} is empty for {item.name!r}",
            where=item.where or item.name,
            remedy="fill it, or use another column",
        )
    return written


def _refuse_empty(cohort: Cohort, listing: Listing) -> None:
    names = cohort.dataset.class_names
    present = {record.label for record in cohort.records}
    empty = [name for index, name in enumerate(names) if index not in present]
    if not empty:
        return
    filled = [name for name in names if name not in empty]
    folders = [
        folder
        for label, each in listing.folders.items()
        if listing.dataset.class_names[label] in empty
        for folder in each
    ]
    state = f"the folder {', '.join(folders)} holds none" if folders else "there is no folder for it"
    fewer = f"leave the class out with the key classes = [{', '.join(chr(34) + name + chr(34) for name in filled)}]"
    words, remedy = left_out(cohort.skipped, every=not filled)
    raise EmptyClassError(
        f"no readable image of {', '.join(repr(name) for name in empty)}"
        + (f"; {state}" if listing.folders else "")
        + words,
        where=str(cohort.root),
        remedy=remedy + ("add images, or " + fewer if filled else "add images, or mend those that were left out"),
    )


def left_out(skipped: Sequence[Skipped], *, every: bool) -> tuple[str, str]:
    """Why there may be no image of a class, and what to do, for a message; empty where nothing is to be said.

    Args:
        skipped: files that were left out.
        every: no class has an image, so that the most frequent reason counts; else only text burned into pictures.
    """
    reasons = Counter(each.reason for each in skipped)
    burned = next((reason for reason in reasons if BURNED_IN_TAG in reason), None)
    said = max(reasons, key=lambda reason: (reasons[reason], reason)) if every and reasons else burned
    if said is None:
        return "", ""
    take = f"set burned_in = true to take the {reasons[burned]} images with burned-in text, " if burned else ""
    return f"; {reasons[said]} files were left out: {said}", take
