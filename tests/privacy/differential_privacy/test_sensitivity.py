"""What one unit can change in a clipped sum: at most the clip for legal losses, more for every illegal one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from wardround.platform.adapters import class_logits
from wardround.platform.lmmd import lmmd
from wardround.privacy.differential_privacy.clipping import check_independent, clipped_sum
from wardround.privacy.errors import MechanismError

NAMES = ("tanh", "attention-5", "attention-8", "joint-5", "joint-8", "plain-layers")
BATCHES = ("random", "alike", "one class", "opposed", "huge and tiny")
CLIP = 0.5


def craft(case, batch: str) -> None:
    """Change a case's batch in place so that units add up, cancel, or dominate one another."""
    features, labels = case.features, case.labels
    match batch:
        case "alike":
            features[:] = features[0]
            labels[:] = labels[0]
        case "one class":
            labels[:] = 1
        case "opposed":
            features[1::2] = -features[0]
            features[::2] = features[0]
            labels[::2], labels[1::2] = 0, 1
        case "huge and tiny":
            features[0] *= 1e6
            features[1] *= 1e-6


def largest_change(cases, case, losses_of, trained, owners: Tensor, clip: float = CLIP) -> float:
    """Largest ||difference of the clipped sum|| / C when one unit's rows are taken out; nothing else changes."""

    def total(rows: Tensor):
        return clipped_sum(
            case.module, lambda: losses_of(rows), clip=clip, trained=trained, owners=owners[rows], units=units
        )

    units = int(owners.max()) + 1
    everyone = torch.arange(len(owners))
    whole = total(everyone)
    return max(cases.apart(whole, total(everyone[owners != unit])) for unit in range(units)) / clip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_no_unit_changes_more_than_the_clip(cases, name, batch, dtype):
    case = cases.build(name, 8, dtype=dtype, seed=4)
    craft(case, batch)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for owners in (torch.arange(8), torch.tensor([0, 1, 1, 2, 2, 2, 0, 3])):
        change = largest_change(cases, case, case.losses, case.trained, owners)
        assert 0.0 < change <= 1.0 + tolerance


# Illegal losses, pushed through the same closed form as if they were rows' own.


class HandMadeBatchNorm(nn.Module):
    """BatchNorm in training mode, written out, so that nothing recognises it by name."""

    def __init__(self, layer: nn.BatchNorm1d) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        centred = inputs - inputs.mean(dim=0)
        scale = (centred.square().mean(dim=0) + self.layer.eps).rsqrt()
        return centred * scale * self.layer.weight + self.layer.bias


class Detached(HandMadeBatchNorm):
    """The same with statistics that autograd takes for constants."""

    def forward(self, inputs: Tensor) -> Tensor:
        mean, variance = inputs.mean(dim=0).detach(), inputs.var(dim=0, unbiased=False).detach()
        return (inputs - mean) * (variance + self.layer.eps).rsqrt() * self.layer.weight + self.layer.bias


def class_prompt(case, rows: Tensor) -> Tensor:
    adapted = case.module.adapter.adapt(case.features[rows])
    return F.cross_entropy(class_logits(adapted, case.module.text, 20.0), case.labels[rows], reduction="none")


def in_batch_contrast(case, rows: Tensor) -> Tensor:
    """CLIP's symmetric contrast with the texts of the batch: a row and a column for each record."""
    text = case.module.text[case.labels[rows]]
    logits = class_logits(case.module.adapter.adapt(case.features[rows]), text, 20.0)
    targets = torch.arange(len(rows))
    return 0.5 * (
        F.cross_entropy(logits, targets, reduction="none") + F.cross_entropy(logits.T, targets, reduction="none")
    )


def discrepancy(case, adapted: Tensor, labels: Tensor) -> Tensor:
    """The LMMD of the batch against a reference set, in every row."""
    generator = torch.Generator().manual_seed(7)
    reference = F.normalize(torch.randn((20, case.features.shape[1]), generator=generator), dim=1).to(case.features)
    probabilities = F.one_hot(torch.arange(20) % 4, 4).to(reference)
    return lmmd(adapted, labels, reference, probabilities).expand(len(adapted))


def batch_lmmd(case, rows: Tensor) -> Tensor:
    return discrepancy(case, case.module.adapter.adapt(case.features[rows]), case.labels[rows])


def facmic(case, rows: Tensor) -> Tensor:
    """FACMIC as published: each record's cross-entropy and the batch's LMMD."""
    adapted, labels = case.module.adapter.adapt(case.features[rows]), case.labels[rows]
    logits = class_logits(adapted, case.module.text, 20.0)
    return F.cross_entropy(logits, labels, reduction="none") + discrepancy(case, adapted, labels)


def mean_of_the_batch(case, rows: Tensor) -> Tensor:
    """Cross-entropy divided by how many were drawn."""
    return class_prompt(case, rows) / len(rows)


LOSSES = {
    "in-batch contrast": in_batch_contrast,
    "batch LMMD": batch_lmmd,
    "cross-entropy and batch LMMD": facmic,
    "batch mean": mean_of_the_batch,
    "class prompt": class_prompt,
    "batch norm": class_prompt,
    "batch norm, detached": class_prompt,
}


def illegal(cases, kind: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, rows: int = 8):
    """A case, its losses and what is trained."""
    case = cases.build("attention-5", rows, dtype=dtype, seed=seed)
    if kind.startswith("batch norm"):
        norm = nn.BatchNorm1d(cases.width).to(dtype)
        case.module.adapter.norm = Detached(norm) if kind.endswith("detached") else HandMadeBatchNorm(norm)
    trained = [name for name, p in case.module.named_parameters() if p.requires_grad]
    return case, (lambda chosen: LOSSES[kind](case, chosen)), trained


# Measured here, as the largest of each row: 4.3, 2.6, 2.2, 1.6, 8.0, 2.6, 7.7 and 1.7 times the clip.
@pytest.mark.parametrize(
    ("kind", "batch", "rows", "at_least"),
    [
        ("in-batch contrast", "one class", 16, 3.0),
        ("in-batch contrast", "random", 8, 2.0),
        ("batch LMMD", "random", 8, 1.8),
        ("cross-entropy and batch LMMD", "random", 8, 1.3),
        ("batch norm", "alike", 8, 4.0),
        ("batch norm", "random", 8, 1.5),
        ("batch norm, detached", "alike", 8, 4.0),
        ("batch norm, detached", "random", 8, 1.3),
    ],
)
def test_an_illegal_loss_changes_more_than_the_clip(cases, kind, batch, rows, at_least):
    changes = []
    for seed in range(4):
        case, losses_of, trained = illegal(cases, kind, seed=seed, rows=rows)
        craft(case, batch)
        changes.append(largest_change(cases, case, losses_of, trained, torch.arange(rows), clip=0.05))
    print(kind, batch, [round(change, 2) for change in changes])
    assert max(changes) > at_least


def test_dividing_by_the_batch_changes_more_than_the_clip(cases):
    # One record against seven alike, and a clip that none of them reaches: taking it out lets the others grow.
    case, losses_of, trained = illegal(cases, "batch mean", seed=1)
    craft(case, "alike")
    changes = []
    for common in range(cases.classes):
        for other in range(cases.classes):
            case.labels[:], case.labels[0] = common, other
            rows = torch.stack([g.flatten(1).square().sum(dim=1) for g in case.row_gradients().values()]).sum(dim=0)
            clip = float(rows.sqrt().max()) / 7
            changes.append(largest_change(cases, case, losses_of, trained, torch.arange(8), clip=clip))
    print("batch mean", round(max(changes), 2))
    assert max(changes) > 1.4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("owners", [None, [0, 0, 1, 2, 2, 2, 3, 4]], ids=["records", "units"])
@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "class prompt"])
def test_illegal_losses_are_refused(cases, kind, owners, dtype):
    case, losses_of, trained = illegal(cases, kind, dtype=dtype)
    unit_of = None if owners is None else torch.tensor(owners)
    with pytest.raises(MechanismError, match="depends on who else is in the batch"):
        check_independent(case.module, losses_of, 8, trained=trained, owners=unit_of)


def test_torchs_batch_norm_is_refused_by_name(cases):
    case, losses_of, trained = illegal(cases, "class prompt")
    norm = nn.BatchNorm1d(cases.width).double()
    case.module.adapter.norm = norm
    for check in (
        lambda: check_independent(case.module, losses_of, 8, trained=trained),
        lambda: clipped_sum(case.module, lambda: losses_of(torch.arange(8)), clip=CLIP, trained=trained),
    ):
        with pytest.raises(MechanismError, match="belongs to a BatchNorm1d"):
            check()
    norm.requires_grad_(False)
    linear = [name for name in trained if not name.startswith("adapter.norm.")]
    with pytest.raises(MechanismError, match="passes through BatchNorm"):
        clipped_sum(case.module, lambda: losses_of(torch.arange(8)), clip=CLIP, trained=linear)
