"""One side's ledger, policy, budget and gate, opened for a study: the same for a site and for the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ..privacy.atomic import write_atomic
from ..privacy.differential_privacy.budget import Budget
from ..privacy.egress import COORDINATOR, Gate
from ..privacy.errors import LedgerError, PolicyError
from ..privacy.identity import Identity, fingerprint_hex
from ..privacy.ledger.keys import LedgerKey, open_key
from ..privacy.ledger.log import Ledger
from ..privacy.ledger.rosters import keep_roster
from ..privacy.policy import Policy
from ..privacy.policy_file import default_policy_toml
from .terms import Terms

LABEL_COMMITMENT = b"wardround/v1/commitment"
LEDGER_FILE, POLICY_FILE = "ledger.jsonl", "policy.toml"


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened; the ledger is closed with the stack that it was opened on.

    Attributes:
        gate: the only way out. ledger: this side's. key: signs its checkpoints.
        budget: the site's; None at the coordinator, and without differential privacy.
    """

    gate: Gate
    ledger: Ledger
    key: LedgerKey
    budget: Budget | None = None


def open_gate(
    stack: ExitStack,
    terms: Terms,
    owner: str,
    identity: Identity,
    folder: Path,
    *,
    begun: bool,
    budget: Path | None = None,
    split: Callable[[str], str] | None = None,
    minimum_cohort: int | None = None,
    consents: bool = True,
    reopens: bool = True,
) -> Opened:
    """Open a side's ledger for the study, and its gate.

    Args:
        stack: what is opened is closed with it.
        terms: of the study.
        owner: the site's name, or ``coordinator``.
        identity: its own.
        folder: where its ledger and its policy lie.
        begun: whether it has taken part in the study before.
        budget: file of its privacy budget; None at the coordinator.
        split: given what the ledger says of the site's split, its hash; None at the coordinator.
        minimum_cohort: of a new policy; None for the roster's.
        consents: whether a side without a policy gets one that lets this study run: so in a simulation. On a machine of
            its own a person consents first, and the policy is made then.
        reopens: whether a study that was closed here is opened again, as when a simulation goes on. On a machine of its
            own it stays closed: nothing of it leaves but the closing exchange.

    Raises:
        LedgerError: the ledger is broken, does not know a study that was begun, or began it under another roster.
        PolicyError, BudgetError: the policy or the budget is damaged.
    """
    digest, roster = terms.digest, terms.roster.roster
    path = folder / LEDGER_FILE
    ledger = stack.enter_context(Ledger.open(path, owner=owner, clock=lambda: datetime.now(UTC)))
    if begun and not ledger.knows(digest):
        raise LedgerError(
            f"{owner} has begun this study, but its ledger does not know it: it is gone or was replaced",
            where=str(path),
            remedy="Restore it from a backup: without it nobody could show what had left. Else start a new run",
        )
    if ledger.roster_of(digest) not in ("", roster.digest.hex()):
        raise LedgerError(
            f"the ledger of {owner} opened this study under another roster",
            where=str(path),
            remedy="A roster is fixed for a study. Find out who replaced it; else found the study anew",
        )
    if not (folder / POLICY_FILE).exists():
        if not consents:
            raise PolicyError(
                f"{owner} has no policy, so nothing may leave",
                where=str(folder / POLICY_FILE),
                remedy="Restore it from a backup, or approve the study again: wardround site approve",
            )
        write_atomic(folder / POLICY_FILE, policy_for(terms, owner, minimum_cohort).encode())
    policy = Policy.load(folder / POLICY_FILE)
    spent = None
    if terms.study.private and budget is not None:
        spent = Budget.open(budget, site=owner, identity=identity, ledger=ledger, policy_budget=policy.budget)
    key = open_key(path.parent, identity, ledger)
    keep_roster(path.parent, roster)
    named = {} if split is None else {"split": split(ledger.split_of(digest))}
    if reopens or not ledger.knows(digest):
        ledger.open_study(  # after the budget: nothing is opened on a doubt
            digest,
            roster=roster.digest.hex(),
            identity=fingerprint_hex(identity.public_key),
            coordinator=terms.coordinator,
            **named,
        )
    gate = Gate(
        owner=owner,
        ledger=ledger,
        policy=policy,
        facts=terms.facts,
        limits=terms.limits,
        budget=spent,
        commit=partial(identity.commit, LABEL_COMMITMENT),
    )
    return Opened(gate, ledger, key, spent)


def policy_for(terms: Terms, owner: str, minimum_cohort: int | None = None) -> str:
    """The text of a policy that lets this study run, and nothing else.

    Args:
        terms: of the study. owner: the site's name, or ``coordinator``.
        minimum_cohort: fewest sites of a sum; None for the roster's.
    """
    return default_policy_toml(
        "coordinator" if owner == COORDINATOR else "site",
        studies=[terms.digest],
        methods=[terms.method.name],
        limits=terms.limits,
        minimum_cohort=minimum_cohort or terms.roster.roster.thresholds.m,
        purposes=list(terms.roster.roster.vectors),
        coordinators=[terms.coordinator],
    )
