"""Grey values of tissues by MRI contrast, and how scanners, ages and fat suppression move them."""

from __future__ import annotations

import numpy as np

Tissues = dict[str, float]

_NAMES = (
    "fat", "skin", "marrow", "bone", "csf", "grey", "deep", "white", "muscle", "air", "dura", "vessel", "sinus",
    "choroid", "mucosa", "eye", "lens", "gland", "enhancing", "necrosis", "cyst", "oedema", "lesion", "solid",
    "blood", "old blood", "calcium",
)  # fmt: skip
# Grey values in [0, 1] by contrast, in the order of _NAMES: signal order as textbooks of neuroradiology give it (for
# instance Osborn's Brain: T1 fat > white > grey > fluid; T2 fluid > grey > white; FLAIR as T2 without free fluid).
# "deep" is deep grey matter, "sinus" venous blood, "enhancing" takes up contrast agent, "solid" is a homogeneous
# extra-axial mass, "gland" the pituitary, "blood" subacute and "old blood" chronic haemorrhage.
_VALUES: dict[str, tuple[float, ...]] = {
    "t1": (0.85, 0.42, 0.36, 0.05, 0.10, 0.38, 0.41, 0.53, 0.32, 0.02, 0.26, 0.08, 0.16,
           0.28, 0.34, 0.14, 0.30, 0.44, 0.33, 0.17, 0.14, 0.31, 0.29, 0.39, 0.82, 0.12, 0.10),
    "t1c": (0.80, 0.44, 0.34, 0.05, 0.10, 0.36, 0.39, 0.45, 0.36, 0.02, 0.58, 0.72, 0.86,
            0.76, 0.72, 0.13, 0.30, 0.80, 0.90, 0.14, 0.12, 0.26, 0.26, 0.80, 0.72, 0.12, 0.12),
    "t2": (0.55, 0.34, 0.25, 0.05, 0.95, 0.54, 0.45, 0.34, 0.18, 0.02, 0.12, 0.05, 0.10,
           0.66, 0.74, 0.92, 0.20, 0.50, 0.62, 0.86, 0.95, 0.78, 0.72, 0.57, 0.62, 0.08, 0.10),
    "flair": (0.60, 0.36, 0.25, 0.05, 0.08, 0.49, 0.45, 0.38, 0.25, 0.02, 0.20, 0.08, 0.12,
              0.40, 0.58, 0.12, 0.20, 0.50, 0.66, 0.38, 0.18, 0.84, 0.78, 0.60, 0.68, 0.10, 0.10),
    "dwi": (0.09, 0.08, 0.05, 0.05, 0.12, 0.48, 0.46, 0.42, 0.08, 0.04, 0.08, 0.08, 0.08,
            0.28, 0.20, 0.10, 0.10, 0.42, 0.64, 0.22, 0.14, 0.56, 0.60, 0.66, 0.60, 0.06, 0.06),
}  # fmt: skip
CONTRASTS = tuple(_VALUES)
VIEWS = ("axial", "coronal", "sagittal")


def tissues(
    contrast: str,
    rng: np.random.Generator,
    spread: float = 0.05,
    *,
    atrophy: float = 0.0,
    fat_suppressed: bool = False,
) -> Tissues:
    """Grey values of one acquisition.

    Args:
        contrast: one of :data:`CONTRASTS`.
        rng: source of the scanner's own values.
        spread: how far a value moves, as a share of full scale.
        atrophy: in [0, 1]; old brains have less contrast between grey and white matter.
        fat_suppressed: darkens fat and marrow, as spectral saturation does.

    Returns:
        Grey value in [0, 1] of every tissue.
    """
    own = dict(zip(_NAMES, _VALUES[contrast], strict=True))
    out = {name: value + spread * (0.3 + value) * float(rng.standard_normal()) for name, value in own.items()}
    # Grey and white matter move together; their difference is a property of the pulse sequence and of age.
    middle = 0.5 * (own["grey"] + own["white"]) + 0.05 * float(rng.standard_normal())
    half = 0.5 * (own["white"] - own["grey"]) * float(rng.uniform(0.55, 1.5)) * (1.0 - 0.3 * atrophy)
    out["grey"], out["white"] = middle - half, middle + half
    out["deep"] = middle - half * float(rng.uniform(0.1, 1.0))
    if fat_suppressed:
        kept = float(rng.uniform(0.15, 0.4))
        out["fat"], out["marrow"] = out["fat"] * kept, out["marrow"] * (0.3 + kept)
    return {name: float(np.clip(value, 0.0, 1.0)) for name, value in out.items()}


def fade(t: Tissues, uptake: float) -> Tissues:
    """Tissues with a tumour's grey values moved towards healthy ones; ``uptake`` 1 leaves them, 0 hides them."""
    faded = dict(t)
    for name in ("enhancing", "solid", "gland", "lesion", "oedema", "necrosis", "cyst", "blood", "old blood"):
        healthy = t["grey"] if name in ("enhancing", "solid", "gland") else 0.5 * (t["grey"] + t["white"])
        faded[name] = float(np.clip(healthy + (t[name] - healthy) * uptake, 0.0, 1.0))
    return faded
