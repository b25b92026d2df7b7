"""Words that captions are made of: names of diagnoses, of their looks, places and contrasts, and sentence frames."""

from __future__ import annotations

NAMES: dict[str, tuple[str, ...]] = {
    "glioma": (
        "a glioma",
        "glioma",
        "a glioma tumour",
        "a glioma tumor",
        "a glioblastoma",
        "a high grade glioma",
        "a low grade glioma",
        "an astrocytoma",
        "an intra-axial glial tumour",
        "a malignant brain tumour of glial cells",
        "a tumour inside the brain tissue",
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
        "a healthy brain without tumour",
        "a brain without any tumor",
        "normal findings",
    ),
    "pituitary": (
        "a pituitary tumour",
        "a pituitary tumor",
        "pituitary tumour",
        "a pituitary adenoma",
        "a pituitary macroadenoma",
        "a sellar mass",
        "a tumour of the pituitary gland",
        "an adenoma of the pituitary",
        "a pituitary microadenoma",
    ),
    "akiec": (
        "actinic keratosis",
        "an actinic keratosis",
        "actinic keratoses",
        "Bowen's disease",
        "an intraepithelial carcinoma",
        "a solar keratosis",
        "squamous cell carcinoma in situ",
        "actinic keratosis or intraepithelial carcinoma",
    ),
    "bcc": ("basal cell carcinoma", "a basal cell carcinoma", "a basalioma", "a BCC", "a basal cell skin cancer"),
    "bkl": (
        "benign keratosis",
        "a benign keratosis",
        "a seborrheic keratosis",
        "a seborrhoeic keratosis",
        "a solar lentigo",
        "a benign keratosis-like lesion",
        "a lichen planus-like keratosis",
        "a pigmented benign keratosis",
    ),
    "df": ("dermatofibroma", "a dermatofibroma", "a fibrous histiocytoma", "a benign dermatofibroma"),
    "mel": ("melanoma", "a melanoma", "a malignant melanoma", "a cutaneous melanoma", "an invasive melanoma"),
    "nv": (
        "a melanocytic nevus",
        "a nevus",
        "a melanocytic naevus",
        "a mole",
        "a benign mole",
        "melanocytic nevi",
        "a common mole",
        "nevus",
        "a benign melanocytic nevus",
    ),
    "vasc": (
        "a vascular lesion",
        "vascular lesion",
        "an angioma",
        "a haemangioma",
        "a hemangioma",
        "an angiokeratoma",
        "a pyogenic granuloma",
        "a cherry angioma",
        "a vascular skin lesion",
    ),
}
KIND_WORDS: dict[str, str] = {
    "glioma/ring": "ring-enhancing with a necrotic core",
    "glioma/patchy": "with patchy enhancement",
    "glioma/infiltrating": "diffusely infiltrating",
    "glioma/cystic": "cystic",
    "meningioma/round": "round and homogeneous",
    "meningioma/lobulated": "lobulated",
    "meningioma/plaque": "flat along the dura",
    "pituitary/solid": "solid",
    "pituitary/necrotic": "with a necrotic centre",
    "pituitary/snowman": "with suprasellar extension",
    "akiec/scaly": "scaly",
    "akiec/strawberry": "with a strawberry pattern",
    "akiec/crusted": "crusted",
    "akiec/pigmented": "pigmented",
    "bcc/nodular": "nodular and pearly",
    "bcc/superficial": "superficial",
    "bcc/pigmented": "with blue-grey ovoid nests",
    "bcc/ulcerated": "ulcerated",
    "bkl/cerebriform": "with cerebriform ridges",
    "bkl/cystic": "with milia-like cysts",
    "bkl/flat": "flat and light brown",
    "bkl/dark": "dark and stuck on",
    "df/white patch": "with a central white patch",
    "df/ring": "with a brown ring",
    "df/pink": "pink",
    "mel/superficial": "with several colours",
    "mel/nodular": "with a blue-white veil",
    "mel/regressing": "with regression",
    "mel/amelanotic": "amelanotic",
    "nv/reticular": "with a regular pigment network",
    "nv/globular": "globular",
    "nv/homogeneous": "homogeneous",
    "nv/two-toned": "with a dark centre",
    "vasc/lacunar": "with red lacunae",
    "vasc/homogeneous": "homogeneous red",
    "vasc/thrombosed": "thrombosed",
    "vasc/spider": "with fine red vessels",
}
PLACE_WORDS = {
    "deep": "deep in the hemisphere",
    "lobar": "in a lobe of the hemisphere",
    "callosal": "near the corpus callosum",
    "convexity": "over the convexity",
    "falx": "at the falx",
    "skull base": "at the skull base",
    "sella": "in the sella",
}
CONTRAST_WORDS = {
    "t1": ("T1-weighted", "T1", "unenhanced T1"),
    "t1c": ("contrast-enhanced T1", "post-contrast T1-weighted", "gadolinium-enhanced"),
    "t2": ("T2-weighted", "T2"),
    "flair": ("FLAIR", "fluid-attenuated"),
    "dwi": ("diffusion-weighted", "DWI"),
}
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
