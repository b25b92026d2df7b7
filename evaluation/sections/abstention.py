"""Section 8: what is gained when the model may decline to answer, and sets of classes in place of one."""

from __future__ import annotations

from ..figures.figure_set import FigureSet, RiskPoint
from ..page_parts import FEWEST_FOR_RATE, UNKNOWN, Cell, Table, number, percent, plural
from .blocks import Block, Drawing, Drawings, Grid, Heading, Note, Section, Warn
from .drawings import risk_figure
from .words import TOO_FEW, estimate_words, few, needed, rate_words, share_cell, wilson_words

_ALL = 0.1
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)


def abstention(figures: FigureSet, remark: str = "") -> Section:
    """Risk over coverage, the threshold in use, and conformal sets where there are any; ``remark`` on the threshold."""
    risk = figures.risk
    blocks: list[Block] = []
    if risk.points and not few(figures):
        blocks += [
            Drawings(
                (
                    Drawing(
                        risk_figure("risk", risk),
                        caption="Share wrong among the images that are answered, with the band of its "
                        + wilson_words(figures)
                        + ("; the square is the threshold in use." if risk.chosen else "."),
                    ),
                ),
                "wide",
            ),
            Grid(_points(figures), "Risk at some shares answered"),
        ]
        area = f"Area under the curve: {estimate_words(risk.aurc, 3)}"
        if risk.excess_aurc is not None:
            area += f"; {number(risk.excess_aurc, 3)} above the best possible order of the same errors"
        blocks.append(Note(f"{area}. Lower is better."))
    blocks.append(Heading("Prediction sets"))
    if figures.sets:
        blocks += [
            Note(
                "A prediction set names every class that cannot be ruled out at the wanted coverage. A set of one "
                "class is an answer; a larger one says what is still possible. Coverage holds on average over images "
                "like the validation images, not for one image; for each class where validation images of each class "
                "were enough, else for all classes together."
            ),
            Grid(_sets(figures), "Coverage of prediction sets"),
        ]
        short = _short_of_coverage(figures)
        if short:
            blocks.append(Warn(short))
        size = figures.sets[0].mean_size
        if not few(figures) and size is not None and size > len(figures.classes) - _ALL:
            blocks.append(
                Warn(
                    "Nearly every set holds all classes, so that the sets say nothing here: there were too few "
                    "validation images of each class to rule one out."
                )
            )
    else:
        blocks.append(
            Note("No prediction sets: they need validation images, and none were fitted for this model here.")
        )
    reading = (*_reading(figures), *([remark] if remark else []))
    return Section("abstention", "When it may decline to answer", reading, tuple(blocks))


def _reading(figures: FigureSet) -> tuple[str, ...]:
    risk = figures.risk
    if not risk.points:
        return ("There are too few images to say what declining to answer would gain.",)
    if few(figures):
        return (f"Too few to say what declining to answer would gain: {needed(figures)}.",)
    everything = risk.points[0]
    if risk.chosen is None:
        return (
            (
                f"Answering every image, the model is wrong in {_share(everything)}. No threshold for declining to "
                "answer is in use; the table shows what some would cost."
            ),
        )
    chosen = risk.chosen
    said = (
        f"The model answers when its confidence is at least {number(chosen.threshold)}. Here it then answers "
        f"{percent(chosen.coverage)} of images and is wrong in {_share(chosen)} of those; answering all, it is wrong "
        f"in {_share(everything)}."
    )
    declined = figures.n - chosen.answered
    cost = f"The cost: {declined:,} of {figures.n:,} images need a reader without its help."
    cost += f" That leaves {plural(chosen.risk.numerator, 'wrong answer')}; "
    cost += f"{everything.risk.numerator - chosen.risk.numerator:,} more among the images it declined."
    if risk.wanted_risk is not None:
        said += f" The threshold was chosen on validation images for a risk of {percent(risk.wanted_risk)}."
        if chosen.risk.low is not None and chosen.risk.low > risk.wanted_risk:
            cost += " On these test images the risk is clearly higher than wanted: the threshold should be chosen anew."
    return (said, cost)


def _short_of_coverage(figures: FigureSet) -> str:
    """For which images sets hold the truth less often than was aimed at, by their whole interval; empty for none."""
    short = [
        f"{'all images together' if row.name == 'all' else row.name}, {rate_words(row.covered)} against "
        f"{percent(row.nominal)}"
        for row in figures.sets
        if not few(figures)
        and row.covered.denominator >= FEWEST_FOR_RATE
        and row.covered.high is not None
        and row.covered.high < row.nominal
    ]
    if not short:
        return ""
    return f"Prediction sets hold the true class clearly less often than was aimed at for {'; '.join(short)}."


def _share(point: RiskPoint) -> str:
    if point.risk.value is None:
        return "none, as nothing is answered"
    return f"{100 * point.risk.value:.1f}\N{NO-BREAK SPACE}%"


def _points(figures: FigureSet) -> Table:
    points = figures.risk.points
    picked: list[RiskPoint] = []
    for wanted in _COVERAGES:
        nearest = min(points, key=lambda point: abs(point.coverage - wanted))
        if abs(nearest.coverage - wanted) <= 0.08 and nearest not in picked:
            picked.append(nearest)
    chosen = figures.risk.chosen
    rows = [(point, "") for point in picked if chosen is None or point.answered != chosen.answered]
    rows += [] if chosen is None else [(chosen, "in use")]
    return Table(
        "Declining to answer below a confidence. Errors are counted among the images answered; "
        f"{wilson_words(figures)}.",
        ("Confidence at least", "Answered", "Images answered", "Wrong among those"),
        tuple(_row(point, remark, figures) for point, remark in sorted(rows, key=lambda row: -row[0].coverage)),
    )


def _row(point: RiskPoint, remark: str, figures: FigureSet) -> tuple[Cell, ...]:
    return (
        Cell(number(point.threshold), remark, strong=bool(remark)),
        Cell(percent(point.coverage)),
        Cell(f"{point.answered:,}"),
        share_cell(point.risk, figures),
    )


def _sets(figures: FigureSet) -> Table:
    hidden = few(figures)
    return Table(
        f"Share of prediction sets that hold the true class, {wilson_words(figures)}, against what was aimed at.",
        ("Images", "Aimed at", "True class in the set", "Classes in a set", "One class", "No class"),
        tuple(
            (
                Cell("All" if row.name == "all" else row.name),
                Cell(percent(row.nominal)),
                share_cell(row.covered, figures),
                Cell(TOO_FEW if hidden else UNKNOWN if row.mean_size is None else f"{row.mean_size:.1f}"),
                Cell(TOO_FEW if hidden else UNKNOWN if row.single is None else percent(row.single)),
                Cell(TOO_FEW if hidden else UNKNOWN if row.empty is None else percent(row.empty)),
            )
            for row in figures.sets
        ),
    )
