"""Findings on counts: classes that are empty, tiny or far from balanced, and groups on two sides of a split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from ..cohort import Dataset
from ..listing import Listing
from .looks import Look
from .report import Entry, Problem, finding

_TINY_CLASS: Final = 30  # images; a tenth of them in a test part cannot carry a figure
_IMBALANCE: Final = 20.0


def class_problems(looks: Sequence[Look], listing: Listing, dataset: Dataset) -> Iterator[Problem]:
    """Classes without an image or with few, and how unequal they are."""
    sizes = Counter(look.item.label for look in looks)
    for label, name in enumerate(dataset.class_names):
        folders = [Entry(note=folder) for folder in listing.folders.get(label, ())]
        if sizes[label] == 0 and folders:
            message = f"the class {name!r} has a folder but no readable image; fill it, or leave the class out"
            yield Problem("error", "empty-class", message, 1, tuple(folders))
        elif sizes[label] == 0:
            where = "folder" if listing.folders else "image"
            message = f"the class {name!r} has no {where}; leave it out of the study's classes"
            yield Problem("warning", "missing-class", message, 1)
        elif sizes[label] < _TINY_CLASS:
            message = f"the class {name!r} has {sizes[label]} images; figures for it will be very uncertain"
            yield Problem("warning", "tiny-class", message, sizes[label], tuple(folders))
    present = [size for size in sizes.values() if size]
    if present and max(present) > _IMBALANCE * min(present):
        ratio = max(present) / min(present)
        yield Problem("info", "imbalance", f"the largest class has {ratio:.0f} times the smallest", 1)


def group_problems(looks: Sequence[Look]) -> Iterator[Problem]:
    """Known groups (patients, lesions) whose images lie in several supplied splits, or at several sites."""
    splits: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    sites: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for look in looks:
        if look.item.group is not None:
            if look.item.split:
                splits[look.item.group][look.item.split].append(look.name)
            if look.item.site:
                sites[look.item.group][look.item.site].append(look.name)
    spanning = _spanning(splits)
    if spanning:
        message = "(patient, lesion) with images in several of the supplied splits; split by group instead"
        yield finding("warning", "groups-across-splits", "group", message, spanning)
    spanning = _spanning(sites)
    if spanning:
        message = "(patient, lesion) with images at several sites; one patient then counts at two"
        yield finding("warning", "groups-across-sites", "group", message, spanning)


def counts_by_class(looks: Sequence[Look], dataset: Dataset) -> dict[str, dict[str, int]]:
    """Readable images by class name, and then by split, else site, else ``"all"``."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in dataset.class_names}
    for look in looks:
        counts[dataset.class_names[look.item.label]][look.item.split or look.item.site or "all"] += 1
    return {name: dict(sorted(parts.items())) for name, parts in counts.items()}


def _spanning(groups: dict[str, dict[str, list[str]]]) -> list[Entry]:
    return [
        Entry(tuple(name for names in parts.values() for name in names), ", ".join(sorted(parts)))
        for parts in groups.values()
        if len(parts) > 1
    ]
