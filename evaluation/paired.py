"""Is one model better than another? A paired bootstrap over whole groups, and Holm's correction for several models.

Both models have answered for the same images. A resample draws groups (patients, lesions, clusters) and scores both on
the same draw, so that what makes a group hard for both cancels. Groups are drawn within their stratum (a site and
seed), so that no site is lost by chance. A group that comes again in another stratum, because another seed or fold
tested it as well, is drawn once for all of them: counting it twice would make the interval too narrow.

In a stratum of h groups h - 1 are drawn, each weighing h / (h - 1): drawing all h would make the variance too small by
(h - 1) / h, a third at three groups. Groups that are alone in their stratum are drawn together.

References:
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, ch. 13 (percentile interval), ch. 16.4 (test: the
    bootstrap distribution is moved to where the hypothesis holds). Rao and Wu (1988), JASA 83:231-241 (h - 1 draws in
    a stratum). Holm (1979), Scandinavian Journal of Statistics 6:65-70.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, IntArray
from .errors import InvalidPredictionsError
from .intervals import BLOCK_CELLS, COMFORTABLE_GROUPS, FEWEST_GROUPS, ONE_CLASS, TOO_FEW, UNDER_COVERS

RESAMPLES = 2000
TIE = 1e-12  # differences closer than this are one: sums in another order must not decide a test


@dataclass(frozen=True, slots=True)
class PairedPart:
    """The answers of two models for the same test images, of one site in one seed and fold.

    Attributes:
        stratum: within which groups are drawn, e.g. the site and seed.
        labels: (n,) class indices. groups: (n,) group names; one name is one group, also in other parts.
        first, second: (n,) 0..1, whether each model was right; a fraction where several models stand for one.
    """

    stratum: str
    labels: Sequence[int]
    groups: Sequence[str]
    first: Sequence[float]
    second: Sequence[float]

    def __post_init__(self) -> None:
        sizes = [len(self.labels), len(self.groups), len(self.first), len(self.second)]
        if len(set(sizes)) > 1:
            raise InvalidPredictionsError(
                f"{sizes[0]} labels, {sizes[1]} groups, {sizes[2]} and {sizes[3]} answers",
                where=self.stratum,
                remedy="Give one of each per test image",
            )
        if any(not 0.0 <= value <= 1.0 for value in (*self.first, *self.second)):
            raise InvalidPredictionsError(
                "an answer is not between 0 and 1", where=self.stratum, remedy="Give 1 for right and 0 for wrong"
            )


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Balanced accuracy of the first model minus that of the second.

    Attributes:
        difference: over all images of all parts together; None with fewer than two classes.
        low, high: its 95 % interval; None where ``note`` says why.
        p: two-sided, above 0; None likewise.
        n_images: images in all parts, one that is in several parts counted in each. n_groups: different groups.
        note: empty, or what a reader has to know.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n_images: int
    n_groups: int
    note: str = ""


def paired_difference(
    parts: Sequence[PairedPart], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> PairedDifference:
    """Paired bootstrap of the difference in balanced accuracy.

    Recall is pooled: the images of all parts are one set for each class, so small sites do not each need every class.
    A part is weighed by its images, unlike in a mean over sites. A resample averages over the classes it drew.

    Args:
        parts: at least one. generator: the only source of randomness. resamples: bootstrap draws, above 0.
    """
    labels = np.array([label for part in parts for label in part.labels], dtype=np.int64)
    names = [name for part in parts for name in part.groups]
    order = {name: code for code, name in enumerate(dict.fromkeys(names))}
    codes = np.array([order[name] for name in names], dtype=np.int64)
    present, column = np.unique(labels, return_inverse=True)
    n_images, n_groups = len(labels), len(order)
    if len(present) < 2:
        return PairedDifference(None, None, None, None, n_images, n_groups, ONE_CLASS)
    ahead = np.array([a - b for part in parts for a, b in zip(part.first, part.second, strict=True)])
    gains, totals = np.zeros((n_groups, len(present))), np.zeros((n_groups, len(present)))
    np.add.at(gains, (codes, column), ahead)
    np.add.at(totals, (codes, column), 1.0)
    found = float(_differences(np.ones((1, n_groups)), gains, totals)[0])
    if n_groups < FEWEST_GROUPS:
        return PairedDifference(found, None, None, None, n_images, n_groups, TOO_FEW)
    strata = _strata(parts, order)
    drawn = np.concatenate(
        [
            _differences(_weights(strata, rows, generator), gains, totals)
            for rows in _blocks(resamples, max(1, BLOCK_CELLS // n_groups))
        ]
    )
    low, high = np.quantile(drawn, [0.025, 0.975])
    beyond = int(np.sum(np.abs(drawn - found) >= abs(found) - TIE))
    note = UNDER_COVERS if n_groups < COMFORTABLE_GROUPS else ""
    p = (1 + beyond) / (1 + resamples)
    return PairedDifference(found, float(low), float(high), p, n_images, n_groups, note)


def _blocks(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _strata(parts: Sequence[PairedPart], order: dict[str, int]) -> list[IntArray]:
    """Codes of the groups of each stratum; a group belongs to the stratum that it first comes in."""
    home: dict[int, str] = {}
    for part in parts:
        for name in part.groups:
            home.setdefault(order[name], part.stratum)
    sizes = Counter(home.values())
    alone = "\0alone"  # no stratum's name
    strata: dict[str, list[int]] = {}
    for code, stratum in home.items():
        strata.setdefault(stratum if sizes[stratum] > 1 else alone, []).append(code)
    if len(strata.get(alone, ())) == 1 and len(strata) > 1:
        largest = max(strata, key=lambda name: len(strata[name]))
        strata[largest] += strata.pop(alone)
    return [np.array(codes, dtype=np.int64) for codes in strata.values()]


def _weights(strata: Sequence[IntArray], rows: int, generator: np.random.Generator) -> FloatArray:
    """How much each group weighs in each of ``rows`` resamples, (rows, groups); mean 1, also within a stratum."""
    weights = np.zeros((rows, sum(len(codes) for codes in strata)))
    for codes in strata:
        size = len(codes)
        drawn = generator.integers(0, size, size=(rows, size - 1)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        weights[:, codes] = counts * (size / (size - 1))
    return weights


def _differences(weights: FloatArray, gains: FloatArray, totals: FloatArray) -> FloatArray:
    """Mean over the classes drawn of the difference in recall, for each resample: (rows,)."""
    seen, ahead = weights @ totals, weights @ gains
    share = np.divide(ahead, seen, out=np.zeros_like(ahead), where=seen > 0)
    means: FloatArray = share.sum(axis=1) / np.maximum((seen > 0).sum(axis=1), 1)
    return means


def holm(values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Holm's step-down correction of p values; None stays None and is no test.

    The i-th smallest of m is multiplied by m - i + 1; none comes out smaller than one before it, and none above 1.

    >>> holm([0.01, 0.04, None, 0.03])
    (0.03, 0.06, None, 0.06)
    """
    known = sorted((value, at) for at, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, (value, at) in enumerate(known):
        least = max(least, min(1.0, value * (len(known) - rank)))
        corrected[at] = least
    return tuple(corrected)
