"""Who is tested against whom, on the test images that both have answered for.

Four kinds of tests, each a family of its own under Holm's correction: against the best baseline, against FedCLIP,
against each method that trains on pictures, and against an ablation's first variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...evaluation.comparison import RIVALS, Against, PairedTest, Row, Score
from ...evaluation.paired import PairedPart, holm, paired_difference
from .ablations import ADAPTERS
from .cells import Answer, CellResult
from .grid import PlannedCell

FEDCLIP = "fedclip"
STREAM = 3
"""Of the bootstrap's seed: other intervals of the same study are drawn from other streams."""
SCORES: tuple[Score, ...] = ("personalisation", "generalisation", "transductive")
KINDS: tuple[Against, ...] = ("baseline", "fedclip", "pixels", "variant")
Kind = tuple[str, str]
"""Method and variant."""
Results = Mapping[tuple[int, str], CellResult]
"""By seed and left-out site."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A planned cell and its result."""

    cell: PlannedCell
    result: CellResult


def paired_tests(rows: Sequence[Row], finished: Sequence[Finished], seed: int) -> tuple[PairedTest, ...]:
    """Every test of every kind and score, in the order of the kinds, scores and rows.

    Args:
        rows: of the comparison. finished: the cells that they are made of. seed: of the study.
    """
    results = {(row.method, row.variant): _of(finished, row) for row in rows}
    tests: list[PairedTest] = []
    for against in KINDS:
        for score in SCORES:
            family = [
                test
                for row in rows
                for rival in _rivals(rows, results, row, score, against)
                if (test := _test(row, rival, score, against, results, seed)) is not None
            ]
            tests += _corrected(family, against)
    return tuple(tests)


def _corrected(family: Sequence[PairedTest], against: Against) -> list[PairedTest]:
    """Holm's correction within one family.

    The best baseline was chosen by the figure that is tested: that pulls every other row back, so "falls behind" would
    be claimed too often (10 % of the time at a nominal 2.5 %). Against it, only being ahead is a claim: a row that is
    behind enters with p = 1 and gets none. Baselines are behind by that choice, and are no part of the family.
    """
    chosen = against == "baseline"
    claims = [not chosen or test.method not in RIVALS for test in family]
    ahead = [not chosen or (test.difference or 0.0) > 0 for test in family]
    values = [
        None if not claim or test.p is None else test.p if up else 1.0
        for test, claim, up in zip(family, claims, ahead, strict=True)
    ]
    return [replace(test, p_holm=p if up else None) for test, p, up in zip(family, holm(values), ahead, strict=True)]


def _rivals(
    rows: Sequence[Row], results: Mapping[Kind, Results], row: Row, score: Score, against: Against
) -> list[Row]:
    """Whom a row is tested against in one kind of test.

    Methods that train on pictures were granted fewer cells, and stand against adapters in a family of their own, so
    they do not weigh on the tests against FedCLIP.
    """
    alike = [other for other in rows if other.variant == row.variant and other is not row]
    if against == "variant":
        first = next(other for other in rows if other.method == row.method)
        return [] if first is row else [first]
    if against == "fedclip":
        entitled = row.exchange == "federated" and row.limits is None
        return [other for other in alike if entitled and other.method == FEDCLIP]
    if against == "pixels":
        return [other for other in alike if row.method in ADAPTERS and other.limits]
    best = _best_baseline(rows, results, row, score)
    return [] if best is None or best is row else [best]


def _best_baseline(rows: Sequence[Row], results: Mapping[Kind, Results], row: Row, score: Score) -> Row | None:
    """The baseline with the highest balanced accuracy in the row's own cells, recall pooled as in the test itself.

    A baseline that was granted fewer seeds or folds than the row is no rival, unless no other is there: the test would
    be of few images, and its own figure is of other cells. A transductive row is tested against a strict baseline.
    """
    own = results[row.method, row.variant]
    scored = []
    for other in rows:
        if other.method in RIVALS and other.variant == row.variant:
            theirs = results[other.method, other.variant]
            known = pooled_accuracy(_parts(own, theirs, score))
            if known is not None:
                scored.append((all(at in theirs for at in own), known, other))
    best = max(scored, key=lambda entry: entry[:2], default=None)
    return None if best is None else best[2]


def pooled_accuracy(parts: Sequence[PairedPart]) -> float | None:
    """Balanced accuracy of the second model over the images of all parts together; None without any."""
    right: dict[int, list[float]] = {}
    for part in parts:
        for label, answer in zip(part.labels, part.second, strict=True):
            right.setdefault(label, []).append(answer)
    return float(np.mean([np.mean(answers) for answers in right.values()])) if right else None


def _test(
    row: Row, rival: Row, score: Score, against: Against, results: Mapping[Kind, Results], seed: int
) -> PairedTest | None:
    """None where the two have no test image in common, or the row has no such score."""
    if row.figures(score).accuracy.mean is None:
        return None
    parts = _parts(results[row.method, row.variant], results[rival.method, rival.variant], score)
    if not parts:
        return None
    found = paired_difference(parts, np.random.default_rng([seed, STREAM]))
    return PairedTest(
        method=row.method,
        variant=row.variant,
        rival=rival.method,
        rival_variant=rival.variant,
        against=against,
        score=score,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        p_holm=None,
        n_images=found.n_images,
        n_groups=found.n_groups,
        parts=len(parts),
        note=found.note,
    )


def _of(finished: Sequence[Finished], row: Row) -> Results:
    own = (row.method, row.variant)
    return {
        (f.cell.key.seed, f.cell.key.fold): f.result for f in finished if (f.cell.key.method, f.cell.key.variant) == own
    }


def _parts(first: Results, second: Results, score: Score) -> list[PairedPart]:
    """The answers of both for each site, by seed and fold; none where they were not tested on the same images.

    Sites that are split differently may still agree at one of them by chance: that would be no test of the two.
    """
    parts = []
    for (seed, fold), result in first.items():
        other = second.get((seed, fold))
        if other is None or (score != "personalisation" and result.transductive != (score == "transductive")):
            continue
        if score == "generalisation" and other.transductive:
            continue
        for site, own in _answers(result, score).items():
            theirs = _answers(other, score).get(site)
            if theirs is None or (own.labels, own.groups) != (theirs.labels, theirs.groups):
                return []
            parts.append(PairedPart(f"{seed} {site}", own.labels, own.groups, own.correct, theirs.correct))
    return parts


def _answers(result: CellResult, score: Score) -> dict[str, Answer]:
    return result.answers.sites if score == "personalisation" else result.answers.unseen
