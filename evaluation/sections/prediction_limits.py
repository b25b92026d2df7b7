"""Where the figure of a new sample may fall by chance, when nothing has changed: limits of a monitoring plan.

An interval of a report bounds the true figure. A new sample varies on top of that, so that a new figure lies outside
such an interval far more often than in 1 of 20 samples. Prediction limits allow for both: two samples of one share p
differ by more than 1.96 standard errors sqrt(p (1 - p) (1 / n + 1 / m)) in about 1 of 20.

References:
    Krishnamoorthy and Peng (2011), J. Stat. Plan. Inference 141:1709-1718 (closed form from the joint sample). Zou and
    Donner (2008), Statistics in Medicine 27:1693-1702 (limits of a mean from limits of its parts).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..figures.figure_set import Estimate
from ..intervals import Z_95
from ..per_class import Rate
from .words import no_spread


def effective_size(share: Rate) -> float | None:
    """How many independent images a proportion's Wilson bounds stand for; None without bounds.

    Wilson's bounds L solve (p - L)^2 = z^2 L (1 - L) / n, so n follows from the bound that is not 0 or 1.
    """
    if share.value is None or share.low is None or share.high is None:
        return None
    bound = share.low if share.value > 0.5 else share.high
    return Z_95**2 * bound * (1.0 - bound) / (share.value - bound) ** 2


def new_share_limits(share: float, n: float, m: float) -> tuple[float, float]:
    """95 % prediction limits of a share among ``m`` new images, from ``share`` among ``n``; each within 0..1.

    The new shares q with |q - p| <= z sqrt(r (1 - r) (1 / n + 1 / m)), r the share in both samples together. Near the
    middle this is p +- z sqrt(p (1 - p) (1 / n + 1 / m)); at 0 and 1 it does not shrink to a point, as that does.

    Args:
        share: in [0, 1]. n, m: above 0, images that count as independent.

    >>> [round(limit, 3) for limit in new_share_limits(0.5, 400, 100)]
    [0.394, 0.606]
    """
    spread, weight = Z_95**2 * (1.0 / n + 1.0 / m), m / (n + m)
    scale = 1.0 + spread * weight**2
    middle = spread * weight * (1.0 - 2.0 * share)
    half = math.sqrt(middle**2 + 4.0 * scale * spread * share * (1.0 - share))
    return (
        min(share, max(0.0, share + (middle - half) / (2.0 * scale))),
        max(share, min(1.0, share + (middle + half) / (2.0 * scale))),
    )


def same_size_limits(share: Rate) -> tuple[float, float] | None:
    """Prediction limits of a new sample of as many images, with as many images a group; None without an interval."""
    size = effective_size(share)
    return None if size is None or share.value is None else new_share_limits(share.value, size, size)


def same_size_floor(found: Estimate, classes: Sequence[Rate]) -> float | None:
    """Lower 95 % prediction limit of a balanced accuracy in a new sample of as many images of each class.

    The variances of this sample and of a new one are the same, so the distance to the lower end of the interval grows
    by sqrt(2). Where the interval has no width, from the limits of the classes' sensitivities: value minus
    sqrt(sum of squared distances) / K.

    Args:
        found: balanced accuracy with its interval. classes: sensitivity of each class.
    """
    if found.value is None or found.low is None:
        return None
    if not no_spread(found.low, found.high):
        return max(0.0, found.value - math.sqrt(2.0) * (found.value - found.low))
    limits = [(share.value, same_size_limits(share)) for share in classes if share.value is not None]
    squares = sum((value - low_high[0]) ** 2 for value, low_high in limits if low_high is not None)
    return max(0.0, found.value - math.sqrt(squares) / len(limits)) if limits else None
