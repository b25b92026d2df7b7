"""ISIC dermoscopy sorted into class folders: the nine-class Kaggle copy and its relatives.

Groups: ``lesion_id`` of an optional ``metadata.csv``, else the ISIC id, else near-duplicate clusters. Known
trap: the source collection is confounded with the class, and a public copy shows the same 155 images in two
classes.
"""

from __future__ import annotations

from typing import Final

from ..class_folders import list_class_folders
from ..cohort import ClassLabel, Dataset
from .skin_classes import (
    ACTINIC_KERATOSIS_CODES,
    BASAL_CELL_CARCINOMA_CODES,
    DERMATOFIBROMA_CODES,
    NAEVUS_CODES,
    SEBORRHOEIC_KERATOSIS_CODES,
)

ISIC: Final = Dataset(
    key="isic",
    title="ISIC skin lesions in class folders",
    modality="dermoscopy",
    # Why some classes have no code: see skin_classes. Squamous cell carcinoma holds Bowen's disease here, and pigmented
    # benign keratosis is what the archive calls HAM10000's bkl.
    classes=(
        ClassLabel(
            name="actinic keratosis",
            clinical_name="Actinic keratosis",
            prompts=(
                "a dermoscopy image of an actinic keratosis",
                "a scaly, rough actinic keratosis on sun-damaged skin seen through a dermatoscope",
                "a dermoscopic photograph of an actinic keratosis with a strawberry pattern",
            ),
            aliases=("actinic keratoses", "ak", "akiec"),
            codes=ACTINIC_KERATOSIS_CODES,
        ),
        ClassLabel(
            name="basal cell carcinoma",
            clinical_name="Basal cell carcinoma",
            prompts=(
                "a dermoscopy image of a basal cell carcinoma",
                "a dermoscopic photograph of a basal cell carcinoma with arborising vessels",
                "a pearly basal cell carcinoma with blue-grey nests seen through a dermatoscope",
            ),
            aliases=("bcc",),
            codes=BASAL_CELL_CARCINOMA_CODES,
        ),
        ClassLabel(
            name="dermatofibroma",
            clinical_name="Dermatofibroma",
            prompts=(
                "a dermoscopy image of a dermatofibroma",
                "a dermoscopic photograph of a dermatofibroma with a central white patch",
                "a firm brown dermatofibroma with a fine peripheral network seen through a dermatoscope",
            ),
            aliases=("df",),
            codes=DERMATOFIBROMA_CODES,
        ),
        ClassLabel(
            name="melanoma",
            clinical_name="Melanoma",
            prompts=(
                "a dermoscopy image of a melanoma",
                "a dermoscopic photograph of a malignant melanoma with an irregular border",
                "an asymmetric, many-coloured melanoma with an atypical pigment network",
            ),
            aliases=("mel", "malignant melanoma"),
        ),
        ClassLabel(
            name="nevus",
            clinical_name="Melanocytic naevus",
            prompts=(
                "a dermoscopy image of a melanocytic nevus",
                "a dermoscopic photograph of a benign mole",
                "a symmetric melanocytic naevus with a regular pigment network",
            ),
            aliases=("nv", "naevus", "nevi", "naevi", "melanocytic nevus", "melanocytic nevi"),
            codes=NAEVUS_CODES,
        ),
        ClassLabel(
            name="pigmented benign keratosis",
            clinical_name="Pigmented benign keratosis",
            prompts=(
                "a dermoscopy image of a pigmented benign keratosis",
                "a dermoscopic photograph of a benign, pigmented keratosis with a sharp border",
                "a solar lentigo or lichen-planus-like keratosis seen through a dermatoscope",
            ),
            aliases=("benign keratosis", "pbk", "bkl"),
        ),
        ClassLabel(
            name="seborrheic keratosis",
            clinical_name="Seborrhoeic keratosis",
            prompts=(
                "a dermoscopy image of a seborrheic keratosis",
                "a dermoscopic photograph of a seborrhoeic keratosis with milia-like cysts",
                "a waxy, stuck-on seborrhoeic keratosis with comedo-like openings",
            ),
            aliases=("seborrhoeic keratosis", "sk", "sek"),
            codes=SEBORRHOEIC_KERATOSIS_CODES,
        ),
        ClassLabel(
            name="squamous cell carcinoma",
            clinical_name="Squamous cell carcinoma",
            prompts=(
                "a dermoscopy image of a squamous cell carcinoma",
                "a dermoscopic photograph of a squamous cell carcinoma with white circles and keratin",
                "a keratinising squamous cell carcinoma of the skin seen through a dermatoscope",
            ),
            aliases=("scc",),
        ),
        ClassLabel(
            name="vascular lesion",
            clinical_name="Vascular lesion",
            prompts=(
                "a dermoscopy image of a vascular lesion",
                "a dermoscopic photograph of a haemangioma with red lacunae",
                "an angioma or angiokeratoma seen through a dermatoscope",
            ),
            aliases=("vasc", "vascular lesions", "vascular"),
        ),
    ),
    layout=(
        "<class>/*.jpg, or Train/<class>/*.jpg and Test/<class>/*.jpg",
        "optional metadata.csv: path, label, isic_id, lesion_id, source, sex, age",
    ),
    group_key="lesion, else ISIC id; without the table, near-duplicate group",
    site_key="the folder above the class folders, where there is one",
    subgroup_columns=("sex", "age_band", "source"),
    licence="CC0, CC BY or CC BY-NC, image by image: see the ISIC archive",
    citation="International Skin Imaging Collaboration, ISIC archive, 2016 to 2024",
    obtain=(
        "download a class-folder copy, or images and metadata from the ISIC archive sorted into folders named "
        "by diagnosis; a metadata.csv with the columns path, label, isic_id and lesion_id is read if there"
    ),
    read=list_class_folders,
)
