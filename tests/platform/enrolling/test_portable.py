"""A study that travels arrives as the same study, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from wardround.platform.config import Study
from wardround.platform.enrolling.errors import EnrolmentError
from wardround.platform.enrolling.portable import LOCAL, OwnPlaces, check_invitable, needs_weights, portable, received
from wardround.platform.errors import StudyFileError
from wardround.platform.study_file import dump_study, load_study, parse_study
from wardround.privacy.atomic import canonical_json

FINGERPRINT = "ab" * 32


def _study(**tables: Any) -> Study:
    values: dict[str, Any] = {"name": "x", "data": {"dataset": "brain-mri", "source": "phantoms"}, **tables}
    if values["data"]["source"] == "joined":
        values["sites"] = {"partition": "column", "unseen": ""}
    return parse_study(values, where=Path("/at/home/study.toml"))


def _source(site: str, dataset: str = "brain-mri", **keys: Any) -> dict[str, Any]:
    return {"dataset": dataset, "path": f"secret/{site}", "site": site, **keys}


def _joined(**keys: Any) -> dict[str, Any]:
    sources = [_source(site) for site in ("amber", "beech", "cedar")]
    return {"dataset": "brain-mri", "source": "joined", "sources": sources, **keys}


rates = st.floats(1e-6, 1.0)
_DATA = st.one_of(
    st.fixed_dictionaries(
        {"dataset": st.sampled_from(["brain-mri", "ham10000"]), "source": st.just("phantoms")},
        optional={"images_per_site": st.integers(24, 500), "split_rule": st.sampled_from(["stable", "balanced"])},
    ),
    st.fixed_dictionaries(
        {
            "dataset": st.just("brain-mri"),
            "source": st.just("joined"),
            "sources": st.lists(
                st.one_of(
                    st.builds(
                        _source,
                        st.sampled_from(["amber", "beech", "cedar", "dune"]),
                        exclude=st.sampled_from([[], ["notumor"]]),
                    ),
                    st.builds(
                        _source,
                        st.sampled_from(["amber", "beech", "cedar", "dune"]),
                        st.just("csv"),
                        map=st.sampled_from([{}, {"none": "notumor"}]),
                        labels=st.sampled_from(["labels.csv", "tables/own.csv"]),
                    ),
                ),
                min_size=1,
                max_size=4,
            ),
        },
        optional={
            "split_rule": st.sampled_from(["stable", "balanced"]),
            "classes": st.just(["glioma", "notumor"]),
            "prompts": st.just({"glioma": ["a scan of a glioma", "Glioma, naïve “reading”"]}),
            "max_train_images": st.integers(0, 50),
            "split": st.sampled_from([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]]),
        },
    ),
    st.fixed_dictionaries(
        {"dataset": st.just("brain-mri"), "path": st.just("pictures")},
        optional={"split_rule": st.sampled_from(["stable", "balanced"])},
    ),
)
_STUDY = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "data": _DATA,
        "method": st.sampled_from(["facmic", "fedclip", "faa-clip", "fedavg", "lora", "prompt-fl", "moon", "fedprox"]),
    },
    optional={
        "rounds": st.integers(1, 100),
        "seed": st.integers(0, 2**31 - 1),
        "retries": st.integers(0, 9),
        "round_timeout": st.floats(1.0, 1e5),
        "device": st.sampled_from(["auto", "cpu"]),
        "training": st.fixed_dictionaries({}, optional={"lr": rates, "batch_size": st.integers(2, 64), "beta1": rates}),
        "server": st.sampled_from([{}, {"optimiser": "fedadam", "lr": 0.003}]),
        "secure_aggregation": st.fixed_dictionaries(
            {}, optional={"bits": st.sampled_from([32, 16]), "w_max": st.floats(1.0, 16.0), "clip": st.floats(0, 64)}
        ),
        "evaluation": st.fixed_dictionaries(
            {}, optional={"federated": st.booleans(), "coverage": st.sampled_from([0.9, 0.95]), "abstain_below": rates}
        ),
        "privacy": st.sampled_from([{}, {"epsilon": 8.0}, {"epsilon": 2.5, "unit": "record"}]),
        "reference": st.sampled_from([{}, {"source": "class-means"}, {"source": "site", "site": "dune"}]),
        "backbone": st.sampled_from(
            [{}, {"name": "ViT-B-32", "weights": "openai"}, {"name": "ViT-B-32", "weights": "/opt/w.safetensors"}]
        ),
        "sites": st.sampled_from([{}, {"count": 4, "alpha": 0.5}, {"unseen": "dune"}]),
        "fedavg": st.sampled_from([{}, {"lr": 1e-5}]),
        "compare": st.just({"pixel_rounds": 3}),
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=_STUDY)
def test_every_study_that_travels_hashes_to_the_same(values: dict[str, Any]) -> None:
    if values["data"].get("source") == "joined":
        values = {**values, "sites": {"partition": "column", "unseen": "dune"}}
    try:
        study = parse_study(values, where=Path("/at/home/study.toml"))
    except StudyFileError:
        assume(False)  # a contradiction, which test_study_checks.py is about
    sent = json.loads(canonical_json(portable(study)))
    assert "/at/home" not in json.dumps(sent)
    assert "secret" not in json.dumps(sent)
    folder = "/mine" if study.data.source == "folder" else ""
    places = OwnPlaces({0: "/mine/first"}, folder, device="cpu")
    back = received(sent, study.digest(), places, where="invitation.json")
    assert back.digest() == study.digest()
    assert back.evaluation.federated == study.evaluation.federated
    assert needs_weights(back) == (study.backbone.weights.startswith("/"))
    assert [source.path for source in back.data.sources[1:]] == [""] * (len(back.data.sources) - 1)


def test_this_machines_places_are_put_in_and_survive_the_file(tmp_path: Path) -> None:
    study = _study(data=_joined(), backbone={"name": "ViT-B-32", "weights": "/opt/weights.pt"})
    places = OwnPlaces({1: "/data/beech"}, weights="/srv/own.pt", device="cpu")
    back = received(portable(study), study.digest(), places, where="i")
    assert [source.path for source in back.data.sources] == ["", "/data/beech", ""]
    assert (back.backbone.weights, back.device) == ("/srv/own.pt", "cpu")
    (tmp_path / "study.toml").write_text(dump_study(back))
    assert load_study(tmp_path / "study.toml").digest() == study.digest()


def test_a_name_of_weights_is_not_taken_for_a_file_that_happens_to_lie_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _study(backbone={"name": "ViT-B-32", "weights": "openai"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai").touch()
    (tmp_path / LOCAL).touch()
    back = received(portable(study), study.digest(), OwnPlaces(), where="i")
    assert back.backbone.weights == "openai"
    with pytest.raises(EnrolmentError, match="names its weights"):
        received(portable(study), study.digest(), OwnPlaces(weights="/srv/own.pt"), where="i")


@pytest.mark.parametrize(
    "change",
    [
        {"faults": {"drop": [{"round": 1, "site": "amber", "stage": "masked"}]}},
        {"retries": 50},
        {"round_timeout": 1.0},
        {"compare": {"pixel_rounds": 3}},
        {"fedavg": {"lr": 0.5}},
        {"device": "cuda"},
        {"privacy": {"epsilon": 0.0}},
    ],
)
def test_what_the_hash_does_not_cover_is_refused(change: dict[str, Any]) -> None:
    study = _study()
    with pytest.raises(EnrolmentError):
        received({**portable(study), **change}, study.digest(), OwnPlaces(), where="i")


def test_paths_of_the_sender_are_refused_or_replaced() -> None:
    study = _study(data=_joined())
    sent = portable(study)
    sent["data"]["sources"][0]["path"] = "/etc"
    with pytest.raises(EnrolmentError, match="more than its hash covers"):
        received(sent, study.digest(), OwnPlaces(), where="i")
    for key in ("path", "split_file"):
        sent = portable(study)
        sent["data"][key] = "/etc/shadow"
        with pytest.raises(EnrolmentError):
            received(sent, study.digest(), OwnPlaces(), where="i")
    local = _study(backbone={"name": "ViT-B-32", "weights": "/opt/w.pt"})
    for weights in ("/etc/shadow", "../../etc/passwd"):
        sent = portable(local)
        sent["backbone"]["weights"] = weights
        with pytest.raises(EnrolmentError):
            received(sent, local.digest(), OwnPlaces(), where="i")


@pytest.mark.parametrize("sent", [{}, {"name": "x"}, {"data": 1, "backbone": []}, {"data": {"sources": 3}}])
def test_what_is_no_study_is_refused_in_words(sent: dict[str, Any]) -> None:
    with pytest.raises(EnrolmentError, match="the study cannot be read"):
        received(sent, "ab" * 32, OwnPlaces(), where="i")


def test_another_study_than_the_hash_names() -> None:
    with pytest.raises(EnrolmentError, match="not the one that its hash names"):
        received(portable(_study()), _study(seed=1).digest(), OwnPlaces(), where="i")


def test_a_study_must_pin_its_backbone_and_keep_its_tables_inside() -> None:
    pinned = {"fingerprint": FINGERPRINT}
    check_invitable(_study(data=_joined(), backbone=pinned, reference={"source": "class-means"}))
    with pytest.raises(StudyFileError, match="does not pin its backbone"):
        check_invitable(_study())
    for labels in ("/etc/passwd", "../other/labels.csv", "~root/labels.csv"):
        sources = [_source("amber", "csv", labels=labels), _source("beech"), _source("cedar")]
        study = _study(data=_joined(sources=sources), backbone=pinned, reference={"source": "class-means"})
        with pytest.raises(StudyFileError, match="lies outside the folder"):
            check_invitable(study)
