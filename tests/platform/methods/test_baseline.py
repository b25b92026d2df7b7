"""Local only and pooled: another method's adapter without its adaptation, alone or on all pictures in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from wardround.platform.methods.baseline import Baseline
from wardround.platform.methods.faa_clip import FaaClip
from wardround.platform.methods.facmic import Facmic
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.local_only import LocalOnly
from wardround.platform.methods.method import Method
from wardround.platform.methods.pooled import Pooled
from wardround.platform.methods.table import method_of

from .small_steps import module_of, shared_of, step_of

KINDS = {"local-only": LocalOnly, "pooled": Pooled}
BASES: list[Method] = [
    FedClip(lr=0.5),
    Facmic(adaptation_weight=0.0, depth=8),
    FaaClip(adaptation_weight=0.0, normalisation="layer", head=True),
]


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_does_what_its_base_does(kind: Callable[[Method], Baseline], base: Method) -> None:
    method, shared, step = kind(base), shared_of(), step_of()
    module, twin = module_of(method, shared, step), module_of(base, shared, step)
    assert torch.equal(method.loss(module, step, shared), base.loss(twin, step, shared))
    x = step.batch.inputs
    assert torch.equal(method.logits(module, x, shared), base.logits(twin, x, shared))
    assert (method.consumes, method.lr, method.anchors) == (base.consumes, base.lr, base.anchors)
    assert method.smallest_batch == base.smallest_batch
    assert method.options() == {"base": base.name, **base.options()}


def test_nothing_of_theirs_is_sent_so_nothing_is_local() -> None:
    local = Facmic(adaptation_weight=0.0, normalisation="batch-local")
    assert local.local
    assert [(kind(local).name, kind(local).exchange, kind(local).local) for kind in KINDS.values()] == [
        ("local-only", "alone", ()),
        ("pooled", "pooled", ()),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_the_table_makes_it_of_the_studys_base_with_adaptation_off(toy_study: Callable[..., Any], name: str) -> None:
    kind = KINDS[name]
    assert method_of(toy_study(method=name)) == kind(Facmic(adaptation_weight=0.0))
    study = toy_study(method=name, baseline={"method": "faa-clip"}, faa_clip={"depth": 8, "lr": 0.5})
    assert method_of(study) == kind(FaaClip(adaptation_weight=0.0, depth=8, lr=0.5))
    study = toy_study(method=name, baseline={"method": "fedclip"}, fedclip={"loss": "in-batch"})
    assert method_of(study) == kind(FedClip(loss_kind="in-batch"))
