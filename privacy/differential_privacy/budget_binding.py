"""How a site's privacy budget and its ledger hold each other, so that neither can be put back alone.

The ledger names every version of the budget's file by its hash; the file names the ledger's end as it was just before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..atomic import sync_folder
from ..errors import BudgetError
from ..ledger.entries import Record
from ..ledger.log import Ledger
from . import accountant
from .budget_file import GENESIS, Charge, Content
from .limits import study_epsilon
from .releases import Release

EVIDENCE = "Nothing is released. Keep both files as evidence; restore budget and ledger from one and the same backup."


def check_binding(content: Content | None, sha256: str, ledger: Ledger, *, site: str, where: str) -> bool:
    """Whether a budget is one version ahead of its ledger, which is what a crash between the two leaves.

    Args:
        content, sha256: of the budget's file; None and anything when there is no file.
        ledger: this site's, open.
        site: whose budget it is.
        where: the file, for messages.

    Raises:
        BudgetError: the file is missing though the ledger knows one, is neither the version that the ledger names last
            nor the one after it, or names entries that the ledger does not have; another site's ledger.
        LedgerError: the ledger cannot be read.
    """
    if ledger.owner != site:
        raise BudgetError(f"the ledger is {ledger.owner}'s, the privacy budget {site}'s", where=where)
    last = ledger.budget
    known = (0, GENESIS) if last is None else (last["sequence"], last["sha256"])
    if content is None:
        if last is not None:
            what = f"the privacy budget is missing; the ledger knows version {known[0]} of it"
            raise BudgetError(what, where=where, remedy=EVIDENCE)
        return False
    ahead = (content.sequence - 1, content.previous) == known
    if not ahead and (content.sequence, sha256) != known:
        raise BudgetError(
            f"version {content.sequence} of the privacy budget is not the one that the ledger names last "
            f"(version {known[0]}): one of the two was put back or replaced",
            where=where,
            remedy=EVIDENCE,
        )
    if ledger.head_at(content.ledger.entries) != content.ledger.head:
        raise BudgetError(
            f"the ledger no longer has the {content.ledger.entries} entries that this privacy budget was written "
            "after: it was cut back or rewritten",
            where=str(ledger.path),
            remedy=EVIDENCE,
        )
    return ahead


def entry_of(content: Content, sha256: str, plan: Sequence[Release] = ()) -> Record:
    """The ledger's entry about one version of the file; says also what the study has spent with it.

    Raises:
        AccountError: epsilon cannot be computed.
    """
    step = content.step
    charge = next(each for each in content.charges if (each.study, each.key) == (step.study, step.key))
    dp = {
        "sequence": content.sequence,
        "sha256": sha256,
        "epsilon": study_epsilon(content.charges, charge, plan),
        "delta": charge.delta,
        "unit": content.unit,
    }
    return Record(kind="budget", study=step.study, outcome="noted", stage=step.kind, rule=step.key, dp=dp)


def statement_of(content: Content, sha256: str, charge: Charge, plan: Sequence[Release] = ()) -> dict[str, Any]:
    """What the ledger's entry about a message says of the release in it, and of what its study has spent."""
    done = [each.release for each in content.charges if each.study == charge.study]
    return {
        "unit": content.unit,
        "delta": charge.delta,
        "epsilon": study_epsilon(content.charges, charge, plan),
        "rdp": accountant.rdp_epsilon_of(done, charge.delta),
        "limit": charge.epsilon,
        "sequence": content.sequence,
        "sha256": sha256,
        "release": msgspec.to_builtins(charge.release),
    }


def make_durable(path: Path) -> None:
    """Sync a file and its name, which a process before this one may have been killed before.

    Raises:
        BudgetError: the disk refuses.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise BudgetError(f"the privacy budget cannot be synced: {error.strerror}", where=str(path)) from None
