"""What a person would want to know of a folder of images before training on it.

The engine of ``wardround data check``: every file is read once, decoded once and compared with every other.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ..catalog import list_images, recognise
from ..classes import keep_classes, kept_labels
from ..cohort import Cohort, Dataset, Skipped
from ..errors import DataError, EmptyClassError, TableError, UnknownClassError
from ..listing import Listing, Wanted
from ..near_duplicates import clusters, flat, near_duplicate_pairs, pairs_by_key
from ..pixels import IMAGE_SUFFIXES
from .classes import class_problems, counts_by_class, group_problems
from .damage import is_damaged
from .duplicates import duplicate_problems, leaked
from .groups import id_problems, shared_pictures
from .identifiers import identifier_problems
from .looks import WORKERS, Looks, look_at
from .outliers import Features, outliers
from .pictures import picture_problems
from .report import Entry, Problem, QualityReport, finding, in_order
from .sources import source_problems

Progress = Callable[[int, int], None]
_NO_ROW: Final = "not listed in "  # how the reason begins of a file that the data set's table does not name
_MANY: Final = 0.1  # of the files: more without a row are no strays


def check(
    target: Path | Cohort,
    dataset: Dataset | None = None,
    *,
    classes: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> QualityReport:
    """Check a folder, or the folder of a cohort.

    Args:
        target: the folder, or a cohort: then only its classes are looked at.
        dataset: what to check it as; None recognises it by its files and folder names.
        classes: look at these classes only.
        progress: called with images done and images in all.

    Raises:
        DatasetLayoutError: the folder or the data set's table is missing, or ``dataset`` is None and nothing in the
            folder is known. Everything else about the folder is a problem in the report.
        UnknownClassError: ``classes`` names a class that the data set does not have.
    """
    if isinstance(target, Cohort):
        wanted = Wanted(target.root, target.dataset.class_names)
        return check_listing(list_images(target.dataset, wanted), progress=progress)
    dataset = dataset or recognise(target)
    wanted = Wanted(target, None if classes is None else tuple(classes))
    return check_listing(list_images(dataset, wanted), classes=classes if dataset.classes else None, progress=progress)


def check_listing(
    listing: Listing,
    *,
    name: str = "",
    classes: Sequence[str] | None = None,
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> QualityReport:
    """Check what a data set lists.

    Args:
        listing: images, and what is wrong with folders and tables.
        name: of the source, where a study joins several.
        classes: names or aliases of the classes to look at; None: all of the listing.
        workers: threads, >= 1.
        progress: called with images done and images in all.

    Raises:
        UnknownClassError, EmptyClassError: ``classes`` are no classes of the listing.
    """
    listing = _kept(listing, classes)
    dataset = listing.dataset
    looks = look_at(listing, listing.items, workers=workers, progress=progress)
    seen = looks.readable
    blank = flat(looks.thumbnails)
    # Pictures that show nothing are one finding; compared with each other they would all be pairs.
    shown = np.flatnonzero(~blank)
    pairs = shown[near_duplicate_pairs(looks.thumbnails[shown], workers=workers)].reshape(-1, 2)
    damaged = [skipped for skipped in listing.skipped if is_damaged(skipped)]
    problems = [
        *_listed_problems(listing, damaged),
        *class_problems(seen, listing, dataset),
        *picture_problems(looks, dataset),
        *duplicate_problems(seen, pairs),
        *group_problems(seen),
        *shared_pictures(seen, pairs),
        *id_problems(listing.items),
        *source_problems(seen),
        *identifier_problems(seen, [item.name for item in listing.items], listing.columns),
    ]
    entries = [Entry((name,), what) for name, what in looks.unreadable]
    entries += [_skipped(skipped, listing.root) for skipped in damaged]
    if entries:
        problems.append(
            finding("error", "unreadable", "image", "that cannot be decoded, and so left out by loaders", entries)
        )
    return QualityReport(
        root=listing.root,
        dataset=dataset.key,
        images=len(listing.items) + len({skipped.path for skipped in damaged}),
        readable=len(seen),
        counts=counts_by_class(seen, dataset),
        groups=_groups(looks, pairs, blank.tolist()),
        test_in_train=leaked(seen, pairs),
        problems=in_order(problems),
        name=name,
        synthetic=listing.synthetic,
    )


def outlier_problems(names: Sequence[str], features: Features) -> Iterator[Problem]:
    """Images that look unlike the rest, by features of the embedded encoder.

    Args:
        names: of the images, in the order of the rows.
        features: float32 (n, D), rows of norm 1.
    """
    found = outliers(features)
    if not len(found.rows):
        return
    order = np.lexsort((found.similarity, found.group, found.group < 0))
    entries = []
    for at in order.tolist():
        group = int(found.group[at])
        together = f"one of {int((found.group == group).sum())} alike, " if group >= 0 else ""
        note = f"{together}similarity to the rest {found.similarity[at]:.2f}"
        entries.append(Entry((names[int(found.rows[at])],), note))
    message = "unlike the rest of the set; look at them, they may show something else"
    yield finding("warning", "unlike-the-rest", "image", message, entries)


def _kept(listing: Listing, classes: Sequence[str] | None) -> Listing:
    """The listing with some classes alone, their labels renumbered."""
    if classes is None:
        return listing
    kept = {label: index for index, label in enumerate(kept_labels(listing.dataset, classes))}
    items = tuple(replace(item, label=kept[item.label]) for item in listing.items if item.label in kept)
    folders = {kept[label]: names for label, names in listing.folders.items() if label in kept}
    return replace(listing, dataset=keep_classes(listing.dataset, classes), items=items, folders=folders)


def _listed_problems(listing: Listing, damaged: Sequence[Skipped]) -> Iterator[Problem]:
    """What the data set's reader found wrong with folders and tables, and what it left out."""
    for problem in listing.problems:
        images = _images_in(problem, listing.root)
        # Where it is about a folder, the images in it say where.
        message = f"{problem.what}. {problem.remedy}" if images else str(problem)
        message = message.replace(f"{listing.root}{os.sep}", "")
        if isinstance(problem, EmptyClassError) and listing.dataset.classes:
            # A study has to name classes; that a folder does not is nothing wrong with it.
            yield Problem("info", "classes-not-named", f"{problem.what}; {problem.remedy}", 1)
            continue
        yield Problem("error", _code(problem, listing), message, len(images) or 1, images)
    left = set(damaged)
    others = [skipped for skipped in listing.skipped if skipped not in left]
    rowless = [skipped for skipped in others if skipped.reason.startswith(_NO_ROW)]
    if len(rowless) > _MANY * (len(rowless) + len(listing.items)):
        others = [skipped for skipped in others if not skipped.reason.startswith(_NO_ROW)]
        message = "that no row of the table names: their class and patient are not known; add rows, or move them away"
        entries = [_skipped(skipped, listing.root) for skipped in rowless]
        yield finding("warning", "files-without-row", "file", message, entries)
    if others:
        reasons = Counter(skipped.reason for skipped in others)
        told = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common(3))
        more = f"; {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
        entries = [_skipped(skipped, listing.root) for skipped in others]
        yield finding("info", "other-files", "file or row", f"left out ({told}{more})", entries)


def _code(problem: DataError, listing: Listing) -> str:
    if isinstance(problem, UnknownClassError):
        return "unknown-class"
    if isinstance(problem, TableError):
        return "table"
    return "layout" if listing.items or listing.folders else "no-class-folder"


def _images_in(problem: DataError, root: Path) -> tuple[Entry, ...]:
    """The images in the folder that an error is about, if it is about one below the root."""
    folder = Path(problem.where)
    if not isinstance(problem, UnknownClassError) or root not in folder.parents or not folder.is_dir():
        return ()
    inside = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return tuple(Entry((path.relative_to(root).as_posix(),)) for path in inside)


def _skipped(skipped: Skipped, root: Path) -> Entry:
    inside = skipped.path.is_relative_to(root)
    return Entry((skipped.path.relative_to(root).as_posix() if inside else str(skipped.path),), skipped.reason)


def _groups(looks: Looks, pairs: np.typing.NDArray[np.int64], blank: Sequence[bool]) -> int:
    """Groups by the tables; where any image has none, near-duplicates are joined as well, as a loader does."""
    known = [look.item.group for look in looks.readable]
    joined = pairs_by_key(known)
    if any(group is None for group in known):
        joined = np.concatenate([joined, pairs, pairs_by_key([True if nothing else None for nothing in blank])])
    return len(set(clusters(len(known), joined).tolist()))
