"""Sections of the coordinator's page on using the model: acting at thresholds, and declining to answer."""

from __future__ import annotations

from ..page_parts import UNKNOWN, Cell, Table, lower, number, percent, sentence_list, upper
from ..sections.blocks import Block, Grid, Heading, Note, Section
from . import ranges
from .abstaining import Answering, answering
from .bands import Range
from .decisions import Decision, decisions
from .page_figures import DASH, NOT_HERE, names_of, range_cell
from .published import Published


def decision(published: Published) -> Section:
    """Section 7."""
    title, named = "Would acting on it do more good than harm?", published.facts.thresholds
    if not named:
        return Section("decision", title, ("No threshold was named beforehand, so none is judged.",), ())
    found = decisions(published)
    if not found:
        return Section("decision", title, (NOT_HERE,), ())
    blocks: list[Block] = []
    for threshold in named:
        here = [each for each in found if each.threshold == threshold]
        blocks += [
            Heading(f"At {percent(threshold)}"),
            Grid(_table(published, here), f"Acting at {percent(threshold)}"),
        ]
        if not here[0].published:
            blocks.append(
                Note(
                    "Counts at this threshold are not published. Between the two numbers is what the confusion matrix "
                    "and the reliability table leave, so the ranges are wide."
                )
            )
    first = named[0]
    blocks.append(
        Note(
            f"Acting at {percent(first)} means that one missed image weighs as much as "
            f"{number((1 - first) / first, 1).removesuffix('.0')} false alarms. Net benefit is in true positives per "
            "image; acting on nobody is 0. Stressed: the whole range lies above both alternatives."
        )
    )
    return Section("decision", title, (_reading(published, found),), tuple(blocks))


def _helps(each: Decision) -> bool:
    rival = each.treat_all.high if each.treat_all is not None else 0.0
    return each.model.low > max(0.0, rival)


def _reading(published: Published, found: tuple[Decision, ...]) -> str:
    names, said = names_of(published), []
    for threshold in published.facts.thresholds:
        helped = [names[each.k] for each in found if each.threshold == threshold and _helps(each)]
        which = "every class" if len(helped) == len(names) else sentence_list(helped) or "no class"
        said.append(f"{which} at {percent(threshold)}")
    return (
        "For these images, acting on the model surely does more good than acting on everybody or on nobody for "
        f"{sentence_list(said)}."
    )


def _table(published: Published, found: list[Decision]) -> Table:
    names = names_of(published)
    return Table(
        "Acting on a class where its probability reaches the threshold.",
        ("Class", "Rightly acted on", "Wrongly acted on", "Missed", "Net benefit", "Acting on everybody"),
        tuple(
            (
                Cell(names[each.k]),
                Cell(each.true.text),
                Cell(each.false.text),
                Cell(each.missed.text),
                _benefit(each.model, strong=_helps(each)),
                _benefit(each.treat_all),
            )
            for each in found
        ),
    )


def _benefit(value: Range | None, *, strong: bool = False) -> Cell:
    cell = range_cell(value)
    # Where counts are withheld a wide range is no matter of how many images there are.
    return Cell(UNKNOWN if cell.main == "too few" else cell.main, cell.sub, strong=strong)


def abstention(published: Published) -> Section:
    """Section 8."""
    found = answering(published.reliability)
    title, facts = "When it may decline to answer", published.facts
    used = facts.abstain_below
    card = (
        "The model card names no threshold for declining to answer."
        if used is None
        else f"The model answers when its confidence is at least {number(used)}: so says the model card."
    )
    if facts.wanted_risk is not None:
        card += f" The study wants at most {percent(facts.wanted_risk)} wrong among the answers."
    if not found:
        return Section("abstention", title, (card, NOT_HERE), ())
    everything = found[0]
    said = ""
    if everything.risk is not None:
        said = (
            f"Answering every image, {lower(everything.risk.low)} to {upper(everything.risk.high)} of them are wrong."
        )
    near = [row for row in found if used is not None and row.threshold <= used + 1e-9]
    rows = tuple(_row(row, "in use, or next below" if near and row is near[-1] else "") for row in found)
    table = Table(
        "Answering only at a confidence; from the bands of the reliability table.",
        ("Confidence at least", "Share answered", "Images answered", "Wrong among those", "Share wrong"),
        rows,
    )
    note = Note(
        "Prediction sets and the threshold are chosen on validation images. How often sets hold the true class stands "
        "in the sites' own reports."
    )
    return Section("abstention", title, (card, said) if said else (card,), (Grid(table, "Risk and coverage"), note))


def _row(row: Answering, remark: str) -> tuple[Cell, ...]:
    always = row.threshold == 0.0
    return (
        Cell("all" if always else number(row.threshold, 1), remark, strong=bool(remark)),
        Cell("1.00") if always else range_cell(row.coverage),
        Cell(row.answered.text),
        Cell(row.wrong.text),
        Cell(DASH) if row.risk is None and row.answered.high == 0 else range_cell(row.risk),
    )


def watch(published: Published) -> Table:
    """What to watch once such a model is looked at regularly; limits come from this report's own ranges."""
    matrix = published.confusion
    balanced = None if matrix is None else ranges.balanced_accuracy(matrix, published.margins)
    rows = []
    if balanced is not None and ranges.shown(balanced) is not None:
        where = f"clearly below {lower(balanced.low)}"
        rows.append((Cell("Balanced accuracy of all sites"), Cell("every new evaluation"), Cell(where)))
    used = published.facts.abstain_below
    shares = [row.coverage for row in answering(published.reliability) if used is not None and row.threshold == used]
    if shares and shares[0] is not None:
        where = f"clearly outside {lower(1 - shares[0].high)} to {upper(1 - shares[0].low)}"
        rows.append((Cell("Share that it declines to answer", "needs no labels"), Cell("every week"), Cell(where)))
    rows += [
        (
            Cell("Calibration and balanced accuracy of each site"),
            Cell("as its own report says"),
            Cell("beyond the limits there", "this report cannot show a single site"),
        ),
        (
            Cell("Scanner, camera, protocol, referral"),
            Cell("every change"),
            Cell("any of them changes", "then test anew before the answers are looked at"),
        ),
    ]
    return Table(
        "What to watch, how often, and when to stop.", ("Watch", "On", "Stop and look when"), tuple(rows), words=True
    )
