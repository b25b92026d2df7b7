"""From sums to what may be published, finest first, and coarser where a solver could pin a small count.

What is published is decided table by table, in this order: the confusion matrix, its margins (of rows and columns, then
of rows alone), the reliability table (ten bins, then five), the Brier score and AUROC (to 0.01, then to 0.05), each
subgroup column in the study's order. A form is accepted when, with everything accepted before it and with the previous
report, no small count is pinned (see `solver`). Otherwise the next coarser form is tried, and at last the table is
withheld.

**Why a refusal says nothing.** A reader who knows this algorithm could argue: the finer form was refused, so it must
have been one that pins a count, so the counts lie in a corner. Two rules take that argument away.

1. Whether a form is safe is computed from the published material alone, never from the counts behind it: an accepted
   form tells nothing beyond itself.
2. Every form is also refused at random, once in 32 times, whether it is safe or not. The draw is a hash of all sums,
   and these hold sums of probabilities to 24 binary places that nobody outside knows; so the same sums give the same
   report, and nobody can recompute the draw. To any counts that a reader can think of there belong sums with which the
   finer form would have been refused. So a refusal excludes nothing, and the counts that remain possible are exactly
   those that the solver looked at.

What a refusal still does is shift odds, by at most a factor of 32, towards counts with which the form is unsafe.

The confusion matrix of a first report is always safe: its bands are independent of one another, nothing else is
published that could link them, and no draw is made. A later report can be refused as a whole: then the earlier one
stands. Pass as ``previous`` the last report that held counts.

A level of a subgroup column that fewer than three sites hold would be a site's own figures, and not a sum: it
is counted under "other", and where "other" is held by fewer than three as well, the column is withheld.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InvalidPredictionsError, InvalidReportError
from ..reliability import N_BINS
from ..sums.layout import OTHER
from ..sums.ranking import BoundedAuroc
from ..sums.summed import SummedFigures
from .bands import SMALL, Range, band_of, outward
from .constraints import Link, system_of
from .published import Facts, Margins, Published, ReliabilityRow, SubgroupRow, SubgroupTable, Withheld
from .solver import Search, UndecidedError
from .witnesses import kinds_of, possible

CHANCE = 32
"""One form in so many is refused at random."""
FEWEST_SITES = 3
"""Sites that must hold a level: fewer are no sum that hides a site."""
BIN_FORMS = (1, 2)
SCORE_STEPS = (0.01, 0.05)
TOO_SOON = "withheld: together with the previous report it could tell small counts; that report stands"
FEW_SITES = "withheld: too few sites record one of its values"
OTHER_LEVELS = "withheld: the previous report has other levels, and the difference of both would tell small counts"
UNBOUNDED = "not published: a single image can carry most of it"
NO_LINKS = "not published: it would need the probabilities of each class in bins, which are small cells"


def publish(
    summed: SummedFigures, facts: Facts, previous: Published | None = None, growth: int | None = None
) -> Published:
    """What may leave the coordinator.

    Args:
        summed: exact sums of all sites. facts: pass through.
        previous: the last report with counts that the same coordinator published of images that may be the same ones.
        growth: images in these sums beyond those of the previous report, negative where there are fewer; None where the
            caller does not know it, and then all from -10 to 10 are guarded against.

    Raises:
        InvalidPredictionsError: the classes of the sums are not those of the facts, in number.
        InvalidReportError: the previous report has other classes, or holds no counts.
    """
    if len(summed.classes) != len(facts.classes):
        raise InvalidPredictionsError(f"{len(summed.classes)} classes in the sums, {len(facts.classes)} in the facts")
    if previous is not None:
        _check_previous(previous, facts)
    draw = _Draw(summed)
    empty = Published(facts, summed.sites, summed.temperature, None)
    matrix = tuple(tuple(band_of(int(count)) for count in row) for row in summed.confusion)
    found = replace(empty, confusion=matrix)
    if previous is not None and (draw.refuses("confusion") or not is_safe(found, previous, growth)):
        return replace(empty, withheld=(Withheld("All figures", TOO_SOON),))
    if summed.n == 0:
        return replace(found, withheld=(Withheld("All figures", "there are no test images"),))
    withheld: list[Withheld] = []
    for form, margins in _margins(summed.confusion).items():
        tried = replace(found, margins=margins)
        if not draw.refuses(form) and is_safe(tried, previous, growth):
            found = tried
            break
    if found.margins is None or not found.margins.false:
        withheld.append(Withheld("Wrong calls by class" if found.margins is None else "Wrong calls by called class"))
    for merged in BIN_FORMS:
        tried = replace(found, reliability=_reliability(summed, merged))
        if not draw.refuses(f"bins {merged}") and is_safe(tried, previous, growth):
            found = tried
            break
    if not found.reliability:
        withheld.append(Withheld("Reliability table and calibration error"))
    found, missing = _scores(summed, found, previous, growth, draw)
    withheld += [*missing, Withheld("Negative log likelihood", UNBOUNDED), Withheld("Classwise error", NO_LINKS)]
    for number, column in enumerate(summed.levels):
        table = _subgroups(summed, number, column)
        if table is None or _other_levels(table, previous):
            withheld.append(Withheld(f"Subgroups by {column}", FEW_SITES if table is None else OTHER_LEVELS))
            continue
        tried = replace(found, subgroups=(*found.subgroups, table))
        if not draw.refuses(f"column {column}") and is_safe(tried, previous, growth):
            found = tried
        else:
            withheld.append(Withheld(f"Subgroups by {column}"))
    return replace(found, withheld=tuple(withheld))


def _check_previous(previous: Published, facts: Facts) -> None:
    if previous.facts.classes != facts.classes:
        raise InvalidReportError("the previous report has other classes", remedy="Pass one of the same study, or none")
    if previous.confusion is None:
        # Nothing could be compared with it, and the report before it would go unguarded.
        raise InvalidReportError("the previous report holds no counts", remedy="Pass the last one that does")


def is_safe(published: Published, previous: Published | None = None, growth: int | None = None) -> bool:
    """Whether two values remain for every small count; a function of published material and of ``growth`` alone.

    False too where the solver cannot decide, or finds no images at all that could have been published so.
    """
    try:
        if previous is None:
            return _pinned(published, None, "apart", None) == ""
        same_model = published.facts.provenance.model_hash == previous.facts.provenance.model_hash
        link: Link = "same model" if same_model else "same images"
        known: Sequence[int | None] = (growth,) if growth is not None else (None, *range(-SMALL, SMALL + 1))
        linked = [_pinned(published, previous, link, each) for each in known]
        # What a link leaves possible is possible without it too. A link that no images fulfil is not what happened:
        # where all are of that kind, a reader knows nothing but that there are two reports.
        return not any(linked) and ("" in linked or _pinned(published, previous, "apart", None) == "")
    except UndecidedError:
        return False


def _pinned(published: Published, previous: Published | None, link: Link, growth: int | None) -> str | None:
    system = system_of(published, previous, link, growth)
    reports = (published,) if previous is None else (published, previous)

    def accepts(solution: FloatArray) -> bool:
        return all(_scored(report, system.keys[place], solution) for place, report in enumerate(reports))

    return Search(system, accepts).pinned()


def _scored(report: Published, key: dict[tuple[object, ...], int], solution: FloatArray) -> bool:
    """Whether images with these counts can have the report's Brier score and AUROC."""
    if report.brier is None and report.macro_auroc is None:
        return True
    k = report.n_classes
    cells: IntArray = np.array([[solution[key["cell", i, j]] for j in range(k)] for i in range(k)], dtype=np.int64)
    counts: dict[str, list[int]] = {"hits": [], "misses": []}
    edges = []
    for row in report.reliability:
        inside = [b for b in range(N_BINS) if row.low <= (b + 0.5) / N_BINS < row.high]
        for part, found in counts.items():
            found.append(int(sum(solution[key[part, b]] for b in inside)))
        low = max(row.low, 1.0 / k)
        middle = row.mean_confidence if row.mean_confidence is not None else (low + row.high) / 2
        edges.append((row.low, row.high, middle))
    kinds = kinds_of(cells, counts["hits"], counts["misses"])
    return possible(kinds, edges, k, report.brier, report.macro_auroc)


def _margins(matrix: IntArray) -> dict[str, Margins]:
    off = matrix - np.diag(matrix.diagonal())
    wrong = band_of(int(off.sum()))
    missed, false = (tuple(band_of(int(count)) for count in off.sum(axis=axis)) for axis in (1, 0))
    return {"margins": Margins(wrong, missed, false), "margins by true class": Margins(wrong, missed)}


class _Draw:
    """Refusals at random: the same for the same sums, and not to be foreseen without them."""

    def __init__(self, summed: SummedFigures) -> None:
        digest = hashlib.sha256(repr((summed.classes, summed.sites, dict(summed.levels))).encode())
        for name in sorted(summed.fields):
            digest.update(name.encode() + np.ascontiguousarray(summed.fields[name], dtype="<f8").tobytes())
        self._state = digest.digest()

    def refuses(self, form: str) -> bool:
        """Whether this form is refused whatever it says."""
        return hashlib.sha256(self._state + form.encode()).digest()[0] < 256 // CHANCE


def _reliability(summed: SummedFigures, merged: int) -> tuple[ReliabilityRow, ...]:
    count, right, confidence = (summed.fields[name].reshape(-1, merged).sum(axis=1) for name in _BINS)
    rows = []
    for b in range(N_BINS // merged):
        hits, misses = band_of(int(right[b])), band_of(int(count[b] - right[b]))
        # A mean over so many images excludes no count: any number of images can have it.
        mean = round(float(confidence[b] / count[b]), 2) if hits.low + misses.low > SMALL else None
        rows.append(ReliabilityRow(b * merged / N_BINS, (b + 1) * merged / N_BINS, hits, misses, mean))
    return tuple(rows)


_BINS = ("bin_n", "bin_right", "bin_confidence")


def _scores(
    summed: SummedFigures, found: Published, previous: Published | None, growth: int | None, draw: _Draw
) -> tuple[Published, list[Withheld]]:
    missing = []
    auroc = summed.macro_auroc
    forms: dict[str, list[Published]] = {"Brier score": [], "Macro AUROC": []}
    for step in SCORE_STEPS:
        low = math.floor(float(summed.fields["brier"]) / summed.n / step) * step
        forms["Brier score"].append(replace(found, brier=Range(round(low, 3), round(low + step, 3))))
        if auroc is not None:
            forms["Macro AUROC"].append(replace(found, macro_auroc=_around(auroc, step)))
    if auroc is None:
        missing.append(Withheld("Macro AUROC", "not defined: fewer than two classes have test images"))
    for name, tried in forms.items():
        for step, form in zip(SCORE_STEPS, tried, strict=False):
            # The other score may be there by now; only this one is new.
            form = replace(form, brier=form.brier or found.brier, macro_auroc=form.macro_auroc or found.macro_auroc)
            if found.reliability and not draw.refuses(f"{name} {step}") and is_safe(form, previous, growth):
                found = form
                break
        else:
            if tried:
                missing.append(Withheld(name))
    return found, missing


def _around(auroc: BoundedAuroc, step: float) -> Range:
    """The interval of the exact figure, outward to the grid; never a single point of it."""
    found = outward(max(0.0, auroc.value - auroc.bound), min(1.0, auroc.value + auroc.bound), step)
    if found.width > step / 2:
        return found
    return Range(round(found.high - step, 3), found.high) if found.high >= step else Range(0.0, step)


def _other_levels(table: SubgroupTable, previous: Published | None) -> bool:
    """Whether the previous report has this column with other levels, so that no row can be compared with its own."""
    before = [given for given in (previous.subgroups if previous else ()) if given.column == table.column]
    return any([row.level for row in given.rows] != [row.level for row in table.rows] for given in before)


def _subgroups(summed: SummedFigures, number: int, column: str) -> SubgroupTable | None:
    """Bands of one column, rare levels under "other"; None where they cannot hide a site."""
    levels = summed.levels[column]
    right, all_ = summed.fields[f"right_{number}"], summed.fields[f"total_{number}"]
    holders = summed.fields[f"holders_{number}"]
    other = levels.index(OTHER)
    moved = [place for place in range(len(levels)) if place != other and 0 < holders[place] < FEWEST_SITES]
    held = max([holders[other], *(holders[place] for place in moved)])
    if (moved or holders[other]) and held < FEWEST_SITES:
        return None
    rows = []
    for place, level in enumerate(levels):
        if place in moved:
            continue
        places = [place, *moved] if place == other else [place]
        hits, every = right[places].sum(axis=0), all_[places].sum(axis=0)
        rows.append(
            SubgroupRow(
                level,
                tuple(band_of(int(count)) for count in hits),
                tuple(band_of(int(count)) for count in every - hits),
                band_of(int(hits.sum())),
                band_of(int((every - hits).sum())),
            )
        )
    return SubgroupTable(column, tuple(rows))
