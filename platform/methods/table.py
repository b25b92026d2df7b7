"""From a study's method name to the method object: one literal table, no registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..config import Study
from ..section import Section
from .faa_clip import FaaClip
from .facmic import Facmic
from .fedavg import Fedavg
from .fedclip import FedClip
from .fedprox import Fedprox
from .local_only import LocalOnly
from .lora import Lora
from .method import Method
from .moon import Moon
from .pooled import Pooled
from .prompt_fl import PromptFl
from .zero_shot import ZeroShot


def method_of(study: Study) -> Method:
    """The method that a study names, with the study's options."""
    makers: dict[str, Callable[[], Method]] = {
        "zero-shot": ZeroShot,
        "local-only": lambda: LocalOnly(_alone(study)),
        "pooled": lambda: Pooled(_alone(study)),
        "fedavg": lambda: Fedavg(**study.fedavg.model_dump()),
        "fedprox": lambda: Fedprox(**study.fedprox.model_dump()),
        "moon": lambda: Moon(**study.moon.model_dump()),
        "prompt-fl": lambda: PromptFl(**study.prompt_fl.model_dump()),
        "lora": lambda: Lora(**study.lora.model_dump()),
        "fedclip": lambda: FedClip(**_options(study, study.fedclip)),
        "facmic": lambda: Facmic(**_options(study, study.facmic)),
        "faa-clip": lambda: FaaClip(**_options(study, study.faa_clip)),
    }
    return makers[study.method]()


def _options(study: Study, table: Section) -> dict[str, Any]:
    """A table's values under the names that the method's object has for them."""
    values = table.model_dump()
    head = study.calibration.method == "federated-head"
    return {**{key: value for key, value in values.items() if key != "loss"}, "loss_kind": values["loss"], "head": head}


def without_adaptation(method: Method) -> Method:
    """The same adapter and loss, aligned to nobody: what a site trains on its own."""
    if isinstance(method, Facmic | FaaClip):
        return replace(method, adaptation_weight=0.0)
    return method


def _alone(study: Study) -> Method:
    """The adapter method that the baselines train, without adaptation: nobody else's data take part."""
    makers: dict[str, Callable[[], Method]] = {
        "fedclip": lambda: FedClip(**_options(study, study.fedclip)),
        "facmic": lambda: Facmic(**_options(study, study.facmic)),
        "faa-clip": lambda: FaaClip(**_options(study, study.faa_clip)),
    }
    return without_adaptation(makers[study.baseline.method]())
