"""A site, opened for a study from its home: the same in a simulation and on a hospital's own machine."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..medical_datasets.split_record import SplitRecord
from ..privacy.atomic import write_atomic
from ..privacy.differential_privacy.budget import Budget
from ..privacy.errors import HomeError
from ..privacy.home import SiteHome
from ..privacy.identity import Identity
from ..privacy.ledger.evidence import FOLDER as CHECKPOINTS
from ..privacy.ledger.evidence import EvidenceStore
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.site_witness import SiteWitness
from .config import Study
from .errors import CheckpointError
from .faults import DishonestSite
from .held_out import HeldOut
from .held_out_memory import HELD_OUT_FILE
from .means_memory import MEANS_FILE
from .opening import open_gate
from .private_plan import units_of
from .private_site import private_site
from .progress import PROGRESS_FILE
from .site_machine import Site
from .study_data import SiteData, StudyData
from .study_split import keep_split, own_split
from .terms import Terms
from .trainer import LocalTrainer
from .withdrawn import check_left_out

ROSTER_FILE = "roster.json"
REQUEST_FILE, LEFT_FILE = "request.json", "left.json"
"""In a site's state of a study: what it asked to take part with; that it takes no further part."""


@dataclass(frozen=True, slots=True)
class SiteSide:
    """One site, ready for the next message.

    Attributes:
        site: the state machine. home: locked. ledger: open. trainer: trains its part.
        budget: None without differential privacy.
        begun: whether it had taken part in the study before.
    """

    site: Site
    home: SiteHome
    ledger: Ledger
    trainer: LocalTrainer
    budget: Budget | None
    begun: bool


def open_site(
    stack: ExitStack,
    terms: Terms,
    home: SiteHome,
    identity: Identity,
    data: StudyData,
    site: SiteData,
    whole: SplitRecord | None = None,
    *,
    consents: bool = True,
) -> SiteSide:
    """Open a site's ledger, gate, trainer and state machine.

    Args:
        stack: what is opened is closed with it.
        terms: of the study.
        home: the site's, locked.
        identity: its own.
        data: what it was dealt from. site: what it holds.
        whole: its part of the split that the whole study began with, where that is known.
        consents: that a policy may be made and a closed study opened again, as for :func:`.opening.open_gate`.

    Raises:
        LedgerError, BudgetError, PolicyError, HomeError, CheckpointError: something in the home is damaged, gone, or
            contradicts something else there.
    """
    study, method, name = terms.study, terms.method, site.name
    folder = home.state(terms.digest)
    if (folder / LEFT_FILE).exists():
        raise HomeError(
            "this site has left the study",
            where=str(folder / LEFT_FILE),
            remedy="It takes no further part. To take part again, the study is founded anew",
        )
    if (folder / ROSTER_FILE).exists():
        pin_roster(folder / ROSTER_FILE, terms.roster.roster.to_bytes())
    _check_count(terms, site)
    pin_roster(folder / ROSTER_FILE, terms.roster.roster.to_bytes())  # only one that fits these data is kept
    begun = has_begun(folder)
    of_site = (site.train.rows, site.validation.rows, site.test.rows)
    now = partial(own_split, study, data.cohort, name, of_site)
    opened = open_gate(
        stack,
        terms,
        name,
        identity,
        home.folder,
        begun=begun,
        budget=home.budget,
        split=partial(keep_split, folder, now, whole),
        consents=consents,
        reopens=consents,
    )
    store = EvidenceStore(home.folder / CHECKPOINTS)
    witness = SiteWitness(name, identity, opened.key, opened.ledger, terms.roster, store, time.time)
    check_left_out(home.folder, data.cohort, np.concatenate(of_site))
    part, held_out = (each.training(method.consumes) for each in (site.train, site.validation))
    private = None if opened.budget is None else private_site(study, method, site.train, opened.budget, folder)
    trainer = LocalTrainer(name, study, method, terms.layout, part, held_out, data.shared, folder, private)
    facts = (name, identity, terms.roster, opened.gate, trainer, terms.backbone, folder, study.rounds)
    parts = (*facts, os.urandom, witness, _held_out(terms, data, site))
    cheats = tuple(fault for fault in study.faults.dishonest_share if fault.site == name)
    machine = DishonestSite(*parts, script=cheats) if cheats else Site(*parts)
    return SiteSide(machine, home, opened.ledger, trainer, opened.budget, begun)


def has_begun(state: Path) -> bool:
    """Whether a site has taken part in the study whose state lies here."""
    return any((state / file).is_file() for file in (PROGRESS_FILE, MEANS_FILE, HELD_OUT_FILE))


def count_of(study: Study, site: SiteData) -> int:
    """The public number of a site: training images, or units under differential privacy; withdrawn ones included."""
    return units_of(study, site.train).count if study.private else len(site.train)


def _check_count(terms: Terms, site: SiteData) -> None:
    """Refuse data of another number than the roster says: weights and noise were drawn for it.

    Raises:
        HomeError: says both numbers; or the site is not in the roster.
    """
    roster = terms.roster.roster
    if site.name not in roster.index:
        raise HomeError(
            f"{site.name} is not in the roster of this study",
            where=f"site '{site.name}'",
            remedy=f"Its sites are {', '.join(roster.names)}",
        )
    signed, found = roster.sites[roster.index[site.name]].samples, count_of(terms.study, site)
    if signed != found:
        what = "units" if terms.study.private else "images"
        raise HomeError(
            f"{site.name} trains on {found} {what}, and the roster that it signed says {signed}",
            where=f"site '{site.name}'",
            remedy="Restore the images that the study was joined with; withdraw patients with: wardround site forget",
        )


def pin_roster(path: Path, roster: bytes) -> None:
    """Keep the roster that the site signed; a different one later is refused.

    Raises:
        CheckpointError: it is another one.
    """
    if not path.exists():
        write_atomic(path, roster)
    elif path.read_bytes() != roster:
        raise CheckpointError(
            "the roster differs from the one that this site signed",
            where=str(path),
            remedy="A roster is fixed for a study; start a new run",
        )


def _held_out(terms: Terms, data: StudyData, site: SiteData) -> HeldOut | None:
    """What a site adds to the sums of figures."""
    evaluation = terms.study.evaluation
    if not terms.figures:
        return None
    of_row = data.cohort.records
    subgroups = {
        column: [of_row[row].subgroups.get(column, "") for row in site.test.rows] for column in evaluation.levels
    }
    parts = (site.validation, site.test)
    return HeldOut(
        terms.method, data.shared, terms.figures, *parts, subgroups, evaluation.levels, evaluation.thresholds
    )
