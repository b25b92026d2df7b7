"""The machine-readable twins of a page: JSON that reads back to the same figures, and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ..errors import InvalidReportError
from ..per_class import Rate
from ..reliability import Bin
from .figure_set import (
    CalibrationFigures,
    ClassFigures,
    DecisionCurve,
    Estimate,
    FigureSet,
    RiskCoverage,
    RiskPoint,
    SetCoverage,
    SubgroupFigures,
)

HEADER = ("model", "section", "figure", "class_or_level", "value", "low", "high", "n", "n_groups", "note")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Number = int | float | bool | None


def to_json(figures: FigureSet) -> bytes:
    """JSON of one set of figures, UTF-8, the same bytes for the same figures."""
    return msgspec.json.encode(figures)


def from_json(data: bytes) -> FigureSet:
    """The figures that :func:`to_json` wrote.

    Raises:
        InvalidReportError: where it is no JSON of a figure set.
    """
    try:
        return msgspec.json.decode(data, type=FigureSet)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InvalidReportError(
            "this is not the JSON of a figure set", where=str(error), remedy="Pass a file that this version wrote"
        ) from error


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the CSV; every number of a figure set is in one cell of one line."""

    section: str
    figure: str
    level: str = ""
    value: Number = None
    low: Number = None
    high: Number = None
    n: Number = None
    n_groups: Number = None
    note: str = ""


def to_csv(sets: Sequence[FigureSet]) -> str:
    """All figures in long format, RFC 4180, a header line first: every number of every set exactly once.

    An unknown figure is an empty cell with its reason in ``note``. A text that a spreadsheet would run as a formula
    (it begins with = + - @, a tab or a return) gets an apostrophe in front; numbers are left as they are.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(HEADER)
    for figures in sets:
        for row in _rows(figures):
            numbers = [_cell(number) for number in (row.value, row.low, row.high, row.n, row.n_groups)]
            writer.writerow(
                [*map(_safe, (figures.model, row.section, row.figure, row.level)), *numbers, _safe(row.note)]
            )
    return out.getvalue()


def _cell(number: Number) -> str:
    if number is None:
        return ""
    # repr of a float reads back to the same float
    return str(number).lower() if isinstance(number, bool) else repr(number)


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _rows(figures: FigureSet) -> Iterator[Row]:
    yield from _overview(figures)
    for name, line in zip(figures.classes, figures.confusion, strict=True):
        for called, count in zip(figures.classes, line, strict=True):
            yield Row("confusion", f"called {called}", name, count)
    for of_class in figures.per_class:
        yield from _class(of_class)
    yield from _calibration("calibration before", figures.before)
    if figures.after is not None:
        yield from _calibration("calibration after", figures.after)
    for curve in figures.decision:
        yield from _decision(curve)
    yield from _risk(figures.risk)
    for covered in figures.sets:
        yield from _set(covered)
    for missing in figures.missingness:
        yield Row("missingness", "not recorded", missing.column, missing.missing, n=missing.n)
    for level in figures.subgroups:
        yield from _subgroup(f"subgroup {level.column}", level)
    for level in figures.sites:
        yield from _subgroup("site", level)


def _overview(figures: FigureSet) -> Iterator[Row]:
    section = "overview"
    yield Row(section, "images and groups", n=figures.n, n_groups=figures.n_groups, note=figures.group_key)
    yield Row(section, "classes present", note="; ".join(figures.classes_present))
    yield Row(section, "resamples", value=figures.resamples)
    yield Row(section, "seed", value=figures.seed)
    for name, count, groups in zip(figures.classes, figures.counts, figures.group_counts, strict=True):
        yield Row(section, "images and groups of the class", name, n=count, n_groups=groups)
    for figure in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        yield _estimate(section, figure, "", getattr(figures, figure))


def _class(of_class: ClassFigures) -> Iterator[Row]:
    section, name = "class", of_class.name
    yield Row(section, "images", name, n=of_class.n, n_groups=of_class.n_groups)
    yield Row(section, "predicted", name, of_class.predicted)
    for figure in ("sensitivity", "specificity", "ppv", "npv"):
        yield from _rate(section, figure, name, getattr(of_class, figure))
    if of_class.called is not None:
        yield from _rate(section, "share called so", name, of_class.called)
    for figure in ("f1", "auroc", "ece", "slope", "intercept"):
        yield _estimate(section, figure, name, getattr(of_class, figure))
    yield from _bins(section, name, of_class.bins)


def _calibration(section: str, found: CalibrationFigures) -> Iterator[Row]:
    yield Row(section, "label", note=found.label)
    for figure in ("ece", "ece_equal_mass", "mce", "classwise_ece", "smooth_ece", "l2_debiased"):
        yield _estimate(section, figure, "", getattr(found, figure))
    yield Row(section, "mce_n", value=found.mce_n)
    for figure in ("brier", "nll", "slope", "intercept"):
        yield _estimate(section, figure, "", getattr(found, figure))
    if found.chance is not None:
        yield Row(
            section,
            "ece at one image a group; high: 95 % bound by chance",
            value=found.chance.observed,
            high=found.chance.bound,
            n=found.chance.effective_n,
        )
        yield Row(section, "above the bound by chance", value=found.chance.exceeded)
    yield from _bins(section, "", found.bins)


def _bins(section: str, level: str, bins: tuple[Bin, ...]) -> Iterator[Row]:
    for place, held in enumerate(bins):
        name = f"bin {place}"
        yield Row(section, f"{name} accuracy", level, held.accuracy, held.accuracy_low, held.accuracy_high, held.n)
        yield Row(section, f"{name} correct", level, held.correct)
        yield Row(section, f"{name} mean confidence; edges", level, held.mean_confidence, held.low, held.high)


def _decision(curve: DecisionCurve) -> Iterator[Row]:
    section = "decision curve"
    yield Row(section, "prevalence", curve.name, curve.prevalence, note=curve.note)
    for place, point in enumerate(curve.points):
        yield Row(section, f"point {place} threshold", curve.name, point.threshold)
        yield Row(section, f"point {place} named beforehand", curve.name, point.named)
        yield _estimate(section, f"point {place} net benefit", curve.name, point.model)
        yield Row(section, f"point {place} net benefit of treating all", curve.name, point.treat_all)
        if point.gain is not None:
            yield _estimate(section, f"point {place} gain over treating all or none", curve.name, point.gain)


def _risk(risk: RiskCoverage) -> Iterator[Row]:
    section = "risk and coverage"
    yield _estimate(section, "aurc", "", risk.aurc)
    yield Row(section, "excess_aurc", value=risk.excess_aurc)
    yield Row(section, "wanted_risk", value=risk.wanted_risk)
    for place, point in enumerate(risk.points):
        yield from _risk_point(section, f"point {place}", point)
    if risk.chosen is not None:
        yield from _risk_point(section, "chosen", risk.chosen)
    if risk.declined is not None:
        yield from _rate(section, "declined", "", risk.declined)


def _risk_point(section: str, name: str, point: RiskPoint) -> Iterator[Row]:
    yield Row(section, f"{name} threshold", value=point.threshold)
    yield Row(section, f"{name} coverage", value=point.coverage)
    yield Row(section, f"{name} answered", value=point.answered)
    yield from _rate(section, f"{name} risk", "", point.risk)


def _set(covered: SetCoverage) -> Iterator[Row]:
    section = "prediction sets"
    yield Row(section, "nominal", covered.name, covered.nominal)
    yield from _rate(section, "covered", covered.name, covered.covered)
    for figure in ("mean_size", "empty", "single"):
        yield Row(section, figure, covered.name, getattr(covered, figure))


def _subgroup(section: str, level: SubgroupFigures) -> Iterator[Row]:
    yield Row(section, "images and groups", level.level, n=level.n, n_groups=level.n_groups, note=level.note)
    yield Row(section, "classes present", level.level, note="; ".join(level.classes_present))
    for figure in ("accuracy", "balanced_accuracy", "macro_auroc", "brier", "ece"):
        yield _estimate(section, figure, level.level, getattr(level, figure))


def _estimate(section: str, figure: str, level: str, found: Estimate) -> Row:
    return Row(section, figure, level, found.value, found.low, found.high, found.n, found.n_groups, found.note)


def _rate(section: str, figure: str, level: str, found: Rate) -> Iterator[Row]:
    yield Row(section, figure, level, found.value, found.low, found.high, found.denominator)
    yield Row(section, f"{figure}, images counted", level, found.numerator)
