"""Section 10: the federated model against what this site could have had alone, and how models carry over."""

from __future__ import annotations

from collections.abc import Mapping

from ..figures.figure_set import Estimate, FigureSet
from ..page_parts import UNKNOWN, Cell, Table, sentence_list, signed
from ..report_model import SiteReport
from .blocks import Drawing, Drawings, Grid, Note, Section
from .drawings import forest
from .words import estimate_cell, value_words

NAMES = {"local_only": "Local only", "zero_shot": "Zero-shot"}


def shift(
    report: SiteReport, figures: FigureSet, others: Mapping[str, FigureSet], gains: Mapping[str, Estimate]
) -> Section:
    """``others`` and ``gains`` by key of :data:`NAMES`; a gain is federated minus the other, paired."""
    rows = [_row("Federated", figures, Cell("reference"), strong=True)]
    rows += [_row(NAMES[key], other, _gain(gains.get(key))) for key, other in others.items()]
    bars = [("Federated", figures.balanced_accuracy)]
    bars += [(NAMES[key], other.balanced_accuracy) for key, other in others.items()]
    missing = "A model that is missing here was not scored at this site. " if len(others) < len(NAMES) else ""
    note = (
        "Local only: the same method trained at this site alone. Zero-shot: the frozen backbone with class "
        f"descriptions, no training. {missing}Compare models within this site; do not rank sites by calibration error, "
        "which depends on how many images they have."
    )
    return Section(
        "shift",
        "Federated, local only, zero-shot",
        _reading(report, gains),
        (
            Drawings(
                (
                    Drawing(
                        forest("models", "Balanced accuracy of each model", bars, axis="Balanced accuracy"),
                        caption="Balanced accuracy on this site's test images; lines are 95 % intervals.",
                    ),
                ),
                "wide",
            ),
            Grid(
                Table(
                    "The same test images under each model. Differences are paired: federated minus the other, 95 % "
                    "interval.",
                    (
                        "Model",
                        "Balanced accuracy",
                        "Federated gains",
                        "Macro AUROC",
                        "Calibration error",
                        "Brier",
                        "NLL",
                    ),
                    tuple(rows),
                ),
                "Comparison of models",
            ),
            Note(note),
        ),
    )


def _reading(report: SiteReport, gains: Mapping[str, Estimate]) -> tuple[str, ...]:
    said = []
    if report.role == "unseen":
        said.append("This site took no part in training: the figures show how the model carries over to a new site.")
    better: list[str] = []
    worse: list[str] = []
    open_: list[str] = []
    for key, gain in gains.items():
        name = "the local model" if key == "local_only" else "the untrained model"
        if gain.value is None or gain.low is None or gain.high is None:
            continue
        words = f"{name} ({signed(gain.value)}, {signed(gain.low)} to {signed(gain.high)})"
        (better if gain.low > 0 else worse if gain.high < 0 else open_).append(words)
    if better:
        said.append(f"In balanced accuracy the federated model is better here than {sentence_list(better)}.")
    if worse:
        said.append(f"It is worse here than {sentence_list(worse)}.")
    if open_:
        said.append(f"It cannot be told apart from {sentence_list(open_)}: the interval of the difference holds 0.")
    if not said:
        said.append("There is no other model, or too few images, to compare the federated model with.")
    return tuple(said)


def _row(label: str, figures: FigureSet, gain: Cell, *, strong: bool = False) -> tuple[Cell, ...]:
    found = figures.calibration
    return (
        Cell(label),
        estimate_cell(figures.balanced_accuracy, strong=strong),
        gain,
        estimate_cell(figures.macro_auroc),
        Cell(value_words(found.ece, 3)),
        Cell(value_words(found.brier, 3)),
        Cell(value_words(found.nll, 3)),
    )


def _gain(found: Estimate | None) -> Cell:
    if found is None or found.value is None:
        return Cell(UNKNOWN)
    if found.low is None or found.high is None:
        return Cell(signed(found.value), found.note)
    between = f"{signed(found.low)} to {signed(found.high)}"
    if found.low <= 0 <= found.high:
        between += " · not told apart"
    return Cell(signed(found.value), between)
