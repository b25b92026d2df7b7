"""How an entry follows from those before it: owner, facts, times, studies, and what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger import chain as module
from wardround.privacy.ledger.chain import CLOSING, CLOSING_TYPES, Chain, Study
from wardround.privacy.ledger.entries import FACTS, NUMBERS, VERSION, Entry, Kind, Record
from wardround.privacy.ledger.log import Ledger, verify
from wardround.privacy.merkle import Tree, leaf_hash

from .parties import ticking

STUDY = "ab" * 32
PEER = "coordinator"


def opened(path: Path, owner: str = "site-a", clock: Callable[[], datetime] | None = None) -> Ledger:
    return Ledger.open(path, owner=owner, clock=clock or ticking())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "ledger.jsonl") as made:
        made.open_study(STUDY, roster="11" * 32)
        yield made


def sha(number: int) -> str:
    return f"{number:064x}"


def message(tag: str, sha_number: int, direction: Any = "out", **fields: Any) -> Record:
    """A message of the study; ``sha_number`` stands for its bytes."""
    outcome, fixed = "received" if direction == "in" else "sent", {"kind": "message", "study": STUDY, "round": 1}
    values = {**fixed, "message_type": tag, "direction": direction, "outcome": outcome, "peer": PEER, **fields}
    return Record(wire_sha256=sha(sha_number), **values)


def receipt(sha_number: int, size: int, **fields: Any) -> Record:
    return message("receipt", sha_number, facts={"size": size, "root": sha(size)}, **fields)


def cosignature(sha_number: int, size: int, batch: int = 9, **fields: Any) -> Record:
    facts = {"root": sha(batch), "time": 1, "size": size, "coordinator_size": batch, "coordinator_root": sha(0)}
    return message("cosignature", sha_number, number=batch, facts=facts, **fields)


def changed(record: Record, **fields: Any) -> Record:
    return msgspec.structs.replace(record, **fields)


def study_of(ledger: Ledger) -> Study:
    return ledger.chain.studies[STUDY]


def read_again(ledger: Ledger) -> Study:
    """What a reader of the file, who has followed nothing else, knows of the study."""
    chain = Chain()
    for line in ledger.path.read_bytes().splitlines():
        assert chain.take(line) == ""
    return chain.studies[STUDY]


# --- what came and was not acknowledged yet ------------------------------------------------------------------------


def listed(ledger: Ledger, peer: str = PEER, size: int = 10**6, most: int = 10**6) -> list[int]:
    found = [study.unacknowledged(peer, size, most) for study in (study_of(ledger), read_again(ledger))]
    assert found[0] == found[1]
    return [int.from_bytes(each, "big") for each in found[0]]


def test_what_came_is_listed_in_order_once_and_up_to_a_size(ledger: Ledger) -> None:
    assert listed(ledger) == []
    for number in (5, 3, 5, 8):
        ledger.append([message("round-end", number, "in")])
    ledger.append([message("round-end", 4, "in", peer="another")])
    ledger.append([message("round-end", 6, "in", outcome="failed")])
    ledger.append([message("advert", 7)])
    assert listed(ledger) == [5, 3, 8]
    assert listed(ledger, "another") == [4]
    assert listed(ledger, "nobody") == []
    assert [listed(ledger, size=size) for size in range(1, 6)] == [[], [5], [5, 3], [5, 3], [5, 3, 8]]
    assert listed(ledger, most=2) == [5, 3]


def test_a_site_that_signed_a_batch_does_not_list_again_what_its_receipt_listed(ledger: Ledger) -> None:
    ledger.append([message("round-end", 1, "in")])
    size = ledger.sequence
    ledger.append([receipt(2, size)])
    ledger.append([message("batch", 3, "in")])
    ledger.append([cosignature(4, size)])
    assert listed(ledger) == [1, 3]  # the other side may not have got it
    ledger.append([message("cosigned", 5, "in", number=8)])
    assert listed(ledger) == [1, 3, 5]  # of another batch
    ledger.append([message("cosigned", 6, "in", number=9)])
    assert listed(ledger) == [3, 5, 6]
    shown = study_of(ledger).receipt
    assert shown is not None
    assert (shown.sequence, shown.facts) == (size, {"size": size, "root": sha(size)})
    signed = study_of(ledger).cosignature
    assert signed is not None
    assert signed.number == 9


def test_a_coordinator_that_got_a_signature_does_not_list_again_what_its_batch_listed(tmp_path: Path) -> None:
    with opened(tmp_path / "c.jsonl", PEER) as own:
        own.open_study(STUDY)
        own.append([message("receipt", 1, "in", peer="site-a")])
        own.append([message("receipt", 2, "in", peer="site-b")])
        size = own.sequence
        own.append([message("batch", 3, peer="site-a")])
        own.append([message("cosignature", 4, "in", peer="site-a", number=2**31)])
        assert listed(own, "site-a") == [1, 4]  # nobody has checked it yet
        own.append([message("cosigned", 5, peer="site-a", number=size)])
        assert listed(own, "site-a") == [4]
        assert listed(own, "site-b") == [2]


def test_more_than_one_message_can_name_is_listed_in_the_next(ledger: Ledger, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_RECEIVED", 2)
    for number in (1, 2, 3):
        ledger.append([message("round-end", number, "in")])
    size = ledger.sequence
    ledger.append([receipt(9, size)])
    ledger.append([cosignature(10, size)])
    ledger.append([message("cosigned", 11, "in", number=9)])
    assert listed(ledger) == [3, 11]


def test_only_the_newest_arrivals_are_remembered(ledger: Ledger, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MOST_ARRIVED", 3)
    for number in range(5):
        ledger.append([message("round-end", number, "in")])
    assert listed(ledger) == [2, 3, 4]


# --- after the close -----------------------------------------------------------------------------------------------


@pytest.fixture
def closed(ledger: Ledger) -> Ledger:
    ledger.append([receipt(1, 1)])
    ledger.append([cosignature(2, 1)])
    ledger.close_study(STUDY)
    return ledger


def test_one_receipt_and_one_cosignature_leave_after_the_close_and_the_same_again(closed: Ledger) -> None:
    first = [receipt(3, 4, stage=CLOSING), cosignature(4, 4, stage=CLOSING)]
    for record in first:
        closed.append([record])
        with pytest.raises(LedgerError, match=f"second {record.message_type} after the close"):
            closed.append([changed(record, wire_sha256=sha(77))])
        with pytest.raises(LedgerError, match=f"second {record.message_type} after the close"):
            closed.append([changed(record, peer="another")])
        closed.append([changed(record, outcome="retried")])
    assert verify(closed.path).ok
    assert study_of(closed).closing == read_again(closed).closing == {"receipt", "cosignature"}


@pytest.mark.parametrize("tag", ["advert", "masked-vector", "unmask-answer", "round-end", "study-end", ""])
@pytest.mark.parametrize("stage", ["", "witness", CLOSING])
def test_nothing_else_leaves_after_the_close(closed: Ledger, tag: str, stage: str) -> None:
    before = closed.path.read_bytes()
    with pytest.raises(LedgerError, match="transmission after the close"):
        closed.append([message(tag, 9, stage=stage)])
    assert closed.path.read_bytes() == before


@pytest.mark.parametrize("tag", sorted(CLOSING_TYPES))
@pytest.mark.parametrize("outcome", ["sent", "retried"])
def test_the_closing_exchange_says_that_it_is_one(closed: Ledger, tag: str, outcome: str) -> None:
    with pytest.raises(LedgerError, match="transmission after the close"):
        closed.append([message(tag, 9, stage="witness", outcome=outcome)])
    closed.append([message(tag, 9, stage=CLOSING, outcome=outcome)])


def test_the_coordinator_sends_each_site_its_own_message_of_the_closing_exchange(tmp_path: Path) -> None:
    with opened(tmp_path / "c.jsonl", PEER) as own:
        own.open_study(STUDY)
        own.close_study(STUDY)
        for number, peer in enumerate(("site-a", "site-b", "site-c")):
            own.append([message("batch", number, peer=peer, stage=CLOSING)])
        with pytest.raises(LedgerError, match="transmission after the close"):
            own.append([message("round-start", 9, peer="site-a", stage=CLOSING)])


def test_what_did_not_leave_may_be_written_down_after_the_close(closed: Ledger) -> None:
    closed.append([message("round-start", 1, "in")])
    closed.append([message("advert", 2, "in", outcome="failed")])
    closed.append([message("advert", 3, outcome="refused")])
    assert verify(closed.path).ok


def test_after_another_opening_everything_may_leave_again(closed: Ledger) -> None:
    closed.append([receipt(3, 4, stage=CLOSING)])
    closed.open_study(STUDY, roster="11" * 32)
    closed.append([message("advert", 9)])
    closed.close_study(STUDY)
    closed.append([receipt(5, 6, stage=CLOSING)])
    assert verify(closed.path).ok


def test_opened_again_under_the_same_roster_numbers_of_batches_go_on(closed: Ledger) -> None:
    closed.open_study(STUDY, roster="11" * 32)
    for study in (study_of(closed), read_again(closed)):
        assert study.cosignature is not None
        assert study.roster == "11" * 32


def test_opened_again_under_another_roster_numbers_of_batches_begin_anew(closed: Ledger) -> None:
    closed.open_study(STUDY, roster="22" * 32)
    for study in (study_of(closed), read_again(closed)):
        assert study.cosignature is None
        assert study.roster == "22" * 32
        assert study.opened == closed.sequence - 1


def test_studies_do_not_mix(closed: Ledger) -> None:
    other = "cd" * 32
    closed.open_study(other)
    closed.append([changed(message("advert", 9), study=other)])
    assert closed.is_open(other)
    assert not closed.is_open(STUDY)
    assert closed.chain.studies[other].cosignature is None


# --- facts ---------------------------------------------------------------------------------------------------------

KINDS: tuple[Kind, ...] = ("open", "close", "message", "budget", "key", "sign", "forget", "purge", "note", "enrol")


def taken(kind: Kind, facts: dict[str, Any]) -> str:
    """What is wrong with an entry of a kind that states these facts, in a ledger where the study is open."""
    chain = Chain()
    chain.studies[STUDY] = Study(open=kind != "open")
    entry = Entry(
        kind=kind,
        study=STUDY,
        outcome="noted",
        facts=facts,
        dp={"sequence": 1, "sha256": ""} if kind == "budget" else None,
        version=VERSION,
        sequence=0,
        previous=chain.head,
        time="t",
        owner="site-a",
        salt="",
    )
    return chain.refuses(entry)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_states_what_its_kind_may_state_and_nothing_else(kind: Kind) -> None:
    allowed = FACTS.get(kind, frozenset())
    everything = frozenset().union(*FACTS.values()) | {"patient", "path", ""}
    for name in everything:
        wrong = taken(kind, {name: "ab"})
        if name in allowed:
            assert "fact" not in wrong
        else:
            assert wrong == f"states {name!r}, which is no fact of a {kind}"


@pytest.mark.parametrize("kind", [kind for kind in FACTS if kind not in ("sign", "key")])
def test_a_fact_is_a_number_or_hexadecimal_and_never_in_words(kind: Kind) -> None:
    for name in FACTS[kind]:
        numbers, texts = (0, 2**53 - 1), ("", "ab", "0123456789abcdef" * 8)
        good, other = (numbers, texts) if name in NUMBERS else (texts, numbers)
        assert [taken(kind, {name: value}) for value in good] == [""] * len(good)
        assert {taken(kind, {name: value}) for value in other} == {f"states {name!r} in another form"}
        wrong = f"states {name!r} {'in another form' if name in NUMBERS else 'in words'}"
        for value in ("Jane Doe", "a", "abc", "AB", "ab\n", " ab", "/data/ab", "ab" * 9 + "g"):
            assert taken(kind, {name: value}) == wrong


def test_only_a_signed_report_has_words_of_a_person() -> None:
    assert taken("sign", {"name": "Jane Doe", "decision": "approved"}) == ""


def test_a_fact_that_is_no_text_and_no_whole_number_is_no_entry(ledger: Ledger) -> None:
    line = ledger.path.read_bytes().splitlines()[0]
    for value in (b"1.5", b"null", b"true", b"[]", b"{}"):
        forged = line.replace(b'"' + b"11" * 32 + b'"', value)
        assert forged != line
        assert Chain().take(forged) == "is no ledger entry"


# --- owner, salt, time, tree ---------------------------------------------------------------------------------------


def test_a_ledger_has_one_owner(ledger: Ledger) -> None:
    path = ledger.path
    ledger.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"the ledger is of 'site-a', not of 'site-b'\..*of its own"):
        opened(path, "site-b")
    assert path.read_bytes() == before
    chain = Chain()
    first = msgspec.json.decode(before.splitlines()[0], type=Entry)
    assert chain.take(first.line()) == ""
    other = msgspec.structs.replace(first, kind="close", facts=None, sequence=1, previous=chain.head, owner="site-b")
    assert chain.take(other.line()) == "is of 'site-b' in a ledger of 'site-a'"


def test_no_two_salts_are_alike(ledger: Ledger) -> None:
    for _ in range(20):
        ledger.append([message("advert", 1), message("advert", 1)])
    salts = [msgspec.json.decode(line)["salt"] for line in ledger.path.read_bytes().splitlines()]
    assert len(set(salts)) == len(salts) == 41
    assert all(len(bytes.fromhex(salt)) == 16 for salt in salts)


def test_a_clock_that_was_set_back_is_noted_and_stops_nothing(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = iter(start + timedelta(seconds=second) for second in (0, 5, 3, 4, 4, 1))
    with opened(tmp_path / "ledger.jsonl", clock=lambda: next(times)) as ledger:
        ledger.open_study(STUDY)
        for number in range(5):
            ledger.append([message("advert", number)])
        assert ledger.chain.set_back == [2, 5]
    assert verify(tmp_path / "ledger.jsonl").ok
    chain = Chain()
    for line in (tmp_path / "ledger.jsonl").read_bytes().splitlines():
        assert chain.take(line) == ""
    assert chain.set_back == [2, 5]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_the_tree_is_over_the_lines_as_they_stand_in_the_file(tmp_path: Path, counts: list[int]) -> None:
    path = tmp_path / "tree.jsonl"
    path.unlink(missing_ok=True)
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        for count in counts:
            ledger.append([message("advert", i) for i in range(count)])
        lines = path.read_bytes().splitlines()
        assert ledger.chain.tree.size == ledger.sequence == len(lines)
        assert ledger.chain.tree.root() == Tree([leaf_hash(line) for line in lines]).root
    with opened(path) as again:
        assert again.chain.tree.root() == ledger.chain.tree.root()


def test_what_does_not_fit_changes_nothing(ledger: Ledger) -> None:
    chain, line = Chain(), ledger.path.read_bytes().splitlines()[0]
    assert chain.take(line) == ""
    root, head = chain.tree.root(), chain.head
    for bad in (b"", b"{}", line, line + b" ", line.replace(b'"sequence":0', b'"sequence":1'), b"\xff", b"[" * 9999):
        assert chain.take(bad) != ""
        assert (chain.sequence, chain.head, chain.tree.size, chain.tree.root()) == (1, head, 1, root)


def test_entries_that_change_what_may_follow_come_alone(ledger: Ledger) -> None:
    records = [message("advert", 1), Record(kind="close", study=STUDY, outcome="noted")]
    for pair in (records, records[::-1]):
        with pytest.raises(LedgerError, match="comes alone"):
            ledger.append(pair)
    assert ledger.sequence == 1
