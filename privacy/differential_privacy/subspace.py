"""Noise off the directions that public rows say gradients have: post-processing of a noisy gradient.

A Linear layer's gradient is a sum of g x', so it lies where inputs x and output gradients g lie, and public rows show
where that is: in a few dozen directions of several hundred. Noise lies everywhere. What is outside the public
directions is nearly all noise, and is taken away after the noise was added: nothing private is looked at, and epsilon
does not change. What of the signal lies outside is lost with it.

Source: Zhou, Wu and Banerjee 2021, "Bypassing the Ambient Dimension", arXiv 2007.03813, with a basis for each side of a
layer instead of one for whole gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import MechanismError
from .layers import layers_of, output_gradients, watched


@dataclass(frozen=True, eq=False)
class Subspace:
    """Directions by parameter name.

    Attributes:
        left: (d, O) orthonormal rows for a weight's outputs, or for a vector. right: (d, I) for a weight's inputs.
    """

    left: Mapping[str, Tensor]
    right: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, module: nn.Module, losses: Callable[[], Tensor], *, trained: Collection[str], directions: int
    ) -> Subspace:
        """The directions of public rows at the module's present parameters.

        Args:
            module: holds the trained parameters, each in an nn.Linear or nn.LayerNorm.
            losses: runs the forward pass on public rows and returns one loss a row, (R,).
            trained: names of the parameters that the losses reach.
            directions: at most so many on each side, >= 1.

        Raises:
            MechanismError: module or losses are not of the legal form, see :mod:`.clipping`; or gradients of public
                rows are not finite.
        """
        layers = layers_of(module, trained)
        with watched(layers), torch.enable_grad():
            found = losses()
        left, right = {}, {}
        for layer, gradients in zip(layers, output_gradients(found, layers), strict=True):
            outer = _principal(gradients, directions)
            if layer.bias is not None:
                left[layer.bias] = outer
            if layer.weight is None:
                continue
            if isinstance(layer.module, nn.Linear):
                left[layer.weight], right[layer.weight] = outer, _principal(layer.inputs, directions)
            else:
                left[layer.weight] = _principal(gradients * layer.inputs, directions)
        return cls(left, right)

    def project(self, noisy: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of each gradient that lies in the directions; a name without any stays as it is."""
        return {name: self._projected(name, gradient) for name, gradient in noisy.items()}

    def _projected(self, name: str, gradient: Tensor) -> Tensor:
        if name not in self.left:
            return gradient
        outer = self.left[name]
        if gradient.ndim == 1:
            return (gradient @ outer.T) @ outer
        inner = self.right[name]
        return outer.T @ (((outer @ gradient) @ inner.T) @ inner)


def _principal(rows: Tensor, directions: int) -> Tensor:
    """(d, n) orthonormal: the strongest directions of rows (R, n), their mean included."""
    gram = rows.double().T @ rows.double()
    if not bool(torch.isfinite(gram).all()):
        raise MechanismError(
            "gradients of public rows are not finite",
            where="public directions",
            remedy="The adapter that was received is damaged, or training diverged; lower training.lr",
        )
    _, axes = torch.linalg.eigh(gram)
    kept: Tensor = axes[:, -min(directions, len(rows)) :].T
    return kept.to(rows).contiguous()
