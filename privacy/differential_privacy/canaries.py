"""Canaries: records put into real training in order to be looked for in what every step released.

The accountant lets the adversary see the model before each step and the step's noisy sum; the auditor here sees exactly
that, so a bound that it proves and the accountant's epsilon are about the same thing. A canary that was drawn adds its
clipped gradient c to the sum. With spread s of everything else along c, a step speaks for the canary by

    log((1 - q) + q exp((2 <sum, c> - |c|^2) / (2 s^2))),

the log likelihood ratio of "in the training set, drawn with probability q" over "not in it". A canary's score is the
total over all steps; :mod:`.audit` turns scores into a bound.

Source: Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, its white-box audit of DP-SGD; the ratio is that of the
sampled Gaussian mechanism, Mironov, Talwar and Zhang 2019, arXiv 1908.10530.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import AuditError
from .audit import CANARIES, CONFIDENCE, GUESSES, AuditResult, audit, flip_coins
from .layers import Layer, layers_of, output_gradients, watched
from .randomness import SecretStream

RecordLosses = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(module, features (R, D), labels (R,)) -> (R,): the loss that training clips, one for each record."""
Observer = Callable[[int, nn.Module, Mapping[str, Tensor]], None]
"""(index of the step from 0, the module as it was BEFORE the step, the step's noisy SUM by parameter name, before it is
divided by anything). Called once a step."""
Train = Callable[[Tensor, Tensor, Observer], None]
"""(features (R, D), labels (R,), observer): the real training, on the included canaries and whatever else it has. The
slots of canaries that are left out must stay: sample rate and expected batch come from a number of units in which all
canaries count, or the number itself tells who was in."""

_TO_DEVIATION = 1.4826  # of the median absolute deviation, for a Gaussian


@dataclass(frozen=True)
class Canaries:
    """Records that carry no patient.

    Attributes:
        features: (m, D) float32, unit-norm rows. labels: (m,) int64.
    """

    features: Tensor
    labels: Tensor


def draw_canaries(width: int, classes: int, stream: SecretStream, count: int = CANARIES) -> Canaries:
    """Random directions with random labels; two of them have a cosine of about 1 / sqrt(width).

    They look like no real record, so their gradients are large and point away from the data's.

    Args:
        width: D >= 1. classes: K >= 1. count: m >= 1.
        stream: drawn from the operating system's randomness; with a key only in tests.

    Raises:
        AuditError: a number below 1.
    """
    if min(width, classes, count) < 1:
        raise AuditError(f"{count} canaries of width {width} in {classes} classes", remedy="Each must be at least 1.")
    values = stream.normals(np.empty(count * width, dtype=np.float32)).reshape(count, width)
    features = torch.nn.functional.normalize(torch.from_numpy(values), dim=1)
    # 64 bits modulo a few classes: the bias is below 1e-17.
    labels = torch.from_numpy((stream.words(count) % np.uint64(classes)).astype(np.int64))
    return Canaries(features, labels)


def inner_products(
    module: nn.Module,
    losses: Callable[[], Tensor],
    noisy: Mapping[str, Tensor],
    *,
    clip: float,
    trained: Collection[str],
) -> tuple[Tensor, Tensor]:
    """<noisy, c> and |c| for the clipped gradient c of each row's loss, without making any c.

    For a Linear layer the product with the gradient g x' is g' (noisy x), for a LayerNorm it is (g * xhat) . noisy, and
    g . noisy for a bias: two matrix products a layer for all rows together.

    Args:
        module, losses, clip, trained: as for :func:`.clipping.clipped_sum`, every row a unit of its own.
        noisy: by parameter name, a tensor of the parameter's shape.

    Returns:
        Products and norms, each (R,), float64. A row whose gradient is not finite gives zeros, as it does in training.

    Raises:
        MechanismError: what the clipped sum refuses.
        AuditError: the clip is no positive number, or ``noisy`` lacks a trained parameter.
    """
    if not (math.isfinite(clip) and clip > 0):
        raise AuditError(f"a clip of {clip}", remedy="It must be a finite number above 0.")
    missing = sorted(set(trained) - set(noisy))
    if missing:
        raise AuditError(f"a step without the noisy sum of {', '.join(missing)}")
    layers = layers_of(module, trained)
    with watched(layers), torch.enable_grad():
        found = losses()
    gradients = output_gradients(found, layers)
    with torch.no_grad():
        squares, products = torch.zeros(2, len(found), dtype=torch.float64, device=found.device)
        for layer, gradient in zip(layers, gradients, strict=True):
            squares += layer.row_squares(gradient)
            products += _products(layer, gradient, noisy)
        norms = squares.sqrt()
        factors = torch.clamp(clip / norms, max=1.0)
        usable = norms.isfinite() & products.isfinite()
        zero = torch.zeros((), dtype=torch.float64, device=found.device)
        # A gradient of zero has a factor of 1, and a product and norm of 0 after it.
        return torch.where(usable, products * factors, zero), torch.where(usable, norms * factors, zero)


class Scorer:
    """An :data:`Observer` that adds up how much each step speaks for each canary.

    The spread of everything but the canary is measured, in each step, on the canaries themselves: it holds the noise,
    the other canaries and the data, and needs no word of the trainer about its noise. What data of a class add along
    all canaries of that class is taken away first, by the median. Canaries that are in and out are treated alike.

    Few draws hide a broken mechanism: a canary that is never drawn leaves no trace, so sample rate times steps should
    be 5 or more, and where it is, many steps with a small rate show more than few with a large one.

    Args:
        canaries: all of them, in and out.
        losses: as in training.
        clip: as in training; > 0.
        trained: names of the trained parameters.
        sample_rate: q of training, in (0, 1].

    Attributes:
        scores: (m,), float64; the totals so far.
        steps: how many were seen.

    Raises:
        AuditError: a sample rate outside its range.
    """

    def __init__(
        self, canaries: Canaries, losses: RecordLosses, *, clip: float, trained: Collection[str], sample_rate: float
    ) -> None:
        if not 0 < sample_rate <= 1:
            raise AuditError(f"a sample rate of {sample_rate}", remedy="It must be above 0 and at most 1.")
        self._canaries = canaries
        self._losses = losses
        self._clip = clip
        self._trained = tuple(trained)
        self._sample_rate = sample_rate
        labels = canaries.labels.numpy()
        self._groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.scores: NDArray[np.float64] = np.zeros(len(canaries.labels))
        self.steps = 0

    def __call__(self, step: int, module: nn.Module, noisy: Mapping[str, Tensor]) -> None:
        """See one step.

        Raises:
            AuditError: a step is missing, or its noisy sum lacks a trained parameter.
            MechanismError: module and losses are not of the form that is clipped.
        """
        if step != self.steps:
            raise AuditError(f"step {step} where step {self.steps} was due", remedy="Show every step to the observer.")
        products, norms = inner_products(
            module,
            lambda: self._losses(module, self._canaries.features, self._canaries.labels),
            noisy,
            clip=self._clip,
            trained=self._trained,
        )
        self.scores += evidence(
            products.cpu().numpy(), norms.cpu().numpy(), groups=self._groups, sample_rate=self._sample_rate
        )
        self.steps += 1


def evidence(
    products: NDArray[np.float64],
    norms: NDArray[np.float64],
    *,
    groups: list[NDArray[np.int64]],
    sample_rate: float,
) -> NDArray[np.float64]:
    """What one step says for each canary: the log likelihood ratio of the module's docstring.

    Args:
        products: (m,), <sum, c>. norms: (m,), |c|; where it is 0 the step says nothing.
        groups: positions of canaries that share a centre.
        sample_rate: q in (0, 1].

    Returns:
        (m,), float64, finite.
    """
    usable = norms > 0
    along = np.divide(products, norms, out=np.zeros_like(products), where=usable)
    for group in groups:
        members = group[usable[group]]
        if len(members):
            along[members] -= np.median(along[members])
    spread = _TO_DEVIATION * float(np.median(np.abs(along[usable]))) if usable.any() else 0.0
    if spread == 0:  # nothing was drawn and nothing added
        return np.zeros_like(products)
    exponent = (2 * along - norms) * norms / (2 * spread**2)
    out = math.log1p(-sample_rate) if sample_rate < 1 else -math.inf
    ratio: NDArray[np.float64] = np.logaddexp(out, math.log(sample_rate) + exponent)
    return np.where(usable, ratio, 0.0)


def audit_training(
    train: Train,
    canaries: Canaries,
    losses: RecordLosses,
    *,
    clip: float,
    trained: Collection[str],
    sample_rate: float,
    delta: float,
    guesses: int = GUESSES,
    confidence: float = CONFIDENCE,
    coins: NDArray[np.bool_] | None = None,
) -> AuditResult:
    """Train once on the canaries whose coin says so, and prove what can be proved.

    Args:
        train: the real training; see :data:`Train`.
        canaries: see :func:`draw_canaries`.
        losses, clip, trained, sample_rate: see :class:`Scorer`.
        delta, guesses, confidence: see :func:`.audit.audit`.
        coins: (m,), bool, drawn by the caller with :func:`.audit.flip_coins` where it needs them too; None draws them
            here. Coins that are not fair void the bound.

    Raises:
        AuditError: training showed no step, or arguments that do not fit.
        MechanismError: module and losses are not of the form that is clipped.
    """
    included = flip_coins(len(canaries.labels)) if coins is None else coins
    if included.shape != (len(canaries.labels),) or included.dtype != np.bool_:
        raise AuditError(f"coins of shape {included.shape} for {len(canaries.labels)} canaries")
    scorer = Scorer(canaries, losses, clip=clip, trained=trained, sample_rate=sample_rate)
    rows = torch.from_numpy(np.flatnonzero(included))
    train(canaries.features[rows], canaries.labels[rows], scorer)
    if scorer.steps == 0:
        raise AuditError("training showed no step to the observer")
    return audit(scorer.scores, included, delta=delta, guesses=guesses, confidence=confidence)


def _products(layer: Layer, gradients: Tensor, noisy: Mapping[str, Tensor]) -> Tensor:
    """<noisy, gradient> of each row, over one layer's parameters: (R, O) output gradients -> (R,) float64."""
    total = torch.zeros(len(gradients), dtype=torch.float64, device=gradients.device)
    if layer.weight is not None:
        weight = noisy[layer.weight].to(gradients.dtype)
        along = layer.inputs * weight if isinstance(layer.module, nn.LayerNorm) else layer.inputs @ weight.T
        total += (gradients * along).sum(dim=1)
    if layer.bias is not None:
        total += gradients @ noisy[layer.bias].to(gradients.dtype)
    return total
