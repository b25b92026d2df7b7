"""``wardround predict``: what a person and a script are told of calibration, prediction sets and abstentions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.conformal import Thresholds
from wardround.evaluation.calibration.vector_scaling import VectorScaling
from wardround.platform import predicting
from wardround.platform.model_card import CARD_CHECKSUM, card_checksum
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_calibration import write_site_calibration

Cli = Callable[..., Any]
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
SETS = Thresholds(0.9, 0.9, (0.75, 0.75, None, 0.75), 120, (50, 40, 5, 25))
FEDERATED = Calibrator(
    "temperature", "federated", 4, 120, 1.5, SETS, abstain_below=0.3, abstain_risk=0.2, risk_reached=True
)
OWN = Calibrator(
    "vector", "site", 4, 37, VectorScaling((0.02,) * 4, (0.0,) * 4), SETS, abstain_below=0.5, abstain_risk=0.05
)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A run that may be changed, without its homes and phantoms."""
    return Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("homes", "phantoms")))


@pytest.fixture
def scan(finished_run: Path) -> Path:
    return min((finished_run / "phantoms").rglob("*.png"))


def change_card(run: Path, **changes: Any) -> dict[str, Any]:
    path = run / "model" / "card.json"
    card = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(card | {CARD_CHECKSUM: card_checksum(card)}))
    return card


def lay_down(run: Path, site: str, calibrator: Calibrator) -> Path:
    card = change_card(run)
    ids = {"study_hash": card["study_hash"], "adapter_sha256": card["adapter_sha256"]}
    return write_site_calibration(RunFolder(run), site, calibrator, **ids)


@pytest.fixture
def said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``said(calibrator, *options, site=None)``: how the command ends for two images, without loading a model."""

    def call(calibrator: Calibrator, *options: str, site: str | None = None) -> Any:
        logits = np.array([[4.0, 2.0, 1.0, 0.0], [0.0, 0.1, 0.2, 0.3]])
        rows = predicting.answers_of([Path("a.png"), Path("b.png")], logits, CLASSES, calibrator)
        answers = predicting.Answers("brain", CLASSES, calibrator, site, False, tuple(rows))
        monkeypatch.setattr(predicting, "predict_images", lambda *_, **__: answers)
        ended = cli("predict", "run", "a.png", "b.png", *options)
        assert ended.code == 0, ended.err
        return ended

    return call


def test_the_federations_calibration_is_explained(said: Callable[..., Any]) -> None:
    assert said(FEDERATED).out.splitlines() == [
        "brain · research use, not for diagnosis",
        "a.png: glioma (glioma 68.1 %, meningioma 18.0 %, notumor 9.2 %, pituitary 4.7 %)",
        "  prediction set: glioma, meningioma",
        (
            "b.png: abstains, top probability .28 is below .30 (glioma 22.6 %, meningioma 24.1 %, notumor 25.8 %, "
            "pituitary 27.6 %)"
        ),
        "  prediction set: all classes",
        "Calibration: temperature 1.5, of all sites; fitted on 120 validation images.",
        "Prediction sets: made to hold the true class in 90.0 % of images, all classes together.",
        "Too few validation images for a promise about each class: notumor.",
        (
            "It answers from a top probability of 30.0 % up, chosen so that at most 20.0 % of its answers are wrong, "
            "with 95 % confidence."
        ),
    ]
    ended = said(FEDERATED, "--json")
    sure, unsure = json.loads(ended.out)
    assert (sure["answer"], sure["abstains"], sure["reason"], sure["error"]) == ("glioma", False, None, None)
    assert sure["prediction_set"] == ["glioma", "meningioma"]
    assert (unsure["answer"], unsure["abstains"]) == (None, True)
    assert unsure["reason"] == "top probability .28 is below .30"
    assert "note" not in ended.err


def test_where_something_is_missing_it_warns(said: Callable[..., Any]) -> None:
    none = Calibrator("none", "none", 4, 3, wanted="temperature")
    words = "these probabilities are not calibrated"
    assert words in said(none).out
    assert "prediction set" not in said(none).out
    scripts = said(none, "--json")
    assert json.loads(scripts.out)[0]["prediction_set"] is None
    assert words in scripts.err
    lent = said(Calibrator("temperature", "federated", 4, None, 2.0, wanted="isotonic"), site="site-a").out
    assert "site-a has too few validation images of its own for isotonic regression" in lent
    assert "Calibration: temperature 2, of all sites." in lent
    within = said(Calibrator("none", "model", 4, 9)).out
    assert "Calibration: as trained, with the model's own temperature" in within
    assert "not calibrated" not in lent + within
    missed = said(OWN, "--json", site="site-a")
    assert "No threshold was found at which at most 5.0 % of answers are wrong; it abstains below 50.0 %." in missed.err


def test_empty_and_full_sets_are_put_into_words(said: Callable[..., Any]) -> None:
    narrow, wide = (Thresholds(0.9, t, (t,) * 4, 40, (10,) * 4) for t in (0.01, 1.0))
    assert "prediction set: no class: none is as probable" in said(replace(FEDERATED, sets=narrow)).out
    assert said(replace(FEDERATED, sets=wide)).out.count("prediction set: all classes") == 2


def test_a_sites_own_calibration_is_used_where_it_is_named(cli: Cli, run: Path, scan: Path) -> None:
    """Through the model, once."""
    lay_down(run, "site-a", OWN)
    ended = cli("predict", run, scan, "--site", "site-a")
    assert ended.code == 0, ended.err
    assert ": abstains, top probability ." in ended.out
    assert " is below .50 (" in ended.out
    assert "Calibration: vector scaling, site-a's own; fitted on 37 validation images." in ended.out
    assert "synthetic" in ended.out


def test_a_site_without_a_calibration_and_a_damaged_one_are_refused(cli: Cli, run: Path, scan: Path) -> None:
    path = lay_down(run, "site-a", OWN)
    cli("predict", run, scan, "--site", "../site-a").assert_explains("no calibration of a site", "site-a")
    path.write_bytes(path.read_bytes().replace(b"0.02", b"0.03"))
    cli("predict", run, scan, "--site", "site-a").assert_explains("calibration.json", "edited")
