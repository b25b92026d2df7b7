"""The rounds of a study, one after the other: tried again by the study's policy, recorded either way, checkpointed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..evaluation.metrics import figures
from .adapters import State
from .assessment import trained
from .config import Study
from .consortium import Consortium
from .errors import RoundError, RunFolderError
from .faults import LyingCoordinator
from .line import Line
from .methods.method import Method
from .round_outcome import RoundOutcome
from .run_folder import RunFolder
from .study_data import StudyData
from .watching import Watcher

Record = Mapping[str, Any]
AWAY = {"timeout", "silent", "too-few", "out-of-order", "wrong-session"}
"""Reasons of sites that are not there, or lost a session with their power, and of the attempt that ends for it."""


def run_rounds(
    study: Study,
    method: Method,
    data: StudyData | None,
    consortium: Consortium,
    run: RunFolder,
    watch: Watcher,
    line: Line,
) -> list[Record]:
    """Every round that is still to be done; returns the lines of rounds.jsonl of all that released an adapter.

    A round that releases nothing is tried again ``study.retries`` times. Every try is a line in rounds.jsonl.

    Args:
        study, method: what is trained, and how.
        data: of a simulation, whose validation parts are looked at after each round; None where sites hold them.
        consortium, run, watch: who takes part, where it is written down, and who is told.
        line: what carries the messages.

    Raises:
        RoundError: a round released nothing in all its tries; the run is paused and can be resumed.
        RunFolderError: rounds.jsonl lacks a round that the checkpoint knows.
    """
    coordinator = consortium.coordinator
    records = _records_so_far(run, coordinator.info.round)
    if coordinator.info.round:
        watch.note(f"going on after round {coordinator.info.round} of {study.rounds}")
    while coordinator.info.round < study.rounds:
        number, failed = coordinator.info.round + 1, 0
        while coordinator.info.round < number:
            line.between_rounds(consortium)
            waited = line.waited
            line.carry(consortium, coordinator.begin())
            outcome = coordinator.outcome
            if outcome is None:
                raise RoundError(f"round {number} did not end", remedy="Continue with --resume")
            _tell(number, outcome, consortium, watch)
            validation: dict[str, Any] = {}
            if data is not None and outcome.released:
                validation = _validation(method, data, coordinator.next_state)
            # The line first, the checkpoint after it: a line without its checkpoint is dropped on resume, so no round
            # is ever missing from the list.
            records.append(outcome.record(number, validation, line.waited - waited))
            run.write_rounds(records)
            if outcome.released:
                line.carry(consortium, coordinator.commit())
                tell_of_ledgers(consortium, watch)
                watch.round_done(records[-1], study.rounds)
                continue
            failed += not (
                outcome.taken_up or line.excuses(outcome.dropped)
            )  # a session that did not survive a restart is nobody's failure
            if failed > study.retries:
                raise _paused(number, outcome, study, consortium)
            used = f"{failed} of {study.retries} retries" if failed else "what a restart cost is no retry"
            watch.note(f"round {number} is tried again ({used})")
    return [record for record in records if record.get("released", True)]


def tell_of_ledgers(consortium: Consortium, watch: Watcher) -> None:
    """Say whose ledger was not cosigned, and why."""
    cosigning = consortium.coordinator.cosigning
    if cosigning is not None:
        for note in cosigning.notes:
            watch.note(note)
        cosigning.notes.clear()


def _records_so_far(run: RunFolder, done: int) -> list[Record]:
    """Lines of rounds that the checkpoint knows, and of the tries at the next one that released nothing."""
    known = [record for record in run.read_rounds() if record["round"] <= done or not record.get("released", True)]
    if [record["round"] for record in known if record.get("released", True)] != list(range(1, done + 1)):
        raise RunFolderError(
            f"rounds.jsonl lacks some of the {done} rounds that the checkpoint knows",
            where=str(run.rounds),
            remedy="Restore it from a backup, or start a new run",
        )
    return [record for record in known if record["round"] <= done + 1]


def _tell(number: int, outcome: RoundOutcome, consortium: Consortium, watch: Watcher) -> None:
    """Say who dropped, where and why, and what went wrong at a site; these reasons stay where they are shown."""
    coordinator = consortium.coordinator
    if isinstance(coordinator, LyingCoordinator):
        for told, lie in coordinator.told:
            watch.note(f"round {told}: the coordinator lied, as scripted: {lie}")
        coordinator.told.clear()
    for name, (stage, reason) in outcome.dropped.items():
        verb = "went on without" if outcome.released else "lost"
        kept = ", whose vector is in the sum" if name in outcome.survivors else ""
        watch.note(f"round {number} {verb} {name}: {reason} at stage {stage}{kept}")
    for name, site in consortium.sites.items():
        for text in (site.failure, site.notice):
            if text:
                watch.note(f"{name}: {text}")
        if sum(site.clipped.values()):
            watch.note(f"{name}: {sum(site.clipped.values())} coordinates of the update were cut at the clip")
    if not outcome.released:
        watch.note(f"round {number} released nothing: {outcome.reason}")


def _paused(number: int, outcome: RoundOutcome, study: Study, consortium: Consortium) -> RoundError:
    """What to do depends on why: who was silent can come back, who refuses will refuse again."""
    failures = [f"{name}: {site.failure}" for name, site in consortium.sites.items() if site.failure]
    dropped = [f"{name} ({stage}: {reason})" for name, (stage, reason) in outcome.dropped.items()]
    reasons = {reason.split(" ")[0] for _, reason in outcome.dropped.values()} | {outcome.reason.split(" ")[0]}
    if failures:
        remedy = "Mend that, then continue with --resume"
    elif reasons <= AWAY:
        remedy = "When the sites are back, continue with --resume"
    else:
        remedy = (
            "Sites refuse, and refuse again when asked alike: find out who sent what they refuse. --resume goes on "
            "only if that was mended; sites train on one adapter and sign one survivor set a round, so otherwise start "
            "a new run"
        )
    tries = study.retries + 1
    return RoundError(
        f"round {number} released nothing in {tries} {'try' if tries == 1 else 'tries'}: {outcome.reason}",
        where="; ".join(failures or dropped),
        remedy=f"The study is paused; the adapter of the round before is kept. {remedy}",
    )


def _validation(method: Method, data: StudyData, state: State) -> dict[str, Any]:
    """Balanced accuracy of the new adapter on the sites' validation parts; a simulation may look, nobody sends it."""
    predict = trained(method, state, data.shared)
    classes = data.cohort.dataset.class_names
    parts = {site.name: site.validation for site in data.sites}
    logits = {name: predict(part.inputs(method.consumes)) for name, part in parts.items()}
    own = {name: figures(logits[name], part.labels, classes=classes).balanced_accuracy for name, part in parts.items()}
    together = figures(
        np.concatenate(list(logits.values())),
        np.concatenate([part.labels for part in parts.values()]),
        classes=classes,
    )
    return {"balanced_accuracy": together.balanced_accuracy, "sites": own}
