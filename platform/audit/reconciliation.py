"""Ledgers of several parties, two by two: what sites sent against what their coordinator received."""

from __future__ import annotations

from collections.abc import Sequence

from ...privacy.errors import LedgerError
from ...privacy.ledger.batches import COORDINATOR
from ...privacy.ledger.reading import read_entries
from ...privacy.ledger.reconciling import Direction, reconcile
from ...privacy.ledger.verifying import verify
from .sources import Source


def reconcile_sources(sources: Sequence[Source]) -> list[Direction]:
    """Both directions between each site and the coordinator, in order of site.

    Raises:
        LedgerError: there is no coordinator's ledger or no site's, or several coordinators'; one cannot be read.
    """
    coordinators = [source for source in sources if source.owner == COORDINATOR]
    sites = [source for source in sources if source.owner != COORDINATOR]
    if len(coordinators) != 1 or not sites:
        raise LedgerError(
            f"{len(coordinators)} ledgers of a coordinator and {len(sites)} of sites",
            remedy="Give a site's folder and its coordinator's, or a run folder",
        )
    rows = []
    for site in sites:
        for sender, receiver in ((site, coordinators[0]), (coordinators[0], site)):
            names = (sender.owner, receiver.owner)
            signed = _acknowledged(sender, receiver.owner)
            rows.append(reconcile(read_entries(sender.ledger), read_entries(receiver.ledger), names, signed))
    return rows


def _acknowledged(sender: Source, receiver: str) -> set[str]:
    """Wire hashes for which the sender has the receiver's signed receipt."""
    found = verify(sender.ledger, sender.folder)
    return {sha.hex() for each in found.evidence if each.fits for peer, sha in each.acknowledged if peer == receiver}
