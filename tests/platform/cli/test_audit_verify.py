"""``wardround audit verify`` and ``reconcile``, as a person and a script call them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..audit.audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
Cli = Callable[..., Any]
SITE = "site-2"


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def ledger(run: Path, party: str = SITE) -> Path:
    return (run / "coordinator" if party == "coordinator" else run / "sites" / party) / "ledger.jsonl"


def lines_of(run: Path, party: str = SITE) -> list[bytes]:
    return ledger(run, party).read_bytes().splitlines(keepends=True)


def said(ended: Any) -> list[str]:
    """What is a problem or a note."""
    return [line for line in ended.out.splitlines() if line.startswith(("problem: ", "note: "))]


def test_a_run_that_holds(cli: Cli, made: Path) -> None:
    ended = cli("audit", "verify", made)
    assert ended.code == 0, ended.err
    assert ended.out.count("holds") == 4
    assert "of 132 entries are as others signed them: nothing changed, removed, inserted or cut" in ended.out
    assert [line.split(": ")[:2] for line in said(ended)] == [
        ["note", party] for party in ("site-1", "site-2", "site-3", "coordinator")
    ]
    assert "The verdict rests on these keys" in ended.out
    shown = json.loads(cli("audit", "verify", made, "--json").out)
    assert shown["ok"] is True
    assert (shown["between"], shown["missing"]) == ([], [])
    for row in shown["ledgers"]:
        assert row["ok"] is True
        assert row["problems"] == []
        assert f"  {row['owner']}: {row['identity']}\n" in ended.out
        assert row["entries"] == len(lines_of(made, row["owner"]))
        assert [each["ok"] and each["enough"] for each in row["checkpoints"]] == [True, True]
        assert row["anchored"] is False


def change(run: Path) -> str:
    lines = lines_of(run)
    lines[6] = lines[6].replace(b'"retention_days":', b'"retention_days":9', 1)
    ledger(run).write_bytes(b"".join(lines))
    return f"problem: {SITE}: entry 7 (line 8) does not follow from the entry before it"


def remove(run: Path) -> str:
    lines = lines_of(run)
    ledger(run).write_bytes(b"".join(lines[:6] + lines[7:]))
    return f"problem: {SITE} ({ledger(run)}): entry 6 (line 7) has sequence 7 instead of 6"


def swap(run: Path) -> str:
    lines = lines_of(run, "coordinator")
    lines[8], lines[9] = lines[9], lines[8]
    ledger(run, "coordinator").write_bytes(b"".join(lines))
    return "problem: coordinator: entry 8 (line 9) has sequence 9 instead of 8"


def cut(run: Path) -> str:
    ledger(run, "coordinator").write_bytes(b"".join(lines_of(run, "coordinator")[:20]))
    shutil.rmtree(run / "coordinator" / "checkpoints")
    return "its close is missing after entry 19"


def no_rosters(run: Path) -> str:
    shutil.rmtree(run / "coordinator" / "rosters")
    return "problem: coordinator: the roster "


def junk(run: Path) -> str:
    ledger(run, "coordinator").write_bytes(b"\xff\0\n" + b"[" * 10_000)
    return "problem: coordinator: entry 0 (line 1) is no ledger entry"


@pytest.mark.parametrize("tamper", [change, remove, swap, cut, no_rosters, junk])
def test_a_tampered_run_does_not_hold(cli: Cli, run: Path, tamper: Callable[[Path], str]) -> None:
    words = tamper(run)
    ended = cli("audit", "verify", run)
    assert ended.code == 1
    first = next(line for line in said(ended) if line.startswith("problem"))
    labelled = f"{SITE} ({ledger(run)})"  # the home beside it differs now, so its copy is named by its file
    assert words.replace(labelled, SITE) in first.replace(labelled, SITE), ended.out
    assert "DOES NOT HOLD" in ended.out
    assert "Keep all files as they are: they are evidence." in ended.out
    assert "as others signed them" not in ended.out
    assert ended.err == ""
    script = cli("audit", "verify", run, "--json")
    assert script.code == 1
    shown = json.loads(script.out)
    assert shown["ok"] is False
    problems = [text for row in shown["ledgers"] for text in row["problems"]]
    assert any(text in first for text in problems)


def test_problems_between_ledgers_are_told(cli: Cli, run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(ledger(run).parent, older)
    (older / "ledger.jsonl").write_bytes(b"".join(lines_of(run)[:4]))
    shutil.rmtree(older / "checkpoints")
    (run / "summary.json").unlink()
    assert cli("audit", "verify", older).code == 0
    ended = cli("audit", "verify", older, run / "coordinator")
    assert ended.code == 1
    assert "problem: between ledgers: batch " in ended.out
    assert f"has a checkpoint of {SITE} that is not of this ledger of {SITE}, {older}" in ended.out
    assert "note: between ledgers: no ledger is here of: site-1, site-3" in ended.out
    shown = json.loads(cli("audit", "verify", older, run / "coordinator", "--json").out)
    assert shown["between"]
    assert shown["missing"] == ["site-1", "site-3"]


def test_copies_are_compared_and_the_same_file_is_taken_once(cli: Cli, run: Path, tmp_path: Path) -> None:
    folder = ledger(run).parent
    assert cli("audit", "verify", folder, folder / "ledger.jsonl", folder).out.count("holds") == 1
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    ended = cli("audit", "verify", folder, copy)
    assert ended.code == 0, ended.out
    lines = lines_of(run)
    lines[-1] = lines[-1].replace(b'"wire_bytes":', b'"wire_bytes":1')
    (copy / "ledger.jsonl").write_bytes(b"".join(lines))
    ended = cli("audit", "verify", folder, copy)
    assert ended.code == 1
    assert f"part at entry {len(lines) - 1}: {folder / 'ledger.jsonl'} and {copy / 'ledger.jsonl'}" in ended.out


def test_a_cut_copy_in_the_dossier_is_not_hidden_by_its_home(cli: Cli, run: Path) -> None:
    ledger(run).write_bytes(b"".join(lines_of(run)[:9]))
    ended = cli("audit", "verify", run)
    assert ended.code == 1
    assert f"problem: {SITE} ({ledger(run)}): the cosigned checkpoint of" in ended.out


def test_keys_are_compared(cli: Cli, made: Path) -> None:
    rows = json.loads(cli("audit", "verify", made, "--json").out)["ledgers"]
    words = {row["owner"]: row["identity"] for row in rows}
    given = [part for owner, key in words.items() for part in ("--key", f"{owner}={key}")]
    ended = cli("audit", "verify", made, *given)
    assert ended.code == 0
    assert "The verdict rests on these keys" not in ended.out
    some = cli("audit", "verify", made, "--key", f"{SITE}={words[SITE]}")
    assert words[SITE] not in some.out
    assert words["site-1"] in some.out
    wrong = cli("audit", "verify", made, "--key", f"{SITE}={words['site-1']}")
    assert wrong.code == 1
    assert f"problem: {SITE}: the ledger is of another identity than the key given for {SITE}: a wrong key" in wrong.out
    alone = cli("audit", "verify", made / "sites" / "site-1", "--key", f"coordinator={words[SITE]}")
    assert alone.code == 1
    assert "another identity for coordinator than the key given: cosigners may be invented" in alone.out


def test_what_cannot_be_asked(cli: Cli, made: Path, tmp_path: Path) -> None:
    cli("audit", "verify", tmp_path / "typo").assert_explains("no such file or folder", "typo")
    cli("audit", "verify", tmp_path).assert_explains("no ledger here", str(tmp_path))
    cli("audit", "verify", tmp_path / ("x" * 300)).assert_explains("File name too long")
    cli("audit", "verify", made, "--key", "amber").assert_explains("another form than PARTY=KEY", "--key")
    cli("audit", "verify", made, "--key", f"zebra={'ab' * 32}").assert_explains("'zebra'", "--key", SITE)
    twice = ["--key", f"{SITE}={'ab' * 32}", "--key", f"{SITE}={'cd' * 32}"]
    cli("audit", "verify", made, *twice).assert_explains("two keys")
    cli("audit", "reconcile", tmp_path / "typo").assert_explains("no such file or folder")
    cli("audit", "reconcile", ledger(made).parent).assert_explains("0 ledgers of a coordinator", SITE)
    assert cli("audit", "verify").code == 2
    assert cli("audit", "verify", made, "--kye", "x").code == 2
    assert cli("audit", "reconcile").code == 2
    assert cli("audit", "reconcile", made, made, made).code == 2


def test_many_problems_are_cut_for_people_alone(cli: Cli, run: Path) -> None:
    folder = ledger(run).parent / "checkpoints"
    for number in range(30):
        (folder / f"{number}.tlog-proof").write_bytes(b"junk")
    ended = cli("audit", "verify", run)
    assert ended.code == 1
    assert sum(line.startswith("problem: ") for line in ended.out.splitlines()) == 20
    assert f"10 more problems of {SITE}; --json has all" in ended.out
    shown = json.loads(cli("audit", "verify", run, "--json").out)
    assert [len(row["problems"]) for row in shown["ledgers"]] == [0, 30, 0, 0]


def test_words_from_a_ledger_do_no_harm(cli: Cli, run: Path) -> None:
    path = ledger(run)
    path.write_bytes(lines_of(run)[0].replace(f'"owner":"{SITE}"'.encode(), b'"owner":"\\u001b[31m[bold]x"', 1))
    for words in ((), ("--json",)):
        ended = cli("audit", "verify", path, *words)
        assert ended.code == 1
        assert "\x1b" not in ended.out
        assert "Traceback" not in ended.err


def test_what_was_not_cosigned_is_not_called_unchanged(cli: Cli, run: Path) -> None:
    path = ledger(run)
    path.write_bytes(b"".join(lines_of(run)[:4]))
    shutil.rmtree(path.parent / "checkpoints")
    (run / "summary.json").unlink()
    ended = cli("audit", "verify", path)
    assert ended.code == 0
    assert "Nothing was changed" not in ended.out
    assert "not all ledgers were cosigned by others yet" in ended.out


def test_reconciled(cli: Cli, made: Path, run: Path) -> None:
    ended = cli("audit", "reconcile", made)
    assert ended.code == 0
    assert ended.out.count("equal, byte for byte") == 6
    pair = cli("audit", "reconcile", ledger(made).parent, made / "coordinator")
    assert (pair.code, pair.out.count("equal, byte for byte")) == (0, 2)
    rows = json.loads(cli("audit", "reconcile", made, "--json").out)
    assert next((row["sender"], row["ok"], row["lost"]) for row in rows) == ("site-1", True, [])
    lines = lines_of(run)
    number = next(i for i, line in enumerate(lines) if json.loads(line)["message_type"] == "masked-vector")
    gone = json.loads(lines[number])
    ledger(run).write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    pair = (ledger(run).parent, run / "coordinator")
    ended = cli("audit", "reconcile", *pair)
    assert ended.code == 1
    assert "DOES NOT FIT" in ended.out
    assert (
        f"problem: {SITE} to coordinator: received, but never sent: masked-vector of round 1, "
        f"{gone['wire_bytes']} bytes, SHA-256 {gone['wire_sha256'][:16]}"
    ) in ended.out
    script = cli("audit", "reconcile", *pair, "--json")
    assert script.code == 1
    (bad,) = [row for row in json.loads(script.out) if not row["ok"]]
    assert [row["wire_sha256"] for row in bad["unrecorded"]] == [gone["wire_sha256"]]


def test_a_receiver_that_denies_is_told_and_a_loss_is_none(cli: Cli, run: Path) -> None:
    lines = lines_of(run, "coordinator")
    rows = [json.loads(line) for line in lines]
    number = next(i for i, row in enumerate(rows) if row["direction"] == "in" and row["peer"] == SITE)
    ledger(run, "coordinator").write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
    pair = (ledger(run).parent, run / "coordinator")
    ended = cli("audit", "reconcile", *pair)
    assert ended.code == 1
    assert (
        f"problem: {SITE} to coordinator: its receiver signed for it and has no entry: advert of round 1" in ended.out
    )
    shutil.rmtree(ledger(run).parent / "checkpoints")
    ended = cli("audit", "reconcile", *pair)
    assert ended.code == 1
    assert "problem: the ledger of coordinator does not hold: entry " in ended.err
    assert "equal, but for what was lost" in ended.out
    assert f"note: {SITE} to coordinator: sent, and not received: advert of round 1" in ended.out
