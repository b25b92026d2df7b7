"""ISIC 2018, task 3: the images of HAM10000 as the challenge published them, classes in one-hot columns.

Groups: ``lesion_id`` of the supplementary lesion groupings; where it is blank or they are not there, near-duplicate
clusters. Known trap: the
order of the columns is not the alphabetical order of HAM10000's codes.
"""

from __future__ import annotations

from typing import Final

from ..cohort import Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..own_tables import join_rows
from ..tables import Row, Table, read_table
from .skin_classes import DERMOSCOPY
from .skin_rows import one_hot, patient_or_lesion

_COLUMNS: Final = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
_TABLES: Final = (
    "ISIC2018_Task3_Training_GroundTruth.csv",
    "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv",
)
_GROUPINGS: Final = (
    "ISIC2018_Task3_Training_LesionGroupings.csv",
    "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_LesionGroupings.csv",
)


def read_isic_2018(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the ground truth, with their lesions where the groupings are; raises as :func:`list_table`."""
    one_hot_columns = tuple(name.lower() for name in _COLUMNS)
    labels = Labels(dataset, wanted)
    groupings = next((wanted.root / name for name in _GROUPINGS if (wanted.root / name).is_file()), None)

    def understanding(table: Table) -> tuple[Table, Understand]:
        if groupings is not None:
            table = join_rows(table, read_table(groupings, ("image", "lesion_id")), "image")

        def understand(row: Row) -> Entry | LeftOut:
            image = row.cells["image"]
            label = labels.of(one_hot(row, one_hot_columns), row, image)
            if isinstance(label, LeftOut):
                return label
            return Entry(image, label, group=patient_or_lesion(row.cells))

        return table, understand

    return list_table(dataset, wanted, _TABLES, ("image", *one_hot_columns), understanding)


ISIC_2018: Final = Dataset(
    key="isic-2018",
    title="ISIC 2018 task 3, lesion diagnosis",
    modality="dermoscopy",
    classes=tuple(DERMOSCOPY[name] for name in _COLUMNS),
    layout=(
        "ISIC2018_Task3_Training_GroundTruth.csv (in the root or in a folder of its name): image, "
        + ", ".join(_COLUMNS),
        "ISIC2018_Task3_Training_Input/*.jpg, or anywhere below",
        "optional ISIC2018_Task3_Training_LesionGroupings.csv: image, lesion_id",
    ),
    group_key="lesion, else near-duplicate group",
    site_key="",
    subgroup_columns=(),
    licence="CC BY-NC 4.0",
    citation=(
        "N. Codella et al., Skin lesion analysis toward melanoma detection 2018, arXiv:1902.03368, 2019; P. Tschandl, "
        "C. Rosendahl, H. Kittler, The HAM10000 dataset, Scientific Data 5, 180161, 2018"
    ),
    obtain=(
        "on the data page of the ISIC challenge choose 2018, task 3, training: unpack the input and the ground truth "
        "into one folder, and put the lesion groupings (supplemental information of task 3) beside them"
    ),
    signature=("ISIC2018_Task3_Training_GroundTruth*",),
    read=read_isic_2018,
)
