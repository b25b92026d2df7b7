"""Image tower of the embedded model: a small ResNet whose middle stages speak too, not only the last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

STAGES = (1, 2, 3, 4)
_FLOOR = 1e-5  # added to a variance before its root: the root of 0 has no gradient


class ImageTower(nn.Module):
    """Means and standard deviations of several stages' maps, put on one scale and projected.

    The last stage of a network that learnt from drawings knows what the drawings differ in and little else; the
    stages before it still hold the texture and colour that real pictures differ in. The trunk is CLIP's ModifiedResNet
    (Radford et al. 2021, section 2.4) without its attention pooling; pooling means and standard deviations of several
    stages is the texture statistic of Portilla and Simoncelli (2000) on learnt filters.

    Args:
        layers: bottleneck blocks of the four stages.
        width: channels of the stem; stage k then has ``width * 2**(k + 1)``.
        image_size: rows and columns of the input, a multiple of 32.
        output_dim: width of a feature.
        stages: which stages are pooled, rising, from :data:`STAGES`.
    """

    def __init__(
        self, layers: Sequence[int], width: int, image_size: int, output_dim: int, stages: Sequence[int]
    ) -> None:
        super().__init__()
        if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(STAGES):
            raise ValueError(f"stages must be rising and from {STAGES}, not {tuple(stages)}")
        self.stages = tuple(stages)
        self.image_size = image_size
        trunk = ModifiedResNet(list(layers), output_dim, heads=1, image_size=image_size, width=width)
        trunk.attnpool = nn.Identity()
        self.trunk = trunk
        pooled = 2 * sum(width * 2 ** (stage + 1) for stage in self.stages)
        self.level = nn.BatchNorm1d(pooled)
        self.project = nn.Linear(pooled, output_dim)

    def describe(self, images: Tensor) -> Tensor:
        """Pooled statistics on one scale.

        Args:
            images: float32 (n, 3, image_size, image_size), normalised.

        Returns:
            float (n, P), P twice the channels of the pooled stages.
        """
        maps = self.trunk.stem(images)
        parts: list[Tensor] = []
        for stage in STAGES[: self.stages[-1]]:
            maps = getattr(self.trunk, f"layer{stage}")(maps)
            if stage in self.stages:
                flat = maps.float().flatten(2)
                parts += [flat.mean(2), torch.sqrt(flat.var(2, unbiased=False) + _FLOOR)]
        return self.level(torch.cat(parts, dim=1))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """float32 (n, 3, image_size, image_size) to float (n, output_dim), not normalised."""
        return self.project(self.describe(images))  # type: ignore[no-any-return]
