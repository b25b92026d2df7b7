"""One model on one set of images: every figure of a report, from arrays to a :class:`FigureSet`.

Answers, confusion and all figures but ``before`` are of the stated probabilities, i.e. after calibration where there
is one. Everything is drawn from ``seed``; the same sample and seed give the same figures. All intervals by resampling
share the resamples of ``scores.headline_generator(seed)``, so the interval of balanced accuracy is the one that the
study's dossier shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..confusion import confusion_matrix
from ..intervals import RESAMPLES, balanced_accuracy_interval
from ..per_class import per_class
from ..reliability import reliability_bins
from ..scores import headline_generator
from .answers import Answers
from .bootstrap import GroupBootstrap, group_bootstrap
from .calibration_figures import calibration_figures, class_calibration
from .decision_curve import check_thresholds, decision_curve
from .discrimination import Discrimination, discrimination
from .figure_set import ClassFigures, Estimate, FigureSet, SetCoverage
from .risk_coverage import risk_coverage
from .sample import Sample
from .subgroups import missingness, subgroups


def compute(
    sample: Sample,
    *,
    model: str,
    seed: int,
    thresholds: Sequence[float] = (0.1, 0.25, 0.5),
    before_label: str = "as trained",
    after_label: str = "",
    abstain_below: float | None = None,
    wanted_risk: float | None = None,
    sets: tuple[SetCoverage, ...] = (),
    resamples: int | None = None,
) -> FigureSet:
    """Every figure of one model on one set of images.

    Args:
        sample: predictions, groups and columns; no image at all is allowed.
        model: in words. seed: 0 or more, of all randomness.
        thresholds: probabilities named beforehand at which somebody would act, each in (0, 1).
        before_label, after_label: which calibration ``sample.logits`` and ``sample.calibrated`` have.
        abstain_below: top-label probability below which no answer is given; None without such a rule.
        wanted_risk: the risk that it was chosen for. sets: coverage of conformal sets, passed on.
        resamples: bootstrap draws, 1000 where None; the interval of balanced accuracy always has 1000.

    Raises:
        InvalidPredictionsError: on a threshold outside (0, 1).
    """
    named = check_thresholds(thresholds)
    labels = sample.labels
    n_draws = RESAMPLES if resamples is None else resamples
    bootstrap = group_bootstrap(sample.groups, headline_generator(seed), n_draws)
    answers = Answers.of(sample.stated, labels)
    told = discrimination(answers, bootstrap)
    matrix = confusion_matrix(labels, answers.called, len(sample.classes))
    columns = sorted(sample.columns.items())
    uncalibrated = answers if sample.calibrated is None else Answers.of(sample.logits, labels)
    return FigureSet(
        model=model,
        classes=sample.classes,
        counts=answers.counts,
        group_counts=tuple(bootstrap.count_groups(labels == k) for k in range(len(sample.classes))),
        n=len(labels),
        n_groups=bootstrap.n_groups,
        group_key=sample.group_key,
        classes_present=answers.present(sample.classes),
        accuracy=told.accuracy,
        balanced_accuracy=_headline(sample, bootstrap, told.balanced_accuracy, seed),
        macro_f1=told.macro_f1,
        macro_auroc=told.macro_auroc,
        confusion=tuple(tuple(int(cell) for cell in row) for row in matrix),
        per_class=_classes(sample, answers, told, bootstrap),
        before=calibration_figures(before_label, uncalibrated, sample.logits, bootstrap, seed),
        after=None
        if sample.calibrated is None
        else calibration_figures(after_label, answers, sample.calibrated, bootstrap, seed),
        decision=tuple(
            decision_curve(name, answers.probabilities[:, k], (labels == k).astype(np.float64), bootstrap, named)
            for k, name in enumerate(sample.classes)
        ),
        risk=risk_coverage(
            answers.confidence, 1.0 - answers.right, bootstrap, abstain_below=abstain_below, wanted_risk=wanted_risk
        ),
        sets=sets,
        subgroups=tuple(
            level
            for name, column in columns
            for level in subgroups(sample, answers, name, column, seed=seed, resamples=n_draws)
        ),
        missingness=tuple(missingness(name, column) for name, column in columns),
        sites=()
        if sample.site is None
        else subgroups(sample, answers, "site", sample.site, seed=seed, resamples=n_draws),
        resamples=n_draws,
        seed=seed,
    )


def _headline(sample: Sample, bootstrap: GroupBootstrap, found: Estimate, seed: int) -> Estimate:
    """Balanced accuracy with the interval that every other page shows, whatever ``resamples`` is."""
    if found.value is None or not bootstrap.ready or len(bootstrap.weights) == RESAMPLES:
        return found  # drawn from the same stream, so it is that interval already
    groups = bootstrap.groups.tolist()
    interval = balanced_accuracy_interval(sample.stated, sample.labels, groups, headline_generator(seed))
    return Estimate(found.value, interval.low, interval.high, found.n, found.n_groups, interval.note)


def _classes(
    sample: Sample,
    answers: Answers,
    told: Discrimination,
    bootstrap: GroupBootstrap,
) -> tuple[ClassFigures, ...]:
    """Each class against all others, in label order."""
    figures = []
    for k, row in enumerate(per_class(sample.labels, answers.called, bootstrap.groups, sample.classes)):
        of_class = (sample.labels == k).astype(np.float64)
        ece, slope, intercept = class_calibration(answers.probabilities[:, k], answers.odds[:, k], of_class, bootstrap)
        figures.append(
            ClassFigures(
                name=row.name,
                n=row.n,
                n_groups=bootstrap.count_groups(of_class > 0),
                predicted=row.predicted,
                sensitivity=row.sensitivity,
                specificity=row.specificity,
                ppv=row.ppv,
                npv=row.npv,
                f1=told.f1[k],
                auroc=told.auroc[k],
                ece=ece,
                slope=slope,
                intercept=intercept,
                bins=reliability_bins(answers.probabilities[:, k], of_class, groups=bootstrap.groups),
                called=row.called,
            )
        )
    return tuple(figures)
