"""What a person would want to know of a folder of images before training on it.

The engine of ``wardround data check``: every file is read once, decoded and compared with every other.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ..catalog import recognise
from ..class_folders import no_class_folder, unknown_folder
from ..classes import keep_classes
from ..cohort import Cohort, Dataset
from ..errors import DataError, UnreadableImageError
from ..folders import FolderScan, ImageFile, scan
from ..grouping import group_of
from ..near_duplicates import clusters, near_duplicate_pairs, pairs_by_key
from ..pixels import decode_rgb, grey_thumbnail, read_bytes
from ..tables import Row, read_tables, rows_by_image

Severity = Literal["error", "warning", "info"]

_EXAMPLES: Final = 5
_TINY_CLASS: Final = 30  # images; a tenth of them in a test part cannot carry a figure
_IMBALANCE: Final = 20.0
_MIN_SIDE: Final = 64
_MAX_ASPECT: Final = 2.5
_COLOUR_SHARE: Final = 0.02  # of the pixels
_COLOUR_SPREAD: Final = 24  # grey levels between channels; JPEG of a grey picture stays well under it
_FOREIGN_SHARE: Final = 0.05  # above this share of colour images an MRI set is taken for something else
_CONFOUNDED: Final = 0.5  # Cramér's V of source and class
_SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of finding.

    Attributes:
        severity: ``error``: training is refused or misled; ``warning``: look at it; ``info``: known and handled.
        code: stable key for scripts.
        message: what was found and what to do.
        count: how many images, classes or pairs.
        examples: at most five paths, relative to the root; they stay with local people.
    """

    severity: Severity
    code: str
    message: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The findings on one folder.

    Attributes:
        root: the folder.
        dataset: key of the data set it was checked as.
        images: image files in class folders.
        readable: those that could be decoded.
        counts: readable images by class name and then by split or site (``"all"`` where there is neither).
        groups: groups by the tables, else near-duplicate clusters.
        test_in_train: test images that are equal or similar to an image of another split; None without splits.
        problems: errors first, then warnings, then information.
    """

    root: Path
    dataset: str
    images: int
    readable: int
    counts: dict[str, dict[str, int]]
    groups: int
    test_in_train: tuple[int, int] | None
    problems: tuple[Problem, ...]

    @property
    def exit_code(self) -> int:
        """1 if there is an error, else 0."""
        return int(any(problem.severity == "error" for problem in self.problems))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        leak = self.test_in_train
        return {
            "root": str(self.root),
            "dataset": self.dataset,
            "images": self.images,
            "readable": self.readable,
            "counts": self.counts,
            "groups": self.groups,
            "test_in_train": None if leak is None else {"similar": leak[0], "test": leak[1]},
            "problems": [
                {
                    "severity": problem.severity,
                    "code": problem.code,
                    "message": problem.message,
                    "count": problem.count,
                    "examples": list(problem.examples),
                }
                for problem in self.problems
            ],
            "exit_code": self.exit_code,
        }


@dataclass(frozen=True, slots=True)
class _Look:
    """What one decoded image showed."""

    image: ImageFile
    digest: str
    thumbnail: NDArray[np.float32]
    colour: bool
    height: int
    width: int


def check(
    target: Path | Cohort,
    dataset: Dataset | None = None,
    *,
    classes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> QualityReport:
    """Check a folder, or the folder of a cohort.

    Args:
        target: the folder that holds the class folders, or a cohort: then only its classes are looked at.
        dataset: what to check it as; None recognises it by its folder names.
        classes: look at these classes only, and leave other folders alone.
        progress: called with images done and images in all.

    Raises:
        DatasetLayoutError: the folder is missing or cannot be listed, or ``dataset`` is None and no folder name
            is known. Everything else about the folder is a problem in the report.
        UnknownClassError: ``classes`` names a class that the data set does not have.
    """
    if isinstance(target, Cohort):
        root, dataset = target.root, target.dataset
    else:
        root, dataset = target, dataset or recognise(target)
    if classes is not None:
        dataset = keep_classes(dataset, classes)
    found = scan(root, dataset)
    images = found.images
    looks, unreadable = _look_at(images, root, progress)
    problems: list[Problem] = []
    if unreadable:
        problems.append(_problem("error", "unreadable", "images cannot be decoded; loaders leave them out", unreadable))
    problems += _folder_problems(found, dataset, whole=classes is None and not isinstance(target, Cohort))
    rows: dict[str, Row] = {}
    try:
        rows = rows_by_image(read_tables(root), images, root, dataset)
    except DataError as refused:
        problems.append(Problem("error", "table", str(refused), 1))
    problems += _class_problems(looks, found, dataset)
    problems += _picture_problems(looks, dataset)
    pairs = near_duplicate_pairs(
        np.stack([look.thumbnail for look in looks]) if looks else np.zeros((0, 32, 32), dtype=np.float32)
    )
    problems += _duplicate_problems(looks, pairs)
    problems += _source_problems(looks, rows)
    names = [group_of(rows[look.image.relative].cells) if look.image.relative in rows else None for look in looks]
    joined = pairs_by_key(names)
    if any(name is None for name in names):
        joined = np.concatenate([joined, pairs])
    return QualityReport(
        root=root,
        dataset=dataset.key,
        images=len(images),
        readable=len(looks),
        counts=_counts(looks, dataset),
        groups=len(set(clusters(len(looks), joined).tolist())),
        test_in_train=_test_in_train(looks, pairs),
        problems=tuple(sorted(problems, key=lambda problem: (_SEVERITIES.index(problem.severity), problem.code))),
    )


def _look_at(
    images: Sequence[ImageFile], root: Path, progress: Callable[[int, int], None] | None
) -> tuple[list[_Look], list[str]]:
    looks: list[_Look] = []
    unreadable: list[str] = []
    for done, image in enumerate(images, start=1):
        path = root / image.relative
        try:
            data = read_bytes(path)
            rgb = decode_rgb(data, path)
        except UnreadableImageError as problem:
            unreadable.append(f"{image.relative}: {problem.what}")
        else:
            looks.append(
                _Look(
                    image=image,
                    digest=hashlib.sha256(data).hexdigest(),
                    thumbnail=grey_thumbnail(rgb),
                    colour=_is_colour(rgb),
                    height=rgb.shape[0],
                    width=rgb.shape[1],
                )
            )
        if progress is not None:
            progress(done, len(images))
    return looks, unreadable


def _is_colour(rgb: NDArray[np.uint8]) -> bool:
    # Every third row and column shows as well as all of them whether a picture has colour.
    sample = rgb[::3, ::3].astype(np.int16)
    spread = sample.max(axis=2) - sample.min(axis=2)
    return bool((spread > _COLOUR_SPREAD).mean() > _COLOUR_SHARE)


def _folder_problems(found: FolderScan, dataset: Dataset, *, whole: bool) -> Iterator[Problem]:
    if not found.class_folders:
        yield Problem("error", "no-class-folder", str(no_class_folder(found, dataset)), 1)
    if whole:
        for folder in found.unknown:
            error = unknown_folder(folder, found, dataset)
            yield Problem("error", "unknown-class", str(error), len(folder.images), folder.images[:_EXAMPLES])
    if found.skipped:
        paths = [f"{item.path.relative_to(found.root)}: {item.reason}" for item in found.skipped]
        yield _problem("info", "other-files", "files are not read", paths)


def _class_problems(looks: Sequence[_Look], found: FolderScan, dataset: Dataset) -> Iterator[Problem]:
    sizes = Counter(look.image.label for look in looks)
    for label, name in enumerate(dataset.class_names):
        folders = found.class_folders.get(label, ())
        if sizes[label] == 0 and folders:
            message = f"the class {name!r} has a folder but no readable image; fill it, or leave the class out"
            yield Problem("error", "empty-class", message, 1, folders[:_EXAMPLES])
        elif sizes[label] == 0:
            message = f"the class {name!r} has no folder; leave it out of the study's classes"
            yield Problem("warning", "missing-class", message, 1)
        elif sizes[label] < _TINY_CLASS:
            message = f"the class {name!r} has {sizes[label]} images; figures for it will be very uncertain"
            yield Problem("warning", "tiny-class", message, sizes[label], folders[:_EXAMPLES])
    present = [size for size in sizes.values() if size]
    if present and max(present) > _IMBALANCE * min(present):
        ratio = max(present) / min(present)
        yield Problem("info", "imbalance", f"the largest class has {ratio:.0f} times the smallest", 1)


def _picture_problems(looks: Sequence[_Look], dataset: Dataset) -> Iterator[Problem]:
    mri = dataset.modality == "brain-mri"
    odd = [look.image.relative for look in looks if look.colour == mri]
    if odd:
        share = len(odd) / len(looks)
        kind, what = ("colour", "in colour") if mri else ("grey", "grey")
        severity: Severity = "error" if share > _FOREIGN_SHARE else "warning"
        message = f"images ({share:.1%}) are {what}, unusual for {dataset.title}; look at them"
        yield _problem(severity, f"{kind}-images", message, odd)
    small = [look.image.relative for look in looks if min(look.height, look.width) < _MIN_SIDE]
    if small:
        yield _problem("warning", "small-images", f"images have a side under {_MIN_SIDE} pixels", small)
    long = [
        look.image.relative
        for look in looks
        if max(look.height, look.width) > _MAX_ASPECT * min(look.height, look.width)
    ]
    if long:
        message = f"images are more than {_MAX_ASPECT} times as long as wide; much is lost when they are cropped"
        yield _problem("warning", "odd-aspect", message, long)


def _duplicate_problems(looks: Sequence[_Look], pairs: NDArray[np.int64]) -> Iterator[Problem]:
    same = pairs_by_key([look.digest for look in looks])
    by_digest: dict[str, list[_Look]] = defaultdict(list)
    for look in looks:
        by_digest[look.digest].append(look)
    copies = [each for each in by_digest.values() if len(each) > 1]
    conflicts = [each for each in copies if len({look.image.label for look in each}) > 1]
    if conflicts:
        message = "pictures lie in two classes, byte for byte; one label is wrong: remove it"
        yield _problem("error", "same-image-two-classes", message, [_together(each) for each in conflicts])
    repeated = [each for each in copies if len({look.image.label for look in each}) == 1]
    if repeated:
        message = "pictures are stored more than once, byte for byte; splits keep them together"
        yield _problem("warning", "exact-duplicates", message, [_together(each) for each in repeated])
    exact = {(looks[i].digest, looks[j].digest) for i, j in same.tolist()}
    across_classes, across_splits = [], []
    for i, j in pairs.tolist():
        first, second = looks[i], looks[j]
        if first.image.label != second.image.label and (first.digest, second.digest) not in exact:
            across_classes.append(_together([first, second]))
        if first.image.split and second.image.split and first.image.split != second.image.split:
            across_splits.append(_together([first, second]))
    if across_classes:
        message = "pairs of nearly equal pictures have different classes; look at them"
        yield _problem("warning", "near-duplicates-across-classes", message, across_classes)
    if across_splits:
        leak = _test_in_train(looks, pairs)
        share = f"{leak[0]} of {leak[1]} test images are equal or similar to one outside the test part" if leak else ""
        message = f"pairs of nearly equal pictures lie in different splits ({share}); split by group instead"
        yield _problem("warning", "near-duplicates-across-splits", message, across_splits)


def _source_problems(looks: Sequence[_Look], rows: dict[str, Row]) -> Iterator[Problem]:
    cells = [
        (rows[look.image.relative].cells["source"], look.image.label)
        for look in looks
        if look.image.relative in rows and rows[look.image.relative].cells.get("source")
    ]
    strength = cramers_v(cells)
    if strength > _CONFOUNDED:
        message = (
            f"the source of an image tells much of its class (Cramér's V {strength:.2f}): a model may learn the "
            "camera; report figures by source"
        )
        yield Problem("warning", "source-confounded", message, len({source for source, _ in cells}))


def cramers_v(pairs: Sequence[tuple[str, int]]) -> float:
    """Association of two columns, 0 (independent) to 1 (one tells the other); 0 if either is constant.

    H. Cramér, Mathematical Methods of Statistics, 1946, section 21.9.
    """
    rows = {value: index for index, value in enumerate(sorted({first for first, _ in pairs}))}
    columns = {value: index for index, value in enumerate(sorted({second for _, second in pairs}))}
    if min(len(rows), len(columns)) < 2:
        return 0.0
    table = np.zeros((len(rows), len(columns)))
    for first, second in pairs:
        table[rows[first], columns[second]] += 1
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(pairs)
    chi_square = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi_square / (len(pairs) * (min(table.shape) - 1))))


def _test_in_train(looks: Sequence[_Look], pairs: NDArray[np.int64]) -> tuple[int, int] | None:
    splits = [look.image.split for look in looks]
    tests = {index for index, split in enumerate(splits) if split == "test"}
    if not tests or len(set(splits)) < 2:
        return None
    similar = set()
    for i, j in pairs.tolist():
        if splits[i] != splits[j]:
            similar |= {i, j} & tests
    return len(similar), len(tests)


def _counts(looks: Sequence[_Look], dataset: Dataset) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {name: Counter() for name in dataset.class_names}
    for look in looks:
        part = look.image.split or look.image.site or "all"
        counts[dataset.class_names[look.image.label]][part] += 1
    return {name: dict(sorted(parts.items())) for name, parts in counts.items()}


def _problem(severity: Severity, code: str, message: str, found: Sequence[str]) -> Problem:
    return Problem(severity, code, f"{len(found)} {message}", len(found), tuple(found[:_EXAMPLES]))


def _together(looks: Iterable[_Look]) -> str:
    return " = ".join(look.image.relative for look in looks)
