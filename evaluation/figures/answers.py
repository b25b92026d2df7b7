"""What a reader is told of every image, worked out once for all figures and subgroups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray, IntArray, log_odds, softmax


@dataclass(frozen=True, slots=True)
class Answers:
    """Stated probabilities and the answers that follow from them.

    Attributes:
        probabilities: (n, K) in [0, 1]. odds: (n, K) log odds, which keep their order where probabilities are 0 or 1.
        called: (n,) int64 most probable class, of equals the first. labels: (n,) int64 truth.
    """

    probabilities: FloatArray
    odds: FloatArray
    called: IntArray
    labels: IntArray

    @classmethod
    def of(cls, logits: FloatArray, labels: IntArray) -> Answers:
        """Answers of softmax(logits), logits (n, K); n may be 0."""
        # A softmax may leave a top value one rounding above 1.
        return cls(np.minimum(softmax(logits), 1.0), log_odds(logits), logits.argmax(axis=1), labels)

    def at(self, rows: NDArray[np.bool_]) -> Answers:
        """Those of ``rows`` alone."""
        return Answers(self.probabilities[rows], self.odds[rows], self.called[rows], self.labels[rows])

    @property
    def confidence(self) -> FloatArray:
        """Probability of the answer, (n,)."""
        highest: FloatArray = self.probabilities.max(axis=1)
        return highest

    @property
    def right(self) -> FloatArray:
        """1.0 where the answer is the truth, else 0.0: (n,)."""
        right: FloatArray = (self.called == self.labels).astype(np.float64)
        return right

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class, in label order."""
        return tuple(np.bincount(self.labels, minlength=self.probabilities.shape[1]).tolist())

    def present(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the classes that occur, in label order."""
        return tuple(name for name, count in zip(classes, self.counts, strict=True) if count)
