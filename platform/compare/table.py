"""From finished cells to the comparison: means over folds, then over seeds, bytes, and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...evaluation.comparison import (
    FIGURES,
    CellLine,
    Comparison,
    CurvePoint,
    FigureSet,
    Limits,
    Mean,
    PairedTest,
    Row,
    Score,
)
from ...evaluation.paired import PairedPart, holm, paired_difference
from ...evaluation.report_model import ClassName
from ...medical_datasets.cohort import Dataset
from ..config import ReferenceSection
from .ablations import ABLATIONS
from .cells import Answer, CellRecord, CellResult, Failure
from .grid import PlannedCell, Request, consumes_pixels

RIVALS = ("zero-shot", "local-only", "fedavg", "fedprox", "moon", "prompt-fl", "lora")
"""Baselines that a method is tested against the best of. Pooled training sees all data, so it is a bound, no rival."""
STREAM = 3
"""Of the bootstrap's seed: other intervals of the same study are drawn from other streams."""
SCORES: tuple[Score, ...] = ("personalisation", "generalisation", "transductive")
Kind = tuple[str, str]
"""Method and variant."""
Results = Mapping[tuple[int, str], CellResult]
"""By seed and left-out site."""
_REFERENCE = {
    "fraction": "a public set, taken out before sites are made",
    "site": "a whole public site",
    "unseen": "the unseen site's own images (transductive)",
    "class-means": "the federation's own class means",
    "none": "none",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A planned cell and its result."""

    cell: PlannedCell
    result: CellResult


def comparison_of(
    request: Request,
    cells: Sequence[PlannedCell],
    records: Mapping[str, CellRecord],
    failures: Mapping[str, Failure],
    dataset: Dataset,
    backbone: tuple[str, str],
) -> Comparison:
    """Put the cells side by side.

    Args:
        request: what was compared.
        cells: the whole grid. records: finished ones, by identifier. failures: the others, likewise.
        dataset: with the classes that the study keeps.
        backbone: its name and fingerprint.
    """
    finished = [Finished(cell, records[cell.key.identifier].result) for cell in cells if cell.key.identifier in records]
    kinds = list(dict.fromkeys((cell.key.method, cell.key.variant) for cell in cells))
    kinds.sort(key=lambda kind: request.methods.index(kind[0]))  # stable: variants of a method stay in their order
    rows = _with_ratios([_row(request, kind, cells, finished) for kind in kinds])
    study = request.study
    return Comparison(
        study=study.name,
        dataset=dataset.title,
        classes=tuple(ClassName(label.name, label.clinical_name) for label in dataset.classes),
        synthetic=study.data.source == "phantoms",
        ablation=request.ablation,
        option=ABLATIONS[request.ablation].option if request.ablation else "",
        methods=request.methods,
        seeds=tuple(sorted({cell.key.seed for cell in cells})),
        folds=tuple(sorted({cell.key.fold for cell in cells if cell.key.fold})),
        leave_one_out=request.leave_one_out,
        reference=_reference(study.reference),
        rows=tuple(rows),
        tests=_tests(rows, finished, study.seed),
        cells=tuple(_line(cell, records, failures) for cell in cells),
        backbone=backbone[0],
        backbone_fingerprint=backbone[1],
    )


def _reference(section: ReferenceSection) -> str:
    return _REFERENCE[section.source] + (", with its labels (an oracle)" if section.labels_known else "")


def over_seeds(values: Sequence[tuple[int, float | None]]) -> Mean:
    """Mean and standard deviation over seeds of each seed's mean over its known values.

    Args:
        values: (seed, value), one a fold.
    """
    seeds = dict.fromkeys(seed for seed, value in values if value is not None)
    means = [float(np.mean([v for s, v in values if s == seed and v is not None])) for seed in seeds]
    if not means:
        return Mean()
    return Mean(float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else None, len(means))


def mean_over_sites(sites: Mapping[str, Mapping[str, float | None]], figure: str) -> float | None:
    """A cell's value of a figure: the mean over the sites where it is known."""
    known = [value for site in sites.values() if (value := site.get(figure)) is not None]
    return float(np.mean(known)) if known else None


def _figures(
    finished: Sequence[Finished], sites: Callable[[CellResult], Mapping[str, Mapping[str, float | None]]]
) -> FigureSet:
    return FigureSet(
        **{
            figure: over_seeds([(f.cell.key.seed, mean_over_sites(sites(f.result), figure)) for f in finished])
            for figure in FIGURES
        }
    )


def _row(request: Request, kind: tuple[str, str], cells: Sequence[PlannedCell], finished: Sequence[Finished]) -> Row:
    own = [f for f in finished if (f.cell.key.method, f.cell.key.variant) == kind]
    planned = [cell for cell in cells if (cell.key.method, cell.key.variant) == kind]
    measured = [f.result.traffic.up_per_site_round for f in own if f.result.traffic.up_per_site_round > 0]
    silent = planned[0].method.exchange in ("alone", "nothing")
    return Row(
        method=kind[0],
        variant=kind[1],
        exchange=planned[0].method.exchange,
        limits=_limits(request, kind[0], planned),
        cells=len(planned),
        finished=len(own),
        seeds=len({f.cell.key.seed for f in own}),
        folds=len({f.cell.key.fold for f in own if f.cell.key.fold}),
        rounds=max((f.result.rounds for f in own), default=None),
        personalisation=_figures(own, lambda result: result.sites),
        generalisation=_figures([f for f in own if not f.result.transductive], lambda result: result.unseen),
        transductive=_figures([f for f in own if f.result.transductive], lambda result: result.unseen),
        bytes_per_site_round=float(np.mean(measured)) if measured else 0.0 if own and silent else None,
        bytes_ratio=None,
        parameters=dict(own[0].result.traffic.parameters) if own else {},
        seconds=float(np.mean([f.result.seconds for f in own])) if own else None,
        curve=_curve(own),
    )


def _limits(request: Request, method: str, planned: Sequence[PlannedCell]) -> Limits | None:
    if not consumes_pixels(request.study, method):
        return None
    study, grants = planned[0].study, request.study.compare
    return Limits(
        study.rounds,
        study.data.max_train_images,
        min(request.seeds, grants.pixel_seeds),
        not request.leave_one_out or grants.pixel_leave_one_out,
    )


def _curve(finished: Sequence[Finished]) -> tuple[CurvePoint, ...]:
    points = [(f.cell.key.seed, point) for f in finished for point in f.result.curve]
    return tuple(
        CurvePoint(
            number,
            over_seeds([(seed, p.train_loss) for seed, p in points if p.round == number]),
            over_seeds([(seed, p.balanced_accuracy) for seed, p in points if p.round == number]),
        )
        for number in sorted({point.round for _, point in points})
    )


def _with_ratios(rows: Sequence[Row]) -> list[Row]:
    """FedAvg's bytes a site and round divided by each row's, within a variant."""
    fedavg = {row.variant: row.bytes_per_site_round for row in rows if row.method == "fedavg"}
    return [
        replace(row, bytes_ratio=whole / row.bytes_per_site_round)
        if (whole := fedavg.get(row.variant)) and row.bytes_per_site_round
        else row
        for row in rows
    ]


def _line(cell: PlannedCell, records: Mapping[str, CellRecord], failures: Mapping[str, Failure]) -> CellLine:
    key, name = cell.key, cell.key.identifier
    record, failure = records.get(name), failures.get(name)
    result = record.result if record else None
    return CellLine(
        identifier=name,
        method=key.method,
        variant=key.variant,
        seed=key.seed,
        fold=key.fold,
        wardround=record.wardround if record else "",
        reason="" if record else failure.what if failure else "not run",
        transductive=bool(result and result.transductive),
        personalisation=mean_over_sites(result.sites, "balanced_accuracy") if result else None,
        generalisation=mean_over_sites(result.unseen, "balanced_accuracy") if result else None,
        rounds=result.rounds if result else None,
        seconds=result.seconds if result else None,
        link=f"cells/{name}/{'cell' if record else 'failed'}.json",
    )


def _tests(rows: Sequence[Row], finished: Sequence[Finished], seed: int) -> tuple[PairedTest, ...]:
    """Every row against the best baseline of its variant, and against the first variant of its method."""
    results = {(row.method, row.variant): _of(finished, row) for row in rows}
    tests: list[PairedTest] = []
    for against in ("baseline", "variant"):
        for score in SCORES:
            family = [
                test
                for row in rows
                if (rival := _rival(rows, results, row, score, against)) is not None
                and (test := _test(row, rival, score, against, results, seed)) is not None
            ]
            corrected = holm([test.p for test in family])
            tests += [replace(test, p_holm=p) for test, p in zip(family, corrected, strict=True)]
    return tuple(tests)


def _rival(
    rows: Sequence[Row],
    results: Mapping[Kind, Results],
    row: Row,
    score: Score,
    against: Literal["baseline", "variant"],
) -> Row | None:
    """Whom a row is tested against: the ablation's first variant, or the baseline that is best in the row's own cells.

    A baseline that was granted fewer seeds or folds than the row is no rival, unless no other is there: the test would
    be of few images, and its own mean is of other cells. A transductive row is tested against a strict baseline.
    """
    if against == "variant":
        first = next(other for other in rows if other.method == row.method)
        return None if first is row else first
    own = results[row.method, row.variant]
    scored = []
    for other in rows:
        if other.method in RIVALS and other.variant == row.variant:
            theirs = {at: result for at, result in results[other.method, other.variant].items() if at in own}
            values = [_balanced(result, score) for result in theirs.values()]
            known = [value for value in values if value is not None]
            if known:
                scored.append((len(theirs) == len(own), float(np.mean(known)), other))
    best = max(scored, key=lambda entry: entry[:2], default=None)
    return None if best is None or best[2] is row else best[2]


def _balanced(result: CellResult, score: Score) -> float | None:
    """Balanced accuracy of a baseline's cell; on the left-out site, of a strict one."""
    if score == "personalisation":
        return mean_over_sites(result.sites, "balanced_accuracy")
    return None if result.transductive else mean_over_sites(result.unseen, "balanced_accuracy")


def _test(
    row: Row,
    rival: Row,
    score: Score,
    against: Literal["baseline", "variant"],
    results: Mapping[Kind, Results],
    seed: int,
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
