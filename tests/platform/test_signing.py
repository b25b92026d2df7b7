"""Statements in ledgers: what one may say, what a crash can do, what tampering shows; on a run without pictures."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.audit.sources import find_sources
from wardround.platform.audit.verification import Audit, audit
from wardround.platform.errors import PlatformError, RunFolderError
from wardround.platform.run_folder import RunFolder
from wardround.platform.signing import open_desk, sign_report
from wardround.platform.statements import DECISIONS, MOST_REMARKS, Declaration, statements_of
from wardround.privacy.errors import HomeError, KeyStoreError, LedgerError

from .audit.audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SITE = "site-2"
GOOD = Declaration("Dr. Åsa Lind", "radiologist", "accepted-with-remarks", "Not for children.\nSee the annex.")


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    out = make_run(tmp_path_factory.mktemp("runs") / "run", toy_study, toy_data(), BACKBONE, rounds=1)
    for folder in (*out.glob("sites/*"), out / "coordinator"):
        (folder / "report.json").write_text(f'{{"of": "{folder.name}"}}')
        (folder / "report.html").write_text("what a person reads")
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(made, tmp_path / "run")))


def built(run: RunFolder) -> None:
    (run.root / "built").write_text("pages")


def sign(run: RunFolder, declaration: Declaration = GOOD, party: str = SITE) -> bool:
    with open_desk(run, RunFolder.open(run.root)[1].digest(), party) as desk:
        return sign_report(desk, declaration, built)


def audited(run: RunFolder) -> Audit:
    """As ``audit verify`` does it."""
    return audit(find_sources([run.root], every=True), {}, whole=True)


def signs(ledger: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in ledger.read_bytes().splitlines()]
    return [entry["facts"] for entry in entries if entry["kind"] == "sign"]


def proofs(folder: Path) -> dict[str, bytes]:
    files = [folder / "ledger.jsonl", *folder.glob("checkpoints/*"), *folder.glob("rosters/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("party", [SITE, "coordinator"])
def test_a_statement_is_in_the_ledger_and_its_copy_and_signed(run: RunFolder, party: str) -> None:
    folder = run.coordinator if party == "coordinator" else run.site(party)
    sha256 = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
    assert sign(run, party=party)
    expected = {
        "report": sha256,
        "name": "Dr. Åsa Lind",
        "role": "radiologist",
        "decision": "accepted-with-remarks",
        "remarks": "Not for children.\nSee the annex.",
    }
    assert signs(folder / "ledger.jsonl") == [expected]
    assert (run.root / "built").is_file()
    if party == SITE:
        assert proofs(folder) == proofs(run.homes / SITE)
    found = audited(run)
    assert found.ok
    mine = next(ledger for ledger in found.ledgers if ledger.owner == party)
    assert mine.signed == mine.entries
    told = statements_of(run)
    assert list(told) == ["site-1", "site-2", "site-3", "coordinator"]
    assert [len(told[name]) for name in told] == [int(name == party) for name in told]
    (statement,) = told[party]
    assert (statement.party, statement.name, statement.role) == (party, "Dr. Åsa Lind", "radiologist")
    assert (statement.decision, statement.remarks) == ("accepted-with-remarks", expected["remarks"])
    assert statement.report_matches
    assert statement.verified == "the ledger holds; its owner's key signed this entry"
    assert statement.time.endswith("Z")


def test_the_same_again_adds_nothing_and_a_change_of_mind_does(run: RunFolder) -> None:
    no = Declaration(GOOD.name, GOOD.role, "rejected")
    other = Declaration("Dr. B. Moor", GOOD.role, GOOD.decision, GOOD.remarks)
    assert [sign(run, each) for each in (GOOD, GOOD, no, no, GOOD, other, GOOD)] == [
        *(True, False),
        *(True, False),
        *(True, True, False),  # another person between changes nothing
    ]
    assert [each.decision for each in statements_of(run)[SITE]] == [
        *("accepted-with-remarks", "rejected"),
        *("accepted-with-remarks", "accepted-with-remarks"),
    ]
    assert audited(run).ok


def test_a_changed_report_leaves_older_statements_about_an_earlier_one(run: RunFolder) -> None:
    sign(run)
    (run.site(SITE) / "report.json").write_text("{}")
    assert [each.report_matches for each in statements_of(run)[SITE]] == [False]
    assert sign(run)
    assert [each.report_matches for each in statements_of(run)[SITE]] == [False, True]
    (run.site(SITE) / "report.json").unlink()
    assert SITE not in statements_of(run)


def test_statements_about_another_study_are_not_shown(run: RunFolder) -> None:
    with open_desk(run, "ab" * 32, SITE) as desk:
        assert sign_report(desk, GOOD, built)
    assert statements_of(run)[SITE] == ()


def test_killed_at_any_write_nothing_is_lost_and_nothing_is_doubled(run: RunFolder, tmp_path: Path) -> None:
    ended, nth = False, 0
    while not ended:
        nth += 1
        copy = RunFolder(Path(shutil.copytree(run.root, tmp_path / f"run-{nth}")))
        ended = not _killed(nth, lambda copy=copy: sign(copy))  # type: ignore[misc]
        assert audited(copy).ok, f"killed at write {nth}"
        before = signs(copy.homes / SITE / "ledger.jsonl")
        assert sign(copy) is (not before)
        assert len(signs(copy.homes / SITE / "ledger.jsonl")) == 1
        assert proofs(copy.site(SITE)) == proofs(copy.homes / SITE)
        assert [each.verified for each in statements_of(copy)[SITE]] == [
            "the ledger holds; its owner's key signed this entry"
        ]
        assert (copy.root / "built").is_file()
    assert nth > 8


def _killed(nth: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that dies at its nth sync; whether it came to that."""
    child = os.fork()
    if child == 0:
        real, calls = os.fsync, [0]

        def dying(descriptor: int) -> None:
            calls[0] += 1
            if calls[0] == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        os.fsync = dying  # type: ignore[assignment]
        try:
            work()
            os._exit(0)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def test_a_torn_entry_is_set_aside_and_the_statement_follows(run: RunFolder) -> None:
    with (run.homes / SITE / "ledger.jsonl").open("ab") as stream:
        stream.write(b'{"clip":null,"kind":"si')
    assert sign(run)
    assert audited(run).ok
    assert len(statements_of(run)[SITE]) == 1


def test_failing_pages_leave_the_statement_for_the_next_call(run: RunFolder) -> None:
    def fails(run: RunFolder) -> None:
        raise RunFolderError("no pages")

    with open_desk(run, RunFolder.open(run.root)[1].digest(), SITE) as desk, pytest.raises(RunFolderError):
        sign_report(desk, GOOD, fails)
    assert len(statements_of(run)[SITE]) == 1
    assert sign(run) is False
    assert (run.root / "built").is_file()


def test_a_tampered_copy_marks_its_statements_and_stops_no_page(run: RunFolder) -> None:
    sign(run)
    copy = run.site(SITE) / "ledger.jsonl"
    copy.write_bytes(copy.read_bytes().replace(b'"rejected"', b'""').replace(b"accepted-with-remarks", b"rejected"))
    (statement,) = statements_of(run)[SITE]
    assert statement.decision == "rejected"
    assert statement.verified.startswith("NOT VERIFIED: ")
    assert "is of another ledger" in statement.verified
    copy.write_bytes(b"junk\n" + copy.read_bytes())
    (statement,) = statements_of(run)[SITE]
    assert "NOT VERIFIED: the ledger does not hold: entry 0 (line 1) is no ledger entry" in statement.verified


def test_another_sites_ledger_and_one_without_a_signature_are_marked(run: RunFolder) -> None:
    sign(run)
    (run.site(SITE) / "checkpoints" / "latest.txt").unlink()
    assert "no signature covers this entry" in statements_of(run)[SITE][0].verified
    shutil.copytree(run.homes / SITE / "checkpoints", run.site(SITE) / "checkpoints", dirs_exist_ok=True)
    shutil.rmtree(run.site("site-1"))
    shutil.copytree(run.site(SITE), run.site("site-1"))
    assert statements_of(run)["site-1"][0].verified == "NOT VERIFIED: this is the ledger of site-2"


def refused(run: RunFolder, error: type[Exception], words: str, party: str = SITE) -> None:
    """Nothing is written, in whichever ledger."""
    before = {path: path.read_bytes() for path in run.root.rglob("ledger.jsonl")}
    with pytest.raises(error, match=words):
        sign(run, party=party)
    assert {path: path.read_bytes() for path in run.root.rglob("ledger.jsonl")} == before


def test_a_run_that_is_not_finished(run: RunFolder) -> None:
    run.summary.unlink()
    refused(run, RunFolderError, "not finished")


def test_an_unknown_party_and_its_nearest(run: RunFolder) -> None:
    refused(run, RunFolderError, "did you mean site-2", "sit-2")
    refused(run, RunFolderError, "site-1, site-2, site-3, coordinator", "x")
    (run.coordinator / "report.json").unlink()
    refused(run, RunFolderError, "no coordinator's report", "coordinator")


def test_copies_without_a_home_and_a_party_without_a_ledger(run: RunFolder) -> None:
    (run.site("unseen")).mkdir()
    (run.site("unseen") / "report.json").write_text("{}")
    refused(run, HomeError, "sent nothing", "unseen")
    shutil.rmtree(run.homes)
    refused(run, HomeError, "only copies of what it sent")


def test_a_home_in_use_and_a_run_in_use(run: RunFolder) -> None:
    for lock, error, words in (
        (run.homes / SITE / "lock", HomeError, "in use"),
        (run.lock, RunFolderError, "another process"),
    ):
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            refused(run, error, words)


def test_a_purge_that_was_interrupted(run: RunFolder) -> None:
    (run.homes / SITE / "purge.json").write_text("{}")
    refused(run, HomeError, "purge of this home was interrupted")


def test_a_lost_key_and_a_lost_identity(run: RunFolder) -> None:
    home = run.homes / SITE
    (home / "ledger-key.bin").unlink()
    refused(run, KeyStoreError, "rotate-key --lost")
    (home / "passphrase").unlink()
    refused(run, KeyStoreError, "nothing could sign")


def change(lines: list[bytes]) -> list[bytes]:
    return [*lines[:6], lines[6].replace(b'"retention_days":', b'"retention_days":9', 1), *lines[7:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


@pytest.mark.parametrize("tamper", [change, cut])
def test_a_ledger_that_does_not_hold_gets_no_new_checkpoint(
    run: RunFolder, tamper: Callable[[list[bytes]], list[bytes]]
) -> None:
    home = run.homes / SITE
    latest = home / "checkpoints" / "latest.txt"
    lines, evidence = (home / "ledger.jsonl").read_bytes().splitlines(keepends=True), latest.read_bytes()
    (home / "ledger.jsonl").write_bytes(b"".join(tamper(lines)))
    refused(run, LedgerError, "does not hold")
    assert latest.read_bytes() == evidence
    (home / "ledger.jsonl").unlink()
    refused(run, LedgerError, "gone")


def test_a_copy_that_has_more_than_the_home_is_not_written_over(run: RunFolder) -> None:
    sign(run)
    copy = run.site(SITE) / "ledger.jsonl"
    lines = copy.read_bytes().splitlines(keepends=True)
    shutil.copytree(run.homes / "site-1", run.homes / SITE, dirs_exist_ok=True)
    refused(run, LedgerError, "(is of|copy of this ledger)")
    assert copy.read_bytes().splitlines(keepends=True) == lines


def test_the_policy_of_the_dossier_stays_when_the_homes_changes(run: RunFolder) -> None:
    policy = run.homes / SITE / "policy.toml"
    policy.write_text(policy.read_text() + "\n# for the next study\n")
    sign(run)
    assert (run.site(SITE) / "policy.toml").read_text() in policy.read_text()
    assert not (run.site(SITE) / "policy.toml").read_text().endswith("next study\n")
    assert audited(run).ok


@pytest.mark.parametrize("late", ["report.html", "report.json"])
def test_what_nobody_can_have_read_is_not_signed(run: RunFolder, late: str) -> None:
    page, report = run.site(SITE) / "report.html", run.site(SITE) / "report.json"
    with open_desk(run, RunFolder.open(run.root)[1].digest(), SITE) as desk:
        os.utime(report, ns=(10**9, 10**9))
        os.utime(page, ns=(10**9, 10**9))
        desk.check_page()
        os.utime(report.with_name(late), ns=(2 * 10**9, 2 * 10**9))
        if late == "report.html":
            desk.check_page()
            page.unlink()
        with pytest.raises(RunFolderError, match=r"(missing|older than).*wardround report build"):
            desk.check_page()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": " \n "}, "--name.*who signs"),
        ({"name": "..."}, "no letter"),
        ({"role": ""}, "--role"),
        ({"name": "x" * 201}, "201 characters; 200 are allowed.*--name"),
        ({"name": "A\nB"}, r"character 2 is U\+000A"),
        ({"role": "a\x1b[2J"}, r"U\+001B"),
        ({"remarks": "x" * (MOST_REMARKS + 1)}, "2,001 characters; 2,000 are allowed.*--remarks"),
        ({"remarks": "ab\x00"}, r"character 3 is U\+0000"),
        ({"remarks": "\u202eretcarahc"}, r"U\+202E"),
        ({"remarks": "\udcff"}, r"U\+DCFF"),
        ({"decision": "maybe"}, "'maybe' is no decision.*accepted, accepted-with-remarks, rejected"),
        ({"remarks": "  "}, "there are none.*--remarks"),
    ],
)
def test_a_statement_that_cannot_be(changes: dict[str, str], words: str) -> None:
    values = {"name": "A", "role": "B", "decision": "accepted-with-remarks", "remarks": "C", **changes}
    with pytest.raises(PlatformError, match=words):
        Declaration(**values)


def test_texts_are_kept_in_one_form() -> None:
    same = Declaration(" Dr. A\u030asa Lind ", "radiologist\n", DECISIONS[1], "Not for children.\r\nSee the annex.\n")
    assert same == GOOD
    longest = Declaration("x" * 200, "y" * 200, "rejected", "z\n" * (MOST_REMARKS // 2 - 1) + "zz")
    assert len(longest.remarks) == MOST_REMARKS
