"""Section 6: whether a stated probability comes true as often as it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..figures.figure_set import CalibrationFigures, Estimate, FigureSet
from ..figures_svg import reliability_diagram
from ..page_parts import Cell, Table, number, percent, plural, sentence_list
from ..reliability import N_BINS
from .blocks import Block, Drawing, Drawings, Grid, Heading, Note, Section
from .drawings import class_reliability
from .words import estimate_cell, estimate_words, few, needed, wilson_words

_OVER, _UNDER = "overconfident", "underconfident"


def calibration(figures: FigureSet, remarks: Sequence[str] = (), *, before: str = "As trained") -> Section:
    """``remarks``: how the calibration came about, in words. ``before``: what "as trained" means for this model."""
    states = [(before, figures.before)]
    if figures.after is not None:
        states.append(("Calibrated", figures.after))
    blocks: list[Block] = [
        Grid(_table(states, figures.group_key), "Calibration figures"),
        Note(
            "Calibration errors have no interval: resampling only adds to them. What chance alone explains stands in "
            "the second row."
        ),
        Heading("Class by class"),
        Grid(_by_class(figures), "Calibration of each class"),
    ]
    if not few(figures):  # a diagram of a handful of patients shows their number and is read as the model's
        blocks[3:3] = _class_diagrams(figures)
        blocks[:0] = _diagrams(states, figures)
    return Section("calibration", "Can the probabilities be trusted?", (*remarks, *_reading(figures)), tuple(blocks))


def _diagrams(states: Sequence[tuple[str, CalibrationFigures]], figures: FigureSet) -> list[Block]:
    return [
        Drawings(
            tuple(
                Drawing(
                    reliability_diagram(key, f"Reliability diagram, {title.lower()}", found.bins),
                    title if title != "Calibrated" else f"Calibrated: {found.label}",
                )
                for key, (title, found) in zip(("before", "after"), states, strict=False)
            ),
            "pair",
        ),
        Note(
            "Points on the dashed line are right as often as the model says; below it the model is overconfident. "
            f"Bars: {wilson_words(figures)}. Below: images in each bin."
        ),
    ]


def _class_diagrams(figures: FigureSet) -> list[Block]:
    return [
        Note(
            "Each panel: of the images for which a probability of the class was stated, the share that is of the "
            "class. A common class can hide a badly calibrated rare one in the figures above."
        ),
        Drawings(
            tuple(
                Drawing(class_reliability(f"class-{at}", row.name, row.bins), row.name, plural(row.n, "image"))
                for at, row in enumerate(figures.per_class)
            ),
            "multiples",
        ),
    ]


def _reading(figures: FigureSet) -> tuple[str, ...]:
    found = figures.calibration
    if figures.n == 0:
        return ("There are no test images to judge probabilities by.",)
    if few(figures):
        return (f"Too few to say whether stated probabilities come true: {needed(figures)}.",)
    stated = sum(b.n * b.mean_confidence for b in found.bins if b.mean_confidence is not None) / figures.n
    right = sum(b.correct for b in found.bins) / figures.n
    lean = _direction(found, stated - right)
    said = [
        f"On average the model states {percent(stated)} confidence and is right in {percent(right)} of images: {lean}."
    ]
    if found.chance is not None:
        chance = found.chance
        said.append(
            f"A perfectly calibrated model would show a calibration error of up to {number(chance.bound, 3)} by chance "
            f"at one image per {figures.group_key} (n = {chance.effective_n}); this one shows "
            f"{number(chance.observed, 3)}, "
            + ("which is more than chance explains." if chance.exceeded else "which chance alone can explain.")
        )
    worse = _made_worse(figures)
    return (*said, worse) if worse else tuple(said)


def _direction(found: CalibrationFigures, gap: float) -> str:
    """Which way confidence is off, where an interval or the bound by chance shows it; ``gap``: stated minus right."""
    beyond = found.chance is not None and abs(gap) > found.chance.bound
    shown = [f"intercept {estimate_words(found.intercept)}"] if _excludes(found.intercept, 0.0) else []
    shown += ["the difference is more than chance explains"] if beyond and not shown else []
    if shown:
        over = gap > 0 if beyond else (found.intercept.value or 0.0) < 0
        return f"{_OVER if over else _UNDER} ({shown[0]})"
    if _excludes(found.slope, 1.0):
        over = (found.slope.value or 0.0) < 1
        return f"{_OVER if over else _UNDER} where it is sure (slope {estimate_words(found.slope)})"
    return "no direction can be told from these images"


def _excludes(found: Estimate, target: float) -> bool:
    return found.low is not None and found.high is not None and not found.low <= target <= found.high


def _made_worse(figures: FigureSet) -> str:
    """That calibration did not help on these images, where it did not; empty otherwise."""
    if figures.after is None:
        return ""
    pairs = (
        ("Brier score", figures.before.brier.value, figures.after.brier.value),
        ("log likelihood loss", figures.before.nll.value, figures.after.nll.value),
    )
    worse = [
        f"a higher {name} than the uncalibrated ones ({number(after, 3)} against {number(before, 3)})"
        for name, before, after in pairs
        if before is not None and after is not None and round(after, 3) > round(before, 3)
    ]
    if not worse:
        return ""
    return (
        f"On these test images the calibrated probabilities have {sentence_list(worse)}: calibration did not help "
        "here, as may happen where it is fitted on few validation images, or on those of other sites."
    )


_ROWS: tuple[tuple[str, str, Callable[[CalibrationFigures], Estimate], int], ...] = (
    ("Expected calibration error", f"top label, {N_BINS} bins of equal width; 0 is best", lambda c: c.ece, 3),
    ("The same, bins of equal count", "0 is best", lambda c: c.ece_equal_mass, 3),
    ("Classwise calibration error", "mean over classes; 0 is best", lambda c: c.classwise_ece, 3),
    ("Smooth calibration error", "without bins; 0 is best", lambda c: c.smooth_ece, 3),
    ("Squared calibration error, debiased", "root of it; 0 is best", lambda c: c.l2_debiased, 3),
    ("Largest gap of a bin", "one bin alone; 0 is best", lambda c: c.mce, 3),
    ("Brier score", "0 to 2, lower is better; may be compared between sites", lambda c: c.brier, 3),
    ("Negative log-likelihood", "nats, lower is better; may be compared between sites", lambda c: c.nll, 3),
    ("Calibration slope", "1 is best; below it probabilities are too extreme", lambda c: c.slope, 2),
    ("Calibration intercept", "0 is best; below it confidence is too high", lambda c: c.intercept, 2),
)


def _table(states: Sequence[tuple[str, CalibrationFigures]], group: str) -> Table:
    rows = []
    for at, (label, meaning, read, digits) in enumerate(_ROWS):
        cells = []
        for _, found in states:
            cell = estimate_cell(read(found), digits)
            if label == "Largest gap of a bin" and read(found).value is not None:
                cell = Cell(cell.main, f"in a bin of {plural(found.mce_n, 'image')}")
            cells.append(cell)
        rows.append((Cell(label, meaning), *cells))
        if at == 0:
            rows.append(
                (Cell("By chance alone", f"95 % bound, one image per {group}"), *(_chance(c) for _, c in states))
            )
    titles = [
        label if at == 0 else found.label[:1].upper() + found.label[1:] for at, (label, found) in enumerate(states)
    ]
    return Table(
        "Calibration of the answers as a whole. Do not rank sites by calibration errors: few images raise them.",
        ("Figure", *titles),
        tuple(rows),
    )


def _chance(found: CalibrationFigures) -> Cell:
    if found.chance is None:
        return Cell(estimate_cell(found.ece).main)
    chance = found.chance
    return Cell(number(chance.bound, 3), f"against {number(chance.observed, 3)} at n = {chance.effective_n}")


def _by_class(figures: FigureSet) -> Table:
    return Table(
        "Calibration of each class's own probability, as it is stated to a reader.",
        ("Class", "Images", "Calibration error", "Slope", "Intercept"),
        tuple(
            (
                Cell(row.name),
                Cell(f"{row.n:,}"),
                estimate_cell(row.ece, 3),
                estimate_cell(row.slope),
                estimate_cell(row.intercept),
            )
            for row in figures.per_class
        ),
    )
