"""summary.json and the model card: exactly the promised keys, and what is unknown is null."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.cli.console import summary_table
from wardround.platform.figures_loop import FederatedFigures
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
OF_A_SITE = M | {"epsilon", "delta", "bytes_sent", "train_n", "test_n", "personal"}


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
        reference={"transductive": True},
    )
    card = model_card(toy_results(replace(made, data=replace(made.data, transductive=True))))
    assert card["method"] == "faa-clip"
    assert card["weighting"] == "uniform"  # as its paper, where the study does not say otherwise
    assert card["server"] == {"optimiser": "fedadam", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
    assert card["personalisation"] == {"fine_tune_epochs": 2}
    assert card["calibration_settings"] == {"method": "federated-head", "steps": 5, "site": "temperature"}
    assert card["reference"] == {"source": "fraction", "images": 20, "labels_known": False, "transductive": True}
    assert card["options"]["adaptation"] == "adversarial"
    weighted = toy(tmp_path / "other", method="faa-clip", secure_aggregation={"weighting": "weighted"})
    assert model_card(toy_results(weighted))["weighting"] == "weighted"
    oracle = toy(tmp_path / "oracle", reference={"labels_known": True})
    assert model_card(toy_results(oracle))["reference"]["labels_known"] is True


def flags(content: dict[str, Any]) -> tuple[bool, bool, bool]:
    return content["transductive"], content["oracle"], content["personal"]


@pytest.mark.parametrize(
    ("changes", "overlap", "expected"),
    [
        ({}, False, (False, False, False)),
        ({"reference": {"transductive": True}}, False, (False, False, False)),  # the study allowed it; none was
        ({"reference": {"transductive": True}}, True, (True, False, False)),
        ({"method": "fedclip", "reference": {"transductive": True}}, True, (False, False, False)),  # it looks at none
        (
            {"reference": {"transductive": True}, "facmic": {"adaptation_weight": 0.0, "normalisation": "batch-local"}},
            True,
            (True, False, True),
        ),
        ({"reference": {"labels_known": True}}, False, (False, True, False)),
        ({"personalisation": {"fine_tune_epochs": 2}}, False, (False, False, True)),
        ({"facmic": {"normalisation": "batch-local"}}, False, (False, False, True)),
        ({"method": "faa-clip"}, False, (False, False, False)),  # its domain classifier is local, but predicts nothing
    ],
)
def test_summary_and_card_say_what_is_unusual_about_the_figures(
    toy: Callable[..., Any],
    toy_results: Callable[..., Results],
    tmp_path: Path,
    changes: dict[str, Any],
    overlap: bool,
    expected: tuple[bool, bool, bool],
) -> None:
    made = toy(tmp_path / "run", **changes)
    results = toy_results(replace(made, data=replace(made.data, transductive=overlap)))
    assert flags(summary(results)) == expected
    card = model_card(results)
    assert flags(card) == expected
    assert set(results.marks.of_study()) <= set(card["limits"])
    assert bool(results.marks.of_study()) == any(expected)


def test_the_summary_says_which_site_was_measured_by_a_model_of_its_own(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path
) -> None:
    results = toy_results(toy(tmp_path / "run", personalisation={"fine_tune_epochs": 2}))
    results = replace(results, federated=replace(results.federated, own=("site-1", "site-3")))
    own = {name: site["personal"] for name, site in summary(results)["sites"].items()}
    assert own == {"site-1": True, "site-2": False, "site-3": True}
    assert results.marks.without == ("site-2",)
    assert "Site site-2 has no model of its own: the federation's answers for it." in results.marks.of_study()


def test_the_table_says_it_too(toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path) -> None:
    made = toy(tmp_path / "run", reference={"labels_known": True, "transductive": True})
    results = toy_results(replace(made, data=replace(made.data, transductive=True)))
    assert str(summary_table(summary(results)).title).endswith("ECE in % · TRANSDUCTIVE · ORACLE")
    made = toy(tmp_path / "own", personalisation={"fine_tune_epochs": 1})
    results = toy_results(made)
    results = replace(results, federated=replace(results.federated, own=("site-1", "site-3")))
    table = summary_table(summary(results))
    assert str(table.title).endswith("ECE in % · sites by their own models")
    assert list(table.columns[0].cells)[:3] == ["site-1", "site-2 (federation's model)", "site-3"]
    plain = summary(toy_results(toy(tmp_path / "plain")))
    older = {key: value for key, value in plain.items() if key not in ("transductive", "oracle", "personal")}
    older["sites"] = {
        name: {key: value for key, value in site.items() if key != "personal"} for name, site in plain["sites"].items()
    }
    for content in (plain, older):
        table = summary_table(content)
        assert str(table.title).endswith("ECE in %")
        assert list(table.columns[0].cells)[:3] == ["site-1", "site-2", "site-3"]


def test_the_card_says_where_the_temperature_is(results: Results) -> None:
    def source(**changes: Any) -> tuple[float | None, str]:
        card = model_card(replace(results, federated=replace(results.federated, **changes)))
        return card["temperature"], card["temperature_source"]

    assert source(temperature=1.5) == (1.5, "federated")
    assert source(temperature=None) == (None, "none")
    assert source(temperature=None, calibrated=True) == (None, "model")


def test_real_data_are_not_called_synthetic(results: Results) -> None:
    real = replace(results.data, cohort=replace(results.data.cohort, synthetic=False))
    card = model_card(replace(results, data=real))
    assert card["synthetic"] is False
    assert not any("synthetic" in limit for limit in card["limits"])


def test_it_is_said_why_nothing_was_summed(
    toy: Callable[..., Any], toy_results: Callable[..., Any], tmp_path: Path
) -> None:
    results = toy_results(toy(tmp_path / "off"))
    assert "evaluation.federated = false" in results.not_summed
    bare = replace(results, federated=replace(results.federated, temperature=None))
    assert bare.not_calibrated == results.not_summed
    assert model_card(bare)["calibration_note"] == results.not_summed
    tried = replace(
        bare, figures=FederatedFigures(None, None, {"temperature": "too few", "evaluation": "site-2 stayed away"})
    )
    assert (tried.not_summed, tried.not_calibrated) == ("site-2 stayed away", "too few")
    assert replace(bare, federated=replace(bare.federated, calibrated=True)).not_calibrated == ""
