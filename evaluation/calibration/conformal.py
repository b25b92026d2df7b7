"""Prediction sets: the classes that cannot be ruled out, so that the true one is among them in a named share of images.

Split conformal prediction with the score s = 1 - p_y (Sadinle, Lei and Wasserman 2019, JASA 114:223, "LAC"). With n
scores of images that the model was not fitted on, the threshold is the ceil((n + 1) nominal)-th smallest (Vovk et al.
2005; Lei et al. 2018, JASA 113:1094), and a set holds every class with 1 - p_k at or below it. If the images and a new
one are exchangeable, the set of the new one holds its class with probability in [nominal, nominal + 1 / (n + 1)], on
average over calibration sets; the upper end needs scores without ties. One threshold for all classes promises this on
average over classes; thresholds by class (Mondrian) promise it for each. Where (n + 1)(1 - nominal) < 1 no score is
large enough: the threshold is None, "too few", and the class is in every set.

Sites can sum histograms of scores on a fixed grid instead of showing scores. Then the upper edge of the bin that holds
the threshold is taken: never a smaller set than from the scores themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import FloatArray, IntArray, group_codes
from ..errors import InvalidPredictionsError
from ..figures.figure_set import SetCoverage
from ..figures.sample import Column
from ..per_class import rate
from ..reliability import bin_edges, bin_index
from .checks import check_probabilities, count, exact_keys, items, number, numbers, refuse
from .group_draws import Groups, one_per_group

SCORE_BINS = 200
"""Bins of the summed histograms, even in [0, 1]: a threshold from them is at most .005 above the exact one."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Largest score 1 - p_k at which class k is still in the set.

    Attributes:
        nominal: share of images whose set is to hold the true class, in (0, 1).
        marginal: one threshold for all classes, in [0, 1]; None: too few images, every class is in.
        by_class: one a class; None: too few images of that class, it is in every set.
        n: scores behind ``marginal``. n_by_class: behind each of ``by_class``. None where they are not told: small
            counts of images are not for publication.
    """

    nominal: float
    marginal: float | None
    by_class: tuple[float | None, ...]
    n: int | None
    n_by_class: tuple[int, ...] | None

    def __post_init__(self) -> None:
        if not 0.0 < number(self.nominal, "nominal", 0.0, 1.0) < 1.0:
            raise refuse(f"has {self.nominal!r} as 'nominal', not a number between 0 and 1")
        numbers([t for t in (self.marginal, *self.by_class) if t is not None], "thresholds", 0.0, 1.0)
        if len(self.by_class) < 2:
            raise refuse(f"has thresholds of {len(self.by_class)} classes")
        if (self.n is None) != (self.n_by_class is None):
            raise refuse("has a part of the counts behind its thresholds")
        if self.n is not None and self.n_by_class is not None:
            self._check_counts((self.marginal, *self.by_class), (self.n, *self.n_by_class))

    def _check_counts(self, thresholds: Sequence[float | None], counts: Sequence[int]) -> None:
        if len(thresholds) != len(counts):
            raise refuse(f"has {len(thresholds) - 1} thresholds for {len(counts) - 1} counts")
        for threshold, n in zip(thresholds, counts, strict=True):
            if (threshold is None) != (rank(count(n, "n"), self.nominal) is None):
                raise refuse(f"has the threshold {threshold!r} from {n} images at {self.nominal:g}")

    @property
    def classes(self) -> int:
        """K."""
        return len(self.by_class)

    @property
    def each_class(self) -> bool:
        """Whether every class has a threshold of its own; else the one for all classes is used.

        A class without one would be in every set, and with several of these a set says nothing.
        """
        return None not in self.by_class

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "nominal": self.nominal,
            "marginal": self.marginal,
            "by_class": list(self.by_class),
            "n": self.n,
            "n_by_class": None if self.n_by_class is None else list(self.n_by_class),
        }

    @classmethod
    def from_dict(cls, content: Any) -> Thresholds:
        """Out of :meth:`to_dict`; anything else is an :class:`~.checks.InvalidCalibratorError`."""
        values = exact_keys(content, ("nominal", "marginal", "by_class", "n", "n_by_class"), "sets")
        counts = values["n_by_class"]
        marginal, *by_class = (
            None if each is None else number(each, "thresholds", 0.0, 1.0)
            for each in (values["marginal"], *items(values["by_class"], "by_class"))
        )
        return cls(
            number(values["nominal"], "nominal"),
            marginal,
            tuple(by_class),
            None if values["n"] is None else count(values["n"], "n"),
            None if counts is None else tuple(count(each, "n_by_class") for each in items(counts, "n_by_class")),
        )


def rank(n: int, nominal: float) -> int | None:
    """Which of n ascending scores is the threshold: ceil((n + 1) nominal), counted from 1; None where that exceeds n.

    ``nominal`` counts as the decimal that it is written as: 0.9 of 10 is 9, although the float is not exactly 0.9.

    >>> rank(9, 0.9), rank(8, 0.9), rank(100, 0.9)
    (9, None, 91)
    """
    wanted = math.ceil((n + 1) * Fraction(repr(float(nominal))))
    return wanted if wanted <= n else None


def quantile(scores: FloatArray, nominal: float) -> float | None:
    """The threshold of some scores, (n,); None where they are too few."""
    wanted = rank(len(scores), nominal)
    return None if wanted is None else float(np.sort(scores)[wanted - 1])


def fit(probabilities: ArrayLike, labels: ArrayLike, *, nominal: float) -> Thresholds:
    """Thresholds from all rows, which must be exchangeable with new images: one image a group.

    Args:
        probabilities: (n, K), of images that neither the model nor its calibration was fitted on. labels: (n,).
        nominal: share of sets that are to hold the true class, in (0, 1).
    """
    p, y = check_probabilities(probabilities, labels)
    scores = 1.0 - p[np.arange(len(y)), y]
    each = [scores[y == k] for k in range(p.shape[1])]
    return Thresholds(
        nominal, quantile(scores, nominal), tuple(quantile(s, nominal) for s in each), len(y), tuple(map(len, each))
    )


def fit_by_group(
    probabilities: ArrayLike, labels: ArrayLike, groups: Groups, generator: np.random.Generator, *, nominal: float
) -> Thresholds:
    """Thresholds from one image a group, drawn at random; by class, from one image a group and class.

    What is promised is for one image of a new patient. Arguments as in :func:`fit`, and ``groups`` (n,).
    """
    p, y = check_probabilities(probabilities, labels)
    codes = group_codes(groups, len(y))
    once = one_per_group(codes, generator)
    pairs = one_per_group(codes * p.shape[1] + y, generator)
    together, apart = fit(p[once], y[once], nominal=nominal), fit(p[pairs], y[pairs], nominal=nominal)
    return Thresholds(nominal, together.marginal, apart.by_class, together.n, apart.n_by_class)


def score_histogram(probabilities: ArrayLike, labels: ArrayLike, bins: int = SCORE_BINS) -> IntArray:
    """How many scores 1 - p_y of each class fall into each bin, int64 (K, bins). Adds over sites.

    Bins are even in [0, 1]; bin i holds i / bins <= s < (i + 1) / bins in exact arithmetic, the last one s = 1 too.
    Pass one image a group and class (:func:`.group_draws.one_per_group`) where groups have several.
    """
    p, y = check_probabilities(probabilities, labels)
    where = bin_index(1.0 - p[np.arange(len(y)), y], bins)
    cells = np.bincount(y * bins + where, minlength=p.shape[1] * bins)
    return cells.reshape(p.shape[1], bins).astype(np.int64)


def thresholds_from_histogram(
    histogram: IntArray, *, nominal: float, once: IntArray | None = None, fewest: int = 0
) -> Thresholds:
    """Thresholds from summed histograms: the upper edge of the bin that holds the exact one.

    Args:
        histogram: (K, bins) counts, one image of a group and class. nominal: as in :func:`fit`.
        once: (bins,) counts, one image of a group, for the threshold for all; None: the sum of ``histogram``.
        fewest: with fewer scores than that there is no threshold.

    Raises:
        InvalidPredictionsError: no counts, or one below 0.
    """
    if histogram.ndim != 2 or histogram.shape[0] < 2 or histogram.size == 0 or histogram.min() < 0:
        raise InvalidPredictionsError(f"a histogram of shape {histogram.shape} is no count by class and bin")
    if once is not None and (once.shape != histogram.shape[1:] or once.min() < 0):
        raise InvalidPredictionsError(f"a histogram of shape {once.shape} beside one of {histogram.shape}")
    edges = bin_edges(histogram.shape[1])

    def threshold(counts: IntArray) -> float | None:
        n = int(counts.sum())
        wanted = rank(n, nominal)
        return (
            None if wanted is None or n < fewest else float(edges[int(np.searchsorted(np.cumsum(counts), wanted)) + 1])
        )

    together = histogram.sum(axis=0) if once is None else once
    by_class = tuple(threshold(row) for row in histogram)
    if fewest:  # the record checks thresholds against counts, and these are left out by another rule
        return Thresholds(nominal, threshold(together), by_class, None, None)
    return Thresholds(
        nominal, threshold(together), by_class, int(together.sum()), tuple(int(row.sum()) for row in histogram)
    )


def prediction_sets(
    probabilities: ArrayLike, thresholds: Thresholds, *, by_class: bool | None = None
) -> NDArray[np.bool_]:
    """Which classes are in each image's set, bool (n, K). A set can be empty, and can hold all classes.

    Args:
        probabilities: (n, K), calibrated as those that the thresholds were fitted on.
        by_class: with the thresholds of the classes, or with the one for all; None: of the classes where all have one.
    """
    p, _ = check_probabilities(probabilities)
    if p.shape[1] != thresholds.classes:
        raise InvalidPredictionsError(f"thresholds of {thresholds.classes} classes for {p.shape[1]} probabilities")
    by_class = thresholds.each_class if by_class is None else by_class
    limits = thresholds.by_class if by_class else (thresholds.marginal,) * thresholds.classes
    return 1.0 - p <= np.array([1.0 if limit is None else limit for limit in limits])


def coverage(
    sets: NDArray[np.bool_], labels: IntArray, classes: Sequence[str], *, nominal: float, site: Column | None = None
) -> tuple[SetCoverage, ...]:
    """How often sets hold the true class: of all images, then of each class, then of each site.

    Args:
        sets: (n, K) bool. labels: (n,). classes: K names.
        nominal: what was aimed at. site: of each image, where there are several.
    """
    if sets.shape != (len(labels), len(classes)):
        raise InvalidPredictionsError(f"sets of shape {sets.shape} for {len(labels)} images and {len(classes)} classes")
    held, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)

    def row(name: str, where: NDArray[np.bool_]) -> SetCoverage:
        n, size = int(where.sum()), sizes[where]
        shares = [float(part.mean()) if n else None for part in (size, size == 0, size == 1)]
        return SetCoverage(name, nominal, rate(int(held[where].sum()), n), *shares)

    return (
        row("all", np.ones(len(labels), dtype=bool)),
        *(row(name, labels == k) for k, name in enumerate(classes)),
        *(row(name, site.codes == code) for code, name in enumerate(site.levels if site else ()) if site),
    )
