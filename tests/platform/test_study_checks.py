"""Keys that contradict one another, or have no effect, are refused with what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError

Make = Callable[..., Study]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "faa-clip", "reference": {"labels_known": True}}, "reference.labels_known: 'faa-clip'"),
        ({"method": "fedclip", "reference": {"labels_known": True}}, "reference.labels_known: 'fedclip'"),
        (
            {"facmic": {"adaptation_weight": 0.0}, "reference": {"labels_known": True}},
            "reference.labels_known: 'facmic'",
        ),
        (
            {"reference": {"source": "unseen", "transductive": True, "labels_known": True}},
            "trained on with its own test labels",
        ),
        ({"method": "fedprox", "training": {"proximal": 0.1}}, "training.proximal: fedprox has"),
        ({"method": "lora", "calibration": {"method": "federated-head"}}, "calibration.method: 'lora' carries"),
        ({"method": "prompt-fl", "calibration": {"method": "federated-head"}}, "calibration.method: 'prompt-fl'"),
        ({"server": {"optimiser": "fedadam"}}, "server.lr: with fedadam every weight moves by up to 1 a round"),
        (
            {"method": "fedclip", "fedclip": {"loss": "in-batch"}, "training": {"batch_size": 1}},
            "training.batch_size: the in-batch loss of one image",
        ),
        (
            {"facmic": {"loss": "in-batch"}, "training": {"logit_adjustment": 1.0}},
            "training.logit_adjustment: the in-batch loss",
        ),
    ],
)
def test_a_contradiction_is_refused(toy_study: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        toy_study(**changes)
    assert message in refused.value.what


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": {"labels_known": True}},
        {"method": "fedavg", "training": {"proximal": 0.1}},
        {"method": "local-only", "calibration": {"method": "federated-head"}},
        {"server": {"optimiser": "fedadam", "lr": 0.003}},
        {"method": "fedclip", "training": {"batch_size": 1}},
    ],
)
def test_what_holds_together_is_accepted(toy_study: Make, changes: dict[str, Any]) -> None:
    assert toy_study(**changes).name == "toy"


# --- differential privacy --------------------------------------------------------------------------------------------

PRIVATE: dict[str, Any] = {"privacy": {"epsilon": 8.0}}
LAYER: dict[str, Any] = {"normalisation": "layer"}


def refused(toy_study: Make, changes: dict[str, Any]) -> str:
    with pytest.raises(StudyFileError) as caught:
        toy_study(**changes)
    return caught.value.what


@pytest.mark.parametrize(
    ("changes", "key", "legal"),
    [
        ({"method": "facmic"}, "facmic.normalisation", "facmic.normalisation = 'layer'"),
        (
            {"method": "facmic", "facmic": {"normalisation": "batch-local"}},
            "facmic.normalisation",
            "facmic.normalisation = 'layer'",
        ),
        ({"method": "faa-clip"}, "faa_clip.normalisation", "faa_clip.normalisation = 'layer'"),
        ({"method": "fedclip", "fedclip": {"loss": "in-batch"}}, "fedclip.loss", "fedclip.loss = 'class-prompt'"),
        (
            {"method": "facmic", "facmic": {**LAYER, "loss": "in-batch"}},
            "facmic.loss",
            "facmic.loss = 'class-prompt'",
        ),
        (
            {"method": "faa-clip", "faa_clip": {**LAYER, "loss": "in-batch"}},
            "faa_clip.loss",
            "faa_clip.loss = 'class-prompt'",
        ),
        (
            {"method": "fedclip", "fedclip": {"text_adapter": True}},
            "fedclip.text_adapter",
            "fedclip.text_adapter = false",
        ),
        (
            {"method": "facmic", "facmic": {**LAYER, "text_adapter": True}},
            "facmic.text_adapter",
            "facmic.text_adapter = false",
        ),
        ({"method": "fedclip", "calibration": {"method": "federated-head"}}, "calibration.method", "'after'"),
        ({"method": "fedclip", "training": {"logit_adjustment": 1.0}}, "training.logit_adjustment", "set it to 0"),
        (
            {"method": "facmic", "facmic": LAYER, "reference": {"source": "class-means"}},
            "reference.source",
            "use 'fraction' or 'site'",
        ),
        ({"method": "prompt-fl", "privacy": {"directions": 8}}, "privacy.directions", "leave the key out"),
        ({"method": "fedclip", "privacy": {"fourier_features": 64}}, "privacy.fourier_features", "'per-record'"),
        (
            {"method": "facmic", "facmic": LAYER, "privacy": {"fourier_every": 2}},
            "privacy.fourier_every",
            "privacy.alignment = 'per-record'",
        ),
        (
            {"method": "faa-clip", "faa_clip": LAYER, "privacy": {"alignment": "per-record", "fourier_every": 2}},
            "privacy.fourier_every",
            "only FACMIC",
        ),
    ],
)
def test_what_differential_privacy_does_not_allow_is_refused_with_what_it_does(
    toy_study: Make, changes: dict[str, Any], key: str, legal: str
) -> None:
    said = refused(toy_study, {**changes, "privacy": {**PRIVATE["privacy"], **changes.get("privacy", {})}})
    assert key in said
    assert legal in said
    own = {name: value for name, value in changes.items() if name != "privacy"}
    assert toy_study(**own).name == "toy"  # without differential privacy it is a study like others


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "moon", "lora"])
def test_methods_inside_the_towers_are_refused_with_those_that_are_not(toy_study: Make, method: str) -> None:
    said = refused(toy_study, {"method": method, **PRIVATE})
    assert f"privacy.epsilon: '{method}' cannot be trained so" in said
    assert "many rows of one image" in said
    for legal in ("fedclip", "facmic", "faa-clip", "prompt-fl"):
        assert legal in said


def test_without_an_epsilon_the_other_keys_change_no_study(toy_study: Make) -> None:
    keys = {"unit": "record", "delta": 1e-6, "clip": 0.5, "alignment": "per-record", "fourier_every": 2}
    assert not toy_study(privacy=keys).private
    assert toy_study(privacy=keys).digest() == toy_study().digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "fedclip"},
        {"method": "fedclip", "reference": {"source": "none"}},
        {"method": "prompt-fl"},
        {"method": "facmic", "facmic": LAYER},
        {"method": "facmic", "facmic": {**LAYER, "depth": 8}},
        {"method": "facmic", "facmic": {**LAYER, "adaptation_weight": 0.0}, "reference": {"source": "none"}},
        {"method": "facmic", "facmic": LAYER, "reference": {"labels_known": True}},
        {"method": "faa-clip", "faa_clip": {**LAYER, "domain_classifier": "shared"}},
        {
            "method": "facmic",
            "facmic": LAYER,
            "privacy": {"alignment": "per-record", "fourier_features": 64, "fourier_every": 2},
        },
        {"method": "faa-clip", "faa_clip": LAYER, "privacy": {"alignment": "per-record"}},
        {"method": "fedclip", "training": {"proximal": 0.1}},
        {"method": "fedclip", "calibration": {"method": "after"}},
    ],
)
def test_what_differential_privacy_allows_is_accepted(toy_study: Make, changes: dict[str, Any]) -> None:
    study = toy_study(**{**changes, "privacy": {**PRIVATE["privacy"], **changes.get("privacy", {})}})
    assert study.private
    assert study.digest() != toy_study(**{name: value for name, value in changes.items() if name != "privacy"}).digest()


@pytest.mark.parametrize("method", ["local-only", "pooled", "zero-shot"])
def test_where_nothing_leaves_a_site_there_is_nothing_to_make_private(toy_study: Make, method: str) -> None:
    study = toy_study(method=method, **PRIVATE)
    assert not study.private
    assert study.digest() == toy_study(method=method).digest()


@pytest.mark.parametrize(
    ("method", "changes", "told"),
    [
        ("fedclip", {"alignment": "per-record"}, "privacy.alignment: 'fedclip' as set here aligns to nothing"),
        ("prompt-fl", {"class_noise": 5.0}, "privacy.class_noise: 'prompt-fl' as set here aligns to nothing"),
        ("prompt-fl", {"directions": 8}, "privacy.directions: prompt-fl's gradient"),
    ],
)
def test_a_key_of_differential_privacy_that_nothing_looks_at_is_refused(
    toy_study: Make, method: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(StudyFileError, match=re.escape(told)):
        toy_study(method=method, privacy={"epsilon": 8.0, **changes})


# --- data ------------------------------------------------------------------------------------------------------------

JOINED: dict[str, Any] = {"dataset": "isic-2019", "source": "joined", "path": ""}
COLUMN: dict[str, Any] = {"partition": "column"}


def joined(**source: Any) -> dict[str, Any]:
    return {**JOINED, "sources": [{"dataset": "ham10000", "path": "a", **source}]}


@pytest.mark.parametrize(
    ("changes", "key", "told"),
    [
        ({"sites": {"column": "ward"}}, "sites.column", "set sites.partition = 'column'"),
        ({"data": {"labels": "l.csv"}}, "data.labels", "only dicom-folder, nifti-folder, csv do"),
        ({"data": {"slices": 3}}, "data.slices", "only nifti-folder, brats do"),
        ({"data": {"burned_in": True}}, "data.burned_in", "only dicom-folder, csv, isic-2020 do"),
        ({"data": {**joined(), "slices": 3}}, "data.slices", "set data.sources.slices"),
        ({"data": {**joined(), "labels": "l.csv"}}, "data.labels", "set data.sources.labels"),
        ({"data": joined(slices=3)}, "data.sources.0.slices", "'ham10000' does not look at it"),
        ({"data": joined(burned_in=True)}, "data.sources.0.burned_in", "'ham10000' does not look at it"),
        ({"data": joined(site="a", column="b"), "sites": COLUMN}, "data.sources.0.column", "either site or column"),
        ({"data": joined(site="St Mary"), "sites": COLUMN}, "data.sources.0.site", "write 'st_mary'"),
        ({"data": joined(site="Köln/2"), "sites": COLUMN}, "data.sources.0.site", "as 'koln_2'"),
        ({"data": joined(site="a")}, "data.sources.0.site", "set sites.partition = 'column'"),
        ({"data": joined(column="a")}, "data.sources.0.column", "set sites.partition = 'column'"),
        ({"data": joined(site="a"), "sites": {**COLUMN, "column": "b"}}, "sites.column", "of its own"),
        (
            {"data": {"source": "phantoms", "path": ""}, "sites": {**COLUMN, "column": "b"}},
            "sites.column",
            "phantoms come with their sites",
        ),
        ({"data": {"source": "phantoms", "path": "", "slices": 2}}, "data.slices", "phantoms have none"),
    ],
)
def test_a_key_that_the_data_do_not_look_at_is_refused(
    toy_study: Make, changes: dict[str, Any], key: str, told: str
) -> None:
    said = refused(toy_study, changes)
    assert said.startswith(f"{key}: ")
    assert told in said


@pytest.mark.parametrize(
    "changes",
    [
        {"sites": {**COLUMN, "column": "ward"}},
        {"sites": {"column": "ward"}, "reference": {"source": "site", "site": "a"}},
        {"data": {"dataset": "csv", "labels": "l.csv", "burned_in": True}},
        {"data": {"dataset": "brats", "slices": 3}},
        {"data": {"dataset": "nifti-folder", "slices": 3, "labels": "l.csv"}},
        {"data": {"dataset": "no-such-set", "slices": 3}},  # its name is what is wrong, and is said later
        {"data": joined(dataset="dicom-folder", burned_in=True, labels="l.csv")},
        {"data": joined(site="st_mary"), "sites": COLUMN},
        {"data": joined(), "sites": {**COLUMN, "column": "ward"}},
    ],
)
def test_a_key_that_the_data_look_at_is_accepted(toy_study: Make, changes: dict[str, Any]) -> None:
    assert toy_study(**changes).digest() != toy_study().digest()
