"""Who is in a phantom study: sites with their own appearance, patients with an age, a sex and several pictures.

Everything follows from a :class:`PhantomStudy`: the same study always gives the same patients and, through
``writer.materialise``, the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..cohort import Dataset
from ..errors import DataError
from ..sets.brain_mri import BRAIN_MRI
from ..sets.ham10000 import HAM10000
from . import brain, skin
from .appearance import (
    DEMO_BRAIN,
    DEMO_SKIN,
    BrainAppearance,
    SiteAppearance,
    draw,
    narrow,
    photograph,
    scan,
)

Kind = Literal["brain", "skin"]
DATASET_OF_KIND: dict[str, Dataset] = {"brain": BRAIN_MRI, "skin": HAM10000}
SITE_NAMES = (
    "amber", "birch", "cedar", "dune", "elm", "fjord", "grove", "hazel", "iris", "juniper", "kelp", "larch",
    "maple", "nettle", "olive", "poplar", "quince", "rowan", "sage", "thyme", "umber", "violet", "willow", "yarrow",
)  # fmt: skip
UNSEEN_NAME = "harbour"
PLAN_VERSION = 2
_SITE_SHARE = 0.35  # width of a site's ranges as a share of the demo's
_SKEW = 2.0  # Dirichlet concentration of a site's class odds; lower is more skewed
_LEAST_ODDS = 0.5  # least class odds, as a share of an even mix
# What a surgical department sees: contrast-enhanced T1 more often than not, and no small tumour.
_ENHANCED = 0.85
_LEAST_SIZE = {"glioma": 0.22, "meningioma": 0.195, "pituitary": 0.13}
# What a skin clinic photographs: the commonest looks of a diagnosis, close up.
_TEXTBOOK_LOOKS, _LEAST_LESION, _LEAST_STRENGTH = 2, 0.45, 0.9
_IMAGES_ODDS = (0.4, 0.3, 0.2, 0.1)  # of a patient having 1, 2, 3 or 4 pictures
# Mean and spread of age, and share of women, by class: a coarse picture of who gets what.
_WHO: dict[str, tuple[float, float, float]] = {
    "glioma": (55, 14, 0.42), "meningioma": (60, 12, 0.70), "notumor": (48, 18, 0.52), "pituitary": (46, 14, 0.56),
    "akiec": (68, 10, 0.40), "bcc": (66, 12, 0.42), "bkl": (62, 12, 0.46), "df": (44, 13, 0.64),
    "mel": (60, 14, 0.42), "nv": (42, 14, 0.50), "vasc": (50, 17, 0.54),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PhantomSite:
    """One hospital.

    Attributes:
        name: folder name and site name, lower-case letters, digits and hyphens.
        images: how many pictures it holds, at least one for each class.
        odds: of each class in the data set's order, summing to 1.
        appearance: ranges of its scanner or camera.
        views: odds of axial, coronal and sagittal slices; unused for skin.
    """

    name: str
    images: int
    odds: tuple[float, ...]
    appearance: SiteAppearance
    views: tuple[float, float, float] = (0.42, 0.27, 0.31)


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """A whole synthetic study.

    Attributes:
        kind: "brain" or "skin".
        sites: training sites, then the unseen one.
        unseen: name of the site that takes no part in training.
        seed: of patients and pictures.
        size: pixels per side of the pictures, at least 32.
    """

    kind: Kind
    sites: tuple[PhantomSite, ...]
    unseen: str
    seed: int
    size: int = 128

    @property
    def dataset(self) -> Dataset:
        """The data set whose classes the phantoms imitate."""
        return DATASET_OF_KIND[self.kind]

    def plan(self) -> dict[str, Any]:
        """Everything that decides the pictures, as plain JSON values."""
        return {"version": PLAN_VERSION, "synthetic": True, "dataset": self.dataset.key, **asdict(self)}

    def plan_hash(self) -> str:
        """SHA-256 (hex) of the plan in canonical JSON: sorted keys, no spaces."""
        text = json.dumps(self.plan(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture before it is drawn.

    Attributes:
        path: relative, with forward slashes: site/class/patient-k.png.
        label: index into the data set's classes.
        patient: unique over the study.
        site: name; site_index, patient_index, image_index: what its random numbers are seeded with.
        age: years; sex: "female" or "male"; age_band: "0-39", "40-59" or "60+".
    """

    path: str
    label: int
    patient: str
    site: str
    site_index: int
    patient_index: int
    image_index: int
    age: int
    sex: str
    age_band: str


def demo_study(kind: Kind, sites: int = 4, seed: int = 0, images_per_site: int = 280) -> PhantomStudy:
    """The demo: ``sites`` training sites and one unseen site, none of which looks like the pretraining pictures.

    Args:
        kind: "brain" or "skin".
        sites: training sites, 1 to 24.
        seed: at least 0.
        images_per_site: at least 4 for each class.

    Raises:
        DataError: an argument is out of range.
    """
    if kind not in DATASET_OF_KIND:
        raise DataError(f"there are no phantoms of kind {kind!r}", where="kind", remedy="use 'brain' or 'skin'")
    if not 1 <= sites <= len(SITE_NAMES):
        raise DataError(f"{sites} training sites are not possible", where="sites", remedy=f"use 1 to {len(SITE_NAMES)}")
    if seed < 0:
        raise DataError(f"the seed {seed} is negative", where="seed", remedy="use 0 or more")
    classes = len(DATASET_OF_KIND[kind].classes)
    if images_per_site < 4 * classes:
        raise DataError(
            f"{images_per_site} images a site are too few for {classes} classes",
            where="images_per_site",
            remedy=f"use at least {4 * classes}",
        )
    wide: SiteAppearance = DEMO_BRAIN if kind == "brain" else DEMO_SKIN
    names = (*SITE_NAMES[:sites], UNSEEN_NAME)
    drawn = []
    for index, name in enumerate(names):
        # The unseen site's own stream does not depend on how many sites train.
        rng = np.random.default_rng((seed, 1, len(SITE_NAMES) if name == UNSEEN_NAME else index))
        odds = _LEAST_ODDS / classes + (1.0 - _LEAST_ODDS) * rng.dirichlet(np.full(classes, _SKEW))
        views = 0.15 + 0.55 * rng.dirichlet((3.0, 2.0, 2.0))
        drawn.append(
            PhantomSite(
                name=name,
                images=images_per_site,
                odds=tuple(round(float(p), 4) for p in odds / odds.sum()),
                appearance=narrow(wide, _SITE_SHARE, rng),
                views=(round(float(views[0]), 4), round(float(views[1]), 4), round(float(views[2]), 4)),
            )
        )
    return PhantomStudy(kind, tuple(drawn), UNSEEN_NAME, seed)


def planned_images(study: PhantomStudy) -> tuple[PlannedImage, ...]:
    """Every picture of a study, sorted by path."""
    out: list[PlannedImage] = []
    for site_index, site in enumerate(study.sites):
        out.extend(_of_site(study, site, site_index))
    return tuple(sorted(out, key=lambda image: image.path))


def _of_site(study: PhantomStudy, site: PhantomSite, site_index: int) -> list[PlannedImage]:
    rng = np.random.default_rng((study.seed, 2, site_index))
    names = study.dataset.class_names
    odds = np.asarray(site.odds) / np.sum(site.odds)
    out: list[PlannedImage] = []
    patient_index = 0
    while len(out) < site.images:
        # The first patients go through the classes twice, so that none is empty; the rest follow the odds.
        label = patient_index % len(names) if patient_index < 2 * len(names) else int(rng.choice(len(names), p=odds))
        mean, spread, women = _WHO[names[label]]
        age = int(np.clip(rng.normal(mean, spread), 18, 92))
        sex = "female" if rng.random() < women else "male"
        count = min(1 + int(rng.choice(len(_IMAGES_ODDS), p=_IMAGES_ODDS)), site.images - len(out))
        patient = f"{site.name}-p{patient_index:03d}"
        for k in range(count):
            path = f"{site.name}/{names[label]}/{patient}-{k + 1}.png"
            out.append(
                PlannedImage(path, label, patient, site.name, site_index, patient_index, k, age, sex, age_band(age))
            )
        patient_index += 1
    return out


def age_band(age: int) -> str:
    """Band of an age in years, for subgroup figures."""
    return "0-39" if age < 40 else "40-59" if age < 60 else "60+"


def render_planned(study: PhantomStudy, image: PlannedImage) -> NDArray[np.uint8]:
    """Draw one planned picture: uint8 (size, size, 3). Pictures do not depend on one another's order."""
    site = study.sites[image.site_index]
    label = study.dataset.class_names[image.label]
    patient = np.random.default_rng((study.seed, 3, image.site_index, image.patient_index))
    own = np.random.default_rng((study.seed, 4, image.site_index, image.patient_index, image.image_index))
    if isinstance(site.appearance, BrainAppearance):
        slice_ = brain.draw_brain(label, patient, age=image.age, views=site.views)
        slice_ = replace(_referred(slice_, patient), uptake=draw(site.appearance.uptake, patient))
        if image.image_index:
            slice_ = brain.another_slice(slice_, own, views=site.views)
        return scan(brain.render_brain(slice_, own, study.size), site.appearance, own)
    kinds = skin.KINDS[label][:_TEXTBOOK_LOOKS]
    lesion = skin.draw_skin(label, patient, age=image.age, tone=site.appearance.tone, kinds=kinds)
    lesion = replace(lesion, size=max(lesion.size, _LEAST_LESION), strength=max(lesion.strength, _LEAST_STRENGTH))
    if image.image_index:
        lesion = skin.another_photograph(lesion, own)
    return photograph(skin.render_skin(lesion, own, study.size), site.appearance, own)


def _referred(phantom: brain.BrainPhantom, rng: np.random.Generator) -> brain.BrainPhantom:
    """A slice as it comes to the demo's hospitals; the embedded model learnt from every contrast and size."""
    contrast = "t1c" if rng.random() < _ENHANCED else phantom.contrast
    size = max(phantom.size, _LEAST_SIZE[phantom.label]) if phantom.size > 0.0 else 0.0
    return replace(phantom, contrast=contrast, size=size)
