"""The coordinator, opened for a study from its run folder: the same in a simulation and on a machine of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..privacy.atomic import make_private
from ..privacy.egress import COORDINATOR
from ..privacy.identity import Identity
from ..privacy.ledger.coordinator_witness import CoordinatorWitness
from ..privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ..privacy.ledger.evidence import EvidenceStore
from ..privacy.ledger.log import Ledger
from .adapter_file import AdapterInfo
from .adapters import State
from .checkpoint import Checkpoints
from .class_means import CLASS_MEANS, check_means
from .coordinator import Coordinator
from .cosigning import PATIENCE, Cosigning
from .errors import CheckpointError
from .faults import LyingCoordinator
from .opening import open_gate
from .round_store import RoundStore
from .run_folder import RunFolder
from .terms import Terms
from .update import Layout

IDENTITY_FILE = "identity.pem"


@dataclass(frozen=True)
class Standing:
    """Where the coordinator's checkpoints say that a study stands.

    Attributes:
        info: of the newest checkpoint, or of the start. state: its adapter. constants: its class means; empty before
            they are known. memory: the server optimiser's moments. found: whether there was a checkpoint.
        checkpoints: where they lie.
    """

    info: AdapterInfo
    state: State
    constants: State
    memory: State
    found: bool
    checkpoints: Checkpoints

    def check_not_behind(self, latest: int, rounds: int, *, constants: bool) -> None:
        """Refuse a checkpoint that is older than what sites have taken part in.

        Args:
            latest: the last round that a site has opened; ``rounds`` + 1 for the sums after the last.
            rounds: of the study.
            constants: whether the study has class means.

        Raises:
            CheckpointError: it is older, or gone.
        """
        if self.info.round < latest - 1 or (latest and constants and not self.constants):
            held = f"of round {self.info.round}" if self.found else "gone"
            later = "the sums after the last round" if latest > rounds else f"round {latest}"
            raise CheckpointError(
                f"the newest checkpoint is {held}, but sites have taken part in {later}",
                where=str(self.checkpoints.folder),
                remedy="Restore this folder from a backup, or start a new run: sites take no part in an older round",
            )


def standing(terms_start: State, layout: Layout, info: AdapterInfo, folder: Path, *, remembers: bool) -> Standing:
    """Read the newest checkpoint.

    Args:
        terms_start: the adapter before round 1. layout: of it.
        info: study, method and backbone, at round 0.
        folder: the coordinator's.
        remembers: whether the server optimiser has moments.

    Raises:
        CheckpointError: the newest checkpoint is damaged, or of another study or backbone.
    """
    checkpoints = Checkpoints(folder / "checkpoint")
    newest = checkpoints.newest(study=info.study, backbone=info.backbone)
    if newest is None:
        return Standing(info, terms_start, {}, {}, False, checkpoints)
    sent, now = newest
    state, constants = _apart(layout, sent, checkpoints.folder)
    memory = checkpoints.memory(now) if remembers and now.round > 0 else {}
    return Standing(now, state, constants, memory, True, checkpoints)


def open_coordinator(
    stack: ExitStack,
    terms: Terms,
    run: RunFolder,
    identity: Identity,
    at: Standing,
    clock: Callable[[], float],
    *,
    begun: bool,
    reopens: bool = True,
) -> tuple[Coordinator, Ledger]:
    """Open the coordinator's ledger, gate and state machine.

    Args:
        stack: what is opened is closed with it.
        terms: of the study. run: its folder. identity: the coordinator's own.
        at: where the study stands. clock: monotonic seconds, by which stages end.
        begun: whether a site has taken part before. reopens: as for :func:`.opening.open_gate`.

    Raises:
        LedgerError, PolicyError: the ledger or the policy is damaged, or the ledger is gone.
    """
    study, lying = terms.study, bool(terms.study.faults.lying_coordinator)
    make_private(run.coordinator)
    # A liar's own policy does not hold it back; sites' policies are what it must get past.
    cohort = 2 if lying else None
    opened = open_gate(
        stack, terms, COORDINATOR, identity, run.coordinator, begun=begun, minimum_cohort=cohort, reopens=reopens
    )
    unfinished = RoundStore(run.coordinator / "unfinished")
    unfinished.sweep()
    parts = (
        terms.roster,
        opened.gate,
        terms.layout,
        at.info,
        at.state,
        at.checkpoints,
        unfinished,
        terms.limits,
        clock,
    )
    evidence = EvidenceStore(run.coordinator / CHECKPOINTS)
    witness = CoordinatorWitness(identity, opened.key, opened.ledger, terms.roster, run.coordinator, evidence)
    patience = min(PATIENCE, study.round_timeout)
    cosigning = Cosigning(witness, opened.gate, opened.ledger, terms.digest, clock, patience)
    rules = (study.round_timeout, study.retries, study.server, at.memory, at.constants, cosigning)
    made = LyingCoordinator(*parts, *rules, script=study.faults) if lying else Coordinator(*parts, *rules)
    return made, opened.ledger


def _apart(layout: Layout, sent: State, folder: Path) -> tuple[State, State]:
    """A checkpoint's adapter and constants.

    Raises:
        CheckpointError: the constants are not this study's.
    """
    try:
        state, constants = layout.split(sent)
        if constants:
            check_means(constants[CLASS_MEANS])
    except CheckpointError as error:
        raise CheckpointError(
            f"the newest checkpoint: {error.what}", where=str(folder), remedy="Restore this folder from a backup"
        ) from None
    return state, constants
