"""From a site's report input to its figures: the three models on the same test images, computed once for all pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from .arrays import FloatArray, softmax
from .calibration.calibrator import Calibrator
from .calibration.conformal import coverage
from .figures.compute import compute
from .figures.figure_set import Estimate, FigureSet, SetCoverage
from .figures.sample import Column, Sample
from .intervals import balanced_accuracy_difference
from .page_parts import number
from .per_class import grouped_rate
from .report_model import Predictions, Score, SiteReport

BASELINES = MappingProxyType({"local_only": "Local only", "zero_shot": "Zero-shot"})
BASELINE_RESAMPLES = 400
"""Draws behind the intervals of baselines, but for balanced accuracy and differences, which have 1000."""


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """Everything that pages and twins say of one site.

    Attributes:
        federated: figures of the federated model. sample: what they are of.
        others: figures of the baselines that were scored here, by field of :class:`SiteReport`.
        gains: balanced accuracy of the federated model minus theirs, paired.
    """

    federated: FigureSet
    sample: Sample
    others: Mapping[str, FigureSet]
    gains: Mapping[str, Estimate]

    @property
    def sets(self) -> tuple[FigureSet, ...]:
        """All figure sets, the federated one first."""
        return (self.federated, *self.others.values())


def site_figures(report: SiteReport, *, resamples: int | None = None) -> SiteFigures:
    """Compute all figures of a site's report; the same report gives the same figures.

    Args:
        report: with the predictions. resamples: of the federated model's intervals, 1000 where None; and of no more in
            the baselines'. Balanced accuracy and differences always have 1000.

    Raises:
        EvaluationError: the report's calibrator is damaged, or of another number of classes.
    """
    calibrator = calibrator_of(report)
    sample = _sample(report, report.federated, calibrator)
    federated = compute(
        sample,
        model="Federated",
        seed=report.seed,
        thresholds=report.thresholds,
        before_label=before_label(report.federated),
        after_label=after_label(report.federated, calibrator),
        abstain_below=_abstain_below(report, calibrator),
        wanted_risk=_wanted_risk(report, calibrator),
        sets=_sets(sample, calibrator),
        resamples=resamples,
    )
    others, gains = {}, {}
    for key, name in BASELINES.items():
        given: Predictions | None = getattr(report, key)
        if given is None:
            continue
        other = _sample(report, given, None)
        others[key] = compute(
            Sample(
                other.logits, other.labels, other.groups, other.classes, other.calibrated, group_key=other.group_key
            ),
            model=name,
            seed=report.seed,
            thresholds=report.thresholds,
            before_label=before_label(given),
            after_label=after_label(given, None),
            resamples=min(BASELINE_RESAMPLES, resamples or BASELINE_RESAMPLES),
        )
        gains[key] = _gain(report, sample.stated, other.stated, federated, others[key])
    return SiteFigures(federated, sample, others, gains)


def calibrator_of(report: SiteReport) -> Calibrator | None:
    """The calibrator of the federated model at this site; None where only a temperature is known."""
    return None if report.calibrator is None else Calibrator.from_dict(report.calibrator)


def score_of(figures: FigureSet) -> Score:
    """The line that the front page shows of these figures."""
    found, calibration = figures.balanced_accuracy, figures.calibration
    return Score(
        n=figures.n,
        balanced_accuracy=found.value,
        low=found.low,
        high=found.high,
        ece=calibration.ece.value,
        note=found.note,
        ece_once=None if calibration.chance is None else calibration.chance.observed,
        ece_bound=None if calibration.chance is None else calibration.chance.bound,
        brier=calibration.brier.value,
        brier_low=calibration.brier.low,
        brier_high=calibration.brier.high,
        n_groups=figures.n_groups,
    )


def before_label(given: Predictions) -> str:
    """What "as trained" means for these predictions."""
    carried = given.temperature_source == "model"
    return "as trained (temperature carried by the model)" if carried else "as trained (temperature 1)"


def after_label(given: Predictions, calibrator: Calibrator | None) -> str:
    """The calibration that is applied, in words; empty where none is."""
    if calibrator is not None:
        return calibrator.words if calibrator.parameters is not None else ""
    if given.temperature is None:
        return ""
    whose = "this site's" if given.temperature_source == "site" else "of all sites"
    return f"temperature {number(given.temperature)}, {whose}"


def _sample(report: SiteReport, given: Predictions, calibrator: Calibrator | None) -> Sample:
    logits, labels, groups = given.arrays(len(report.classes))
    stated: FloatArray | None = None
    if calibrator is not None:
        stated = calibrator.apply(logits) if calibrator.parameters is not None and len(labels) else None
    elif given.temperature is not None:
        stated = logits / given.temperature
    return Sample(
        logits,
        labels,
        groups,
        tuple(label.clinical_name for label in report.classes),
        stated,
        {column.name: Column(column.levels, np.array(column.codes, dtype=np.int64)) for column in report.columns},
        group_key=report.flow.group_key,
    )


def _abstain_below(report: SiteReport, calibrator: Calibrator | None) -> float | None:
    if calibrator is not None:
        return calibrator.abstain_below or None
    return report.abstain_below or None


def _wanted_risk(report: SiteReport, calibrator: Calibrator | None) -> float | None:
    """The risk that the threshold was chosen for; None where it was chosen for none."""
    if calibrator is None:
        return report.wanted_risk
    return calibrator.abstain_risk if calibrator.risk_reached else None


def _sets(sample: Sample, calibrator: Calibrator | None) -> tuple[SetCoverage, ...]:
    if calibrator is None or calibrator.sets is None or not len(sample.labels):
        return ()
    found = calibrator.in_set(np.minimum(softmax(sample.stated), 1.0))
    if found is None:
        return ()
    rows = coverage(found, sample.labels, sample.classes, nominal=calibrator.sets.nominal)
    held = found[np.arange(len(sample.labels)), sample.labels]
    parts = [np.ones(len(held), dtype=bool), *(sample.labels == k for k in range(len(sample.classes)))]
    return tuple(
        replace(row, covered=grouped_rate(held[part], sample.groups[part]))
        for row, part in zip(rows, parts, strict=True)
    )


def _gain(
    report: SiteReport, first: FloatArray, second: FloatArray, federated: FigureSet, other: FigureSet
) -> Estimate:
    a, b = federated.balanced_accuracy.value, other.balanced_accuracy.value
    _, labels, groups = report.federated.arrays(len(report.classes))
    found = balanced_accuracy_difference(
        first, second, labels, groups.tolist(), np.random.default_rng([report.seed, 4])
    )
    value = None if a is None or b is None else a - b
    return Estimate(value, found.low, found.high, federated.n, found.n_groups, found.note)
