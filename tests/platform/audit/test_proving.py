"""Proofs of single entries: all that others cosigned can be proven, and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.platform.audit.proving import Proven, check_proof, prove
from wardround.platform.audit.sources import Source, find_sources
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.checkpoints import Checkpoint, signed
from wardround.privacy.ledger.entries import Entry
from wardround.privacy.ledger.evidence import Evidence, EvidenceStore
from wardround.privacy.ledger.notes import SignedNote
from wardround.privacy.ledger.proofs import Proof
from wardround.privacy.ledger.rosters import read_rosters
from wardround.privacy.merkle import Tree, leaf_hash
from wardround.privacy.secure_aggregation.roster import Roster

from ...privacy.ledger.audited import Group, Studied, invent, read, whole
from .audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    return make_run(tmp_path_factory.mktemp("others") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


def source(run: Path, party: str) -> Source:
    (found,) = find_sources([run / "coordinator" if party == "coordinator" else run / "sites" / party])
    return found


def cosigned(found: Source) -> int:
    return max(int(path.name.split(".")[0]) for path in EvidenceStore(found.checkpoints).paths())


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("party", ["site-1", "site-3", "coordinator"])
def test_every_entry_that_others_cosigned_is_proven(made: Path, tmp_path: Path, party: str) -> None:
    found = source(made, party)
    lines = found.ledger.read_bytes().splitlines()
    sizes = sorted(int(path.name.split(".")[0]) for path in EvidenceStore(found.checkpoints).paths())
    for number in range(cosigned(found)):
        proven = check_proof(write(tmp_path / "proof", prove(found, number)))
        assert proven.owner == party
        assert proven.entry == json.loads(lines[number])
        assert proven.size == min(size for size in sizes if size > number)
        assert list(proven.cosigners) == ["site-1", "site-2", "site-3"]
        assert set(proven.identities) == set(proven.fingerprints) == {"site-1", "site-2", "site-3", "coordinator"}


def test_a_proof_shows_no_other_entry(made: Path) -> None:
    found = source(made, "coordinator")
    proof = Proof.parse(prove(found, 5))
    extra = json.loads(proof.extra)
    assert extra["entry"].encode() == found.ledger.read_bytes().splitlines()[5]
    assert Evidence.parse(extra["batch"].encode(), where="").messages == {}
    assert set(extra) == {"entry", "batch", "roster"}


def test_what_is_not_cosigned_or_not_there_is_an_error(made: Path) -> None:
    found = source(made, "site-1")
    last, entries = cosigned(found), len(found.ledger.read_bytes().splitlines())
    for number in (last, entries - 1):
        with pytest.raises(LedgerError, match=f"no checkpoint over entry {number} was cosigned by enough") as raised:
            prove(found, number)
        assert raised.value.remedy == f"Entries up to {last - 1} can be proven"
    for number in (entries, -1, 10**30):
        with pytest.raises(LedgerError, match=f"there is no entry {number}") as raised:
            prove(found, number)
        assert f"from 0 to {entries - 1}" in raised.value.remedy


def test_of_a_ledger_that_does_not_hold_nothing_is_proven(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site-1"
    shutil.copytree(made / "sites" / "site-1", folder)
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"round":1', b'"round":2', 1))
    with pytest.raises(LedgerError, match="the ledger does not hold: entry") as raised:
        prove(Source("site-1", ledger, folder), 0)
    assert "audit verify" in raised.value.remedy


def test_before_anything_was_cosigned_nothing_is_proven(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "site-1"
    shutil.copytree(made / "sites" / "site-1", folder)
    shutil.rmtree(folder / "checkpoints")
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:4]))
    with pytest.raises(LedgerError, match="no checkpoint over entry 0") as raised:
        prove(Source("site-1", ledger, folder), 0)
    assert raised.value.remedy == "Nothing was cosigned yet"


def test_by_fewer_than_the_threshold_nothing_is_proven(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    Studied(group).round(unsigned=["birch", "cedar"])
    with pytest.raises(LedgerError, match="no checkpoint over entry 0 was cosigned by enough") as raised:
        prove(Source("amber", group.home("amber") / "ledger.jsonl", group.home("amber")), 0)
    assert raised.value.remedy == "Nothing was cosigned yet"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), number=st.integers(0, 5))
def test_any_changed_byte_of_a_proof_is_refused(made: Path, tmp_path: Path, data: st.DataObject, number: int) -> None:
    """Immaterial is one thing: a cosigner's line under a name that nobody has, which counts as if it were not there.

    No such change is possible in a proof as it is written: that line is inside base64, whose other spellings are
    refused, and three bytes of it change at once; so it is tried at that level too.
    """
    good = prove(source(made, "site-1"), number)
    before = check_proof(write(tmp_path / "proof", good))
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(1, 255)) ^ good[place]
    write(tmp_path / "proof", good[:place] + bytes([byte]) + good[place + 1 :])
    refused_or_less(tmp_path / "proof", before)
    proof = Proof.parse(good)
    inner = bytearray(proof.extra)
    place = data.draw(st.integers(0, len(inner) - 1))
    inner[place] ^= data.draw(st.integers(1, 255))
    write(tmp_path / "proof", replace(proof, extra=bytes(inner)).to_bytes())
    refused_or_less(tmp_path / "proof", before)


def refused_or_less(path: Path, before: Proven) -> None:
    try:
        after = check_proof(path)
    except LedgerError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert said.startswith("this proves nothing: ")
        assert str(path) in said
        return
    assert replace(after, cosigners=before.cosigners) == before
    assert after.cosigners.items() < before.cosigners.items()
    assert len(after.cosigners) == len(before.cosigners) - 1 >= after.threshold


def parts_of(run: Path, party: str = "site-1", number: int = 3) -> tuple[Proof, dict[str, str]]:
    proof = Proof.parse(prove(source(run, party), number))
    return proof, json.loads(proof.extra)


def put(path: Path, proof: Proof, extra: dict[str, str], **changes: Any) -> Path:
    data = json.dumps(extra, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    return write(path, replace(proof, extra=data, **changes).to_bytes())


def refused(path: Path, words: str) -> None:
    with pytest.raises(LedgerError, match="this proves nothing: " + words):
        check_proof(path)


def test_parts_of_other_proofs_do_not_go_together(made: Path, other: Path, tmp_path: Path) -> None:
    path, (proof, extra) = tmp_path / "proof", parts_of(made)
    put(path, proof, extra)
    check_proof(path)
    _, late = parts_of(made, number=4)
    refused(put(path, proof, {**extra, "entry": late["entry"]}), "the entry is not in the checkpoint")
    refused(put(path, proof, extra, index=4), "the entry is not in the checkpoint")
    theirs, foreign = parts_of(made, "site-2")
    refused(put(path, proof, {**extra, "batch": foreign["batch"]}), "the batch is of another checkpoint")
    strangers, strange = parts_of(other)
    refused(put(path, proof, {**extra, "roster": strange["roster"]}), "the checkpoint is of another ledger")
    refused(put(path, proof, strange), "the entry is not in the checkpoint")
    refused(put(path, proof, {**strange, "entry": extra["entry"]}), "the batch is of another checkpoint")
    bare = Evidence.parse(extra["batch"].encode(), where="")
    refused(put(path, proof, {**extra, "batch": theirs.to_bytes().decode()}), "")
    lone = SignedNote(bare.proof.checkpoint.text, bare.proof.checkpoint.signatures[:2])
    few = Proof(bare.proof.index, bare.proof.path, lone, bare.proof.extra).to_bytes().decode()
    refused(put(path, proof, {**extra, "batch": few}), "1 sites cosigned, 2 are needed")
    nobody = SignedNote(bare.proof.checkpoint.text, bare.proof.checkpoint.signatures[1:])
    none = Proof(bare.proof.index, bare.proof.path, nobody, bare.proof.extra).to_bytes().decode()
    refused(put(path, proof, {**extra, "batch": none}), "the checkpoint is in a batch that the coordinator did not")
    assert strangers.index == proof.index


def test_a_line_that_no_ledger_would_have_is_refused(tmp_path: Path) -> None:
    """Cosigners see roots, not entries: a cheat may have any bytes cosigned, and prove that they are there."""
    group = whole(tmp_path / "parties")
    (roster,) = read_rosters(group.home("amber"))[0].values()
    entries, key = read(group.home("amber")), group.keys["amber"]
    plain = entries[3]
    lines = {
        "": plain.line(),
        "the checkpoint is of another ledger than the entry's owner's": _line(plain, owner="birch"),
        "the roster does not know the entry's owner": _line(plain, owner="zebra"),
        "the entry is not in the checkpoint": _line(plain, sequence=4),
        "what the proof has in it is not in canonical form": plain.line().replace(b'":', b'": ', 1),
        "the proof has no entry": b'{"sequence":3}',
    }
    for words, line in lines.items():
        leaves = [each.line() for each in entries[:3]] + [line, entries[4].line()]
        tree = Tree([leaf_hash(each) for each in leaves])
        note = signed(Checkpoint(key.origin, 5, tree.root), key.origin, key.sign, key.public_key)
        batch = invent(roster, group.identities, "amber", note, number=9)
        extra = {"entry": line.decode(), "batch": batch.to_bytes().decode(), "roster": roster.to_bytes().decode()}
        path = put(tmp_path / "proof", Proof(3, tree.path(3), note), extra)
        if words:
            refused(path, words)
        else:
            assert check_proof(path).entry == json.loads(line)


def _line(entry: Entry, **fields: Any) -> bytes:
    return msgspec.structs.replace(entry, **fields).line()


def test_a_roster_without_coordinator_proves_nothing(made: Path, tmp_path: Path) -> None:
    path, (proof, extra) = tmp_path / "proof", parts_of(made)
    roster = Roster.from_bytes(extra["roster"].encode())
    keyless = replace(roster, coordinator_key="").to_bytes().decode()
    refused(put(path, proof, {**extra, "roster": keyless}), "the roster does not know the entry's owner, or no coord")


def test_other_spellings_and_additions_are_refused(made: Path, tmp_path: Path) -> None:
    path, (proof, extra) = tmp_path / "proof", parts_of(made)
    data = json.dumps(extra, separators=(", ", ":"), sort_keys=True, ensure_ascii=False).encode()
    refused(write(path, replace(proof, extra=data).to_bytes()), "what the proof has in it is not in canonical form")
    refused(put(path, proof, {**extra, "more": "x"}), "the proof has no entry, batch and roster in it")
    batch = Proof.parse(extra["batch"].encode())
    inner = json.loads(batch.extra)
    inner["messages"] = {"coordinator": base64.b64encode(b"x").decode()}
    more = json.dumps(inner, separators=(",", ":"), sort_keys=True).encode()
    changed = replace(batch, extra=more).to_bytes().decode()
    refused(put(path, proof, {**extra, "batch": changed}), "the batch is not in canonical form")


DEEP = '{"a":' * 3000 + "1" + "}" * 3000


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"c2sp.org/tlog-proof@v1\n", b"\xff" * 100, b"# README", DEEP.encode(), b"9" * 100_000],
)
def test_what_is_no_proof_proves_nothing(tmp_path: Path, data: bytes) -> None:
    refused(write(tmp_path / "proof", data), "")


@pytest.mark.parametrize("part", ["entry", "batch", "roster"])
@pytest.mark.parametrize("text", ["", "{}", DEEP, "[" * 100_000, "\x00", "9" * 5000, '{"sequence":1e999}', "é"])
def test_hostile_parts_prove_nothing(made: Path, tmp_path: Path, part: str, text: str) -> None:
    proof, extra = parts_of(made)
    refused(put(tmp_path / "proof", proof, {**extra, part: text}), "")


def test_a_proof_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="the proof cannot be read: No such file"):
        check_proof(tmp_path / "none")
    with pytest.raises(LedgerError, match="the proof cannot be read: Is a directory"):
        check_proof(tmp_path)
