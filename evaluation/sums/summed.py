"""Figures over all sites from sums alone: nobody's predictions are needed, and counts are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InvalidPredictionsError
from ..metrics import Figures
from ..reliability import N_BINS, bin_edges
from .layout import NOT_RECORDED, OTHER
from .ranking import BoundedAuroc, auroc_of_histograms

SLACK = 1e-3
"""How far a sum of real numbers may lie outside what its count allows: fractions are rounded at each site."""


@dataclass(frozen=True)
class SummedFigures:
    """Sums over the test and validation images of all sites; exact, and nothing that may be published as it is.

    Attributes:
        classes: names in label order. sites: vectors in the sum. temperature: what the logits were divided by.
        levels: subgroup columns with the study's levels, other, and not recorded.
        fields: by name, as `layout.evaluation_layout` has them.

    Raises:
        InvalidPredictionsError: the fields contradict each other, so that no images can have such sums.
    """

    classes: tuple[str, ...]
    sites: int
    temperature: float | None
    levels: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, FloatArray]

    @classmethod
    def of(
        cls,
        fields: Mapping[str, FloatArray],
        *,
        classes: Sequence[str],
        sites: int,
        temperature: float | None,
        levels: Mapping[str, Sequence[str]],
    ) -> SummedFigures:
        """From the fields of a sum; ``levels`` as the study names them."""
        named = {column: (*given, OTHER, NOT_RECORDED) for column, given in levels.items()}
        return cls(tuple(classes), sites, temperature, named, dict(fields))

    def __post_init__(self) -> None:
        problem = next(iter(self._contradictions()), None)
        if problem is not None:
            raise InvalidPredictionsError(
                f"the sums contradict each other: {problem}", remedy="Some site's vector was none of predictions"
            )

    def _contradictions(self) -> list[str]:
        f, n = self.fields, self.n
        rows = f["confusion"].sum(axis=1)
        right = f["confusion"].diagonal()
        found = []
        equal = [
            ("the bins hold other images than the confusion matrix", f["bin_n"].sum(), n),
            ("the bins have other right answers", f["bin_right"].sum(), right.sum()),
            ("the bins before temperature hold other images", f["raw_bin_n"].sum(), n),
            ("the bins before temperature have other right answers", f["raw_bin_right"].sum(), right.sum()),
            ("other validation groups answer", f["answers"].sum(), f["scores"].sum()),
            ("a class's bins hold other images", f["class_bin_n"].sum(axis=1), n),
            ("a class's bins have other cases", f["class_bin_hits"].sum(axis=1), rows),
            ("a class's scores have other cases", f["positives"].sum(axis=1), rows),
            ("a class's scores have other images", f["negatives"].sum(axis=1), n - rows),
        ]
        for number in range(len(self.levels)):
            equal += [
                ("a subgroup column has other right answers", f[f"right_{number}"].sum(axis=0), right),
                ("a subgroup column has other images", f[f"total_{number}"].sum(axis=0), rows),
            ]
        found += [text for text, first, second in equal if np.any(first != second)]
        at_most = [
            ("a bin has more right answers than images", f["bin_right"], f["bin_n"]),
            ("a class's bin has more cases than images", f["class_bin_hits"], f["class_bin_n"]),
            ("more answers are right than given", f["right_answers"], f["answers"]),
            ("more validation groups than groups and classes", f["scores"].sum(), f["class_scores"].sum()),
            ("more is done rightly than done", f["acted_rightly"], f["acted"]),
            ("a class is found more often than it is there", f["acted_rightly"], rows[:, None]),
            ("more is done wrongly than there are others", f["acted"] - f["acted_rightly"], (n - rows)[:, None]),
            ("the Brier score is out of range", f["brier"], 2.0 * n + SLACK),
            ("the Brier score before temperature is out of range", f["raw_brier"], 2.0 * n + SLACK),
            ("a bin before temperature has more right answers than images", f["raw_bin_right"], f["raw_bin_n"]),
        ]
        for number in range(len(self.levels)):
            at_most.append(("a subgroup is right too often", f[f"right_{number}"], f[f"total_{number}"]))
            held = f[f"holders_{number}"]
            at_most.append(("more sites than there are hold a subgroup", held, self.sites))
            at_most.append(("more sites hold a subgroup than it has images", held, f[f"total_{number}"].sum(axis=1)))
        edges = bin_edges(N_BINS)
        for name in ("bin_confidence", "raw_bin_confidence", "class_bin_share"):
            count, mass = f[f"{name.rsplit('_', 1)[0]}_n"], f[name]
            at_most.append(("a bin's probabilities are too large", mass, count * edges[1:] + SLACK))
            at_most.append(("a bin's probabilities are too small", count * edges[:-1] - SLACK, mass))
        found += [text for text, low, high in at_most if np.any(low > high)]
        return found

    @property
    def n(self) -> int:
        """Test images of all sites."""
        return int(self.fields["confusion"].sum())

    @property
    def confusion(self) -> IntArray:
        """Counts (K, K), rows truth."""
        return self.fields["confusion"].astype(np.int64)

    def auroc(self, k: int) -> BoundedAuroc | None:
        """Of class k against the rest."""
        return auroc_of_histograms(self.fields["positives"][k], self.fields["negatives"][k])

    @property
    def macro_auroc(self) -> BoundedAuroc | None:
        """Mean over the classes present, with the mean of their bounds; None with fewer than two."""
        present = np.flatnonzero(self.fields["confusion"].sum(axis=1))
        each = [self.auroc(int(k)) for k in present]
        known = [value for value in each if value is not None]
        if len(present) < 2 or len(known) < len(present):
            return None
        return BoundedAuroc(
            float(np.mean([value.value for value in known])), float(np.mean([value.bound for value in known]))
        )

    def before_temperature(self) -> tuple[float, float] | None:
        """Top-label calibration error and Brier score before the temperature; None for no images."""
        f, n = self.fields, self.n
        if n == 0:
            return None
        return float(np.abs(f["raw_bin_right"] - f["raw_bin_confidence"]).sum() / n), float(f["raw_brier"] / n)

    def net_benefit(self, thresholds: Sequence[float]) -> FloatArray | None:
        """Of acting on each class at each threshold, (K, T); None for no images.

        TP / n - FP / n * t / (1 - t) (Vickers and Elkin 2006).

        Args:
            thresholds: those that the sums were made at, in order.

        Raises:
            InvalidPredictionsError: the sums have another number of thresholds.
        """
        true = self.fields["acted_rightly"]
        if true.shape[1] != len(thresholds):
            raise InvalidPredictionsError(f"{len(thresholds)} thresholds for sums at {true.shape[1]}")
        if self.n == 0:
            return None
        odds = np.array([threshold / (1.0 - threshold) for threshold in thresholds])
        benefit: FloatArray = (true - (self.fields["acted"] - true) * odds) / self.n
        return benefit

    def figures(self) -> Figures:
        """The figures of the pooled test images: all but AUROC exact up to the rounding of fractions."""
        f, n = self.fields, self.n
        if n == 0:
            return Figures(0, None, None, None, None, None, None, None, None, self.temperature)
        matrix = f["confusion"]
        rows, columns, right = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
        present = rows > 0
        several = int(present.sum()) >= 2
        recall = right[present] / rows[present]
        f1 = 2 * right[present] / (rows[present] + columns[present])
        auroc = self.macro_auroc
        return Figures(
            n=n,
            accuracy=float(right.sum() / n),
            balanced_accuracy=float(recall.mean()) if several else None,
            macro_f1=float(f1.mean()) if several else None,
            macro_auroc=auroc.value if auroc is not None else None,
            ece=float(np.abs(f["bin_right"] - f["bin_confidence"]).sum() / n),
            classwise_ece=float(np.abs(f["class_bin_hits"] - f["class_bin_share"]).sum(axis=1).mean() / n),
            brier=float(f["brier"] / n),
            nll=float(f["nll"] / n),
            temperature=self.temperature,
        )
