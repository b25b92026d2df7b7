"""From finished cells to the comparison: means over folds, then over seeds, bytes and options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...evaluation.comparison import (
    FIGURES,
    CellLine,
    Comparison,
    CurvePoint,
    FigureSet,
    Limits,
    Mean,
    Row,
)
from ...evaluation.report_model import ClassName
from ...medical_datasets.cohort import Dataset
from ..config import Study
from ..data_sections import ReferenceSection
from .ablations import ABLATIONS
from .cells import CellRecord, CellResult, Failure
from .grid import PlannedCell, Request, consumes_pixels
from .rivals import Finished, paired_tests

_REFERENCE = {
    "fraction": "a public set, taken out before sites are made",
    "site": "a whole public site",
    "unseen": "the unseen site's own images (transductive)",
    "class-means": "the federation's own class means",
    "none": "none",
}


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
    tests = paired_tests(rows, finished, study.seed)
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
        reference=_references(cells),
        rows=tuple(rows),
        tests=tests,
        cells=tuple(_line(cell, records, failures) for cell in cells),
        backbone=backbone[0],
        backbone_fingerprint=backbone[1],
        notes=_notes(request, any(test.against == "variant" for test in tests)),
        calibrations=tuple(dict.fromkeys(cell.study.calibration.method for cell in cells)),
        base=_base(study),
    )


def _references(cells: Sequence[PlannedCell]) -> str:
    """The grid's reference set; where the ablation varies it, those of all variants."""
    words = dict.fromkeys(_reference(cell.study.reference) for cell in cells)
    return "; ".join(words) if len(words) == 1 else f"varied: {'; '.join(words)}"


def _notes(request: Request, paired: bool) -> tuple[str, ...]:
    note = ABLATIONS[request.ablation].unpaired if request.ablation and not paired else ""
    return (note,) if note else ()


def _base(study: Study) -> dict[str, Any]:
    """Every key of the study, but where the images lie on this machine."""
    values = study.model_dump(mode="json")
    del values["data"]["path"]
    return values


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
        options=dict(own[0].result.options) if own else planned[0].method.options(),
        lr=_lr(planned[0]),
        logit_adjustment=planned[0].study.training.logit_adjustment if planned[0].rounds else 0.0,
        trains=planned[0].study.baseline.method if planned[0].method.exchange in ("alone", "pooled") else "",
    )


def _lr(cell: PlannedCell) -> float | None:
    """The step size in effect: the method's own, else that of all training."""
    return (cell.method.lr or cell.study.training.lr) if cell.rounds else None


def _limits(request: Request, method: str, planned: Sequence[PlannedCell]) -> Limits | None:
    if not consumes_pixels(request.study, method):
        return None
    study, grants = planned[0].study, request.study.compare
    return Limits(
        study.rounds,
        study.data.max_train_images,
        min(request.seeds, grants.pixel_seeds),
        not request.leave_one_out or grants.pixel_leave_one_out,
        any(cell.key.fold for cell in planned),
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
        code=record.code if record else "",
        link=f"cells/{name}/{'cell' if record else 'failed'}.json",
    )
