"""Predictions of a finished run: calibrated, abstaining, and refused when card and adapter do not belong together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import softmax
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.conformal import Thresholds
from wardround.evaluation.calibration.vector_scaling import VectorScaling
from wardround.platform import predicting as module
from wardround.platform.adapter_file import AdapterInfo, write_adapter
from wardround.platform.adapters import State, state_of, under
from wardround.platform.assessment import trained
from wardround.platform.errors import CheckpointError, RunFolderError
from wardround.platform.features import FeatureTable
from wardround.platform.methods.method import Method, SharedInputs
from wardround.platform.methods.table import method_of
from wardround.platform.model_card import CARD_CHECKSUM, card_checksum
from wardround.platform.predicting import predict_images
from wardround.platform.results import Results, model_card
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_calibration import read_site_calibration, write_site_calibration
from wardround.platform.training import served_state

WIDTH = 16
BEFORE: dict[str, Any] = {"calibration": None}
"""What makes a card one of before calibrations travelled in it: its temperature and threshold count."""
CALIBRATED = Calibrator(
    "temperature",
    "federated",
    3,
    40,
    parameters=2.5,
    sets=Thresholds(0.8, 0.7, (0.6, 0.75, None), 40, (20, 19, 1)),
    abstain_below=0.4,
)


class Finished:
    """A finished toy run whose images are rows of the unseen site's features: image ``3.png`` is row 3."""

    def __init__(
        self, run: RunFolder, results: Results, monkeypatch: pytest.MonkeyPatch, state: State | None = None
    ) -> None:
        self.run, self.results = run, results
        assert results.data.unseen is not None
        self.features = results.data.unseen.test.features
        self.state = state or state_of(results.method.new_module(results.data.shared, seed=3))
        self.fingerprint = results.backbone.fingerprint
        self.caches: list[Path] = []
        run.card.parent.mkdir()
        info = AdapterInfo(results.study.digest(), results.method.name, 3, self.fingerprint)
        digest = write_adapter(run.adapter, self.state, info)
        self.write_card(**(model_card(results) | {"adapter_sha256": digest}))
        run.summary.write_text("{}")
        monkeypatch.setattr(module, "load_backbone", self.load_backbone)
        monkeypatch.setattr(module, "encode", self.encode)

    def write_card(self, **changes: Any) -> None:
        card = json.loads(self.run.card.read_bytes()) if self.run.card.exists() else {}
        changed = card | changes
        self.run.card.write_text(json.dumps(changed | {CARD_CHECKSUM: card_checksum(changed)}))

    def card(self) -> dict[str, Any]:
        card: dict[str, Any] = json.loads(self.run.card.read_bytes())
        return card

    def load_backbone(self, *_: Any, **__: Any) -> Any:
        text = self.results.data.shared.text.numpy()

        class Loaded:
            fingerprint = self.fingerprint
            logit_scale = self.results.data.shared.scale
            device = torch.device("cpu")
            model = torch.nn.Module()
            preprocessing = SimpleNamespace(normalise=None)

            def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> Any:
                return text[[("ash", "beech", "cedar").index(p[0].split()[-1]) for p in prompts]]

            def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
                return torch.zeros((len(texts), 1), dtype=torch.int64)

        return Loaded()

    def encode(self, paths: Sequence[Path], _: Any, *, cache: Path) -> FeatureTable:
        self.caches.append(cache)
        kept = [k for k, path in enumerate(paths) if path.stem.isdigit()]
        rows = [int(paths[k].stem) for k in kept]
        skipped = tuple((path, "no picture") for path in paths if not path.stem.isdigit())
        features = self.features[rows].reshape(len(rows), WIDTH)
        return FeatureTable(features, np.array(kept, dtype=np.int64), skipped, ("",) * len(kept))

    def logits(self) -> Any:
        predict = trained(self.results.method, self.state, self.results.data.shared)
        return predict(torch.from_numpy(self.features))


@pytest.fixture
def finished(
    toy: Callable[..., Any],
    toy_results: Callable[..., Results],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Finished:
    made = toy(tmp_path / "run")
    return Finished(made.run, toy_results(made), monkeypatch)


def images(*names: str) -> list[Path]:
    return [Path(f"/new/{name}.png") for name in names]


@pytest.mark.parametrize("temperature", [None, 0.5, 3.0])
def test_probabilities_are_those_of_the_final_adapter_at_the_cards_temperature(
    finished: Finished, temperature: float | None
) -> None:
    finished.write_card(temperature=temperature, **BEFORE)
    answers = predict_images(finished.run.root, images(*"0123456"))
    expected = softmax(finished.logits()[:7] / (temperature or 1.0), axis=1)
    np.testing.assert_allclose([row.probabilities for row in answers.rows], expected, atol=1e-12)
    assert answers.classes == ("ash", "beech", "cedar")
    assert answers.calibrator.temperature == temperature
    assert answers.calibrator.source == ("none" if temperature is None else "federated")
    assert {row.prediction_set for row in answers.rows} == {None}
    assert answers.site is None
    assert answers.synthetic
    assert answers.study == "toy"


def test_it_abstains_below_the_cards_floor_and_answers_above(finished: Finished) -> None:
    finished.write_card(temperature=None, **BEFORE)
    top = softmax(finished.logits(), axis=1).max(axis=1)
    finished.write_card(abstain_below=float(np.median(top)))
    answers = predict_images(finished.run.root, images(*map(str, range(12))))
    best = [("ash", "beech", "cedar")[k] for k in finished.logits().argmax(axis=1)]
    assert [row.answer for row in answers.rows] == [
        name if sure else None for name, sure in zip(best, top >= np.median(top), strict=True)
    ]
    assert {row.answer is None for row in answers.rows} == {True, False}
    first = answers.rows[0].as_dict()
    assert first.keys() == {"image", "answer", "abstains", "reason", "probabilities", "prediction_set", "error"}
    assert [row.as_dict()["reason"] is None for row in answers.rows] == [row.answer is not None for row in answers.rows]
    assert [row.as_dict()["abstains"] for row in answers.rows] == [row.answer is None for row in answers.rows]
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)


def test_the_cards_calibration_makes_probabilities_sets_and_abstentions(finished: Finished) -> None:
    finished.write_card(temperature=9.0, abstain_below=0.99, calibration=CALIBRATED.to_dict())
    answers = predict_images(finished.run.root, images(*map(str, range(12))))
    expected = softmax(finished.logits()[:12] / 2.5, axis=1)
    assert answers.calibrator == CALIBRATED
    np.testing.assert_allclose([row.probabilities for row in answers.rows], expected, atol=1e-12)
    for row, p in zip(answers.rows, expected, strict=True):
        inside = [1 - share <= 0.7 for share in p]  # one class has no threshold of its own: the one for all is used
        names = tuple(name for name, held in zip(answers.classes, inside, strict=True) if held)
        assert row.prediction_set == names
        assert row.as_dict()["prediction_set"] == list(names)
        assert (row.answer is None) == (p.max() < 0.4)
        assert (row.reason == "") == (p.max() >= 0.4)
    assert len({row.prediction_set for row in answers.rows}) > 1


def test_a_card_with_the_studys_settings_alone_is_one_of_an_earlier_version(finished: Finished) -> None:
    finished.write_card(calibration={"method": "after", "steps": 5}, temperature=None, temperature_source="model")
    found = predict_images(finished.run.root, images("1")).calibrator
    assert (found.kind, found.source, found.calibrated) == ("none", "model", True)


def test_a_sites_own_calibration_is_used_where_it_is_named(finished: Finished) -> None:
    own = Calibrator("vector", "site", 3, 30, VectorScaling((0.5, 1.0, 2.0), (0.0, 1.0, -1.0)), abstain_below=1.0)
    ids = {"study_hash": finished.results.study.digest(), "adapter_sha256": finished.card()["adapter_sha256"]}
    write_site_calibration(finished.run, "birch", own, **ids)
    assert read_site_calibration(finished.run, "birch", **ids) == own
    finished.write_card(calibration=CALIBRATED.to_dict())
    answers = predict_images(finished.run.root, images("0", "1"), site="birch")
    assert (answers.site, answers.calibrator) == ("birch", own)
    expected = softmax(own.apply(finished.logits()[:2]), axis=1)
    np.testing.assert_allclose([row.probabilities for row in answers.rows], expected, rtol=1e-4)
    assert [row.answer for row in answers.rows] == [None, None]
    assert [float(row.reason.split()[-1]) for row in answers.rows] == [1.0, 1.0]
    assert predict_images(finished.run.root, images("0")).calibrator == CALIBRATED
    with pytest.raises(RunFolderError, match="no calibration of a site 'cedar'") as caught:
        predict_images(finished.run.root, images("0"), site="cedar")
    assert "birch" in caught.value.remedy
    write_site_calibration(
        finished.run,
        "birch",
        replace(own, kind="none", source="none", wanted="vector", classes=2, parameters=None),
        **ids,
    )
    with pytest.raises(CheckpointError, match="2 classes for a model of 3"):
        predict_images(finished.run.root, images("0"), site="birch")
    write_site_calibration(finished.run, "birch", own, **(ids | {"adapter_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="another adapter"):
        predict_images(finished.run.root, images("0"), site="birch")


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_reason_of_an_abstention_never_contradicts_itself(one: float, other: float) -> None:
    top, threshold = sorted((one, other))
    assume(top < threshold)
    words = module.below(top, threshold).split()
    assert (words[:2], words[3:5]) == (["top", "probability"], ["is", "below"])
    assert float(words[2]) < float(words[5])


def test_the_reason_has_two_digits_where_they_are_enough() -> None:
    assert module.below(0.41, 0.5) == "top probability .41 is below .50"
    assert module.below(0.4996, 0.5) == "top probability .4996 is below .5000"


def test_unreadable_images_keep_their_place(finished: Finished) -> None:
    answers = predict_images(finished.run.root, images("torn", "2", "torn", "1"))
    assert [row.reason for row in answers.rows] == ["no picture", "", "no picture", ""]
    assert [row.probabilities is None for row in answers.rows] == [True, False, True, False]
    assert answers.rows[0].as_dict() == {
        "image": "/new/torn.png",
        "answer": None,
        "abstains": False,
        "reason": None,
        "probabilities": None,
        "prediction_set": None,
        "error": "no picture",
    }
    only = predict_images(finished.run.root, images("torn"))
    assert only.rows[0].probabilities is None
    alone = predict_images(finished.run.root, images("2")).rows[0].probabilities
    assert answers.rows[1].probabilities == pytest.approx(alone, rel=1e-6)  # others change only rounding, if anything


def test_features_of_new_images_are_not_kept(finished: Finished) -> None:
    predict_images(finished.run.root, images("1"))
    assert len(finished.caches) == 1
    assert not finished.caches[0].exists()


def test_an_unfinished_run_is_refused(finished: Finished) -> None:
    finished.run.summary.unlink()
    with pytest.raises(RunFolderError, match="not finished") as caught:
        predict_images(finished.run.root, images("1"))
    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"abstain_below": 1.0},
        {"classes": []},
        {"classes": [{"name": "ash"}, {"name": "beech"}]},
        {"classes": 3},
    ],
)
def test_a_damaged_card_is_refused(finished: Finished, changes: dict[str, Any]) -> None:
    finished.write_card(**changes)
    with pytest.raises(CheckpointError, match="card is missing or damaged") as caught:
        predict_images(finished.run.root, images("1"))
    assert caught.value.where == str(finished.run.card)


def test_a_card_with_a_damaged_calibration_is_refused(finished: Finished) -> None:
    """One test, because a finished run takes longer to make than to refuse."""
    sound = CALIBRATED.to_dict()
    foreign = Calibrator("none", "none", 2, None).to_dict()
    for damaged in (foreign, sound | {"abstain_below": 2.0}, sound | {"kind": "magic"}, sound | {"more": 1}):
        finished.write_card(calibration=damaged)
        with pytest.raises(CheckpointError, match="card is missing or damaged"):
            predict_images(finished.run.root, images("1"))
    finished.write_card(calibration=sound)
    assert predict_images(finished.run.root, images("1")).calibrator == CALIBRATED


@pytest.mark.parametrize("content", [None, b"{", b"[]"])
def test_a_missing_or_torn_card_is_refused(finished: Finished, content: bytes | None) -> None:
    finished.run.card.unlink()
    if content is not None:
        finished.run.card.write_bytes(content)
    with pytest.raises(CheckpointError, match="card is missing or damaged"):
        predict_images(finished.run.root, images("1"))


def test_a_card_of_another_adapter_is_refused(finished: Finished) -> None:
    finished.write_card(adapter_sha256="0" * 64)
    with pytest.raises(CheckpointError, match="card belongs to another adapter"):
        predict_images(finished.run.root, images("1"))


def test_weights_of_another_backbone_and_another_study_are_refused(finished: Finished) -> None:
    finished.fingerprint = "0" * 64
    with pytest.raises(CheckpointError, match="fingerprint"):
        predict_images(finished.run.root, images("1"))
    finished.fingerprint = finished.results.backbone.fingerprint
    other = replace(AdapterInfo("0" * 64, "facmic", 3, finished.fingerprint))
    write_adapter(finished.run.adapter, finished.state, other)
    with pytest.raises(CheckpointError, match="another study"):
        predict_images(finished.run.root, images("1"))


def test_an_edited_class_name_does_not_pass_for_the_models(finished: Finished) -> None:
    text = finished.run.card.read_text()
    assert '"ash"' in text
    finished.run.card.write_text(text.replace('"ash"', '"oak"', 1))
    with pytest.raises(CheckpointError, match="edited"):
        predict_images(finished.run.root, [Path("0.png")])


# --- every adapter method --------------------------------------------------------------------------------------------

STUDIES: dict[str, dict[str, Any]] = {
    "fedclip": {"method": "fedclip", "fedclip": {"text_adapter": True}},
    "facmic, depth 8, head": {"facmic": {"depth": 8}, "calibration": {"method": "federated-head"}},
    "facmic, LayerNorm": {"facmic": {"normalisation": "layer"}},
    "facmic, norms at the sites": {"facmic": {"normalisation": "batch-local"}},
    "faa-clip": {"method": "faa-clip"},
    "faa-clip, shared classifier": {"method": "faa-clip", "faa_clip": {"domain_classifier": "shared"}},
    "faa-clip, all at the sites": {"method": "faa-clip", "faa_clip": {"normalisation": "batch-local", "depth": 8}},
}


def global_state(method: Method, shared: SharedInputs) -> State:
    """What a federation ends with: everything that is not local, away from its start values."""
    generator = torch.Generator().manual_seed(4)
    state = state_of(method.new_module(shared, seed=3))
    moved = {name: t + 0.3 * torch.rand(t.shape, generator=generator) for name, t in state.items()}
    return {name: tensor for name, tensor in moved.items() if not under(name, method.local)}


@pytest.mark.parametrize("case", STUDIES)
def test_the_file_predicts_what_the_federation_predicted(
    toy: Callable[..., Any],
    toy_results: Callable[..., Results],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    """Without the reference set, without a domain classifier, from the file and the card alone."""
    made = toy(tmp_path / "run", **STUDIES[case])
    method, shared = method_of(made.study), made.data.shared
    state = global_state(method, shared)
    served = served_state(method, state, shared)
    finished = Finished(made.run, toy_results(made), monkeypatch, served)
    assert not any(name.startswith("domain.") for name in served)
    finished.write_card(temperature=None, **BEFORE)
    answers = predict_images(made.run.root, images(*map(str, range(12))))
    expected = softmax(trained(method, state, shared)(torch.from_numpy(finished.features)), axis=1)
    np.testing.assert_allclose([row.probabilities for row in answers.rows], expected, atol=1e-9)
    assert np.ptp(expected, axis=0).max() > 0.05


def test_an_adapter_of_other_options_is_refused(
    toy: Callable[..., Any], toy_results: Callable[..., Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = toy(tmp_path / "run")
    deeper = method_of(toy(tmp_path / "other", facmic={"depth": 8}).study)
    state = state_of(deeper.new_module(made.data.shared, seed=3))
    Finished(made.run, toy_results(made), monkeypatch, state)
    with pytest.raises(CheckpointError, match="is unknown in the adapter"):
        predict_images(made.run.root, images("1"))
