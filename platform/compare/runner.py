"""Run a grid cell by cell, keeping every finished one, so that the same command continues where it stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ... import __version__
from ...evaluation.comparison import Comparison
from ...evaluation.errors import EvaluationError
from ...medical_datasets.errors import DataError
from ...privacy.atomic import make_private, sweep, write_json
from ...privacy.errors import PrivacyError
from ..backbone import Backbone
from ..cell import group_numbers, run_cell
from ..cohorts import deal
from ..errors import PlatformError, RunFolderError
from ..features import default_cache
from ..image_index import image_index
from ..run_folder import RunFolder
from ..study_data import encode_study
from ..study_parts import study_backbone
from ..watching import Watcher, left_out
from .cells import CellRecord, CellStore, Failure, named
from .cohort_cache import CohortCache
from .grid import PlannedCell, Request, plan_grid
from .page import write_comparison
from .source_code import source_sha256
from .table import comparison_of

PLAN = "plan.json"
"""What makes a folder a comparison's; written before anything else."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a grid will take.

    Attributes:
        cells: of the whole grid. finished: those that are done already. rounds: of the others, in all.
        seconds: judged by finished cells of the same methods; None where there is none to judge by.
        unknown: cells to run that this says nothing about.
    """

    cells: int
    finished: int
    rounds: int
    seconds: float | None
    unknown: int


class GridWatcher(Watcher, Protocol):
    """Receives the progress of a grid, and that within a cell."""

    def planned(self, cost: Cost) -> None:
        """The grid is known; nothing has run yet."""

    def cell_begins(self, cell: PlannedCell, number: int, total: int) -> None:
        """The cell that is ``number``-th of ``total`` begins."""

    def cell_ended(self, cell: PlannedCell, outcome: CellRecord | Failure) -> None:
        """It has a result, or it failed."""


def cost_of(cells: Sequence[PlannedCell], records: Mapping[str, CellRecord]) -> Cost:
    """What is left to do; a cell is judged by the mean time a round of the finished cells of its method."""
    pace: dict[str, list[float]] = {}
    for record in records.values():
        pace.setdefault(record.result.method, []).append(record.result.seconds / max(1, record.result.rounds))
    left = [cell for cell in cells if cell.key.identifier not in records]
    known = [
        sum(pace[cell.key.method]) / len(pace[cell.key.method]) * max(1, cell.rounds)
        for cell in left
        if cell.key.method in pace
    ]
    return Cost(
        cells=len(cells),
        finished=len(records),
        rounds=sum(cell.rounds for cell in left),
        seconds=sum(known) if known else None,
        unknown=len(left) - len(known),
    )


def compare(
    request: Request, out: Path, watch: GridWatcher, *, cache: Path | None = None, debug: bool = False
) -> Comparison:
    """Run what is missing of a grid and write the comparison.

    Args:
        request: what is compared.
        out: the comparison's folder; a new one, or one that an earlier call left.
        watch: told of the progress.
        cache: feature cache; None for WARDROUND_CACHE or its default.
        debug: let an unexpected error through, instead of recording it as the cell's.

    Raises:
        StudyFileError, DataError, BackboneError: before anything is written.
        RunFolderError: ``out`` holds something else, is in use, or has a cell that is damaged or another study's.
        OSError: a full disk and the like; finished cells are kept.
    """
    check_folder(out)
    code = source_sha256()  # at once: a file that is changed while the grid runs has mostly been imported before
    cohorts = CohortCache(out / "phantoms")
    features = cache or default_cache()
    with image_index(request.study, features, note=watch.note) as reader:
        if request.study.data.source != "phantoms":
            watch.stage("reading data")
            cohorts.of(request.study, reader=reader, note=watch.note)
        cells = plan_grid(request, cohorts.sites(request.study))
        digests = {cell.key.identifier: cohorts.digest(cell.study, reader=reader, note=watch.note) for cell in cells}
    watch.stage("backbone")
    backbone = study_backbone(request.study)
    with ExitStack() as stack:
        _open_folder(out, request, cells, stack)
        store = CellStore(out, backbone.fingerprint, digests, code)
        records = _finished(store, cells, cohorts, watch)
        watch.planned(cost_of(cells, records))
        failures: dict[str, Failure] = {}
        left = [cell for cell in cells if cell.key.identifier not in records]
        for number, cell in enumerate(left, start=1):
            watch.cell_begins(cell, number, len(left))
            outcome = _run(cell, store, cohorts, backbone, features, watch, debug)
            if isinstance(outcome, Failure):
                failures[cell.key.identifier] = outcome.kept
            else:
                records[cell.key.identifier] = outcome
            watch.cell_ended(cell, outcome)
        watch.stage("tables and page")
        comparison = comparison_of(
            request,
            cells,
            records,
            failures,
            cohorts.dataset(request.study),
            (request.study.backbone.name, backbone.fingerprint),
        )
        write_comparison(out, comparison)
    return comparison


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else, before any work is done.

    Raises:
        RunFolderError: it does, or it cannot be made or written.
    """
    if (out / PLAN).is_file():
        if not os.access(out, os.W_OK | os.X_OK):
            raise RunFolderError("no right to write here", where=str(out), remedy="Choose a folder with write access")
        return
    if (out / "study.toml").is_file():
        raise RunFolderError(
            "the output folder holds a run, not a comparison", where=str(out), remedy="Choose another --out"
        )
    if out.is_dir() and {path.name for path in out.iterdir()} == {"lock"}:
        return  # what a start that was killed at once leaves behind
    RunFolder.check_free(out)


def _open_folder(out: Path, request: Request, cells: Sequence[PlannedCell], stack: ExitStack) -> None:
    try:
        make_private(out)
        stack.enter_context(RunFolder(out).locked())
        sweep(out)
        write_json(
            out / PLAN,
            {
                "wardround": __version__,
                "study": request.study.name,
                "methods": list(request.methods),
                "ablation": request.ablation,
                "seeds": request.seeds,
                "leave_one_out": request.leave_one_out,
                "cells": [cell.key.identifier for cell in cells],
            },
        )
    except OSError as error:
        raise RunFolderError(
            f"the output folder cannot be written ({error.strerror or type(error).__name__})",
            where=str(out),
            remedy="Choose a folder with write access and free space",
        ) from None


def _finished(
    store: CellStore, cells: Sequence[PlannedCell], cohorts: CohortCache, watch: GridWatcher
) -> dict[str, CellRecord]:
    """Every finished cell, checked, and reduced where an earlier process was killed before that."""
    records = {}
    for cell in cells:
        record = store.read(cell)
        if record is None:
            continue
        if store.run(cell).homes.exists():
            store.reduce(cell)
        if cell.study.data.source != "phantoms" and named(record):
            record = store.numbered(cell, record, group_numbers(cell.study, cohorts.of(cell.study)))
        records[cell.key.identifier] = record
    others = sorted({record.wardround for record in records.values()} - {__version__})
    if others:
        watch.note(f"some finished cells were run by Wardround {', '.join(others)}; this is {__version__}")
    foreign = sum(record.code not in ("", store.code) for record in records.values())
    unknown = sum(not record.code for record in records.values())
    if foreign or unknown:
        counts = [f"{n} {how}" for n, how in ((foreign, "by other code"), (unknown, "by unknown code")) if n]
        watch.note(f"finished cells: {' and '.join(counts)}; this code is {store.code[:12]}")
    return records


def _run(
    cell: PlannedCell,
    store: CellStore,
    cohorts: CohortCache,
    backbone: Backbone,
    cache: Path,
    watch: Watcher,
    debug: bool,
) -> CellRecord | Failure:
    """One cell, from images to its record; an error of the cell's own becomes its record and the grid goes on."""
    try:
        with ExitStack() as stack:
            watch.stage("images")
            plan = deal(cell.study, cohorts.of(cell.study, lambda done, total: watch.progress(done, total, "images")))
            data, skipped = encode_study(
                cell.study,
                cell.method,
                plan,
                backbone,
                cache,
                lambda done, total, rate: watch.progress(done, total, "images", rate),
                watch.note,
                reader=stack.enter_context(image_index(cell.study, cache, note=watch.note)),
            )
            for words in left_out([(skip.path, skip.reason) for skip in skipped], brief=watch.brief):
                watch.note(words)
            result = run_cell(
                cell.study,
                cell.method,
                data,
                backbone.fingerprint,
                lambda: _run_folder(store, cell, stack),
                watch,
            )
    except OSError:
        raise
    except (PlatformError, PrivacyError, DataError, EvaluationError) as error:
        return store.fail(cell, error)
    except Exception as error:
        if debug:
            raise
        # A night's grid must not end at the first cell that meets a fault of ours, or runs out of memory.
        return store.fail(cell, error)
    return store.write(cell, result)


def _run_folder(store: CellStore, cell: PlannedCell, stack: ExitStack) -> RunFolder:
    """A federated cell's run folder, new or half-run, locked until the cell is done."""
    run = store.run(cell)
    run = RunFolder.resume(run.root, cell.study) if run.study.is_file() else RunFolder.create(run.root, cell.study)
    stack.enter_context(run.locked())
    return run
