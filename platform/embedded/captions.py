"""Captions for phantoms: many ways to say what a picture shows, and which of its attributes each caption states.

A caption states some attributes and is silent on others. Two pictures that agree on everything a caption states are
both described by it, so the contrastive loss counts both as positives (:func:`described`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...medical_datasets.synthetic import brain, skin
from ...medical_datasets.synthetic.brain import BrainPhantom
from ...medical_datasets.synthetic.brain_anatomy import CONTRASTS, VIEWS
from ...medical_datasets.synthetic.skin import SkinPhantom

ATTRIBUTES = ("modality", "label", "view", "contrast", "kind", "place", "size")
LABELS = brain.CLASSES + skin.CLASSES
BRAIN_KINDS = tuple(f"{label}/{kind}" for label, kinds in brain.KINDS.items() for kind in kinds)
SKIN_KINDS = tuple(f"{label}/{kind}" for label, kinds in skin.KINDS.items() for kind in kinds)
KINDS = BRAIN_KINDS + SKIN_KINDS
PLACES = ("deep", "lobar", "callosal", "convexity", "falx", "skull base", "none", "sella", "skin")
SIZES = ("small", "medium", "large", "none")
TONES = ("fair skin", "tanned skin")
WIDTHS = {
    "modality": 2, "label": len(LABELS), "view": len(VIEWS) + 1, "contrast": len(CONTRASTS) + len(TONES),
    "kind": len(KINDS), "place": len(PLACES), "size": len(SIZES),
}  # fmt: skip

NAMES: dict[str, tuple[str, ...]] = {
    "glioma": ("a glioma", "glioma", "a glioma tumour", "a glioma tumor", "a glioblastoma", "a high grade glioma", "a low grade glioma",
               "an astrocytoma", "an intra-axial glial tumour", "a malignant brain tumour of glial cells", "a tumour inside the brain tissue"),
    "meningioma": ("a meningioma", "meningioma", "a meningioma tumour", "a meningioma tumor", "an extra-axial dural mass",
                   "a tumour of the meninges", "a tumour arising from the dura", "an extra-axial meningeal tumour"),
    "notumor": ("no tumour", "no tumor", "a healthy brain", "a normal brain", "no abnormality", "no mass", "a normal study",
                "no evidence of a tumour", "a healthy brain without tumour", "a brain without any tumor", "normal findings"),
    "pituitary": ("a pituitary tumour", "a pituitary tumor", "pituitary tumour", "a pituitary adenoma", "a pituitary macroadenoma",
                  "a sellar mass", "a tumour of the pituitary gland", "an adenoma of the pituitary", "a pituitary microadenoma"),
    "akiec": ("actinic keratosis", "an actinic keratosis", "actinic keratoses", "Bowen's disease", "an intraepithelial carcinoma",
              "a solar keratosis", "squamous cell carcinoma in situ", "actinic keratosis or intraepithelial carcinoma"),
    "bcc": ("basal cell carcinoma", "a basal cell carcinoma", "a basalioma", "a BCC", "a basal cell skin cancer"),
    "bkl": ("benign keratosis", "a benign keratosis", "a seborrheic keratosis", "a seborrhoeic keratosis", "a solar lentigo",
            "a benign keratosis-like lesion", "a lichen planus-like keratosis", "a pigmented benign keratosis"),
    "df": ("dermatofibroma", "a dermatofibroma", "a fibrous histiocytoma", "a benign dermatofibroma"),
    "mel": ("melanoma", "a melanoma", "a malignant melanoma", "a cutaneous melanoma", "an invasive melanoma"),
    "nv": ("a melanocytic nevus", "a nevus", "a melanocytic naevus", "a mole", "a benign mole", "melanocytic nevi", "a common mole",
           "nevus", "a benign melanocytic nevus"),
    "vasc": ("a vascular lesion", "vascular lesion", "an angioma", "a haemangioma", "a hemangioma", "an angiokeratoma",
             "a pyogenic granuloma", "a cherry angioma", "a vascular skin lesion"),
}  # fmt: skip
_KIND_WORDS: dict[str, str] = {
    "glioma/ring": "ring-enhancing with a necrotic core", "glioma/patchy": "with patchy enhancement",
    "glioma/infiltrating": "diffusely infiltrating", "glioma/cystic": "cystic",
    "meningioma/round": "round and homogeneous", "meningioma/lobulated": "lobulated", "meningioma/plaque": "flat along the dura",
    "pituitary/solid": "solid", "pituitary/necrotic": "with a necrotic centre", "pituitary/snowman": "with suprasellar extension",
    "akiec/scaly": "scaly", "akiec/strawberry": "with a strawberry pattern", "akiec/crusted": "crusted", "akiec/pigmented": "pigmented",
    "bcc/nodular": "nodular and pearly", "bcc/superficial": "superficial", "bcc/pigmented": "with blue-grey ovoid nests",
    "bcc/ulcerated": "ulcerated", "bkl/cerebriform": "with cerebriform ridges", "bkl/cystic": "with milia-like cysts",
    "bkl/flat": "flat and light brown", "bkl/dark": "dark and stuck on", "df/white patch": "with a central white patch",
    "df/ring": "with a brown ring", "df/pink": "pink", "mel/superficial": "with several colours", "mel/nodular": "with a blue-white veil",
    "mel/regressing": "with regression", "mel/amelanotic": "amelanotic", "nv/reticular": "with a regular pigment network",
    "nv/globular": "globular", "nv/homogeneous": "homogeneous", "nv/two-toned": "with a dark centre", "vasc/lacunar": "with red lacunae",
    "vasc/homogeneous": "homogeneous red", "vasc/thrombosed": "thrombosed", "vasc/spider": "with fine red vessels",
}  # fmt: skip
_PLACE_WORDS = {
    "deep": "deep in the hemisphere", "lobar": "in a lobe of the hemisphere", "callosal": "near the corpus callosum",
    "convexity": "over the convexity", "falx": "at the falx", "skull base": "at the skull base", "sella": "in the sella",
}  # fmt: skip
_CONTRAST_WORDS = {
    "t1": ("T1-weighted", "T1", "unenhanced T1"), "t1c": ("contrast-enhanced T1", "post-contrast T1-weighted", "gadolinium-enhanced"),
    "t2": ("T2-weighted", "T2"), "flair": ("FLAIR", "fluid-attenuated"), "dwi": ("diffusion-weighted", "DWI"),
}  # fmt: skip
_BRAIN_FRAMES = (
    "{a} MRI of the brain showing {n}", "{a} brain MRI with {n}", "{a} magnetic resonance image of {n}", "{a} MRI scan of a patient with {n}",
    "{a} MRI slice, {n}", "{a} MR image: {n}", "{a} brain scan, diagnosis {n}", "{a} head MRI demonstrating {n}",
    "{a} cranial magnetic resonance imaging scan with {n}", "{n} on {a} brain MRI", "{n}, {a} MRI", "{a} radiology image of {n}",
)  # fmt: skip
_SKIN_FRAMES = (
    "{a} dermoscopy image of {n}", "{a} dermoscopic photograph of {n}", "{a} photo of a skin lesion, {n}", "{a} dermatoscopic image showing {n}",
    "{a} picture of {n} on the skin", "{a} close-up of {n}", "{n} seen by dermoscopy", "{n}, {a} skin lesion", "{a} image of {n}",
    "{a} skin photograph, diagnosis {n}", "{a} dermatology image of {n}", "{a} photograph of a skin lesion diagnosed as {n}",
)  # fmt: skip
_BARE_FRAMES = (
    "{n}",
    "this is {n}",
    "a photo of {n}",
    "an image of {n}",
    "a picture showing {n}",
    "a patient with {n}",
    "findings: {n}",
)

_OTHER_WORDS = """hospital patient image scan slice of the brain head skin lesion with without and or in on at a an is are was this that shows
showing seen left right upper lower frontal temporal parietal occipital cerebellar lobe hemisphere ventricle ventricles midline axial coronal sagittal
weighted contrast enhancement enhancing oedema edema necrosis mass effect haemorrhage hemorrhage calcification cyst cystic solid tumour tumor tumours
tumors cancer carcinoma benign malignant suspicious normal healthy disease diagnosis diagnosed finding findings magnetic resonance imaging radiology
dermoscopy dermoscopic dermatoscopy dermatology photograph photo picture melanocytic nevus naevus melanoma keratosis seborrheic actinic basal squamous
cell dermatofibroma vascular angioma haemangioma pigment pigmented network globules streaks veil vessels ulcer crust scale border colour color brown black
red pink white blue grey gray yellow small medium large round irregular symmetric asymmetric ring chest x-ray lung pneumonia retina fundus diabetic
retinopathy ultrasound breast liver kidney spine knee bone fracture ct computed tomography histology pathology tissue stain eye heart cardiac colon polyp
endoscopy child adult woman man female male years old no yes not any type grade stage class label one two three four five six seven eight nine ten"""


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence and the attributes it states: one value per name of :data:`ATTRIBUTES`, -1 where it is silent."""

    text: str
    states: tuple[int, ...]


def attributes(phantom: BrainPhantom | SkinPhantom) -> tuple[int, ...]:
    """What is true of a phantom: one index per name of :data:`ATTRIBUTES`."""
    label = LABELS.index(phantom.label)
    kind = KINDS.index(f"{phantom.label}/{phantom.kind}")
    if isinstance(phantom, SkinPhantom):
        size = int(np.digitize(phantom.size, (0.33, 0.5)))
        tone = len(CONTRASTS) + int(phantom.tone > 0.15)
        return (1, label, len(VIEWS), tone, kind, PLACES.index("skin"), size)
    limits = (0.08, 0.11) if phantom.label == "pituitary" else (0.13, 0.19)
    size = int(np.digitize(phantom.size, limits)) if phantom.size > 0.0 else SIZES.index("none")
    view, contrast = VIEWS.index(phantom.view), CONTRASTS.index(phantom.contrast)
    return (0, label, view, contrast, kind, PLACES.index(phantom.place), size)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def caption(phantom: BrainPhantom | SkinPhantom, rng: np.random.Generator) -> Caption:
    """Say what a phantom shows, stating a random choice of its attributes; the diagnosis nearly always."""
    truth = dict(zip(ATTRIBUTES, attributes(phantom), strict=True))
    states = dict.fromkeys(ATTRIBUTES, -1)
    states["modality"] = truth["modality"]
    on_skin = isinstance(phantom, SkinPhantom)
    named = rng.random() < 0.85
    name = _pick(NAMES[phantom.label], rng) if named else ("a skin lesion" if on_skin else "the brain")
    if named:
        states["label"] = truth["label"]
    if named and rng.random() < 0.2:
        return _finish(_pick(_BARE_FRAMES, rng).format(n=name), states)
    front: list[str] = []
    lesion = phantom.label != "notumor"
    if lesion and named and rng.random() < 0.3:
        states["size"] = truth["size"]
        name = f"{SIZES[truth['size']]} {name.removeprefix('a ').removeprefix('an ')}"
    if lesion and named and rng.random() < 0.3:
        states["kind"] = truth["kind"]
        name = f"{name}, {_KIND_WORDS[KINDS[truth['kind']]]}"
    if isinstance(phantom, BrainPhantom):
        if lesion and named and rng.random() < 0.25:
            states["place"] = truth["place"]
            name = f"{name} {_PLACE_WORDS[phantom.place]}"
        if rng.random() < 0.5:
            states["view"] = truth["view"]
            front.append(phantom.view)
        if rng.random() < 0.45:
            states["contrast"] = truth["contrast"]
            front.append(_pick(_CONTRAST_WORDS[phantom.contrast], rng))
    elif rng.random() < 0.15:
        states["contrast"] = truth["contrast"]
        name = f"{name} on {TONES[truth['contrast'] - len(CONTRASTS)]}"
    words = " ".join(front)
    article = _pick(("a", "an", ""), rng) if not words else _pick(("", "a", "an"), rng)
    frame = _pick(_SKIN_FRAMES if on_skin else _BRAIN_FRAMES, rng)
    return _finish(frame.format(a=f"{article} {words}".strip(), n=name), states)


def _finish(text: str, states: dict[str, int]) -> Caption:
    return Caption(" ".join(text.split()), tuple(states[name] for name in ATTRIBUTES))


def described(truth: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which captions describe which pictures.

    Args:
        truth: int64 (n, A), attributes of the pictures.
        states: int64 (m, A), what the captions state, -1 where silent.

    Returns:
        bool (n, m): True where everything the caption states is true of the picture.
    """
    agree = (states[None, :, :] == truth[:, None, :]) | (states[None, :, :] == -1)
    return np.asarray(agree.all(axis=2))


def corpus(seed: int = 0, count: int = 4000) -> list[str]:
    """Text to learn the vocabulary from: captions of ``count`` drawn phantoms and general medical words."""
    rng = np.random.default_rng(seed)
    lines = []
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        phantom = brain.draw_brain(label, rng) if label in brain.CLASSES else skin.draw_skin(label, rng)
        lines.append(caption(phantom, rng).text)
    return lines + _OTHER_WORDS.split() * 20
