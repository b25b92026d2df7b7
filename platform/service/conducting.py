"""The course of a study on real machines, as its coordinator conducts it: from the newest checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ...privacy.egress import Sealed
from ..config import Study
from ..consortium import Consortium
from ..engines.deployed import DeployedLine
from ..errors import RoundError
from ..figures_loop import FederatedFigures, sum_figures
from ..means_loop import sum_class_means
from ..methods.method import Method
from ..round_loop import Record, run_rounds, tell_of_ledgers
from ..run_folder import RunFolder
from ..watching import Watcher


@dataclass(frozen=True, slots=True)
class Conducted:
    """What a study came to, before anything of it is published.

    Attributes:
        records: lines of rounds.jsonl that released an adapter. unreleased: those of other tries.
        figures: sums over held-out images; None where none were to be made.
        seconds: of this process.
    """

    records: Sequence[Record]
    unreleased: Sequence[Record]
    figures: FederatedFigures | None
    seconds: float


def conduct(
    study: Study,
    method: Method,
    classes: tuple[str, ...],
    consortium: Consortium,
    run: RunFolder,
    line: DeployedLine,
    watch: Watcher,
) -> Conducted:
    """Everything that is still to be done; the caller holds the run's lock.

    Args:
        study, method: what is trained, and how. classes: names in label order.
        consortium: the coordinator alone. run: its folder. line: carries. watch: told of the progress.

    Raises:
        RoundError: a round released nothing in all its tries; the run is paused and can be resumed.
        StopRequestedError: somebody asked to stop; the run can be resumed.
        CheckpointError, PrivacyError: this side's own state or ledger is damaged.
    """
    began = time.monotonic()
    bounds = consortium.roster.roster.thresholds
    watch.note(
        f"threshold {bounds.t} of {bounds.n} sites; with up to {bounds.colluding} colluding, the coordinator "
        "learns the others' sum alone"
    )
    watch.stage("rounds")
    if consortium.coordinator.means_due:
        sum_class_means(study, classes, consortium, run, watch, line)
    records = run_rounds(study, method, None, consortium, run, watch, line)
    figures = sum_figures(study, classes, consortium, run, watch, line)
    line.carry(consortium, consortium.coordinator.finish())
    line.settle()
    tell_of_ledgers(consortium, watch)
    consortium.close_ledgers(study.digest())
    unreleased = [record for record in run.read_rounds() if not record.get("released", True)]
    return Conducted(records, unreleased, figures, time.monotonic() - began)


def concluded(
    study: Study, classes: tuple[str, ...], consortium: Consortium, run: RunFolder, watch: Watcher
) -> Conducted:
    """What a study came to whose last message was sent before a stop: everything is on disk, and nobody is asked.

    Args:
        study, classes, consortium, run, watch: as for :func:`conduct`; the ledger is closed.

    Raises:
        RoundError: rounds or sums are missing.
    """
    began = time.monotonic()
    if consortium.coordinator.info.round < study.rounds:
        raise RoundError(
            f"the ledger says that the study is over, and {consortium.coordinator.info.round} of its {study.rounds} "
            "rounds are done",
            where=str(run.coordinator),
            remedy="Restore checkpoint and ledger from one and the same backup",
        )
    figures = sum_figures(study, classes, consortium, run, watch, NoLine())
    known = run.read_rounds()
    records = [record for record in known if record.get("released", True)]
    unreleased = [record for record in known if not record.get("released", True)]
    return Conducted(records, unreleased, figures, time.monotonic() - began)


class NoLine:
    """Of a study that is over."""

    waited = 0.0

    def carry(self, consortium: Consortium, parcels: Iterable[Sealed]) -> None:
        """Nothing is sent any more.

        Raises:
            RoundError: something was to be.
        """
        raise RoundError("the study is over, and nothing is sent any more", remedy="Restore the run from a backup")

    def excuses(self, dropped: Collection[str]) -> bool:
        """Nothing is tried."""
        return False

    def between_rounds(self, consortium: Consortium, *, everybody: bool = False, patience: float | None = None) -> None:
        """Nobody is waited for, and a sum that was not made is not made any more.

        Raises:
            RoundError: one was to be.
        """
        raise RoundError(
            "the study is over, and a sum of figures was not made",
            remedy="Restore coordinator/held-out.json of the run from a backup",
        )


def abort(study: Study, consortium: Consortium, line: DeployedLine, watch: Watcher) -> None:
    """End a study before its end: sites are told, keep what they have, and their ledgers are cosigned once more."""
    watch.stage("aborting")
    line.carry(consortium, consortium.coordinator.finish(aborted=True))
    line.settle()
    tell_of_ledgers(consortium, watch)
    consortium.close_ledgers(study.digest())
