"""Which ledgers paths stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from wardround.platform.audit.sources import Source, find_sources, label
from wardround.privacy.errors import LedgerError

from .shown_ledgers import AFTER, AMBER, write_ledger


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with homes of two sites and a coordinator, not complete yet."""
    root = tmp_path / "run"
    for name in ("birch", "amber"):
        write_ledger(root / "homes" / name, name)
    write_ledger(root / "coordinator", "coordinator")
    (root / "study.toml").write_text("")
    return root


def places(run: Path, *paths: Path) -> list[str]:
    return [str(source.folder.relative_to(run)) for source in find_sources(paths)]


def test_a_run_under_way_has_its_sites_homes(run: Path) -> None:
    assert places(run, run) == ["homes/amber", "homes/birch", "coordinator"]


def test_a_complete_run_has_its_copies_but_where_a_home_went_on(run: Path) -> None:
    for name in ("amber", "birch"):
        write_ledger(run / "sites" / name, name)
    assert places(run, run) == ["homes/amber", "homes/birch", "coordinator"]
    (run / "summary.json").write_text("{}")
    assert places(run, run) == ["sites/amber", "sites/birch", "coordinator"]
    (run / "homes" / "amber" / "ledger.jsonl").unlink()
    write_ledger(run / "homes" / "amber", records=AMBER, after=AFTER)
    assert places(run, run) == ["homes/amber", "sites/birch", "coordinator"]
    both = [str(source.folder.relative_to(run)) for source in find_sources([run], every=True)]
    assert both == ["homes/amber", "sites/amber", "sites/birch", "homes/birch", "coordinator"]
    (run / "homes" / "birch" / "ledger.jsonl").unlink()
    assert places(run, run) == ["homes/amber", "sites/birch", "coordinator"]


def test_files_folders_and_folders_of_folders(run: Path) -> None:
    home = run / "homes" / "amber"
    for path in (home, home / "ledger.jsonl"):
        assert find_sources([path]) == [Source("amber", home / "ledger.jsonl", home)]
    assert places(run, run / "homes") == ["homes/amber", "homes/birch"]
    assert places(run, run / "coordinator", run / "homes" / "birch", home) == places(run, run)


def test_a_name_for_messages(run: Path) -> None:
    one, two, three = find_sources([run])
    assert [label(each, [one, two, three]) for each in (one, two, three)] == ["amber", "birch", "coordinator"]
    assert label(one, [one, one]) == f"amber ({one.ledger})"


def test_what_is_not_there_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, words in (
        (tmp_path / "typo", "there is no such file or folder"),
        (tmp_path / "empty", "there is no ledger here"),
        (run / "study.toml" / "more", "there is no such file or folder"),
    ):
        with pytest.raises(LedgerError, match=words) as raised:
            find_sources([path])
        assert raised.value.where == str(path)
    with pytest.raises(LedgerError, match="the path cannot be read: File name too long"):
        find_sources([tmp_path / ("x" * 300)])


def test_a_ledger_that_does_not_say_whose_it_is(run: Path) -> None:
    path = run / "homes" / "amber" / "ledger.jsonl"
    for data, words in ((b"", "the ledger is empty"), (b"?\n", "line 1 is no ledger entry")):
        path.write_bytes(data)
        with pytest.raises(LedgerError, match=words):
            find_sources([run])
        assert [source.owner for source in find_sources([run], every=True)] == ["amber", "birch", "coordinator"]
