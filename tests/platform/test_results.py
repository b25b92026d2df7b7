"""summary.json and the model card: exactly the promised keys, and what is unknown is null."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.results import Results, model_card, summary

M = {
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
TOP = {
    "study",
    "method",
    "rounds",
    "simulation",
    "secure_aggregation",
    "global",
    "sites",
    "unseen",
    "baselines",
    "bytes_up",
    "bytes_down",
    "seconds",
}
OF_A_SITE = M | {"epsilon", "delta", "bytes_sent", "train_n", "test_n"}


@pytest.fixture
def results(toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path) -> Results:
    return toy_results(toy(tmp_path / "run"))


def test_the_summary_has_exactly_the_keys_of_the_contract(results: Results) -> None:
    found = summary(results)
    assert found.keys() == TOP
    assert found["global"].keys() == M
    assert found["sites"].keys() == {"site-1", "site-2", "site-3"}
    assert all(site.keys() == OF_A_SITE for site in found["sites"].values())
    assert found["unseen"].keys() == {"unseen"}
    assert found["unseen"]["unseen"].keys() == M
    assert found["baselines"].keys() == {"zero_shot", "local_only"}
    for baseline in found["baselines"].values():
        assert baseline.keys() == {"global", "sites", "unseen"}
        assert baseline["global"].keys() == M
        assert baseline["sites"].keys() == found["sites"].keys()
        assert all(site.keys() == M for site in baseline["sites"].values())
        assert baseline["unseen"]["unseen"].keys() == M
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_summary_says_what_was_measured(results: Results) -> None:
    found = summary(results)
    assert (found["study"], found["method"], found["rounds"]) == ("toy", "facmic", 3)
    assert found["simulation"] is True
    assert found["secure_aggregation"] is True
    assert found["bytes_up"] == 100 + 200 + 300
    assert found["bytes_down"] == 5000
    assert found["seconds"] == 12.346
    for number, site in enumerate(results.data.sites):
        row = found["sites"][site.name]
        assert row["bytes_sent"] == 100 * (number + 1)
        assert (row["train_n"], row["test_n"], row["n"]) == (24 + 3 * number, 12, 12)
        assert row["epsilon"] is None
        assert row["delta"] is None
        assert row["balanced_accuracy"] == results.federated.sites[site.name].figures.balanced_accuracy
    assert found["global"]["n"] == 36
    assert found["baselines"]["zero_shot"]["global"] == results.zero_shot.together.as_dict()
    assert found["baselines"]["local_only"]["global"]["temperature"] is None


def test_without_an_unseen_site_its_place_is_empty(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    found = summary(toy_results(toy(tmp_path / "run"), unseen=False))
    assert found["unseen"] == {}
    assert found["baselines"]["zero_shot"]["unseen"] == {}


def test_the_card_says_what_a_reader_must_know(results: Results, BACKBONE: str) -> None:
    card = model_card(results)
    assert card["study_hash"] == results.study.digest()
    assert card["adapter_sha256"] == results.adapter_sha256
    assert card["backbone"] == {
        "name": "embedded",
        "weights": "shipped",
        "fingerprint": BACKBONE,
        "embed_dim": 16,
    }
    assert card["options"] == results.method.options()
    assert card["temperature"] == results.federated.temperature
    assert [label["name"] for label in card["classes"]] == ["ash", "beech", "cedar"]
    assert card["classes"][0]["prompts"] == ["a picture of ash"]
    assert card["reference"] == {"source": "fraction", "images": 20, "labels_known": False, "transductive": False}
    assert card["selection"] == "last"
    assert card["epsilon"] is None
    assert "Not a medical device" in card["intended_use"]
    assert card["synthetic"] is True
    assert any("synthetic phantoms" in limit for limit in card["limits"])
    assert json.loads(json.dumps(card, allow_nan=False)) == card


def test_the_card_says_how_sites_were_averaged_and_calibrated_and_what_the_reference_set_was(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    made = toy(
        tmp_path / "run",
        method="faa-clip",
        server={"optimiser": "fedadam", "lr": 0.1},
        personalisation={"fine_tune_epochs": 2},
        calibration={"method": "federated-head"},
        reference={"labels_known": True, "transductive": True},
    )
    card = model_card(toy_results(replace(made, data=replace(made.data, transductive=True))))
    assert card["method"] == "faa-clip"
    assert card["weighting"] == "uniform"  # as its paper, where the study does not say otherwise
    assert card["server"] == {"optimiser": "fedadam", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
    assert card["personalisation"] == {"fine_tune_epochs": 2}
    assert card["calibration"] == {"method": "federated-head", "steps": 5}
    assert card["reference"] == {"source": "fraction", "images": 20, "labels_known": True, "transductive": True}
    assert card["options"]["adaptation"] == "adversarial"
    weighted = toy(tmp_path / "other", method="faa-clip", secure_aggregation={"weighting": "weighted"})
    assert model_card(toy_results(weighted))["weighting"] == "weighted"


def test_real_data_are_not_called_synthetic(results: Results) -> None:
    real = replace(results.data, cohort=replace(results.data.cohort, synthetic=False))
    card = model_card(replace(results, data=real))
    assert card["synthetic"] is False
    assert not any("synthetic" in limit for limit in card["limits"])
