"""Vector scaling: a weight and a bias per class, drawn towards temperature scaling where there are few images.

Guo et al. (2017), ICML, section 4.2, with a diagonal matrix: q = softmax(w * z + b). Two things are added. Logits are
centred per image first, because softmax knows nothing of what all logits of an image share, but w * z would. And a
ridge of 4/2 (sum_k (v_k - mean v)^2 + sum_k b_k^2) is added to the summed negative log likelihood, with v = s w and s
the root mean square of the centred logits: a normal prior of deviation 1/2, in logits, on what makes it more than a
temperature. It weighs as much at 10 images as at 10,000, so it fades as images come in. In simulations of 30 to 300
images, 2 to 4 were best where the mix of classes had shifted, and larger was better where it had not. The objective is
convex in (w, b).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from ..arrays import FloatArray, check_predictions, softmax
from . import temperature
from .checks import exact_keys, numbers, refuse

RIDGE = 4.0
FEWEST_PER_CLASS = 5
LIGHTEST, HEAVIEST = 1.0 / temperature.HIGHEST, 1.0 / temperature.LOWEST
"""Range of a weight: that of 1 / T. A weight of 0 or below would turn a class's evidence round."""


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """q = softmax(weights * (z - mean z) + biases).

    Attributes:
        weights: K numbers in [0.02, 20]. biases: K numbers; only their differences matter.
    """

    weights: tuple[float, ...]
    biases: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers(self.weights, "weights", LIGHTEST, HEAVIEST)
        numbers(self.biases, "biases", -1e6, 1e6)
        if len(self.weights) < 2 or len(self.weights) != len(self.biases):
            raise refuse(f"has {len(self.weights)} weights and {len(self.biases)} biases")

    @property
    def classes(self) -> int:
        """K."""
        return len(self.weights)

    def apply(self, logits: FloatArray) -> FloatArray:
        """Calibrated logits, float64 (n, K)."""
        centred = logits - logits.mean(axis=1, keepdims=True)
        result: FloatArray = centred * np.array(self.weights) + np.array(self.biases)
        return result

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"weights": list(self.weights), "biases": list(self.biases)}

    @classmethod
    def from_dict(cls, content: Any) -> VectorScaling:
        """Out of :meth:`to_dict`; anything else is an :class:`~.checks.InvalidCalibratorError`."""
        values: Mapping[str, Any] = exact_keys(content, ("weights", "biases"), "parameters")
        return cls(numbers(values["weights"], "weights"), numbers(values["biases"], "biases"))


def fit(
    logits: ArrayLike, labels: ArrayLike, *, ridge: float = RIDGE, fewest: int = FEWEST_PER_CLASS
) -> VectorScaling | None:
    """The weights and biases of smallest penalised negative log likelihood, or None where they are not known.

    Args:
        logits: (n, K) validation logits. labels: (n,) integers.
        ridge: factor of the ridge. Large: temperature scaling. 0: Guo's own, without a prior.
        fewest: images that every class needs.

    Returns:
        None where :func:`.temperature.fit` is None, and with fewer than ``fewest`` images of a class: what a site has
        hardly seen in validation would otherwise be taught never to occur.
    """
    z, y = check_predictions(logits, labels)
    k = z.shape[1]
    if np.bincount(y, minlength=k).min() < fewest:
        return None
    start = temperature.fit(z, y)
    if start is None:
        return None
    centred = z - z.mean(axis=1, keepdims=True)
    scale = float(np.sqrt(np.mean(centred**2)))
    # In units of the scale, weights and biases are of one size, which L-BFGS needs to converge in few steps.
    x, n = centred / scale, len(y)
    rows = np.arange(n)

    def objective(theta: FloatArray) -> tuple[float, FloatArray]:
        v, b = theta[:k], theta[k:]
        q = softmax(x * v + b)
        uneven = v - v.mean()
        loss = float(-np.log(np.maximum(q[rows, y], 1e-300)).sum()) + 0.5 * ridge * float(uneven @ uneven + b @ b)
        q[rows, y] -= 1.0
        # d/dv of 1/2 sum (v - mean v)^2 is v - mean v, because the deviations sum to 0.
        slope = np.concatenate([(q * x).sum(axis=0) + ridge * uneven, q.sum(axis=0) + ridge * b])
        return loss / n, slope / n

    found = minimize(
        objective,
        np.concatenate([np.full(k, scale / start), np.zeros(k)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(LIGHTEST * scale, HEAVIEST * scale)] * k + [(-1e6, 1e6)] * k,
        # With a longer memory, scipy calls LAPACK on matrices of a few numbers, whose threads cost more than the fit.
        options={"maxcor": 1, "maxiter": 5000, "maxfun": 20_000, "ftol": 1e-13, "gtol": 1e-8},
    )
    weights = np.clip(found.x[:k] / scale, LIGHTEST, HEAVIEST)
    biases = found.x[k:] - found.x[k:].mean()
    return VectorScaling(tuple(map(float, weights)), tuple(map(float, biases)))
