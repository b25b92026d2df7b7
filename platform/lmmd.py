"""Local maximum mean discrepancy: class-by-class alignment of two feature batches.

Source: Zhu et al. 2020, "Deep Subdomain Adaptation Network for Image Classification", equations 4-7, as used by
FACMIC (arXiv 2410.14707, equation 5).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = 5
FACTOR = 2.0


def gaussian_kernels(points: Tensor) -> Tensor:
    """Sum of five Gaussian kernels, bandwidths in powers of 2 around the mean pairwise squared distance.

    Args:
        points: (N, D), N >= 1; gradients flow through the distances, not through the bandwidth.

    Returns:
        (N, N), entries in [0, 5]. Identical points give 5 everywhere.
    """
    count = points.shape[0]
    # Moved to the middle of the points first: |a|^2 + |b|^2 - 2ab loses the distance of points that lie close together
    # far from the origin. By the first point before the mean, so that identical points become exactly 0.
    points = points - points[0].detach()
    points = points - points.mean(dim=0).detach()
    squares = (points * points).sum(dim=1)
    distances = (squares[:, None] + squares[None, :] - 2.0 * points @ points.T).clamp_min(0.0)
    pairs = max(count * count - count, 1)
    bandwidth = distances.detach().sum() / pairs / FACTOR ** (KERNELS // 2)
    bandwidth = bandwidth.clamp_min(torch.finfo(points.dtype).tiny ** 0.5)  # identical points: distance 0, kernel 1
    return torch.stack([torch.exp(-distances / (bandwidth * FACTOR**k)) for k in range(KERNELS)]).sum(dim=0)


def lmmd(source: Tensor, labels: Tensor, reference: Tensor, probabilities: Tensor) -> Tensor:
    """LMMD between a labelled batch and an unlabelled one with class probabilities.

    Args:
        source: (B, D) features.
        labels: (B,) int64 classes of the source.
        reference: (M, D) features; detach them to align the source only.
        probabilities: (M, K) class probabilities of the reference; treated as constants.

    Returns:
        Scalar: the discrepancy summed over the classes present in both, divided by their number; 0 when no class is.
        A class is present in the reference when it is some row's most probable one.
    """
    classes = probabilities.shape[1]
    probabilities = probabilities.detach()
    one_hot = F.one_hot(labels, classes).to(source.dtype)
    guessed = F.one_hot(probabilities.argmax(dim=1), classes).sum(dim=0) > 0
    common = (one_hot.sum(dim=0) > 0) & guessed
    number = int(common.sum())
    if number == 0:
        return source.sum() * 0.0
    weights_s = (one_hot / one_hot.sum(dim=0).clamp_min(1.0))[:, common]
    weights_r = (probabilities / probabilities.sum(dim=0).clamp_min(torch.finfo(source.dtype).tiny))[:, common]
    kernel = gaussian_kernels(torch.cat([source, reference]))
    cut = source.shape[0]
    within_s = torch.einsum("ic,ij,jc->", weights_s, kernel[:cut, :cut], weights_s)
    within_r = torch.einsum("ic,ij,jc->", weights_r, kernel[cut:, cut:], weights_r)
    across = torch.einsum("ic,ij,jc->", weights_s, kernel[:cut, cut:], weights_r)
    return (within_s + within_r - 2.0 * across) / number
