"""ISIC 2019: HAM10000, a part of BCN20000 and images of Memorial Sloan Kettering (MSK) in one set of eight classes.

Groups: ``lesion_id`` of the metadata; 2,084 of 25,331 images have none and, as all do without the metadata, get
near-duplicate clusters. The unknown class ``UNK`` is no class here: it is empty in the training data.

Sites: the source, by the prefix of the lesion: ``ham10000`` (``HAM_``), ``bcn20000`` (``BCN_``) or ``msk`` (``MSK``).
An image without a lesion is MSK's if its name ends in ``_downsampled`` or its number is below that of the first
HAM10000 image (ISIC_0024306): HAM10000 (10,015 images) and BCN20000 (12,413) have a lesion for every image, so that all
others are MSK's. An image that nothing tells of is at the site ``unknown``, as most are without the metadata.
"""

from __future__ import annotations

import re
from typing import Final

from ..cohort import Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..own_tables import join_rows
from ..tables import Row, Table, read_table
from .skin_classes import DERMOSCOPY, uncoded
from .skin_rows import one_hot, patient_or_lesion, skin_subgroups

_COLUMNS: Final = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
_TABLE: Final = "ISIC_2019_Training_GroundTruth.csv"
_METADATA: Final = "ISIC_2019_Training_Metadata.csv"
_SOURCES: Final = {"HAM": "ham10000", "BCN": "bcn20000", "MSK": "msk"}
_UNKNOWN: Final = "unknown"
_FIRST_HAM10000: Final = 24306
_NUMBER: Final = re.compile(r"ISIC_(\d{7})", re.IGNORECASE)


def source_of(image: str, lesion: str) -> str | None:
    """``ham10000``, ``bcn20000`` or ``msk`` by the lesion, else by the image's id (see the module); None: unknown."""
    if lesion:
        return _SOURCES.get(lesion[:3].upper())
    number = _NUMBER.match(image)
    if "_downsampled" in image.lower() or (number and int(number.group(1)) < _FIRST_HAM10000):
        return _SOURCES["MSK"]
    return None


def read_isic_2019(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the ground truth, with the metadata where it is there; raises as :func:`list_table`."""
    one_hot_columns = tuple(name.lower() for name in _COLUMNS)
    labels = Labels(dataset, wanted)
    metadata = wanted.root / _METADATA

    def understanding(table: Table) -> tuple[Table, Understand]:
        if metadata.is_file():
            table = join_rows(table, read_table(metadata, ("image", "lesion_id")), "image")
        columns = (*one_hot_columns, "unk") if "unk" in table.columns else one_hot_columns

        def understand(row: Row) -> Entry | LeftOut:
            image = row.cells["image"]
            written = one_hot(row, columns)
            if written == "unk":
                return LeftOut(image, "marked UNK, which is no class")
            label = labels.of(written, row, image)
            if isinstance(label, LeftOut):
                return label
            source = source_of(image, row.cells.get("lesion_id", ""))
            return Entry(
                image,
                label,
                group=patient_or_lesion(row.cells),
                site=source or _UNKNOWN,
                subgroups=skin_subgroups(row.cells, age="age_approx", place="anatom_site_general", source=source or ""),
            )

        return table, understand

    return list_table(dataset, wanted, (_TABLE,), ("image", *one_hot_columns), understanding)


ISIC_2019: Final = Dataset(
    key="isic-2019",
    title="ISIC 2019, lesion diagnosis",
    modality="dermoscopy",
    # SCC keeps no code: it holds Bowen's disease, a carcinoma in situ, from HAM10000's akiec.
    classes=tuple(uncoded(DERMOSCOPY[name]) if name == "SCC" else DERMOSCOPY[name] for name in _COLUMNS),
    layout=(
        f"{_TABLE}: image, {', '.join(_COLUMNS)}, UNK",
        f"{_METADATA}: image, age_approx, anatom_site_general, lesion_id, sex",
        "ISIC_2019_Training_Input/*.jpg, or anywhere below",
    ),
    group_key="lesion, else near-duplicate group",
    site_key="ham10000, bcn20000, msk or unknown, by the prefix of lesion_id, else by the ISIC id",
    subgroup_columns=("sex", "age_band", "localisation", "source"),
    licence="CC BY-NC 4.0",
    citation=(
        "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, Scientific Data 5, 180161, 2018; N. Codella et "
        "al., Skin lesion analysis toward melanoma detection, arXiv:1710.05006, 2017; M. Combalia et al., BCN20000: "
        "dermoscopic lesions in the wild, arXiv:1908.02288, 2019"
    ),
    obtain=(
        "on the data page of the ISIC challenge choose 2019, training: unpack the images and put the metadata and the "
        "ground truth beside their folder"
    ),
    signature=("ISIC_2019_Training_GroundTruth*",),
    read=read_isic_2019,
)
