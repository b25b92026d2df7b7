"""PAD-UFES-20: 2,298 photographs taken with telephones in Espírito Santo, Brazil, of 1,373 patients.

Groups: ``patient_id``, else ``lesion_id``, else near-duplicate clusters. The column of skin types is spelled
``fitspatrick`` in the data. Some PNG files have an alpha channel. All skin cancers are biopsied and few of the other
classes are, so that ``biopsed`` tells the class.
"""

from __future__ import annotations

from typing import Final

from ..cohort import ClassLabel, Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table
from .skin_classes import (
    ACTINIC_KERATOSIS_CODES,
    BASAL_CELL_CARCINOMA_CODES,
    NAEVUS_CODES,
    SEBORRHOEIC_KERATOSIS_CODES,
)
from .skin_rows import patient_or_lesion, skin_subgroups


def read_pad_ufes_20(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of ``metadata.csv``; raises as :func:`list_table`."""
    labels = Labels(dataset, wanted)

    def understand(row: Row) -> Entry | LeftOut:
        image = row.cells["img_id"]
        label = labels.of(row.cells["diagnostic"], row, image)
        if isinstance(label, LeftOut):
            return label
        return Entry(
            image,
            label,
            group=patient_or_lesion(row.cells),
            subgroups=skin_subgroups(row.cells, sex="gender", age="age", place="region", skin_type="fitspatrick"),
        )

    def understanding(table: Table) -> tuple[Table, Understand]:
        return table, understand

    required = ("patient_id", "lesion_id", "fitspatrick", "diagnostic", "img_id")
    return list_table(dataset, wanted, ("metadata.csv",), required, understanding)


PAD_UFES_20: Final = Dataset(
    key="pad-ufes-20",
    title="PAD-UFES-20 clinical photographs of skin lesions",
    modality="clinical-photograph",
    classes=(
        ClassLabel(
            name="ACK",
            clinical_name="Actinic keratosis",
            prompts=(
                "a clinical photograph of an actinic keratosis",
                "a smartphone picture of a rough, scaly actinic keratosis on sun-damaged skin",
                "a close-up photograph of a red, crusted actinic keratosis",
            ),
            aliases=("actinic keratosis", "actinic keratoses"),
            codes=ACTINIC_KERATOSIS_CODES,
        ),
        ClassLabel(
            name="BCC",
            clinical_name="Basal cell carcinoma",
            prompts=(
                "a clinical photograph of a basal cell carcinoma",
                "a smartphone picture of a pearly basal cell carcinoma with a rolled border",
                "a close-up photograph of an ulcerated basal cell carcinoma with small vessels",
            ),
            aliases=("basal cell carcinoma",),
            codes=BASAL_CELL_CARCINOMA_CODES,
        ),
        # No code: see skin_classes, melanoma in situ.
        ClassLabel(
            name="MEL",
            clinical_name="Melanoma",
            prompts=(
                "a clinical photograph of a melanoma",
                "a smartphone picture of an asymmetric, many-coloured melanoma",
                "a close-up photograph of a dark melanoma with an irregular border",
            ),
            aliases=("melanoma",),
        ),
        ClassLabel(
            name="NEV",
            clinical_name="Melanocytic naevus",
            prompts=(
                "a clinical photograph of a melanocytic nevus",
                "a smartphone picture of a benign mole",
                "a close-up photograph of a symmetric, evenly brown naevus",
            ),
            aliases=("nevus", "naevus", "nevi", "naevi", "melanocytic nevus"),
            codes=NAEVUS_CODES,
        ),
        # No code: the set counts Bowen's disease, a carcinoma in situ, as squamous cell carcinoma; SNOMED CT 254651007
        # and ICD-O-3 8070/3 are the invasive tumour.
        ClassLabel(
            name="SCC",
            clinical_name="Squamous cell carcinoma or Bowen's disease",
            prompts=(
                "a clinical photograph of a squamous cell carcinoma of the skin",
                "a smartphone picture of a crusted, keratinising squamous cell carcinoma",
                "a close-up photograph of Bowen's disease, a scaly red plaque",
            ),
            aliases=("squamous cell carcinoma",),
        ),
        ClassLabel(
            name="SEK",
            clinical_name="Seborrhoeic keratosis",
            prompts=(
                "a clinical photograph of a seborrheic keratosis",
                "a smartphone picture of a waxy, stuck-on seborrhoeic keratosis",
                "a close-up photograph of a brown, warty seborrhoeic keratosis",
            ),
            aliases=("seborrheic keratosis", "seborrhoeic keratosis"),
            codes=SEBORRHOEIC_KERATOSIS_CODES,
        ),
    ),
    layout=(
        "metadata.csv: patient_id, lesion_id, …, age, gender, fitspatrick, region, diagnostic, img_id, biopsed",
        "imgs_part_1/*.png, imgs_part_2/*.png, imgs_part_3/*.png, or anywhere below",
    ),
    group_key="patient",
    site_key="",
    subgroup_columns=("sex", "age_band", "localisation", "skin_type"),
    licence="CC BY 4.0",
    citation=(
        "A. G. C. Pacheco et al., PAD-UFES-20: a skin lesion dataset composed of patient data and clinical images "
        "collected from smartphones, Data in Brief 32, 106221, 2020"
    ),
    obtain="search Mendeley Data for PAD-UFES-20; unpack the three image parts beside metadata.csv",
    signature=("imgs_part_*",),
    read=read_pad_ufes_20,
)
