"""``[privacy]``: differential privacy of every site's training, and how the method is trained under it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Section


class PrivacySection(Section):
    """``[privacy]``: every upload of a site is differentially private on its own; off where epsilon is 0."""

    epsilon: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        description="privacy loss of a site's training units over the whole study; 0: no differential privacy",
    )
    delta: float = Field(
        default=1e-5, gt=0.0, lt=0.1, description="probability of a larger loss; under 1 / training units of every site"
    )
    unit: Literal["patient", "lesion", "record"] = Field(
        default="patient",
        description="whose data are protected as one: a patient's, a lesion's (where patients are not known), or "
        "each image on its own",
    )
    records_per_unit: int = Field(
        default=4, ge=1, le=64, description="images of one unit that a step can use, drawn anew each step"
    )
    clip: float = Field(default=1.0, gt=0.0, le=1e6, description="bound of a unit's gradient in one step")
    directions: int = Field(
        default=32,
        ge=0,
        le=4096,
        description="directions of public rows, on each side of a layer, that a noisy gradient is kept in; 0: all",
    )
    alignment: Literal["proxies", "per-record"] = Field(
        default="proxies",
        description="FACMIC's and FAA-CLIP's adaptation on proxies made from noisy class sums, or image by image: "
        "random Fourier features (FACMIC), the domain classifier under the same clip (FAA-CLIP)",
    )
    class_noise: float = Field(
        default=10.0,
        gt=0.0,
        le=1e6,
        description="standard deviation of the noise on sums and counts of features by class; part of the budget",
    )
    fourier_features: int = Field(
        default=128, ge=8, le=4096, description="pairs of random Fourier features; FACMIC `per-record` only"
    )
    fourier_every: int = Field(
        default=5, ge=1, le=10_000, description="rounds between two releases of Fourier sums; FACMIC `per-record` only"
    )

    @property
    def on(self) -> bool:
        """Whether training is differentially private."""
        return self.epsilon > 0.0
