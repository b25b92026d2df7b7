"""``wardround audit show``: an auditor's questions, for people and for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..audit.shown_ledgers import HOSTILE, POLICY, STUDY, entry, message, refused, whole, write_ledger, write_raw

Cli = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return whole(tmp_path / "all")


def rows(text: str, first: str) -> list[str]:
    """Table rows that begin with a word, each with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == [first]]


def test_sums_for_people(cli: Cli, root: Path) -> None:
    ended = cli("audit", "show", root)
    assert ended.code == 0, ended.err
    assert "3 ledgers, 19 entries; 2026-01-01 to 2026-01-03 UTC" in ended.out
    assert "left the 2 sites: 3 messages, 2.5 kB" in ended.out
    assert "left the coordinator: 1 message, 50 B" in ended.out
    assert "refused by policy: 1; arrived, but no message: 1" in ended.out
    assert rows(ended.out, STUDY[:12]) == [f"{STUDY[:12]} 1-2 2026-01-01 to 2026-01-03 2.5 kB in 4 1.1 kB in 2 1 1"]
    assert rows(ended.out, "2026-01-03") == ["2026-01-03 500 B in 1 - - -"]
    assert rows(ended.out, "masked-vector") == ["masked-vector 1.5 kB in 2 1.0 kB in 1 1.0 kB in 1 1 -"]
    for said in (POLICY[:12], "federated training", "GDPR 9(2)(j)", "2190 days", "amber, birch"):
        assert said in ended.out
    budget = [row for row in rows(ended.out, "amber") if STUDY[:12] in row]
    assert budget == [f"amber {STUDY[:12]} 1.250 8 1e-05 patient 1 2026-01-01 00:00"]
    assert rows(ended.out, "forget") == ["forget 1 amber 2026-01-01 00:00"]
    assert "it left one and arrived at the other" in ended.out
    assert "only shows" in ended.out
    assert "wardround audit verify" in ended.out


def test_refusals_are_listed_one_by_one(cli: Cli, tmp_path: Path) -> None:
    many = [refused(round=number, rule=f"messages.rule-{number}") for number in range(1, 61)]
    write_ledger(tmp_path, records=many)
    ended = cli("audit", "show", tmp_path)
    lines = [line for line in ended.out.splitlines() if "  rule " in line]
    assert len(lines) == 60
    for number, line in enumerate(lines, start=1):
        assert line.endswith(f"rule messages.rule-{number}")
        assert f"round {number} " in line
        assert "coordinator" in line
        assert "masked-vector" in line


def test_a_summary_fits_a_terminal(cli: Cli, root: Path) -> None:
    ended = cli("audit", "show", root)
    assert max(map(len, ended.out.splitlines())) <= 120


def test_many_parties_are_cut_for_people_alone(cli: Cli, tmp_path: Path) -> None:
    write_ledger(tmp_path, "coordinator", [message(peer=f"site-{number:03}") for number in range(50)])
    people, scripts = cli("audit", "show", tmp_path), cli("audit", "show", tmp_path, "--json")
    assert "and 30 more; --json has all" in people.out
    assert len(json.loads(scripts.out)["parties"]) == 50


def test_entry_by_entry(cli: Cli, root: Path) -> None:
    ended = cli("audit", "show", root, "--entries", "--owner", "amber")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert len(lines) == 12
    assert lines[1].split()[:6] == ["2026-01-01", "00:00:02", "amber", "1", "from", "coordinator"]
    assert "charge round-1 epsilon 1.000" in lines[2]
    assert "rule messages.masked-vector" in lines[5]
    assert "files 9, records 3" in lines[8]
    assert "12 of them asked for" in ended.err
    assert "wardround audit verify" in ended.err


def test_for_scripts(cli: Cli, root: Path) -> None:
    ended = cli("audit", "show", root, "--json", "--study", "abab", "--direction", "out")
    assert ended.code == 0
    shown = json.loads(ended.out)
    assert shown["filters"] == {"study": "abab", "direction": "out"}
    assert shown["matching"] == 5
    assert [(row["name"], row["entries"], row["matching"]) for row in shown["ledgers"]] == [
        ("amber", 12, 3),
        ("birch", 3, 1),
        ("coordinator", 4, 1),
    ]
    assert [(row["owner"], row["left"], row["left_bytes"], row["refused"]) for row in shown["owners"]] == [
        ("amber", 2, 2000, 1),
        ("birch", 1, 500, 0),
        ("coordinator", 1, 50, 0),
    ]
    assert shown["studies"][0]["rounds"] == [1, 2]
    assert shown["policies"][0]["policy_sha256"] == POLICY
    assert shown["policies"][0]["owners"] == ["amber", "birch"]
    assert shown["budgets"][0]["dp"]["epsilon"] == 1.25
    assert [(row["rule"], row["owner"], row["sequence"]) for row in shown["stopped"]] == [
        ("messages.masked-vector", "amber", 5)
    ]
    assert "entries" not in shown
    assert "verify" in shown["only_shown"]


def test_entries_for_scripts_are_the_ledgers_own(cli: Cli, root: Path) -> None:
    shown = json.loads(cli("audit", "show", root, "--json", "--entries").out)
    lines = [
        json.loads(line)
        for owner in ("amber", "birch", "coordinator")
        for line in (root / owner / "ledger.jsonl").read_bytes().splitlines()
    ]
    assert shown["entries"] == lines


def test_nothing_is_an_answer(cli: Cli, root: Path) -> None:
    ended = cli("audit", "show", root, "--day", "2026-01-02")
    assert ended.code == 0
    assert "Nothing" in ended.out
    assert "The nearest day is 2026-01-01." in ended.out
    shown = json.loads(cli("audit", "show", root, "--day", "2026-01-02", "--json", "--entries").out)
    assert (shown["matching"], shown["studies"], shown["stopped"], shown["entries"]) == (0, [], [], [])


def test_what_cannot_be_asked(cli: Cli, root: Path, tmp_path: Path) -> None:
    cli("audit", "show", root, "--type", "masked-vectr").assert_explains("masked-vectr", "--type", "'masked-vector'")
    cli("audit", "show", root, "--round", 9).assert_explains("round 9", "--round", "round 2")
    cli("audit", "show", root, "--day", "monday").assert_explains("'monday'", "--day", "YYYY-MM-DD")
    cli("audit", "show", root, "--study", "ff").assert_explains("'ff'", "--study", STUDY[:12])
    cli("audit", "show", tmp_path / "none").assert_explains("no such file or folder", "none")
    cli("audit", "show", root, root / "amber").assert_explains("copies of one ledger", "amber")
    assert cli("audit", "show", root, "--round", -1).code == 2
    assert cli("audit", "show").code == 2


def test_a_broken_line_is_named(cli: Cli, root: Path) -> None:
    path = root / "birch" / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + b"not an entry\n")
    for words in ((), ("--json",), ("--entries",), ("--json", "--entries")):
        cli("audit", "show", root, *words).assert_explains("line 4 is no ledger entry", str(path), "audit verify")


@pytest.mark.parametrize("words", [(), ("--entries",), ("--json",), ("--json", "--entries")])
def test_hostile_words_do_no_harm(cli: Cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    entries = [
        entry(
            **dict.fromkeys(("peer", "peer_key", "message_type", "rule", "purpose", "legal_basis", "study"), text),
            policy_sha256=text,
            time=text,
            outcome="refused" if number % 2 else "sent",
            wire_bytes=-(10**30) if number % 3 else 10**400,
            round=number,
            dp={"epsilon": text, "delta": True, "unit": text, "limit": [text]},
        )
        for number, text in enumerate(HOSTILE)
    ]
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(json.dumps(_plain(each)).encode() + b"\n" for each in entries))
    ended = cli("audit", "show", path, *words)
    assert ended.code == 0, ended.err
    assert not any(c in ended.out for c in "\x1b\x9b\u202e\x00\t\r")
    if "--json" in words:
        assert ended.out.isascii()
        shown = json.loads(ended.out)
        assert {row["purpose"] for row in shown["policies"]} == set(HOSTILE)
    else:
        assert "[bold]markup[/bold]" in ended.out
        assert "\\x1b[31mred" in ended.out


def _plain(each: Any) -> dict[str, Any]:
    return {name: getattr(each, name) for name in each.__struct_fields__}


def test_in_a_terminal_of_ascii_alone(cli: Cli, tmp_path: Path) -> None:
    write_raw(tmp_path / "ledger.jsonl", entry(purpose="名前"))
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
    try:
        ended = [cli("audit", "show", tmp_path), cli("audit", "show", tmp_path, "--entries")]
    finally:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    assert [each.code for each in ended] == [0, 0]
    assert all(each.out.isascii() for each in ended)
