"""What is summed from ledgers, what is picked out of them, and that neither holds a ledger in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wardround.platform.audit.filters import Filters, type_of
from wardround.platform.audit.showing import Count, Survey, Tally, distinct_sources, matching, survey
from wardround.platform.errors import PlatformError
from wardround.privacy.errors import LedgerError
from wardround.privacy.ledger.reading import read_entries

from .shown_ledgers import (
    AMBER,
    KEY,
    OTHER,
    POLICY,
    STUDY,
    entry,
    message,
    refused,
    whole,
    write_ledger,
    write_raw,
)

POLICY_KEY = (POLICY, "federated training", "GDPR 9(2)(j)", 2190)


def surveyed(root: Path, **filters: object) -> Survey:
    return survey(distinct_sources([root]), Filters(**filters))  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return whole(tmp_path / "all")


def test_sums(root: Path) -> None:
    found = surveyed(root)
    assert [(part.name, part.entries, part.matching) for part in found.ledgers] == [
        ("amber", 12, 12),
        ("birch", 3, 3),
        ("coordinator", 4, 4),
    ]
    assert found.matching == 19
    amber = Tally(2, 2000, 1, 50, 1, 1, 1, "2026-01-01T00:00:02.000000Z", "2026-01-01T00:00:07.000000Z")
    assert found.owners["amber"] == amber
    assert (found.owners["birch"].left, found.owners["birch"].left_bytes) == (1, 500)
    whole_study = found.studies[STUDY]
    assert (whole_study.left, whole_study.left_bytes, whole_study.arrived_bytes) == (4, 2550, 1050)
    assert {day: tally.left for day, tally in found.days.items()} == {"2026-01-01": 3, "2026-01-03": 1}
    assert found.rounds == {STUDY: (1, 2)}
    assert found.stopped == 2
    assert found.parties["amber", "out", "coordinator", KEY].left == 2
    assert found.parties["amber", "out", "coordinator", KEY].refused == 1
    assert found.parties["amber", "in", "coordinator", KEY].arrived == 1
    assert found.types["masked-vector", "out", "sent"].entries == 2
    assert found.types["masked-vector", "out", "sent"].bytes == 1500
    assert found.types["message", "in", "failed"].bytes == 7
    assert found.policies[POLICY_KEY].owners == {"amber", "birch"}
    assert found.policies[POLICY_KEY].messages.left == 3
    assert {key: count.entries for key, count in found.events.items() if key[0] == "amber"} == {
        ("amber", kind): 1 for kind in ("open", "close", "budget", "forget", "purge", "sign", "note")
    }
    assert found.span == ("2026-01-01T00:00:01.000000Z", "2026-01-03T00:00:03.000000Z")


def test_the_budget_is_what_was_said_last(root: Path) -> None:
    use = surveyed(root).budgets
    assert list(use) == [("amber", STUDY)]
    assert (use["amber", STUDY].dp["epsilon"], use["amber", STUDY].limit, use["amber", STUDY].releases) == (1.25, 8, 1)


def test_a_later_budget_entry_keeps_the_limit(tmp_path: Path) -> None:
    later = msgspec.structs.replace(AMBER[1], dp={"epsilon": 3.0, "delta": 1e-5, "sequence": 3, "sha256": "0" * 64})
    write_ledger(tmp_path / "amber", records=[*AMBER, later])
    use = surveyed(tmp_path).budgets["amber", STUDY]
    assert (use.dp["epsilon"], use.limit) == (3.0, 8.0)


@given(st.lists(st.sampled_from(AMBER[2:]), min_size=2, max_size=20), st.data())
def test_two_sums_together_are_the_sum_of_both(records: list, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(records) - 1))
    entries = [
        entry(**{name: getattr(record, name) for name in record.__struct_fields__}, time=f"2026-01-01T00:00:{i:02}Z")
        for i, record in enumerate(records)
    ]
    for kind in (Tally, Count):
        parts = (kind(), kind(), kind())
        for number, each in enumerate(entries):
            parts[0].add(each)
            parts[1 if number < cut else 2].add(each)
        assert parts[1] + parts[2] == parts[0]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"study": "ABAB"}, 16),
        ({"round": 1}, 6),
        ({"stage": "mask"}, 5),
        ({"stage": "charge"}, 1),
        ({"type": "round-start"}, 2),
        ({"type": "forget"}, 1),
        ({"peer": "amber"}, 2),
        ({"owner": "birch"}, 3),
        ({"direction": "in"}, 3),
        ({"outcome": "refused"}, 1),
        ({"day": "2026-01-03"}, 3),
        ({"day": "2026-01-02"}, 0),
        ({"owner": "amber", "direction": "out", "outcome": "sent"}, 1),
        ({"outcome": "refused", "owner": "birch"}, 0),
    ],
)
def test_filters(root: Path, filters: dict[str, object], count: int) -> None:
    found = surveyed(root, **filters)
    picked = list(matching(found, Filters(**filters)))  # type: ignore[arg-type]
    assert found.matching == len(picked) == count
    for each in picked:
        for name, value in filters.items():
            have = {"type": type_of(each), "day": each.time[:10]}.get(name) or getattr(each, name)
            assert str(have).startswith(str(value).lower())


@pytest.mark.parametrize(
    ("filters", "error", "remedy"),
    [
        ({"study": "abcd"}, "begins with 'abcd'", f"'{STUDY[:12]}'"),
        ({"round": 7}, "round 7", "round 2"),
        ({"stage": "maks"}, "'maks'", "'mask'"),
        ({"type": "masked-vectors"}, "'masked-vectors'", "'masked-vector'"),
        ({"type": "zzz"}, "'zzz'", "There is: advert, "),
        ({"peer": "cordinator"}, "'cordinator'", "'coordinator'"),
        ({"owner": "brich"}, "'brich'", "'birch'"),
        ({"direction": "outt"}, "'outt'", "'out'"),
        ({"outcome": "refuse"}, "'refuse'", "'refused'"),
    ],
)
def test_a_value_that_nothing_has_is_an_error(root: Path, filters: dict, error: str, remedy: str) -> None:
    with pytest.raises(PlatformError) as caught:
        surveyed(root, **filters)
    assert error in caught.value.what
    assert caught.value.where == f"--{next(iter(filters))}"
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("day", ["yesterday", "2026-1-1", "20260101", "2026-02-30", ""])
def test_a_day_that_is_none(day: str) -> None:
    with pytest.raises(PlatformError, match="is no day"):
        Filters(day=day)


def test_the_nearest_day(root: Path) -> None:
    for asked, near in (("2025-01-01", "2026-01-01"), ("2026-01-02", "2026-01-01"), ("2026-02-02", "2026-01-03")):
        filters = Filters(day=asked)
        assert filters.nearest_day(survey(distinct_sources([root]), filters).known) == near


def test_only_what_was_stopped(root: Path) -> None:
    found = surveyed(root)
    stopped = list(matching(found, Filters(), stopped=True))
    assert [(each.outcome, each.rule) for each in stopped] == [
        ("refused", "messages.masked-vector"),
        ("failed", "decode"),
    ]


def test_what_is_written_meanwhile_is_not_shown(tmp_path: Path) -> None:
    path = write_ledger(tmp_path)
    found = surveyed(tmp_path)
    path.write_bytes(path.read_bytes() + entry(outcome="refused").line() + b"\n")
    assert sum(1 for _ in matching(found, Filters())) == found.matching == len(AMBER) + 2


def test_copies_of_one_ledger_are_not_summed(tmp_path: Path) -> None:
    path = write_ledger(tmp_path / "one")
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    for paths in ([path, copy], [path, path]):
        with pytest.raises(LedgerError, match="copies of one ledger, amber's") as caught:
            distinct_sources(paths)
        assert str(path) in caught.value.where
    assert len(distinct_sources([path, write_ledger(tmp_path / "two")])) == 2  # two ledgers of one owner are two


def test_a_line_that_is_no_entry_is_named(root: Path) -> None:
    path = root / "birch" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(LedgerError, match="line 4 is no ledger entry"):
        surveyed(root)


def test_two_studies_in_one_ledger(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "l.jsonl", entry(), entry(study=OTHER, sequence=1, round=4), entry(sequence=2))
    found = surveyed(path)
    assert {study: tally.left for study, tally in found.studies.items()} == {STUDY: 2, OTHER: 1}
    assert found.rounds == {STUDY: (1, 1), OTHER: (4, 4)}


def test_memory_does_not_grow_with_the_ledger(tmp_path: Path) -> None:
    def peak(entries: int) -> int:
        path = tmp_path / f"{entries}.jsonl"
        lines = [entry(sequence=number, round=number % 5).line() + b"\n" for number in range(100)]
        lines += [entry(outcome="refused", rule="messages.advert").line() + b"\n"]
        path.write_bytes(b"".join(lines) * (entries // 101))
        sources = distinct_sources([path])
        tracemalloc.start()
        try:
            found = survey(sources, Filters())
            assert sum(1 for _ in matching(found, Filters())) == found.matching > 0.9 * entries
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(202)  # what is loaded once
    assert peak(8080) < peak(808) + 30_000  # each entry takes more than a thousand bytes


def test_a_refusal_counts_no_bytes(tmp_path: Path) -> None:
    write_ledger(tmp_path, records=[refused(), message(outcome="retried", wire_bytes=3)])
    assert [each.kind for each in read_entries(tmp_path / "ledger.jsonl")] == ["open", "message", "message", "close"]
    tally = surveyed(tmp_path).owners["amber"]
    assert (tally.refused, tally.left, tally.retried, tally.left_bytes) == (1, 1, 1, 3)
