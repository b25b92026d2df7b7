"""Losses of the embedded model's training; all take float32 features and give a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrastive(images: Tensor, texts: Tensor, scale: Tensor, positive: Tensor) -> Tensor:
    """Symmetric contrastive loss with several positives per row (UniCL, Yang et al. 2022, equation 3).

    Args:
        images: float32 (n, D); texts: float32 (m, D); neither need be normalised.
        scale: scalar, the inverse temperature.
        positive: float32 (n, m), 1 where the text is true of the image, else 0; no row or column is all 0.
    """
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    rows = positive / positive.sum(1, keepdim=True)
    columns = (positive / positive.sum(0, keepdim=True)).T
    return 0.5 * (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, columns))


def crowding(images: Tensor) -> Tensor:
    """How few directions the features use: log(|C|^2 / tr(C)^2), C their covariance on the unit sphere.

    The exponential of its negative is the participation ratio of the spectrum, an effective number of dimensions:
    0 means one direction, -log(min(n - 1, D)) a flat spectrum. Computed from the n x n Gram matrix, which has the same
    non-zero spectrum as C.

    Args:
        images: float32 (n, D), n at least 2; need not be normalised.
    """
    centred = F.normalize(images, dim=1)
    centred = centred - centred.mean(0, keepdim=True)
    gram = centred @ centred.T
    return torch.log(gram.square().sum() / gram.diagonal().sum().square())


def agreement(views: Tensor, kinds: Tensor, temperature: float) -> Tensor:
    """How well the two views of a picture find each other (NT-Xent of SimCLR, Chen et al. 2020, equation 1).

    Only pictures of the same kind are set against each other: telling a brain from skin is too easy to teach anything.

    Args:
        views: float32 (2 n, D); rows k and n + k are two views of picture k; need not be normalised.
        kinds: int64 (n,), the kind of each picture; each kind occurs at least twice.
        temperature: above 0; smaller values look harder at the nearest wrong pictures.
    """
    count = len(kinds)
    unit = F.normalize(views, dim=1)
    logits = unit @ unit.T / temperature
    twice = kinds.repeat(2)
    barred = (twice[:, None] != twice[None, :]) | torch.eye(2 * count, dtype=torch.bool, device=views.device)
    partner = torch.arange(2 * count, device=views.device).roll(count)
    return F.cross_entropy(logits.masked_fill(barred, float("-inf")), partner)
