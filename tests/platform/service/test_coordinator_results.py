"""What a deployed coordinator writes: a simulation's model and card from sums alone, no exact figure, in any order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from wardround.evaluation.disclosure.twins import from_json
from wardround.platform.adapter_file import read_adapter
from wardround.platform.audit.sources import holds_all
from wardround.platform.cli.app import app
from wardround.platform.consortium import Consortium
from wardround.platform.errors import CheckpointError
from wardround.platform.federation import Federated, federate
from wardround.platform.methods.table import method_of
from wardround.platform.model_card import CARD_CHECKSUM, card_checksum
from wardround.platform.predicting import _read_card
from wardround.platform.run_folder import RunFolder
from wardround.platform.service import coordinator_results as module
from wardround.platform.service.coordinator_results import planned_privacy, write_coordinator_results
from wardround.platform.training import served_state
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR

from .ended_studies import PRIVATE, SUMS, reopened, simulated, toy_backbone, without_data

PUBLISHED = {"coordinator/report.html", "coordinator/report.json", "coordinator/report.csv"}
ALWAYS = {"index.html", "summary.json", "rounds.jsonl", "audit.html", "model/card.json", "model/adapter.safetensors"}


@dataclass(frozen=True)
class Ended:
    """A study whose coordinator has written nothing yet."""

    study: Any
    data: Any
    backbone: Any
    root: Path
    federated: Federated
    consortium: Consortium

    def alone(self, folder: Path) -> RunFolder:
        """The coordinator's folder without the sites, as on a machine of its own."""
        shutil.copytree(self.root, folder, ignore=shutil.ignore_patterns("homes", "sites", "lock"))
        return RunFolder(folder)

    def write(self, run: RunFolder) -> None:
        ledger = replace_path(self.consortium.ledgers[COORDINATOR], run.coordinator / "ledger.jsonl")
        own = replace(self.consortium, sites={}, homes={}, trainers={}, budgets={}, ledgers={COORDINATOR: ledger})
        records = [record for record in run.read_rounds() if record["released"]]
        unreleased = [record for record in run.read_rounds() if not record["released"]]
        write_coordinator_results(
            run,
            self.study,
            method_of(self.study),
            self.backbone,
            without_data(self.data),
            own,
            records,
            unreleased,
            self.federated.figures,
            12.5,
        )


def replace_path(ledger: Any, path: Path) -> Any:
    """What of a ledger is asked for: where it lies."""
    return type("Kept", (), {"path": path})()


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    toy_study: Callable[..., Any],
    toy_data: Callable[..., Any],
    BACKBONE: str,
) -> Callable[..., Ended]:
    """``made(**changes)``: a toy study after its last message; the same one for the same changes."""
    known: dict[str, Ended] = {}

    def make(**changes: Any) -> Ended:
        key = repr(changes)
        if key not in known:
            study, data, backbone = toy_study(**changes), toy_data(), toy_backbone(BACKBONE)
            run = RunFolder.create(tmp_path_factory.mktemp("ended") / "run", study)
            federated = federate(study, method_of(study), data, BACKBONE, run, Silent())
            kept = shutil.copytree(run.root, run.root.with_name("kept"))  # opening it again writes into ledgers
            with reopened(run, study, data, backbone) as consortium:
                known[key] = Ended(study, data, backbone, kept, federated, consortium)
        return known[key]

    return make


@pytest.fixture(autouse=True)
def toy_classes(monkeypatch: pytest.MonkeyPatch, toy_data: Callable[..., Any]) -> None:
    monkeypatch.setattr(module, "deployed_dataset", lambda _: toy_data().cohort.dataset)


def files_of(run: RunFolder) -> Mapping[str, bytes]:
    return {str(path.relative_to(run.root)): path.read_bytes() for path in run.root.rglob("*") if path.is_file()}


def loaded(run: RunFolder) -> tuple[Any, Any]:
    return json.loads(run.summary.read_bytes()), json.loads(run.card.read_bytes())


def test_report_summary_and_card_are_written_and_hold_no_exact_figure(
    made: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = made(**SUMS)
    run = ended.alone(tmp_path / "run")
    exact = json.loads(run.held_out.read_bytes())
    assert any("values" in found for found in exact.values() if isinstance(found, dict))
    assert '"train_loss":0.' in run.rounds.read_text() or '"train_loss":1.' in run.rounds.read_text()
    ended.write(run)
    assert set(files_of(run)) >= PUBLISHED | ALWAYS
    summary, card = loaded(run)
    assert (summary["simulation"], summary["not_summed"], summary["rounds"]) == (False, "", 2)
    published = from_json((run.coordinator / "report.json").read_bytes())
    assert published.sites == 3
    assert published.facts.provenance.model_hash == card["adapter_sha256"]
    assert published.temperature == ended.federated.figures.temperature  # type: ignore[union-attr]
    erased = json.loads(run.held_out.read_bytes())
    assert not any("values" in found for found in erased.values() if isinstance(found, dict))
    for record in run.read_rounds():
        assert (record["train_loss"], record["validation"]) == (None, None)
    sent = {name: found.bytes_sent for name, found in ended.federated.sent.items()}
    assert {name: site["bytes_sent"] for name, site in summary["sites"].items()} == sent
    assert {name: site["train_n"] for name, site in summary["sites"].items()} == {
        site.name: len(site.train) for site in ended.data.sites
    }
    assert summary["bytes_up"] == sum(sent.values())
    assert summary["bytes_down"] == ended.federated.received.bytes_sent
    assert card[CARD_CHECKSUM] == card_checksum(card)
    assert _read_card(run.card) == card


def test_the_model_and_its_card_are_those_of_a_simulation(made: Callable[..., Ended], tmp_path: Path) -> None:
    ended = made(**SUMS)
    run = ended.alone(tmp_path / "run")
    ended.write(run)
    whole = simulated(tmp_path / "whole", ended.study, ended.data, ended.backbone)
    assert run.adapter.read_bytes() == whole.adapter.read_bytes()
    own, theirs = (json.loads(each.card.read_bytes()) for each in (run, whole))
    assert theirs["synthetic"] is True  # the toy's own word; its study names a folder
    different = {key for key in theirs if own[key] != theirs[key]}
    assert different <= {"images_left_out", "reference", "synthetic", "limits", CARD_CHECKSUM}
    assert own["images_left_out"] is None
    assert own["calibration"] == theirs["calibration"]


@pytest.mark.parametrize("changes", [SUMS, {"rounds": 2}], ids=["sums", "no sums"])
def test_killed_at_any_write_and_called_again_it_writes_the_same(
    made: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Any
) -> None:
    ended = made(**changes)
    whole = ended.alone(tmp_path / "whole")
    ended.write(whole)
    wanted, real, at = files_of(whole), module.write_atomic, 0

    class Killed(BaseException):
        pass

    while True:
        run, left = ended.alone(tmp_path / f"{at}"), [at]

        def write(path: Path, data: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            real(path, data)

        monkeypatch.setattr(module, "write_atomic", write)
        try:
            ended.write(run)
        except Killed:
            assert not run.summary.exists()
            monkeypatch.setattr(module, "write_atomic", real)
            ended.write(run)
            assert files_of(run) == wanted
            at += 1 if changes is not SUMS else 3  # what may be published is decided anew each time: half a second
        else:
            break
    assert at >= 5
    monkeypatch.setattr(module, "write_atomic", None)  # a complete run is left as it is
    ended.write(whole)
    assert files_of(whole) == wanted


def test_without_sums_the_pages_say_why(made: Callable[..., Ended], tmp_path: Path) -> None:
    ended = made(rounds=2)
    run = ended.alone(tmp_path / "run")
    ended.write(run)
    summary, card = loaded(run)
    assert set(files_of(run)) & PUBLISHED == set()
    assert "evaluation.federated = false" in summary["not_summed"]
    assert summary["not_summed"] in run.index.read_text()
    assert (card["temperature"], card["epsilon"]) == (None, None)


def test_a_private_study_says_the_most_that_a_gate_lets_out(
    made: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = made(**PRIVATE)
    run = ended.alone(tmp_path / "run")
    planned = planned_privacy(ended.study, ended.consortium.roster.roster)
    monkeypatch.setattr(module, "planned_privacy", lambda *_: planned)  # seconds of searching, once
    ended.write(run)
    summary, card = loaded(run)
    for name, spent in ended.federated.privacy.items():
        # Every site took part in every round, so each spent what was planned for it.
        assert spent.epsilon == pytest.approx(planned[name].epsilon, abs=1e-6)
        assert spent.noise_multiplier == planned[name].noise_multiplier
    worst = max(site.epsilon for site in planned.values())
    assert worst <= card["epsilon"] <= min(8.0, worst + 2e-6)
    assert (card["delta"], card["unit"]) == (1e-3, ended.study.privacy.unit)
    assert card["privacy"]["units"] == {site.name: len(site.train) for site in ended.data.sites}
    assert any("most that a site's own gate lets out" in limit for limit in card["limits"])
    assert {site["epsilon"] for site in summary["sites"].values()} == {None}
    assert "epsilon" in run.index.read_text()
    assert "differential privacy" in summary["not_summed"]


def test_an_auditor_can_verify_the_folder_though_hospitals_keep_their_ledgers(
    made: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = made(**SUMS)
    run = ended.alone(tmp_path / "run")
    ended.write(run)
    found = CliRunner().invoke(app, ["audit", "verify", str(run.root)])
    assert found.exit_code == 0, found.output
    assert "holds" in found.output
    page = run.audit.read_text()
    assert ">PROBLEM<" not in page
    assert "was removed" not in page
    assert not holds_all(run.root)
    summary = json.loads(run.summary.read_bytes())
    run.summary.write_text(json.dumps({**summary, "simulation": True}))
    assert holds_all(run.root)
    wrong = CliRunner().invoke(app, ["audit", "verify", str(run.root)])
    assert wrong.exit_code == 1
    run.summary.write_text("{")
    assert holds_all(run.root)


def test_norms_that_stay_at_the_sites_are_said_not_to_be_here(made: Callable[..., Ended], tmp_path: Path) -> None:
    ended = made(rounds=2, facmic={"normalisation": "batch-local"})
    run = ended.alone(tmp_path / "run")
    ended.write(run)
    assert module.NORMS_AT_SITES in loaded(run)[1]["limits"]
    state, _ = read_adapter(run.adapter)
    with pytest.raises(CheckpointError, match="stay at the sites"):  # and not figures of norms over nothing
        served_state(method_of(ended.study), state, without_data(ended.data))


def test_bytes_are_counted_by_who_sent_them(made: Callable[..., Ended]) -> None:
    ended = made(**SUMS)
    ledger = ended.root / "coordinator" / "ledger.jsonl"
    found = module.received_bytes(ledger, ["site-1", "nobody"])
    assert found["nobody"] == (0, 0)
    assert found["site-1"][1] == ended.federated.sent["site-1"].messages_sent
    assert np.all([size > 0 for size, _ in [found["site-1"]]])
