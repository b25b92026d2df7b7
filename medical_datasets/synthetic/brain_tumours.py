"""Tumours of brain-MRI phantoms: glioma inside the brain, meningioma on its coverings, pituitary mass in the sella."""

from __future__ import annotations

from numpy.random import Generator

from .brain_frame import Brain, Scene
from .brain_glioma import glioma
from .brain_mass import displace
from .brain_meningioma import meningioma
from .brain_phantom import BrainPhantom
from .brain_pituitary import pituitary
from .brain_places import spot
from .brain_tissues import Tissues, fade
from .canvas import Array

_DRAW = {"glioma": glioma, "meningioma": meningioma, "pituitary": pituitary}


def tumour_tissues(t: Tissues, p: BrainPhantom) -> Tissues:
    """Grey values with the tumour's own enhancement and uptake; ``p.uptake`` 0 hides it among healthy tissue."""
    own = dict(t)
    if p.contrast == "t1c" and p.enhancement == "none":
        own["enhancing"] = own["lesion"]
        own["solid"] = 0.5 * (own["lesion"] + own["grey"])
    return fade(own, p.uptake)


def draw_tumour(s: Scene, frame: Brain, p: BrainPhantom, rng: Generator) -> Array:
    """Draw the tumour of ``p`` into finished anatomy.

    Args:
        s: the scene; its image is changed, its grey values are not.
        frame: where the brain of this slice lies; displaced along with it.
        p: what to draw; ``p.size`` is above 0.
        rng: source of the tumour's own draws.

    Returns:
        float32 (size, size) in [0, 1], where the tumour lies.
    """
    at = spot(p, frame, rng)
    displace(s, frame, p, at)
    healthy = s.t
    s.t = tumour_tissues(healthy, p)
    mask = _DRAW[p.label](s, frame, p, at, rng)
    s.t = healthy
    return mask
