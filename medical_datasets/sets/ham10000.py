"""HAM10000: dermoscopy of seven kinds of pigmented skin lesion, several images of one lesion.

Groups: ``lesion_id``; 10,015 images show 7,470 lesions, so a split by image leaks. The folders read here are
class folders, optionally under one folder a site, with the class codes of the ``dx`` column.
"""

from __future__ import annotations

from typing import Final

from ..class_folders import list_class_folders
from ..cohort import ClassLabel, Dataset

HAM10000: Final = Dataset(
    key="ham10000",
    title="HAM10000 pigmented skin lesions",
    modality="dermoscopy",
    classes=(
        ClassLabel(
            name="akiec",
            clinical_name="Actinic keratosis or intraepithelial carcinoma",
            prompts=(
                "a dermoscopy image of an actinic keratosis",
                "a dermoscopic photograph of an intraepithelial carcinoma, Bowen's disease",
                "a scaly, rough actinic keratosis on sun-damaged skin seen through a dermatoscope",
            ),
            aliases=("actinic keratosis", "actinic keratoses", "bowens disease", "ak"),
        ),
        ClassLabel(
            name="bcc",
            clinical_name="Basal cell carcinoma",
            prompts=(
                "a dermoscopy image of a basal cell carcinoma",
                "a dermoscopic photograph of a basal cell carcinoma with arborising vessels",
                "a pearly basal cell carcinoma with blue-grey nests seen through a dermatoscope",
            ),
            aliases=("basal cell carcinoma",),
        ),
        ClassLabel(
            name="bkl",
            clinical_name="Benign keratosis",
            prompts=(
                "a dermoscopy image of a benign keratosis",
                "a dermoscopic photograph of a seborrhoeic keratosis with milia-like cysts",
                "a solar lentigo or lichen-planus-like keratosis seen through a dermatoscope",
            ),
            aliases=("benign keratosis", "benign keratosis like lesions", "pigmented benign keratosis"),
        ),
        ClassLabel(
            name="df",
            clinical_name="Dermatofibroma",
            prompts=(
                "a dermoscopy image of a dermatofibroma",
                "a dermoscopic photograph of a dermatofibroma with a central white patch",
                "a firm brown dermatofibroma with a fine peripheral network seen through a dermatoscope",
            ),
            aliases=("dermatofibroma",),
        ),
        ClassLabel(
            name="mel",
            clinical_name="Melanoma",
            prompts=(
                "a dermoscopy image of a melanoma",
                "a dermoscopic photograph of a malignant melanoma with an irregular border",
                "an asymmetric, many-coloured melanoma with an atypical pigment network",
            ),
            aliases=("melanoma",),
        ),
        ClassLabel(
            name="nv",
            clinical_name="Melanocytic naevus",
            prompts=(
                "a dermoscopy image of a melanocytic nevus",
                "a dermoscopic photograph of a benign mole",
                "a symmetric melanocytic naevus with a regular pigment network",
            ),
            aliases=("nevus", "naevus", "nevi", "naevi", "melanocytic nevus", "melanocytic nevi"),
        ),
        ClassLabel(
            name="vasc",
            clinical_name="Vascular lesion",
            prompts=(
                "a dermoscopy image of a vascular lesion",
                "a dermoscopic photograph of a haemangioma with red lacunae",
                "an angioma or angiokeratoma seen through a dermatoscope",
            ),
            aliases=("vascular lesion", "vascular lesions", "vascular"),
        ),
    ),
    layout=("<class>/*.jpg", "optional metadata.csv: path, label, lesion_id, sex, age"),
    group_key="lesion",
    site_key="the folder above the class folders, where there is one",
    subgroup_columns=("sex", "age_band", "source"),
    licence="CC BY-NC 4.0 (Harvard Dataverse and the ISIC archive)",
    citation=(
        "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source "
        "dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161, 2018"
    ),
    obtain=(
        "download it from Harvard Dataverse or the ISIC archive and sort the images into folders named by "
        "the codes of the dx column"
    ),
    read=list_class_folders,
)
