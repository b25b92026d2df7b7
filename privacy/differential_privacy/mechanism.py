"""The mechanism of private training: Poisson sample, clipped sum, Gaussian noise, divided by the expected batch.

Source: Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv 1607.00133, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import MechanismError
from .clipping import ClippedSum
from .noise_ahead import NoiseAhead
from .randomness import SecretStream
from .releases import Release


@dataclass(frozen=True)
class TrainingMechanism:
    """One round's steps of private training at one site.

    Attributes:
        noise_multiplier: standard deviation of the noise / clip; >= 0. 0 is for audits: it has no release.
        clip: largest norm C of one unit's gradient; > 0.
        sample_rate: probability q that a unit is drawn in a step; 0 < q <= 1.
        expected_batch: what every sum is divided by, drawn units or not: q * units, public; > 0.
        steps: noisy sums of the round; >= 1.

    Raises:
        MechanismError: a value outside its range.
    """

    noise_multiplier: float
    clip: float
    sample_rate: float
    expected_batch: float
    steps: int
    _noise: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0.0):
            raise MechanismError(f"a noise multiplier of {self.noise_multiplier!r}", remedy="Give a finite number >= 0")
        if not (math.isfinite(self.clip) and self.clip > 0.0):
            raise MechanismError(f"a clip of {self.clip!r}", remedy="Give a finite norm above 0")
        if not (math.isfinite(self.expected_batch) and self.expected_batch > 0.0):
            raise MechanismError(f"an expected batch of {self.expected_batch!r}", remedy="Give a number above 0")
        if not 0.0 < self.sample_rate <= 1.0:
            raise MechanismError(f"a sample rate of {self.sample_rate!r}", remedy="It must be above 0 and at most 1")
        if self.steps < 1:
            raise MechanismError(f"{self.steps!r} steps", remedy="Give at least one")

    def release(self) -> Release:
        """What the accountant is told of the round.

        Raises:
            MechanismError: the noise multiplier is 0.
        """
        return Release("training", self.noise_multiplier, self.sample_rate, self.steps)

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in a mean."""
        return self.noise_multiplier * self.clip / self.expected_batch

    def noise_ahead(self, count: int, stream: SecretStream) -> NoiseAhead:
        """Noise for all steps of the round, each step's drawn during the one before.

        Args:
            count: noised coordinates. stream: used by nothing else until the source is closed.
        """
        return NoiseAhead(stream, count=count, scale=self.deviation, draws=self.steps)

    def noisy_mean(self, clipped: ClippedSum, source: SecretStream | NoiseAhead) -> dict[str, Tensor]:
        """(sum + N(0, (noise_multiplier * clip)^2)) / expected_batch of every coordinate, in an empty batch too.

        Args:
            clipped: the sum, clipped to this mechanism's clip.
            source: fresh noise.

        Returns:
            By parameter name. The tensors share a buffer that a later call writes over.

        Raises:
            MechanismError: a source that draws something else ahead.
        """
        sums = clipped.gradients
        sizes = [gradient.numel() for gradient in sums.values()]
        if isinstance(source, NoiseAhead):
            noise = torch.from_numpy(source.take(sum(sizes), self.deviation))
        else:
            noise = self._buffer(sum(sizes))
            source.normals(noise.numpy(), self.deviation)
        means = {}
        for (name, gradient), piece in zip(sums.items(), torch.split_with_sizes(noise, sizes), strict=True):
            own = piece.view(gradient.shape).to(gradient)  # no copy of float32 on the CPU
            means[name] = own.add_(gradient, alpha=1.0 / self.expected_batch)
        return means

    def _buffer(self, count: int) -> Tensor:
        if count not in self._noise:
            self._noise.clear()
            self._noise[count] = torch.empty(count)
        return self._noise[count]
