"""Noisy sums and counts of vectors by class: released once, a base for alignment that costs nothing afterwards.

A unit with k rows puts vector / k and 1 / k into each row's class. Its vectors have norm 1 at most, so what it adds to
the matrix of sums has norm 1 at most (triangle inequality), what it adds to the counts has norm 1 at most, and both
together sqrt 2: the joint sensitivity. The number of a unit's rows is thereby hidden too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import MechanismError
from .randomness import SecretStream
from .releases import Kind, Release

GRID = 2.0**-24
"""Sums and noise are multiples of it before they are added. On grids of their own, the last bits of a noisy number
would tell what was added to it (Mironov 2012, "On Significance of the Least Significant Bits")."""
FINER = 2.0**-22


@dataclass(frozen=True, eq=False)
class NoisyClassSums:
    """What was released.

    Attributes:
        sums: (K, D) float64, noisy sums of unit means by class.
        counts: (K,) float64, noisy numbers of units by class, possibly below 0; (0,) where only sums were released.
        noise_std: standard deviation of the noise on every number.
    """

    sums: Tensor
    counts: Tensor
    noise_std: float

    def release(self, kind: Kind) -> Release:
        """What the accountant is told."""
        return class_sums_release(kind, self.noise_std, counts=len(self.counts) > 0)


def class_sums_release(kind: Kind, noise_std: float, *, counts: bool = True) -> Release:
    """What the accountant is told of :func:`noisy_class_sums`, to be charged before they are computed.

    Args:
        kind: ``class-sums`` or ``fourier-sums``.
        noise_std: standard deviation of the noise on every number, > 0.
        counts: whether counts are released too: sensitivity sqrt 2 instead of 1.

    Raises:
        MechanismError: no positive, finite standard deviation.
    """
    return Release(kind, noise_std / (math.sqrt(2.0) if counts else 1.0), 1.0, 1)


def noisy_class_sums(
    vectors: Tensor,
    labels: Tensor,
    owners: Tensor,
    units: int,
    classes: int,
    *,
    noise_std: float,
    stream: SecretStream,
    counts: bool = True,
) -> NoisyClassSums:
    """Sum every unit's mean vector and its shares by class, with Gaussian noise on every number.

    Args:
        vectors: (n, D) floating point, n >= 0; a row longer than 1 is scaled down to 1, a row that is not finite gives
            nothing.
        labels: (n,) int64 in 0..classes-1.
        owners: (n,) int64 in 0..units-1, the unit of each row.
        units: number of units, public.
        classes: K >= 1, public.
        noise_std: standard deviation of the noise, > 0.
        stream: fresh noise.
        counts: whether to release counts; without them the sensitivity is 1.

    Raises:
        MechanismError: shapes, labels, owners or the standard deviation do not hold.
    """
    class_sums_release("class-sums", noise_std, counts=counts)  # refuses a standard deviation that is none
    n = len(vectors)
    if vectors.ndim != 2 or labels.shape != (n,) or owners.shape != (n,) or classes < 1:
        raise MechanismError(
            f"vectors {tuple(vectors.shape)}, labels {tuple(labels.shape)}, owners {tuple(owners.shape)}, "
            f"{classes} classes do not fit",
            where="class sums",
            remedy="Give one label and one owner to each row, and at least one class",
        )
    for what, values, count in (("labels", labels, classes), ("owners", owners, units)):
        if n and not (int(values.min()) >= 0 and int(values.max()) < count):
            raise MechanismError(
                f"{what} from {int(values.min())} to {int(values.max())}, of {count}",
                where="class sums",
                remedy="They count from 0",
            )
    shares = _shares(vectors, owners, units)
    sums = torch.zeros(classes, vectors.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, _short(vectors) * shares[:, None])
    numbers = torch.zeros(classes if counts else 0, dtype=torch.float64)
    if counts:
        numbers.index_add_(0, labels, shares)
    size = sums.numel() + numbers.numel()
    exact = torch.cat([sums.flatten(), numbers])
    # Rounding moves what a unit adds by half a step at each end of every coordinate; the noise grows with it.
    noise = _fine_normals(size, stream) * (noise_std * (1.0 + math.sqrt(size) * GRID))
    noisy = (torch.round(exact / GRID) + torch.round(noise / GRID)) * GRID
    return NoisyClassSums(noisy[: sums.numel()].view_as(sums), noisy[sums.numel() :], noise_std=noise_std)


def _fine_normals(count: int, stream: SecretStream) -> Tensor:
    """(count,) float64 normals with digits below those of float32, so that no step of the grid is passed over."""
    coarse, fine = (torch.from_numpy(stream.normals(np.empty(count, dtype=np.float32)).copy()) for _ in range(2))
    return coarse.double() + fine.double() * FINER


def _shares(vectors: Tensor, owners: Tensor, units: int) -> Tensor:
    """1 / (rows of the row's unit), (n,) float64; 0 for rows that are not finite."""
    sizes = torch.bincount(owners, minlength=units)
    return torch.isfinite(vectors).all(dim=1).double() / sizes[owners]


def _short(vectors: Tensor) -> Tensor:
    """The rows with norms of at most 1, float64; zeros for rows that are not finite."""
    finite = torch.isfinite(vectors).all(dim=1, keepdim=True)
    whole = torch.where(finite, vectors.double(), 0.0)
    # Four roundings of slack, so that a row that is scaled down never ends above 1.
    norms = torch.linalg.vector_norm(whole, dim=1, keepdim=True) * (1.0 + 4.0 * torch.finfo(torch.float64).eps)
    short: Tensor = whole / norms.clamp_min(1.0)
    return short
