"""Zero-shot: the frozen CLIP with its prompts, and nothing to train or to send."""

from __future__ import annotations

import numpy as np
import pytest
from wardround.platform.adapters import state_of
from wardround.platform.errors import MethodError
from wardround.platform.methods.zero_shot import ZeroShot
from wardround.platform.update import METRICS, Layout

from .. import slow_methods as slow
from .small_steps import SCALE, shared_of, step_of


def test_logits_are_those_of_the_frozen_features() -> None:
    shared, x = shared_of(), step_of().batch.inputs
    logits = ZeroShot().logits(ZeroShot().new_module(shared, 0), x, shared)
    expected = slow.cosine_logits(x.numpy(), shared.text.numpy(), SCALE)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=1e-9)
    assert ZeroShot().logits(ZeroShot().new_module(shared, 0), x[:0], shared).shape == (0, 3)


def test_there_is_nothing_to_train_and_nothing_to_send() -> None:
    method, shared = ZeroShot(), shared_of()
    module = method.new_module(shared, 0)
    assert state_of(module) == {}
    assert Layout.of(module).sizes() == {METRICS: 1}
    assert (method.name, method.exchange, method.options()) == ("zero-shot", "nothing", {})
    with pytest.raises(MethodError, match="trains nothing") as caught:
        method.loss(module, step_of(), shared)
    assert caught.value.remedy
