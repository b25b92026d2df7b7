"""Ledgers of a real run verified together, and against keys that the auditor got from the parties."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wardround.platform.audit.sources import Source, find_sources
from wardround.platform.audit.verification import Audit, audit, parse_keys
from wardround.privacy.errors import LedgerError
from wardround.privacy.identity import fingerprint, fingerprint_hex
from wardround.privacy.ledger.chain import Chain
from wardround.privacy.ledger.entries import Entry

from .audited_runs import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SITE = "site-1"
KEY = "ab" * 32
WORDS = "-".join(["babab"] * 8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


@pytest.fixture(scope="module")
def other(tmp_path_factory: Any, toy_study: Any, toy_data: Any, BACKBONE: str) -> Path:
    """Another run: other people under the same names."""
    return make_run(tmp_path_factory.mktemp("others") / "run", toy_study, toy_data(), BACKBONE, rounds=1)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def look(*paths: Path, **keys: str) -> Audit:
    return audit(find_sources(paths, every=True), keys)


def key_of(run: Path, party: str, form: Callable[[bytes], str] = fingerprint) -> str:
    (ledger,) = look(run / "coordinator" if party == "coordinator" else run / "sites" / party).ledgers
    return form(ledger.chain.keys.identity)


def problems(found: Audit) -> list[str]:
    return [text for ledger in found.ledgers for text in ledger.problems]


def test_a_run_holds(made: Path) -> None:
    found = look(made)
    assert found.ok
    assert [ledger.owner for ledger in found.ledgers] == ["site-1", "site-2", "site-3", "coordinator"]
    assert list(found.parties) == ["coordinator", "site-1", "site-2", "site-3"]
    assert all(len(words) == 1 for words in found.parties.values())
    assert (found.missing, found.anchored) == ([], frozenset())


def test_a_ledger_by_itself_names_everybody_that_its_verdict_rests_on(made: Path) -> None:
    found = look(made / "sites" / SITE)
    assert found.ok
    assert list(found.parties) == ["coordinator", "site-1", "site-2", "site-3"]
    assert list(found.missing) == ["coordinator", "site-2", "site-3"]


@pytest.mark.parametrize("form", [fingerprint, fingerprint_hex])
def test_right_keys_are_compared(made: Path, form: Callable[[bytes], str]) -> None:
    keys = {party: key_of(made, party, form) for party in ("coordinator", "site-1", "site-2")}
    found = look(made, **keys)
    assert found.ok
    assert found.anchored == set(keys)
    assert look(made / "sites" / SITE, **keys).ok  # of those in its roster too


def test_a_wrong_key_is_named(made: Path, other: Path) -> None:
    found = look(made, **{SITE: key_of(other, SITE)})
    assert not found.ok
    mine, *rest = found.ledgers
    assert mine.problems == [f"the ledger is of another identity than the key given for {SITE}: a wrong key"]
    for ledger in rest:
        assert ledger.problems == [
            f"the ledger's roster has another identity for {SITE} than the key given: cosigners may be invented"
        ]


def test_the_coordinators_key_gives_invented_cosigners_away(made: Path, other: Path) -> None:
    """One ledger, and the key of one party that its owner cannot have: the roster must have the same."""
    found = look(other / "sites" / SITE, coordinator=key_of(made, "coordinator"))
    assert problems(found) == [
        "the ledger's roster has another identity for coordinator than the key given: cosigners may be invented"
    ]


def test_a_key_of_nobody_here_is_an_error(made: Path) -> None:
    with pytest.raises(LedgerError, match="a key for 'site-9', whom no ledger and no roster here knows") as raised:
        look(made, **{"site-9": KEY})
    assert "coordinator, site-1, site-2, site-3" in raised.value.remedy


def test_a_ledger_without_a_key_does_not_pass_for_one_with_the_right_key(run: Path) -> None:
    path = run / "sites" / SITE / "ledger.jsonl"
    first, *rest = path.read_bytes().splitlines()
    entries = [msgspec.json.decode(line, type=Entry) for line in (first, *rest)]
    chain, lines = Chain(), []
    for entry in [entry for entry in entries if entry.kind == "open"]:
        line = msgspec.structs.replace(entry, sequence=chain.sequence, previous=chain.head).line()
        assert not chain.take(line)
        lines.append(line + b"\n")
    path.write_bytes(b"".join(lines))
    found = look(path.parent, **{SITE: KEY})
    assert f"no entry names a key of {SITE}: the key given cannot be compared" in problems(found)


def test_two_runs_beside_each_other_do_not_contradict(made: Path, other: Path) -> None:
    found = look(made, other)
    assert found.ok, found.between
    assert len(found.ledgers) == 8
    assert all(len(words) == 2 for words in found.parties.values())
    assert found.label(0) == f"site-1 ({found.sources[0].ledger})"


def test_ledgers_of_two_runs_do_not_fit_together(made: Path, other: Path) -> None:
    found = look(made / "sites" / SITE, other / "coordinator")
    assert not found.ok
    assert not problems(found)
    assert any("has a checkpoint of coordinator that is not of this ledger" in text for text in found.between)


@pytest.mark.parametrize("place", ["sites", "homes"])
def test_in_a_complete_run_every_study_is_closed(run: Path, place: str) -> None:
    folder = run / place / SITE
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[:5]))
    shutil.rmtree(folder / "checkpoints")
    assert any("is complete, and its close is missing after entry 4" in text for text in problems(look(folder)))
    (run / "summary.json").unlink()
    assert not any("its close is missing" in text for text in problems(look(folder)))


def test_an_empty_or_unreadable_first_entry_does_not_stop_the_rest(run: Path) -> None:
    path = run / "sites" / SITE / "ledger.jsonl"
    whole = path.read_bytes()
    for data, words in (
        (b"", "the ledger is empty"),
        (b"{" + whole, "entry 0 (line 1) is no ledger entry"),
        (b"\xff\xfe\n" + whole, "entry 0 (line 1) is no ledger entry"),
    ):
        path.write_bytes(data)
        found = look(run)
        assert [words in text for text in problems(found)] == [True]
        assert [(source.owner, ledger.ok) for source, ledger in zip(found.sources, found.ledgers, strict=True)] == [
            *([(SITE, True), (SITE, False)] if not data else [(SITE, False), (SITE, True)]),  # the longer one first
            ("site-2", True),
            ("site-3", True),
            ("coordinator", True),
        ]
        assert not look(run, **{SITE: KEY}).ok


def test_keys_are_parsed() -> None:
    assert parse_keys([]) == {}
    given = [f"amber={WORDS}", f" birch = {KEY.upper()} "]
    assert parse_keys(given) == {"amber": WORDS, "birch": KEY}
    assert parse_keys([f"amber={WORDS}", f"amber={WORDS}"]) == {"amber": WORDS}
    for bad in (
        "amber",
        "amber=",
        f"={KEY}",
        f" ={KEY}",
        f"amber={KEY[1:]}",
        f"amber={WORDS}-",
        f"amber={KEY}{KEY}",
        "",
    ):
        with pytest.raises(LedgerError, match="a key of another form than PARTY=KEY"):
            parse_keys([bad])
    with pytest.raises(LedgerError, match="two keys for 'amber'"):
        parse_keys([f"amber={WORDS}", f"amber={KEY}"])


def test_a_source_knows_its_folder(made: Path) -> None:
    (source,) = find_sources([made / "sites" / SITE])
    assert source == Source(SITE, made / "sites" / SITE / "ledger.jsonl", made / "sites" / SITE)
    assert {path.name for path in (source.checkpoints, source.rosters, source.policy)} <= {
        path.name for path in source.folder.iterdir()
    }
