"""The sum of class means before the first round: tried again by the study's policy, recorded, checkpointed."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..privacy.atomic import write_json
from .class_means import CLASS_MEANS, FEWEST, omitted
from .config import Study
from .consortium import Consortium
from .errors import RoundError, RunFolderError
from .line import Line
from .round_loop import AWAY, tell_of_ledgers
from .round_outcome import RoundOutcome
from .run_folder import RunFolder
from .watching import Watcher


def sum_class_means(
    study: Study, classes: Sequence[str], consortium: Consortium, run: RunFolder, watch: Watcher, line: Line
) -> None:
    """Sum the class means of a study that has none yet; what comes out is fixed for all its rounds.

    All sites of the cohort must take part, so a try without one of them ends, and ``study.retries`` more follow.

    Args:
        study: how often to try again.
        classes: names in label order.
        consortium, run, watch, line: as for the rounds.

    Raises:
        RoundError: the sum was not made in all its tries; the run is paused and can be resumed.
    """
    coordinator, failed = consortium.coordinator, 0
    while coordinator.means_due:
        line.between_rounds(consortium, everybody=True)
        line.carry(consortium, coordinator.begin())
        outcome = coordinator.outcome
        if outcome is None:
            raise RoundError("the sum of class means did not end", remedy="Continue with --resume")
        for name, (stage, reason) in outcome.dropped.items():
            kept = ", whose sums are in" if name in outcome.survivors else ""
            watch.note(f"class means: {name} dropped: {reason} at stage {stage}{kept}")
        for name, site in consortium.sites.items():
            if site.failure:
                watch.note(f"{name}: {site.failure}")
        if outcome.released:
            left_out = omitted(coordinator.next_constants[CLASS_MEANS], classes)
            # The record first, the checkpoint after it: without its checkpoint it is written again on resume.
            _record(outcome, classes, left_out, run)
            line.carry(consortium, coordinator.commit())
            tell_of_ledgers(consortium, watch)
            gone = f"; left out, with fewer than {FEWEST}: {', '.join(left_out)}" if left_out else ""
            watch.note(f"class means of {len(outcome.survivors)} sites' training images were summed, once{gone}")
            continue
        watch.note(f"class means: nothing was released: {outcome.reason}")
        failed += not (outcome.taken_up or line.excuses(outcome.dropped))
        if failed > study.retries:
            raise _paused(outcome, study, consortium)
        watch.note("the sum of class means is tried again")


def _record(outcome: RoundOutcome, classes: Sequence[str], left_out: Sequence[str], run: RunFolder) -> None:
    """``coordinator/class-means.json``: who, which classes, and what the try cost; no counts, nor anything of them."""
    content = {
        "cohort": list(outcome.survivors),
        "classes": list(classes),
        "omitted": list(left_out),
        "bytes_up": outcome.bytes_up,
        "bytes_down": outcome.bytes_down,
        "seconds": round(outcome.seconds["total"], 4),
    }
    write_json(run.class_means, content)


def seconds_spent(run: RunFolder) -> float:
    """Seconds that the sum of class means took in an earlier process; 0 where none was made.

    Raises:
        RunFolderError: the record is damaged.
    """
    if not run.class_means.is_file():
        return 0.0
    try:
        return float(json.loads(run.class_means.read_bytes())["seconds"])
    except (ValueError, KeyError, TypeError):
        raise RunFolderError(
            "the record of the class means is damaged", where=str(run.class_means), remedy="Restore it from a backup"
        ) from None


def _paused(outcome: RoundOutcome, study: Study, consortium: Consortium) -> RoundError:
    """As for a round: who was silent can come back, who refuses will refuse again."""
    failures = [f"{name}: {site.failure}" for name, site in consortium.sites.items() if site.failure]
    dropped = [f"{name} ({stage}: {reason})" for name, (stage, reason) in outcome.dropped.items()]
    away = {reason.split(" ")[0] for _, reason in outcome.dropped.values()} <= AWAY
    if failures:
        remedy = "Mend that, then continue with --resume"
    elif away:
        remedy = "When all sites are back, continue with --resume"
    else:
        remedy = "Sites refuse; find out what, mend it, and continue with --resume, or start a new run"
    tries = study.retries + 1
    return RoundError(
        f"the class means were not summed in {tries} {'try' if tries == 1 else 'tries'}: {outcome.reason}",
        where="; ".join(failures or dropped),
        remedy=f"The study is paused before its first round; every site of the cohort is needed once. {remedy}",
    )
