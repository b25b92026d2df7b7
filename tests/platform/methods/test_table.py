"""The table of methods: every name of a study's has one, with the interface of the seam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from wardround.platform.config import METHOD_TABLES, MethodName, Study
from wardround.platform.methods.table import method_of

NAMES = get_args(MethodName)
PIXELS = {"fedavg", "fedprox", "moon", "lora"}
EXCHANGE = {"zero-shot": "nothing", "local-only": "alone", "pooled": "pooled"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_method_of_that_name(toy_study: Callable[..., Study], name: str) -> None:
    method = method_of(toy_study(method=name))
    assert method.name == name
    assert method.exchange == EXCHANGE.get(name, "federated")
    assert method.consumes == ("pixels" if name in PIXELS else "features")
    assert method.weighting == ("uniform" if name == "faa-clip" else "weighted")
    assert method.smallest_batch in (1, 2)
    assert all(isinstance(value, str | float | bool | int) for value in method.options().values())
    assert all(prefix.endswith(".") for prefix in method.local)


def test_every_table_is_of_a_method() -> None:
    tables = {name.replace("-", "_") for name in NAMES} - {"zero_shot", "local_only", "pooled"}
    assert set(METHOD_TABLES) == tables | {"baseline"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - EXCHANGE.keys()))
def test_a_table_has_no_option_that_its_method_does_not_know(toy_study: Callable[..., Study], name: str) -> None:
    """Each option of the table, changed, is another method object."""
    plain: Any = toy_study(method=name)
    table = getattr(plain, plain.table)
    changed = {
        "lr": 0.5,
        "loss": "in-batch",
        "text_adapter": True,
        "depth": 8,
        "normalisation": "layer",
        "adaptation_weight": 2.0,
        "reference_through_adapter": False,
        "rescale_adaptation": False,
        "domain_classifier": "shared",
        "mu": 0.25,
        "temperature": 0.25,
        "context": 4,
        "init": "text",
        "rank": 2,
        "alpha": 2.0,
    }
    for key in type(table).model_fields:
        other = toy_study(method=name, **{plain.table: {key: changed[key]}})
        assert method_of(other) != method_of(plain), key
    assert method_of(toy_study(method=name)) == method_of(plain)
