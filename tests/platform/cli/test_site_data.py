"""``wardround site forget`` and ``site purge`` as a person calls them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from wardround.platform.cli import site_data
from wardround.platform.forgetting import Group

PATIENT, SITE = "amber-p004", "amber"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path, run: Path) -> Path:
    """A copy of the cache that other tests share."""
    return Path(shutil.copytree(cache, tmp_path / "cache"))


def test_forget_says_what_goes_and_what_does_not_and_names_nobody(
    cli: Callable[..., Any], run: Path, own_cache: Path
) -> None:
    home = run / "homes" / SITE
    ended = cli("site", "forget", PATIENT, "--home", home, "--cache", own_cache, "--yes")
    assert ended.code == 0, ended.err
    for words in (
        "of this group at this site",
        "What goes:",
        "Done: 3 cached features",
        "is not unlearned",
        "images themselves",
    ):
        assert words in ended.out
    again = cli("site", "forget", PATIENT, "--home", home, "--cache", own_cache, "--yes")
    assert "nothing was left to do" in again.out
    assert PATIENT not in ended.out + ended.err + again.out + again.err
    entries = [json.loads(line) for line in (home / "ledger.jsonl").read_bytes().splitlines()]
    assert [entry["facts"]["records"] for entry in entries if entry["kind"] == "forget"] == [3]


def test_forget_for_scripts(cli: Callable[..., Any], run: Path, own_cache: Path) -> None:
    home = run / "homes" / SITE
    ended = cli("site", "forget", PATIENT, "--home", home, "--cache", own_cache, "--yes", "--json")
    assert ended.code == 0, ended.err
    told = json.loads(ended.out)
    assert (told["site"], told["known"], told["records"], told["features_removed"]) == (SITE, False, 3, 3)
    assert told["train"] + told["validation"] + told["test"] == 3
    assert told["ledger_entry"] is True
    assert PATIENT not in ended.out + ended.err
    told = json.loads(cli("site", "forget", PATIENT, "--home", home, "--cache", own_cache, "--yes", "--json").out)
    assert (told["known"], told["features_removed"], told["ledger_entry"]) == (True, 0, False)


def test_without_a_yes_nothing_is_done(
    cli: Callable[..., Any], run: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = run / "homes" / SITE
    asked: list[str] = []
    monkeypatch.setattr(site_data.typer, "confirm", lambda text, **_: asked.append(text))
    before = {path: path.read_bytes() for path in (*home.rglob("*"), *own_cache.rglob("*")) if path.is_file()}
    for words in (("forget", PATIENT), ("purge",)):
        ended = cli("site", *words, "--home", home, "--cache", own_cache)
        assert ended.code == 1
        assert "Nothing was removed." in ended.err
    assert len(asked) == 2
    after = {path: path.read_bytes() for path in (*home.rglob("*"), *own_cache.rglob("*")) if path.is_file()}
    assert after == before


def test_an_unknown_group_is_refused_and_near_ones_are_shown_at_a_terminal_only(
    cli: Callable[..., Any], run: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("site", "forget", f"{PATIENT}x", "--home", run / "homes" / SITE, "--cache", own_cache, "--yes")
    ended = cli(*words)
    ended.assert_explains("no such group", "study.toml")
    assert "amber-p" not in ended.err
    shown: list[str] = []
    terminal = SimpleNamespace(is_terminal=True, print=lambda text: shown.append(str(text)))
    monkeypatch.setattr(site_data, "ERR", terminal)
    cli(*words).assert_explains("no such group")
    assert PATIENT in shown[0]


@pytest.mark.parametrize("command", [("forget", PATIENT), ("purge",)])
def test_what_is_no_home_is_refused(cli: Callable[..., Any], tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = cli("site", *command, "--home", tmp_path / "nowhere", "--yes")
    ended.assert_explains("there is no such folder", "RUN/homes/SITE")


def test_purge_lists_removes_and_says_so(cli: Callable[..., Any], run: Path, own_cache: Path) -> None:
    home = run / "homes" / SITE
    stored = next(home.glob("state/*")) / "session.bin"
    stored.write_bytes(b"x" * 10)
    split = stored.with_name("split.json")  # names patients by marks that its holder can try
    assert split.is_file()
    kept = {path for path in home.rglob("*") if path.is_file() and path not in (stored, split)}
    ended = cli("site", "purge", "--home", home, "--cache", own_cache, "--yes")
    assert ended.code == 0, ended.err
    listed, done = ended.out.split("Done: ")
    assert "cached features in" in listed
    assert "session.bin" in listed
    assert "kept: ledger" in listed
    assert "files" in done
    assert not list(own_cache.rglob("*.safetensors"))
    assert kept <= {path for path in home.rglob("*") if path.is_file()}
    assert not stored.exists()
    assert not split.exists()
    told = json.loads(cli("site", "purge", "--home", home, "--cache", own_cache, "--yes", "--json").out)
    assert (told["files"], told["bytes"], told["ledger_entry"], told["open"]) == (0, 0, False, {})
    # The run is as good as before: what reads it afterwards finds what it needs.
    assert cli("run", run / "study.toml", "--out", run, "--resume").code == 0


def test_purge_keeps_a_ledger_that_is_too_young_and_says_until_when(
    cli: Callable[..., Any], run: Path, own_cache: Path
) -> None:
    ended = cli("site", "purge", "--home", run / "homes" / SITE, "--cache", own_cache, "--ledger", "--yes")
    ended.assert_explains("kept for 2190 days", "it may go on 20", "as its entries state")
    assert list(own_cache.rglob("*.safetensors"))


def test_groups_that_go_together_are_counted_together(capsys: pytest.CaptureFixture[str]) -> None:
    found = Group(
        groups=3,
        joined=2,
        train=4,
        validation=0,
        test=1,
        reference=0,
        images=frozenset(),
        entries=frozenset(),
        cached=5,
        shards=2,
        updates=0,
        moments=0,
        known=False,
        stuck=(),
        counted=False,
        kept=(),
        names=frozenset({"patient_id:17"}),
    )
    out = Console(width=1000)
    site_data._print_group(out, found, Path("cache"))
    for sentence in site_data._stays(found):
        out.print(sentence, markup=False)
    told = capsys.readouterr().out
    for words in (
        "5 images of 3 groups of one patient or lesion at this site: 4 in training, 0 in validation, 1 in test.",
        "Equal identifiers at one site count as one patient",
        "2 images of these in groups that join several names",
        "`wardround compare` and `wardround data check` read the data's folder itself",
        "`wardround site purge` removes the first two once the study is over.",
    ):
        assert words in told
    assert "17" not in told
