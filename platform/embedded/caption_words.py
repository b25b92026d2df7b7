"""Words that captions are made of: names of diagnoses, of their looks and signs, places and contrasts, and frames."""

from __future__ import annotations

NAMES: dict[str, tuple[str, ...]] = {
    "glioma": (
        "a glioma",
        "glioma",
        "a glioma tumour",
        "a glioma tumor",
        "a glial tumour",
        "an intra-axial glial tumour",
        "a malignant brain tumour of glial cells",
        "a tumour inside the brain tissue",
        "an infiltrative intra-axial tumour, a glioma",
    ),
    "meningioma": (
        "a meningioma",
        "meningioma",
        "a meningioma tumour",
        "a meningioma tumor",
        "an extra-axial dural mass",
        "a tumour of the meninges",
        "a tumour arising from the dura",
        "an extra-axial meningeal tumour",
        "an extra-axial dural tumour, a meningioma",
    ),
    "notumor": (
        "no tumour",
        "no tumor",
        "a healthy brain",
        "a normal brain",
        "no abnormality",
        "no mass",
        "a normal study",
        "no evidence of a tumour",
        "a healthy brain without a tumour",
        "a brain without any tumor",
        "a normal brain with no mass",
        "no focal lesion",
    ),
    "pituitary": (
        "a pituitary tumour",
        "a pituitary tumor",
        "pituitary tumour",
        "a pituitary adenoma",
        "a sellar mass",
        "a tumour of the pituitary gland",
        "an adenoma of the pituitary",
        "a tumour of the sella turcica",
    ),
    "akiec": (
        "an intraepithelial carcinoma",
        "actinic keratosis or intraepithelial carcinoma",
        "actinic keratosis or Bowen's disease",
    ),
    "bcc": ("basal cell carcinoma", "a basal cell carcinoma", "a basalioma", "a BCC", "a basal cell skin cancer"),
    "bkl": ("benign keratosis", "a benign keratosis", "a benign keratosis-like lesion", "a benign keratotic lesion"),
    "df": ("dermatofibroma", "a dermatofibroma", "a fibrous histiocytoma", "a benign dermatofibroma"),
    "mel": ("melanoma", "a melanoma", "a malignant melanoma", "a cutaneous melanoma", "a melanoma of the skin"),
    "nv": (
        "a melanocytic nevus",
        "a nevus",
        "a melanocytic naevus",
        "a mole",
        "a benign mole",
        "melanocytic nevi",
        "nevus",
        "a benign melanocytic nevus",
    ),
    "vasc": ("a vascular lesion", "vascular lesion", "a vascular skin lesion", "a benign vascular lesion"),
    "scc": (
        "squamous cell carcinoma",
        "a squamous cell carcinoma",
        "a squamous cell carcinoma of the skin",
        "a keratinising squamous cell carcinoma",
    ),
}
# Narrower names, each true of some looks of a diagnosis only: looks, then names.
SUBTYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "high-grade glioma": (
        ("glioma/ring", "glioma/butterfly", "glioma/haemorrhagic", "glioma/multifocal"),
        ("a glioblastoma", "a high grade glioma", "glioblastoma multiforme"),
    ),
    "low-grade glioma": (
        ("glioma/infiltrating", "glioma/cystic"),
        ("a low grade glioma", "a low grade astrocytoma", "an astrocytoma"),
    ),
    "pituitary microadenoma": (("pituitary/micro",), ("a pituitary microadenoma", "a microadenoma of the pituitary")),
    "pituitary macroadenoma": (
        ("pituitary/solid", "pituitary/necrotic", "pituitary/snowman", "pituitary/cystic", "pituitary/invasive"),
        ("a pituitary macroadenoma", "a macroadenoma of the pituitary"),
    ),
    "actinic keratosis": (
        ("akiec/scaly", "akiec/strawberry", "akiec/crusted", "akiec/pigmented"),
        ("actinic keratosis", "an actinic keratosis", "a solar keratosis", "a scaly actinic keratosis"),
    ),
    "Bowen's disease": (("akiec/bowen",), ("Bowen's disease", "a squamous cell carcinoma in situ")),
    "seborrheic keratosis": (
        ("bkl/cerebriform", "bkl/cystic", "bkl/dark", "bkl/pale"),
        ("a seborrheic keratosis", "a seborrhoeic keratosis", "seborrheic keratosis", "a stuck-on keratosis"),
    ),
    "pigmented benign keratosis": (
        ("bkl/flat", "bkl/lentigo", "bkl/lichenoid"),
        ("a pigmented benign keratosis", "a benign, pigmented keratosis", "pigmented benign keratosis"),
    ),
    "atypical nevus": (("nv/atypical",), ("an atypical nevus", "a dysplastic nevus")),
    "dermal nevus": (("nv/dermal",), ("a dermal nevus", "an intradermal naevus")),
    "blue nevus": (("nv/blue",), ("a blue nevus", "a blue naevus")),
    "lentigo maligna": (("mel/lentigo maligna",), ("a lentigo maligna", "a lentigo maligna melanoma")),
    "haemangioma": (
        ("vasc/lacunar", "vasc/homogeneous", "vasc/thrombosed"),
        ("a haemangioma", "a hemangioma", "an angioma", "a cherry angioma"),
    ),
    "angiokeratoma": (("vasc/angiokeratoma",), ("an angiokeratoma",)),
    "pyogenic granuloma": (("vasc/granuloma",), ("a pyogenic granuloma",)),
}
# What holds for every lesion of a look, whatever signs it shows; no two looks, and no sign, have the same words.
KIND_WORDS: dict[str, str] = {
    "glioma/ring": "with a necrotic core",
    "glioma/patchy": "patchy",
    "glioma/infiltrating": "diffusely infiltrating",
    "glioma/cystic": "cystic with a mural nodule",
    "glioma/butterfly": "crossing the corpus callosum like a butterfly",
    "glioma/multifocal": "multifocal",
    "glioma/haemorrhagic": "with haemorrhage",
    "meningioma/round": "round and homogeneous",
    "meningioma/lobulated": "lobulated",
    "meningioma/plaque": "flat along the dura",
    "meningioma/calcified": "calcified",
    "meningioma/part cystic": "with a cystic part",
    "meningioma/hyperostosis": "with thickened bone",
    "notumor/atrophic": "with wide ventricles and sulci of old age",
    "notumor/white-matter spots": "with small white matter spots",
    "pituitary/solid": "solid",
    "pituitary/necrotic": "with a necrotic centre",
    "pituitary/snowman": "with suprasellar extension",
    "pituitary/micro": "small within the gland",
    "pituitary/cystic": "cystic",
    "pituitary/invasive": "invading the cavernous sinus",
    "akiec/scaly": "scaly",
    "akiec/strawberry": "like a strawberry",
    "akiec/crusted": "crusted",
    "akiec/pigmented": "pigmented",
    "akiec/bowen": "of the Bowen type",
    "bcc/nodular": "nodular and pearly",
    "bcc/superficial": "superficial",
    "bcc/pigmented": "of the pigmented type",
    "bcc/ulcerated": "of the ulcerated type",
    "bcc/morphoeic": "pale and scar-like",
    "bkl/cerebriform": "of the cerebriform type",
    "bkl/cystic": "of the cystic type",
    "bkl/flat": "of the flat type",
    "bkl/dark": "dark and stuck on",
    "bkl/lentigo": "of the solar lentigo type",
    "bkl/lichenoid": "of the lichen-planus-like type",
    "bkl/pale": "pale and waxy",
    "df/white patch": "pale in the middle",
    "df/ring": "of the ring type",
    "df/pink": "pink",
    "df/network": "of the network type",
    "mel/superficial": "superficial spreading",
    "mel/nodular": "nodular",
    "mel/regressing": "regressing",
    "mel/amelanotic": "amelanotic",
    "mel/lentigo maligna": "on sun-damaged skin",
    "mel/thin": "thin and early",
    "nv/reticular": "reticular",
    "nv/globular": "globular",
    "nv/homogeneous": "of the homogeneous type",
    "nv/two-toned": "with a dark centre",
    "nv/atypical": "irregular",
    "nv/dermal": "raised",
    "nv/blue": "homogeneous blue",
    "nv/starburst": "with a starburst pattern",
    "vasc/lacunar": "of the lacunar type",
    "vasc/homogeneous": "homogeneous red",
    "vasc/thrombosed": "thrombosed",
    "vasc/spider": "of the spider type",
    "vasc/angiokeratoma": "of the angiokeratoma type",
    "vasc/granuloma": "of the granuloma type",
    "scc/keratinising": "of the keratinising type",
    "scc/ulcerated": "of the eroded type",
    "scc/circles": "of the circle type",
    "scc/flat": "of the superficial type",
}
# "lobar" has none: the places in one lobe would be true of it too.
PLACE_WORDS = {
    "deep": "deep in the hemisphere",
    "callosal": "near the corpus callosum",
    "frontal": "in the frontal lobe",
    "temporal": "in the temporal lobe",
    "parietal": "in the parietal lobe",
    "occipital": "in the occipital lobe",
    "brainstem": "in the brainstem",
    "cerebellar": "in the cerebellum",
    "convexity": "over the convexity",
    "falx": "at the falx",
    "skull base": "at the skull base",
    "sphenoid wing": "at the sphenoid wing",
    "olfactory groove": "in the olfactory groove",
    "tentorial": "at the tentorium",
    "cerebellopontine": "in the cerebellopontine angle",
    "intraventricular": "inside a ventricle",
    "sella": "in the sella",
}
CONTRAST_WORDS = {
    "t1": ("T1-weighted", "T1", "unenhanced T1"),
    "t1c": ("contrast-enhanced T1", "post-contrast T1-weighted", "gadolinium-enhanced"),
    "t2": ("T2-weighted", "T2"),
    "flair": ("FLAIR", "fluid-attenuated"),
    "dwi": ("diffusion-weighted", "DWI"),
}
ENHANCEMENT_WORDS = {
    "none": ("without enhancement", "not enhancing"),
    "homogeneous": ("with homogeneous enhancement", "enhancing evenly"),
    "heterogeneous": ("with irregular enhancement", "with heterogeneous enhancement"),
    "rim": ("with rim enhancement", "with a ring of enhancement"),
}
OEDEMA_WORDS = (("without oedema", "without edema"), ("with surrounding oedema", "with surrounding edema"))
MASS_WORDS = (("without mass effect",), ("with mass effect", "displacing the brain around it"))
SHIFT_WORDS = "with midline shift"
BORDER_WORDS = {
    "sharp": "a sharp border",
    "ill-defined": "an ill-defined border",
    "fading": "a fading border",
    "irregular": "an irregular border",
    "scalloped": "a scalloped border",
}
SYMMETRY_WORDS = ("asymmetric", "", "symmetric")
BRAIN_FRAMES = (
    "{a} MRI of the brain showing {n}",
    "{a} brain MRI with {n}",
    "{a} magnetic resonance image of {n}",
    "{a} MRI scan of a patient with {n}",
    "{a} MRI slice, {n}",
    "{a} MR image: {n}",
    "{a} brain scan, diagnosis {n}",
    "{a} head MRI demonstrating {n}",
    "{a} cranial magnetic resonance imaging scan with {n}",
    "{n} on {a} brain MRI",
    "{n}, {a} MRI",
    "{a} radiology image of {n}",
)
SKIN_FRAMES = (
    "{a} dermoscopy image of {n}",
    "{a} dermoscopic photograph of {n}",
    "{a} photo of a skin lesion, {n}",
    "{a} dermatoscopic image showing {n}",
    "{a} picture of {n} on the skin",
    "{a} close-up of {n}",
    "{n} seen by dermoscopy",
    "{n}, {a} skin lesion",
    "{a} image of {n}",
    "{a} skin photograph, diagnosis {n}",
    "{a} dermatology image of {n}",
    "{a} photograph of a skin lesion diagnosed as {n}",
)
# Frames without a diagnosis, for brain and for skin.
UNNAMED_FRAMES = (
    ("{a} MRI of the brain", "{a} brain MRI", "{a} brain scan", "{a} head MRI", "{a} cranial magnetic resonance image"),
    ("{a} dermoscopy image of {n}", "{a} photo of {n}", "{a} close-up of {n}", "{n}", "{n} seen by dermoscopy"),
)
BARE_FRAMES = (
    "{n}",
    "this is {n}",
    "a photo of {n}",
    "an image of {n}",
    "a picture showing {n}",
    "a patient with {n}",
    "findings: {n}",
)

OTHER_WORDS = """
hospital patient image scan slice of the brain head skin lesion with without and or in on at a an is are was
this that shows showing seen left right upper lower frontal temporal parietal occipital cerebellar lobe
hemisphere ventricle ventricles midline axial coronal sagittal weighted contrast enhancement enhancing oedema
edema necrosis mass effect haemorrhage hemorrhage calcification cyst cystic solid tumour tumor tumours tumors
cancer carcinoma benign malignant suspicious normal healthy disease diagnosis diagnosed finding findings
magnetic resonance imaging radiology dermoscopy dermoscopic dermatoscopy dermatology photograph photo picture
melanocytic nevus naevus melanoma keratosis seborrheic actinic basal squamous cell dermatofibroma vascular
angioma haemangioma pigment pigmented network globules streaks veil vessels ulcer crust scale border colour
color brown black red pink white blue grey gray yellow small medium large round irregular symmetric asymmetric
ring chest x-ray lung pneumonia retina fundus diabetic retinopathy ultrasound breast liver kidney spine knee
bone fracture ct computed tomography histology pathology tissue stain eye heart cardiac colon polyp endoscopy
child adult woman man female male years old no yes not any type grade stage class label one two three four
five six seven eight nine ten
"""
