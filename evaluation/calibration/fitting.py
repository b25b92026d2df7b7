"""A whole calibration out of validation images: scaling, prediction sets and abstention, or out of summed counts.

Test images play no part. Thresholds must not come from the numbers that the scaling was fitted to, which look better
than new ones: for vector scaling and isotonic regression they come from cross-fitted probabilities, in which each
fifth of the groups is scaled by a fit to the other four (Vovk 2015, cross-conformal prediction; its promise is
approximate, and tests measure it). A temperature is one number, fitted to all validation images and used for the
thresholds as well: what it learns of one image is of the order 1 / n.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import FloatArray, IntArray, check_predictions, group_codes, softmax
from ..errors import InvalidPredictionsError
from . import abstention, conformal, isotonic, temperature, vector_scaling
from .calibrator import Calibrator, Kind, Parameters, Source
from .group_draws import Groups, group_folds
from .isotonic import IsotonicCurves
from .vector_scaling import VectorScaling

FOLDS = 5
FEWEST_PUBLISHED = 11
"""Scores behind a threshold that travels in a model card: it is itself a score, and small cells are not published."""
SEED = 8
"""Of folds and of the image that is drawn from each group: equal images give equal calibrations."""

Scaling = VectorScaling | IsotonicCurves


def fit_calibrator(
    kind: Kind,
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Groups,
    *,
    coverage: float,
    risk: float | None,
    abstain_below: float,
    federated_temperature: float | None = None,
    own_temperature: bool = False,
) -> Calibrator:
    """Everything that one site states with, fitted on its validation images alone.

    A kind that there are too few images for gives way: vector scaling and isotonic regression to a temperature, a
    temperature to the federated one, and that to none; :attr:`.Calibrator.wanted` keeps what was asked for.

    Args:
        kind: what to fit. logits: (n, K) validation logits as trained; n may be 0. labels: (n,).
        groups: (n,) patient, lesion or cluster of each image.
        coverage: share of prediction sets that are to hold the true class, in (0, 1).
        risk: bearable share of wrong answers, in (0, 1); None names none.
        abstain_below: threshold where no risk is named, or none reaches it.
        federated_temperature: of all sites; None without.
        own_temperature: the model carries a temperature, learnt in training; nothing is added to it.
    """
    z, y = check_predictions(logits, labels)
    codes = group_codes(groups, len(y))
    n: int | None = len(y)
    used, source, parameters, held_out = _scale("none" if own_temperature else kind, z, y, codes)
    if own_temperature:
        source = "model"
    elif used == "none" and kind != "none" and federated_temperature is not None:
        used, source, parameters = "temperature", "federated", float(federated_temperature)
        n, held_out = None, z / parameters
    # One stream for all that is drawn, in a fixed order.
    generator = np.random.default_rng(SEED)
    probabilities = softmax(held_out)
    sets = conformal.fit_by_group(probabilities, y, codes, generator, nominal=coverage)
    chosen = None if risk is None else abstention.choose(probabilities, y, codes, generator, risk=risk)
    threshold = None if chosen is None else chosen.threshold
    return Calibrator(
        kind=used,
        wanted=used if own_temperature else kind,
        source=source,
        classes=z.shape[1],
        n=n,
        parameters=parameters,
        sets=sets,
        abstain_below=abstain_below if threshold is None else threshold,
        abstain_risk=risk,
        risk_reached=threshold is not None,
    )


def from_sums(
    federated_temperature: float | None,
    *,
    classes: int,
    coverage: float,
    risk: float | None,
    abstain_below: float,
    scores: IntArray | None = None,
    once: IntArray | None = None,
    confidences: IntArray | None = None,
    own_temperature: bool = False,
    n: int | None = None,
) -> Calibrator:
    """The federated calibration out of counts that were summed over sites, without those counts: it is published.

    Args:
        federated_temperature: from summed likelihoods; None where it is not known.
        classes: K.
        coverage, risk, abstain_below: as in :func:`fit_calibrator`.
        scores: (K, bins) of :func:`.conformal.score_histogram`, one image of a group and class; None: no sets.
        once: (bins,), one image of a group.
        confidences: (2, bins) of :func:`.abstention.confidence_histogram`; None: no threshold can be chosen. Both at
            ``federated_temperature``.
        own_temperature: the model carries a temperature; nothing is added to it.
        n: validation images behind it, where that number may be told.

    Raises:
        InvalidPredictionsError: the histograms are of other classes.
    """
    if scores is not None and len(scores) != classes:
        raise InvalidPredictionsError(f"score histograms of {len(scores)} classes for {classes}")
    scaled = None if own_temperature or federated_temperature is None else float(federated_temperature)
    sets = None
    if scores is not None:
        sets = conformal.thresholds_from_histogram(scores, nominal=coverage, once=once, fewest=FEWEST_PUBLISHED)
    threshold = None
    if risk is not None and confidences is not None:
        threshold = abstention.choose_from_histogram(confidences, risk=risk).threshold
    return Calibrator(
        kind="none" if scaled is None else "temperature",
        wanted="none" if own_temperature else "temperature",
        source="model" if own_temperature else "none" if scaled is None else "federated",
        classes=classes,
        n=n,
        parameters=scaled,
        sets=sets,
        abstain_below=abstain_below if threshold is None else threshold,
        abstain_risk=risk,
        risk_reached=threshold is not None,
    )


def _scale(kind: Kind, z: FloatArray, y: IntArray, codes: IntArray) -> tuple[Kind, Source, Parameters, FloatArray]:
    """Kind, source and parameters of what could be fitted, and logits (n, K) for thresholds."""
    if kind in ("vector", "isotonic"):
        fit, fewest = _SCALINGS[kind]
        scaling = fit(z, y, fewest)
        held_out = None if scaling is None else _cross_fitted(fit, fewest, z, y, codes)
        # Where a fold lacks a class, the images are too few for this kind as well.
        if scaling is not None and held_out is not None:
            return kind, "site", scaling, held_out
    fitted = None if kind == "none" else temperature.fit(z, y)
    return ("none", "none", None, z) if fitted is None else ("temperature", "site", fitted, z / fitted)


def _fit_vector(z: FloatArray, y: IntArray, fewest: int) -> Scaling | None:
    return vector_scaling.fit(z, y, fewest=fewest)


def _fit_isotonic(z: FloatArray, y: IntArray, fewest: int) -> Scaling | None:
    return isotonic.fit(z, y, fewest=fewest)


_Fit = Callable[[FloatArray, IntArray, int], Scaling | None]
_SCALINGS: dict[Kind, tuple[_Fit, int]] = {
    "vector": (_fit_vector, vector_scaling.FEWEST_PER_CLASS),
    "isotonic": (_fit_isotonic, isotonic.FEWEST_PER_CLASS),
}


def _cross_fitted(fit: _Fit, fewest: int, z: FloatArray, y: IntArray, codes: IntArray) -> FloatArray | None:
    """Logits (n, K), each scaled by a fit that has not seen its group; None where a fold cannot be fitted.

    A fit without a fifth of the groups may have fewer images of a class, but not fewer than half of ``fewest``.
    """
    fold = group_folds(y, codes, FOLDS, np.random.default_rng(SEED))
    held_out = np.empty_like(z)
    for k in np.unique(fold):
        away = fold != k
        scaling = fit(z[away], y[away], fewest // 2)
        if scaling is None:
            return None
        held_out[~away] = scaling.apply(z[~away])
    return held_out
