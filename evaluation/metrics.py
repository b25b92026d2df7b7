"""The figures of one set of predictions: discrimination, calibration and proper scores.

What cannot be known is None, never 0 and never 1. Balanced accuracy, macro F1 and macro AUROC average over the classes
that occur among the labels, so two sites with different class sets are not comparable on them: print the classes beside
them. With fewer than two classes present the three are None: a site that holds one class would otherwise score a
perfect 1.0 with a model that always answers it.

References:
    Brodersen et al. (2010), ICPR (balanced accuracy). Hand and Till (2001) discuss multi-class AUROC; here it
    is the plain mean of one-against-rest. Brier (1950), Monthly Weather Review 78:1-3, in its original form,
    the sum over classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import brier_score_loss, f1_score, recall_score, roc_auc_score

from .arrays import (
    FloatArray,
    IntArray,
    check_predictions,
    check_temperature,
    log_odds,
    log_softmax,
    softmax,
)
from .errors import InvalidPredictionsError
from .reliability import N_BINS, calibration_error


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one model on one set of images.

    Attributes:
        n: images.
        accuracy: share right, 0..1; None for n = 0.
        balanced_accuracy: mean recall over the classes present; None with fewer than two.
        macro_f1: mean F1 over the classes present; None with fewer than two.
        macro_auroc: mean one-against-rest AUROC over the classes present; None with fewer than two.
        ece: top-label expected calibration error, 10 bins of equal width; None for n = 0.
        classwise_ece: mean over ALL classes of the calibration error of that class's probability; None for n
            = 0.
        brier: mean over images of the sum over classes of (p - y)^2, 0..2; None for n = 0.
        nll: mean negative log likelihood in nats, computed from logits; None for n = 0.
        temperature: what the logits were divided by, or None where they were taken as they are.
    """

    n: int
    accuracy: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    macro_auroc: float | None
    ece: float | None
    classwise_ece: float | None
    brier: float | None
    nll: float | None
    temperature: float | None

    def as_dict(self) -> dict[str, int | float | None]:
        """The figures by name, ready for JSON."""
        return asdict(self)


def figures(
    logits: ArrayLike, labels: ArrayLike, *, temperature: float | None = None, classes: Sequence[str]
) -> Figures:
    """All figures of one set of predictions; probabilities are softmax(logits / temperature).

    Args:
        logits: (n, K) finite numbers. labels: (n,) integers in [0, K).
        temperature: above 0, or None for 1.
        classes: the K class names, only to check that K is what the caller thinks it is.

    Raises:
        InvalidPredictionsError: on wrong shapes, values that are not finite, or labels out of range.

    Notes:
        Equal logits are decided for the class of lowest index.

    Examples:
        >>> result = figures([[2.0, 0.0], [0.0, 2.0]], [0, 1], classes=["no", "yes"])
        >>> result.balanced_accuracy, round(result.nll, 4)
        (1.0, 0.1269)
        >>> figures([[2.0, 0.0]], [0], classes=["no", "yes"]).balanced_accuracy is None
        True
    """
    z, y = check_predictions(logits, labels)
    if len(classes) != z.shape[1]:
        raise InvalidPredictionsError(
            f"{len(classes)} class names for {z.shape[1]} columns of logits",
            remedy="Pass the study's classes in label order",
        )
    divisor = check_temperature(temperature)
    if len(y) == 0:
        return Figures(0, None, None, None, None, None, None, None, None, temperature)
    present = np.unique(y)
    several = len(present) >= 2
    predicted = z.argmax(axis=1)
    probabilities = softmax(z, divisor)
    return Figures(
        n=len(y),
        accuracy=float(np.mean(predicted == y)),
        # recall_score over the classes present is balanced_accuracy_score without its warning about other
        # predictions.
        balanced_accuracy=_macro(recall_score, y, predicted, present) if several else None,
        macro_f1=_macro(f1_score, y, predicted, present) if several else None,
        macro_auroc=macro_auroc(z, y, divisor) if several else None,
        ece=calibration_error(probabilities.max(axis=1), (predicted == y).astype(np.float64)),
        classwise_ece=classwise_calibration_error(probabilities, y),
        brier=float(
            brier_score_loss(y, probabilities, labels=np.arange(z.shape[1]), scale_by_half=False)
            if z.shape[1] > 2
            else np.square(probabilities - np.eye(2)[y]).sum(axis=1).mean()
        ),
        # From logits, not from probabilities: the logarithm of a probability that underflowed to 0 is lost.
        nll=float(-log_softmax(z, divisor)[np.arange(len(y)), y].mean()),
        temperature=temperature,
    )


def _macro(score: Callable[..., float], y: IntArray, predicted: IntArray, present: IntArray) -> float:
    return float(score(y, predicted, labels=present, average="macro", zero_division=0))


def macro_auroc(logits: FloatArray, labels: IntArray, temperature: float = 1.0) -> float | None:
    """Mean one-against-rest AUROC over the classes present, on log-odds; None with fewer than two classes."""
    present = np.unique(labels)
    if len(present) < 2:
        return None
    scores = log_odds(logits, temperature)
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in present]))


def classwise_calibration_error(probabilities: FloatArray, labels: IntArray, n_bins: int = N_BINS) -> float | None:
    """Mean over all K classes of the calibration error of p_k against (label = k); None for no images.

    Classes that no image has count too: giving them probability is a calibration error like any other.
    """
    per_class = [
        calibration_error(probabilities[:, k], (labels == k).astype(np.float64), n_bins)
        for k in range(probabilities.shape[1])
    ]
    known = [value for value in per_class if value is not None]
    return float(np.mean(known)) if known else None
