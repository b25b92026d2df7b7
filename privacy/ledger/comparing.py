"""Several ledgers laid side by side: what one party keeps of another's ledger must be of that very ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from . import batches as b
from .chain import Chain
from .verifying import Verified


def compare(ledgers: Sequence[Verified]) -> list[str]:
    """Problems that show only between ledgers; empty where they fit together.

    Found are: two versions of one ledger (a fork shown to two auditors), a ledger that was cut or written anew since
    others cosigned it, a coordinator that had two roots signed under one number, parties of one study with different
    rosters.

    Args:
        ledgers: verified one by one before; those with problems of their own are compared as far as they are good.
    """
    return [*_forks(ledgers), *_batches(ledgers), *_leaves(ledgers), *_rosters(ledgers)]


def _forks(ledgers: Sequence[Verified]) -> Iterator[str]:
    for one, other in itertools.combinations(ledgers, 2):
        if one.chain.keys.identity and one.chain.keys.identity == other.chain.keys.identity:
            common = min(one.entries, other.entries)
            if one.chain.tree.root(common) != other.chain.tree.root(common):
                place = _parting(one.chain, other.chain, common)
                yield (
                    f"two ledgers of {one.owner} part at entry {place}: {one.path} and {other.path}; "
                    "one of them was forked or rewritten"
                )


def _parting(one: Chain, other: Chain, common: int) -> int:
    """The first entry in which two chains differ, by halving."""
    same, differs = 0, common
    while differs - same > 1:
        middle = (same + differs) // 2
        if one.tree.root(middle) == other.tree.root(middle):
            same = middle
        else:
            differs = middle
    return same


def _batches(ledgers: Sequence[Verified]) -> Iterator[str]:
    roots: dict[str, tuple[bytes, str]] = {}
    for ledger in ledgers:
        for each in ledger.evidence:
            origin, root = each.evidence.batch.origin, each.evidence.batch.root
            first, whose = roots.setdefault(origin, (root, ledger.owner))
            if first != root:
                yield f"batch {each.number} has one root at {whose} and another at {ledger.owner}: two were signed"


def _leaves(ledgers: Sequence[Verified]) -> Iterator[str]:
    """What each party keeps of the others' leaves."""
    by_name = {ledger.owner: ledger for ledger in ledgers}
    for witness in ledgers:
        for each in witness.evidence:
            roster = witness.rosters.get(each.roster)
            if roster is None or not each.fits:
                continue
            leaves = b.Leaves.joined(each.evidence.leaves).hashes
            for name in (b.COORDINATOR, *roster.names):
                ledger, place = by_name.get(name), b.index_of(roster, name)
                if ledger is None or ledger is witness or place >= len(leaves):
                    continue
                if leaves[place] != b.absent_leaf(name) and leaves[place] not in _possible(ledger):
                    yield (
                        f"batch {each.number}, as {witness.owner} keeps it, has a checkpoint of {name} that is not of "
                        f"this ledger of {name}: it was cut, forked or written anew"
                    )


def _possible(ledger: Verified) -> set[bytes]:
    """The leaves that a ledger can have had: one for each time that it was shown."""
    identity, tree = ledger.chain.keys.identity, ledger.chain.tree
    return {b.ledger_leaf(identity, size, tree.root(size)) for size in ledger.shown if size <= tree.size}


def _rosters(ledgers: Sequence[Verified]) -> Iterator[str]:
    named: dict[str, tuple[str, str]] = {}
    for ledger in ledgers:
        for study, state in ledger.studies.items():
            if not state.roster:
                continue
            first, whose = named.setdefault(study, (state.roster, ledger.owner))
            if first != state.roster:
                yield f"{whose} and {ledger.owner} have different rosters of study {study[:12]}"
