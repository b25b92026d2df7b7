"""What sites spent under differential privacy: from their budgets to figures, for pages and for the command line.

A budget is read as an auditor reads it, without the site's key: a ledger in order names the hash of the newest version
of the file, so what is read is what the site wrote last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..evaluation.privacy_model import ReleaseRow, SitePrivacy
from ..privacy.differential_privacy.accountant import epsilon_of, spent_on
from ..privacy.differential_privacy.budget_file import (
    GENESIS,
    Charge,
    Content,
    digest_of,
    load_budget,
    parse_budget,
    read_budget,
)
from ..privacy.errors import BudgetError, RosterError
from ..privacy.ledger.log import verify
from ..privacy.secure_aggregation.roster import Roster, RosterSite
from .config import Study
from .errors import RunFolderError
from .run_folder import RunFolder

BUDGET, LEDGER, ROSTER = "budget.json", "ledger.jsonl", "roster.json"
MANY = 100  # charges of a site: each figure takes half a second
_LOOKS = 3
"""How often files of a running site are read before a difference between them is believed."""


@dataclass(frozen=True, slots=True)
class ReadBudget:
    """A site's budget as its files have it.

    Attributes:
        charges: in order of time, of all studies; empty before the first.
        stated: by (study, key), the epsilon that the ledger says the study had spent with this charge.
    """

    charges: tuple[Charge, ...] = ()
    stated: Mapping[tuple[str, str], float] = field(default_factory=dict)


def site_privacy(
    charges: Sequence[Charge],
    site: str,
    study: Study,
    units: int | None,
    *,
    stated: Mapping[tuple[str, str], float] | None = None,
) -> SitePrivacy:
    """What one site has spent in a study, release by release.

    Args:
        charges: of its budget, in order of time; those of other studies are passed over.
        site: its name.
        study: with differential privacy on.
        units: of its training part; None where that is not known.
        stated: by (study, key), epsilon after a charge where it is known already; a long study has many, and each one
            computed takes half a second. The last is always computed.

    Raises:
        AccountError: epsilon cannot be computed.
    """
    digest, privacy = study.digest(), study.privacy
    own = [charge for charge in charges if charge.study == digest]
    releases = [charge.release for charge in own]
    spent = spent_on(releases, privacy.delta)
    rows = []
    for number, charge in enumerate(own, start=1):
        known = spent.epsilon if number == len(own) else (stated or {}).get((digest, charge.key))
        release = charge.release
        rows.append(
            ReleaseRow(
                key=charge.key,
                kind=release.kind,
                noise_multiplier=release.noise_multiplier,
                sample_rate=release.sample_rate,
                steps=release.steps,
                cost=epsilon_of([release], privacy.delta),
                epsilon_after=epsilon_of(releases[:number], privacy.delta) if known is None else known,
            )
        )
    training = [release for release in releases if release.kind == "training"]
    return SitePrivacy(
        site=site,
        unit=privacy.unit,
        units=units,
        epsilon=spent.epsilon,
        limit=privacy.epsilon,
        rdp_epsilon=spent.rdp_epsilon,
        delta=privacy.delta,
        noise_multiplier=training[-1].noise_multiplier if training else None,
        sample_rate=training[-1].sample_rate if training else None,
        steps=sum(release.steps for release in training),
        releases=tuple(rows),
    )


def run_privacy(run: RunFolder, study: Study) -> list[SitePrivacy]:
    """What every site of a run has spent so far, in order of name; also while the run is under way.

    Copies in ``sites/`` count once the run is complete, the sites' homes before.

    Raises:
        RunFolderError: no site has anything yet.
        BudgetError: a budget is not the one that its ledger names last, or one of the two is missing or damaged.
        LedgerError: a ledger cannot be read.
        AccountError: an epsilon cannot be computed.
    """
    folders = _folders(run)
    if not folders:
        raise RunFolderError(
            "no site has opened its budget yet",
            where=str(run.root),
            remedy="Start the run, or continue it: wardround run STUDY.toml --out RUN --resume",
        )
    found = []
    for site, folder in sorted(folders.items()):
        known = _in_roster(run, study, site)
        key = bytes.fromhex(known.public_key) if known else None
        budget = read_site_budget(folder, site, under_way=not run.summary.is_file(), public_key=key)
        if budget.charges and all(charge.study != study.digest() for charge in budget.charges):
            raise RunFolderError(
                f"the privacy budget of '{site}' knows other studies only: study.toml was changed",
                where=str(run.study),
                remedy="Restore it from a backup",
            )
        units = known.samples if known else _sampled_units(study, budget.charges)
        # What ledgers say between two rounds is a bound, some per cent above the figure; a long study takes it.
        stated = budget.stated if len(budget.charges) > MANY else None
        found.append(site_privacy(budget.charges, site, study, units, stated=stated))
    return found


def check_nothing_spent(run: RunFolder) -> None:
    """Refuse a run whose study is not private and whose sites have spent something all the same.

    Raises:
        RunFolderError: names the budget; study.toml is not the one that the run was made with.
    """
    for folder in _folders(run).values():
        if (folder / BUDGET).is_file():
            raise RunFolderError(
                "a site has a privacy budget, and the study is not private: study.toml was changed",
                where=str(folder / BUDGET),
                remedy=f"Restore {run.study} from a backup",
            )


def _folders(run: RunFolder) -> dict[str, Path]:
    copies = {path.parent.name: path.parent for path in run.root.glob(f"sites/*/{LEDGER}")}
    homes = {path.parent.name: path.parent for path in run.homes.glob(f"*/{LEDGER}")}
    return homes | copies if run.summary.is_file() else copies | homes


def read_site_budget(folder: Path, site: str, *, under_way: bool = True, public_key: bytes | None = None) -> ReadBudget:
    """Read a site's budget beside its ledger, and check that it is the version that the ledger names last.

    A file that is one version ahead of the ledger is what a run under way, or a crash, shows for a moment.

    Args:
        folder: with ``budget.json`` and ``ledger.jsonl``: a site's home, or a copy of these files.
        site: whose budget it must be.
        under_way: whether a file one version ahead is possible; in a complete run it is not.
        public_key: of the site's identity, 32 bytes; None where no roster names it, and the signature is not looked at.

    Raises:
        BudgetError: the ledger is broken, or the budget is not the one that it names or not signed by the site.
        LedgerError: the ledger cannot be read.
    """
    path = folder / BUDGET
    for _ in range(_LOOKS):
        data = read_budget(path)
        entries = _budget_entries(folder / LEDGER)
        last = (entries[-1]["dp"]["sequence"], entries[-1]["dp"]["sha256"]) if entries else (0, GENESIS)
        if data is None:
            if not entries:
                return ReadBudget()
            wrong = "is missing"
        elif last[1] == digest_of(data):
            return _checked(_loaded(data, site, public_key, path), entries, site, path)
        else:
            content = parse_budget(data, str(path))
            if under_way and (content.sequence - 1, content.previous) == last:
                return _checked(_loaded(data, site, public_key, path), entries, site, path)
            wrong = f"is version {content.sequence} with SHA-256 {digest_of(data)[:12]}"
    raise BudgetError(
        f"the privacy budget of '{site}' {wrong}, and its ledger names version {last[0]} with SHA-256 {last[1][:12]}: "
        "one of the two was changed, replaced or put back, so what was spent is not known",
        where=str(path),
        remedy=f"Keep both files as evidence; restore {BUDGET} and {LEDGER} from one and the same backup",
    )


def _loaded(data: bytes, site: str, public_key: bytes | None, path: Path) -> Content:
    if public_key is None:
        return parse_budget(data, str(path))
    return load_budget(data, site=site, public_key=public_key, where=str(path))


def _checked(content: Content, entries: Sequence[Mapping[str, Any]], site: str, path: Path) -> ReadBudget:
    if content.site != site:
        raise BudgetError(
            f"the privacy budget belongs to '{content.site}', not to '{site}'",
            where=str(path),
            remedy=f"Put the {BUDGET} of '{site}' here, with its {LEDGER}",
        )
    stated = {
        (entry["study"], entry["rule"]): float(entry["dp"]["epsilon"])
        for entry in entries
        if entry["stage"] == "charge" and isinstance(entry["dp"].get("epsilon"), float | int)
    }
    return ReadBudget(content.charges, {key: value for key, value in stated.items() if math.isfinite(value)})


def _budget_entries(ledger: Path) -> list[dict[str, Any]]:
    """A ledger's entries about its owner's budget, checked."""
    report = verify(ledger)
    if not report.ok:
        raise BudgetError(
            f"the ledger beside the privacy budget is broken: {report.problem}; what was spent is not known",
            where=str(ledger),
            remedy="Keep the file as evidence, and restore it together with the budget from one backup",
        )
    lines = ledger.read_bytes().split(b"\n")[: report.entries]
    return [entry for entry in map(json.loads, lines) if entry["kind"] == "budget"]


def _in_roster(run: RunFolder, study: Study, site: str) -> RosterSite | None:
    """What the roster that a site pinned says of it; None without one, as in a copy of a run."""
    roster = run.homes / site / "state" / study.digest() / ROSTER
    if not roster.is_file():
        return None
    try:
        known = Roster.from_bytes(roster.read_bytes())
    except RosterError as error:
        raise RosterError(error.what, where=str(roster), remedy="Restore it from a backup") from None
    return next((each for each in known.sites if each.name == site), None)


def _sampled_units(study: Study, charges: Sequence[Charge]) -> int | None:
    """The public number of a site's units, by how it samples: a batch holds batch_size / units of them, or all."""
    rates = [c.release.sample_rate for c in charges if c.study == study.digest() and c.release.kind == "training"]
    return round(study.training.batch_size / rates[-1]) if rates and rates[-1] < 1 else None
