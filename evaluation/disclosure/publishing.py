"""From sums to what may be published, finest first, and coarser where a solver could pin a small count.

What is published is decided table by table, in this order: the confusion matrix, its margins (of rows and columns, then
of rows alone), the reliability table (ten bins, then five), the Brier score and AUROC (to 0.01, then to 0.05), the
reliability table before the temperature and its Brier score, decision counts at each threshold, each subgroup column in
the study's order. A form is accepted when, with everything accepted before it and with the previous
report, no small count is pinned (see `safety`). Otherwise the next coarser form is tried, and at last the table is
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

Some tables are left out by rules that depend on no count, so that their absence says nothing either: decision counts at
thresholds under 1/2 with more than two classes (see `decisions`); tables of confidence in a later report of the same
model with another temperature; what is not a count (mean confidences, Brier scores, AUROC) and what was before the
temperature in a later report of the same model, where the difference of two sums would be of the added images alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from ..errors import InvalidPredictionsError, InvalidReportError
from ..sums.summed import SummedFigures
from . import forms
from .bands import band_of
from .decisions import publishable
from .form_check import checked
from .forms import BIN_FORMS, SCORE_STEPS
from .published import Facts, Published, SubgroupTable, Withheld
from .safety import is_safe
from .twins import to_json

CHANCE = 32
"""One form in so many is refused at random."""
TOO_SOON = "withheld: together with the previous report it could tell small counts; that report stands"
FEW_SITES = "withheld: too few sites record one of its values"
OTHER_LEVELS = "withheld: the previous report has other levels, and the difference of both would tell small counts"
OTHER_TEMPERATURE = "withheld: the previous report is of the same model with another temperature"
LATER = "withheld: the previous report is of the same model, and both figures would tell of images that were added"
UNLINKED = "not published: an image then counts for classes that it was not called, and so for small cells"
UNBOUNDED = "not published: a single image can carry most of it"
NO_LINKS = "not published: it would need the probabilities of each class in bins, which are small cells"
SLACK = 1e-9


def publish(
    summed: SummedFigures, facts: Facts, previous: Published | None = None, growth: int | None = None
) -> Published:
    """What may leave the coordinator.

    The rule for ``previous``: pass the last report *with counts* that this coordinator published of images that may be
    the same ones, whichever model it was of. It must be of the same study and data set, with the same classes in the
    same order. Thresholds, subgroup columns, temperature and sites may be others. A report that was withheld as a
    whole is not a previous one: the one before it is. Who has no earlier report passes None, and the page says so:
    nothing then guards against a reader who has one.

    Args:
        summed: exact sums of all sites. facts: pass through.
        previous: as above.
        growth: images in these sums beyond those of the previous report, negative where there are fewer; None where the
            caller does not know it, and then all from -10 to 10 are guarded against.

    Raises:
        InvalidPredictionsError: classes or thresholds of the sums are not those of the facts, in number.
        InvalidReportError: the previous report is of another study, data set or classes, holds no counts, or holds what
            is never published.
    """
    if len(summed.classes) != len(facts.classes):
        raise InvalidPredictionsError(f"{len(summed.classes)} classes in the sums, {len(facts.classes)} in the facts")
    counted = summed.fields["acted"].shape[1]
    if facts.thresholds and len(facts.thresholds) != counted:
        raise InvalidPredictionsError(f"{counted} thresholds in the sums, {len(facts.thresholds)} in the facts")
    earlier = ""
    if previous is not None:
        _check_previous(previous, facts)
        earlier = hashlib.sha256(to_json(previous)).hexdigest()
    empty = Published(facts, summed.sites, summed.temperature, None, earlier=earlier)
    matrix = tuple(tuple(band_of(int(count)) for count in row) for row in summed.confusion)
    found = replace(empty, confusion=matrix)
    stage = _Stage(summed, previous, growth)
    if previous is not None and stage.refuses("confusion"):
        return replace(empty, withheld=(Withheld("All figures", TOO_SOON),))
    if summed.n > 0:
        # What is safe together is safe one by one, so most reports need the solver once.
        finest = _all_steps(stage, found)
        if is_safe(finest, previous, growth):
            return checked(finest)
    stage.solves = True
    if previous is not None and not stage.allows(found, "confusion"):
        return replace(empty, withheld=(Withheld("All figures", TOO_SOON),))
    if summed.n == 0:
        return replace(found, withheld=(Withheld("All figures", "there are no test images"),))
    return checked(_all_steps(stage, found))


def _all_steps(stage: _Stage, found: Published) -> Published:
    withheld: list[Withheld] = []
    for step in (_margins, _confidence, _before, _decisions, _subgroups):
        found, missing = step(stage, found)
        withheld += missing
    return replace(found, withheld=tuple(withheld))


def _check_previous(previous: Published, facts: Facts) -> None:
    checked(previous)
    for what in ("study", "dataset"):
        if getattr(previous.facts, what) != getattr(facts, what):
            raise InvalidReportError(
                f"the previous report is of another {'data set' if what == 'dataset' else what}: "
                f"{getattr(previous.facts, what)!r} instead of {getattr(facts, what)!r}",
                remedy="Pass the last report of this study, or none",
            )
    if previous.facts.classes != facts.classes:
        raise InvalidReportError("the previous report has other classes", remedy="Pass one of the same study, or none")
    if previous.confusion is None:
        # Nothing could be compared with it, and the report before it would go unguarded.
        raise InvalidReportError("the previous report holds no counts", remedy="Pass the last one that does")


class _Stage:
    """The sums, and the question whether a form of them may be published.

    Attributes:
        refuses: whether a form is refused at random. solves: whether forms are also checked one by one.
    """

    def __init__(self, summed: SummedFigures, previous: Published | None, growth: int | None) -> None:
        self.summed, self.previous = summed, previous
        self._growth, self.refuses = growth, _Draw(summed).refuses
        self.solves = False

    def allows(self, tried: Published, form: str) -> bool:
        """Whether it is not refused at random, and safe; the latter is not asked unless ``solves``."""
        return not self.refuses(form) and (not self.solves or is_safe(tried, self.previous, self._growth))

    def same_model(self, facts: Facts) -> bool:
        """Whether the previous report is of the same model."""
        return self.previous is not None and self.previous.facts.provenance.model_hash == facts.provenance.model_hash

    def other_temperature(self, facts: Facts) -> bool:
        """Whether the previous report is of the same model with another temperature."""
        if self.previous is None or not self.same_model(facts):
            return False
        return abs((self.previous.temperature or 1.0) - (self.summed.temperature or 1.0)) > SLACK


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


Step = tuple[Published, list[Withheld]]


def _margins(stage: _Stage, found: Published) -> Step:
    for form, margins in forms.margins(stage.summed.confusion).items():
        tried = replace(found, margins=margins)
        if stage.allows(tried, form):
            return tried, ([] if margins.false else [Withheld("Wrong calls by called class")])
    return found, [Withheld("Wrong calls by class")]


def _confidence(stage: _Stage, found: Published) -> Step:
    """The reliability table and what needs it."""
    always = [Withheld("Negative log likelihood", UNBOUNDED), Withheld("Classwise error", NO_LINKS)]
    scores = ("Reliability table and calibration error", "Brier score", "Macro AUROC")
    if stage.other_temperature(found.facts):
        return found, [*(Withheld(name, OTHER_TEMPERATURE) for name in scores), *always]
    for merged in BIN_FORMS:
        same = stage.same_model(found.facts)
        tried = replace(found, reliability=forms.reliability(stage.summed, merged, means=not same))
        if stage.allows(tried, f"bins {merged}"):
            if same:
                return tried, [*(Withheld(name, LATER) for name in ("Mean confidences", *scores[1:])), *always]
            found, missing = _scores(stage, tried)
            return found, [*missing, *always]
    return found, [*(Withheld(name) for name in scores), *always]


def _scores(stage: _Stage, found: Published) -> Step:
    missing = []
    total, auroc = float(stage.summed.fields["brier"]), stage.summed.macro_auroc
    for step in SCORE_STEPS:
        tried = replace(found, brier=forms.brier(total, stage.summed.n, step))
        if stage.allows(tried, f"Brier score {step}"):
            found = tried
            break
    else:
        missing.append(Withheld("Brier score"))
    if auroc is None:
        missing.append(Withheld("Macro AUROC", "not defined: fewer than two classes have test images"))
        return found, missing
    for step in SCORE_STEPS:
        tried = replace(found, macro_auroc=forms.around(auroc, step))
        if stage.allows(tried, f"Macro AUROC {step}"):
            return tried, missing
    return found, [*missing, Withheld("Macro AUROC")]


def _before(stage: _Stage, found: Published) -> Step:
    """The reliability table and the Brier score before the temperature."""
    divisor = stage.summed.temperature
    names = ("Reliability table before the temperature", "Brier score before the temperature")
    if divisor is None or abs(divisor - 1.0) <= SLACK:
        return found, []
    if stage.same_model(found.facts):
        return found, [Withheld(name, LATER) for name in names]
    for merged in BIN_FORMS if found.reliability else ():
        tried = replace(found, raw_reliability=forms.reliability(stage.summed, merged, "raw_"))
        if stage.allows(tried, f"bins before {merged}"):
            found = tried
            break
    else:
        return found, [Withheld(name) for name in names]
    for step in SCORE_STEPS:
        raw = forms.brier(float(stage.summed.fields["raw_brier"]), stage.summed.n, step)
        tried = replace(found, raw_brier=raw)
        if stage.allows(tried, f"Brier score before {step}"):
            return tried, []
    return found, [Withheld(names[1])]


def _decisions(stage: _Stage, found: Published) -> Step:
    missing = []
    for place, threshold in enumerate(found.facts.thresholds):
        name = f"Decision counts at {threshold:.3g}"
        if not publishable(threshold, found.n_classes):
            missing.append(Withheld(name, UNLINKED))
            continue
        row = forms.decision(stage.summed, place, threshold)
        tried = replace(found, decisions=(*found.decisions, row))
        if found.reliability and stage.allows(tried, f"decisions {threshold}"):
            found = tried
        else:
            missing.append(Withheld(name))
    return found, missing


def _subgroups(stage: _Stage, found: Published) -> Step:
    missing = []
    for number, column in enumerate(stage.summed.levels):
        table = forms.subgroups(stage.summed, number, column)
        if table is None or _other_levels(table, stage.previous):
            missing.append(Withheld(f"Subgroups by {column}", FEW_SITES if table is None else OTHER_LEVELS))
            continue
        tried = replace(found, subgroups=(*found.subgroups, table))
        if stage.allows(tried, f"column {column}"):
            found = tried
        else:
            missing.append(Withheld(f"Subgroups by {column}"))
    return found, missing


def _other_levels(table: SubgroupTable, previous: Published | None) -> bool:
    """Whether the previous report has this column with other levels, so that no row can be compared with its own."""
    before = [given for given in (previous.subgroups if previous else ()) if given.column == table.column]
    return any([row.level for row in given.rows] != [row.level for row in table.rows] for given in before)
