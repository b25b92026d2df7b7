"""A whole study in one process: what it leaves behind, what it refuses, and that it repeats bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from wardround.medical_datasets.errors import EmptyClassError
from wardround.platform import simulation, study_parts
from wardround.platform.errors import CheckpointError, MethodError, RoundError, RunFolderError, StudyFileError
from wardround.platform.run_folder import RunFolder
from wardround.platform.simulation import simulate
from wardround.platform.watching import Silent
from wardround.privacy.errors import ParameterError
from wardround.privacy.ledger.log import verify

from .toy_plan import stand_in

# The keys of every set of figures in summary.json; outside scripts rely on them.
FIGURES = {
    "n",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_auroc",
    "ece",
    "classwise_ece",
    "brier",
    "nll",
    "temperature",
}
SUMMARY = {
    "study",
    "method",
    "rounds",
    "simulation",
    "secure_aggregation",
    "transductive",
    "oracle",
    "personal",
    "global",
    "sites",
    "unseen",
    "baselines",
    "bytes_up",
    "bytes_down",
    "seconds",
}


class Recorder(Silent):
    """Remembers what a watcher is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.rounds: list[int] = []
        self.notes: list[str] = []

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def round_done(self, record: Any, total: int) -> None:
        self.rounds.append(record["round"])

    def note(self, text: str) -> None:
        self.notes.append(text)


def use_toy(patch: pytest.MonkeyPatch, data: Any, fingerprint: str) -> None:
    """Let the simulation find the toy's features instead of images and a backbone."""
    backbone = SimpleNamespace(name="toy", weights="none", fingerprint=fingerprint, embed_dim=16)
    patch.setattr(study_parts, "load_backbone", lambda *arguments, **options: backbone)
    stand_in(patch, data)


@pytest.fixture
def toy_world(monkeypatch: pytest.MonkeyPatch, toy_data: Callable[..., Any], BACKBONE: str) -> Any:
    data = toy_data()
    use_toy(monkeypatch, data, BACKBONE)
    return data


@pytest.fixture
def quick(toy_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without baselines and dossier, which take most of a toy study's time."""
    monkeypatch.setattr(
        simulation, "assess_study", lambda *arguments: {"federated": None, "zero_shot": None, "local_only": None}
    )
    monkeypatch.setattr(simulation, "write_results", lambda run, results, previous=None: run.summary.write_text("{}"))


def digest(run: RunFolder) -> str:
    return hashlib.sha256(run.adapter.read_bytes()).hexdigest()


# --- what a study leaves --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[RunFolder, Recorder]:
    """A finished run, made once; tests only read it."""
    toys: Any = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    watcher = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        use_toy(patch, toys.make_data(), toys.BACKBONE)
        return simulate(toys.make_study(), tmp_path_factory.mktemp("finished") / "run", watcher=watcher), watcher


def test_the_run_folder_is_whole_and_its_summary_as_documented(finished: tuple[RunFolder, Recorder]) -> None:
    run, watcher = finished
    summary = json.loads(run.summary.read_bytes())
    assert set(summary) == SUMMARY
    assert (summary["simulation"], summary["secure_aggregation"], summary["rounds"]) == (True, True, 3)
    assert set(summary["global"]) == FIGURES
    assert set(summary["sites"]) == {"site-1", "site-2", "site-3"}
    for row in summary["sites"].values():
        assert set(row) == FIGURES | {"epsilon", "delta", "bytes_sent", "train_n", "test_n", "personal"}
        assert row["epsilon"] is None
        assert row["delta"] is None
    assert set(summary["unseen"]) == {"unseen"}
    for baseline in ("zero_shot", "local_only"):
        base = summary["baselines"][baseline]
        assert set(base) == {"global", "sites", "unseen"}
        assert all(set(row) == FIGURES for row in (base["global"], *base["sites"].values(), *base["unseen"].values()))
    assert run.index.is_file()
    assert run.card.is_file()
    assert watcher.rounds == [1, 2, 3]
    assert watcher.stages == [
        "backbone",
        "reading data",
        "encoding images",
        "rounds",
        "baselines and figures",
        "dossier",
    ]
    for name in ("site-1", "site-2", "site-3"):
        for file in ("ledger.jsonl", "policy.toml", "report.html", "report.json"):
            assert (run.site(name) / file).is_file()
        assert (run.site(name) / "ledger.jsonl").read_bytes() == (run.homes / name / "ledger.jsonl").read_bytes()
    assert (run.site("unseen") / "report.html").is_file()
    assert not (run.site("unseen") / "ledger.jsonl").exists()


def test_bytes_of_the_summary_are_those_of_the_ledgers(finished: tuple[RunFolder, Recorder]) -> None:
    run, _ = finished
    summary = json.loads(run.summary.read_bytes())

    def sent(ledger: Path, *kinds: str) -> int:
        assert verify(ledger).ok
        rows = [json.loads(line) for line in ledger.read_bytes().splitlines()]
        rows = [row for row in rows if not kinds or row["message_type"] in kinds]
        return sum(row["wire_bytes"] for row in rows if row["direction"] == "out")

    by_site = {name: sent(run.site(name) / "ledger.jsonl") for name in summary["sites"]}
    assert {name: row["bytes_sent"] for name, row in summary["sites"].items()} == by_site
    assert summary["bytes_up"] == sum(by_site.values())
    assert summary["bytes_down"] == sent(run.coordinator / "ledger.jsonl")
    # A round's line is written before its ledgers are cosigned.
    rounds = sum(record["bytes_up"] for record in run.read_rounds())
    cosigning = sum(sent(run.site(name) / "ledger.jsonl", "receipt", "cosignature") for name in summary["sites"])
    assert rounds > cosigning > 0
    assert summary["bytes_up"] == rounds + cosigning


def test_rounds_have_a_line_each_with_every_key(finished: tuple[RunFolder, Recorder]) -> None:
    run, _ = finished
    for number, record in enumerate(run.read_rounds(), start=1):
        assert set(record) == {
            "round",
            "attempt",
            "released",
            "reason",
            "waited",
            "participants",
            "dropped",
            "seconds",
            "bytes_up",
            "bytes_down",
            "train_loss",
            "validation",
        }
        assert record["round"] == number
        assert 0 < record["train_loss"] < 20


def test_the_card_names_what_the_adapter_file_is(finished: tuple[RunFolder, Recorder]) -> None:
    run, _ = finished
    card = json.loads(run.card.read_bytes())
    assert card["adapter_sha256"] == digest(run)
    assert card["rounds"] == 3
    assert card["synthetic"] is True


@pytest.mark.usefixtures("toy_world")
def test_a_finished_run_is_left_as_it_is(finished: tuple[RunFolder, Recorder], toy_study: Callable[..., Any]) -> None:
    run, _ = finished
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    watcher = Recorder()
    simulate(toy_study(), run.root, resume=True, watcher=watcher)
    assert watcher.stages == []
    assert "nothing to resume" in watcher.notes[0]
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


# --- it repeats ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_one_seed_one_adapter(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    first = simulate(toy_study(), tmp_path / "1")
    second = simulate(toy_study(), tmp_path / "2")
    other = simulate(toy_study(seed=7), tmp_path / "3")
    assert digest(first) == digest(second) != digest(other)
    # Masks and keys are fresh all the same: what travelled differs.
    ledgers = [(run.homes / "site-1" / "ledger.jsonl").read_bytes() for run in (first, second)]
    vectors = [
        [row["wire_sha256"] for row in map(json.loads, ledger.splitlines()) if row["message_type"] == "masked-vector"]
        for ledger in ledgers
    ]
    assert len(vectors[0]) == len(vectors[1]) == 3
    assert not set(vectors[0]) & set(vectors[1])


# --- what it refuses, and that nothing half-made is left -----------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("method", ["zero-shot", "local-only", "pooled"])
def test_a_method_that_exchanges_nothing_has_no_rounds_to_run(
    toy_study: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    with pytest.raises(MethodError, match=f"nothing is exchanged for the method '{method}'") as caught:
        simulate(toy_study(method=method, baseline={"method": "fedclip"}), tmp_path / "run")
    assert caught.value.where == "method"
    assert f"wardround compare STUDY.toml --methods {method},fedclip" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_an_existing_run_is_not_overwritten(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    run = simulate(toy_study(), tmp_path / "run")
    before = run.summary.stat().st_mtime_ns
    with pytest.raises(RunFolderError) as caught:
        simulate(toy_study(), run.root)
    assert "--resume" in caught.value.remedy
    assert run.summary.stat().st_mtime_ns == before


@pytest.mark.usefixtures("quick")
def test_another_study_does_not_continue_a_run(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    run = simulate(toy_study(), tmp_path / "run")
    with pytest.raises(RunFolderError, match="training"):
        simulate(toy_study(training={"lr": 0.5}), run.root, resume=True)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("source", ["folder", "phantoms"])
@pytest.mark.parametrize(
    "error", [StudyFileError("a site is left with 1 image"), EmptyClassError("no image of glioma", where="x")]
)
def test_data_that_cannot_be_used_leave_no_folder(
    toy_study: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    source: str,
    existed: bool,
) -> None:
    def fail(*arguments: Any) -> Any:
        if source == "phantoms":
            (tmp_path / "run" / "phantoms").mkdir()
        raise error

    monkeypatch.setattr(simulation, "encode_study", fail)
    if existed:
        (tmp_path / "run").mkdir()
    with pytest.raises(type(error)):
        simulate(toy_study(data={"source": source}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_a_roster_that_cannot_hold_leaves_no_folder(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ParameterError):
        simulate(toy_study(secure_aggregation={"threshold": 9}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_failed_resume_removes_nothing(
    toy_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StopError):
        simulate(toy_study(), tmp_path / "run", tap=Stop(40))

    def fail(*arguments: Any) -> Any:
        raise EmptyClassError("the images have gone")

    monkeypatch.setattr(simulation, "encode_study", fail)
    with pytest.raises(EmptyClassError):
        simulate(toy_study(), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "study.toml").is_file()
    assert len(RunFolder(tmp_path / "run").read_rounds()) == 1


class StopError(Exception):
    """Ends a run at a parcel."""


class Stop:
    """A tap that ends the run at the n-th parcel."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, sender: str, peer: str, wire: bytes) -> None:
        self.left -= 1
        if self.left == 0:
            raise StopError


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at", [1, 20, 34, 50, 66, 67, 99, 101])
def test_stopped_and_resumed_it_ends_the_same(toy_study: Callable[..., Any], tmp_path: Path, at: int) -> None:
    untouched = simulate(toy_study(), tmp_path / "untouched")
    with pytest.raises(StopError):
        simulate(toy_study(), tmp_path / "run", tap=Stop(at))
    watcher = Recorder()
    run = simulate(toy_study(), tmp_path / "run", resume=True, watcher=watcher)
    assert digest(run) == digest(untouched)
    assert [record["round"] for record in run.read_rounds() if record["released"]] == [1, 2, 3]
    # A stop between the survivor set and enough signatures leaves a session that cannot be finished: one line more.
    assert [record["round"] for record in run.read_rounds() if not record["released"]] == [1] * (at == 20)
    assert watcher.rounds == list(range(4 - len(watcher.rounds), 4))


@pytest.mark.usefixtures("quick")
def test_a_backbone_with_another_fingerprint_is_refused(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        simulate(toy_study(backbone={"fingerprint": "cd" * 32}), tmp_path / "run")
    assert "cd" * 32 in caught.value.what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_run_resumed_with_another_backbone_is_refused(
    toy_study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StopError):
        simulate(toy_study(), tmp_path / "run", tap=Stop(40))
    other = SimpleNamespace(name="toy", weights="none", fingerprint="cd" * 32, embed_dim=16)
    monkeypatch.setattr(study_parts, "load_backbone", lambda *arguments, **options: other)
    with pytest.raises(CheckpointError, match="fingerprint"):
        simulate(toy_study(), tmp_path / "run", resume=True)


@pytest.mark.usefixtures("quick")
def test_a_run_that_is_under_way_is_not_resumed_beside_itself(toy_study: Callable[..., Any], tmp_path: Path) -> None:
    tried: list[str] = []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        if not tried:
            tried.append("")
            with pytest.raises(RunFolderError) as caught:
                simulate(toy_study(), tmp_path / "run", resume=True)
            tried.append(caught.value.what)

    run = simulate(toy_study(), tmp_path / "run", tap=tap)
    assert "another process is working on this run" in tried[1]
    assert len(run.read_rounds()) == 3


@pytest.mark.usefixtures("quick")
def test_a_round_that_a_site_cannot_train_is_told_with_its_reason(
    toy_study: Callable[..., Any], tmp_path: Path, toy_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(toy_world.sites[1], train=replace_first(toy_world.sites[1].train))
    data = replace(toy_world, sites=(toy_world.sites[0], short, toy_world.sites[2]))
    monkeypatch.setattr(simulation, "encode_study", lambda *arguments: (data, ()))
    with pytest.raises(RoundError) as caught:
        simulate(toy_study(), tmp_path / "run")
    assert "round 1 released nothing" in caught.value.what
    assert "site-2" in caught.value.where
    assert "training record" in caught.value.where
    assert (tmp_path / "run" / "study.toml").is_file()


def replace_first(part: Any) -> Any:
    """A part cut down to one record."""
    return replace(part, rows=part.rows[:1], features=part.features[:1], labels=part.labels[:1], groups=part.groups[:1])
