"""Section 4: the main figures with 95 % intervals, and the card on top of the page that shows them at a glance."""

from __future__ import annotations

from ..figures.figure_set import Estimate, FigureSet
from ..intervals import TOO_FEW as TOO_FEW_GROUPS
from ..page_parts import UNKNOWN, Cell, HeadlineFigure, Table, number, percent, plural, sentence_list, span
from .blocks import Big, Block, Grid, Note, Section
from .words import NO_SPREAD, between_words, estimate_cell, few, needed, no_spread, several, value_words


def glance(figures: FigureSet) -> Big:
    """The card: balanced accuracy large, and what stands beside it."""
    calibration = figures.calibration
    chance = ""
    if calibration.chance is not None:
        found = calibration.chance
        chance = f"{number(found.observed, 3)} at one image per {figures.group_key}; "
        chance += f"chance alone: up to {number(found.bound, 3)}"
    return Big(
        _balanced(figures),
        (
            HeadlineFigure("Macro AUROC", value_words(figures.macro_auroc), _between(figures.macro_auroc)),
            HeadlineFigure("Calibration error", value_words(calibration.ece, 3), chance),
            HeadlineFigure("Test images", f"{figures.n:,}", f"of {plural(figures.n_groups, figures.group_key)}"),
        ),
    )


def _balanced(figures: FigureSet) -> HeadlineFigure:
    found = figures.balanced_accuracy
    if found.value is None:
        why = "no test images" if figures.n == 0 else "the test images are of one class only"
        if found.note == TOO_FEW_GROUPS and figures.n:
            why = f"{plural(figures.n, 'image')} of {plural(figures.n_groups, figures.group_key)}; {needed(figures)}"
        return HeadlineFigure("Balanced accuracy", value_words(found) if figures.n else UNKNOWN, why)
    between = span(found.low, found.high)
    sub = f"95 % interval {between}" if between else f"no interval: {found.note}"
    if no_spread(found.low, found.high):
        return HeadlineFigure("Balanced accuracy", number(found.value), f"{NO_SPREAD}: see the interval of each class")
    return HeadlineFigure(
        "Balanced accuracy", number(found.value), f"{sub} ({found.note})" if between and found.note else sub
    )


def _between(found: Estimate) -> str:
    between = between_words(found.low, found.high)
    if between == NO_SPREAD:
        return between
    return f"95 % interval {between}" if between else "" if found.note == TOO_FEW_GROUPS else found.note


def reading(figures: FigureSet, *, kept_out: bool = True) -> str:
    """The balanced accuracy in one or two sentences, with what guessing would score.

    ``kept_out``: the images are known to have been kept out of training, as a study's test images are.
    """
    value, kinds = figures.balanced_accuracy.value, len(figures.classes_present)
    if value is None and few(figures) and kinds > 1:
        return (
            f"{plural(figures.n, 'test image')} of {plural(figures.n_groups, figures.group_key)}: too few to say how "
            f"good the model is; {needed(figures)}. The counts below still hold."
        )
    if value is None:
        return "Balanced accuracy needs test images of at least two classes. The counts below still hold."
    return (
        f"On {plural(figures.n, 'test image' if kept_out else 'image')} of "
        f"{plural(figures.n_groups, figures.group_key)}{' that were kept out of training' if kept_out else ''}, the "
        f"model named {percent(value)} of the images of a class correctly, averaged over the {kinds} classes present. "
        f"Guessing would score {percent(1 / kinds)}."
    )


def headline(figures: FigureSet) -> Section:
    """All headline figures, with the classes that they are averaged over."""
    kinds = len(figures.classes_present)
    nothing = "\N{EN DASH}"
    rows = (
        (
            "Balanced accuracy",
            "recall, averaged over classes",
            figures.balanced_accuracy,
            number(1 / kinds) if kinds > 1 else nothing,
        ),
        (
            "Macro AUROC",
            "chance that an image of a class ranks above one of another",
            figures.macro_auroc,
            "0.50" if kinds > 1 else nothing,
        ),
        ("Macro F1", "balance of finding a class and being right about it", figures.macro_f1, nothing),
        ("Accuracy", "share of images called rightly; common classes weigh most", figures.accuracy, nothing),
    )
    counts = [f"{name} {count:,}" for name, count in zip(figures.classes, figures.counts, strict=True) if count]
    absent = [name for name, count in zip(figures.classes, figures.counts, strict=True) if not count]
    blocks: list[Block] = [
        Grid(
            Table(
                f"From {plural(figures.n, 'image')} of {plural(figures.n_groups, figures.group_key)}. 95 % intervals "
                f"resample {several(figures)}, {figures.resamples:,} draws.",
                ("Figure", "Value", "Guessing"),
                tuple(
                    (Cell(label, meaning), estimate_cell(value, strong=at == 0), Cell(guess))
                    for at, (label, meaning, value, guess) in enumerate(rows)
                ),
            ),
            "Headline figures",
        ),
        Note(f"Averaged over the classes present, with their images: {sentence_list(counts) or 'none'}."),
    ]
    if any(no_spread(value.low, value.high) for _, _, value, _ in rows):
        blocks.append(
            Note(
                f"{NO_SPREAD[:1].upper()}{NO_SPREAD[1:]}: every resample gives the very same figure, as it does where "
                "nothing was wrong. Resampling then cannot show what chance may do. That is not certainty: the Wilson "
                "intervals in the section “Each class” do allow for it."
            )
        )
    if absent:
        blocks.append(
            Note(
                f"No test image of {sentence_list(absent)}: averages leave it out, and are not comparable with those "
                "of sites that have it."
            )
        )
    return Section("headline", "Headline", (_headline_reading(figures),), tuple(blocks))


def _headline_reading(figures: FigureSet) -> str:
    found = figures.balanced_accuracy
    if found.value is None:
        return reading(figures)
    if found.low is None or found.high is None:
        return (
            f"Balanced accuracy is {number(found.value)} on these images. There are too few {several(figures)} to "
            "say how far chance may have moved it: do not rely on it."
        )
    if no_spread(found.low, found.high):
        return (
            f"The balanced accuracy is {number(found.value)} in every resample: resampling cannot widen its interval. "
            f"That is not certainty: the interval of each class says how far {several(figures)} like these may differ."
        )
    said = f"The balanced accuracy is {number(found.value)}. With other {several(figures)} like these it could, by "
    said += "chance alone, "
    said += f"have come out anywhere between {number(found.low)} and {number(found.high)}."
    return f"{said} {found.note[:1].upper()}{found.note[1:]}." if found.note else said
