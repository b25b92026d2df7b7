"""Worlds with known posterior probabilities, for fits and simulations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

World = Callable[..., tuple[np.ndarray, np.ndarray]]
PRIOR = (0.4, 0.3, 0.2, 0.1)


def make_world(
    n: int, generator: np.random.Generator, *, sharp: float = 2.0, over: float = 2.0, mix: tuple[float, ...] = PRIOR
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model that is too sure by ``over`` and knows the prior .4, .3, .2, .1, and labels of prior ``mix``.

    Each class has a normal score of mean ``sharp``, so with ``mix`` = the prior, softmax(logits / over) is exact.
    """
    y = generator.choice(4, size=n, p=mix)
    z = generator.normal(size=(n, 4)) + sharp * np.eye(4)[y]
    return over * (sharp * z + np.log(PRIOR)), y


@pytest.fixture(scope="session")
def world() -> World:
    """``world(n, generator, sharp=2, over=2, mix=PRIOR)``: logits (n, 4) and labels (n,)."""
    return make_world
