"""Several ledgers laid side by side: what one party keeps of another's ledger must be of that very ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ..secure_aggregation.roster import Roster
from . import batches as b
from .chain import Chain
from .verified import Verified


def compare(ledgers: Sequence[Verified]) -> list[str]:
    """Problems that show only between ledgers; empty where they fit together.

    Found are: two versions of one ledger (a fork shown to two auditors), a ledger that was cut or written anew since
    others cosigned it, a coordinator that had two roots signed under one number, parties of one study with different
    rosters. Of a ledger with a bad entry only what comes before it is compared.

    Args:
        ledgers: verified one by one before; those with problems of their own are compared as far as they are good.
    """
    found = [*_forks(ledgers), *_batches(ledgers), *_leaves(ledgers), *_rosters(ledgers)]
    return list(dict.fromkeys(found))


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
    """Two roots under one number, each of which the coordinator signed."""
    roots: dict[str, tuple[bytes, str]] = {}
    for ledger in ledgers:
        for each in ledger.evidence:
            if not each.signed:
                continue
            origin, root = each.evidence.batch.origin, each.evidence.batch.root
            first, whose = roots.setdefault(origin, (root, ledger.owner))
            if first != root:
                yield (
                    f"the coordinator signed two roots of batch {each.number}: one is kept by {whose}, "
                    f"another by {ledger.owner}"
                )


def _leaves(ledgers: Sequence[Verified]) -> Iterator[str]:
    """What each party keeps of the others' leaves."""
    possible = {id(ledger): _possible(ledger) for ledger in ledgers}
    for witness in ledgers:
        for each in witness.evidence:
            roster = witness.rosters.get(each.roster)
            if roster is None or not each.signed or not each.fits:
                continue
            leaves = b.Leaves.joined(each.evidence.leaves).hashes
            for name in (b.COORDINATOR, *roster.names):
                leaf = leaves[b.index_of(roster, name)]
                if name == witness.owner or leaf == b.absent_leaf(name):
                    continue
                for ledger in _of_party(ledgers, name, roster):
                    if leaf not in possible[id(ledger)]:
                        yield (
                            f"batch {each.number}, as {witness.owner} keeps it, has a checkpoint of {name} that is not "
                            f"of this ledger of {name}, {ledger.path}: it was cut, forked or written anew"
                        )


def _of_party(ledgers: Sequence[Verified], name: str, roster: Roster) -> list[Verified]:
    """A party's ledgers: those of its identity, and where there is none, those that are said to be its.

    Ledgers of another run may lie beside, whose parties have the same names and other identities.
    """
    identity = b.identity_of(roster, name)
    named = [ledger for ledger in ledgers if ledger.owner == name and not ledger.broken]
    return [ledger for ledger in named if ledger.chain.keys.identity == identity] or named


def _possible(ledger: Verified) -> set[bytes]:
    """The leaves that a ledger can have had: one for each time that it was shown."""
    identity, tree = ledger.chain.keys.identity, ledger.chain.tree
    return {b.ledger_leaf(identity, size, tree.root(size)) for size in ledger.shown if 0 <= size <= tree.size}


def _rosters(ledgers: Sequence[Verified]) -> Iterator[str]:
    """Parties of one study have one roster; those who share no identity have only the study's file in common."""
    named: dict[str, dict[str, Verified]] = {}
    for ledger in ledgers:
        for study, state in ledger.studies.items():
            if state.roster:
                named.setdefault(study, {}).setdefault(state.roster, ledger)
    for study, holders in named.items():
        for (first, one), (second, other) in itertools.combinations(holders.items(), 2):
            if _keys(one.rosters.get(first)) & _keys(other.rosters.get(second)):
                yield (
                    f"{one.owner} and {other.owner} have different rosters of study {study[:12]}: {one.owner}'s "
                    f"(entry {one.studies[study].opened}) is {first[:12]}, {other.owner}'s "
                    f"(entry {other.studies[study].opened}) is {second[:12]}"
                )


def _keys(roster: Roster | None) -> set[str]:
    return set() if roster is None else {roster.coordinator_key, *(site.public_key for site in roster.sites)} - {""}
