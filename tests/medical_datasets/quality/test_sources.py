from __future__ import annotations

import numpy as np
import pytest
from wardround.medical_datasets.quality.sources import association, cramers_v


def test_association_is_cramers_v_without_what_chance_adds() -> None:
    assert association([("a", 0), ("b", 1)] * 50) == pytest.approx(1.0, abs=0.02)
    assert association([("a", 0), ("a", 1), ("b", 0), ("b", 1)] * 50) == 0.0
    assert association([("a", 0), ("a", 1)] * 3) == association([]) == 0.0


def test_many_values_by_chance_are_no_association() -> None:
    generator = np.random.default_rng(0)
    pairs = [
        (str(a), int(b)) for a, b in zip(generator.integers(0, 60, 200), generator.integers(0, 4, 200), strict=True)
    ]
    assert cramers_v(pairs) > 0.5
    assert association(pairs) < 0.2


def test_both_agree_on_many_images() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 20_000)
    pairs = [
        (str(label if keep else 9), int(label))
        for label, keep in zip(labels, generator.random(20_000) < 0.5, strict=True)
    ]
    assert association(pairs) == pytest.approx(cramers_v(pairs), abs=0.001)
