"""A simulated consortium: every site's home, key, ledger and gate, and the coordinator, in one process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..evaluation.sums.layout import VectorLayout
from ..privacy.atomic import make_private
from ..privacy.differential_privacy.budget import Budget
from ..privacy.egress import COORDINATOR
from ..privacy.home import SiteHome
from ..privacy.ledger.log import Ledger
from ..privacy.secure_aggregation.roster import PinnedRoster, Roster
from ..privacy.secure_aggregation.session import Purpose
from .adapter_file import AdapterInfo
from .config import Study
from .coordinator import Coordinator
from .coordinator_side import IDENTITY_FILE, open_coordinator, standing
from .enrolment import draw_roster, enrol_together, open_identity
from .held_out_memory import HELD_OUT_FILE
from .methods.method import Method, SharedInputs
from .run_folder import RunFolder
from .site_machine import Site
from .site_side import ROSTER_FILE, count_of, open_site, pin_roster
from .study_data import StudyData
from .study_split import kept_split
from .terms import Figures, Terms, figures_of, start_state, study_layout
from .trainer import LocalTrainer
from .update import Layout


@dataclass(frozen=True)
class Consortium:
    """Sites and coordinator, ready for the next round.

    Attributes:
        coordinator: at the newest checkpoint.
        sites: by name; empty where they are on machines of their own.
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
    info = AdapterInfo(digest, method.name, 0, backbone)
    at = standing(start, layout, info, run.coordinator, remembers=study.server.optimiser != "mean")
    with ExitStack() as stack:
        homes = {site.name: stack.enter_context(SiteHome.open(run.homes, site.name)) for site in data.sites}
        for home in homes.values():
            home.check_whole()
        identities = {name: open_identity(home.folder, home.identity) for name, home in homes.items()}
        keys = {name: identity.public_key for name, identity in identities.items()}
        make_private(run.coordinator)
        own = open_identity(run.coordinator, run.coordinator / IDENTITY_FILE)
        figures = _agreed(_figures(study, layout, data), [home.state(digest) / ROSTER_FILE for home in homes.values()])
        roster = draw_roster(study, method, layout, keys, samples_of(study, data), own.public_key, figures)
        for home in homes.values():
            pin_roster(home.state(digest) / ROSTER_FILE, roster.to_bytes())  # before anybody signs another one
        pinned = enrol_together(roster, identities, private=homes if study.private else ())
        terms = Terms(study, method, layout, start, pinned, backbone, figures)
        whole = kept_split(run.split)
        sides = {
            site.name: open_site(
                stack,
                terms,
                homes[site.name],
                identities[site.name],
                data,
                site,
                None if whole is None else whole.of_site(site.name),
            )
            for site in data.sites
        }
        latest = max(side.site.last_round for side in sides.values())
        figured = any((home.state(digest) / HELD_OUT_FILE).is_file() for home in homes.values())
        at.check_not_behind(study.rounds + 1 if figured else latest, study.rounds, constants=bool(layout.constants))
        begun = any(side.begun for side in sides.values())
        coordinator, ledger = open_coordinator(stack, terms, run, own, at, clock, begun=begun)
        yield Consortium(
            coordinator,
            {name: side.site for name, side in sides.items()},
            homes,
            {**{name: side.ledger for name, side in sides.items()}, COORDINATOR: ledger},
            {name: side.trainer for name, side in sides.items()},
            pinned,
            {name: side.budget for name, side in sides.items() if side.budget is not None},
            figures,
        )


def rehearse_roster(study: Study, method: Method, data: StudyData) -> None:
    """Draw the study's roster with stand-in keys, so that bad bounds show before any home is made.

    Raises:
        ParameterError, RosterError: a threshold, cohort, bound, name or count does not hold.
    """
    layout = study_layout(study, method, data.shared)
    keys = {site.name: hashlib.sha256(site.name.encode()).digest() for site in data.sites}
    draw_roster(study, method, layout, keys, samples_of(study, data), held_out=_figures(study, layout, data))


def _figures(study: Study, layout: Layout, data: StudyData) -> dict[Purpose, VectorLayout]:
    """What is summed over a simulation's sites after the last round."""
    return figures_of(study, layout, classes=len(data.cohort.dataset.classes), sites=len(data.sites))


def _agreed(figures: Figures, pinned: Sequence[Path]) -> dict[Purpose, VectorLayout]:
    """Without those that a roster which was signed before does not have: a run begun without them goes on so."""
    signed = [Roster.from_bytes(path.read_bytes()).vectors for path in pinned if path.is_file()]
    return {purpose: layout for purpose, layout in figures.items() if all(purpose in vectors for vectors in signed)}


def samples_of(study: Study, data: StudyData) -> dict[str, int]:
    """The public number of each site: training images, or units under differential privacy."""
    return {site.name: count_of(study, site) for site in data.sites}


def layout_of(method: Method, shared: SharedInputs, constants: Mapping[str, tuple[int, ...]] | None = None) -> Layout:
    """What of a method's module is sent, and what is sent along with it."""
    return Layout.of(method.new_module(shared, seed=0), local=method.local, constants=constants)
