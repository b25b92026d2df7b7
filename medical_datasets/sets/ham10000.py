"""HAM10000: dermoscopy of seven kinds of pigmented skin lesion, several images of one lesion.

Groups: ``lesion_id``; 10,015 images show 7,470 lesions, so a split by image leaks. An image whose lesion is blank is
compared with all others. Sites: the column ``dataset``, which
the copy of Harvard Dataverse has and the Kaggle copy lacks. Without a metadata table in the root, the images are read
from class folders named by the codes of the ``dx`` column, optionally under one folder a site.
"""

from __future__ import annotations

from typing import Final

from ..class_folders import list_class_folders
from ..cohort import ClassLabel, Dataset
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table
from .skin_classes import BASAL_CELL_CARCINOMA_CODES, DERMATOFIBROMA_CODES, NAEVUS_CODES
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
    # Why some classes have no code: see skin_classes.
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
            codes=BASAL_CELL_CARCINOMA_CODES,
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
            codes=DERMATOFIBROMA_CODES,
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
            codes=NAEVUS_CODES,
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
