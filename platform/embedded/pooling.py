"""A whitened projection, fitted on pooled statistics and written into an image tower."""

from __future__ import annotations

import torch
from torch import Tensor

from .image_tower import ImageTower


def whitening(rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Projection onto the first principal directions, each scaled by 1 / sqrt(variance + mean variance).

    The mean variance in the root is a ridge: strong directions are evened out, and those far weaker than the average,
    mostly noise, stay small.

    Args:
        rows: float32 (n, D), n at least 2.
        width: directions to keep, at most D.

    Returns:
        Matrix float32 (width, D) and offset float32 (width,): ``rows @ matrix.T + offset`` has mean 0.
    """
    centre = rows.double().mean(0)
    centred = rows.double() - centre
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(rows))
    strongest = torch.arange(len(variance) - 1, len(variance) - 1 - width, -1)
    scale = 1.0 / torch.sqrt(variance[strongest].clamp(min=0.0) + variance.mean())
    basis = directions[:, strongest].T
    # An eigenvector's sign is arbitrary: make its largest entry positive, so that every machine agrees.
    largest = basis.abs().argmax(1, keepdim=True)
    matrix = basis * basis.gather(1, largest).sign() * scale[:, None]
    return matrix.float(), (-matrix @ centre).float()


def spread(tower: ImageTower, described: Tensor) -> None:
    """Replace a tower's projection by a whitened one, in place.

    Args:
        tower: of P pooled statistics and output width W, at most P.
        described: float32 (n, P), what ``tower.describe`` gave in eval mode for the pictures to fit on.
    """
    matrix, offset = whitening(described, tower.project.out_features)
    with torch.no_grad():
        # A common factor does not change unit-norm features; this one keeps the output near length 1 in half precision.
        factor = tower.project.out_features**-0.5
        tower.project.weight.copy_(matrix * factor)
        tower.project.bias.copy_(offset * factor)
