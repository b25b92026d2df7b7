"""HAM10000: dermoscopy of seven kinds of pigmented skin lesion, several images of one lesion.

Groups: ``lesion_id``; 10,015 images show 7,470 lesions, so a split by image leaks. An image whose lesion is blank is
compared with all others. Sites: the column ``dataset``, which the copy of Harvard Dataverse has and the Kaggle copy
lacks. Without a metadata table in the root, the images are read from class folders named by the codes of the ``dx``
column, optionally under one folder a site.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..class_folders import list_class_folders
from ..cohort import Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table
from .skin_classes import DERMOSCOPY
from .skin_rows import patient_or_lesion, skin_subgroups

_TABLES: Final = tuple(f"HAM10000_metadata{suffix}" for suffix in (".csv", ".tab", ".tsv", ""))


def read_ham10000(dataset: Dataset, wanted: Wanted) -> Listing:
    """The images of the metadata table, or without one those in class folders.

    Raises as :func:`..listed_images.list_table` or :func:`..class_folders.list_class_folders`.
    """
    if not any((wanted.root / name).is_file() for name in _TABLES):
        return list_class_folders(dataset, wanted)
    labels = Labels(dataset, wanted)

    def understand(row: Row) -> Entry | LeftOut:
        image = row.cells["image_id"]
        label = labels.of(row.cells["dx"], row, image)
        if isinstance(label, LeftOut):
            return label
        source = row.cells.get("dataset", "")
        return Entry(
            image,
            label,
            group=patient_or_lesion(row.cells),
            site=source or None,
            subgroups=skin_subgroups(row.cells, age="age", place="localization", source=source),
        )

    def understanding(table: Table) -> tuple[Table, Understand]:
        return table, understand

    return list_table(dataset, wanted, _TABLES, ("lesion_id", "image_id", "dx"), understanding)


HAM10000: Final = Dataset(
    key="ham10000",
    title="HAM10000 pigmented skin lesions",
    modality="dermoscopy",
    # The archive's classes under the codes of the column dx; why some have no code: see skin_classes.
    classes=tuple(
        replace(DERMOSCOPY[name.upper()], name=name) for name in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    ),
    layout=(
        "HAM10000_metadata.csv, .tab or no suffix: lesion_id, image_id, dx, dx_type, age, sex, localization, (dataset)",
        "HAM10000_images_part_1/*.jpg, HAM10000_images_part_2/*.jpg, or anywhere below",
        "or without that table <class>/*.jpg, optional metadata.csv: path, label, lesion_id, sex, age",
    ),
    group_key="lesion",
    site_key="dataset; of class folders, the folder above them",
    subgroup_columns=("sex", "age_band", "localisation", "source"),
    licence="CC BY-NC 4.0 (Harvard Dataverse and the ISIC archive)",
    citation=(
        "P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, a large collection of multi-source "
        "dermatoscopic images of common pigmented skin lesions, Scientific Data 5, 180161, 2018"
    ),
    obtain=(
        "download the two image parts and the metadata from Harvard Dataverse and unpack them into one folder; or sort "
        "the images into folders named by the codes of the dx column"
    ),
    signature=("HAM10000_metadata*",),
    read=read_ham10000,
)
