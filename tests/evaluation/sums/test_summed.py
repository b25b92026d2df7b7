"""Figures from sums equal figures of the pooled predictions; sums that no images can have are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from wardround.evaluation import errors
from wardround.evaluation.arrays import log_odds, softmax
from wardround.evaluation.calibration.temperature import fit_federated, grid, grid_nll_sums
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.metrics import figures
from wardround.evaluation.sums.layout import evaluation_layout, temperature_layout
from wardround.evaluation.sums.of_site import evaluation_fields, temperature_fields
from wardround.evaluation.sums.summed import SummedFigures

SOURCE = Path(errors.__file__).parent
CLASSES = ("a", "b", "c", "d")
LEVELS = {"sex": ("female", "male")}
THRESHOLDS = (0.1, 0.5)


def site(seed: int, n: int, k: int = 4, scale: float = 3.0, only: int | None = None) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    y = draw.integers(0, k, n) if only is None else np.full(n, only)
    z = draw.normal(size=(n, k)) * scale
    z[np.arange(n), y] += draw.exponential(scale, n)
    return {
        "z": z,
        "y": y.astype(np.int64),
        "groups": [int(g) for g in draw.integers(0, max(1, n // 3), n)],
        "sex": [("female", "male", "unknown to the study", "")[i] for i in draw.integers(0, 4, n)],
    }


def fields_of(given_: dict[str, Any], temperature: float | None = None) -> dict[str, Any]:
    z, y, groups = given_["z"], given_["y"], given_["groups"]
    half = len(y) // 2
    validation = (z[:half], y[:half], groups[:half])
    return evaluation_fields(z, y, {"sex": given_["sex"]}, LEVELS, validation, temperature, THRESHOLDS)


def summed(sites: list[dict[str, Any]], temperature: float | None = None, k: int = 4) -> SummedFigures:
    layout = evaluation_layout(k, LEVELS, len(THRESHOLDS), 24)
    total = np.sum([layout.pack(fields_of(each, temperature)) for each in sites], axis=0)
    return SummedFigures.of(
        layout.unpack(total), classes=CLASSES[:k], sites=len(sites), temperature=temperature, levels=LEVELS
    )


def pooled(sites: list[dict[str, Any]]) -> tuple[Any, Any]:
    return np.concatenate([each["z"] for each in sites]), np.concatenate([each["y"] for each in sites])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 60)), min_size=1, max_size=5),
    st.sampled_from([None, 0.5, 1.0, 2.7]),
    st.sampled_from([2, 4]),
    st.sampled_from([0.2, 3.0, 60.0]),
)
def test_sums_give_the_pooled_figures(
    drawn: list[tuple[int, int]], temperature: float | None, k: int, scale: float
) -> None:
    sites = [site(seed, n, k, scale) for seed, n in drawn]
    z, y = pooled(sites)
    found, expected = summed(sites, temperature, k), figures(z, y, temperature=temperature, classes=CLASSES[:k])
    assert found.n == len(y)
    calculated = found.figures()
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ece", "classwise_ece", "brier", "nll"):
        one, other = getattr(calculated, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert one == pytest.approx(other, abs=1e-6), name
    auroc = found.macro_auroc
    if auroc is None:
        assert expected.macro_auroc is None or len(np.unique(y)) < 2
    else:
        assert expected.macro_auroc is not None
        assert abs(auroc.value - expected.macro_auroc) <= auroc.bound + 1e-9


def test_auroc_lies_within_its_bound_and_the_bound_is_small_where_scores_spread() -> None:
    given_ = site(3, 600)
    found = summed([given_])
    odds = log_odds(given_["z"], 1.0)
    for k in range(4):
        one = found.auroc(k)
        assert one is not None
        assert abs(one.value - roc_auc_score(given_["y"] == k, odds[:, k])) <= one.bound
        assert one.bound < 0.005


def test_a_federation_of_one_class_sites_knows_balanced_accuracy() -> None:
    sites = [site(seed, 20, only=seed) for seed in range(4)]
    z, y = pooled(sites)
    assert summed(sites).figures().balanced_accuracy == pytest.approx(figures(z, y, classes=CLASSES).balanced_accuracy)
    assert summed(sites[:1]).figures().balanced_accuracy is None


def test_no_images_at_all_is_nothing_known() -> None:
    found = summed([site(0, 0), site(1, 0)])
    assert found.n == 0
    assert found.figures().accuracy is None
    assert found.macro_auroc is None


def test_subgroups_are_counted_by_level_and_by_how_many_sites_have_them() -> None:
    sites = [site(seed, 30) for seed in range(3)]
    sites[0]["sex"] = ["female"] * 30
    found = summed(sites)
    assert found.levels["sex"] == ("female", "male", "other", "not recorded")
    names = {"female": "female", "male": "male", "unknown to the study": "other", "": "not recorded"}
    for level, name in enumerate(found.levels["sex"]):
        mine = [
            (each["y"][i], each["z"][i].argmax()) for each in sites for i in range(30) if names[each["sex"][i]] == name
        ]
        for k in range(4):
            assert found.fields["total_0"][level, k] == sum(y == k for y, _ in mine)
            assert found.fields["right_0"][level, k] == sum(y == k == called for y, called in mine)
    assert found.fields["holders_0"].tolist() == [3, 2, 2, 2]


def test_each_validation_group_answers_once() -> None:
    given_ = site(5, 40)
    given_["groups"] = [i // 4 for i in range(40)]
    found = fields_of(given_)
    assert found["answers"].sum() == 5
    assert found["scores"].sum() == 5
    assert found["class_scores"].sum() == len({(i // 4, int(given_["y"][i])) for i in range(20)})


def test_decision_counts_are_those_of_the_thresholds() -> None:
    given_ = site(6, 50)
    found = fields_of(given_, 2.0)
    shares = np.exp(given_["z"] / 2.0)
    shares /= shares.sum(axis=1, keepdims=True)
    for k in range(4):
        for t, threshold in enumerate(THRESHOLDS):
            acted = shares[:, k] >= threshold
            assert found["acted"][k, t] == acted.sum()
            assert found["acted_rightly"][k, t] == (acted & (given_["y"] == k)).sum()


def test_net_benefit_and_what_was_before_the_temperature_are_those_of_the_pooled_images() -> None:
    sites = [site(seed, 40) for seed in range(3)]
    z, y = pooled(sites)
    found = summed(sites, 2.0)
    benefit = found.net_benefit(THRESHOLDS)
    assert benefit is not None
    shares = softmax(z, 2.0)
    for k in range(4):
        for t, threshold in enumerate(THRESHOLDS):
            acted = shares[:, k] >= threshold
            true, false = (acted & (y == k)).sum(), (acted & (y != k)).sum()
            assert benefit[k, t] == pytest.approx((true - false * threshold / (1 - threshold)) / len(y))
    raw = figures(z, y, classes=CLASSES)
    assert found.before_temperature() == pytest.approx((raw.ece, raw.brier), abs=1e-6)
    nobody = summed([site(0, 0)])
    assert nobody.net_benefit(THRESHOLDS) is None
    assert nobody.before_temperature() is None
    with pytest.raises(InvalidPredictionsError, match="thresholds"):
        found.net_benefit((0.5,))


READERS = {
    "figures": {"confusion", "bin_n", "bin_right", "bin_confidence", "brier", "nll"},
    "classwise": {"class_bin_n", "class_bin_hits", "class_bin_share"},
    "before_temperature": {"raw_bin_n", "raw_bin_right", "raw_bin_confidence", "raw_brier"},
    "auroc": {"positives", "negatives"},
    "net_benefit": {"acted", "acted_rightly"},
    "subgroups": {"right_0", "total_0", "holders_0"},
    "calibrator": {"scores", "class_scores", "answers", "right_answers"},
}


def test_every_field_has_a_reader() -> None:
    """What nobody reads would leave the sites for nothing."""
    layout = evaluation_layout(4, LEVELS, 1, 24)
    assert {field.name for field in layout.fields} == set().union(*READERS.values())
    text = "".join(
        (SOURCE / name).read_text(encoding="utf-8")
        for name in ("sums/summed.py", "disclosure/forms.py", "../platform/results.py")
    ).replace("{number}", "0")
    for name in set().union(*READERS.values()):
        plain = name.removeprefix("raw_")
        assert f'"{name}"' in text or f'"{plain}"' in text, name


CHANGES: dict[str, Any] = {
    "confusion": lambda a: a + np.eye(len(a)),
    "bin_n": lambda a: a + 1,
    "bin_right": lambda a: a + 1,
    "bin_confidence": lambda a: a * 3 + 1,
    "class_bin_hits": lambda a: a[:, ::-1] + 1,
    "positives": lambda a: a + 1,
    "negatives": lambda a: a + 1,
    "brier": lambda a: a + 1e5,
    "right_0": lambda a: a + 1,
    "total_0": lambda a: a + 1,
    "holders_0": lambda a: a + 9,
    "right_answers": lambda a: a + 1e4,
    "answers": lambda a: a + 1e4,
    "acted_rightly": lambda a: a + 1e4,
    "raw_bin_n": lambda a: a + 1,
    "raw_bin_right": lambda a: a + 1,
    "raw_bin_confidence": lambda a: a * 3 + 1,
    "raw_brier": lambda a: a + 1e5,
    "acted": lambda a: a + 1e4,
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_sums_of_no_images_are_refused(name: str) -> None:
    fields = fields_of(site(7, 50))
    SummedFigures.of(fields, classes=CLASSES, sites=3, temperature=None, levels=LEVELS)
    with pytest.raises(InvalidPredictionsError, match="contradict"):
        SummedFigures.of(
            {**fields, name: CHANGES[name](fields[name])}, classes=CLASSES, sites=3, temperature=None, levels=LEVELS
        )


def test_the_federated_temperature_is_that_of_the_pooled_likelihood() -> None:
    sites = [site(seed, 40) for seed in range(3)]
    layout = temperature_layout(24)
    total = layout.unpack(np.sum([layout.pack(temperature_fields(s["z"], s["y"], 24)) for s in sites], axis=0))
    z, y = pooled(sites)
    assert fit_federated(total["nll"], n=int(total["n"])) == fit_federated(grid_nll_sums(z, y))
    assert np.abs(total["nll"] - grid_nll_sums(z, y)).max() < 1e-5


def test_a_likelihood_too_bad_for_the_vector_is_cut_and_never_chosen() -> None:
    z = np.array([[1e7, 0.0]] * 20)
    y = np.array([1] * 20)
    found = temperature_fields(z, y, 24)
    assert found["nll"].max() == 2**24 - 2
    assert temperature_layout(24).pack(found).max() < 2**24
    assert np.isfinite(grid()).all()
