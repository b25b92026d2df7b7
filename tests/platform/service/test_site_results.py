"""A site's own report: a simulation's figures, from its own images alone; what is beside it, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.report_json import site_report_from_json
from wardround.platform import predicting
from wardround.platform.audit.sources import find_sources
from wardround.platform.audit.verification import audit
from wardround.platform.consortium import Consortium
from wardround.platform.errors import RunFolderError
from wardround.platform.features import FeatureTable
from wardround.platform.methods.table import method_of
from wardround.platform.run_folder import RunFolder
from wardround.platform.service.site_results import ELSEWHERE, write_site_results
from wardround.platform.site_machine import FINAL_FILE

from .ended_studies import PRIVATE, SUMS, own_part, reopened, side_of, simulated, toy_backbone

CASES: Mapping[str, Mapping[str, Any]] = {
    "sums": SUMS,
    "own norms and own fine-tuning": {
        "rounds": 2,
        "facmic": {"normalisation": "batch-local"},
        "personalisation": {"fine_tune_epochs": 1},
    },
    "class means": {**SUMS, "reference": {"source": "class-means"}},
    "private": PRIVATE,
}


@pytest.fixture(scope="module", params=CASES)
def ended(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    toy_study: Callable[..., Any],
    toy_data: Callable[..., Any],
    BACKBONE: str,
) -> Iterator[tuple[RunFolder, Any, Any, Consortium, str]]:
    study, data = toy_study(**CASES[request.param]), toy_data()
    backbone = toy_backbone(BACKBONE)
    run = simulated(tmp_path_factory.mktemp("ended") / "run", study, data, backbone)
    with reopened(run, study, data, backbone) as consortium:
        yield run, study, data, consortium, request.param


def written(ended: Any, name: str, folder: Path) -> Path:
    _, study, data, consortium, _ = ended
    parts = (study, method_of(study), toy_backbone(consortium.coordinator.info.backbone))
    return write_site_results(*parts, own_part(data, name), side_of(consortium, name), consortium.roster, folder)


def test_every_site_has_the_figures_that_a_simulation_gives_it(ended: Any, tmp_path: Path) -> None:
    run, study, data, _, case = ended
    for site in data.sites:
        page = written(ended, site.name, tmp_path / site.name)
        own = site_report_from_json((page.parent / "report.json").read_bytes())
        simulated_one = site_report_from_json((run.site(site.name) / "report.json").read_bytes())
        summed = case in ("sums", "class means")
        # What may differ is what other sites have, and the entry that opening the home once more has made.
        head = {"ledger_entries": own.privacy.ledger_entries, "ledger_head": own.privacy.ledger_head}
        other = replace(simulated_one, not_summed=own.not_summed, partition=own.partition)
        assert own == replace(other, privacy=replace(simulated_one.privacy, **head))
        assert own.partition is not None
        assert own.partition.at_other_sites is None
        assert own.not_summed == (ELSEWHERE if summed else simulated_one.not_summed)
        assert own.privacy.participants == 3
        assert own.rounds == study.rounds
        assert (own.private is not None) is (case == "private")
        twin = "report-figures.csv"
        assert (page.parent / twin).read_bytes() == (run.site(site.name) / twin).read_bytes()
        assert (page.parent / "model" / "adapter.safetensors").read_bytes() == run.adapter.read_bytes()


def test_what_lies_beside_the_report_is_for_an_auditor_and_a_second_call_changes_nothing(
    ended: Any, tmp_path: Path
) -> None:
    folder = written(ended, "site-2", tmp_path / "report").parent
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names = {str(path.relative_to(folder)) for path in content}
    assert {"report.html", "report.json", "ledger.jsonl", "policy.toml", "study.toml", "summary.json"} <= names
    assert {name.split("/")[0] for name in names if "/" in name} == {"checkpoints", "rosters", "model", "sites"}
    assert ("budget.json" in names) is (ended[4] == "private")
    assert not {name for name in names if "identity" in name or "state" in name or "key" in name}
    written(ended, "site-2", folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == content
    found = audit(find_sources([folder]), {})
    assert found.ok, [ledger.problems for ledger in found.ledgers]
    summary = json.loads((folder / "summary.json").read_bytes())
    assert summary["simulation"] is False
    assert set(summary["sites"]) == {"site-2"}
    page = (folder / "report.html").read_text()
    assert "site-1" not in page


def test_the_folder_predicts_with_the_federations_calibration_or_the_sites(
    ended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, data, consortium, case = ended
    folder = written(ended, "site-1", tmp_path / "report").parent
    features = data.sites[0].test.features

    class Encoder:
        fingerprint, logit_scale = consortium.coordinator.info.backbone, data.shared.scale

        def encode_prompts(self, _: Any) -> Any:
            return data.shared.text.numpy()

    def encode(pictures: Any, *_: Any, **__: Any) -> FeatureTable:
        return FeatureTable(features[: len(pictures)], np.arange(len(pictures)), (), "")

    monkeypatch.setattr(predicting, "load_backbone", lambda *_, **__: Encoder())
    monkeypatch.setattr(predicting, "encode", encode)
    monkeypatch.setattr(predicting, "clip_inputs", lambda *_: None)
    images = [tmp_path / f"{row}.png" for row in range(4)]
    for site in (None, "site-1"):
        here = predicting.predict_images(folder, images, site=site)
        there = predicting.predict_images(run.root, images, site=site)
        assert here.classes == there.classes == data.cohort.dataset.class_names
        if site is not None or case not in ("sums", "class means"):
            assert here.rows == there.rows
        # The card of the site has no sets: these come from sums that are the coordinator's.
        assert [row.probabilities for row in here.rows] == [row.probabilities for row in there.rows]


def test_a_study_that_has_not_ended_has_no_report(ended: Any, tmp_path: Path) -> None:
    final = ended[3].homes["site-1"].state(ended[1].digest()) / FINAL_FILE
    kept = final.read_bytes()
    final.unlink()
    try:
        with pytest.raises(RunFolderError, match="has not ended at this site"):
            written(ended, "site-1", tmp_path / "report")
    finally:
        final.write_bytes(kept)
    assert not (tmp_path / "report").exists()
