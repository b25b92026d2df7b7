"""From a :class:`SiteReport` to the words, tables and figures of its page. Nothing but finished figures is HTML."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, IntArray, softmax
from .confusion import confusion_matrix
from .figures_svg import confusion_figure, reliability_diagram
from .intervals import Interval, balanced_accuracy_difference, balanced_accuracy_interval, macro_auroc_interval
from .metrics import Figures, figures
from .page_parts import (
    UNKNOWN,
    Cell,
    HeadlineFigure,
    Table,
    number,
    percent,
    plural,
    privacy_facts,
    provenance_facts,
    rate_cell,
    sentence_list,
    signed,
    span,
)
from .per_class import per_class
from .privacy_view import SitePrivacyView, site_privacy_view, with_spent
from .reliability import N_BINS, NullBound, null_bound, reliability_bins
from .report_model import Predictions, SiteReport
from .scores import headline_generator


@dataclass(frozen=True, slots=True)
class SiteView:
    """All that the template prints, in order."""

    report: SiteReport
    headline: HeadlineFigure
    side: tuple[HeadlineFigure, ...]
    reading: tuple[str, ...]
    comparison: Table
    per_class: Table
    absent: str
    confusion: str
    calibration: Table
    diagrams: tuple[tuple[str, str], ...]
    calibration_reading: tuple[str, ...]
    flow: Table
    flow_reading: tuple[str, ...]
    privacy: tuple[tuple[str, str], ...]
    differential: SitePrivacyView | None
    provenance: tuple[tuple[str, str], ...]


class _Scored:
    """One model's predictions with everything computed from them once."""

    def __init__(self, report: SiteReport, predictions: Predictions) -> None:
        self.names = [label.name for label in report.classes]
        self.given = predictions
        self.z, self.y, self.groups = predictions.arrays(len(self.names))
        self.after = figures(self.z, self.y, temperature=predictions.temperature, classes=self.names)
        self.before = figures(self.z, self.y, classes=self.names)
        self.predicted: IntArray = self.z.argmax(axis=1).astype(np.int64)
        self.interval = balanced_accuracy_interval(
            self.z, self.y, self.groups.tolist(), headline_generator(report.seed)
        )

    def confidence(self, temperature: float) -> tuple[FloatArray, FloatArray]:
        stated: FloatArray = softmax(self.z, temperature).max(axis=1) if len(self.y) else np.zeros(0)
        return stated, (self.predicted == self.y).astype(np.float64)

    def null(self, report: SiteReport, temperature: float) -> NullBound | None:
        stated, right = self.confidence(temperature)
        return null_bound(stated, right, self.groups.tolist(), np.random.default_rng([report.seed, 3]))


def site_view(report: SiteReport) -> SiteView:
    """Compute the page of one site."""
    model = _Scored(report, report.federated)
    n_groups = int(model.groups.max()) + 1 if len(model.groups) else 0
    auroc = macro_auroc_interval(
        model.z,
        model.y,
        model.groups.tolist(),
        np.random.default_rng([report.seed, 2]),
        temperature=report.federated.temperature,
    )
    null = model.null(report, report.federated.temperature or 1.0)
    clinical = [label.clinical_name for label in report.classes]
    matrix = confusion_matrix(model.y, model.predicted, len(clinical))
    absent = [name for k, name in enumerate(clinical) if not (model.y == k).any()]
    return SiteView(
        report=report,
        headline=_headline(model),
        side=_side(model, auroc, null, n_groups, report),
        reading=_reading(report, model, n_groups),
        comparison=_comparison(report, model),
        per_class=Table(
            "Each class against all others, federated model on the test images of this site. 95 % Wilson intervals.",
            ("Class", "Images", "Sensitivity", "Specificity", "Positive predictive value", "Negative predictive value"),
            tuple(
                (
                    Cell(row.name),
                    Cell(str(row.n)),
                    rate_cell(row.sensitivity),
                    rate_cell(row.specificity),
                    rate_cell(row.ppv),
                    rate_cell(row.npv),
                )
                for row in per_class(matrix, clinical)
            ),
        ),
        absent=sentence_list(absent),
        confusion=confusion_figure("confusion", "Confusion matrix of the federated model", matrix, clinical),
        calibration=_calibration(report, model, null),
        diagrams=_diagrams(model),
        calibration_reading=_calibration_reading(model, null, report.flow.group_key),
        flow=_flow(report),
        flow_reading=_flow_reading(report),
        privacy=privacy_facts(
            with_spent(report.privacy, [report.private] if report.private else []), sends=report.role == "training"
        ),
        differential=site_privacy_view(report.private),
        provenance=provenance_facts(report.provenance),
    )


def _headline(model: _Scored) -> HeadlineFigure:
    value = model.after.balanced_accuracy
    between = span(model.interval.low, model.interval.high)
    if value is None:
        why = "no test images" if model.after.n == 0 else "the test images are of one class only"
        return HeadlineFigure("Balanced accuracy", UNKNOWN, why)
    note = model.interval.note
    sub = f"95 % interval {between}" if between else f"no interval: {note}"
    if between and note:
        sub += f" ({note})"
    return HeadlineFigure("Balanced accuracy", number(value), sub)


def _side(
    model: _Scored, auroc: Interval, null: NullBound | None, n_groups: int, report: SiteReport
) -> tuple[HeadlineFigure, ...]:
    between = span(auroc.low, auroc.high)
    chance = ""
    if null is not None:
        chance = f"{number(null.observed, 3)} at one image per {report.flow.group_key}; chance alone: up to "
        chance += number(null.bound, 3)
    return (
        HeadlineFigure(
            "Macro AUROC", number(model.after.macro_auroc), f"95 % interval {between}" if between else auroc.note
        ),
        HeadlineFigure("Calibration error", number(model.after.ece, 3), chance),
        HeadlineFigure("Test images", f"{model.after.n:,}", f"of {plural(n_groups, report.flow.group_key)}"),
    )


def _reading(report: SiteReport, model: _Scored, n_groups: int) -> tuple[str, ...]:
    value = model.after.balanced_accuracy
    if value is None:
        return ("Balanced accuracy needs test images of at least two classes. The counts below still hold.",)
    kinds = len(np.unique(model.y))
    first = (
        f"On {plural(model.after.n, 'test image')} of {plural(n_groups, report.flow.group_key)} that were kept out of "
        f"training, the model named {percent(value)} of the images of a class correctly, averaged over the "
        f"{kinds} classes present. Guessing would score {percent(1 / kinds)}."
    )
    said = [first]
    if report.role == "unseen":
        said.append("This site took no part in training: the figures show how the model carries over to a new site.")
    return tuple(said)


def _comparison(report: SiteReport, model: _Scored) -> Table:
    rows = [_model_row("Federated", model, Cell("reference"), strong=True)]
    for label, given in (("Local only", report.local_only), ("Zero-shot", report.zero_shot)):
        if given is None:
            continue
        other = _Scored(report, given)
        difference = balanced_accuracy_difference(
            model.z, other.z, model.y, model.groups.tolist(), np.random.default_rng([report.seed, 4])
        )
        rows.append(_model_row(label, other, _difference(model.after, other.after, difference)))
    return Table(
        "The same test images under each model. Differences are paired: federated minus the other, 95 % interval.",
        ("Model", "Balanced accuracy", "Federated gains", "Macro AUROC", "Calibration error", "Brier", "NLL"),
        tuple(rows),
    )


def _model_row(label: str, model: _Scored, gain: Cell, *, strong: bool = False) -> tuple[Cell, ...]:
    between = span(model.interval.low, model.interval.high)
    return (
        Cell(label),
        Cell(number(model.after.balanced_accuracy), between or model.interval.note, strong=strong),
        gain,
        Cell(number(model.after.macro_auroc)),
        Cell(number(model.after.ece, 3)),
        Cell(number(model.after.brier, 3)),
        Cell(number(model.after.nll, 3)),
    )


def _difference(first: Figures, second: Figures, interval: Interval) -> Cell:
    if first.balanced_accuracy is None or second.balanced_accuracy is None:
        return Cell(UNKNOWN)
    value = signed(first.balanced_accuracy - second.balanced_accuracy)
    if interval.low is None or interval.high is None:
        return Cell(value, interval.note)
    between = f"{signed(interval.low)} to {signed(interval.high)}"
    if interval.low <= 0 <= interval.high:
        between += " · not told apart"
    return Cell(value, between)


def _calibration(report: SiteReport, model: _Scored, null: NullBound | None) -> Table:
    fitted = report.federated.temperature
    carried = report.federated.temperature_source == "model"
    label = "As trained (temperature carried by the model)" if carried else "As trained (temperature 1)"
    rows = [(label, model.before, model.null(report, 1.0))]
    if fitted is not None:
        source = "this site's validation images" if report.federated.temperature_source == "site" else "all sites"
        rows.append((f"Temperature {number(fitted)}, fitted on {source}", model.after, null))
    return Table(
        f"Federated model, calibration error over {N_BINS} bins of equal width; lower is better in every column.",
        ("Probabilities", "Top-label error", "Chance alone, 95 %", "Classwise error", "Brier (0 to 2)", "NLL (nats)"),
        tuple(
            (
                Cell(label),
                Cell(number(values.ece, 3)),
                Cell(
                    number(bound.bound if bound else None, 3),
                    f"against {number(bound.observed, 3)} at n = {bound.effective_n}" if bound else "",
                ),
                Cell(number(values.classwise_ece, 3)),
                Cell(number(values.brier, 3)),
                Cell(number(values.nll, 3)),
            )
            for label, values, bound in rows
        ),
    )


def _diagrams(model: _Scored) -> tuple[tuple[str, str], ...]:
    drawn = []
    carried = model.given.temperature_source == "model"
    settings = [("before", "At the temperature that the model carries" if carried else "Before temperature", 1.0)]
    if model.given.temperature is not None:
        settings.append(("after", "After temperature", model.given.temperature))
    for key, title, temperature in settings:
        stated, right = model.confidence(temperature)
        drawn.append(
            (title, reliability_diagram(key, f"Reliability diagram, {title.lower()}", reliability_bins(stated, right)))
        )
    return tuple(drawn)


def _calibration_reading(model: _Scored, null: NullBound | None, group: str) -> tuple[str, ...]:
    if null is None:
        return ("There are no test images to judge probabilities by.",)
    said = []
    if model.given.temperature_source == "model":
        said.append(
            "The temperature is carried by the model: it was learnt in training, on validation images, and none was "
            "fitted afterwards."
        )
    elif model.given.temperature is None:
        said.append("No temperature could be fitted: there were too few validation images, or the fit had no optimum.")
    stated, right = model.confidence(model.given.temperature or 1.0)
    gap = float(stated.mean() - right.mean())
    lean = "about as often right as it says" if abs(gap) < 0.02 else ("overconfident" if gap > 0 else "underconfident")
    said.append(
        f"On average the model states {percent(stated.mean())} confidence and is right in {percent(right.mean())} "
        f"of images: {lean}."
    )
    said.append(
        f"A perfectly calibrated model would show a calibration error of up to {number(null.bound, 3)} by chance at "
        f"one image per {group} (n = {null.effective_n}); this one shows {number(null.observed, 3)}, "
        + ("which is more than chance explains." if null.exceeded else "which chance alone can explain.")
    )
    return tuple(said)


def _flow(report: SiteReport) -> Table:
    parts = [(row.train, row.validation, row.test) for row in report.flow.rows]
    counts = [(*part, sum(part)) for part in parts]
    totals = [sum(column) for column in zip(*counts, strict=True)]
    cells = [
        (Cell(label.clinical_name), *(Cell(f"{value:,}") for value in row))
        for label, row in zip(report.classes, counts, strict=True)
    ]
    cells.append((Cell("All"), *(Cell(f"{value:,}", strong=True) for value in totals)))
    return Table(
        f"Images of this site by class and part. A {report.flow.group_key} is never in two parts.",
        ("Class", "Training", "Validation", "Test", "All"),
        tuple(cells),
        stacked=False,
    )


def _flow_reading(report: SiteReport) -> tuple[str, ...]:
    flow = report.flow
    said = []
    parts = [
        f"{count:,} in {part}"
        for part, count in (
            ("training", flow.train_groups),
            ("validation", flow.validation_groups),
            ("test", flow.test_groups),
        )
        if count is not None
    ]
    if parts:
        said.append(f"Counted as {plural(2, flow.group_key).removeprefix('2 ')}: {sentence_list(parts)}.")
    said.append(
        "Every image found could be read."
        if flow.skipped == 0
        else f"{plural(flow.skipped, 'image')} could not be read and {'was' if flow.skipped == 1 else 'were'} left out."
    )
    return tuple(said)
