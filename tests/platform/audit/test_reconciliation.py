"""Sent equals received, byte for byte, in real runs: with dropouts, late answers, lies, retries and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.audit.reconciliation import reconcile_sources
from wardround.platform.audit.sources import find_sources
from wardround.platform.audit.verification import audit
from wardround.privacy.errors import LedgerError

from .audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SITES = [f"site-{number}" for number in range(1, 6)]
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "silent": {
        "drop": [
            {"site": "site-2", "round": 1, "stage": "advertise"},
            {"site": "site-3", "round": 2, "stage": "mask"},
            {"site": "site-4", "round": 2, "stage": "unmask"},
        ]
    },
    "late": {"slow": [{"site": "site-4", "round": 1, "stage": "mask", "seconds": 5000.0}]},
    "too few, and again": {"drop": [{"site": f"site-{i}", "round": 2, "stage": "mask"} for i in (1, 3)]},
    "the same set again": {"drop": [{"site": f"site-{i}", "round": 1, "stage": "unmask"} for i in (1, 2, 3)]},
    "a lie": {"lying_coordinator": [{"round": 1, "lie": "small-cohort"}]},
    "a dishonest dealer": {"dishonest_share": [{"site": "site-3", "round": 1, "kind": "dealt"}]},
}
LOSING = ("silent", "too few, and again", "the same set again")
"""Where somebody is silent: what was sent to it, or by it, does not arrive. What is late arrives all the same."""


@pytest.fixture
def play(tmp_path: Path, toy_study: Callable[..., Any], toy_data: Callable[..., Any], BACKBONE: str) -> Any:
    def make(**values: Any) -> Path:
        return make_run(tmp_path / "run", toy_study, toy_data(sites=5), BACKBONE, **{"rounds": 2, **values})

    return make


def entries(run: Path, party: str) -> list[dict[str, Any]]:
    folder = run / "coordinator" if party == "coordinator" else run / "sites" / party
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("faults", FAULTS)
def test_sent_equals_received_byte_for_byte(play: Any, faults: str) -> None:
    run = play(faults=FAULTS[faults])
    rows = reconcile_sources(find_sources([run]))
    assert [(row.sender, row.receiver) for row in rows] == [
        pair for site in SITES for pair in ((site, "coordinator"), ("coordinator", site))
    ]
    for row in rows:
        assert row.ok, row
        sent = [e for e in entries(run, row.sender) if e["direction"] == "out" and e["peer"] == row.receiver]
        came = [e for e in entries(run, row.receiver) if e["direction"] == "in" and e["peer"] == row.sender]
        sent = [e for e in sent if e["outcome"] in ("sent", "retried")]
        assert (row.sent, row.sent_bytes) == (len(sent), sum(e["wire_bytes"] for e in sent))
        assert (row.received, row.received_bytes) == (len(came), sum(e["wire_bytes"] for e in came))
        assert row.sent == row.received + sum(message.count for message in row.lost)
        assert faults in LOSING or not row.lost
    if faults == "the same set again":
        assert sum(row.retried for row in rows) > 0
    assert any(row.lost for row in rows) == (faults in LOSING)
    found = audit(find_sources([run]), {})
    assert found.ok, [ledger.problems for ledger in found.ledgers] + list(found.between)


def test_what_the_policy_refused_is_counted_and_no_difference(play: Any) -> None:
    """Site 5 lets no masked vector out, and is not missed: the round goes on without it."""

    def stop(text: str) -> str:
        lines = [line for line in text.splitlines() if not line.startswith("masked-vector")]
        return "\n".join(lines) + "\n"

    run = play(edits={4: stop}, rounds=2)
    refused = [entry for entry in entries(run, "site-5") if entry["outcome"] == "refused"]
    assert refused
    rows = {(row.sender, row.receiver): row for row in reconcile_sources(find_sources([run]))}
    assert all(row.ok and not row.lost for row in rows.values())
    assert rows["site-5", "coordinator"].refused == len(refused)
    assert rows["site-4", "coordinator"].refused == 0
    assert audit(find_sources([run]), {}).ok


def test_an_omission_is_named_whoever_makes_it(play: Any) -> None:
    run = play(rounds=2)
    for party, other, direction in (
        ("site-2", "coordinator", "out"),
        ("site-2", "coordinator", "in"),
        ("coordinator", "site-2", "out"),
        ("coordinator", "site-2", "in"),
    ):
        folder = run / "coordinator" if party == "coordinator" else run / "sites" / party
        whole = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
        rows = [json.loads(line) for line in whole]
        number = next(i for i, row in enumerate(rows) if row["direction"] == direction and row["peer"] == other)
        (folder / "ledger.jsonl").write_bytes(b"".join(whole[:number] + whole[number + 1 :]))
        sources = find_sources([run / "sites" / "site-2", run / "coordinator"])
        wrong = [row for row in reconcile_sources(sources) if not row.ok]
        assert len(wrong) == 1
        named = wrong[0].unrecorded if direction == "out" else wrong[0].denied
        assert [row.wire_sha256 for row in named] == [rows[number]["wire_sha256"]]
        (folder / "ledger.jsonl").write_bytes(b"".join(whole))


def test_it_needs_one_coordinator_and_a_site(play: Any) -> None:
    run = play(rounds=1)
    for paths, words in (
        ([run / "sites" / "site-1"], "0 ledgers of a coordinator and 1 of sites"),
        ([run / "coordinator"], "1 ledgers of a coordinator and 0 of sites"),
        ([run, run / "coordinator"], "2 ledgers of a coordinator"),
    ):
        with pytest.raises(LedgerError, match=words) as raised:
            reconcile_sources(find_sources(paths))
        assert str(paths[0]) in raised.value.where
