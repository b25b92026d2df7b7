"""Section 5: every class against all others, and which classes are taken for which."""

from __future__ import annotations

import numpy as np

from ..figures.figure_set import ClassFigures, FigureSet
from ..figures_svg import confusion_figure
from ..page_parts import FEWEST_FOR_RATE, Cell, Table, plural
from .blocks import Drawing, Drawings, Grid, Note, Section
from .words import estimate_cell, few, rate_words, share_cell, wilson_words


def classes(figures: FigureSet, who: str = "federated model") -> Section:
    """``who``: whose figures they are, in words."""
    rows = figures.per_class
    first = Table(
        f"Each class against all others, {who} on the test images. {wilson_words(figures)}.",
        ("Class", "Images", "Sensitivity", "Specificity", "Positive predictive value", "Negative predictive value"),
        tuple(
            (
                Cell(row.name),
                Cell(f"{row.n:,}", f"of {plural(row.n_groups, figures.group_key)}"),
                share_cell(row.sensitivity, figures),
                share_cell(row.specificity, figures),
                share_cell(row.ppv, figures),
                share_cell(row.npv, figures),
            )
            for row in rows
        ),
    )
    second = Table(
        f"Balance and ranking. 95 % intervals by {figures.group_key}.",
        ("Class", "Called so by the model", "F1", "AUROC"),
        tuple(
            (Cell(row.name), Cell(f"{row.predicted:,}"), estimate_cell(row.f1), estimate_cell(row.auroc))
            for row in rows
        ),
    )
    matrix = np.array(figures.confusion, dtype=np.int64)
    return Section(
        "classes",
        "Each class",
        _reading(figures),
        (
            Grid(first, "Figures of each class"),
            Note(
                "Predictive values hold for the mix of classes among these images. A rate over fewer than "
                f"{FEWEST_FOR_RATE} images is given as counts."
            ),
            Grid(second, "Balance and ranking of each class"),
            Drawings(
                (
                    Drawing(
                        confusion_figure("confusion", f"Confusion matrix of the {who}", matrix, figures.classes),
                        caption="Confusion matrix: counts, and the share of each true class. The diagonal is right.",
                    ),
                ),
                "matrix",
            ),
        ),
    )


def _reading(figures: FigureSet) -> tuple[str, ...]:
    known = [row for row in figures.per_class if row.sensitivity.denominator >= FEWEST_FOR_RATE]
    if few(figures) or not known:
        return ("There are too few images of any class to say how well it is found.",)
    worst = min(known, key=_found)
    if worst.sensitivity.numerator == worst.sensitivity.denominator:
        least = min(known, key=_least)
        said = "No image of a class with enough images was missed"
        return (f"{said}. Least sure: {least.name}, {rate_words(least.sensitivity)}.",)
    said = f"Found least often: {worst.name}, {rate_words(worst.sensitivity)}."
    missed = _mostly(figures, worst)
    best = max(known, key=_found)
    if best.name != worst.name:
        said += f" Found most often: {best.name}, {rate_words(best.sensitivity)}."
    return (said + (f" {missed}" if missed else ""),)


def _found(row: ClassFigures) -> float:
    return row.sensitivity.value or 0.0


def _least(row: ClassFigures) -> float:
    return row.sensitivity.low or 0.0


def _mostly(figures: FigureSet, row: ClassFigures) -> str:
    """What images of a class that was missed are taken for, where one answer stands out."""
    at = figures.classes.index(row.name)
    others = [(count, figures.classes[k]) for k, count in enumerate(figures.confusion[at]) if k != at]
    count, name = max(others)
    if count < 2:
        return ""
    missed = sum(other for other, _ in others)
    return f"Of the {missed:,} images of {row.name} that were missed, {count:,} were called {name}."
