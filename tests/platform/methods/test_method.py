"""The seam's own small parts: batches, and what label skew adds to the logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.platform.methods.method import batches, class_cross_entropy, log_shares

from .. import slow_methods as slow
from .small_steps import unit


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 120), size=st.integers(1, 40), smallest=st.integers(1, 2), seed=st.integers(0, 2**31))
def test_batches_hold_every_row_once_and_none_is_too_small(count: int, size: int, smallest: int, seed: int) -> None:
    size = max(size, smallest)
    generator = torch.Generator().manual_seed(seed)
    drawn = [rows.tolist() for rows in batches(count, size, generator, smallest=smallest)]
    assert sorted(row for rows in drawn for row in rows) == list(range(count))
    assert all(len(rows) == size for rows in drawn[:-1])
    if count >= smallest:
        assert smallest <= len(drawn[-1]) <= size + smallest - 1


def test_where_one_row_is_enough_no_batch_grows() -> None:
    lengths = [len(rows) for rows in batches(9, 4, torch.Generator().manual_seed(0), smallest=1)]
    assert lengths == [4, 4, 1]
    assert [len(rows) for rows in batches(9, 4, torch.Generator().manual_seed(0))] == [4, 5]


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [2, 2], [], [0, 1, 2, 3]])
def test_log_shares_count_each_class_half_an_image_more(labels: list[int]) -> None:
    found = log_shares(torch.tensor(labels, dtype=torch.int64), 4)
    expected = [math.log((labels.count(c) + 0.5) / (len(labels) + 2.0)) for c in range(4)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert float(found.exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_cross_entropy_with_an_adjustment_is_the_slow_formula() -> None:
    adapted, text, labels = unit(5, 1), unit(3, 2), [0, 2, 1, 1, 0]
    logits = 12.0 * adapted @ text.T
    plain = class_cross_entropy(logits, torch.tensor(labels), None)
    assert float(plain) == pytest.approx(slow.class_prompt(adapted.numpy(), labels, text.numpy(), 12.0), abs=1e-9)
    more = [-0.5, -2.0, -1.0]
    adjusted = class_cross_entropy(logits, torch.tensor(labels), torch.tensor(more, dtype=torch.float64))
    expected = slow.class_prompt(adapted.numpy(), labels, text.numpy(), 12.0, more)
    assert float(adjusted) == pytest.approx(expected, abs=1e-9)
    alike = class_cross_entropy(logits, torch.tensor(labels), torch.full((3,), 7.0, dtype=torch.float64))
    assert float(alike) == pytest.approx(float(plain), abs=1e-9)
