"""One small step of an adapter method in float64, and its loss and gradient beside a slow formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from wardround.platform.adapters import trained_tensors
from wardround.platform.methods.adapted_clip import AdaptedClip, refresh_statistics
from wardround.platform.methods.method import Method, SharedInputs, Step, TrainingPart

from .. import slow_methods as slow

Array = NDArray[np.float64]
Numbers = dict[str, Array]
WIDTH, CLASSES, SCALE = 5, 3, 12.0
LABELS = (0, 1, 2, 0, 1, 2, 2)
ROWS = (4, 0, 3, 1)


def unit(count: int, seed: int, width: int = WIDTH) -> torch.Tensor:
    """(count, width) float64, unit-norm rows."""
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def shared_of(reference: int = 6, known: Sequence[int] | None = None) -> SharedInputs:
    """Prompts, scale and a reference set of so many rows; ``known`` are its labels, where the study grants them."""
    labels = None if known is None else torch.tensor(known)
    return SharedInputs(unit(CLASSES, 1), SCALE, unit(reference, 2), labels)


def step_of(
    labels: Sequence[int] = LABELS, rows: Sequence[int] = ROWS, adjustment: Sequence[float] | None = None
) -> Step:
    """A batch with these labels, beside these rows of the reference set."""
    part = TrainingPart(unit(len(labels), 3), torch.tensor(labels, dtype=torch.int64))
    more = None if adjustment is None else torch.tensor(adjustment, dtype=torch.float64)
    return Step(part, torch.tensor(rows, dtype=torch.int64), {}, adjustment=more)


def module_of(method: Method, shared: SharedInputs, step: Step) -> AdaptedClip:
    """The method's module in training mode, all of its tensors away from their start values.

    Running statistics are moved too, to tell them from the batch's own moments.
    """
    module = method.new_module(shared, 2)
    assert isinstance(module, AdaptedClip)
    module = module.double()
    refresh_statistics(module, step.batch.inputs, shared)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, tensor in trained_tensors(module).items():
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.mul_(1.0 + 0.5 * drawn) if "running_var" in name else tensor.add_(0.2 * (drawn - 0.5))
    return module.train()


def numbers(module: nn.Module) -> Numbers:
    """Every trained tensor as float64 numbers, by name."""
    return {name: tensor.detach().numpy().astype(np.float64).copy() for name, tensor in trained_tensors(module).items()}


def slow_text(p: Numbers, shared: SharedInputs) -> Array:
    """Class prompts, adapted where there is a text adapter: in training mode, by the moments of the prompts."""
    text = shared.text.numpy()
    if "text_adapter.project_in.weight" not in p:
        return text
    return slow.adapt(text, p, "text_adapter.", running=False)


def slow_contrast(p: Numbers, step: Step, shared: SharedInputs, kind: str) -> float:
    """The contrastive part of a loss: the batch by its own moments."""
    adapted = slow.adapt(step.batch.inputs.numpy(), p, "adapter.", running=False)
    labels, text = step.batch.labels.tolist(), slow_text(p, shared)
    if kind == "in-batch":
        return slow.in_batch(adapted, labels, text, SCALE)
    adjustment = None if step.adjustment is None else step.adjustment.tolist()
    return slow.class_prompt(adapted, labels, text, SCALE, adjustment)


def slow_reference(p: Numbers, step: Step, shared: SharedInputs) -> tuple[Array, Array]:
    """The step's reference rows through the adapter with running statistics, and their class probabilities."""
    rows = shared.reference.numpy()[step.reference_rows.numpy()]
    moved = slow.adapt(rows, p, "adapter.", running=True)
    if shared.reference_labels is not None:
        known = shared.reference_labels[step.reference_rows].tolist()
        return moved, np.array([[float(c == y) for c in range(CLASSES)] for y in known])
    text = shared.text.numpy()
    if "text_adapter.project_in.weight" in p:
        text = slow.adapt(text, p, "text_adapter.", running=True)
    return moved, slow.softmax(slow.cosine_logits(moved, text, SCALE))


def check_gradient(
    module: nn.Module, slope: Callable[[str], Callable[[Numbers], float]], *, step: float = 1e-6, atol: float = 2e-7
) -> None:
    """Compare ``parameter.grad`` of every trained parameter with central differences along a drawn direction.

    Args:
        module: after ``backward``.
        slope: parameter name -> the slow function of which its gradient must be the derivative.
        step: of the difference. atol: absolute tolerance.
    """
    p = numbers(module)
    generator = np.random.default_rng(0)
    for name, parameter in module.named_parameters():
        direction = generator.normal(size=parameter.shape)
        at = slope(name)
        forwards, backwards = (at({**p, name: p[name] + sign * step * direction}) for sign in (1.0, -1.0))
        assert parameter.grad is not None, name
        along = float((parameter.grad.numpy() * direction).sum())
        assert along == pytest.approx((forwards - backwards) / (2 * step), abs=atol), name
