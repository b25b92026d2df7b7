"""Findings on pairs of pictures: stored twice, in two classes, or alike on two sides of a split or at two sites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .looks import Look
from .report import Entry, Problem, finding

Pairs = NDArray[np.int64]


def duplicate_problems(looks: Sequence[Look], pairs: Pairs) -> Iterator[Problem]:
    """What pairs (m, 2) of similar pictures, and equal contents, say."""
    by_digest: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        by_digest[look.digest].append(look)
    copies = [each for each in by_digest.values() if len(each) > 1]
    conflicts = [each for each in copies if len({look.item.label for look in each}) > 1]
    if conflicts:
        message = "stored in two classes, byte for byte; one label is wrong: remove it"
        yield finding("error", "same-image-two-classes", "picture", message, together(conflicts))
    repeated = [each for each in copies if len({look.item.label for look in each}) == 1]
    if repeated:
        message = "stored more than once, byte for byte; splits keep them together"
        yield finding("warning", "exact-duplicates", "picture", message, together(repeated))

    across_classes = [
        (first, second)
        for first, second in differing(looks, pairs, lambda look: str(look.item.label))
        if first.digest != second.digest
    ]
    if across_classes:
        message = "of nearly equal pictures with different classes; look at them"
        yield finding("warning", "near-duplicates-across-classes", "pair", message, together(across_classes))
    across_splits = list(differing(looks, pairs, lambda look: look.item.split))
    if across_splits:
        leak = leaked(looks, pairs)
        share = f" ({leak[0]} of {leak[1]} test images have one outside the test part)" if leak else ""
        message = f"of nearly equal pictures in different splits{share}; split by group instead"
        yield finding("warning", "near-duplicates-across-splits", "pair", message, together(across_splits))
    across_sites = list(differing(looks, pairs, lambda look: look.item.site))
    if across_sites:
        message = "of nearly equal pictures at different sites; a test at one site then repeats what another trained on"
        yield finding("warning", "near-duplicates-across-sites", "pair", message, together(across_sites))


def leaked(looks: Sequence[Look], pairs: Pairs) -> tuple[int, int] | None:
    """Test images that are equal or similar to an image of another split, and test images in all; None without."""
    splits = [look.item.split for look in looks]
    tests = {index for index, split in enumerate(splits) if split == "test"}
    if not tests or len(set(splits)) < 2:
        return None
    similar: set[int] = set()
    for i, j in pairs.tolist():
        if splits[i] != splits[j]:
            similar |= {i, j} & tests
    return len(similar), len(tests)


def differing(looks: Sequence[Look], pairs: Pairs, key: Callable[[Look], str | None]) -> Iterator[tuple[Look, Look]]:
    """Pairs whose two images have different keys; None differs from nothing."""
    for i, j in pairs.tolist():
        one, other = key(looks[i]), key(looks[j])
        if one is not None and other is not None and one != other:
            yield looks[i], looks[j]


def together(found: Iterable[Sequence[Look]]) -> list[Entry]:
    """An entry for each pair or more of pictures."""
    return [Entry(tuple(look.name for look in looks)) for looks in found]
