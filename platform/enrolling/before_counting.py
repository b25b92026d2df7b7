"""What is asked before a hospital's data are counted: its policy, its ledger, and the other homes of its machine.

The number of images that pass a coordinator's filters is an answer to the coordinator's question. Whoever asks twice
can do so under two keys. So a site answers once, whoever asks, unless a person says that it may answer again, and the
ledger says so too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...privacy.home import SiteHome
from ...privacy.identity import fingerprint_hex
from ...privacy.ledger.enrol_entries import steps_of
from ...privacy.ledger.entries import Entry
from ...privacy.ledger.log import Ledger
from ...privacy.ledger.reading import read_entries
from ...privacy.policy import Policy
from ..config import Study
from ..policy_check import check_policy
from ..site_side import REQUEST_FILE
from .documents import Request, read_document
from .errors import EnrolmentError
from .finding import homes_beside
from .noting import note_step, open_ledger


def check_own_policy(policy_file: Path, study: Study, coordinator: bytes) -> None:
    """Ask the site's own policy before data are read; it need not list the study yet.

    Raises:
        EnrolmentError: it would stop the study, or does not know the coordinator.
        PolicyError: it cannot be read.
    """
    if not policy_file.exists():
        return
    policy = Policy.load(policy_file)
    refusals = [(rule, why) for rule, why in check_policy(policy, study).refusals if rule != "studies.allow"]
    refusals += refused_coordinator(policy, coordinator)
    if refusals:
        raise EnrolmentError(
            "this site's own policy would stop the study:\n" + "\n".join(f"{rule}: {why}" for rule, why in refusals),
            where=str(policy_file),
            remedy="Do not join; or, if it is to change, edit it: wardround site policy edit",
        )


def refused_coordinator(policy: Policy, public_key: bytes) -> list[tuple[str, str]]:
    """The rule that keeps a coordinator out, and why; nothing where it may be sent to."""
    key = fingerprint_hex(public_key)
    known = policy.role == "site" and ("*" in policy.coordinator.allow or key in policy.coordinator.allow)
    return [] if known else [("coordinator.allow", f"the coordinator's fingerprint is {key}")]


def earlier_requests(home: Path, entries: Iterable[Entry]) -> Mapping[str, int]:
    """Numbers that this site has told before, to whomever, by the study's hash; the newest of each.

    They are in the ledger, and in the home's states for when the ledger was purged.

    Raises:
        EnrolmentError: a request that was kept is damaged.
    """
    found = {}
    for path in sorted(home.glob(f"state/*/{REQUEST_FILE}")):
        found[path.parent.name] = read_document(path, Request).document.samples
    for entry in steps_of(entries):
        if entry.rule == "request":
            facts = entry.facts or {}
            found[str(facts.get("study", ""))] = int(facts.get("samples", 0))
    return found


def check_not_counted(ledger: Ledger, home: Path, *, again: bool) -> bool:
    """Refuse to tell another number of these images, unless a person allows it.

    Args:
        ledger: of the home. home: its folder. again: whether it is allowed.

    Returns:
        Whether one was told before.

    Raises:
        EnrolmentError: lists what was told before.
    """
    told = earlier_requests(home, read_entries(ledger.path))
    if told and not again:
        listed = ", ".join(f"{number} in study {study[:16]}" for study, number in told.items())
        raise EnrolmentError(
            f"this site has told numbers of its images before: {listed}",
            where=str(ledger.path),
            remedy="By asking with other filters each time, somebody could learn about single patients. If this study "
            "is meant to be over the same images, say so with --count-again; the ledger will",
        )
    return bool(told)


def note_other_homes(held: SiteHome, ledger: Ledger, study: str) -> None:
    """Write into both ledgers that another home of this machine is of other patients, when that was first said.

    Raises:
        HomeError: another home is in use. LedgerError: a ledger cannot be written.
    """
    others = homes_beside(held.folder)
    if not others or any(entry.rule == "other-patients" for entry in steps_of(read_entries(ledger.path))):
        return
    for home in others:
        with SiteHome.open(home.parent, home.name) as other, open_ledger(other) as theirs:
            note_step(theirs, "other-patients", study)
    note_step(ledger, "other-patients", study)
