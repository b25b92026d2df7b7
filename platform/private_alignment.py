"""What a site learns of its own classes through noise, and makes of it: proxies, and the gap in Fourier features.

Everything here is computed from noisy sums and public rows. It is post-processing, and stays at the site all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..privacy.differential_privacy.class_sums import NoisyClassSums
from .adapters import source_statistics_only
from .methods.adapted_clip import clip_of
from .methods.method import SharedInputs, TrainingPart
from .methods.private import Alignment, reference_of
from .methods.private_records import draw_frequencies, fourier_features
from .training import derive_seed

DIRECTIONS = 32
"""Principal directions of the reference set in which a noisy mean is believed: elsewhere it is nearly all noise."""
ABOVE_NOISE = 2.0  # standard deviations that a class's noisy count must have
FEWEST_RESIDUALS = 8
BORROWED = 64


@dataclass(frozen=True, slots=True)
class Known:
    """Noisy class sums with the public part they are read against.

    Attributes:
        sums: (K, D) and counts (K,) float64, noisy. units: of the site, public.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    noise_std: float
    units: int

    @classmethod
    def of(cls, noisy: NoisyClassSums, units: int) -> Known:
        """The same, with the public number of units."""
        return cls(noisy.sums.numpy(), noisy.counts.numpy(), noisy.noise_std, units)

    @property
    def believed(self) -> NDArray[np.bool_]:
        """(K,) classes whose noisy count is above the noise."""
        return np.asarray(self.counts >= max(ABOVE_NOISE * self.noise_std, 1.0))

    def shares(self) -> Tensor:
        """(K,) float32 noisy share of each class in the site's units, at most 1; 0 where it is not believed."""
        share = np.clip(self.counts / self.units, 0.0, 1.0)
        return torch.from_numpy(np.where(self.believed, share, 0.0).astype(np.float32))


def align(known: Known, shared: SharedInputs, *, directions: int = DIRECTIONS) -> Alignment:
    """Proxies of a site's images: the reference set's residuals, put on the site's noisy class means.

    The difference between noisy mean and reference mean is kept in the reference set's first principal directions only,
    where the noise is small against it. Each believed class takes its own pseudo-labelled reference rows' residuals;
    with fewer than 8 of these, residuals of all classes.

    Args:
        known: noisy class sums.
        shared: (M, D) reference features, M >= 2, their labels where the study grants them, prompts and scale.
        directions: how many principal directions.

    Returns:
        Proxies in class order; none where no class is believed.
    """
    reference = shared.reference.double().numpy()
    classes = known.counts.shape[0]
    labels = _labels(shared)
    means = np.stack([reference[labels == c].mean(axis=0) if (labels == c).any() else reference.mean(axis=0)
                      for c in range(classes)])  # fmt: skip
    residuals = reference - means[labels]
    basis = _basis(reference, directions)
    proxies: list[NDArray[np.float64]] = []
    owned: list[NDArray[np.int64]] = []
    for c in np.flatnonzero(known.believed):
        shift = (known.sums[c] / known.counts[c] - means[c]) @ basis.T @ basis
        own = residuals[labels == c]
        if len(own) < FEWEST_RESIDUALS:
            own = residuals[np.linspace(0, len(residuals) - 1, min(BORROWED, len(residuals))).astype(np.int64)]
        moved = means[c] + shift + own
        proxies.append(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12))
        owned.append(np.full(len(own), c, dtype=np.int64))
    width = reference.shape[1]
    rows = np.concatenate(proxies) if proxies else np.zeros((0, width))
    owners = np.concatenate(owned) if owned else np.zeros(0, dtype=np.int64)
    return Alignment(torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(owners), known.shares())


def frequencies_of(shared: SharedInputs, count: int, seed: int) -> Tensor:
    """The study's random Fourier frequencies, (F, D) float32: public, and the same at every site."""
    generator = torch.Generator().manual_seed(derive_seed("fourier", seed))
    return draw_frequencies(shared.reference, count, generator)


def fourier_vectors(module: nn.Module, part: TrainingPart, frequencies: Tensor) -> Tensor:
    """Fourier features of a part's adapted images: (n, 2F) float32, rows of norm 1."""
    with source_statistics_only(module), torch.no_grad():
        return fourier_features(clip_of(module).adapter.adapt(part.inputs), frequencies)


def with_gap(
    alignment: Alignment,
    known: Known,
    sums: NDArray[np.float64],
    module: nn.Module,
    shared: SharedInputs,
    frequencies: Tensor,
    *,
    through_adapter: bool,
) -> Alignment:
    """An alignment with the gap between the site's noisy mean Fourier features and the reference set's, by class.

    Args:
        alignment: of the class sums.
        known: noisy counts. sums: (K, 2F) float64, noisy sums of Fourier features under ``module``.
        module: the adapter that the sums were made with.
        shared: reference set. frequencies: (F, D).
        through_adapter: compare with adapted reference features, or with frozen ones.
    """
    pair = reference_of(clip_of(module), shared, torch.arange(len(shared.reference)))
    if pair is None:
        return alignment
    features, probabilities = pair
    phi = fourier_features(features if through_adapter else shared.reference, frequencies).double().numpy()
    weights = probabilities.double().numpy()
    present = np.bincount(weights.argmax(axis=1), minlength=weights.shape[1]) > 0
    used = known.believed & present
    target = weights.T @ phi / np.maximum(weights.sum(axis=0), 1e-12)[:, None]
    own = sums / np.where(used, known.counts, 1.0)[:, None]
    used &= np.isfinite(own - target).all(axis=1)  # an adapter that gives no numbers aligns nothing
    gap = np.where(used[:, None], own - target, 0.0).astype(np.float32)
    return replace(alignment, gap=torch.from_numpy(gap), frequencies=frequencies)


def _labels(shared: SharedInputs) -> NDArray[np.int64]:
    """True labels of the reference set where granted, else those that the frozen CLIP gives them."""
    if shared.reference_labels is not None:
        return shared.reference_labels.numpy()
    return np.asarray((shared.reference.double() @ shared.text.double().T).argmax(dim=1).numpy())


def _basis(rows: NDArray[np.float64], directions: int) -> NDArray[np.float64]:
    """(r, D) orthonormal principal directions of public rows."""
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(axes[:, ::-1][:, : min(directions, len(rows))].T)
