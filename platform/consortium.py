"""A simulated consortium: every site's home, key, ledger and gate, and the coordinator, in one process."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from .. import __version__
from ..evaluation.sums.layout import VectorLayout
from ..privacy.atomic import make_private, write_atomic
from ..privacy.differential_privacy.budget import Budget
from ..privacy.egress import COORDINATOR, Gate, StudyFacts
from ..privacy.errors import LedgerError
from ..privacy.home import SiteHome
from ..privacy.identity import fingerprint_hex
from ..privacy.ledger.coordinator_witness import CoordinatorWitness
from ..privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ..privacy.ledger.evidence import EvidenceStore
from ..privacy.ledger.keys import LedgerKey, open_key
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.rosters import keep_roster
from ..privacy.ledger.site_witness import SiteWitness
from ..privacy.messages import Limits
from ..privacy.policy import Policy
from ..privacy.policy_file import default_policy_toml
from ..privacy.secure_aggregation.roster import PinnedRoster, Roster
from ..privacy.secure_aggregation.session import Purpose
from .adapter_file import AdapterInfo, dump_adapter
from .adapters import State, state_of, under
from .calibration import carries_temperature
from .checkpoint import Checkpoints
from .class_means import CLASS_MEANS, check_means, constants_of
from .config import Study
from .coordinator import Coordinator
from .cosigning import PATIENCE, Cosigning
from .enrolment import draw_roster, enrol_together, open_identity
from .errors import CheckpointError
from .faults import DishonestSite, LyingCoordinator
from .held_out import HeldOut, held_out_layouts
from .held_out_memory import HELD_OUT_FILE
from .means_memory import MEANS_FILE
from .methods.method import Method, SharedInputs
from .private_plan import units_of
from .private_site import private_site
from .progress import PROGRESS_FILE
from .round_store import RoundStore
from .run_folder import RunFolder
from .site_machine import Site
from .study_data import SiteData, StudyData
from .study_split import keep_split, kept_split, own_split
from .trainer import LocalTrainer
from .training import derive_seed
from .update import Layout
from .withdrawn import check_left_out

ADAPTER_HEADROOM = 4096  # bytes of a safetensors header beyond the one that was measured
ROSTER_FILE = "roster.json"
IDENTITY_FILE = "identity.pem"
LABEL_COMMITMENT = b"wardround/v1/commitment"
Figures = dict[Purpose, VectorLayout]


@dataclass(frozen=True)
class Consortium:
    """Sites and coordinator, ready for the next round.

    Attributes:
        coordinator: at the newest checkpoint.
        sites: by name.
        homes: by name; locked while the consortium is open.
        ledgers: by name, and ``"coordinator"``.
        trainers: by name.
        roster: pinned.
        budgets: by site; empty without differential privacy.
        figures: vectors that are summed after the last round, by purpose.
    """

    coordinator: Coordinator
    sites: Mapping[str, Site]
    homes: Mapping[str, SiteHome]
    ledgers: Mapping[str, Ledger]
    trainers: Mapping[str, LocalTrainer]
    roster: PinnedRoster
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)

    def close_ledgers(self, study: str) -> None:
        """Write the ``close`` entry of the study at both ends, where it is still open."""
        for ledger in self.ledgers.values():
            if ledger.is_open(study):
                ledger.close_study(study)


@contextmanager
def open_consortium(
    study: Study,
    method: Method,
    data: StudyData,
    backbone: str,
    run: RunFolder,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Consortium]:
    """Open (or make) every home of a simulation, enrol the sites, and stand at the newest checkpoint.

    Args:
        study: the study.
        method: its method.
        data: each site's features.
        backbone: fingerprint of the frozen CLIP.
        run: where homes and checkpoints lie.
        clock: monotonic seconds, by which the coordinator's stages end.

    Raises:
        HomeError: another process holds a home.
        LedgerError: a ledger is broken, or is gone although the study was begun.
        CheckpointError: the newest checkpoint is damaged or of another backbone, or the roster changed.
        ParameterError, RosterError: the roster cannot be drawn.
    """
    digest = study.digest()
    start = start_state(study, method, data.shared)
    layout = study_layout(study, method, data.shared)
    checkpoints = Checkpoints(run.coordinator / "checkpoint")
    newest = checkpoints.newest(study=digest, backbone=backbone)
    sent, info = newest or (start, AdapterInfo(digest, method.name, 0, backbone))
    state, constants = _apart(layout, sent, checkpoints.folder) if newest else (sent, {})
    remembers = study.server.optimiser != "mean" and info.round > 0
    memory = checkpoints.memory(info) if remembers else {}
    with ExitStack() as stack:
        homes = {site.name: stack.enter_context(SiteHome.open(run.homes, site.name)) for site in data.sites}
        for home in homes.values():
            home.check_whole()
        identities = {name: open_identity(home.folder, home.identity) for name, home in homes.items()}
        keys = {name: identity.public_key for name, identity in identities.items()}
        make_private(run.coordinator)
        own = open_identity(run.coordinator, run.coordinator / IDENTITY_FILE)
        figures = _agreed(
            figures_of(study, layout, data), [home.state(digest) / ROSTER_FILE for home in homes.values()]
        )
        roster = draw_roster(study, method, layout, keys, samples_of(study, data), own.public_key, figures)
        for home in homes.values():
            _pin(home.state(digest) / ROSTER_FILE, roster.to_bytes())  # before anybody signs another one
        pinned = enrol_together(roster, identities, private=homes if study.private else ())
        largest = {**start, **layout.blank()}
        adapter_bytes = len(dump_adapter(largest, AdapterInfo(digest, method.name, study.rounds, backbone)))
        vector_bytes = max(roster.wire_size(purpose) for purpose in roster.vectors)
        limits = Limits(len(homes), vector_bytes, adapter_bytes + ADAPTER_HEADROOM)
        epsilon, delta = (study.privacy.epsilon, study.privacy.delta) if study.private else (None, None)
        facts = StudyFacts(
            roster=pinned,
            method=method.name,
            epsilon=epsilon,
            delta=delta,
            model=backbone,
            software=f"wardround {__version__}",
        )

        lying = bool(study.faults.lying_coordinator)

        def gate(
            owner: str, ledger_path: Path, policy_path: Path, begun: bool, split: Callable[[str], str] | None = None
        ) -> tuple[Gate, Ledger, LedgerKey]:
            ledger = stack.enter_context(Ledger.open(ledger_path, owner=owner, clock=lambda: datetime.now(UTC)))
            if begun and not ledger.knows(digest):
                raise LedgerError(
                    f"{owner} has begun this study, but its ledger does not know it: it is gone or was replaced",
                    where=str(ledger_path),
                    remedy="Restore it from a backup: without it nobody could show what had left. Else start a new run",
                )
            if not policy_path.exists():
                text = default_policy_toml(
                    "coordinator" if owner == COORDINATOR else "site",
                    studies=[digest],
                    methods=[method.name],
                    limits=limits,
                    # A liar's own policy does not hold it back; sites' policies are what it must get past.
                    minimum_cohort=2 if lying and owner == COORDINATOR else roster.thresholds.m,
                    purposes=list(roster.vectors),
                    coordinators=[fingerprint_hex(own.public_key)],
                )
                write_atomic(policy_path, text.encode())
            policy = Policy.load(policy_path)
            budget, identity = None, own if owner == COORDINATOR else identities[owner]
            if study.private and owner != COORDINATOR:
                budget = budgets[owner] = Budget.open(
                    homes[owner].budget, site=owner, identity=identity, ledger=ledger, policy_budget=policy.budget
                )
            key = open_key(ledger_path.parent, identity, ledger)
            keep_roster(ledger_path.parent, roster)
            named = {} if split is None else {"split": split(ledger.split_of(digest))}
            ledger.open_study(  # after the budget: nothing is opened on a doubt
                digest,
                roster=roster.digest.hex(),
                identity=fingerprint_hex(identity.public_key),
                coordinator=fingerprint_hex(own.public_key),
                **named,
            )
            made = Gate(
                owner=owner,
                ledger=ledger,
                policy=policy,
                facts=facts,
                limits=limits,
                budget=budget,
                commit=partial(identity.commit, LABEL_COMMITMENT),
            )
            return made, ledger, key

        whole = kept_split(run.split)
        budgets: dict[str, Budget] = {}
        sites, ledgers, trainers, entered = {}, {}, {}, dict.fromkeys(homes, False)
        for site in data.sites:
            name, home = site.name, homes[site.name]
            folder = home.state(digest)
            entered[name] = any((folder / file).is_file() for file in (PROGRESS_FILE, MEANS_FILE, HELD_OUT_FILE))
            of_site = (site.train.rows, site.validation.rows, site.test.rows)
            now = partial(own_split, study, data.cohort, name, of_site)
            split = partial(keep_split, folder, now, None if whole is None else whole.of_site(name))
            site_gate, ledgers[name], key = gate(name, home.ledger, home.policy, entered[name], split)
            store = EvidenceStore(home.folder / CHECKPOINTS)
            witness = SiteWitness(name, identities[name], key, ledgers[name], pinned, store, time.time)
            check_left_out(home.folder, data.cohort, np.concatenate(of_site))
            part, held_out = (each.training(method.consumes) for each in (site.train, site.validation))
            private = private_site(study, method, site.train, budgets[name], folder) if study.private else None
            trainers[name] = LocalTrainer(name, study, method, layout, part, held_out, data.shared, folder, private)
            facts_of_site = (name, identities[name], pinned, site_gate, trainers[name], backbone, folder, study.rounds)
            cheats = tuple(fault for fault in study.faults.dishonest_share if fault.site == name)
            parts_of_site = (*facts_of_site, os.urandom, witness, _held_out(study, method, data, site, figures))
            sites[name] = DishonestSite(*parts_of_site, script=cheats) if cheats else Site(*parts_of_site)
        latest = max(site.last_round for site in sites.values())
        figured = any((homes[name].state(digest) / HELD_OUT_FILE).is_file() for name in sites)
        latest = study.rounds + 1 if figured else latest
        if info.round < latest - 1 or (latest and layout.constants and not constants):
            held = f"of round {info.round}" if newest else "gone"
            later = "the sums after the last round" if figured else f"round {latest}"
            raise CheckpointError(
                f"the newest checkpoint is {held}, but sites have taken part in {later}",
                where=str(checkpoints.folder),
                remedy="Restore this folder from a backup, or start a new run: sites take no part in an older round",
            )
        own_gate, ledgers[COORDINATOR], own_key = gate(
            COORDINATOR, run.coordinator / "ledger.jsonl", run.coordinator / "policy.toml", any(entered.values())
        )
        unfinished = RoundStore(run.coordinator / "unfinished")
        unfinished.sweep()
        parts = (pinned, own_gate, layout, info, state, checkpoints, unfinished, limits, clock)
        witnessing = CoordinatorWitness(
            own, own_key, ledgers[COORDINATOR], pinned, run.coordinator, EvidenceStore(run.coordinator / CHECKPOINTS)
        )
        patience = min(PATIENCE, study.round_timeout)
        cosigning = Cosigning(witnessing, own_gate, ledgers[COORDINATOR], digest, clock, patience)
        policy = (study.round_timeout, study.retries, study.server, memory, constants, cosigning)
        coordinator = LyingCoordinator(*parts, *policy, script=study.faults) if lying else Coordinator(*parts, *policy)
        yield Consortium(coordinator, sites, homes, ledgers, trainers, pinned, budgets, figures)


def rehearse_roster(study: Study, method: Method, data: StudyData) -> None:
    """Draw the study's roster with stand-in keys, so that bad bounds show before any home is made.

    Raises:
        ParameterError, RosterError: a threshold, cohort, bound, name or count does not hold.
    """
    layout = study_layout(study, method, data.shared)
    keys = {site.name: hashlib.sha256(site.name.encode()).digest() for site in data.sites}
    draw_roster(study, method, layout, keys, samples_of(study, data), held_out=figures_of(study, layout, data))


def figures_of(study: Study, layout: Layout, data: StudyData) -> Figures:
    """What is summed over sites after the last round; ``layout`` is of the updates."""
    carries = carries_temperature([name for name, _ in layout.parameters])
    return held_out_layouts(study, len(data.cohort.dataset.classes), len(data.sites), carries=carries)


def _agreed(figures: Figures, pinned: Sequence[Path]) -> Figures:
    """Without those that a roster which was signed before does not have: a run begun without them goes on so."""
    signed = [Roster.from_bytes(path.read_bytes()).vectors for path in pinned if path.is_file()]
    return {purpose: layout for purpose, layout in figures.items() if all(purpose in vectors for vectors in signed)}


def _held_out(study: Study, method: Method, data: StudyData, site: SiteData, layouts: Figures) -> HeldOut | None:
    """What a site adds to those sums."""
    levels = study.evaluation.levels
    if not layouts:
        return None
    of_row = data.cohort.records
    subgroups = {column: [of_row[row].subgroups.get(column, "") for row in site.test.rows] for column in levels}
    parts = (site.validation, site.test)
    return HeldOut(method, data.shared, layouts, *parts, subgroups, levels, study.evaluation.thresholds)


def samples_of(study: Study, data: StudyData) -> dict[str, int]:
    """The public number of each site: training images, or units under differential privacy."""
    if study.private:
        return {site.name: units_of(study, site.train).count for site in data.sites}
    return {site.name: len(site.train) for site in data.sites}


def study_layout(study: Study, method: Method, shared: SharedInputs) -> Layout:
    """What a study's sites send, and what the coordinator sends along."""
    module = method.new_module(shared, seed=0)
    constants = constants_of(study, shared)
    return Layout.of(module, local=method.local, constants=constants, metrics=not study.private)


def layout_of(method: Method, shared: SharedInputs, constants: Mapping[str, tuple[int, ...]] | None = None) -> Layout:
    """What of a method's module is sent, and what is sent along with it."""
    return Layout.of(method.new_module(shared, seed=0), local=method.local, constants=constants)


def start_state(study: Study, method: Method, shared: SharedInputs) -> State:
    """The global tensors before round 1, the same wherever they are made."""
    module = method.new_module(shared, seed=derive_seed("adapter", study.seed))
    return {name: tensor for name, tensor in state_of(module).items() if not under(name, method.local)}


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


def _pin(path: Path, roster: bytes) -> None:
    """Keep the roster that the site signed; a different one later is refused."""
    if not path.exists():
        write_atomic(path, roster)
    elif path.read_bytes() != roster:
        raise CheckpointError(
            "the roster differs from the one that this site signed",
            where=str(path),
            remedy="A roster is fixed for a study; start a new run",
        )
