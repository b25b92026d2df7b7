"""The ledger: an edit inside the chain is caught and named, torn lines are kept, a broken ledger takes nothing."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger import log as module
from wardround.privacy.ledger.chain import Chain
from wardround.privacy.ledger.entries import GENESIS, VERSION, Entry, Record
from wardround.privacy.ledger.log import Ledger, verify

STUDY = "ab" * 32


def ticking():
    state = {"now": datetime(2026, 1, 1, tzinfo=UTC)}

    def clock():
        state["now"] += timedelta(seconds=1)
        return state["now"]

    return clock


def message(i: int, **fields) -> Record:
    return Record(
        kind="message",
        study=STUDY,
        outcome=fields.pop("outcome", "sent"),
        round=i,
        message_type="advert",
        wire_bytes=i,
        **fields,
    )


def opened(path) -> Ledger:
    return Ledger.open(path, owner="site-a", clock=ticking())


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        for i in range(6):
            ledger.append([message(i)])
        ledger.close_study(STUDY)
    return path


def test_a_good_ledger(path):
    report = verify(path)
    assert (report.ok, report.entries, report.open_studies, report.torn) == (True, 8, (), 0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(8))
    assert lines[0]["previous"] == GENESIS
    assert lines[1]["time"] == "2026-01-01T00:00:02.000000Z"
    assert [line["kind"] for line in lines] == ["open"] + ["message"] * 6 + ["close"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_it_stopped(path):
    with opened(path) as ledger:
        assert (ledger.sequence, ledger.head) == (8, verify(path).head)
        ledger.open_study(STUDY)
        ledger.open_study(STUDY)
        assert ledger.append([message(9), message(10)]) == [9, 10]
    report = verify(path)
    assert (report.ok, report.entries, report.open_studies) == (True, 11, (STUDY,))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_edit_removal_insertion_or_swap_is_caught(path, tmp_path, data):
    lines = path.read_bytes().splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["edit", "remove", "insert", "swap", "cut"]))
    i = data.draw(st.integers(0, len(lines) - 1))
    changed = list(lines)
    if kind == "edit":
        position = data.draw(st.integers(0, len(lines[i]) - 2))
        value = data.draw(st.integers(0, 255).filter(lambda v: v != lines[i][position]))
        changed[i] = lines[i][:position] + bytes([value]) + lines[i][position + 1 :]
        # An edit of the last line that leaves it a valid entry is beyond a chain: nothing follows that names its hash.
        if i == len(lines) - 1:
            return
    elif kind == "remove":
        del changed[min(i, len(lines) - 2)]
    elif kind == "insert":
        changed.insert(i, lines[data.draw(st.integers(0, len(lines) - 1))])
    elif kind == "swap":
        j = data.draw(st.integers(0, len(lines) - 1).filter(lambda j: j != i))
        changed[i], changed[j] = changed[j], changed[i]
    else:
        changed = changed[max(1, i) :]
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join(changed))
    report = verify(copy)
    assert not report.ok
    assert report.problem.startswith("line ")
    with pytest.raises(LedgerError, match="the ledger is broken: line"):
        opened(copy)


def test_a_chain_alone_does_not_show_a_cut_tail(path):
    """Said openly: lines cut off the end leave a shorter ledger in good order. Only a second party's word shows it."""
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    report = verify(path)
    assert report.ok
    assert report.entries == 5
    assert report.open_studies == (STUDY,)  # the missing close is all that can be seen


@pytest.mark.parametrize("tail", [b'{"half":', b"\0" * 40, b"\0" * 40 + b"\n", b"x"])
def test_a_torn_last_line_is_kept_aside_and_noted(path, tail):
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert verify(path).ok
    assert verify(path).torn == len(tail)
    with opened(path) as ledger:
        assert ledger.torn is not None
        assert ledger.torn.read_bytes() == tail
    assert path.read_bytes().startswith(whole)
    report = verify(path)
    assert (report.ok, report.entries, report.notes, report.torn) == (True, 9, (8,), 0)
    note = json.loads(path.read_text().splitlines()[-1])
    assert (note["kind"], note["rule"], note["wire_bytes"]) == ("note", "torn-line", len(tail))


def test_every_cut_inside_the_last_line_is_recovered(path):
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in range(start + 1, len(whole), 17):
        path.write_bytes(whole[:cut])
        with opened(path) as ledger:
            assert ledger.sequence == 8  # seven good entries and the note
            aside = ledger.torn
        assert aside.read_bytes() == whole[start:cut]
        aside.unlink()  # the next cut is another ledger's


def test_a_torn_line_is_noted_even_if_the_crash_came_before_its_note(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"half":')
    with opened(path) as ledger:
        assert ledger.sequence == 9
    path.write_bytes(whole)  # killed after the cut and before the note was written
    with opened(path) as ledger:
        assert ledger.torn is not None
        assert ledger.torn.read_bytes() == b'{"half":'
        assert ledger.sequence == 9
    assert verify(path).notes == (8,)
    with opened(path) as ledger:
        assert (ledger.sequence, ledger.torn) == (9, None)  # once is enough


def test_a_torn_note_does_not_overwrite_the_torn_line_that_it_was_about(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"half":')
    opened(path).close()
    torn_note = path.read_bytes()[len(whole) : -20]
    path.write_bytes(whole + torn_note)  # killed while the note was being written
    with opened(path) as ledger:
        assert ledger.sequence == 10
    aside = sorted(path.parent.glob("*.torn-*"))
    assert [file.read_bytes() for file in aside] == [b'{"half":', torn_note]
    assert verify(path).notes == (8, 9)


def test_a_ledger_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "ledger.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot be opened"):
        opened(tmp_path / "ledger.jsonl")
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_write_then_sync(path, monkeypatch):
    events = []
    real_write, real_sync = os.write, os.fsync
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        monkeypatch.setattr(module.os, "write", lambda fd, data: (events.append("write"), real_write(fd, data))[1])
        monkeypatch.setattr(module.os, "fsync", lambda fd: (events.append("sync"), real_sync(fd))[1])
        ledger.append([message(1), message(2)])
        assert events == ["write", "sync"]
        ledger.append([message(3)], sync=False)
        assert events == ["write", "sync", "write"]


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_after_a_failing_disk_nothing_more_is_taken(path, monkeypatch, broken):
    def fail(*_):
        raise OSError(28, "No space left on device")

    ledger = opened(path)
    ledger.open_study(STUDY)
    with monkeypatch.context() as patch:
        patch.setattr(module.os, broken, fail)
        with pytest.raises(LedgerError, match="No space"):
            ledger.append([message(1)])
    with pytest.raises(LedgerError, match="failed earlier"):
        ledger.append([message(2)])
    ledger.close()


def test_short_writes_are_continued(path, monkeypatch):
    real_write = os.write
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        monkeypatch.setattr(module.os, "write", lambda fd, data: real_write(fd, data[:7]))
        ledger.append([message(1)])
        monkeypatch.undo()
    assert verify(path).ok


def test_messages_need_an_open_study(path):
    with opened(path) as ledger:
        with pytest.raises(LedgerError, match="transmission after the close of its study"):
            ledger.append([message(1)])
        with pytest.raises(LedgerError, match="close of a study that is not open"):
            ledger.close_study(STUDY)
        ledger.open_study(STUDY)
        ledger.open_study("cd" * 32)
        assert ledger.is_open("cd" * 32)
    assert verify(path).open_studies == (STUDY, "cd" * 32)


def test_a_transmission_after_close_is_a_failure(path):
    """Even with a chain that fits, because verify follows the studies too."""
    forged = Chain()
    lines = []
    for kind in ("open", "close", "message"):
        record = Record(kind=kind, study=STUDY, outcome="sent" if kind == "message" else "noted")
        entry = Entry(
            **{name: getattr(record, name) for name in record.__struct_fields__},
            version=VERSION,
            sequence=forged.sequence,
            previous=forged.head,
            time="t",
            owner="a",
            salt="",
        )
        wrong = forged.take(entry.line())
        lines.append(entry.line() + b"\n")
    assert wrong == "is a transmission after the close of its study"
    path.write_bytes(b"".join(lines))
    assert verify(path).problem == "line 3 is a transmission after the close of its study"


# --- what left before ----------------------------------------------------------------------------------------------


def sent(round_: int, peer: str, sha256: str, **fields) -> Record:
    return message(round_, direction=fields.pop("direction", "out"), peer=peer, wire_sha256=sha256, **fields)


def test_what_was_sent_is_known_by_study_peer_and_bytes_also_after_a_restart(path):
    one, two = "11" * 32, "22" * 32
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        assert not ledger.was_sent(STUDY, "coordinator", one)
        ledger.append([sent(7, "coordinator", one), sent(7, "site-b", two, outcome="retried")])
        known = [
            (study, peer, sha)
            for study in (STUDY, "cd" * 32)
            for peer in ("coordinator", "site-b")
            for sha in (one, two)
        ]
        assert [key for key in known if ledger.was_sent(*key)] == [(STUDY, "coordinator", one), (STUDY, "site-b", two)]
    with opened(path) as ledger:
        assert [key for key in known if ledger.was_sent(*key)] == [(STUDY, "coordinator", one), (STUDY, "site-b", two)]


@pytest.mark.parametrize(
    "fields", [{"direction": "in", "outcome": "received"}, {"outcome": "refused"}, {"outcome": "failed"}]
)
def test_what_did_not_leave_is_not_known_as_sent(path, fields):
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        ledger.append([sent(7, "coordinator", "11" * 32, **fields)])
        assert not ledger.was_sent(STUDY, "coordinator", "11" * 32)
    with opened(path) as ledger:
        assert not ledger.was_sent(STUDY, "coordinator", "11" * 32)


def test_only_the_newest_round_of_each_study_is_remembered(path):
    """A repetition comes within its round, so what left before it need not be kept in memory."""
    other = "cd" * 32
    with opened(path) as ledger:
        ledger.open_study(STUDY)
        ledger.open_study(other)
        ledger.append([sent(7, "coordinator", "11" * 32)])
        ledger.append([Record(**{**msgspec.structs.asdict(sent(7, "coordinator", "11" * 32)), "study": other})])
        ledger.append([sent(8, "coordinator", "22" * 32)])
    for _ in range(2):
        with opened(path) as ledger:
            assert not ledger.was_sent(STUDY, "coordinator", "11" * 32)
            assert ledger.was_sent(STUDY, "coordinator", "22" * 32)
            assert ledger.was_sent(other, "coordinator", "11" * 32)


def test_an_entry_that_could_not_be_written_is_not_known_as_sent(path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    ledger = opened(path)
    ledger.open_study(STUDY)
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "write", fail)
        with pytest.raises(LedgerError, match="No space"):
            ledger.append([sent(7, "coordinator", "11" * 32)])
    assert not ledger.was_sent(STUDY, "coordinator", "11" * 32)
    ledger.close()


# --- the privacy budget --------------------------------------------------------------------------------------------


def budget_entry(number: int, **dp) -> Record:
    dp = {"sequence": number, "sha256": f"{number:064x}", **dp}
    return Record(kind="budget", study=STUDY, outcome="noted", stage="charge", rule=f"round-{number}", dp=dp)


def test_the_last_budget_entry_is_known_also_after_a_restart_and_needs_no_open_study(path):
    with opened(path) as ledger:
        assert ledger.budget is None
        assert not ledger.is_open(STUDY)
        ledger.append([budget_entry(1), budget_entry(2, epsilon=1.5)])
        ledger.open_study(STUDY)
        ledger.append([message(9)])
        known = {"sequence": 2, "sha256": f"{2:064x}", "epsilon": 1.5}
        assert ledger.budget == known
        ledger.budget["sequence"] = 7  # a copy
        assert ledger.budget == known
    with opened(path) as ledger:
        assert ledger.budget == known
    report = verify(path)
    assert (report.ok, report.entries, report.notes) == (True, 12, ())


@pytest.mark.parametrize(
    "dp", [None, {}, {"sequence": 1}, {"sequence": "1", "sha256": ""}, {"sha256": "", "sequence": 0.5}]
)
def test_a_budget_entry_that_names_no_budget_is_none(path, dp):
    with opened(path) as ledger:
        with pytest.raises(LedgerError, match="is a budget entry that names no budget"):
            ledger.append([Record(kind="budget", study=STUDY, outcome="noted", dp=dp)])
        assert ledger.sequence == 8


def test_an_entry_that_could_not_be_written_names_no_budget(path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    ledger = opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "write", fail)
        with pytest.raises(LedgerError, match="No space"):
            ledger.append([budget_entry(1)])
    assert ledger.budget is None
    with pytest.raises(LedgerError, match="failed earlier"):
        ledger.sync()
    ledger.close()


def test_the_hash_after_so_many_entries(path):
    previous = [json.loads(line)["previous"] for line in path.read_text().splitlines()]
    with opened(path) as ledger:
        assert [ledger.head_at(count) for count in range(8)] == previous
        assert ledger.head_at(8) == ledger.head
        assert ledger.head_at(9) is None
        path.unlink()
        with pytest.raises(LedgerError, match="cannot be read"):
            ledger.head_at(1)


def test_sync_covers_what_was_not_synced_and_says_where_the_ledger_ends(path, monkeypatch):
    """What a process before this one left is not known to be synced, so the first call always syncs."""
    synced, real = [], os.fsync
    with opened(path) as ledger:
        ledger.open_study(STUDY)
    with opened(path) as ledger:
        monkeypatch.setattr(module.os, "fsync", lambda fd: (synced.append(1), real(fd))[1])
        assert ledger.sync() == (ledger.sequence, ledger.head) == (9, verify(path).head)
        assert len(synced) == 1
        ledger.sync()
        assert len(synced) == 1
        ledger.append([message(1)], sync=False)
        assert ledger.sync() == (10, ledger.head)
        assert len(synced) == 2
        ledger.append([message(2)])
        assert len(synced) == 3
        assert ledger.sync()[0] == 11
        assert len(synced) == 3


def test_unreadable_paths(tmp_path):
    with pytest.raises(LedgerError, match="cannot be read"):
        verify(tmp_path / "missing")
    with pytest.raises(LedgerError, match="cannot be opened"):
        opened(tmp_path / "no" / "folder")
