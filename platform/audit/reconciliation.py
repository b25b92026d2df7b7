"""Ledgers of several parties, two by two: what sites sent against what their coordinator received."""

from __future__ import annotations

from collections.abc import Sequence

from ...privacy.errors import LedgerError
from ...privacy.ledger.batches import COORDINATOR
from ...privacy.ledger.reading import read_entries
from ...privacy.ledger.reconciling import Direction, reconcile
from ...privacy.ledger.verifying import Verified, verify
from .sources import Source


def reconcile_sources(sources: Sequence[Source], verified: Sequence[Verified] = ()) -> list[Direction]:
    """Both directions between each site and the coordinator, in order of site.

    Args:
        sources: of the coordinator and of sites.
        verified: by `verify_each`, in the same order; without them they are verified here, for their receipts.

    Raises:
        LedgerError: there is no coordinator's ledger or no site's, or several coordinators'; one cannot be read.
    """
    coordinators = [source for source in sources if source.owner == COORDINATOR]
    sites = [source for source in sources if source.owner != COORDINATOR]
    if len(coordinators) != 1 or not sites:
        raise LedgerError(
            f"{len(coordinators)} ledgers of a coordinator and {len(sites)} of sites",
            where=", ".join(str(source.ledger) for source in sources),
            remedy="Give a site's folder and its coordinator's, or a run folder",
        )
    known_of = zip(sources, verified or verify_each(sources), strict=True)
    signed = {source.ledger: _acknowledged(ledger) for source, ledger in known_of}
    rows = []
    for site in sites:
        for sender, receiver in ((site, coordinators[0]), (coordinators[0], site)):
            names = (sender.owner, receiver.owner)
            known = signed[sender.ledger].get(receiver.owner, set())
            rows.append(reconcile(read_entries(sender.ledger), read_entries(receiver.ledger), names, known))
    return rows


def verify_each(sources: Sequence[Source]) -> list[Verified]:
    """Every ledger by itself.

    Raises:
        LedgerError: one cannot be read.
    """
    return [verify(source.ledger, source.folder) for source in sources]


def unsound(verified: Sequence[Verified]) -> list[str]:
    """Ledgers that do not hold by themselves, with what is wrong first: comparing them proves nothing."""
    return [f"the ledger of {each.owner} does not hold: {each.problems[0]}" for each in verified if not each.ok]


def _acknowledged(sender: Verified) -> dict[str, set[str]]:
    """By receiver, wire hashes for which the sender has its signed receipt."""
    found: dict[str, set[str]] = {}
    for each in sender.evidence:
        for peer, sha in each.acknowledged if each.fits else ():
            found.setdefault(peer, set()).add(sha.hex())
    return found
