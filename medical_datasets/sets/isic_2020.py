"""ISIC 2020 (SIIM-ISIC): 33,126 images of 2,056 patients, benign or malignant; 1.8 % are malignant.

Groups: ``patient_id``, else the tags' patient of a DICOM file or ``lesion_id``, else near-duplicate clusters. The
published list of duplicates is applied: of images that it joins one stays, the others are left out by name. Most benign
images were never biopsied; their diagnosis is "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..cohort import ClassLabel, Dataset
from ..errors import TableError
from ..image_files import image_id
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..pixels import IMAGE_SUFFIXES
from ..tables import Row, Table, read_table
from .skin_rows import patient_or_lesion, skin_subgroups

_TABLES: Final = (
    "ISIC_2020_Training_GroundTruth_v2.csv",
    "ISIC_2020_Training_GroundTruth.csv",
    "train.csv",
)
_DUPLICATES: Final = "ISIC_2020_Training_Duplicates.csv"
_TARGETS: Final = {"0": "benign", "1": "malignant"}


def read_isic_2020(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the ground truth without the published duplicates; raises as :func:`list_table`."""
    labels = Labels(dataset, wanted)
    duplicates = wanted.root / _DUPLICATES

    def understanding(table: Table) -> tuple[Table, Understand]:
        dropped: frozenset[str] = frozenset()
        if duplicates.is_file():
            pairs = read_table(duplicates, ("image_name_1", "image_name_2")).rows
            dropped = second_copies(
                ((image_id(row.cells["image_name_1"]), image_id(row.cells["image_name_2"])) for row in pairs),
                frozenset(image_id(row.cells["image_name"]) for row in table.rows),
            )

        def understand(row: Row) -> Entry | LeftOut:
            image = row.cells["image_name"]
            written = row.cells["benign_malignant"]
            target = _TARGETS.get(row.cells.get("target", "").removesuffix(".0"))
            if target is not None and target != written.lower():
                raise TableError(
                    "the columns 'benign_malignant' and 'target' contradict each other",
                    where=row.where,
                    remedy="restore the table, or remove the row",
                )
            label = labels.of(written, row, image)
            if isinstance(label, LeftOut):
                return label
            if image_id(image) in dropped:
                return LeftOut(image, f"a duplicate by {_DUPLICATES}")
            return Entry(
                image,
                label,
                group=patient_or_lesion(row.cells),
                subgroups=skin_subgroups(row.cells, age="age_approx", place="anatom_site_general_challenge"),
            )

        return table, understand

    return list_table(
        dataset,
        wanted,
        _TABLES,
        ("image_name", "patient_id", "benign_malignant"),
        understanding,
        suffixes=IMAGE_SUFFIXES | {".dcm"},
    )


def second_copies(pairs: Iterable[tuple[str, str]], there: frozenset[str]) -> frozenset[str]:
    """All but one of every set of images that pairs join, directly or in chains; the first of a pair stays.

    Args:
        pairs: two names of one picture.
        there: pairs with a name that is not among these are passed over, so that no picture is lost.
    """
    stays: dict[str, str] = {}

    def kept(name: str) -> str:
        while name in stays:
            name = stays[name]
        return name

    for first, second in pairs:
        if first in there and second in there and kept(first) != kept(second):
            stays[kept(second)] = kept(first)
    return frozenset(stays)


ISIC_2020: Final = Dataset(
    key="isic-2020",
    title="ISIC 2020, melanoma classification by patient",
    modality="dermoscopy",
    classes=(
        ClassLabel(
            name="benign",
            clinical_name="Benign skin lesion",
            prompts=(
                "a dermoscopy image of a benign skin lesion",
                "a dermoscopic photograph of a benign mole with a regular pattern",
                "a symmetric, evenly coloured benign lesion seen through a dermatoscope",
            ),
        ),
        # In this set every malignant image is a melanoma, but other sets are mapped to it by malignancy alone.
        ClassLabel(
            name="malignant",
            clinical_name="Malignant skin lesion",
            prompts=(
                "a dermoscopy image of a malignant skin lesion, a melanoma",
                "a dermoscopic photograph of a skin cancer with an irregular border",
                "an asymmetric, many-coloured malignant lesion seen through a dermatoscope",
            ),
        ),
    ),
    layout=(
        "ISIC_2020_Training_GroundTruth_v2.csv, ISIC_2020_Training_GroundTruth.csv or train.csv",
        "  columns image_name, patient_id, sex, age_approx, anatom_site_general_challenge, benign_malignant, target",
        "train/*.jpg or *.dcm, or anywhere below; of both, the JPEG is read",
        "optional ISIC_2020_Training_Duplicates.csv: image_name_1, image_name_2",
    ),
    group_key="patient",
    site_key="",
    subgroup_columns=("sex", "age_band", "localisation"),
    licence="CC BY-NC 4.0",
    citation=(
        "V. Rotemberg et al., A patient-centric dataset of images and metadata for identifying melanomas using "
        "clinical context, Scientific Data 8, 34, 2021"
    ),
    obtain=(
        "on the data page of the ISIC challenge choose 2020, training: unpack the JPEG or DICOM images, and put the "
        "ground truth (version 2) and the list of duplicates beside their folder; the Kaggle copy works too"
    ),
    signature=("ISIC_2020_Training_*.csv",),
    read=read_isic_2020,
)
