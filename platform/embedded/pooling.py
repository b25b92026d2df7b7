"""Mean pooling with a whitened projection, written into the attention pooling of an image tower."""

from __future__ import annotations

import torch
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor


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


def spread(pool: AttentionPool2d, pooled: Tensor) -> None:
    """Turn an attention pooling into mean pooling with a whitened projection, in place.

    With queries and keys 0 every position gets the same weight; the pooling's extra token is the mean itself and does
    not change the mean. Values pass through unchanged.

    Args:
        pool: of embedding width D and output width W, at most D.
        pooled: float32 (n, D), mean-pooled feature maps that the projection is fitted on.
    """
    matrix, offset = whitening(pooled, pool.c_proj.out_features)
    with torch.no_grad():
        pool.positional_embedding.zero_()
        for layer in (pool.q_proj, pool.k_proj, pool.v_proj):
            layer.weight.zero_()
            layer.bias.zero_()
        pool.v_proj.weight.copy_(torch.eye(pool.v_proj.in_features))
        # A common factor does not change unit-norm features; this one keeps the output near length 1 in half precision.
        factor = pool.c_proj.out_features**-0.5
        pool.c_proj.weight.copy_(matrix * factor)
        pool.c_proj.bias.copy_(offset * factor)
