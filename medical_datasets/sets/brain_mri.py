"""Brain tumour MRI slices: the public Kaggle collections and every copy of them by class folders.

Two spellings of the class folders are in use, ``glioma``, ``meningioma``, ``notumor``, ``pituitary`` and
``glioma_tumor``, ``meningioma_tumor``, ``no_tumor``, ``pituitary_tumor``. Their alphabetical orders differ, so labels
follow the names. Groups: the public copies carry no patient key, and their Testing part repeats slices of Training;
near-duplicate clusters (a ``groups.csv``, or a perceptual hash where there is none) stand in for patients. Two
slices of one patient that do not look alike stay in different groups, so figures on this data remain somewhat
optimistic.
"""

from __future__ import annotations

from typing import Final

from ..class_folders import list_class_folders
from ..cohort import ClassLabel, Code, Dataset

BRAIN_MRI: Final = Dataset(
    key="brain-mri",
    title="Brain tumour MRI slices",
    modality="brain-mri",
    classes=(
        ClassLabel(
            name="glioma",
            clinical_name="Glioma",
            prompts=(
                "an MRI scan of a brain with a glioma",
                "a brain MRI slice showing a glioma",
                "magnetic resonance imaging of the brain with an infiltrative intra-axial tumour, a glioma",
                "a glioma with surrounding oedema and irregular enhancement on brain MRI",
            ),
            aliases=("glioma tumor", "glioma tumour"),
            codes=(
                Code("SNOMED CT", "393564001", "Glioma"),
                Code("ICD-O-3", "9380/3", "Glioma, malignant"),
            ),
        ),
        ClassLabel(
            name="meningioma",
            clinical_name="Meningioma",
            prompts=(
                "an MRI scan of a brain with a meningioma",
                "a brain MRI slice showing a meningioma",
                "magnetic resonance imaging of the brain with an extra-axial dural tumour, a meningioma",
                "a meningioma with a smooth border and homogeneous enhancement on brain MRI",
            ),
            aliases=("meningioma tumor", "meningioma tumour"),
            codes=(
                Code("SNOMED CT", "302820008", "Intracranial meningioma"),
                Code("ICD-O-3", "9530/0", "Meningioma, NOS"),
            ),
        ),
        ClassLabel(
            name="notumor",
            clinical_name="No tumour",
            prompts=(
                "an MRI scan of a healthy brain without a tumour",
                "a brain MRI slice with no tumor",
                "magnetic resonance imaging of a normal brain with no mass",
                "a normal brain MRI without any lesion",
            ),
            aliases=("no tumor", "no tumour", "normal", "healthy"),
        ),
        ClassLabel(
            name="pituitary",
            clinical_name="Pituitary tumour",
            prompts=(
                "an MRI scan of a brain with a pituitary tumor",
                "a brain MRI slice showing a pituitary adenoma",
                "magnetic resonance imaging of the brain with a tumour of the pituitary gland in the sella",
                "a pituitary macroadenoma in the sella turcica on brain MRI",
            ),
            aliases=("pituitary tumor", "pituitary tumour", "pituitary adenoma"),
            codes=(
                Code("SNOMED CT", "254956000", "Pituitary adenoma"),
                Code("ICD-O-3", "8272/0", "Pituitary adenoma, NOS"),
            ),
        ),
    ),
    layout=(
        "<class>/*.jpg",
        "Training/<class>/*.jpg, Testing/<class>/*.jpg",
        "<class>: glioma, meningioma, notumor, pituitary; or glioma_tumor, meningioma_tumor, no_tumor, pituitary_tumor",
        "optional groups.csv: path, near_duplicate_group",
    ),
    group_key="near-duplicate group",
    site_key="the folder above the class folders, where there is one",
    subgroup_columns=(),
    licence="public copies differ and some name none: read the page that your copy came from",
    citation=(
        "S. Bhuvaji et al., Brain Tumor Classification (MRI), Kaggle, 2020; "
        "M. Nickparvar, Brain Tumor MRI Dataset, Kaggle, 2021; J. Cheng, Brain tumor dataset, figshare, 2017"
    ),
    obtain=(
        "download one of the Kaggle collections in a browser and unpack it; the folder that holds Training "
        "and Testing (or the four class folders, or client_0 to client_3) is the path to give"
    ),
    read=list_class_folders,
)
