"""One site's local work in one round: epochs over cached features, no pixels.

A run repeats bit for bit on one machine: batches and reference rows come from a generator seeded by (study, site,
round), and arithmetic runs on one thread, because the order of additions depends on the number of threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .adapters import State, load_state, state_of, trained_tensors, under
from .calibration import FITTED, fit_log_temperature, worth_fitting
from .config import TrainingSection
from .errors import CheckpointError, MethodError
from .methods.adapted_clip import TRAINING_ONLY, AdaptedClip, refresh_statistics
from .methods.method import Method, SharedInputs, Step, TrainingPart, batches, log_shares
from .methods.proximal import proximal_term
from .methods.zero_shot import ZeroShot


@dataclass(frozen=True, slots=True)
class LocalResult:
    """A locally trained adapter.

    Attributes:
        state: parameters and statistics after training, local ones too, as :func:`.adapters.state_of`.
        moments: Adam's state by ``"<tensor>.<moment>"``, to be kept at the site.
        loss: mean training loss over the records of the round's epochs.
    """

    state: State
    moments: State
    loss: float


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed from the study, the site, the round: unequal parts give unrelated seeds."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside: the same bits on every machine of a kind."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True, slots=True)
class Carried:
    """What a site carries from its last round into the next one; none of it leaves.

    Attributes:
        moments: Adam's state, or None to start anew.
        local: tensors under the method's ``local`` prefixes; empty before the first round.
        previous: all tensors as the last round left them, for methods with anchors; None before the first one.
    """

    moments: Mapping[str, Tensor] | None = None
    local: Mapping[str, Tensor] = field(default_factory=dict)
    previous: Mapping[str, Tensor] | None = None


def train_locally(
    method: Method,
    start: Mapping[str, Tensor],
    part: TrainingPart,
    shared: SharedInputs,
    settings: TrainingSection,
    *,
    seed: int,
    carried: Carried | None = None,
    held_out: TrainingPart | None = None,
    head_steps: int = 5,
) -> LocalResult:
    """Train from the global adapter for ``settings.local_epochs`` passes over a site's training part.

    Args:
        method: module and loss.
        start: the global adapter's state.
        part: the site's training part; at least ``method.smallest_batch`` rows.
        shared: prompts, logit scale and reference set.
        settings: optimiser and batch size.
        seed: of the order of batches and the choice of reference rows.
        carried: from the site's last round; None to start anew.
        held_out: the site's validation part, on which a temperature in the adapter is fitted.
        head_steps: steps of that fit.

    Raises:
        MethodError: too few training records (BatchNorm cannot train on one), or a loss that is not finite.
    """
    count, kept = part.inputs.shape[0], carried or Carried()
    if count < method.smallest_batch:
        raise MethodError(
            f"{count} training record(s) are too few to train " + ("on" if count == 0 else "with BatchNorm"),
            remedy=f"Give the site at least {method.smallest_batch} training images, or leave it out",
        )
    with one_thread():
        module = module_from(method, start, kept.local, shared)
        refresh_statistics(module, part.inputs, shared)
        received = _anchor(method, start, kept.local, shared) if method.anchors else None
        previous = _anchor(method, kept.previous, {}, shared) if method.anchors and kept.previous else None
        optimiser = optimiser_of(module, method.lr or settings.lr, settings, kept.moments)
        generator = torch.Generator().manual_seed(seed)
        adjustment = None
        if settings.logit_adjustment > 0.0:
            adjustment = settings.logit_adjustment * log_shares(part.labels, shared.text.shape[0])
        module.train()
        total, seen = 0.0, 0
        for _ in range(settings.local_epochs):
            for rows in batches(count, settings.batch_size, generator, smallest=method.smallest_batch):
                batch = TrainingPart(part.inputs[rows], part.labels[rows])
                step = Step(batch, reference_rows(shared, len(rows), generator), start, received, previous, adjustment)
                loss = method.loss(module, step, shared)
                if settings.proximal > 0.0:
                    loss = loss + 0.5 * settings.proximal * proximal_term(module, start)
                if not bool(torch.isfinite(loss)):
                    raise MethodError(
                        "the training loss is not finite", remedy="Lower training.lr, or the method's own lr"
                    )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += float(loss.detach()) * len(rows)
                seen += len(rows)
        refresh_statistics(module, part.inputs, shared)
        if isinstance(module, AdaptedClip) and module.log_temperature is not None and held_out is not None:
            _fit_head(method, module, held_out, shared, head_steps)
    return LocalResult(state_of(module), moments_of(module, optimiser), total / seen)


def ready_module(method: Method, state: Mapping[str, Tensor], shared: SharedInputs) -> nn.Module:
    """A module in evaluation mode with all that a prediction needs.

    Where norms stay at the sites and ``state`` is the global one, it has none: then those of the reference set stand
    in, with start values for scale and shift.

    Raises:
        CheckpointError: a tensor is missing, unknown, misshapen or not finite.
    """
    module = method.new_module(shared, seed=0)
    needed = {name: tensor for name, tensor in state.items() if not under(name, TRAINING_ONLY)}
    absent = {name for name in trained_tensors(module) if name not in needed and under(name, method.local)}
    if any(not under(name, TRAINING_ONLY) for name in absent):
        if shared.reference.shape[0] == 0:
            raise CheckpointError(
                "the norms of this adapter stay at the sites, and there are no reference images whose norms stand in",
                remedy="Predict with a site's own model",
            )
        load_state(module, needed, without=(*TRAINING_ONLY, *method.local))
        refresh_statistics(module, shared.reference, shared)
    else:
        load_state(module, needed, without=TRAINING_ONLY)
    return module.eval()


def served_state(method: Method, state: Mapping[str, Tensor], shared: SharedInputs) -> State:
    """What a model file must hold so that it predicts without anything else; a copy."""
    ready = state_of(ready_module(method, state, shared))
    return {name: tensor for name, tensor in ready.items() if not under(name, TRAINING_ONLY)}


def predict_logits(method: Method, state: Mapping[str, Tensor], inputs: Tensor, shared: SharedInputs) -> Tensor:
    """Class logits of a trained module in evaluation mode: (n, …) -> (n, K) float64."""
    with one_thread(), torch.no_grad():
        return method.logits(ready_module(method, state, shared), inputs, shared)


def zero_shot_logits(features: Tensor, shared: SharedInputs) -> Tensor:
    """Class logits of the frozen CLIP alone: (n, D) float32, unit-norm -> (n, K) float64."""
    with one_thread():
        return ZeroShot().logits(nn.Module(), features, shared)


def module_from(
    method: Method, state: Mapping[str, Tensor], local: Mapping[str, Tensor], shared: SharedInputs
) -> nn.Module:
    """The method's module with the global tensors, and the site's own where ``local`` or ``state`` has some already."""
    module = method.new_module(shared, seed=0)
    known = {**state, **local}
    whole = any(under(name, method.local) for name in known)
    load_state(module, known, without=() if whole else method.local)
    return module


def _anchor(
    method: Method, state: Mapping[str, Tensor], local: Mapping[str, Tensor], shared: SharedInputs
) -> nn.Module:
    return module_from(method, state, local, shared).eval().requires_grad_(False)


def _fit_head(method: Method, module: AdaptedClip, held_out: TrainingPart, shared: SharedInputs, steps: int) -> None:
    if module.log_temperature is None:
        return
    start = float(module.log_temperature.detach())
    with torch.no_grad():
        module.log_temperature.zero_()
        logits = method.logits(module, held_out.inputs, shared)
        known = worth_fitting(logits, held_out.labels)
        value = fit_log_temperature(logits, held_out.labels, start, steps) if known else start
        module.log_temperature.fill_(value)


def reference_rows(shared: SharedInputs, count: int, generator: torch.Generator) -> Tensor:
    """At most ``count`` rows of the reference set, drawn without repetition: int64; empty without a set."""
    available = shared.reference.shape[0]
    if available == 0:
        return torch.zeros(0, dtype=torch.int64)
    return torch.randperm(available, generator=generator)[:count]


def optimiser_of(
    module: nn.Module, lr: float, settings: TrainingSection, moments: Mapping[str, Tensor] | None
) -> torch.optim.Adam:
    """Adam over what is trained, with the moments it had, where it had some."""
    # A temperature is fitted, not trained: with a proximal term Adam would let its weight decay pull at it.
    named = {n: p for n, p in module.named_parameters() if p.requires_grad and n not in FITTED}
    optimiser = torch.optim.Adam(
        named.values(),
        lr=lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over each tensor: five times as fast on a CPU, with the same bits
    )
    for name, parameter in named.items():
        if moments and f"{name}.step" in moments:
            optimiser.state[parameter] = {
                "step": moments[f"{name}.step"].to(parameter.device, copy=True),
                # Laid out in memory like the parameter: an interrupted run must take the same steps.
                **{
                    key: torch.zeros_like(parameter).copy_(moments[f"{name}.{key}"])
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
    return optimiser


def moments_of(module: nn.Module, optimiser: torch.optim.Adam) -> State:
    """Adam's state by ``"<tensor>.<moment>"``."""
    return {
        f"{name}.{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }
