"""Keys that contradict one another, or have no effect, are refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError

Make = Callable[..., Study]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "faa-clip", "reference": {"labels_known": True}}, "reference.labels_known: 'faa-clip'"),
        ({"method": "fedclip", "reference": {"labels_known": True}}, "reference.labels_known: 'fedclip'"),
        (
            {"facmic": {"adaptation_weight": 0.0}, "reference": {"labels_known": True}},
            "reference.labels_known: 'facmic'",
        ),
        (
            {"reference": {"source": "unseen", "transductive": True, "labels_known": True}},
            "trained on with its own test labels",
        ),
        ({"method": "fedprox", "training": {"proximal": 0.1}}, "training.proximal: fedprox has"),
        ({"method": "lora", "calibration": {"method": "federated-head"}}, "calibration.method: 'lora' carries"),
        ({"method": "prompt-fl", "calibration": {"method": "federated-head"}}, "calibration.method: 'prompt-fl'"),
        ({"server": {"optimiser": "fedadam"}}, "server.lr: with fedadam every weight moves by up to 1 a round"),
        (
            {"method": "fedclip", "fedclip": {"loss": "in-batch"}, "training": {"batch_size": 1}},
            "training.batch_size: the in-batch loss of one image",
        ),
        (
            {"facmic": {"loss": "in-batch"}, "training": {"logit_adjustment": 1.0}},
            "training.logit_adjustment: the in-batch loss",
        ),
    ],
)
def test_a_contradiction_is_refused(toy_study: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        toy_study(**changes)
    assert message in refused.value.what


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": {"labels_known": True}},
        {"method": "fedavg", "training": {"proximal": 0.1}},
        {"method": "local-only", "calibration": {"method": "federated-head"}},
        {"server": {"optimiser": "fedadam", "lr": 0.003}},
        {"method": "fedclip", "training": {"batch_size": 1}},
    ],
)
def test_what_holds_together_is_accepted(toy_study: Make, changes: dict[str, Any]) -> None:
    assert toy_study(**changes).name == "toy"
