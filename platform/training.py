"""One site's local work in one round: epochs over cached features, no pixels.

A run repeats bit for bit on one machine: batches and reference rows come from a generator seeded by (study, site,
round), and arithmetic runs on one thread, because the order of additions depends on the number of threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from .adapters import AttentionAdapter, load_state, set_statistics, state_of
from .config import TrainingSection
from .errors import MethodError
from .methods.method import Method, SharedInputs, TrainingPart, batches
from .update import State


@dataclass(frozen=True, slots=True)
class LocalResult:
    """A locally trained adapter.

    Attributes:
        state: parameters and statistics after training, as :func:`.adapters.state_of`.
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


def train_locally(
    method: Method,
    start: Mapping[str, Tensor],
    part: TrainingPart,
    shared: SharedInputs,
    settings: TrainingSection,
    *,
    seed: int,
    moments: Mapping[str, Tensor] | None = None,
) -> LocalResult:
    """Train from the global adapter for ``settings.local_epochs`` passes over a site's training part.

    Args:
        method: adapter and loss.
        start: the global adapter's state.
        part: the site's training features; at least 2 rows.
        shared: prompts, logit scale and reference set.
        settings: optimiser and batch size.
        seed: of the order of batches and the choice of reference rows.
        moments: Adam's state from the site's last round, or None to start anew.

    Raises:
        MethodError: fewer than two training records (BatchNorm cannot train), or a loss that is not finite.
    """
    count = part.features.shape[0]
    if count < 2:
        raise MethodError(
            f"{count} training record(s) are too few to train with BatchNorm",
            remedy="Give the site at least two training images, or leave it out",
        )
    with one_thread():
        adapter = method.new_adapter(part.features.shape[1], seed=0)
        load_state(adapter, start)
        set_statistics(adapter, part.features)
        optimiser = _optimiser(adapter, settings, moments)
        generator = torch.Generator().manual_seed(seed)
        adapter.train()
        total, seen = 0.0, 0
        for _ in range(settings.local_epochs):
            for rows in batches(count, settings.batch_size, generator):
                reference_rows = _reference_rows(shared, len(rows), generator)
                batch = TrainingPart(part.features[rows], part.labels[rows])
                loss = method.loss(adapter, batch, shared, reference_rows)
                if not bool(torch.isfinite(loss)):
                    raise MethodError("the training loss is not finite", remedy="Lower training.lr in the study")
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += float(loss.detach()) * len(rows)
                seen += len(rows)
        set_statistics(adapter, part.features)
    return LocalResult(state_of(adapter), _moments(adapter, optimiser), total / seen)


def predict_logits(method: Method, state: Mapping[str, Tensor], features: Tensor, shared: SharedInputs) -> Tensor:
    """Class logits of an adapter in evaluation mode: (n, D) float32 -> (n, K) float64."""
    with one_thread(), torch.no_grad():
        adapter = method.new_adapter(shared.text.shape[1], seed=0)
        load_state(adapter, state)
        adapter.eval()
        adapted = adapter.adapt(features)
        return shared.scale * adapted.double() @ shared.text.double().T


def zero_shot_logits(features: Tensor, shared: SharedInputs) -> Tensor:
    """Class logits of the frozen CLIP alone: (n, D) float32, unit-norm -> (n, K) float64."""
    with one_thread():
        return shared.scale * features.double() @ shared.text.double().T


def _reference_rows(shared: SharedInputs, count: int, generator: torch.Generator) -> Tensor:
    available = shared.reference.shape[0]
    if available == 0:
        return torch.zeros(0, dtype=torch.int64)
    return torch.randperm(available, generator=generator)[:count]


def _optimiser(
    adapter: AttentionAdapter, settings: TrainingSection, moments: Mapping[str, Tensor] | None
) -> torch.optim.Adam:
    optimiser = torch.optim.Adam(
        adapter.parameters(),
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    if moments:
        for name, parameter in adapter.named_parameters():
            optimiser.state[parameter] = {
                key: moments[f"{name}.{key}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return optimiser


def _moments(adapter: AttentionAdapter, optimiser: torch.optim.Adam) -> State:
    return {
        f"{name}.{key}": value.detach().clone()
        for name, parameter in adapter.named_parameters()
        for key, value in optimiser.state[parameter].items()
    }
