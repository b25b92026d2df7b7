"""The record: exact through JSON, strict about what it reads, and what it does to logits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.evaluation.arrays import softmax
from wardround.evaluation.calibration.calibrator import Calibrator
from wardround.evaluation.calibration.checks import InvalidCalibratorError
from wardround.evaluation.calibration.conformal import Thresholds, rank
from wardround.evaluation.calibration.isotonic import Curve, IsotonicCurves
from wardround.evaluation.calibration.vector_scaling import VectorScaling
from wardround.evaluation.errors import InvalidPredictionsError

shares = st.floats(0.0, 1.0, allow_nan=False)
inner = st.floats(1e-6, 1 - 1e-6)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    at = sorted(draw(st.sets(shares, min_size=1, max_size=6)))
    value = draw(st.lists(shares, min_size=len(at), max_size=len(at)))
    return Curve(tuple(at), tuple(sorted(value)))


@st.composite
def thresholds(draw: st.DrawFn, classes: int) -> Thresholds:
    nominal = draw(inner)
    counts = draw(st.lists(st.integers(0, 500), min_size=classes + 1, max_size=classes + 1))
    limits = [None if rank(n, nominal) is None else draw(shares) for n in counts]
    made = Thresholds(nominal, limits[0], tuple(limits[1:]), counts[0], tuple(counts[1:]))
    return replace(made, n=None, n_by_class=None) if draw(st.booleans()) else made


@st.composite
def calibrators(draw: st.DrawFn) -> Calibrator:
    classes = draw(st.integers(2, 5))
    kind = draw(st.sampled_from(["none", "temperature", "vector", "isotonic"]))
    source, parameters = "site", None
    if kind == "none":
        source = draw(st.sampled_from(["none", "model"]))
    elif kind == "temperature":
        source, parameters = draw(st.sampled_from(["site", "federated"])), draw(st.floats(0.05, 50.0))
    elif kind == "vector":
        weights = draw(st.lists(st.floats(0.02, 20.0), min_size=classes, max_size=classes))
        biases = draw(st.lists(st.floats(-50.0, 50.0), min_size=classes, max_size=classes))
        parameters = VectorScaling(tuple(weights), tuple(biases))
    else:
        each = draw(st.lists(curves(), min_size=classes, max_size=classes))
        parameters = IsotonicCurves(tuple(each), draw(inner))
    risk = draw(st.none() | inner)
    return Calibrator(
        kind=kind,
        wanted=draw(st.sampled_from([kind, "isotonic"])),
        source=source,
        classes=classes,
        n=draw(st.none() | st.integers(0, 10**6)),
        parameters=parameters,
        sets=draw(st.none() | thresholds(classes)),
        abstain_below=draw(shares),
        abstain_risk=risk,
        risk_reached=risk is not None and draw(st.booleans()),
    )


@given(calibrators())
@settings(max_examples=80, deadline=None)
def test_json_and_back_is_exactly_the_same(calibrator: Calibrator) -> None:
    content = calibrator.to_dict()
    for text in (json.dumps(content, allow_nan=False).encode(), rfc8785.dumps(content)):
        again = Calibrator.from_dict(json.loads(text))
        assert again == calibrator
        assert again.to_dict() == content


@given(calibrators(), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_what_is_stated_are_probabilities_with_a_finite_likelihood(calibrator: Calibrator, seed: int) -> None:
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(7, calibrator.classes)) * generator.choice([0.0, 1.0, 300.0])
    logits, p = calibrator.apply(z), calibrator.probabilities(z)
    assert logits.shape == z.shape
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_allclose(p, softmax(logits))
    if calibrator.kind == "isotonic":
        assert np.isfinite(np.log(p)).all()
    sets = calibrator.in_set(p)
    assert (sets is None) == (calibrator.sets is None)
    assert sets is None or sets.shape == z.shape
    np.testing.assert_array_equal(calibrator.answers(p), p.max(axis=1) >= calibrator.abstain_below)
    # A softmax knows nothing of what an image's logits share, and neither may a calibration.
    np.testing.assert_allclose(calibrator.probabilities(z + 3.0), p, atol=1e-9)


@given(st.floats(0.05, 50.0), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_temperature_never_changes_which_class_wins(divisor: float, seed: int) -> None:
    # Multiples of 1/1024, so that dividing cannot make two logits equal.
    z = np.round(np.random.default_rng(seed).normal(size=(20, 4)) * 4096) / 1024
    calibrator = Calibrator("temperature", "site", 4, 20, divisor)
    np.testing.assert_array_equal(calibrator.apply(z).argmax(axis=1), z.argmax(axis=1))
    assert calibrator.temperature == divisor


def test_no_calibration_changes_nothing() -> None:
    z = np.random.default_rng(0).normal(size=(5, 3))
    for source in ("none", "model"):
        np.testing.assert_array_equal(Calibrator("none", source, 3, None).apply(z), z)
    empty = Calibrator("none", "none", 3, None)
    assert empty.probabilities(z[:0]).shape == (0, 3)
    assert empty.answers(z[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("calibrator", "words", "calibrated"),
    [
        (Calibrator("none", "none", 2, 3), "as trained", False),
        (Calibrator("none", "model", 2, 3), "as trained, with the model's own temperature", True),
        (Calibrator("temperature", "site", 2, 3, 1.3149), "temperature 1.31, this site's", True),
        (Calibrator("temperature", "federated", 2, 3, 2.0), "temperature 2, of all sites", True),
        (
            Calibrator("vector", "site", 2, 3, VectorScaling((1.0, 1.0), (0.0, 0.0))),
            "vector scaling, this site's",
            True,
        ),
    ],
)
def test_it_says_what_it_is(calibrator: Calibrator, words: str, calibrated: bool) -> None:
    assert calibrator.words == words
    assert calibrator.calibrated is calibrated


def whole() -> dict[str, Any]:
    sets = Thresholds(0.9, 0.5, (0.5, None), 20, (15, 5))
    content = Calibrator("temperature", "site", 2, 20, 1.5, sets, 0.5, 0.1, True).to_dict()
    assert Calibrator.from_dict(content).sets == sets
    return content


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", True),
        ("kind", "magic"),
        ("kind", None),
        ("kind", "none"),
        ("kind", "vector"),
        ("wanted", 1),
        ("wanted", "magic"),
        ("source", "none"),
        ("source", ["site"]),
        ("classes", 1),
        ("classes", 3),
        ("classes", 2.0),
        ("classes", True),
        ("n", -1),
        ("n", "20"),
        ("parameters", None),
        ("parameters", 1.5),
        ("parameters", {"temperature": 0}),
        ("parameters", {"temperature": -1.0}),
        ("parameters", {"temperature": math.inf}),
        ("parameters", {"temperature": math.nan}),
        ("parameters", {"temperature": "1.5"}),
        ("parameters", {"temperature": True}),
        ("parameters", {"temperature": 1.5, "more": 1}),
        ("sets", []),
        ("sets", {}),
        ("abstain_below", 1.1),
        ("abstain_below", None),
        ("abstain_below", True),
        ("abstain_risk", 0.0),
        ("abstain_risk", 1.0),
        ("abstain_risk", None),
        ("risk_reached", 1),
        ("more", 1),
    ],
)
def test_every_damage_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InvalidCalibratorError, match="calibration"):
        Calibrator.from_dict(whole() | {key: value})


@pytest.mark.parametrize("key", sorted(whole()))
def test_every_missing_key_is_refused(key: str) -> None:
    content = whole()
    del content[key]
    with pytest.raises(InvalidCalibratorError, match=f"no key '{key}'"):
        Calibrator.from_dict(content)


@pytest.mark.parametrize(
    "change",
    [
        {"nominal": 1.0},
        {"nominal": None},
        {"marginal": None},
        {"marginal": 1.5},
        {"by_class": [0.5]},
        {"by_class": [0.5, 0.5]},
        {"by_class": [None, None]},
        {"by_class": 0.5},
        {"n": -1},
        {"n_by_class": [15]},
        {"n_by_class": None},
        {"n": None},
        {"n_by_class": 20},
        {"n_by_class": [15.0, 5]},
        {"more": 1},
    ],
)
def test_damaged_thresholds_are_refused(change: dict[str, Any]) -> None:
    content = whole()
    content["sets"] |= change
    with pytest.raises(InvalidCalibratorError, match="calibration"):
        Calibrator.from_dict(content)


@pytest.mark.parametrize("content", [None, 3, [], "none", {1: 2}])
def test_what_is_no_object_is_refused(content: Any) -> None:
    with pytest.raises(InvalidCalibratorError, match="calibration"):
        Calibrator.from_dict(content)


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(InvalidPredictionsError, match="classes"):
        Calibrator("none", "none", 3, None).apply(np.zeros((2, 4)))
    with pytest.raises(InvalidPredictionsError, match="finite"):
        Calibrator("none", "none", 2, None).apply(np.array([[0.0, math.nan]]))
