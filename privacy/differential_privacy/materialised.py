"""Clipping of gradients that were made whole, one for each unit: for few parameters, where no closed form exists."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import MechanismError
from .clipping import SLACK, ClippedSum


def clip_materialised(gradients: Mapping[str, Tensor], clip: float) -> ClippedSum:
    """Clip each unit's gradient to a norm and add them up.

    Args:
        gradients: by parameter name, (U, *shape of the parameter), one gradient a unit; at least one name.
        clip: largest norm C of one unit's gradient over all names together; > 0.

    Returns:
        The sum. A unit whose gradient is not finite gives zeros and is counted as dropped.

    Raises:
        MechanismError: the clip is no positive number, or the numbers of units differ.
    """
    if not 0.0 < clip < float("inf"):
        raise MechanismError(f"a clip of {clip!r}", where="clipping", remedy="Give a finite norm above 0")
    units = {len(gradient) for gradient in gradients.values()}
    if len(units) != 1:
        raise MechanismError(f"gradients of {sorted(units)} units", where="clipping", remedy="Give one to each unit")
    with torch.no_grad():
        flat = [gradient.reshape(len(gradient), gradient.shape[1:].numel()) for gradient in gradients.values()]
        squares = torch.stack([rows.double().square().sum(dim=1) for rows in flat]).sum(dim=0)
        slack = SLACK * max(torch.finfo(rows.dtype).eps for rows in flat)
        norms = squares.sqrt() * (1.0 + slack)
        kept = torch.isfinite(norms)
        factors = clip / norms[kept].clamp_min(clip)
        sums = {
            name: (factors.to(rows.dtype) @ rows[kept]).view(gradients[name].shape[1:])
            for name, rows in zip(gradients, flat, strict=True)
        }
    return ClippedSum(sums, int((~kept).sum()))
