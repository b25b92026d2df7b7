"""That a report holds nothing but the published forms: it may have been edited, or come from somewhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..errors import InvalidReportError
from ..reliability import N_BINS
from .bands import SMALL, Band, Range, band_of
from .decisions import publishable
from .forms import BIN_FORMS, SCORE_STEPS, row_edges
from .published import Published, ReliabilityRow


def checked(published: Published) -> Published:
    """The same report.

    Raises:
        InvalidReportError: a count is not one of the bands, a range is not on its grid, a table has other rows than the
            published ones, or a mean confidence stands where none is printed.
    """
    problem = next(_problems(published), None)
    if problem is not None:
        what, where = problem
        raise InvalidReportError(
            f"{what}: this is not a form that is published", where=where, remedy="Restore the file from the run"
        )
    return published


def _problems(published: Published) -> Iterator[tuple[str, str]]:
    for where, band in _bands(published):
        if band != band_of(band.low):
            yield f"a count from {band.low} to {band.high}", where
    for where, rows in (("reliability", published.reliability), ("raw_reliability", published.raw_reliability)):
        yield from _rows(where, rows)
    for where, given, most in (
        ("brier", published.brier, 2.0),
        ("raw_brier", published.raw_brier, 2.0),
        ("macro_auroc", published.macro_auroc, 1.0),
    ):
        single = where != "macro_auroc"
        if given is not None and not any(_on_grid(given, step, most, single) for step in SCORE_STEPS):
            yield f"a range from {given.low} to {given.high}", where
    named = published.facts.thresholds
    if list(named) != sorted(set(named)) or any(not 0.0 < threshold < 1.0 for threshold in named):
        yield "thresholds that do not ascend between 0 and 1", "facts.thresholds"
    given_ = [row.threshold for row in published.decisions]
    allowed = [threshold for threshold in named if publishable(threshold, published.n_classes)]
    if given_ != [threshold for threshold in allowed if threshold in given_]:
        yield f"decision counts at {given_}", "decisions"
    for table in published.subgroups:
        if len({row.level for row in table.rows}) < len(table.rows):
            yield "a level stands twice", f"subgroups by {table.column}"
    if len({table.column for table in published.subgroups}) < len(published.subgroups):
        yield "a column stands twice", "subgroups"
    if published.sites < 1:
        yield f"{published.sites} sites", "sites"
    if published.temperature is not None and not (math.isfinite(published.temperature) and published.temperature > 0):
        yield f"a temperature of {published.temperature}", "temperature"
    if published.raw_reliability and (published.temperature is None or not published.reliability):
        yield "a table before the temperature without one after it", "raw_reliability"
    if published.raw_brier is not None and not published.raw_reliability:
        yield "a score before the temperature without its table", "raw_brier"
    if (published.decisions or published.brier or published.macro_auroc) and not published.reliability:
        yield "figures that are not published without the reliability table", "reliability"
    tables = (published.margins, published.reliability, published.subgroups)
    if published.confusion is None and any(tables):
        yield "tables without a confusion matrix", "confusion"


def _bands(published: Published) -> Iterator[tuple[str, Band]]:
    for row in published.confusion or ():
        yield from (("confusion", band) for band in row)
    if published.margins is not None:
        yield "margins.wrong", published.margins.wrong
        yield from (("margins", band) for band in (*published.margins.missed, *published.margins.false))
    for where, rows in (("reliability", published.reliability), ("raw_reliability", published.raw_reliability)):
        yield from ((where, band) for line in rows for band in (line.right, line.wrong))
    for decision in published.decisions:
        yield from (("decisions", band) for band in (*decision.true, *decision.false))
    for table in published.subgroups:
        for level in table.rows:
            every = (*level.right, *level.wrong, level.all_right, level.all_wrong)
            yield from ((f"subgroups by {table.column}", band) for band in every)


def _rows(where: str, rows: tuple[ReliabilityRow, ...]) -> Iterator[tuple[str, str]]:
    if not rows:
        return
    if N_BINS // len(rows) not in BIN_FORMS or N_BINS % len(rows):
        yield f"{len(rows)} bins", where
        return
    for b, row in enumerate(rows):
        if (row.low, row.high) != row_edges(b, N_BINS // len(rows)):
            yield f"a bin from {row.low} to {row.high}", where
        many = where == "reliability" and row.right.low + row.wrong.low > SMALL
        mean = row.mean_confidence
        if mean is not None and not many:
            yield "a mean confidence where none is printed", where
        elif mean is not None and (mean != round(mean, 2) or not row.low - 0.005 <= mean <= row.high + 0.005):
            yield f"a mean confidence of {mean}", where


def _on_grid(given: Range, step: float, most: float, single: bool) -> bool:
    """Whether both ends are on the grid, inside of [0, most] up to one step; ``single``: one step apart."""
    low, high = round(given.low / step), round(given.high / step)
    exact = (given.low, given.high) == (round(low * step, 3), round(high * step, 3))
    return exact and 0 <= low < high <= round(most / step) + single and (not single or high - low == 1)
