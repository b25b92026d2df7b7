"""The parameters of a brain-MRI phantom and the names they may take."""

from __future__ import annotations

from dataclasses import dataclass

from .brain_anatomy import LEVELS

__all__ = ["BORDERS", "CLASSES", "ENHANCEMENTS", "KINDS", "LEVELS", "PLACES", "BrainPhantom"]

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
KINDS = {
    "glioma": ("ring", "patchy", "infiltrating", "cystic", "butterfly", "multifocal", "haemorrhagic"),
    "meningioma": ("round", "lobulated", "plaque", "calcified", "part cystic", "hyperostosis"),
    "notumor": ("none", "atrophic", "white-matter spots"),
    "pituitary": ("solid", "necrotic", "snowman", "micro", "cystic", "invasive"),
}
PLACES = {
    "glioma": (
        "deep", "lobar", "callosal", "frontal", "temporal", "parietal", "occipital", "brainstem", "cerebellar",
    ),
    "meningioma": (
        "convexity", "falx", "skull base", "sphenoid wing", "olfactory groove", "tentorial", "cerebellopontine",
        "intraventricular",
    ),
    "notumor": ("none",),
    "pituitary": ("sella",),
}  # fmt: skip
ENHANCEMENTS = ("none", "homogeneous", "heterogeneous", "rim")
BORDERS = ("sharp", "ill-defined")


@dataclass(frozen=True, slots=True)
class BrainPhantom:
    """Everything that decides a slice before the scanner touches it.

    Attributes:
        label: one of :data:`CLASSES`.
        view: one of ``VIEWS``.
        level: one of ``LEVELS[view]``.
        contrast: one of ``CONTRASTS``.
        kind: one of ``KINDS[label]``.
        place: one of ``PLACES[label]``.
        side: -1 left of the picture, +1 right.
        size: tumour radius as a fraction of half the picture; 0 without a tumour.
        oedema: width of the swelling round the tumour, as a multiple of its radius; 0 for none.
        atrophy: in [0, 1]; widens sulci and ventricles, grows with age.
        uptake: how much of the tumour's own grey value shows against healthy tissue; 1 all of it.
        mass_effect: in [0, 1]; shifts the midline, compresses the ventricle and effaces sulci on the tumour's side.
        enhancement: one of :data:`ENHANCEMENTS`, how the tumour takes up contrast agent. A property of the tumour; what
            a slice shows of it is :attr:`seen_enhancement`.
        border: one of :data:`BORDERS`.
        stripped: whether skull and scalp were removed.
        fat_suppressed: whether fat is dark.
    """

    label: str
    view: str
    level: str
    contrast: str
    kind: str
    place: str
    side: int
    size: float
    oedema: float
    atrophy: float
    uptake: float = 1.0
    mass_effect: float = 0.0
    enhancement: str = "none"
    border: str = "sharp"
    stripped: bool = False
    fat_suppressed: bool = False

    @property
    def seen_enhancement(self) -> str:
        """The enhancement that the slice shows: "none" on any contrast but "t1c"."""
        return self.enhancement if self.contrast == "t1c" else "none"
