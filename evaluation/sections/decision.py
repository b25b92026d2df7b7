"""Section 7: whether acting on the model would do more good than acting on everybody or on nobody."""

from __future__ import annotations

from ..figures.figure_set import DecisionPoint, FigureSet
from ..page_parts import Cell, Table, number, percent, sentence_list, signed
from .blocks import Block, Drawing, Drawings, Grid, Note, Section
from .drawings import decision_figure
from .words import TOO_FEW, estimate_cell, few, needed

_FEW = 2
"""More classes than these are counted in the sentence, and named in the table alone."""


def decision(figures: FigureSet) -> Section:
    """Curves of all classes, and a table at the thresholds that were named beforehand."""
    named = sorted({point.threshold for curve in figures.decision for point in curve.points if point.named})
    drawn = [(at, curve) for at, curve in enumerate(figures.decision) if curve.points]
    blocks: list[Block] = []
    if drawn:
        blocks += [
            Drawings(
                tuple(
                    Drawing(
                        decision_figure(f"decision-{at}", curve),
                        curve.name,
                        "" if curve.prevalence is None else f"{percent(curve.prevalence)} of images",
                    )
                    for at, curve in drawn
                ),
                "multiples",
            ),
            Note(
                "Blue with dots: acting on the model, with its 95 % band. Orange, dashed: acting on everybody. Black "
                "line at 0: acting on nobody. Dotted: thresholds named beforehand. Net benefit is in true positives "
                "per image."
            ),
        ]
    if named:
        blocks += [Grid(_table(figures, named), "Net benefit at the named thresholds"), Note(_weights(named))]
    for curve in figures.decision:
        if curve.note and not few(figures):
            blocks.append(Note(f"{curve.name}: {curve.note}."))
    return Section("decision", "Would acting on it do more good than harm?", (_reading(figures, named),), tuple(blocks))


def _reading(figures: FigureSet, named: list[float]) -> str:
    if few(figures) and figures.n:
        return f"Too few to weigh benefit against harm: {needed(figures)}."
    if not any(curve.points for curve in figures.decision):
        return "There are too few images to weigh benefit against harm."
    if not named:
        return "No threshold was named beforehand, so the curves describe and decide nothing."
    said = [f"{_which(figures, share)} at {percent(share)}" for share in named]
    return (
        "Among the thresholds named beforehand, acting on the model does clearly more good than acting on everybody "
        f"or on nobody for {sentence_list(said)}."
    )


def _which(figures: FigureSet, share: float) -> str:
    """Classes for which the model helps at a threshold, in words."""
    asked = [curve for curve in figures.decision if curve.points]
    helped = [
        curve.name
        for curve in asked
        if any(point.named and point.threshold == share and _helps(point) for point in curve.points)
    ]
    if len(helped) == len(asked):
        return "every class"
    if len(helped) > _FEW:
        return f"{len(helped)} of {len(asked)} classes"
    return sentence_list(helped) if helped else "no class"


def _helps(point: DecisionPoint) -> bool:
    """Whether the gain over the better of treating all and none is above 0 with its whole interval, paired."""
    return point.gain is not None and point.gain.low is not None and point.gain.low > 0


def _table(figures: FigureSet, named: list[float]) -> Table:
    rows = []
    for curve in figures.decision:
        at = {point.threshold: point for point in curve.points if point.named}
        if not at:
            rows.append((Cell(curve.name), *(Cell(TOO_FEW, curve.note.removeprefix("too few groups")) for _ in named)))
            continue
        rows.append((Cell(curve.name), *(_cell(at.get(share)) for share in named)))
    return Table(
        "Net benefit of acting on a class at a threshold; acting on nobody is 0. Gain: over the better of acting on "
        f"everybody and on nobody, on the same resamples. 95 % intervals by {figures.group_key}.",
        ("Class", *(f"At {percent(share)}" for share in named)),
        tuple(rows),
    )


def _cell(point: DecisionPoint | None) -> Cell:
    if point is None:
        return Cell("not known")
    found = estimate_cell(point.model, 3, strong=_helps(point))
    beside = [found.sub, f"everybody: {number(point.treat_all, 3)}"]
    if point.gain is not None and point.gain.value is not None:
        between = f"{signed(point.gain.low, 3)} to {signed(point.gain.high, 3)}" if point.gain.low is not None else ""
        beside.append(f"gain {signed(point.gain.value, 3)}" + (f" ({between})" if between else ""))
    return Cell(found.main, " · ".join(part for part in beside if part), strong=found.strong)


def _weights(named: list[float]) -> str:
    first = named[0]
    return (
        f"A threshold is what a false alarm is worth against a miss: acting at {percent(first)} means that one missed "
        f"image weighs as much as {number((1 - first) / first, 1).removesuffix('.0')} false alarms. Stressed: the "
        "whole interval of the gain lies above 0."
    )
