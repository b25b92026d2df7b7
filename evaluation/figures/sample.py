"""Test predictions of one model as arrays: what every figure is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..arrays import FloatArray, IntArray, check_predictions, group_codes
from ..errors import InvalidPredictionsError

MISSING = -1


@dataclass(frozen=True, slots=True)
class Column:
    """A subgroup column: ``codes`` (n,) int64 into ``levels``, :data:`MISSING` where nothing is recorded."""

    levels: tuple[str, ...]
    codes: IntArray

    def __post_init__(self) -> None:
        if self.codes.size and not MISSING <= int(self.codes.min()) <= int(self.codes.max()) < len(self.levels):
            raise InvalidPredictionsError("a subgroup code lies outside the column's levels")


@dataclass(frozen=True, slots=True)
class Sample:
    """Predictions of one model on one set of images.

    Attributes:
        logits: (n, K) float64, as trained: softmax(logits) are the uncalibrated probabilities. Of a model that gives
            probabilities only, their logarithms.
        labels: (n,) int64 in [0, K). groups: (n,) int64 codes 0.. of patients, lesions or clusters.
        classes: K clinical names.
        calibrated: (n, K) float64 logits after calibration, so that softmax(calibrated) is what is stated to a reader;
            None where no calibration is applied.
        columns: subgroup columns by name. site: the column of sites, where there are several.
        group_key: what a group is, in words.
    """

    logits: FloatArray
    labels: IntArray
    groups: IntArray
    classes: tuple[str, ...]
    calibrated: FloatArray | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    site: Column | None = None
    group_key: str = "group"

    def __post_init__(self) -> None:
        check_predictions(self.logits, self.labels)
        n = len(self.labels)
        if self.logits.shape[1] != len(self.classes):
            raise InvalidPredictionsError(f"{len(self.classes)} classes for {self.logits.shape[1]} columns of logits")
        if self.calibrated is not None and self.calibrated.shape != self.logits.shape:
            raise InvalidPredictionsError("calibrated logits have another shape than the logits")
        if self.groups.shape != (n,):
            raise InvalidPredictionsError(f"{len(self.groups)} groups for {n} images")
        for name, column in (*self.columns.items(), *((("site", self.site),) if self.site else ())):
            if column is not None and column.codes.shape != (n,):
                raise InvalidPredictionsError(f"the column '{name}' has {len(column.codes)} values for {n} images")

    @property
    def stated(self) -> FloatArray:
        """Logits whose softmax is what a reader is told: calibrated where there is a calibration."""
        return self.logits if self.calibrated is None else self.calibrated

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.groups))

    def at(self, rows: IntArray) -> Sample:
        """The rows alone, with groups numbered anew; ``rows`` are indices or a boolean mask (n,)."""
        return Sample(
            self.logits[rows],
            self.labels[rows],
            group_codes(self.groups[rows].tolist(), len(self.labels[rows])),
            self.classes,
            None if self.calibrated is None else self.calibrated[rows],
            {name: Column(column.levels, column.codes[rows]) for name, column in self.columns.items()},
            None if self.site is None else Column(self.site.levels, self.site.codes[rows]),
            self.group_key,
        )
