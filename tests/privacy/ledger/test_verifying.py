"""The offline check of one ledger: each way to tamper with it is caught and named, and what is not caught is said."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger import batches as b
from wardround.privacy.ledger.chain import Chain
from wardround.privacy.ledger.checkpoints import Checkpoint, add_cosignature, cosignature_message, signed
from wardround.privacy.ledger.entries import Entry, Record
from wardround.privacy.ledger.evidence import Evidence, EvidenceStore
from wardround.privacy.ledger.notes import SignedNote
from wardround.privacy.ledger.proofs import Proof
from wardround.privacy.ledger.rosters import keep_roster
from wardround.privacy.ledger.verifying import TOLERANCE, Verified, verify
from wardround.privacy.messages import Batch, Limits, Receipt, decode, encode

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
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """Four sites after two rounds; tests copy it."""
    return whole(tmp_path_factory.mktemp("whole") / "parties")


@pytest.fixture
def homes(group: Group, tmp_path: Path) -> dict[str, Path]:
    return copy(group, tmp_path / "copy")


@pytest.fixture
def home(homes: dict[str, Path]) -> Path:
    return homes[SITE]


@pytest.fixture
def fresh(group: Group, tmp_path: Path) -> Callable[[], Path]:
    """``fresh()``: the site's home as it was, over what the example before did to it."""

    def make() -> Path:
        shutil.rmtree(tmp_path / "example", ignore_errors=True)
        return Path(shutil.copytree(group.home(SITE), tmp_path / "example"))

    return make


def check(home: Path, **options: Any) -> Verified:
    return verify(home / "ledger.jsonl", **options)


def problem(home: Path, *words: str, **options: Any) -> str:
    """The first problem, which has these words; there must be one."""
    found = check(home, **options)
    assert found.problems, found.notes
    assert not found.ok
    for word in words:
        assert word in found.problems[0], found.problems
    return found.problems[0]


def newest(home: Path) -> Evidence:
    return evidence(home)[-1]


def lines_of(home: Path) -> list[bytes]:
    return (home / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def write(home: Path, lines: list[bytes]) -> None:
    (home / "ledger.jsonl").write_bytes(b"".join(lines))


# --- ledgers that hold -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SITE, "dogwood", COORDINATOR])
def test_an_honest_ledger_holds(group: Group, name: str) -> None:
    found = check(group.home(name), complete=True)
    assert (found.ok, found.owner, found.broken) == (True, name, False)
    assert (found.entries, found.cosigned) == ((71, 59) if name == COORDINATOR else (20, 16))
    assert [each.size for each in found.evidence] == [each.log.size for each in evidence(group.home(name))]
    assert [each.round for each in found.evidence] == [1, 2, 2]
    assert all(set(each.cosigners) == set(group.sites) and each.holds for each in found.evidence)
    assert found.identity == group.identities[name].fingerprint
    # all was acknowledged but what belongs to the last exchange itself
    assert found.sent - found.acknowledged == (8 if name == COORDINATOR else 1)
    (note,) = found.notes
    assert note.startswith(f"the last {found.trailing} entries, from {found.cosigned} on, are not cosigned")


def test_an_open_study_holds_as_far_as_it_is_cosigned(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round()
    size = group.ledgers[SITE].sequence
    studied.round(silent=[SITE])
    found = check(group.home(SITE))
    assert found.ok
    assert (found.entries, found.cosigned) == (size, newest(group.home(SITE)).log.size)
    assert any(f"from entry {found.cosigned} on nothing of it is cosigned yet" in note for note in found.notes)
    problem(group.home(SITE), "its close is missing", f"after entry {found.entries - 1}", complete=True)


def test_a_silent_site_catches_up_and_what_others_signed_covers_it(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round(silent=[SITE], unsigned=["birch"])
    studied.round()
    studied.end(silent=["cedar"])
    for name in (SITE, "birch", COORDINATOR):
        found = check(group.home(name), complete=True)
        assert found.ok, found.problems
        assert found.cosigned == newest(group.home(name)).log.size
    problem(group.home("cedar"), "its close is missing", complete=True)


def test_a_closing_receipt_that_was_sent_again_is_no_fork(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round()
    witness, ledger = studied.witnesses[SITE], group.ledgers[SITE]
    witness.close_study()
    first = studied.up(SITE, witness.receipt(1, closing=True))
    number = ledger.sequence
    assert studied.up(SITE, witness.receipt(1, closing=True)) == first
    assert find(group.home(SITE), outcome="retried") == [number]
    found = check(group.home(SITE))
    assert not [text for text in found.problems if "another checkpoint" in text]
    entries = read(group.home(SITE))
    group.close()
    changed = {**(entries[number].facts or {}), "size": number - 2}
    rewrite(group.home(SITE), group.keys[SITE], replace(entries, number, facts=changed))
    assert f"entry {number} states another checkpoint than this ledger had there" in check(group.home(SITE)).problems


def test_several_studies_in_one_ledger_are_covered_one_by_one(tmp_path: Path) -> None:
    def more(group: Group, studied: Studied) -> None:
        second = Studied(group, "a second study", ["amber", "birch", "cedar"])
        second.round()
        second.end()

    group = whole(tmp_path / "parties", then=more)
    for name in (*group.sites[:3], COORDINATOR):
        found = check(group.home(name), complete=True)
        assert found.ok, found.problems
        assert len(found.studies) == 2
        assert len({each.roster for each in found.evidence}) == 2
    home = group.home(SITE)
    first, second = find(home, kind="close")
    for path in EvidenceStore(home / "checkpoints").paths():
        each = Evidence.parse(path.read_bytes(), where="")
        if first < each.log.size <= second:
            path.unlink()
    found = check(home)
    assert found.cosigned > second  # others did sign all of it, but not those of the first study
    assert [f"its close (entry {first})" in text for text in found.problems] == [True]
    group_two = whole(tmp_path / "again", then=more)
    forget_evidence(group_two.home(SITE), above=second)
    problem(group_two.home(SITE), f"its close (entry {second})")


@pytest.mark.parametrize("name", [SITE, COORDINATOR])
def test_entries_without_transmission_may_follow_the_close(tmp_path: Path, name: str) -> None:
    def after(group: Group, studied: Studied) -> None:
        facts = {"records": 3, "files": 2}
        group.note(name, Record(kind="forget", study="", outcome="noted", facts=facts))
        group.note(name, Record(kind="purge", study="", outcome="noted", facts={"files": 1, "bytes": 9}))
        group.rotate(name)

    group = whole(tmp_path / "parties", then=after)
    found = check(group.home(name), complete=True)
    assert found.ok, found.problems
    assert found.entries == (74 if name == COORDINATOR else 23)
    assert any("from" in note and "what follows it" in note for note in found.notes)


def test_a_transmission_after_the_close_is_named(home: Path, group: Group) -> None:
    entries = read(home)
    sent = entries[find(home, message_type="masked-vector")[0]]
    chain = chain_of(home)
    moved = msgspec.structs.replace(sent, sequence=chain.sequence, previous=chain.head)
    write(home, [*lines_of(home), moved.line() + b"\n"])
    problem(home, "entry 20 (line 21) is a transmission after the close of its study")


# --- changes by somebody without the keys ----------------------------------------------------------------------------


def test_a_changed_byte_is_named(home: Path) -> None:
    lines = lines_of(home)
    lines[5] = lines[5].replace(b'"retention_days":', b'"retention_days":9', 1)
    write(home, lines)
    problem(home, "entry 6 (line 7) does not follow from the entry before it")


def test_a_removed_entry_is_named(home: Path) -> None:
    lines = lines_of(home)
    del lines[7]
    write(home, lines)
    problem(home, "entry 7 (line 8) has sequence 8 instead of 7")


def test_an_inserted_entry_is_named(home: Path) -> None:
    lines = lines_of(home)
    entry = msgspec.json.decode(lines[7], type=Entry)
    extra = msgspec.structs.replace(entry, salt="00" * 16)
    write(home, [*lines[:7], extra.line() + b"\n", *lines[7:]])
    problem(home, "entry 8 (line 9) has sequence 7 instead of 8")


def test_swapped_entries_are_named(home: Path) -> None:
    lines = lines_of(home)
    lines[5], lines[6] = lines[6], lines[5]
    write(home, lines)
    problem(home, "entry 5 (line 6) has sequence 6 instead of 5")


@pytest.mark.parametrize("field", ["previous", "version", "owner", "sequence"])
def test_an_entry_out_of_its_place_is_named(home: Path, field: str) -> None:
    other = {"previous": "0" * 64, "version": 1, "owner": "birch", "sequence": 3}
    lines = lines_of(home)
    entry = msgspec.structs.replace(msgspec.json.decode(lines[9], type=Entry), **{field: other[field]})
    lines[9] = entry.line() + b"\n"
    write(home, lines)
    problem(home, "entry 9 (line 10)")


def test_a_truncated_ledger_is_named(home: Path) -> None:
    write(home, lines_of(home)[:13])
    found = check(home)
    assert "the cosigned checkpoint of 16 entries is of more than the 13 that are here" in found.problems[0]
    assert any("newest checkpoint" in text and "cut off" in text for text in found.problems)


def test_after_a_bad_entry_nothing_else_is_blamed(home: Path) -> None:
    lines = lines_of(home)
    lines[9] = lines[9].replace(b"in", b"IN", 1)
    write(home, lines)
    found = check(home, complete=True)
    assert found.problems == ["entry 9 (line 10) is no ledger entry"]
    assert any("cannot be checked: the ledger cannot be read from entry 9 on" in note for note in found.notes)


def test_a_torn_last_line_is_told(home: Path) -> None:
    lines = lines_of(home)
    write(home, [*lines, b'{"half":'])
    found = check(home)
    assert found.ok
    assert "after entry 19 there are 8 bytes of half an entry: cut off" in found.notes


@quick
@given(data=st.data())
def test_any_changed_byte_of_a_ledger_is_caught(fresh: Callable[[], Path], data: st.DataObject) -> None:
    """Nothing is immaterial: the owner's own newest checkpoint covers the last entry, which nobody cosigned."""
    home = fresh()
    whole = (home / "ledger.jsonl").read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255)) ^ whole[place]
    (home / "ledger.jsonl").write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    found, line = check(home), whole[:place].count(b"\n")
    assert not found.ok
    if line == 19 and not found.broken:
        assert any("newest checkpoint" in text for text in found.problems)
        assert found.cosigned == 16
    else:
        assert found.broken
        assert found.problems[0].startswith((f"entry {line} (line", f"entry {line + 1} (line"))
        # a changed entry that is still one is found by the next, and by what is compared with it
        for text in found.problems[1:]:
            assert f"entry {line} " in text or f"checkpoint of {line + 1} entries is of another ledger" in text


@quick
@given(data=st.data(), number=st.integers(0, 2))
def test_any_changed_byte_of_a_proof_is_caught(fresh: Callable[[], Path], data: st.DataObject, number: int) -> None:
    """Immaterial are two things: another spelling of the same base64, and a cosigner whose name is not known any more.

    The second leaves one cosigner less, as if it had not signed.
    """
    home = fresh()
    path = EvidenceStore(home / "checkpoints").paths()[number]
    whole, before = path.read_bytes(), check(home).evidence[number]
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255)) ^ whole[place]
    path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    found = check(home)
    if not found.ok:
        named = any(path.name in text or f"checkpoint of {before.size} entries" in text for text in found.problems)
        assert named or any("under no checkpoint" in text for text in found.problems)
        return
    after = found.evidence[number]
    same = (after.size, after.number, after.acknowledged, after.evidence.leaves, after.evidence.log)
    assert same == (before.size, before.number, before.acknowledged, before.evidence.leaves, before.evidence.log)
    lost = before.cosigners.keys() - after.cosigners.keys()
    assert after.cosigners.items() <= before.cosigners.items()
    assert len(lost) <= 1
    assert after.holds


@quick
@given(data=st.data(), name=st.sampled_from(["rosters", "latest"]))
def test_any_changed_byte_of_roster_or_latest_checkpoint_is_caught(
    fresh: Callable[[], Path], data: st.DataObject, name: str
) -> None:
    home = fresh()
    path = home / "checkpoints" / "latest.txt" if name == "latest" else next((home / "rosters").iterdir())
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255)) ^ whole[place]
    path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    problem(home, "newest checkpoint (latest.txt)" if name == "latest" else path.name)


# --- an owner who writes its ledger anew, with all its keys ----------------------------------------------------------


def edited(entries: list[Entry], data: st.DataObject, start: int) -> list[Entry]:
    """One to three edits of entries from ``start`` on."""
    entries = list(entries)
    for _ in range(data.draw(st.integers(1, 3), label="edits")):
        if start == len(entries):
            break
        place = data.draw(st.integers(start, len(entries) - 1), label="place")
        match data.draw(st.sampled_from(["change", "remove", "insert", "swap"]), label="edit"):
            case "change":
                entries = replace(entries, place, salt="ab" * 16, wire_bytes=7)
            case "remove":
                entries = [*entries[:place], *entries[place + 1 :]]
            case "insert":
                entries = [*entries[:place], msgspec.structs.replace(entries[place], salt="cd" * 16), *entries[place:]]
            case "swap":
                other = max(start, place - 1)
                entries = (
                    [
                        *entries[:other],
                        entries[place],
                        *entries[other + 1 : place],
                        entries[other],
                        *entries[place + 1 :],
                    ]
                    if other < place
                    else entries
                )
    return entries


OWNERS = [SITE, COORDINATOR]
HOWS = ["kept", "deleted", "partly", "signers", "roster"]


@settings(quick, max_examples=100)
@given(
    data=st.data(),
    name=st.sampled_from(OWNERS),
    how=st.sampled_from(["kept", "deleted", "partly", "signers", "roster"]),
)
def test_a_ledger_written_anew_is_caught(
    group: Group, tmp_path: Path, data: st.DataObject, name: str, how: str
) -> None:
    """With old evidence kept, deleted, deleted beyond the change, or replaced by what invented cosigners signed.

    Not caught is a change behind everything that was cosigned; such entries are counted as not cosigned.
    """
    shutil.rmtree(tmp_path / "example", ignore_errors=True)
    home = Path(shutil.copytree(group.home(name), tmp_path / "example"))
    old, chain, last = evidence(home), chain_of(home), newest(home).log.size
    start = data.draw(st.integers(1, chain.sequence - 1), label="start")
    entries = edited(read(home), data, start)
    new = rewrite(home, group.keys[name], entries)
    same = new.sequence >= last and new.tree.root(last) == chain.tree.root(last)
    roster = next(iter(check(group.home(name)).rosters.values()))
    strangers = {party: identity_of(party, "invented") for party in group.identities}
    if how != "kept":
        forget_evidence(home, above=start if how == "partly" else -1)
    if how == "signers":
        keep(home, *_invented(old, new, group, name, roster, {**strangers, name: group.identities[name]}))
    if how == "roster":
        other = make_roster(roster.study, {**strangers, name: group.identities[name]})
        keep_roster(home, other)
        keep(home, *_invented(old, new, group, name, other, {**strangers, name: group.identities[name]}))
    found = check(home, complete=True)
    if how == "kept" and same:
        assert found.ok or found.problems
        assert found.cosigned == last
    elif how == "partly" and same and start >= last:
        assert found.cosigned == last
    else:
        assert found.problems


def _invented(
    old: list[Evidence], new: Any, group: Group, name: str, roster: Any, identities: Any
) -> Iterator[Evidence]:
    for each in old:
        if each.log.size <= new.sequence:
            note = checkpoint(group.keys[name], new, each.log.size)
            yield invent(roster, identities, name, note, number=each.number)


def test_a_rewritten_ledger_does_not_fit_what_others_cosigned(home: Path, group: Group) -> None:
    rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    found = check(home)
    assert found.problems[0] == (
        "the cosigned checkpoint of 4 entries is of another ledger than this one, which was rewritten or forked since"
    )
    assert len([text for text in found.problems if "rewritten or forked" in text]) == 3
    assert found.cosigned == 0


def test_a_rewritten_ledger_without_its_evidence_is_covered_by_nothing(home: Path, group: Group) -> None:
    rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    forget_evidence(home)
    problem(home, "its close (entry 15) is under no checkpoint that enough others cosigned")


def test_a_rewritten_ledger_with_strangers_signatures_is_refused(home: Path, group: Group) -> None:
    new = rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    old = evidence(home)
    forget_evidence(home)
    strangers = {party: identity_of(party, "invented") for party in group.identities}
    roster = next(iter(check(home).rosters.values()))
    keep(home, *_invented(old, new, group, SITE, roster, {**strangers, SITE: group.identities[SITE]}))
    problem(home, "the cosigned checkpoint of 4 entries is in a batch that the coordinator did not sign")
    forget_evidence(home)
    partly = {**strangers, SITE: group.identities[SITE], COORDINATOR: group.identities[COORDINATOR]}
    keep(home, *_invented(old, new, group, SITE, roster, partly))
    problem(home, "the cosigned checkpoint of 4 entries has a wrong cosignature of birch")


def test_a_site_and_the_coordinator_need_another_site_too(home: Path, group: Group) -> None:
    """Together with its coordinator, but without the threshold of cosigners, nothing is covered."""
    new = rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    roster = next(iter(check(home).rosters.values()))
    for signers in ([], [SITE], [SITE, "birch"]):
        forget_evidence(home)
        note = checkpoint(group.keys[SITE], new, 16)
        keep(home, invent(roster, group.identities, SITE, note, number=59, signers=signers))
        found = check(home)
        assert f"was cosigned by {len(signers)} sites, fewer than the threshold of 3" in found.notes[0]
        assert found.cosigned == 0
        problem(home, "its close (entry 15) is under no checkpoint")
    forget_evidence(home)
    keep(home, invent(roster, group.identities, SITE, note, number=59, signers=[SITE, "birch", "cedar"]))
    assert check(home).ok  # as many as the threshold: then they are the majority that the study trusts


def test_a_cosigner_counts_once(home: Path, group: Group) -> None:
    roster = next(iter(check(home).rosters.values()))
    note = checkpoint(group.keys[SITE], chain_of(home), 16)
    one = invent(roster, group.identities, SITE, note, number=59, signers=[SITE])
    two = invent(roster, group.identities, SITE, note, number=59, signers=[SITE], time=1_767_225_601)
    batch = one.proof.checkpoint
    many = SignedNote(batch.text, (*batch.signatures, *two.proof.checkpoint.signatures[1:] * 3))
    forget_evidence(home)
    keep(home, Evidence.make(one.proof.index, _leaves(one), many, note, {}))
    found = check(home)
    assert found.evidence[0].cosigners == {SITE: 1_767_225_600 + 1} or len(found.evidence[0].cosigners) == 1
    problem(home, "under no checkpoint that enough others cosigned")


def _leaves(each: Evidence) -> Any:
    return b.Leaves.joined(each.leaves)


def test_an_invented_roster_beside_the_real_one_covers_nothing(home: Path, group: Group) -> None:
    new = rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    forget_evidence(home)
    cheat = {**{party: identity_of(party, "invented") for party in group.identities}, SITE: group.identities[SITE]}
    roster = make_roster(next(iter(check(home).rosters.values())).study, cheat)
    keep_roster(home, roster)
    keep(home, invent(roster, cheat, SITE, checkpoint(group.keys[SITE], new, 16), number=59))
    found = check(home)
    assert found.problems[0] == "the cosigned checkpoint of 16 entries is of a study that no entry before it opens"
    assert any("its close (entry 15) is under no checkpoint" in text for text in found.problems)
    assert found.cosigned == 0


def invented_world(home: Path, group: Group, **changes: Any) -> None:
    """A whole new past: another roster with strangers in it, named by the ledger, and all that they signed."""
    cheat = {**{party: identity_of(party, "invented") for party in group.identities}, SITE: group.identities[SITE]}
    entries, old = read(home), evidence(home)
    study = bytes.fromhex(entries[1].study)
    roster = make_roster(study, cheat)
    facts = {**(entries[1].facts or {}), "roster": roster.digest.hex()}
    entries = replace(replace(entries, 1, facts=facts), 3, wire_bytes=1, **changes)
    new = rewrite(home, group.keys[SITE], entries)
    shutil.rmtree(home / "rosters")
    keep_roster(home, roster)
    forget_evidence(home)
    keep(home, *_invented(old, new, group, SITE, roster, cheat))


def test_by_itself_a_ledger_whose_owner_invented_everybody_holds(home: Path, group: Group) -> None:
    """The limit of what one ledger shows: whose keys the roster has, only their owners can say.

    See `test_comparing` for the others' ledgers beside it, and `platform.audit` for keys that the auditor was given.
    """
    invented_world(home, group)
    found = check(home, complete=True)
    assert found.ok
    (roster,) = found.named.values()
    assert roster.coordinator_key != group.identities[COORDINATOR].public_key.hex()


def test_by_itself_a_ledger_that_says_that_nothing_left_holds_and_tells_so(home: Path, group: Group) -> None:
    """Another limit: a site that was silent all along has nothing to show; `reconcile` knows better."""
    entries = read(home)
    rewrite(home, group.keys[SITE], [entry for entry in entries if entry.direction != "out"])
    forget_evidence(home)
    found = check(home, complete=True)
    assert found.ok
    assert f"nothing of study {entries[1].study[:12]} left, so nobody had anything to cosign" in found.notes


def test_a_ledger_that_names_no_roster_or_another_studys_is_refused(home: Path, group: Group) -> None:
    entries = read(home)
    forget_evidence(home)
    rewrite(home, group.keys[SITE], replace(entries, 1, facts=None))
    problem(home, f"entry 1 opens study {entries[1].study[:12]} without a roster")
    other = make_roster(b"\1" * 32, group.identities)
    keep_roster(home, other)
    rewrite(home, group.keys[SITE], replace(entries, 1, facts={"roster": other.digest.hex()}))
    problem(home, f"entry 1 opens study {entries[1].study[:12]} under the roster of another study")
    keyless = make_roster(bytes.fromhex(entries[1].study), group.identities, coordinator_key="")
    keep_roster(home, keyless)
    rewrite(home, group.keys[SITE], replace(entries, 1, facts={"roster": keyless.digest.hex()}))
    problem(home, f"the roster {keyless.digest.hex()[:12]} that entry 1 names has no coordinator's key")
    alone = make_roster(bytes.fromhex(entries[1].study), group.identities, ["birch", "cedar", "dogwood"])
    keep_roster(home, alone)
    rewrite(home, group.keys[SITE], replace(entries, 1, facts={"roster": alone.digest.hex()}))
    problem(home, f"the roster {alone.digest.hex()[:12]} that entry 1 names does not know 'amber'")


def test_evidence_under_a_roster_without_coordinator_is_a_problem_and_no_crash(home: Path, group: Group) -> None:
    entries = read(home)
    keyless = make_roster(bytes.fromhex(entries[1].study), group.identities, coordinator_key="")
    keep_roster(home, keyless)
    note = checkpoint(group.keys[SITE], chain_of(home), 16)
    keep(home, invent(keyless, group.identities, SITE, note, number=59))
    problem(home, "the cosigned checkpoint of 16 entries is of a study without a coordinator's key")


def test_evidence_of_a_study_without_this_site_is_named(home: Path, group: Group) -> None:
    entries = read(home)
    alone = make_roster(bytes.fromhex(entries[1].study), group.identities, ["birch", "cedar", "dogwood"])
    keep_roster(home, alone)
    keep(home, invent(alone, group.identities, "birch", checkpoint(group.keys[SITE], chain_of(home), 16), number=59))
    problem(home, "the cosigned checkpoint of 16 entries is of a study in which 'amber' has no part")


@pytest.mark.parametrize("change", [(b'"cohort":3', b'"cohort":2'), (b'"threshold":3', b'"threshold":9'), (b"{", b"[")])
def test_a_damaged_roster_is_named_and_the_others_are_read(home: Path, group: Group, change: Any) -> None:
    (path,) = (home / "rosters").iterdir()
    bad = path.with_name("0" * 64 + ".json")
    bad.write_bytes(path.read_bytes().replace(*change, 1))
    assert bad.read_bytes() != path.read_bytes()
    found = check(home)
    assert [text.startswith(f"rosters/{bad.name}: ") for text in found.problems] == [True]
    assert found.cosigned == 16


def test_a_missing_roster_is_named(home: Path) -> None:
    (path,) = (home / "rosters").iterdir()
    path.unlink()
    problem(home, f"the roster {path.stem[:12]} that entry 1 names is not here")


# --- truncation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWNERS)
def test_a_ledger_cut_at_any_size_lacks_its_close_in_a_complete_run(
    group: Group, homes: dict[str, Path], name: str
) -> None:
    home, lines, chain = homes[name], lines_of(homes[name]), chain_of(homes[name])
    last = newest(home).log.size
    for size in range(len(lines) - 1, -1, -1):
        write(home, lines[:size])
        forget_evidence(home, above=size)
        sign_latest(home, group.keys[name], chain, size)
        found = check(home, complete=True)
        # the coordinator's receipt tells of the closing receipt, which is behind the close
        assert found.ok == (size >= last + (name == SITE)), (size, found.problems)
        if size == 0:
            assert found.problems == ["the ledger is empty: nothing was written down, or all of it was removed"]


def test_a_ledger_cut_before_its_study_was_opened_is_named(home: Path, group: Group) -> None:
    rewrite(home, group.keys[SITE], read(home)[:1])
    forget_evidence(home)
    shutil.rmtree(home / "rosters")
    assert check(home).ok
    problem(home, "the run is complete, and none of the 1 entries here opens its study", complete=True)


# --- evidence that is not this ledger's ------------------------------------------------------------------------------


def test_evidence_of_another_run_is_named(home: Path, group: Group, tmp_path: Path) -> None:
    other = whole(tmp_path / "other", seed="others")
    shutil.copy(EvidenceStore(other.home(SITE) / "checkpoints").paths()[0], home / "checkpoints" / "9.tlog-proof")
    problem(home, "the cosigned checkpoint of 4 entries is of a study whose roster is not here")
    shutil.copytree(other.home(SITE) / "rosters", home / "rosters", dirs_exist_ok=True)
    problem(home, "the cosigned checkpoint of 4 entries is of another identity's ledger")


def test_evidence_of_another_site_is_named(home: Path, homes: dict[str, Path]) -> None:
    forget_evidence(home)
    for path in EvidenceStore(homes["birch"] / "checkpoints").paths():
        shutil.copy(path, home / "checkpoints" / path.name)
    problem(home, "the cosigned checkpoint of 4 entries is of another identity's ledger")


def test_evidence_of_the_same_site_in_another_ledger_is_named(home: Path, tmp_path: Path) -> None:
    other = whole(tmp_path / "other")  # the same people once more, with other salts
    for path in (other.home(SITE) / "checkpoints").iterdir():
        shutil.copy(path, home / "checkpoints" / path.name)
    problem(home, "the cosigned checkpoint of 4 entries is of another ledger than this one")


def test_a_checkpoint_in_no_place_or_another_partys_is_named(home: Path, group: Group) -> None:
    """Everybody signed the batch, but the site's checkpoint is not where the site's belongs."""
    roster = next(iter(check(home).rosters.values()))
    own, empty = newest(home), [b.absent_leaf(party) for party in (COORDINATOR, *group.sites)]
    leaf = b.ledger_leaf(group.identities[SITE].public_key, own.log.size, own.log.root)
    for index, hashes in ((1, empty), (2, [*empty[:2], leaf, *empty[3:]])):
        leaves = b.Leaves.joined(b"".join(hashes))
        keep(home, Evidence.make(index, leaves, signed_by_all(group, roster, leaves), own.checkpoint, {}))
        problem(home, "the cosigned checkpoint of 16 entries is not in the batch that it is said to be in")


def signed_by_all(group: Group, roster: Any, leaves: b.Leaves, number: int = 59) -> SignedNote:
    """The note of a batch of any leaves, with every party's signature."""
    leader, time = group.identities[COORDINATOR], 1_767_225_660
    batch = b.batch_checkpoint(roster, number, leaves.tree.root)
    note = signed(batch, b.COORDINATOR_KEY, leader.sign_note, leader.public_key)
    for name in group.sites:
        signature = group.identities[name].sign_note(cosignature_message(time, note.text))
        note = add_cosignature(note, b.site_key_name(name), group.identities[name].public_key, time, signature)
    return note


def test_leaves_of_another_batch_are_named(home: Path, group: Group) -> None:
    each = newest(home)
    extra = json.loads(each.proof.extra)
    for leaves in (each.leaves[32:] + each.leaves[:32], each.leaves[:-32], b"", each.leaves[:-1]):
        extra["leaves"] = base64.b64encode(leaves).decode()
        data = json.dumps(extra, separators=(",", ":"), sort_keys=True).encode()
        proof = with_extra(each, data)
        (home / "checkpoints" / "000000000016.tlog-proof").write_bytes(proof)
        problem(home, "the cosigned checkpoint of 16 entries is kept with leaves of another batch")


def with_extra(each: Evidence, extra: bytes) -> bytes:
    return Proof(each.proof.index, each.proof.path, each.proof.checkpoint, extra).to_bytes()


def test_a_batch_of_another_form_is_named(home: Path, group: Group) -> None:
    """Signed by everybody, but with extra lines, or another number of leaves than parties."""
    from wardround.privacy.ledger import batches as b

    roster = next(iter(check(home).rosters.values()))
    each = newest(home)
    leader = group.identities[COORDINATOR]
    for text in (
        Checkpoint(b.batch_origin(roster, 59), 6, each.batch.root),
        Checkpoint(b.batch_origin(roster, 59), 5, each.batch.root, ("more",)),
        Checkpoint(b.batch_origin(roster, 59).replace("/59", "/059"), 5, each.batch.root),
    ):
        note = signed(text, b.COORDINATOR_KEY, leader.sign_note, leader.public_key)
        made = Evidence.make(each.proof.index, _leaves(each), note, each.checkpoint, {})
        keep(home, made)
        problem(home, "the cosigned checkpoint of 16 entries is in a batch of another form than the roster's")
    for origin in ("wardround/other/a/b/59", "wardround/batch/59", "elsewhere/59"):
        text = Checkpoint(origin, 5, each.batch.root)
        note = SignedNote(text.text(), each.proof.checkpoint.signatures)
        keep(home, Evidence.make(each.proof.index, _leaves(each), note, each.checkpoint, {}))
        problem(home, "the cosigned checkpoint of 16 entries is in no batch of a study")


def test_two_checkpoints_under_one_number_are_named(home: Path, group: Group) -> None:
    """A coordinator that signs two roots under one number, and a site that keeps both."""
    roster = next(iter(check(home).rosters.values()))
    first = evidence(home)[0]
    keep(
        home,
        invent(roster, group.identities, SITE, checkpoint(group.keys[SITE], chain_of(home), 7), number=first.number),
    )
    problem(
        home,
        f"the checkpoint of 7 entries is in batch {first.number}, one of 4 entries in batch {first.number}: numbers",
    )


def test_a_batch_number_that_falls_is_named(home: Path, group: Group) -> None:
    roster = next(iter(check(home).rosters.values()))
    note = checkpoint(group.keys[SITE], chain_of(home), 16)
    first, second, _ = evidence(home)
    for number in (1, first.number, second.number - 1, second.number):
        keep(home, invent(roster, group.identities, SITE, note, number=number))
        problem(
            home,
            f"the checkpoint of 16 entries is in batch {number}, one of {second.log.size} entries in batch "
            f"{second.number}: numbers must rise",
        )


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_for_what_the_ledger_lacks_is_named(tmp_path: Path) -> None:
    """A site that leaves a transmission out of its ledger, and has the rest cosigned: the receipt tells of it."""
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.rounds = 7
    vector = studied.vector(SITE)
    studied.rounds = 0
    wire = encode(vector)
    studied.gates[COORDINATOR].admit(wire, peer=SITE, expected=(type(vector),))  # the site never wrote it down
    studied.round()
    studied.end()
    found = check(group.home(SITE))
    assert len(found.problems) == 1
    assert "coordinator signed, with the checkpoint of 4 entries, to have received 1 messages" in found.problems[0]
    assert check(group.home("birch")).ok


def test_a_receipt_that_was_changed_or_moved_is_named(home: Path, homes: dict[str, Path]) -> None:
    first, second, _ = evidence(home)
    for name, wire in (
        (COORDINATOR, b""),
        (COORDINATOR, b"\xff" * 40),
        (COORDINATOR, first.messages[COORDINATOR]),  # a true one, of another batch
        (COORDINATOR, evidence(homes["birch"])[1].messages[COORDINATOR]),  # to another site
        ("birch", second.messages[COORDINATOR]),
    ):
        keep(
            home,
            Evidence.make(
                second.proof.index, _leaves(second), second.proof.checkpoint, second.checkpoint, {name: wire}
            ),
        )
        problem(home, f"the cosigned checkpoint of {second.log.size} entries is kept with a receipt of {name!r}")


def test_a_receipt_of_another_round_at_the_coordinator_is_named(homes: dict[str, Path]) -> None:
    home = homes[COORDINATOR]
    first, second, _ = evidence(home)
    for name, wire in (
        ("amber", first.messages["amber"]),  # a true one of the round before
        ("amber", second.messages["birch"]),
        ("zebra", second.messages["birch"]),
        ("amber", evidence(homes["amber"])[1].messages[COORDINATOR]),
    ):
        messages = {**second.messages, name: wire}
        keep(home, Evidence.make(0, _leaves(second), second.proof.checkpoint, second.checkpoint, messages))
        problem(home, f"the cosigned checkpoint of {second.log.size} entries is kept with a receipt of {name!r}")


@pytest.mark.parametrize("name", OWNERS)
def test_a_receipt_without_its_signature_is_named(homes: dict[str, Path], name: str) -> None:
    """Of the right batch and checkpoint, but with one acknowledgement less than was signed."""
    home = homes[name]
    each = newest(home)
    (peer, wire), *others = each.messages.items()
    message = decode(wire, (Batch, Receipt), Limits(4, 0, 0))
    assert isinstance(message, Batch | Receipt)
    less = msgspec.structs.replace(message, received=message.received[1:])
    messages = {peer: encode(less), **dict(others)}
    keep(home, Evidence.make(each.proof.index, _leaves(each), each.proof.checkpoint, each.checkpoint, messages))
    problem(home, f"the cosigned checkpoint of {each.log.size} entries is kept with a receipt of {peer!r}")
    last = check(home).evidence[-1]
    assert last.enough
    assert not last.holds
    assert check(home).cosigned == evidence(home)[-2].log.size


def test_a_receipt_that_states_another_checkpoint_is_named(home: Path, group: Group) -> None:
    entries = read(home)
    number = find(home, message_type="receipt", direction="out")[1]
    for changes in ({"size": number - 1}, {"root": "00" * 32}):
        facts = {**(entries[number].facts or {}), **changes}
        chain, lines = chain_of_until(entries, number), []
        for entry in replace(entries, number, facts=facts)[number:]:
            line = msgspec.structs.replace(entry, previous=chain.head).line()
            assert not chain.take(line)
            lines.append(line + b"\n")
        write(home, [*lines_of(group.home(SITE))[:number], *lines])
        assert f"entry {number} states another checkpoint than this ledger had there" in check(home).problems


def chain_of_until(entries: list[Entry], number: int) -> Any:
    chain = Chain()
    for entry in entries[:number]:
        assert not chain.take(entry.line())
    return chain


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_ledger_of_another_identity_than_the_rosters_is_a_wrong_key(home: Path, group: Group, tmp_path: Path) -> None:
    other = Group(tmp_path / "other", seed="thief")
    rewrite(home, other.keys[SITE], read(home))
    assert "has another identity for amber than entry 0: a wrong key" in problem(home)


def test_a_ledger_without_a_key_is_named(home: Path, group: Group) -> None:
    entries = [entry for entry in read(home) if entry.kind != "key"]
    rewrite(home, group.keys[SITE], entries)
    forget_evidence(home)
    problem(home, "no entry names a key that signs this ledger")


def test_a_rotated_key_signs_from_then_on_and_the_old_one_no_more(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round()
    old = group.keys[SITE]
    group.rotate(SITE)
    studied.witnesses[SITE]._key = group.keys[SITE]  # what a restart does
    studied.round()
    studied.end()
    home = group.home(SITE)
    group.close()
    found = check(home, complete=True)
    assert found.ok, found.problems
    assert not any("lost" in note for note in found.notes)
    last, chain = newest(home), chain_of(home)
    by_old = checkpoint(old, chain, last.log.size)
    keep(home, Evidence.make(last.proof.index, _leaves(last), last.proof.checkpoint, by_old, last.messages))
    problem(
        home, f"the cosigned checkpoint of {last.log.size} entries is not signed by the ledger key that was in force"
    )
    keep(home, last)
    sign_latest(home, old, chain, chain.sequence)
    problem(home, f"(latest.txt), of {chain.sequence} entries, is not signed by the key in force there")
    sign_latest(home, group.keys[SITE], chain, chain.sequence)
    assert check(home).ok


def test_a_lost_key_that_was_replaced_is_told(tmp_path: Path) -> None:
    group = whole(tmp_path / "parties", then=lambda group, _: group.rotate(SITE, lost=True))
    found = check(group.home(SITE))
    assert found.ok
    assert "entry 20 replaces a ledger key that was lost" in found.notes


def test_a_latest_checkpoint_of_more_or_other_entries_is_named(home: Path, group: Group, tmp_path: Path) -> None:
    other = whole(tmp_path / "other", then=lambda group, _: group.rotate(SITE))
    longer = chain_of(other.home(SITE))
    sign_latest(home, group.keys[SITE], longer, 21)
    problem(home, "(latest.txt) is of 21 entries, the ledger has 20: its end was cut off")
    same_key = rewritten_root(home, group)
    EvidenceStore(home / "checkpoints").save_latest(same_key)
    problem(home, "(latest.txt), of 20 entries, is of another ledger")


def rewritten_root(home: Path, group: Group) -> SignedNote:
    key = group.keys[SITE]
    return signed(Checkpoint(key.origin, 20, bytes(32)), key.origin, key.sign, key.public_key)


# --- clocks ----------------------------------------------------------------------------------------------------------


def moved(entry: Entry, seconds: float) -> str:
    time = datetime.fromisoformat(entry.time) + timedelta(seconds=seconds)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def with_real_signatures(home: Path, group: Group, entries: list[Entry]) -> None:
    """A rewritten ledger that all others were made to cosign at the old times: only the clock can give it away."""
    old, roster = evidence(home), next(iter(check(home).rosters.values()))
    new = rewrite(home, group.keys[SITE], entries)
    for each, judged in zip(old, check(group.home(SITE)).evidence, strict=True):
        time = int(judged.time or 0)
        note = checkpoint(group.keys[SITE], new, each.log.size)
        keep(home, invent(roster, group.identities, SITE, note, number=each.number, time=time))


@pytest.mark.parametrize("number", [7, 8, 9, 16, 17])
def test_an_entry_dated_an_hour_back_is_named(home: Path, group: Group, number: int) -> None:
    """Others cosigned what is before it, an hour later than it says; anywhere between checkpoints, not just beside."""
    entries = read(home)
    with_real_signatures(home, group, replace(entries, number, time=moved(entries[number], -3600)))
    found = check(home)
    size = max(each.log.size for each in evidence(home) if each.log.size <= number)
    assert len(found.problems) == 1, found.problems
    assert f"entry {number} is dated" in found.problems[0]
    assert f"the checkpoint of {size} entries, which comes before it" in found.problems[0]
    assert f"entry {number} is dated before the one before it: a clock was set back" in found.notes


@pytest.mark.parametrize("number", [2, 5, 6, 12])
def test_an_entry_dated_an_hour_ahead_is_named(home: Path, group: Group, number: int) -> None:
    entries = read(home)
    with_real_signatures(home, group, replace(entries, number, time=moved(entries[number], 3600)))
    found = check(home)
    assert f"entry {number} is dated" in found.problems[0]
    assert "entries, which comes after it" in found.problems[0]


def test_a_whole_ledger_dated_back_is_named(home: Path, group: Group) -> None:
    entries = [msgspec.structs.replace(entry, time=moved(entry, -TOLERANCE - 300)) for entry in read(home)]
    with_real_signatures(home, group, entries)
    found = check(home)
    assert not [note for note in found.notes if "clock" in note]
    assert "which comes before it" in found.problems[0]
    assert len(found.problems) == 3  # one entry is named behind each of the three checkpoints


def test_a_small_step_back_is_told_and_no_failure(home: Path, group: Group) -> None:
    entries = read(home)
    with_real_signatures(home, group, replace(entries, 8, time=moved(entries[8], -60)))
    found = check(home)
    assert found.ok
    assert "entry 8 is dated before the one before it: a clock was set back" in found.notes


def test_one_wrong_clock_among_cosigners_decides_nothing(home: Path, group: Group) -> None:
    roster, each = next(iter(check(home).rosters.values())), newest(home)
    made = invent(roster, group.identities, SITE, each.checkpoint, number=59, signers=[SITE, "birch", "cedar"])
    note = made.proof.checkpoint
    late = 2**62
    signature = group.identities["dogwood"].sign_note(cosignature_message(late, note.text))
    note = add_cosignature(note, b.site_key_name("dogwood"), group.identities["dogwood"].public_key, late, signature)
    keep(home, Evidence.make(made.proof.index, _leaves(made), note, each.checkpoint, {}))
    assert check(home).ok


def test_the_owners_own_clock_is_no_witness(home: Path, group: Group) -> None:
    roster, each = next(iter(check(home).rosters.values())), newest(home)
    made = invent(roster, group.identities, SITE, each.checkpoint, number=59, signers=["birch"], time=1_767_225_660)
    note = made.proof.checkpoint
    signature = group.identities[SITE].sign_note(cosignature_message(1_767_229_260, note.text))
    own = group.identities[SITE].public_key
    note = add_cosignature(note, b.site_key_name(SITE), own, 1_767_229_260, signature)
    keep(home, Evidence.make(made.proof.index, _leaves(made), note, each.checkpoint, {}))
    found = check(home)
    assert found.evidence[-1].cosigners == {SITE: 1_767_229_260, "birch": 1_767_225_660}
    assert found.evidence[-1].time == 1_767_225_660
    assert not any("is dated" in text for text in found.problems)


def test_a_checkpoint_of_another_ledger_is_no_witness_of_time(home: Path, group: Group) -> None:
    roster = next(iter(check(home).rosters.values()))
    other = rewrite(home, group.keys[SITE], replace(read(home), 3, wire_bytes=1))
    shutil.copy(group.home(SITE) / "ledger.jsonl", home / "ledger.jsonl")
    note = checkpoint(group.keys[SITE], other, 16)
    keep(home, invent(roster, group.identities, SITE, note, number=59, time=1_767_232_800))
    found = check(home)
    assert any("checkpoint of 16 entries is of another ledger" in text for text in found.problems)
    assert not any("is dated" in text for text in found.problems)


def test_a_time_beyond_all_calendars_is_a_problem_and_no_crash(home: Path, group: Group) -> None:
    roster, each = next(iter(check(home).rosters.values())), newest(home)
    keep(home, invent(roster, group.identities, SITE, each.checkpoint, number=59, time=2**62))
    problem(home, "seconds after 1970: a clock was set back, or forward")


# --- what is no ledger at all ----------------------------------------------------------------------------------------

DEEP = b'{"a":' * 3000 + b"1" + b"}" * 3000
HOSTILE = [
    b"\n",
    b"\0\n",
    b"\xff\xfe\n",
    b"null\n",
    b"[]\n",
    b"{}\n",
    DEEP + b"\n",
    b"[" * 100_000 + b"\n",
    b'{"sequence":1e400}\n',
    b'{"sequence":' + b"9" * 5000 + b"}\n",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_a_line_that_is_no_entry_is_named(home: Path, line: bytes) -> None:
    lines = lines_of(home)
    write(home, [*lines[:7], line, *lines[7:]])
    problem(home, "entry 7 (line 8) is no ledger entry")
    write(home, [line])
    problem(home, "entry 0 (line 1) is no ledger entry")


def test_an_empty_ledger_is_named(home: Path) -> None:
    write(home, [])
    assert check(home).problems == ["the ledger is empty: nothing was written down, or all of it was removed"]


@pytest.mark.parametrize(
    "fields",
    [
        {"time": "yesterday"},
        {"time": "2026-13-01T00:00:00.000000Z"},
        {"time": "2026-01-01T00:00:00Z"},
        {"time": ""},
        {"wire_sha256": "xyz"},
        {"wire_sha256": ""},
        {"wire_sha256": "AB" * 32},
    ],
)
def test_an_owner_that_writes_nonsense_is_named(home: Path, group: Group, fields: dict[str, Any]) -> None:
    number = find(home, message_type="masked-vector")[1]
    rewrite(home, group.keys[SITE], replace(read(home), number, **fields))
    text = problem(home, f"entry {number} (line {number + 1})")
    assert "does not say which bytes left" in text or "has a time of another form" in text


@pytest.mark.parametrize(
    "facts", [{"size": "ab"}, {"size": -5, "root": "ab"}, {"size": 2**52, "root": "00" * 32}, None]
)
@pytest.mark.parametrize("kind", ["receipt", "cosignature"])
def test_facts_of_another_form_do_no_harm(home: Path, facts: Any, kind: str) -> None:
    number = find(home, message_type=kind, direction="out")[0]
    head, lines = "0" * 64, []
    for entry in replace(read(home), number, facts=facts):
        line = msgspec.structs.replace(entry, previous=head).line()
        head = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
    write(home, lines)
    found = check(home)
    assert found.problems
    if facts == {"size": "ab"}:
        assert found.problems[0] == f"entry {number} (line {number + 1}) states 'size' in another form"
    elif kind == "receipt":
        assert any(f"entry {number} states another checkpoint" in text for text in found.problems)


@quick
@given(data=st.data())
def test_nothing_in_any_file_makes_it_raise(fresh: Callable[[], Path], data: st.DataObject) -> None:
    home = fresh()
    files = sorted(path for path in home.rglob("*") if path.is_file() and path.name != "ledger-key.bin")
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    junk = data.draw(st.one_of(st.binary(max_size=200), st.sampled_from([DEEP, b"\0" * 50, b"\xff\n\n", b""])))
    place = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.sampled_from([place, min(place + 1, len(whole)), len(whole)]))
    path.write_bytes(whole[:place] + junk + whole[end:])
    found = check(home)
    for text in found.problems:
        assert "entry" in text or "entries" in text or path.name in text or "the ledger is empty" in text


@pytest.mark.parametrize("name", ["checkpoints/000000000004.tlog-proof", "checkpoints/latest.txt", "rosters/x.json"])
def test_a_folder_or_pipe_in_the_place_of_a_file_is_named(home: Path, name: str) -> None:
    path = home / name
    path.unlink(missing_ok=True)
    path.mkdir()
    found = check(home)
    if name.endswith("latest.txt"):
        assert found.ok  # the owner's own signature alone proves nothing that others do not
    else:
        assert any("cannot be read" in text for text in found.problems)
    path.rmdir()
    if name.endswith("tlog-proof"):
        os.mkfifo(path)
        assert "cannot be read: it is no file" in problem(home)


def test_files_that_may_not_be_read_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.read_bytes

    def refuse(name: str) -> None:
        def read_bytes(path: Path) -> bytes:
            if path.name.endswith(name):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)

    for name in ("004.tlog-proof", "latest.txt", ".json"):
        refuse(name)
        assert any("cannot be read: Permission denied" in text for text in check(home).problems), name


def test_a_ledger_that_cannot_be_read_is_an_error(home: Path) -> None:
    with pytest.raises(LedgerError, match="the ledger cannot be read"):
        verify(home)
    with pytest.raises(LedgerError, match="the ledger cannot be read"):
        verify(home / "none.jsonl")


def test_proofs_may_lie_elsewhere(home: Path, tmp_path: Path) -> None:
    shutil.move(home / "ledger.jsonl", tmp_path / "other.jsonl")
    assert verify(tmp_path / "other.jsonl", home).ok
    found = verify(tmp_path / "other.jsonl")
    assert any("is not here" in text for text in found.problems)
