"""Assessment beside direct computation, and the rule that test labels decide nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as slow_softmax
from wardround.evaluation.calibration.temperature import grid
from wardround.platform.adapters import state_of
from wardround.platform.assessment import (
    Assessment,
    Predictor,
    assess_local_only,
    assess_shared,
    trained,
    zero_shot,
)
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import Method
from wardround.platform.study_data import Part, SiteData, StudyData
from wardround.platform.training import predict_logits

CLASSES = ("ash", "beech", "cedar")
Data = Callable[..., StudyData]


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].sum())


def balanced(logits: np.ndarray, labels: np.ndarray) -> float:
    guessed = logits.argmax(axis=1)
    return float(np.mean([(guessed[labels == c] == c).mean() for c in sorted(set(labels.tolist()))]))


def without(part: Part) -> Part:
    return Part(part.rows[:0], part.features[:0], part.labels[:0], ())


def with_parts(data: StudyData, change: Callable[[Part], Part], side: str) -> StudyData:
    def changed(site: SiteData) -> SiteData:
        return replace(site, **{side: change(getattr(site, side))})  # type: ignore[arg-type]

    assert data.unseen is not None
    unseen = changed(data.unseen) if side == "test" else data.unseen
    return replace(data, sites=tuple(changed(site) for site in data.sites), unseen=unseen)


def turned(part: Part) -> Part:
    return replace(part, labels=(part.labels + 1) % 3)


def muddled(part: Part) -> Part:
    """Every fourth label changed: a model that is always right has no temperature."""
    wrong = np.arange(len(part)) % 4 == 0
    return replace(part, labels=np.where(wrong, (part.labels + 1) % 3, part.labels))


@pytest.fixture
def toy_data(toy_data: Data) -> Data:
    return lambda: with_parts(with_parts(toy_data(), muddled, "validation"), muddled, "test")


@pytest.fixture
def assessed(toy_data: Data) -> Assessment:
    data = toy_data()
    return assess_shared(zero_shot(data.shared), data, CLASSES)


def test_every_site_has_its_own_figures_at_its_own_temperature(assessed: Assessment, toy_data: Data) -> None:
    data = toy_data()
    predict = zero_shot(data.shared)
    assert list(assessed.sites) == [site.name for site in data.sites]
    for site in data.sites:
        found = assessed.sites[site.name]
        logits = predict(torch.from_numpy(site.test.features))
        assert np.array_equal(found.logits, logits)
        assert found.figures.n == len(site.test)
        assert found.figures.balanced_accuracy == pytest.approx(balanced(logits, site.test.labels))
        validation = predict(torch.from_numpy(site.validation.features))
        best = minimize_scalar(
            lambda t, z=validation, y=site.validation.labels: nll(z, y, np.exp(t)), bounds=(-3, 3.9), method="bounded"
        )
        assert found.temperature == pytest.approx(float(np.exp(best.x)), rel=1e-3)
        expected = nll(logits, site.test.labels, found.temperature) / len(site.test)  # type: ignore[arg-type]
        assert found.figures.nll == pytest.approx(expected)
        p = slow_softmax(logits / found.temperature, axis=1)
        assert found.figures.brier == pytest.approx(float(np.square(p - np.eye(3)[site.test.labels]).sum(1).mean()))


def test_the_federation_and_the_unseen_site_use_the_federated_temperature(assessed: Assessment, toy_data: Data) -> None:
    data = toy_data()
    predict = zero_shot(data.shared)
    logits = np.concatenate([predict(torch.from_numpy(site.validation.features)) for site in data.sites])
    labels = np.concatenate([site.validation.labels for site in data.sites])
    assert assessed.temperature == min(grid(), key=lambda t: nll(logits, labels, t))
    tests = np.concatenate([predict(torch.from_numpy(site.test.features)) for site in data.sites])
    truth = np.concatenate([site.test.labels for site in data.sites])
    assert assessed.together.n == 36
    assert assessed.together.balanced_accuracy == pytest.approx(balanced(tests, truth))
    assert assessed.together.nll == pytest.approx(nll(tests, truth, assessed.temperature) / 36)
    assert assessed.unseen is not None
    assert data.unseen is not None
    assert assessed.unseen.temperature == assessed.temperature
    assert np.array_equal(assessed.unseen.logits, predict(torch.from_numpy(data.unseen.test.features)))


def test_temperatures_do_not_depend_on_test_labels_but_on_validation_labels(
    assessed: Assessment, toy_data: Data
) -> None:
    data = toy_data()
    predict = zero_shot(data.shared)
    other_tests = assess_shared(predict, with_parts(data, turned, "test"), CLASSES)
    assert other_tests.temperature == assessed.temperature
    for name, found in other_tests.sites.items():
        assert found.temperature == assessed.sites[name].temperature
        assert found.figures.nll != assessed.sites[name].figures.nll
    other_validation = assess_shared(predict, with_parts(data, turned, "validation"), CLASSES)
    assert other_validation.temperature != assessed.temperature


def test_without_validation_records_there_is_no_temperature(toy_data: Data) -> None:
    data = with_parts(toy_data(), without, "validation")
    found = assess_shared(zero_shot(data.shared), data, CLASSES)
    assert found.temperature is None
    assert all(prediction.temperature is None for prediction in found.sites.values())
    assert found.together.nll is not None


def test_without_an_unseen_site(toy_data: Data) -> None:
    data = replace(toy_data(), unseen=None)
    assert assess_shared(zero_shot(data.shared), data, CLASSES).unseen is None
    models = {site.name: zero_shot(data.shared) for site in data.sites}
    assert assess_local_only(models, data, CLASSES).unseen is None


def test_local_only_models_meet_their_own_site_and_their_mean_meets_the_unseen_one(toy_data: Data) -> None:
    data = toy_data()
    method = Facmic()
    models = {
        site.name: trained(method, state_of(method.new_module(data.shared, seed=number)), data.shared)
        for number, site in enumerate(data.sites)
    }
    found = assess_local_only(models, data, CLASSES)
    assert found.temperature is None
    assert data.unseen is not None
    assert found.unseen is not None
    calibrated, away = [], []
    for site in data.sites:
        logits = models[site.name](torch.from_numpy(site.test.features))
        prediction = found.sites[site.name]
        assert np.array_equal(prediction.logits, logits)
        calibrated.append(logits / (prediction.temperature or 1.0))
        away.append((models[site.name](torch.from_numpy(data.unseen.test.features)), prediction.temperature or 1.0))
    truth = np.concatenate([site.test.labels for site in data.sites])
    assert found.together.nll == pytest.approx(nll(np.concatenate(calibrated), truth, 1.0) / len(truth))
    labels = data.unseen.test.labels
    assert found.unseen.figures.n == len(labels)
    assert found.unseen.figures.balanced_accuracy == pytest.approx(np.mean([balanced(z, labels) for z, _ in away]))
    assert found.unseen.figures.nll == pytest.approx(np.mean([nll(z, labels, t) / len(labels) for z, t in away]))
    assert found.unseen.figures.temperature is None


def sharper(data: StudyData, factor: float) -> Predictor:
    """The frozen CLIP with its logits times a factor: another temperature fits it."""
    predict = zero_shot(data.shared)
    return lambda features: factor * predict(features)


def test_a_site_with_a_model_of_its_own_is_measured_by_it_and_everybody_else_by_the_shared_one(toy_data: Data) -> None:
    data = toy_data()
    shared, own = sharper(data, 1.0), sharper(data, -0.5)
    found = assess_shared(shared, data, CLASSES, personal={"site-2": own})
    alone = assess_shared(shared, data, CLASSES)
    for site in data.sites:
        predict = own if site.name == "site-2" else shared
        logits = predict(torch.from_numpy(site.test.features))
        assert np.array_equal(found.sites[site.name].logits, logits)
        assert found.sites[site.name].figures.n == len(site.test)
    assert found.sites["site-1"].figures == alone.sites["site-1"].figures
    assert found.sites["site-2"].figures != alone.sites["site-2"].figures
    assert (found.own, alone.own) == (("site-2",), ())


def test_the_figure_of_all_sites_together_is_the_shared_models_whatever_sites_have_for_themselves(
    toy_data: Data,
) -> None:
    data = toy_data()
    shared = sharper(data, 1.0)
    found = assess_shared(shared, data, CLASSES, personal={s.name: sharper(data, -0.5) for s in data.sites})
    alone = assess_shared(shared, data, CLASSES)
    assert found.together == alone.together
    assert found.temperature is not None
    truth = np.concatenate([site.test.labels for site in data.sites])
    tests = np.concatenate([shared(torch.from_numpy(site.test.features)) for site in data.sites])
    assert found.together.nll == pytest.approx(nll(tests, truth, found.temperature) / len(truth))
    assert np.array_equal(np.concatenate([found.pooled[site.name] for site in data.sites]), tests)
    # The toy is not blind: what the sites' own models say together is another figure.
    own = np.concatenate([prediction.logits for prediction in found.sites.values()])
    assert balanced(own, truth) != pytest.approx(balanced(tests, truth))


def test_the_federated_temperature_is_one_of_the_model_that_the_unseen_site_gets(toy_data: Data) -> None:
    """Also where every site has a model of its own, for which another temperature would be right."""
    data = toy_data()
    shared = sharper(data, 1.0)
    personal = {site.name: sharper(data, 3.0) for site in data.sites}
    found = assess_shared(shared, data, CLASSES, personal=personal)
    alone = assess_shared(shared, data, CLASSES)
    assert found.temperature == alone.temperature
    assert found.unseen is not None
    assert alone.unseen is not None
    assert found.unseen.figures == alone.unseen.figures
    for name, prediction in found.sites.items():
        assert prediction.temperature == pytest.approx(3.0 * alone.sites[name].temperature, rel=1e-3)  # type: ignore[operator]


def test_a_model_that_is_calibrated_gets_no_temperature(toy_data: Data) -> None:
    data = toy_data()
    found = assess_shared(zero_shot(data.shared), data, CLASSES, calibrated=True)
    assert found.temperature is None
    assert found.calibrated
    assert found.unseen is not None
    assert {p.temperature for p in (*found.sites.values(), found.unseen)} == {None}
    logits = np.concatenate([p.logits for p in found.sites.values()])
    truth = np.concatenate([site.test.labels for site in data.sites])
    assert found.together.nll == pytest.approx(nll(logits, truth, 1.0) / len(truth))


def test_local_only_models_that_are_calibrated_get_no_second_temperature(toy_data: Data) -> None:
    data = toy_data()
    models = {site.name: sharper(data, 1.0 + number) for number, site in enumerate(data.sites)}
    fitted = assess_local_only(models, data, CLASSES)
    found = assess_local_only(models, data, CLASSES, calibrated=True)
    assert (fitted.calibrated, found.calibrated) == (False, True)
    assert None not in {prediction.temperature for prediction in fitted.sites.values()}
    truth = np.concatenate([site.test.labels for site in data.sites])
    raw = {site.name: models[site.name](torch.from_numpy(site.test.features)) for site in data.sites}
    for site in data.sites:
        prediction = found.sites[site.name]
        assert prediction.temperature is None
        expected = nll(raw[site.name], site.test.labels, 1.0) / len(site.test)
        assert prediction.figures.nll == pytest.approx(expected)
        assert fitted.sites[site.name].figures.nll != pytest.approx(expected)
    assert found.together.nll == pytest.approx(nll(np.concatenate(list(raw.values())), truth, 1.0) / len(truth))
    assert data.unseen is not None
    assert found.unseen is not None
    away = [nll(m(torch.from_numpy(data.unseen.test.features)), data.unseen.test.labels, 1.0) for m in models.values()]
    assert found.unseen.figures.nll == pytest.approx(np.mean(away) / len(data.unseen.test))


def test_methods_that_take_pictures_are_measured_on_pictures(toy_data: Data) -> None:
    """A model of pictures whose top-left pixel holds the row: it can only be right if it is given them."""
    data = toy_data()

    def pictured(part: Part) -> Part:
        pictures = np.zeros((len(part), 2, 2, 3), dtype=np.uint8)
        pictures[:, 0, 0, 0] = part.labels
        return replace(part, pictures=pictures)

    for side in ("validation", "test"):
        data = with_parts(data, pictured, side)

    def predict(inputs: torch.Tensor) -> np.ndarray:  # type: ignore[type-arg]
        assert inputs.dtype == torch.uint8
        return 3.0 * np.eye(3)[inputs[:, 0, 0, 0].numpy()]

    assert assess_shared(predict, data, CLASSES, consumes="pixels").together.accuracy == 1.0
    models = {site.name: predict for site in data.sites}
    found = assess_local_only(models, data, CLASSES, consumes="pixels")
    assert found.together.accuracy == 1.0
    assert found.unseen is not None
    assert found.unseen.figures.accuracy == 1.0


@pytest.mark.parametrize("method", [FedClip(head=True), Facmic(), FaaClip(), Facmic(normalisation="batch-local")])
def test_a_trained_model_predicts_as_its_state_says(toy_data: Data, method: Method) -> None:
    data = toy_data()
    state = state_of(method.new_module(data.shared, seed=3))
    features = torch.from_numpy(data.sites[0].test.features)
    expected = predict_logits(method, state, features, data.shared).numpy()
    predict = trained(method, state, data.shared)
    assert np.array_equal(predict(features), expected)
    assert np.array_equal(predict(features), expected)  # built once, asked twice
