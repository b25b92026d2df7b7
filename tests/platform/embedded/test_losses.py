"""Losses against their formulas, written as slow loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform.embedded.captions import described
from wardround.platform.embedded.losses import agreement, contrastive, crowding


def test_the_contrastive_loss_equals_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(4, 32, generator=generator), torch.randn(4, 32, generator=generator)
    positive = described(np.array([[0, 0], [0, 1], [1, 0], [0, 0]]), np.array([[0, -1], [0, 1], [1, 0], [0, 0]]))
    loss = float(contrastive(images, texts, torch.tensor(9.0), torch.from_numpy(positive).float()))
    a, b = images.double().numpy(), texts.double().numpy()
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    logits = 9.0 * a @ b.T
    total = 0.0
    for matrix, target in ((logits, positive.astype(float)), (logits.T, positive.T.astype(float))):
        for row, wanted in zip(matrix, target, strict=True):
            log_p = row - np.log(np.exp(row).sum())
            total -= (log_p * wanted / wanted.sum()).sum() / len(matrix) / 2
    assert loss == pytest.approx(total, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 20), width=st.integers(2, 30))
def test_crowding_is_that_of_the_covariance_spectrum(seed: int, n: int, width: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, width))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    spectrum = np.linalg.eigvalsh(np.cov(unit.T, bias=True))
    slow = np.log((spectrum**2).sum() / spectrum.sum() ** 2)
    fast = float(crowding(torch.from_numpy(rows).float()))
    assert fast == pytest.approx(slow, abs=2e-3)
    assert -np.log(min(n - 1, width)) - 1e-3 <= fast <= 1e-3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6))
def test_agreement_is_nt_xent_among_pictures_of_a_kind(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = np.repeat(np.arange(2), [n, n + 1])
    count = len(kinds)
    views = rng.normal(size=(2 * count, 7))
    unit = views / np.linalg.norm(views, axis=1, keepdims=True)
    total = 0.0
    for row in range(2 * count):
        others = [at for at in range(2 * count) if at != row and kinds[at % count] == kinds[row % count]]
        partner = (row + count) % (2 * count)
        shares = [np.exp(unit[row] @ unit[at] / 0.3) for at in others]
        total -= np.log(np.exp(unit[row] @ unit[partner] / 0.3) / sum(shares)) / (2 * count)
    found = agreement(torch.from_numpy(views).float(), torch.from_numpy(kinds), 0.3)
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_agreement_falls_as_the_views_of_a_picture_draw_together() -> None:
    generator = torch.Generator().manual_seed(0)
    first, noise = torch.randn(12, 16, generator=generator), torch.randn(12, 16, generator=generator)
    kinds = torch.zeros(12, dtype=torch.int64)
    losses = [float(agreement(torch.cat([first, first + far * noise]), kinds, 0.2)) for far in (0.0, 0.5, 2.0)]
    assert losses == sorted(losses)
    assert losses[0] < 0.3
