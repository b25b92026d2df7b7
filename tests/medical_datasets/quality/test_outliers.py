from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wardround.medical_datasets.errors import DataError
from wardround.medical_datasets.quality import outliers as module
from wardround.medical_datasets.quality.outliers import grown, outliers


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def chain(generator: np.random.Generator, count: int, width: int = 64) -> NDArray[np.float32]:
    """A kind whose ends are unlike: pictures along a bend through several directions."""
    at = generator.uniform(0, 4, count)
    rows = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(5)[None]))
    return unit(np.hstack([rows, np.zeros((count, width - 5))]) + 0.05 * generator.normal(size=(count, width)))


def group(generator: np.random.Generator, count: int, direction: int, width: int = 64) -> NDArray[np.float32]:
    return unit(np.eye(width)[[direction] * count] + 0.03 * generator.normal(size=(count, width)))


def slow_grown(features: NDArray[np.float32], cosine: float, links: int) -> list[int]:
    """The definition, one picture at a time."""
    count = len(features)
    near = [[j for j in range(count) if j != i and features[i] @ features[j] >= cosine] for i in range(count)]
    kinds = [-1] * count
    number = 0
    for seed in sorted(range(count), key=lambda i: (-len(near[i]), i)):
        fresh = [j for j in near[seed] if kinds[j] < 0]
        if kinds[seed] >= 0 or len(fresh) < links:
            continue
        for i in (seed, *fresh):
            kinds[i] = number
        changed = True
        while changed:
            joining = [i for i in range(count) if kinds[i] < 0 and sum(kinds[j] == number for j in near[i]) >= links]
            for i in joining:
                kinds[i] = number
            changed = bool(joining)
        number += 1
    return kinds


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 5))
def test_growth_is_its_definition(seed: int, count: int, links: int) -> None:
    features = unit(np.random.default_rng(seed).normal(size=(count, 4))) if count else np.zeros((0, 4), np.float32)
    assert grown(features, 0.7, links).tolist() == slow_grown(features, 0.7, links)


@pytest.mark.parametrize("foreign", [1, 5, 30, 60])
def test_pictures_alone_and_in_dozens_are_found_and_no_other(foreign: int) -> None:
    generator = np.random.default_rng(foreign)
    features = np.concatenate([chain(generator, 640), group(generator, foreign, 20)])
    order = generator.permutation(len(features))
    found = outliers(features[order])
    assert sorted(order[found.rows].tolist()) == list(range(640, 640 + foreign))
    assert (found.similarity < 0.3).all()
    assert set(found.group.tolist()) == ({0} if foreign > 5 else {-1})


def test_two_groups_are_told_apart() -> None:
    generator = np.random.default_rng(3)
    found = outliers(np.concatenate([chain(generator, 600), group(generator, 9, 20), group(generator, 12, 30)]))
    assert found.rows.tolist() == list(range(600, 621))
    assert len(set(found.group[:9].tolist())) == len(set(found.group[9:].tolist())) == 1
    assert found.group[0] != found.group[-1]


def test_a_class_of_its_own_look_is_no_stranger() -> None:
    generator = np.random.default_rng(4)
    assert not len(outliers(np.concatenate([chain(generator, 400), group(generator, 60, 20)])).rows)


def test_a_set_without_a_common_look_has_no_strangers_in_groups() -> None:
    generator = np.random.default_rng(5)
    assert not len(outliers(np.concatenate([group(generator, 20, direction) for direction in range(20)])).rows)


def test_few_images_do_not_say_what_is_usual() -> None:
    generator = np.random.default_rng(6)
    features = np.concatenate([chain(generator, 50), group(generator, 3, 20)])
    assert len(outliers(features).rows) == 0
    assert len(outliers(features[:0]).rows) == 0


def test_a_large_set_is_judged_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)
    features = np.concatenate([chain(generator, 3000), group(generator, 90, 20), group(generator, 1, 30)])
    whole = outliers(features)
    monkeypatch.setattr(module, "_REFERENCE", 1000)
    monkeypatch.setattr(module, "_BLOCK", 256)
    sampled = outliers(features)
    assert whole.rows.tolist() == sampled.rows.tolist() == list(range(3000, 3091))
    assert whole.group.tolist() == sampled.group.tolist()


def test_rows_that_are_not_of_norm_one_are_refused() -> None:
    with pytest.raises(DataError, match="norm 1"):
        outliers(np.ones((70, 4), dtype=np.float32))
    with pytest.raises(DataError, match="norm 1"):
        outliers(np.ones(70, dtype=np.float32))
