"""Diagnoses that several skin data sets share, in a dermatologist's words.

Codes are given where one concept is the whole class. Melanoma has none: these sets count melanoma in situ as melanoma,
and both SNOMED CT (93655004 malignant melanoma of skin, 109266006 melanoma in situ of skin) and ICD-O-3 (8720/3,
8720/2) keep the two apart. Benign keratosis (seborrhoeic keratosis, solar lentigo, lichen-planus-like keratosis),
vascular lesions (angioma, angiokeratoma, pyogenic granuloma, haemorrhage) and actinic keratosis together with
intraepithelial carcinoma are several diseases each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..cohort import ClassLabel, Code

ACTINIC_KERATOSIS_CODES: Final = (
    Code("SNOMED CT", "201101007", "Actinic keratosis"),
    Code("ICD-10", "L57.0", "Actinic keratosis"),
)
BASAL_CELL_CARCINOMA_CODES: Final = (
    Code("SNOMED CT", "254701007", "Basal cell carcinoma of skin"),
    Code("ICD-O-3", "8090/3", "Basal cell carcinoma, NOS"),
)
DERMATOFIBROMA_CODES: Final = (Code("ICD-O-3", "8832/0", "Dermatofibroma, NOS"),)
NAEVUS_CODES: Final = (
    Code("SNOMED CT", "400010006", "Melanocytic naevus of skin"),
    Code("ICD-10", "D22", "Melanocytic naevi"),
)
SEBORRHOEIC_KERATOSIS_CODES: Final = (Code("ICD-10", "L82", "Seborrhoeic keratosis"),)
SQUAMOUS_CELL_CARCINOMA_CODES: Final = (Code("SNOMED CT", "254651007", "Squamous cell carcinoma of skin"),)

DERMOSCOPY: Final[dict[str, ClassLabel]] = {
    label.name: label
    for label in (
        ClassLabel(
            name="AK",
            clinical_name="Actinic keratosis",
            prompts=(
                "a dermoscopy image of an actinic keratosis",
                "a scaly, rough actinic keratosis on sun-damaged skin seen through a dermatoscope",
                "a dermoscopic photograph of an actinic keratosis with a strawberry pattern",
            ),
            aliases=("actinic keratosis", "actinic keratoses"),
            codes=ACTINIC_KERATOSIS_CODES,
        ),
        ClassLabel(
            name="AKIEC",
            clinical_name="Actinic keratosis or intraepithelial carcinoma",
            prompts=(
                "a dermoscopy image of an actinic keratosis",
                "a dermoscopic photograph of an intraepithelial carcinoma, Bowen's disease",
                "a scaly, rough actinic keratosis on sun-damaged skin seen through a dermatoscope",
            ),
            aliases=("actinic keratosis", "actinic keratoses", "bowens disease", "ak"),
        ),
        ClassLabel(
            name="BCC",
            clinical_name="Basal cell carcinoma",
            prompts=(
                "a dermoscopy image of a basal cell carcinoma",
                "a dermoscopic photograph of a basal cell carcinoma with arborising vessels",
                "a pearly basal cell carcinoma with blue-grey nests seen through a dermatoscope",
            ),
            aliases=("basal cell carcinoma",),
            codes=BASAL_CELL_CARCINOMA_CODES,
        ),
        ClassLabel(
            name="BKL",
            clinical_name="Benign keratosis",
            prompts=(
                "a dermoscopy image of a benign keratosis",
                "a dermoscopic photograph of a seborrhoeic keratosis with milia-like cysts",
                "a solar lentigo or lichen-planus-like keratosis seen through a dermatoscope",
            ),
            aliases=("benign keratosis", "benign keratosis like lesions", "pigmented benign keratosis"),
        ),
        ClassLabel(
            name="DF",
            clinical_name="Dermatofibroma",
            prompts=(
                "a dermoscopy image of a dermatofibroma",
                "a dermoscopic photograph of a dermatofibroma with a central white patch",
                "a firm brown dermatofibroma with a fine peripheral network seen through a dermatoscope",
            ),
            aliases=("dermatofibroma",),
            codes=DERMATOFIBROMA_CODES,
        ),
        ClassLabel(
            name="MEL",
            clinical_name="Melanoma",
            prompts=(
                "a dermoscopy image of a melanoma",
                "a dermoscopic photograph of a malignant melanoma with an irregular border",
                "an asymmetric, many-coloured melanoma with an atypical pigment network",
            ),
            aliases=("melanoma",),
        ),
        ClassLabel(
            name="NV",
            clinical_name="Melanocytic naevus",
            prompts=(
                "a dermoscopy image of a melanocytic nevus",
                "a dermoscopic photograph of a benign mole",
                "a symmetric melanocytic naevus with a regular pigment network",
            ),
            aliases=("nevus", "naevus", "nevi", "naevi", "melanocytic nevus", "melanocytic nevi"),
            codes=NAEVUS_CODES,
        ),
        ClassLabel(
            name="SCC",
            clinical_name="Squamous cell carcinoma",
            prompts=(
                "a dermoscopy image of a squamous cell carcinoma",
                "a dermoscopic photograph of a squamous cell carcinoma with white circles and keratin",
                "a keratinising squamous cell carcinoma of the skin seen through a dermatoscope",
            ),
            aliases=("squamous cell carcinoma",),
            codes=SQUAMOUS_CELL_CARCINOMA_CODES,
        ),
        ClassLabel(
            name="VASC",
            clinical_name="Vascular lesion",
            prompts=(
                "a dermoscopy image of a vascular lesion",
                "a dermoscopic photograph of a haemangioma with red lacunae",
                "an angioma or angiokeratoma seen through a dermatoscope",
            ),
            aliases=("vascular lesion", "vascular lesions", "vascular"),
        ),
    )
}
"""Dermoscopic classes by the columns of the ISIC challenges."""


def uncoded(label: ClassLabel) -> ClassLabel:
    """The same class where a data set draws it wider than the codes."""
    return replace(label, codes=())
