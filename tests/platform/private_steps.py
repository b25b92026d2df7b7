"""Small methods under differential privacy: module, data, units, alignment, and the slow way to their clipped sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from wardround.platform.adapters import State, state_of
from wardround.platform.config import Study
from wardround.platform.methods.method import Method, SharedInputs, TrainingPart
from wardround.platform.methods.private import Alignment, PrivateForm
from wardround.platform.methods.private_records import draw_frequencies
from wardround.platform.methods.table import method_of
from wardround.platform.private_plan import PrivatePlan
from wardround.platform.private_training import PrivateWork, private_form
from wardround.platform.study_file import parse_study
from wardround.privacy.differential_privacy.randomness import SecretStream
from wardround.privacy.differential_privacy.units import Units

from .methods.tiny_clips import shared_of, tiny_clip

WIDTH, CLASSES, SCALE, FREQUENCIES = 12, 4, 20.0, 16
HIDDEN = 2 * WIDTH  # of the domain classifier: the published 512 would make the slow sums slower
LAYER: dict[str, Any] = {"normalisation": "layer"}
PER_RECORD: dict[str, Any] = {"privacy": {"alignment": "per-record"}}
KINDS: dict[str, dict[str, Any]] = {
    "fedclip": {"method": "fedclip"},
    "facmic": {"method": "facmic", "facmic": LAYER},
    "facmic, depth 8": {"method": "facmic", "facmic": {**LAYER, "depth": 8}},
    "facmic, off": {"method": "facmic", "facmic": {**LAYER, "adaptation_weight": 0.0}},
    "facmic by record": {"method": "facmic", "facmic": LAYER, **PER_RECORD},
    "facmic by record, depth 8": {"method": "facmic", "facmic": {**LAYER, "depth": 8}, **PER_RECORD},
    "faa-clip": {"method": "faa-clip", "faa_clip": LAYER},
    "faa-clip, depth 8": {"method": "faa-clip", "faa_clip": {**LAYER, "depth": 8}},
    "faa-clip by record": {"method": "faa-clip", "faa_clip": LAYER, **PER_RECORD},
    "faa-clip by record, depth 8": {"method": "faa-clip", "faa_clip": {**LAYER, "depth": 8}, **PER_RECORD},
    "prompt-fl": {"method": "prompt-fl", "prompt_fl": {"context": 3}},
}


def private_study(**changes: Any) -> Study:
    """A study with differential privacy, records as units, and whatever is changed; of tables, by key."""
    values: dict[str, Any] = {
        "name": "private",
        "method": "fedclip",
        "rounds": 3,
        "data": {"dataset": "brain-mri", "path": "nowhere"},
        "training": {"batch_size": 8},
        "privacy": {"epsilon": 8.0, "unit": "record"},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=Path("study.toml"))


def unit_rows(count: int, seed: int, *, width: int = WIDTH, dtype: torch.dtype = torch.float64) -> Tensor:
    """(count, width) rows of norm 1."""
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).to(dtype)


@dataclass(frozen=True)
class Private:
    """A method with everything that a private step is given.

    ``kind`` is a key of :data:`KINDS`.
    """

    kind: str
    study: Study
    method: Method
    form: PrivateForm
    shared: SharedInputs
    alignment: Alignment | None
    part: TrainingPart

    def module(self, seed: int = 0, *, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The module, every parameter away from its start value: scales that are not 1, shifts that are not 0."""
        module = self.method.new_module(self.shared, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                moved = 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(moved.to(parameter))
        return module.to(dtype).train()

    def start(self, seed: int = 0) -> State:
        """A global adapter as training takes it, with the tensors that stay at the site too."""
        kind = torch.float64 if self.kind == "prompt-fl" else torch.float32  # the tiny tower computes in float64
        return state_of(self.module(seed, dtype=kind))

    def work(self, units: Units, **plan: Any) -> PrivateWork:
        """One step without noise that draws half of the units, unless the plan is changed."""
        count = units.count
        wanted = {"units": count, "sample_rate": 0.5, "expected_batch": count / 2, "steps": 1, "rounds": 1}
        planned = PrivatePlan(**{**wanted, "noise_multiplier": 0.0, "beside": (), **plan})
        return PrivateWork(self.form, units, planned, self.study.privacy.clip, self.study.privacy.records_per_unit)


def private(
    kind: str, rows: int = 10, *, seed: int = 0, dtype: torch.dtype = torch.float64, present: int = CLASSES, **more: Any
) -> Private:
    """A method with ``rows`` training rows of at most ``present`` classes; ``more`` changes the study."""
    changes = {**KINDS[kind], **{key: {**KINDS[kind].get(key, {}), **value} for key, value in more.items()}}
    study = private_study(**changes)
    method = method_of(study)
    if kind == "prompt-fl":
        shared = replace(shared_of(tiny_clip()), scale=SCALE)
    else:
        shared = SharedInputs(
            unit_rows(CLASSES, 1, dtype=dtype), SCALE, unit_rows(24, 2, dtype=dtype), torch.arange(24) % CLASSES
        )
    classes, width = shared.text.shape
    labels = torch.from_numpy(np.random.default_rng(seed + 7).integers(min(present, classes), size=rows))
    part = TrainingPart(unit_rows(rows, seed + 3, width=width, dtype=dtype), labels)
    form = private_form(method, study)
    return Private(kind, study, method, form, shared, alignment_of(kind, shared), part)


def alignment_of(kind: str, shared: SharedInputs) -> Alignment | None:
    """Proxies, shares and a gap such as noisy releases give; the last class is not known."""
    if kind not in ("facmic", "facmic, depth 8", "faa-clip", "faa-clip, depth 8") and "facmic by" not in kind:
        return None
    classes, width = shared.text.shape
    shares = torch.tensor([0.5, 0.25, 0.125, *[0.0] * (classes - 3)])
    proxies = unit_rows(15, 5, width=width, dtype=shared.text.dtype)
    aligned = Alignment(proxies, torch.arange(15) % (classes - 1), shares)
    if "by record" not in kind:
        return aligned
    frequencies = draw_frequencies(shared.reference, FREQUENCIES, torch.Generator().manual_seed(6))
    gap = 0.3 * torch.randn((classes, 2 * FREQUENCIES), generator=torch.Generator().manual_seed(8))
    gap[classes - 1] = 0.0
    return replace(aligned, gap=gap, frequencies=frequencies)


# --- the slow way ----------------------------------------------------------------------------------------------------


def row_gradients(case: Private, module: nn.Module, batch: TrainingPart, expected: int) -> dict[str, Tensor]:
    """(R, *shape) gradient of each row's loss by name, by torch.func, from the loss written out."""
    loss = _loss_of(case, module, expected)
    values = {name: module.get_parameter(name).detach() for name in case.form.noised(module)}
    found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(values, batch.inputs, batch.labels)
    return found


def _loss_of(case: Private, module: nn.Module, expected: int) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    adapter, domain = module.get_submodule("adapter"), getattr(module, "domain", None)
    text, scale, aligned = case.shared.text, case.shared.scale, case.alignment
    by_record = "by record" in case.kind
    weight = getattr(case.method, "adaptation_weight", 0.0) * min(1.0, expected / 32)

    def under(values: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}

    def loss(values: dict[str, Tensor], feature: Tensor, label: Tensor) -> Tensor:
        attention = functional_call(adapter, under(values, "adapter."), (feature[None],))[0]
        adapted = attention * feature
        adapted = adapted / adapted.square().sum().sqrt()
        logits = scale * (text @ adapted)
        own = (torch.arange(len(text)) == label).to(text)
        value = torch.logsumexp(logits, dim=0) - (own * logits).sum()
        if by_record and domain is not None:
            reversed_ = 2.0 * adapted.detach() - adapted
            told = functional_call(domain, under(values, "domain."), (reversed_[None],))[0]
            value = value + 0.5 * weight * torch.log1p(torch.exp(told))
        elif by_record and aligned is not None:
            angles = aligned.frequencies.double() @ adapted
            waves = torch.cat([angles.cos(), angles.sin()]) / FREQUENCIES**0.5
            # Three of the classes are known, and the kernel is a sum of five.
            factors = torch.tensor([2 * 5 / 3 * over for over in (2.0, 4.0, 8.0, 0.0)], dtype=torch.float64)
            pulls = (aligned.gap.double() @ waves) * factors
            value = value + weight * (own * pulls).sum()
        return value

    return loss


def clip_slowly(gradients: Mapping[str, Tensor], clip: float, owners: Tensor | None = None) -> dict[str, Tensor]:
    """Sum over units of clipped gradients, from gradients of rows that were made one by one."""
    rows = len(next(iter(gradients.values())))
    owners = torch.arange(rows) if owners is None else owners
    total = {name: torch.zeros_like(gradient[0]) for name, gradient in gradients.items()}
    for unit in owners.unique().tolist():
        summed = {name: gradient[owners == unit].sum(dim=0) for name, gradient in gradients.items()}
        norm = float(flat(summed).norm())
        for name, part in summed.items():
            total[name] += part * min(1.0, clip / max(norm, 1e-300))
    return total


def check_sum(case: Private, owners: list[int] | None, *, clip: float, seed: int = 0, expected: int = 8) -> None:
    """The form's clipped sum beside gradients that were made row by row, in float64."""
    module = case.module(seed)
    unit_of = None if owners is None else torch.tensor(owners, dtype=torch.int64)
    units = len(case.part.labels) if owners is None else max(owners, default=0) + 2  # the last unit has no rows
    found = case.form.clipped(module, case.part, unit_of, units, clip, case.shared, case.alignment, expected)
    wanted = clip_slowly(row_gradients(case, module, case.part, expected), clip, unit_of)
    assert set(found.gradients) == set(wanted) == set(case.form.noised(module))
    for name, gradient in wanted.items():
        torch.testing.assert_close(found.gradients[name], gradient, rtol=1e-10, atol=1e-10)
    assert found.dropped == 0
    assert all(parameter.grad is None for parameter in module.parameters())


def flat(gradients: Mapping[str, Tensor]) -> Tensor:
    """All values in one float64 vector, in the order of names."""
    return torch.cat([gradients[name].flatten().double() for name in sorted(gradients)])


# --- streams that are no longer secret -------------------------------------------------------------------------------


class Scripted(SecretStream):
    """A stream whose Poisson samples are given; of a fixed key, and without noise unless it is asked for."""

    def __init__(self, *samples: list[int], noise: bool = False) -> None:
        super().__init__(bytes(32))
        self.samples = [np.array(sample, dtype=np.int64) for sample in samples]
        self.noise = noise
        self.asked: list[tuple[int, float]] = []

    def include(self, count: int, rate: float) -> NDArray[np.int64]:
        self.asked.append((count, rate))
        return self.samples[(len(self.asked) - 1) % len(self.samples)]

    def normals(self, out: NDArray[np.float32], scale: float = 1.0) -> NDArray[np.float32]:
        if self.noise:
            return super().normals(out, scale)
        out.fill(0.0)
        return out
