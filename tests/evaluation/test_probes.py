"""Probes by group folds, against slow and obvious ways to get the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from wardround.evaluation.errors import InvalidPredictionsError
from wardround.evaluation.probes import FOLDS, NEIGHBOURS, STRENGTHS, group_folds, linear_probe, nearest_neighbours


def clouds(n: int, classes: int, apart: float, seed: int = 0, width: int = 6):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    middles = rng.normal(size=(classes, width))
    return apart * middles[labels] + rng.normal(size=(n, width)), labels


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 4), each=st.integers(3, 12), size=st.integers(1, 4))
def test_every_row_is_tested_once_and_no_group_is_on_both_sides(seed: int, classes: int, each: int, size: int) -> None:
    labels = np.repeat(np.arange(classes), each * size)
    groups = np.repeat(np.arange(classes * each), size)
    tested = []
    for train, test in group_folds(labels, groups.tolist(), seed=seed):
        assert set(groups[train]).isdisjoint(groups[test])
        assert sorted([*train, *test]) == list(range(len(labels)))
        assert set(labels[test]) == set(labels[train]) == set(range(classes))
        tested.extend(test.tolist())
    assert sorted(tested) == list(range(len(labels)))


def test_the_probe_equals_fits_from_scratch_at_the_strength_that_the_inner_folds_choose() -> None:
    x, y = clouds(120, 3, 0.7)
    groups = (np.arange(120) // 2).tolist()
    logits = linear_probe(x, y, groups, seed=4)
    for train, test in group_folds(y, groups, seed=4):
        losses = []
        for strength in STRENGTHS:
            loss = 0.0
            for inner, held in group_folds(y[train], [groups[at] for at in train], seed=4):
                scaler = StandardScaler().fit(x[train][inner])
                model = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
                model.fit(scaler.transform(x[train][inner]), y[train][inner])
                chance = model.predict_proba(scaler.transform(x[train][held]))
                loss -= sum(float(np.log(row[label])) for row, label in zip(chance, y[train][held], strict=True))
            losses.append(loss)
        best = STRENGTHS[int(np.argmin(losses))]
        scaler = StandardScaler().fit(x[train])
        plain = LogisticRegression(C=best, max_iter=5000, tol=1e-8).fit(scaler.transform(x[train]), y[train])
        # Both stop near the same optimum; a wrong strength would be off by several tenths.
        assert np.abs(plain.decision_function(scaler.transform(x[test])) - logits[test]).max() < 0.05


def test_neighbours_equal_a_count_by_hand() -> None:
    x, y = clouds(60, 3, 1.0, seed=1)
    groups = list(range(60))
    found = nearest_neighbours(x, y, groups)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for train, test in group_folds(y, groups):
        for at in test:
            distance = 1.0 - unit[train] @ unit[at]
            near = np.argsort(distance)[:NEIGHBOURS]
            votes = np.zeros(3)
            for which in near:
                votes[y[train[which]]] += 1.0 / distance[which]
            assert found[at] == votes.argmax()


def test_clear_classes_are_found_and_noise_is_not() -> None:
    x, y = clouds(150, 3, 6.0)
    groups = list(range(150))
    assert np.mean(linear_probe(x, y, groups).argmax(1) == y) == 1.0
    noise = np.random.default_rng(0).normal(size=(300, 8))
    labels = np.arange(300) % 3
    assert abs(np.mean(linear_probe(noise, labels, list(range(300))).argmax(1) == labels) - 1 / 3) < 0.12


def test_near_duplicates_give_nothing_away_when_they_share_a_group() -> None:
    rng = np.random.default_rng(2)
    once = rng.normal(size=(90, 40))
    x = np.repeat(once, 2, axis=0) + 1e-6 * rng.normal(size=(180, 40))
    labels = np.repeat(np.arange(90) % 3, 2)
    alone = nearest_neighbours(x, labels, list(range(180)))
    together = nearest_neighbours(x, labels, np.repeat(np.arange(90), 2).tolist())
    # The twin lies in the training part two times out of three when each image is its own group.
    assert np.mean(alone == labels) > 0.65
    assert np.mean(together == labels) < 0.5


def test_two_classes_and_repeated_calls() -> None:
    x, y = clouds(40, 2, 2.0)
    first = linear_probe(x, y, list(range(40)), seed=1)
    assert first.shape == (40, 2)
    assert np.allclose(first.sum(axis=1), 0.0)
    assert np.array_equal(first, linear_probe(x, y, list(range(40)), seed=1))
    assert np.mean(first.argmax(1) == y) > 0.85


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4), people=st.integers(3, 7), images=st.integers(6, 40))
def test_whatever_passes_the_check_is_probed(seed: int, classes: int, people: int, images: int) -> None:
    """Few patients, patients with several classes, one image each: no fold inside may fail."""
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, classes, images), rng.integers(0, people, images).tolist()
    try:
        group_folds(labels, groups)
    except InvalidPredictionsError:
        assume(False)
    labels = np.unique(labels, return_inverse=True)[1]
    logits = linear_probe(rng.normal(size=(images, 3)), labels, groups)
    assert np.isfinite(logits).all()
    assert logits.shape == (images, labels.max() + 1)


@pytest.mark.parametrize(("labels", "groups"), [([0, 0, 0, 1, 1, 1], list(range(6))), ([0, 1] * 3, [0, 0, 1, 1, 2, 2])])
def test_three_groups_of_each_class_are_enough(labels: list[int], groups: list[int]) -> None:
    x = np.array(labels)[:, None] * 8.0 + np.random.default_rng(0).normal(size=(6, 2))
    assert linear_probe(x, labels, groups).argmax(1).tolist() == labels


def test_a_class_with_few_groups_inside_is_carried_along() -> None:
    """Three groups of a class leave two for the inner folds, of which one may hold none."""
    x, y = clouds(60, 2, 3.0)
    x, y = np.vstack([x, x[:3] + 20.0]), np.concatenate([y, [2, 2, 2]])
    logits = linear_probe(x, y, list(range(63)))
    assert np.isfinite(logits).all()
    assert (logits.argmax(1)[-3:] == 2).all()


@pytest.mark.parametrize(
    ("labels", "groups", "part"),
    [
        ([0, 0, 0], ["a", "b", "c"], "1 classes"),
        ([0, 0, 0, 1, 1], ["a", "b", "c", "d", "e"], "class number 1 form 2 groups"),
        ([0, 0, 0, 1, 1, 1], ["a", "b", "c", "d", "d", "d"], "class number 1 form 1 group"),
    ],
)
def test_too_little_for_folds_is_refused(labels: list[int], groups: list[str], part: str) -> None:
    with pytest.raises(InvalidPredictionsError, match=part) as caught:
        group_folds(labels, groups)
    assert caught.value.remedy
    assert FOLDS == 3


def test_features_that_are_no_features_are_refused() -> None:
    y = [0, 0, 0, 1, 1, 1]
    for x in (np.zeros((5, 2)), np.full((6, 2), np.nan), np.zeros(6)):
        with pytest.raises(InvalidPredictionsError, match="features of shape"):
            linear_probe(x, y, list(range(6)))
