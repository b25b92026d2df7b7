"""What differential privacy costs an epoch of training: ours beside plain Adam and beside Opacus, on the same data.

All of them train FACMIC's adapter with LayerNorm by class-prompt cross-entropy, on one thread, with the same average
batch. Features are drawn: what they show makes no difference to the time. Opacus draws its noise from torch's
generator, which is quick and not cryptographic; ours comes from AES.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..medical_datasets.sets.brain_mri import BRAIN_MRI
from ..privacy.differential_privacy.randomness import SecretStream
from ..privacy.differential_privacy.units import Units
from .adapters import State, class_logits
from .config import Study
from .methods.adapted_clip import clip_of
from .methods.method import Method, SharedInputs, TrainingPart
from .methods.table import method_of
from .private_plan import PrivatePlan
from .private_training import PrivateWork, private_form, train_privately
from .study_file import parse_study
from .terms import start_state
from .training import module_from, one_thread, train_locally

RECORDS, WIDTH, BATCH, NOISE = 2048, 512, 64, 1.0  # whole batches: the same number of rows each way
MEMORY = Path("/proc/self/status")
RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class DpBench:
    """Medians of an epoch; milliseconds, ratios over ours or over plain training.

    Attributes:
        plain_ms: Adam without clipping and noise.
        dp_ms: closed-form clipping, cryptographic noise and Poisson sampling.
        ratio: dp over plain.
        opacus_ghost_ms: Opacus' ghost clipping. opacus_ghost_ratio: that over ours; above 1, ours is faster.
        opacus_hooks_ratio: Opacus' gradients of each record, over ours.
        peak_mb: memory that a private epoch needed beyond what was in use; MiB, None where the system does not say.
    """

    plain_ms: float
    dp_ms: float
    ratio: float
    opacus_ghost_ms: float
    opacus_ghost_ratio: float
    opacus_hooks_ratio: float
    peak_mb: float | None

    def as_dict(self) -> dict[str, float | None]:
        """The figures under the names that ``--json`` prints."""
        return asdict(self)


def measure(*, records: int = RECORDS, repeats: int = 7, seed: int = 0) -> DpBench:
    """Train an epoch each way, in turn, ``repeats`` times after one to warm up.

    Args:
        records: training records, each a unit; at least 64.
        repeats: at least 1. seed: of the features.
    """
    study = _study()
    method, (part, shared) = method_of(study), _drawn(records, seed)
    start, work = start_state(study, method, shared), _work(study, method, len(part.labels))
    ways: dict[str, Callable[[], None]] = {
        "plain": lambda: _plain(study, method, start, part, shared),
        "dp": lambda: _private(work, study, method, start, part, shared),
        "ghost": lambda: _opacus(study, method, start, part, shared, ghost=True),
        "hooks": lambda: _opacus(study, method, start, part, shared, ghost=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peak: float | None = None
    for turn in range(repeats + 1):
        for name, run in ways.items():
            if name == "hooks" and turn > 2:  # it takes as long as all the others together
                continue
            before = _peak_memory(reset=True) if name == "dp" else None
            began = time.perf_counter()
            run()
            spent = time.perf_counter() - began
            if name == "dp" and before is not None:
                after = _peak_memory(reset=False)
                peak = None if after is None else max(peak or 0.0, after - before)
            if turn:
                seconds[name].append(spent)
    plain, ours, ghost, hooks = (1e3 * statistics.median(seconds[name]) for name in ways)
    return DpBench(plain, ours, ours / plain, ghost, ghost / ours, hooks / ours, peak)


def _study() -> Study:
    values = {
        "name": "bench-dp",
        "data": {"dataset": BRAIN_MRI.key, "path": "none"},
        "training": {"batch_size": BATCH},
        "facmic": {"normalisation": "layer", "adaptation_weight": 0.0},
        "privacy": {"epsilon": 8.0, "unit": "record"},
    }
    return parse_study(values, where=Path("bench.toml"))


def _drawn(records: int, seed: int) -> tuple[TrainingPart, SharedInputs]:
    draw = torch.Generator().manual_seed(seed)
    classes = len(BRAIN_MRI.classes)

    def unit(count: int) -> Tensor:
        return nn.functional.normalize(torch.randn((count, WIDTH), generator=draw), dim=1)

    return TrainingPart(unit(records), torch.arange(records) % classes), SharedInputs(unit(classes), 100.0, unit(0))


def _plain(study: Study, method: Method, start: State, part: TrainingPart, shared: SharedInputs) -> None:
    train_locally(method, start, part, shared, study.training, seed=1)


def _work(study: Study, method: Method, count: int) -> PrivateWork:
    plan = PrivatePlan(count, BATCH / count, float(BATCH), math.ceil(count / BATCH), 1, NOISE, ())
    return PrivateWork(private_form(method, study), Units.records(count), plan, study.privacy.clip, 1)


def _private(
    work: PrivateWork, study: Study, method: Method, start: State, part: TrainingPart, shared: SharedInputs
) -> None:
    train_privately(work, method, start, part, shared, study, seed=1, stream=SecretStream())


class _RowLoss(nn.Module):
    """Class-prompt cross-entropy with the reduction that Opacus asks for."""

    def __init__(self, text: Tensor, scale: float) -> None:
        super().__init__()
        self.text, self.scale, self.reduction = text, scale, "mean"

    def forward(self, adapted: Tensor, labels: Tensor) -> Tensor:
        logits = class_logits(adapted, self.text, self.scale)
        return nn.functional.cross_entropy(logits, labels, reduction=self.reduction)


def _opacus(
    study: Study, method: Method, start: State, part: TrainingPart, shared: SharedInputs, *, ghost: bool
) -> None:
    """The same epoch by Opacus, with batches of the average size."""
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its hooks warn of what does not concern us
        from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

        module = clip_of(module_from(method, start, {}, shared)).train()
        settings, loss = study.training, _RowLoss(shared.text, shared.scale)
        wrapped = (
            GradSampleModuleFastGradientClipping(module, max_grad_norm=study.privacy.clip, use_ghost_clipping=True)
            if ghost
            else GradSampleModule(module)
        )
        adam = torch.optim.Adam(
            [p for p in module.parameters() if p.requires_grad],
            lr=settings.lr,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        kind = DPOptimizerFastGradientClipping if ghost else DPOptimizer
        optimiser = kind(adam, noise_multiplier=NOISE, max_grad_norm=study.privacy.clip, expected_batch_size=BATCH)
        criterion = DPLossFastGradientClipping(wrapped, optimiser, loss, loss.reduction) if ghost else loss
        order = torch.randperm(len(part.labels))
        for rows in torch.split(order, BATCH):
            optimiser.zero_grad()
            value = criterion(wrapped(part.inputs[rows]), part.labels[rows])
            value.backward()
            optimiser.step()


def _peak_memory(*, reset: bool) -> float | None:
    """MiB: what is in use after forgetting the peak, or the peak since; None off Linux."""
    try:
        if reset:
            RESET_PEAK.write_text("5")
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line)
        return int(lines["VmRSS" if reset else "VmHWM"].split()[0]) / 1024
    except (OSError, KeyError, ValueError):
        return None
