"""What one party says to have sent is what the other says to have received, byte for byte, or it is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.ledger.entries import Entry
from wardround.privacy.ledger.reconciling import Direction, reconcile
from wardround.privacy.ledger.verifying import verify

from .audited import Group, Studied, read

SITE, UP = "amber", ("amber", COORDINATOR)
STUDY = "ab" * 32


def entry(sha: int, owner: str = SITE, **fields: Any) -> Entry:
    """One message from the site to the coordinator, as either side writes it down."""
    sender = owner == SITE
    values: dict[str, Any] = {
        "kind": "message",
        "study": STUDY,
        "outcome": "sent" if sender else "received",
        "round": 1,
        "direction": "out" if sender else "in",
        "peer": COORDINATOR if sender else SITE,
        "message_type": "masked-vector",
        "wire_bytes": 100 + sha,
        "wire_sha256": f"{sha:064x}",
    }
    place = {"version": 2, "sequence": 0, "previous": "", "time": "", "owner": owner, "salt": ""}
    return Entry(**{**values, **place, **fields})


def came(sha: int, **fields: Any) -> Entry:
    return entry(sha, COORDINATOR, **fields)


def compare(sent: Sequence[Entry], received: Sequence[Entry], acknowledged: Sequence[int] = ()) -> Direction:
    return reconcile(sent, received, UP, {f"{sha:064x}" for sha in acknowledged})


def hashes(rows: Any) -> list[tuple[int, int]]:
    return [(int(row.wire_sha256, 16), row.count) for row in rows]


def test_equal_ledgers_are_equal() -> None:
    found = compare([entry(1), entry(2, outcome="retried"), entry(1)], [came(1), came(1), came(2)], [1, 2])
    assert found.ok
    assert (found.sent, found.received, found.retried, found.refused, found.unreadable) == (3, 3, 1, 0, 0)
    assert (found.sent_bytes, found.received_bytes) == (304, 304)
    assert (found.lost, found.unrecorded, found.denied) == ((), (), ())
    assert (found.sender, found.receiver) == UP


def test_what_was_lost_on_the_way_is_nobodys_omission() -> None:
    found = compare([entry(1), entry(2)], [came(2)], [2])
    assert found.ok
    assert hashes(found.lost) == [(1, 1)]
    assert found.lost[0].message_type == "masked-vector"
    assert (found.lost[0].sender, found.lost[0].receiver, found.lost[0].round) == (*UP, 1)


@pytest.mark.parametrize(
    "change",
    [{"message_type": "advert"}, {"round": 2}, {"stage": "share"}, {"number": 4}, {"schema": [{"name": "vector"}]}],
)
def test_bytes_that_one_side_calls_something_else_are_named(change: dict[str, Any]) -> None:
    found = compare([entry(1), entry(2)], [came(1), came(2, **change)])
    assert not found.ok
    assert hashes(found.mislabelled) == [(2, 1)]
    assert (found.lost, found.unrecorded) == ((), ())
    unread = compare([entry(1)], [came(1, outcome="failed", message_type="", round=-1)])
    assert unread.ok  # of what it could not read, the receiver knows no name


def test_an_omitted_transmission_is_named() -> None:
    found = compare([entry(1)], [came(1), came(2), came(2)])
    assert not found.ok
    assert hashes(found.unrecorded) == [(2, 2)]


def test_a_transmission_that_was_received_once_more_than_sent_is_named() -> None:
    found = compare([entry(1)], [came(1), came(1)])
    assert not found.ok
    assert hashes(found.unrecorded) == [(1, 1)]


def test_a_receiver_that_signed_for_what_it_does_not_have_is_named() -> None:
    found = compare([entry(1), entry(2)], [came(2)], [1, 2])
    assert not found.ok
    assert hashes(found.denied) == [(1, 1)]
    again = compare([entry(1), entry(1, outcome="retried")], [came(1)], [1])
    assert again.ok  # a receipt names a hash once, and it came once
    assert hashes(again.lost) == [(1, 1)]


@pytest.mark.parametrize("change", [{"wire_sha256": "f" * 64}, {"wire_bytes": 7}, {"study": "cd" * 32}])
def test_another_hash_length_or_study_is_another_message(change: dict[str, Any]) -> None:
    for sent, received in (([entry(1, **change)], [came(1)]), ([entry(1)], [came(1, **change)])):
        found = compare(sent, received)
        assert not found.ok
        assert len(found.lost) == len(found.unrecorded) == 1


def test_what_is_no_transmission_between_the_two_is_left_out() -> None:
    out = [
        entry(1, peer="birch"),
        entry(2, direction="in", outcome="received"),
        entry(3, kind="note"),
        entry(4, outcome="refused"),
        entry(5, outcome="failed"),
    ]
    into = [came(1, peer="birch"), came(2, direction="out", outcome="sent"), came(3, kind="budget")]
    found = compare(out, into)
    assert found.ok
    assert (found.sent, found.received, found.refused) == (0, 0, 1)


def test_what_the_receiver_could_not_read_came_all_the_same() -> None:
    unread = came(1, outcome="failed", message_type="", round=-1)
    found = compare([entry(1)], [unread])
    assert found.ok
    assert (found.received, found.unreadable, found.lost) == (1, 1, ())
    (row,) = compare([], [unread, came(1)]).unrecorded
    assert (row.message_type, row.count) == ("masked-vector", 2)


messages = st.lists(st.integers(1, 6), max_size=12)


@settings(deadline=None)
@given(both=messages, lost=messages, omitted=messages, order=st.randoms(use_true_random=False))
def test_every_difference_is_found_and_nothing_else(
    both: list[int], lost: list[int], omitted: list[int], order: Any
) -> None:
    lost, omitted = [sha + 10 for sha in lost], [sha + 20 for sha in omitted]
    out, into = [*both, *lost], [*both, *omitted]
    order.shuffle(out)
    order.shuffle(into)
    found = compare([entry(sha) for sha in out], [came(sha) for sha in into], [*both, *lost[:1]])
    assert hashes(found.lost) == [(sha, lost.count(sha)) for sha in sorted(set(lost))]
    assert hashes(found.unrecorded) == [(sha, omitted.count(sha)) for sha in sorted(set(omitted))]
    assert hashes(found.denied) == [(sha, lost.count(sha)) for sha in sorted(set(lost[:1]))]
    assert found.ok == (not omitted and not lost)
    assert found.sent - sum(row.count for row in found.lost) == found.received - len(omitted)


def test_real_ledgers_are_equal_and_each_missing_entry_is_named(tmp_path: Path) -> None:
    group = Group(tmp_path / "parties")
    studied = Studied(group)
    studied.round(silent=["birch"])
    studied.round(unsigned=[SITE])
    studied.end()
    ledgers = {name: read(group.home(name)) for name in group.identities}
    for name in group.sites:
        for sender, receiver in ((name, COORDINATOR), (COORDINATOR, name)):
            signed = verify(group.home(sender) / "ledger.jsonl").evidence
            known = {sha.hex() for each in signed for peer, sha in each.acknowledged if peer == receiver}
            whole = reconcile(ledgers[sender], ledgers[receiver], (sender, receiver), known)
            assert whole.ok
            assert not whole.lost
            assert whole.sent == whole.received > 0
            for number, each in enumerate(ledgers[sender]):
                if each.direction == "out" and each.peer == receiver:
                    left = [*ledgers[sender][:number], *ledgers[sender][number + 1 :]]
                    found = reconcile(left, ledgers[receiver], (sender, receiver), known)
                    assert [row.wire_sha256 for row in found.unrecorded] == [each.wire_sha256]
            for number, each in enumerate(ledgers[receiver]):
                if each.direction == "in" and each.peer == sender:
                    left = [*ledgers[receiver][:number], *ledgers[receiver][number + 1 :]]
                    found = reconcile(ledgers[sender], left, (sender, receiver), known)
                    assert [row.wire_sha256 for row in found.lost] == [each.wire_sha256]
                    assert found.ok == (each.wire_sha256 not in known)
            changed = [msgspec.structs.replace(each, wire_bytes=each.wire_bytes + 1) for each in ledgers[receiver]]
            found = reconcile(ledgers[sender], changed, (sender, receiver), known)
            assert len(found.unrecorded) == len(found.lost) == whole.sent
