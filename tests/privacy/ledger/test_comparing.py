"""Ledgers laid side by side: what one party cannot show alone, the others' ledgers do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.comparing import compare
from wardround.privacy.ledger.evidence import Evidence
from wardround.privacy.ledger.rosters import keep_roster
from wardround.privacy.ledger.verifying import Verified, verify

from .audited import (
    Group,
    Studied,
    chain_of,
    checkpoint,
    copy,
    evidence,
    find,
    forget_evidence,
    identity_of,
    invent,
    keep,
    make_roster,
    read,
    replace,
    rewrite,
    sign_latest,
    whole,
)

SITE = "amber"


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return whole(tmp_path_factory.mktemp("whole") / "parties")


@pytest.fixture(scope="module")
def honest(group: Group) -> dict[str, Verified]:
    """All parties' ledgers as they are."""
    return {name: check(group.home(name)) for name in group.identities}


@pytest.fixture
def homes(group: Group, tmp_path: Path) -> dict[str, Path]:
    return copy(group, tmp_path / "copy")


def check(home: Path) -> Verified:
    return verify(home / "ledger.jsonl", complete=True)


def others(honest: dict[str, Verified], name: str) -> list[Verified]:
    return [ledger for owner, ledger in honest.items() if owner != name]


def test_honest_ledgers_fit_together(honest: dict[str, Verified]) -> None:
    assert all(ledger.ok for ledger in honest.values())
    assert compare(list(honest.values())) == []
    assert compare([]) == []


def test_honest_ledgers_with_silent_sites_and_a_second_study_fit_together(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round(silent=[SITE])
    studied.round(unsigned=["birch"])
    studied.end(silent=["cedar"])
    second = Studied(group, "a second study", ["amber", "birch", "dogwood"])
    second.round(silent=["dogwood"])
    second.end()
    assert compare([check(group.home(name)) for name in group.identities]) == []


def test_a_fork_shown_to_two_auditors_is_named(
    group: Group, homes: dict[str, Path], honest: dict[str, Verified]
) -> None:
    """The owner goes on from one entry in two ways; each copy may have all the signatures that it likes."""
    for number in (3, 12, 19):
        rewrite(homes[SITE], group.keys[SITE], replace(read(group.home(SITE)), number, wire_bytes=1))
        other = check(homes[SITE])
        (text,) = [text for text in compare([honest[SITE], other]) if "part at entry" in text]
        assert text == (
            f"two ledgers of {SITE} part at entry {number}: {honest[SITE].path} and {other.path}; "
            "one of them was forked or rewritten"
        )


def test_an_older_copy_is_no_fork(group: Group, homes: dict[str, Path], honest: dict[str, Verified]) -> None:
    lines = (homes[SITE] / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (homes[SITE] / "ledger.jsonl").write_bytes(b"".join(lines[:12]))
    forget_evidence(homes[SITE], above=12)
    assert compare([honest[SITE], check(homes[SITE])]) == []


@pytest.mark.parametrize("name", [SITE, COORDINATOR])
def test_a_ledger_cut_at_any_size_is_named_by_the_others(
    group: Group, homes: dict[str, Path], honest: dict[str, Verified], name: str
) -> None:
    """Also where its owner removed all later evidence and signed its newest checkpoint anew.

    Not caught is the loss of what comes after the last exchange: nobody ever signed for it.
    """
    home, lines, chain = (
        homes[name],
        (homes[name] / "ledger.jsonl").read_bytes().splitlines(True),
        chain_of(homes[name]),
    )
    last = evidence(home)[-1].log.size
    # a size counts as shown once the message with it is an entry
    shown = {"message_type": "receipt"} if name == SITE else {"message_type": "batch", "number": last}
    kept = find(home, direction="out", **shown)[-1 if name == SITE else 0] + 1
    assert last < kept
    for size in range(1, len(lines)):
        (home / "ledger.jsonl").write_bytes(b"".join(lines[:size]))
        forget_evidence(home, above=size)
        sign_latest(home, group.keys[name], chain, size)
        found = compare([verify(home / "ledger.jsonl"), *others(honest, name)])
        assert bool(found) == (size < kept), (size, found)
        if found:
            assert any(f"has a checkpoint of {name} that is not of this ledger of {name}" in text for text in found)
            assert any(str(home) in text for text in found)


@pytest.mark.parametrize("name", [SITE, COORDINATOR])
def test_a_ledger_written_anew_with_everybody_invented_is_named_by_the_others(
    group: Group, homes: dict[str, Path], honest: dict[str, Verified], name: str
) -> None:
    home = homes[name]
    cheat = {**{party: identity_of(party, "invented") for party in group.identities}, name: group.identities[name]}
    roster = make_roster(bytes.fromhex(read(home)[1].study), cheat)
    entries = replace(read(home), 1, facts={"roster": roster.digest.hex()})
    old = evidence(home)
    new = rewrite(home, group.keys[name], entries)
    shutil.rmtree(home / "rosters")
    keep_roster(home, roster)
    forget_evidence(home)
    for each in old:
        note = checkpoint(group.keys[name], new, each.log.size)
        keep(home, invent(roster, cheat, name, note, number=each.number))
    alone = check(home)
    assert alone.ok
    found = compare([alone, *others(honest, name)])
    assert any(f"has a checkpoint of {name} that is not of this ledger" in text for text in found)
    assert any("have different rosters of study" in text for text in found)


def test_a_stranger_under_the_name_of_a_party_is_named(
    group: Group, tmp_path: Path, honest: dict[str, Verified]
) -> None:
    """Another identity, another study, another roster: nothing of it is known to the others."""
    stranger = Group(tmp_path / "strangers", seed="stranger")
    studied = Studied(stranger, "no such study")
    studied.round()
    studied.end()
    found = compare([check(stranger.home(SITE)), *others(honest, SITE)])
    assert any(f"has a checkpoint of {SITE} that is not of this ledger" in text for text in found)
    # two whole runs beside each other, with parties of the same names, are no contradiction
    both = [*honest.values(), *(check(stranger.home(name)) for name in stranger.identities)]
    assert compare(both) == []


def test_two_runs_of_one_study_do_not_contradict(tmp_path: Path, honest: dict[str, Verified]) -> None:
    """The same study's file, played once more by other people under the same names."""
    again = whole(tmp_path / "again", seed="others", rounds=1)
    assert compare([*honest.values(), *(check(again.home(name)) for name in again.identities)]) == []


def test_a_changed_transmission_is_named_by_the_others(
    group: Group, homes: dict[str, Path], honest: dict[str, Verified]
) -> None:
    number = find(homes[SITE], message_type="masked-vector")[0]
    rewrite(homes[SITE], group.keys[SITE], replace(read(homes[SITE]), number, wire_sha256="12" * 32))
    forget_evidence(homes[SITE])
    found = compare([check(homes[SITE]), *others(honest, SITE)])
    assert len(found) == 4 * 3  # by everybody else, for every batch


def test_a_broken_ledger_is_compared_as_far_as_it_is_good(homes: dict[str, Path], honest: dict[str, Verified]) -> None:
    path = homes[SITE] / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:8], b"?\n", *lines[8:]]))
    broken = check(homes[SITE])
    assert broken.broken
    assert compare([broken, *others(honest, SITE)]) == []
    lines[3], lines[8] = lines[3][:-1] + b" \n", b"?\n"
    path.write_bytes(b"".join(lines))
    assert compare([check(homes[SITE]), *others(honest, SITE)]) == []


def two_roots(home: Path, group: Group, name: str, roster: Any, *, signers: Any = None) -> Evidence:
    """A second root under the number of the first batch, with the party's own checkpoint in it."""
    first = evidence(home)[0]
    made = invent(roster, group.identities, name, first.checkpoint, number=first.number, signers=signers)
    keep(home, made)
    return made


def test_a_coordinator_that_signs_two_roots_under_one_number_is_named(
    homes: dict[str, Path], group: Group, honest: dict[str, Verified]
) -> None:
    roster = next(iter(honest[SITE].rosters.values()))
    number = two_roots(homes[SITE], group, SITE, roster).number
    twice = check(homes[SITE])
    assert twice.ok  # by itself it is as good as the other
    found = compare([twice, *others(honest, SITE)])
    assert f"the coordinator signed two roots of batch {number}: one is kept by {SITE}, another by birch" in found
    assert len([text for text in found if "two roots" in text]) == 4


def test_a_root_that_the_coordinator_did_not_sign_accuses_nobody(
    homes: dict[str, Path], group: Group, honest: dict[str, Verified]
) -> None:
    """A site makes up a batch with leaves of the others that never were: only its own ledger is in the wrong."""
    roster, first = next(iter(honest[SITE].rosters.values())), evidence(homes[SITE])[0]
    cheat = {**group.identities, COORDINATOR: identity_of(COORDINATOR, "invented")}
    leaves = {"birch": (4, bytes(32))}
    keep(homes[SITE], invent(roster, cheat, SITE, first.checkpoint, number=first.number, leaves=leaves))
    found = check(homes[SITE])
    assert not found.ok
    assert compare([found, *others(honest, SITE)]) == []


def test_evidence_that_is_not_of_its_own_ledger_accuses_nobody(
    homes: dict[str, Path], group: Group, honest: dict[str, Verified]
) -> None:
    roster = next(iter(honest[SITE].rosters.values()))
    forget_evidence(homes[SITE])
    rewrite(homes[SITE], group.keys[SITE], replace(read(homes[SITE]), 3, wire_bytes=1))
    note = checkpoint(group.keys[SITE], chain_of(group.home(SITE)), 4)
    keep(homes[SITE], invent(roster, group.identities, SITE, note, number=7, leaves={"birch": (4, bytes(32))}))
    found = compare([check(homes[SITE]), honest["birch"]])
    assert not [text for text in found if f"as {SITE} keeps it" in text]


def test_parties_of_one_study_have_one_roster(tmp_path: Path, honest: dict[str, Verified], group: Group) -> None:
    other = Group(tmp_path / "other")
    Studied(other, w_max=2.0).round()
    found = compare([check(other.home("birch")), honest[SITE]])
    (text,) = [text for text in found if "different rosters" in text]
    assert text.startswith("birch and amber have different rosters of study")
    assert text.count("(entry 1)") == 2


def test_absurd_sizes_do_no_harm(homes: dict[str, Path], group: Group, honest: dict[str, Verified]) -> None:
    home = homes[COORDINATOR]
    number = find(home, message_type="batch")[0]
    for absurd in (-5, 2**52):
        rewrite(home, group.keys[COORDINATOR], replace(read(home), number, number=absurd))
        assert compare([check(home), *others(honest, COORDINATOR)])


def test_each_copy_of_a_ledger_is_looked_at(homes: dict[str, Path], group: Group, honest: dict[str, Verified]) -> None:
    """A cut copy is named whether a whole one lies before or behind it."""
    lines = (homes[SITE] / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (homes[SITE] / "ledger.jsonl").write_bytes(b"".join(lines[:12]))
    forget_evidence(homes[SITE], above=12)
    cut = verify(homes[SITE] / "ledger.jsonl")
    for order in ([cut, honest[SITE]], [honest[SITE], cut]):
        found = compare([*order, honest[COORDINATOR]])
        assert found
        assert all(str(cut.path) in text for text in found)


def test_leaf_zero_is_the_coordinators(honest: dict[str, Verified]) -> None:
    """What the checks above rest on: leaves stand in the roster's order, the coordinator's first."""
    each = honest[SITE].evidence[0].evidence
    ledger = honest[COORDINATOR]
    leaf = b.ledger_leaf(ledger.chain.keys.identity, each.number, ledger.chain.tree.root(each.number))
    assert b.Leaves.joined(each.leaves).hashes[0] == leaf
