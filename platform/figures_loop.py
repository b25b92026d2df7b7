"""The two sums of figures after a study's last round: tried again by the study's policy, recorded, never waited for.

What each came to is written down before the next thing is done, so a stop in between repeats nothing. A sum that was
not made leaves its figure unknown, and the study ends all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.calibration.temperature import fit_federated, grid
from ..evaluation.errors import InvalidPredictionsError
from ..evaluation.sums.summed import SummedFigures
from ..privacy.atomic import write_json
from ..privacy.errors import Refusal
from ..privacy.secure_aggregation.session import Purpose
from .config import Study
from .consortium import Consortium
from .errors import RunFolderError
from .held_out import EVALUATION, FIGURES, TEMPERATURE, settings_of
from .line import Line
from .run_folder import RunFolder
from .watching import Watcher

VALUES, REASON, ADAPTER, PUBLISHED = "values", "reason", "adapter", "published"


@dataclass(frozen=True)
class FederatedFigures:
    """What the sums came to; what was not summed is None, with the reason.

    Attributes:
        temperature: of the grid; None where it is not known.
        summed: exact, so it is the coordinator's and not to be published.
        reasons: by purpose, why nothing came of a sum that was to be made.
    """

    temperature: float | None
    summed: SummedFigures | None
    reasons: Mapping[str, str]


def sum_figures(
    study: Study,
    classes: tuple[str, ...],
    consortium: Consortium,
    run: RunFolder,
    watch: Watcher,
    line: Line,
) -> FederatedFigures | None:
    """Sum what the roster says; None where it says that no figures are summed.

    Args:
        study: levels and tries. classes: names in label order.
        consortium, run, watch, line: as for the rounds, all of which are done.

    Raises:
        RunFolderError: the record of earlier sums is damaged, or of another adapter.
    """
    layouts = consortium.figures
    if not layouts:
        return None
    watch.stage("figures of all sites")
    adapter = hashlib.sha256(consortium.coordinator.sent(consortium.coordinator.state)).hexdigest()
    record = _read(run, adapter)
    temperature, summed, reasons = None, None, {}
    for purpose in layouts:
        if purpose not in record:
            settings = settings_of(study.digest(), consortium.coordinator.info.round, purpose, temperature)
            record[purpose] = _sum(purpose, settings, study, consortium, watch, line)
            write_json(run.held_out, record)
        consortium.coordinator.end_figures()
        found = record[purpose]
        try:
            if VALUES not in found:
                raise InvalidPredictionsError(found.get(REASON, "the sums were published and erased"))
            fields = layouts[purpose].unpack(np.array(found[VALUES], dtype=np.float64))
            if purpose == TEMPERATURE:
                temperature = _temperature(fields, layouts[purpose].bits)
            if purpose == EVALUATION:
                summed = SummedFigures.of(
                    fields,
                    classes=classes,
                    sites=len(consortium.roster.roster.evaluation_cohort),
                    temperature=temperature,
                    levels=study.evaluation.levels,
                )
        except InvalidPredictionsError as error:
            reasons[str(purpose)] = error.what
            watch.note(f"the figures of all sites ({purpose}) are not known: {error.what}")
    return FederatedFigures(temperature, summed, reasons)


def sums_are_made(run: RunFolder, figures: Collection[Purpose]) -> bool:
    """Whether it is on disk what each of these sums came to, so that nobody is asked for them any more.

    Raises:
        RunFolderError: the record is damaged.
    """
    record = _read(run, None)
    return all(purpose in record for purpose in figures)


def erase_sums(run: RunFolder) -> None:
    """Figures are published: the exact sums, which hold small cells, are kept no longer. The run is locked.

    Raises:
        RunFolderError: the record is damaged.
    """
    if run.held_out.is_file():
        record = _read(run, None)
        for found in record.values():
            if isinstance(found, dict) and found.pop(VALUES, None) is not None:
                found[PUBLISHED] = True
        write_json(run.held_out, record)


def _sum(
    purpose: Purpose, settings: bytes, study: Study, consortium: Consortium, watch: Watcher, line: Line
) -> dict[str, Any]:
    """One sum, in at most ``study.retries`` + 1 tries: its values, or the reason why there are none."""
    coordinator, failed = consortium.coordinator, 0
    while True:
        line.between_rounds(consortium, everybody=True, patience=study.round_timeout)
        start = coordinator.begin_figures(purpose, settings)
        line.carry(consortium, start)
        outcome = coordinator.outcome
        if outcome is None:
            return {REASON: "the sum did not end"}
        for name, (stage, reason) in outcome.dropped.items():
            watch.note(f"figures ({purpose}): {name} dropped: {reason} at stage {stage}")
        for name, site in consortium.sites.items():
            if site.failure:
                watch.note(f"{name}: {site.failure}")
        if outcome.released:
            values = coordinator.figures[FIGURES]
            return {VALUES: [int(value) for value in values]}
        failed += not (outcome.taken_up or line.excuses(outcome.dropped))
        # Whether a vector is out of bounds must not be asked twice: the answer would tell of the others' cells.
        if failed > study.retries or outcome.reason.startswith(str(Refusal.OUT_OF_BOUND)):
            return {REASON: outcome.reason}
        watch.note(f"figures ({purpose}): nothing was released: {outcome.reason}; tried again")


def _temperature(fields: Mapping[str, NDArray[np.float64]], bits: int) -> float | None:
    """The federated temperature.

    Raises:
        InvalidPredictionsError: no images can have such sums: the likelihood of any is convex in 1 / T.
    """
    nll, x = fields["nll"], 1.0 / grid()
    share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
    chord = nll[:-2] * (1.0 - share) + nll[2:] * share
    whole = np.maximum(np.maximum(nll[:-2], nll[2:]), nll[1:-1]) < 2.0**bits - 2  # no site's sum was cut there
    if np.any(whole & (nll[1:-1] > chord + 1e-3 + 1e-9 * chord)):
        raise InvalidPredictionsError("the likelihoods are of no images")
    return fit_federated(nll, n=int(fields["n"]))


def _read(run: RunFolder, adapter: str | None) -> dict[str, Any]:
    """The record so far, of this adapter; of any with None.

    Raises:
        RunFolderError: it is damaged, or of another adapter.
    """
    if not run.held_out.is_file():
        return {ADAPTER: adapter}
    try:
        record = json.loads(run.held_out.read_bytes())
        sound = isinstance(record, dict) and adapter in (None, record[ADAPTER])
        sums = [found for key, found in record.items() if key != ADAPTER] if sound else []
        sound = sound and all(sum(bool(found.get(key)) for key in (REASON, VALUES, PUBLISHED)) == 1 for found in sums)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise RunFolderError(
            "the record of the sums of figures is damaged, or of another adapter",
            where=str(run.held_out),
            remedy="Restore it from a backup; without it these figures cannot be had again",
        )
    return dict(record)
