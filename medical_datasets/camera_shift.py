"""A camera or scanner of its own for each site: a repeatable change of its pictures, to study feature shift.

Hospitals differ in equipment. Where a study deals one data set out to sites, they do not, and a federation looks easier
than it is. A shift of strength s changes gamma, contrast, brightness and sharpness, and for colour pictures the
channels' gains; all of it is drawn from the site's name, so a site has the same camera in every run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

VERSION = 1  # raised when the same site and strength give other pictures
GAMMA, CONTRAST, BRIGHTNESS, GAIN, BLUR = 0.7, 0.5, 0.15, 0.25, 1.5


@dataclass(frozen=True, slots=True)
class CameraShift:
    """One site's camera.

    Attributes:
        site: whose; its name decides everything but the strength.
        strength: s in [0, 1]; 0 changes nothing.
        colour: whether channels have gains of their own; False for grey pictures such as MRI.
    """

    site: str
    strength: float
    colour: bool

    def tag(self) -> str:
        """What distinguishes pictures of this camera from the files' own; empty for no change."""
        if self.strength == 0.0:
            return ""
        return f"camera {VERSION} {self.site} {self.strength!r} {'colour' if self.colour else 'grey'}"

    def __call__(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) -> the same shape: as this site's camera would have taken it."""
        if self.strength == 0.0:
            return rgb
        draw = np.random.default_rng(list(hashlib.sha256(f"camera {self.site}".encode()).digest()[:16]))
        gamma, contrast, brightness, blur = draw.uniform(-1.0, 1.0, 4)
        gains = draw.uniform(-1.0, 1.0, 3)
        s = self.strength
        radius = s * BLUR * max(0.0, blur) * max(rgb.shape[:2]) / 224.0
        if radius > 0.0:
            rgb = np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(float(radius))))
        values = (rgb.astype(np.float64) / 255.0) ** (2.0 ** (s * GAMMA * gamma))
        values = (values - 0.5) * 2.0 ** (s * CONTRAST * contrast) + 0.5 + s * BRIGHTNESS * brightness
        if self.colour:
            values = values * (1.0 + s * GAIN * gains)
        shifted: NDArray[np.uint8] = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
        return shifted
