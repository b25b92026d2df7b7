"""How much a set of frozen features says about the classes: linear probe and nearest neighbours, by group folds.

Images of one group (patient, lesion, near-duplicate cluster) are always on the same side, so that a probe cannot
score by recognising a picture it has seen. The probe follows Kornblith et al. (2019) and Radford et al. (2021), section
3.2: multinomial logistic regression with an L2 penalty, its strength chosen on the training part alone. Unlike theirs
it standardises the features, and its grid of strengths is a narrow one for hundreds to thousands of images.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from .arrays import FloatArray, IntArray, group_codes, softmax
from .errors import InvalidPredictionsError

FOLDS = 3
NEIGHBOURS = 10
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # sklearn's C: small is strong regularisation
FALLBACK = 0.01  # where the training part has too few groups to choose a strength with
_STEPS = 400

Fold = tuple[IntArray, IntArray]


def group_folds(labels: ArrayLike, groups: Sequence[str] | Sequence[int], *, seed: int = 0) -> list[Fold]:
    """Three pairs of (training, test) rows, stratified by class, each row tested once, no group on both sides.

    Args:
        labels: (n,) integers from 0. groups: (n,) names or numbers.
        seed: of the order in which groups are dealt.

    Raises:
        InvalidPredictionsError: fewer than two classes, or a class with fewer than three groups.
    """
    y = np.asarray(labels)
    codes = group_codes(groups, len(y))
    present = np.unique(y)
    if len(present) < 2:
        raise InvalidPredictionsError(
            f"{len(present)} classes have images", remedy="a probe needs at least two classes"
        )
    for label in present.tolist():
        found = len(np.unique(codes[y == label]))
        if found < FOLDS:
            raise InvalidPredictionsError(
                f"the images of class number {label} form {found} group{'s' * (found != 1)}",
                where="groups",
                remedy=f"{FOLDS} folds need {FOLDS} groups of each class: add images or leave the class out",
            )
    return _folds(y, codes, seed, FOLDS)


def _folds(y: IntArray, codes: IntArray, seed: int, count: int) -> list[Fold]:
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Inner folds may meet a class with two groups; it is then missing from one fold, which is no fault.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [(train, test) for train, test in splitter.split(np.zeros(len(y)), y, codes)]


def linear_probe(
    features: ArrayLike, labels: ArrayLike, groups: Sequence[str] | Sequence[int], *, seed: int = 0
) -> FloatArray:
    """Out-of-fold logits of a linear classifier.

    In each fold features are standardised, and the penalty is the one of :data:`STRENGTHS` with the least log loss in
    three group folds inside the training part; with too few groups there for any inner fold it is :data:`FALLBACK`.

    Args:
        features: (n, D) finite numbers. labels: (n,) integers in [0, K), every class present. groups: (n,).
        seed: of the folds.

    Returns:
        float64 (n, K): each row from a classifier that saw no image of its group.

    Raises:
        InvalidPredictionsError: see :func:`group_folds`; or features that are not finite or not (n, D).
    """
    x, y = _checked(features, labels)
    codes = group_codes(groups, len(y))
    out = np.empty((len(y), int(y.max()) + 1))
    for train, test in group_folds(y, groups, seed=seed):
        strength = _strength(x[train], y[train], codes[train], seed)
        ((_, logits),) = _path(x[train], y[train], x[test], (strength,), out.shape[1])
        out[test] = logits
    return out


def nearest_neighbours(
    features: ArrayLike, labels: ArrayLike, groups: Sequence[str] | Sequence[int], *, seed: int = 0
) -> IntArray:
    """Out-of-fold classes by the ten nearest training images, cosine distance, nearer ones counting more.

    Args:
        features: (n, D) finite numbers. labels: (n,) integers. groups: (n,).
        seed: of the folds.

    Returns:
        int64 (n,): predicted classes; with fewer than ten training images all of them vote.
    """
    x, y = _checked(features, labels)
    out = np.empty_like(y)
    for train, test in group_folds(y, groups, seed=seed):
        near = KNeighborsClassifier(min(NEIGHBOURS, len(train)), metric="cosine", weights="distance")
        out[test] = near.fit(x[train], y[train]).predict(x[test])
    return out


def _strength(x: FloatArray, y: IntArray, codes: IntArray, seed: int) -> float:
    losses = dict.fromkeys(STRENGTHS, 0.0)
    classes = int(y.max()) + 1
    inner = _inner_folds(y, codes, seed)
    for train, test in inner:
        for strength, logits in _path(x[train], y[train], x[test], STRENGTHS, classes):
            losses[strength] += float(log_loss(y[test], softmax(logits), labels=np.arange(classes), normalize=False))
    return min(losses, key=lambda strength: losses[strength]) if inner else FALLBACK


def _inner_folds(y: IntArray, codes: IntArray, seed: int) -> list[Fold]:
    """Folds inside a training part: as many as its groups allow, without those that would fit a single class."""
    count = min(FOLDS, len(np.unique(codes)), int(np.bincount(y).max()))
    folds = _folds(y, codes, seed, count) if count > 1 else []
    return [(train, test) for train, test in folds if len(test) and len(np.unique(y[train])) > 1]


def _path(
    x: FloatArray, y: IntArray, asked: FloatArray, strengths: Sequence[float], classes: int
) -> list[tuple[float, FloatArray]]:
    """Logits of ``asked`` for each strength, weakest fit first, each fit starting where the last one ended."""
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=strengths[0], max_iter=_STEPS, warm_start=True)
    found: list[tuple[float, FloatArray]] = []
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fit cut short is a stronger penalty, not a fault
            model.set_params(C=strength).fit(scaler.transform(x), y)
        scores = model.decision_function(scaler.transform(asked))
        scores = np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
        logits = np.full((len(asked), classes), -1e3)  # a class that the training part lacks is never named
        logits[:, model.classes_] = scores
        found.append((strength, logits))
    return found


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, IntArray]:
    x = np.asarray(features, dtype=np.float64)
    y: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)
    if x.ndim != 2 or len(x) != len(y) or not np.isfinite(x).all():
        raise InvalidPredictionsError(
            f"features of shape {x.shape} for {len(y)} labels, or some not finite",
            where="features",
            remedy="give one row of finite numbers for every image",
        )
    return x, y
