"""``wardround report sign`` as a clinician calls it, on a finished run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform import dossier
from wardround.platform.cli import report_sign
from wardround.platform.statements import DECISIONS

Cli = Callable[..., Any]
SITE, NAME = "amber", "Dr. Åsa Lind"
REMARKS = "=Not for children.\nSee </script><b>case 3</b>"
WORDS = ("--name", NAME, "--role", "radiologist")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def files(run: Path) -> dict[Path, bytes]:
    """All that a reader sees, and what is signed; not the locks."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_signed_report_stays_sound_and_the_statement_is_everywhere(
    cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("report", "sign", run, "--site", SITE, *WORDS, "--decision", "accepted-with-remarks", "--remarks", REMARKS)
    ended = cli(*words, "--yes")
    assert ended.code == 0, ended.err
    for told in (
        NAME,
        "accepted-with-remarks",
        "See </script><b>case 3</b>",
        "cannot be changed or removed",
        "readable to every auditor",
        "Signed at 20",
        "no personal and no qualified electronic signature",
    ):
        assert told in ended.out, ended.out
    verified = cli("audit", "verify", run)
    assert verified.code == 0, verified.out
    assert verified.out.count("holds") == 4
    shown = json.loads(cli("audit", "show", run, "--type", "sign", "--entries", "--json").out)["entries"]
    assert [(entry["owner"], entry["facts"]["name"], entry["facts"]["remarks"]) for entry in shown] == [
        (SITE, NAME, REMARKS)
    ]
    line = cli("audit", "show", run, "--type", "sign", "--entries")
    assert NAME in line.out
    assert "</script><b>" not in (run / "audit.html").read_text()
    table = list(csv.DictReader(cli("audit", "export", run, "--format", "csv").out.splitlines()))
    assert [json.loads(row["facts"])["remarks"] for row in table if row["kind"] == "sign"] == [REMARKS]
    fhir = cli("audit", "export", run, "--format", "fhir").out
    (event,) = [
        item["resource"] for item in json.loads(fhir)["entry"] if item["resource"]["type"].get("code") == "attest"
    ]
    assert {"name": NAME, "requestor": True, "role": [{"text": "radiologist"}]} in event["agent"]
    # The same files give the same pages, and the same statement is not written twice.
    before = files(run)
    assert cli("report", "build", run).code == 0
    assert files(run) == before
    monkeypatch.setattr(dossier, "build_pages", lambda _: [])  # they are not made a third time here
    again = cli(*words)  # no terminal and no --yes: nothing is left to ask
    assert again.code == 0, again.err
    assert f"signed already, at {shown[0]['time']}" in again.out
    assert files(run) == before


def test_without_a_yes_nothing_is_signed(cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, asked = files(run), []
    words = ("report", "sign", run, "--site", SITE, *WORDS, "--decision", "rejected")
    monkeypatch.setattr(report_sign, "_can_ask", lambda: False)
    cli(*words).assert_explains("no terminal", "--yes")
    monkeypatch.setattr(report_sign, "_can_ask", lambda: True)
    monkeypatch.setattr(report_sign.typer, "confirm", lambda text, **_: asked.append(text))
    ended = cli(*words)
    assert ended.code == 1
    assert asked == ["Sign this?"]
    assert "Nothing was signed." in ended.err
    assert "SHA-256" in ended.out
    assert "rejected" in ended.out
    assert files(run) == before


def test_errors_say_what_to_do(cli: Cli, run: Path) -> None:
    def sign(site: str = SITE, *more: str, name: str = NAME) -> Any:
        given = ("--site", site, "--name", name, "--role", "radiologist", "--decision", "accepted", *more)
        return cli("report", "sign", run, *given, "--yes")

    before = files(run)
    sign("ambre").assert_explains("did you mean amber?", "birch, cedar, harbour, coordinator")
    sign("harbour").assert_explains("sent nothing and has no ledger")
    sign(name=" ").assert_explains("--name", "Say who signs")
    sign(SITE, "--remarks", "x" * 2001).assert_explains("2,001 characters; 2,000 are allowed")
    sign(SITE, "--remarks", "a\x1b[2J").assert_explains("U+001B")
    wrong = cli("report", "sign", run, "--site", SITE, *WORDS, "--decision", "approved", "--yes")
    assert wrong.code == 2
    assert files(run) == before
    report = run / "sites" / SITE / "report.json"
    report.write_bytes(report.read_bytes())
    sign().assert_explains("older than the report", "wardround report build")
    (run / "homes" / "cedar" / "ledger-key.bin").write_bytes(b"x" * 60)
    sign("cedar").assert_explains("missing or damaged", "rotate-key --lost")
    ledger = run / "homes" / "birch" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"sent"', b'"noted"', 1))
    sign("birch").assert_explains("does not hold", "evidence")
    shutil.rmtree(run / "homes" / SITE)
    sign().assert_explains("only copies of what it sent")
    (run / "summary.json").unlink()
    sign().assert_explains("not finished", "--resume")


def test_the_decisions_are_those_that_can_be_signed() -> None:
    assert tuple(report_sign.Decision) == DECISIONS
