"""BCN20000: dermoscopy of the Hospital Clínic de Barcelona, lesions as they came, hard places included.

Groups: ``lesion_id``, else near-duplicate clusters. A part of it is in ISIC 2019 under other names: a study that joins
the two shows a model the same lesions twice.
"""

from __future__ import annotations

from typing import Final

from ..cohort import Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table
from .skin_classes import DERMOSCOPY
from .skin_rows import patient_or_lesion, skin_subgroups, supplied_split

_CLASSES: Final = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
_TABLES: Final = ("bcn_20k_train.csv", "BCN_20k_train.csv")


def read_bcn20000(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the table that have a diagnosis; raises as :func:`list_table`."""
    labels = Labels(dataset, wanted)

    def understand(row: Row) -> Entry | LeftOut:
        image, written = row.cells["bcn_filename"], row.cells["diagnosis"]
        if written.upper() in ("", "NAN", "OOD"):
            why = "out of distribution (OOD), which is no class" if written.upper() == "OOD" else "has no diagnosis"
            return LeftOut(image, why)
        label = labels.of(written, row, image)
        if isinstance(label, LeftOut):
            return label
        return Entry(
            image,
            label,
            group=patient_or_lesion(row.cells),
            split=supplied_split(row.cells.get("split", "")),
            subgroups=skin_subgroups(row.cells, age="age_approx", place="anatom_site_general"),
        )

    def understanding(table: Table) -> tuple[Table, Understand]:
        return table, understand

    return list_table(dataset, wanted, _TABLES, ("bcn_filename", "diagnosis", "lesion_id"), understanding)


BCN20000: Final = Dataset(
    key="bcn20000",
    title="BCN20000 dermoscopic lesions in the wild",
    modality="dermoscopy",
    classes=tuple(DERMOSCOPY[name] for name in _CLASSES),
    layout=(
        "bcn_20k_train.csv: bcn_filename, age_approx, anatom_site_general, diagnosis, lesion_id, …, sex, split",
        "BCN_20k_train/*.jpg, or anywhere below",
    ),
    group_key="lesion",
    site_key="",
    subgroup_columns=("sex", "age_band", "localisation"),
    licence="CC BY-NC 4.0",
    citation=("C. Hernández-Pérez et al., BCN20000: dermoscopic lesions in the wild, Scientific Data 11, 641, 2024"),
    obtain=("search figshare for BCN20000: unpack the training images and put bcn_20k_train.csv beside their folder"),
    signature=("bcn_20k_train.csv", "BCN_20k_train.csv"),
    read=read_bcn20000,
)
