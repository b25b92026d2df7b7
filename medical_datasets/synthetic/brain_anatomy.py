"""Normal anatomy of brain-MRI phantoms: what a head looks like in three views, before any tumour."""

from __future__ import annotations

import numpy as np

from .brain_axial import AXIAL_LEVELS, axial
from .brain_coronal import CORONAL_LEVELS, coronal
from .brain_cortex import vessels
from .brain_frame import Brain, Scene
from .brain_sagittal import SAGITTAL_LEVELS, sagittal
from .brain_skull import tilt_head
from .brain_tissues import CONTRASTS, VIEWS, Tissues, tissues
from .canvas import Array

__all__ = ["CONTRASTS", "LEVELS", "VIEWS", "Brain", "Scene", "Tissues", "anatomy", "strip", "tissues"]

LEVELS = {"axial": AXIAL_LEVELS, "coronal": CORONAL_LEVELS, "sagittal": SAGITTAL_LEVELS}


def anatomy(s: Scene, view: str) -> Brain:
    """Draw a healthy slice of ``view`` (one of ``VIEWS``) and say where the brain lies in it."""
    tilt_head(s, view)
    frame = {"axial": axial, "coronal": coronal, "sagittal": sagittal}[view](s)
    if s.rng.random() < 0.6:
        vessels(s, frame, s.u(0.0, 0.9))
    return frame


def strip(s: Scene, frame: Brain, tumour: Array) -> None:
    """Remove skull and scalp as brain-extraction software does; ``tumour`` (0..1, full size) stays."""
    s.c.image *= np.maximum(s.c.mask(frame.inside + np.float32(0.012)), tumour)
