"""Runs that only have budgets: made with the site's own classes, without a training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wardround.platform.config import Study
from wardround.platform.run_folder import RunFolder
from wardround.platform.study_file import parse_study
from wardround.privacy.atomic import make_private
from wardround.privacy.differential_privacy.budget import Budget
from wardround.privacy.differential_privacy.releases import Release
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger
from wardround.privacy.secure_aggregation.parameters import Block, choose_thresholds
from wardround.privacy.secure_aggregation.roster import Roster, RosterSite

# Unsampled sums have a closed form, so nothing here waits for an accountant.
SUMS = Release("class-sums", 8.0, 1.0, 1)
ROUND = Release("training", 6.0, 1.0, 2)
PLANNED = (("class-sums", SUMS), ("round-1", ROUND), ("round-2", ROUND), ("round-3", ROUND))
SITES = ("amber", "birch", "cedar")


def private_study(**privacy: Any) -> Study:
    """A study of three rounds with differential privacy; ``epsilon=0`` switches it off."""
    values: dict[str, Any] = {
        "name": "private",
        "method": "fedclip",
        "rounds": 3,
        "data": {"dataset": "brain-mri", "source": "phantoms"},
        "training": {"batch_size": 64},
        "privacy": {"epsilon": 8.0, **privacy},
    }
    return parse_study(values, where=Path("study"))


def identity_of(site: str) -> Identity:
    """The keys with which a site signs here."""
    return Identity.from_seed(hashlib.sha256(site.encode()).digest())


def spend(
    folder: Path, site: str, study: Study, planned: Sequence[tuple[str, Release]] = PLANNED, *, first: int = 0
) -> None:
    """Charge and seal releases as the site does it, from ``first`` on."""
    make_private(folder)
    identity, digest, privacy = identity_of(site), study.digest(), study.privacy
    with Ledger.open(folder / "ledger.jsonl", owner=site, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC)) as ledger:
        ledger.open_study(digest)
        budget = Budget.open(folder / "budget.json", site=site, identity=identity, ledger=ledger)
        for key, release in planned[first:]:
            budget.charge(digest, key, release, unit=privacy.unit, limit=(privacy.epsilon, privacy.delta))
            budget.seal(digest, key, hashlib.sha256(key.encode()).hexdigest())


def private_run(
    root: Path,
    study: Study | None = None,
    planned: Sequence[tuple[str, Release]] = PLANNED,
    *,
    units: int | None = 40,
    complete: bool = True,
) -> RunFolder:
    """A run in which three sites spent the same; complete with copies and a summary, or with homes alone.

    Args:
        root: a new folder.
        study: with differential privacy. planned: keys and releases.
        units: by the roster that sites pinned; None: there is none.
        complete: whether the run is.
    """
    study = study or private_study()
    run = RunFolder.create(root, study)
    for site in SITES:
        home = run.homes / site
        spend(home, site, study, planned)
        if units is not None:
            state = home / "state" / study.digest()
            make_private(state)
            (state / "roster.json").write_bytes(_roster(study, units).to_bytes())
        if complete:
            make_private(run.site(site))
            for name in ("ledger.jsonl", "budget.json"):
                (run.site(site) / name).write_bytes((home / name).read_bytes())
    if complete:
        run.summary.write_text("{}")
    return run


def _roster(study: Study, units: int) -> Roster:
    rows = tuple(
        RosterSite(site, identity_of(site).public_key.hex(), units + number) for number, site in enumerate(SITES)
    )
    blocks = {"update": (Block("update", 1, 1.0),)}
    return Roster(bytes.fromhex(study.digest()), rows, choose_thresholds(len(SITES)), blocks)  # type: ignore[arg-type]
