"""Derm7pt: 1,011 cases of the Interactive Atlas of Dermoscopy with the seven-point checklist; twenty diagnoses in five
groups (J. Kawahara et al., 2019, table I).

One image a case: the dermoscopic one (column ``derm``). The clinical photograph (``clinic``) shows the same lesion and
is left out by name. Groups: the case, which is one lesion. The supplied split is by rows of ``meta.csv``, from 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final

from ..cohort import ClassLabel, Dataset, Skipped
from ..errors import TableError
from ..listed_images import Entry, Labels, LeftOut, Understand, list_table
from ..listing import Listing, Wanted
from ..tables import Row, Table, read_table
from .skin_classes import BASAL_CELL_CARCINOMA_CODES, NAEVUS_CODES, SEBORRHOEIC_KERATOSIS_CODES
from .skin_rows import skin_subgroups

_IMAGES: Final = "images"
_SPLITS: Final = {"train": "train", "valid": "validation", "test": "test"}  # <name>_indexes.csv -> split
GROUPS: Final = MappingProxyType(
    {
        "BCC": ("basal cell carcinoma",),
        "NEV": (
            "blue nevus",
            "clark nevus",
            "combined nevus",
            "congenital nevus",
            "dermal nevus",
            "recurrent nevus",
            "reed or spitz nevus",
        ),
        "MEL": (
            "melanoma",
            "melanoma (in situ)",
            "melanoma (less than 0.76 mm)",
            "melanoma (0.76 to 1.5 mm)",
            "melanoma (more than 1.5 mm)",
            "melanoma metastasis",
        ),
        "MISC": ("dermatofibroma", "lentigo", "melanosis", "miscellaneous", "vascular lesion"),
        "SK": ("seborrheic keratosis",),
    }
)
"""The diagnoses of ``meta.csv`` by class; each is also an alias of its class."""


def read_derm7pt(dataset: Dataset, wanted: Wanted) -> Listing:
    """The dermoscopic images of ``meta.csv``; raises as :func:`list_table`."""
    labels = Labels(dataset, wanted)
    clinical: set[str] = set()

    def understanding(table: Table) -> tuple[Table, Understand]:
        splits = _splits(table)

        def understand(row: Row) -> Entry | LeftOut:
            image, photograph = (_below_images(row.cells[column]) for column in ("derm", "clinic"))
            clinical.add(photograph)
            label = labels.of(row.cells["diagnosis"], row, image)
            if isinstance(label, LeftOut):
                return label
            return Entry(
                image,
                label,
                # A case is a lesion; it has no key of its own in other sets, so the name of this one is part of it.
                group=f"lesion_id:derm7pt-{row.cells['case_num']}",
                split=splits.get(row.number),
                subgroups=skin_subgroups(row.cells, place="location"),
            )

        return table, understand

    required = ("case_num", "diagnosis", "clinic", "derm")
    listing = list_table(dataset, wanted, ("meta/meta.csv", "meta.csv"), required, understanding, by="path")
    read = {item.relative for item in listing.items}
    return replace(listing, skipped=tuple(_named(skipped, listing, clinical - read) for skipped in listing.skipped))


def _below_images(written: str) -> str:
    return str(PurePosixPath(_IMAGES) / written.replace("\\", "/")) if written else ""


def _named(skipped: Skipped, listing: Listing, clinical: set[str]) -> Skipped:
    if skipped.path.relative_to(listing.root).as_posix() in clinical:
        return Skipped(skipped.path, "the clinical photograph of a case; its dermoscopic image is read")
    return skipped


def _splits(table: Table) -> dict[int, str]:
    """The supplied split of each row of the table, by row number; empty where the lists are not there."""
    of_row: dict[int, str] = {}
    there = {row.number for row in table.rows}
    for name, split in _SPLITS.items():
        path = table.path.parent / f"{name}_indexes.csv"
        if not path.is_file():
            continue
        for row in read_table(path, ("indexes",)).rows:
            written = row.cells["indexes"]
            number = int(written) + 2 if written.isdecimal() else -1  # the first row below the header is number 2
            if number not in there:
                raise TableError(
                    f"the index {written!r} is no row of {table.path.name}",
                    where=row.where,
                    remedy="restore both tables from one download",
                )
            if of_row.setdefault(number, split) != split:
                raise TableError(
                    f"the index {written!r} is in two parts of the split",
                    where=row.where,
                    remedy="restore the three lists from one download",
                )
    return of_row


DERM7PT: Final = Dataset(
    key="derm7pt",
    title="Derm7pt, seven-point checklist cases",
    modality="dermoscopy",
    classes=(
        ClassLabel(
            name="BCC",
            clinical_name="Basal cell carcinoma",
            prompts=(
                "a dermoscopy image of a basal cell carcinoma",
                "a dermoscopic photograph of a basal cell carcinoma with arborising vessels",
                "a pearly basal cell carcinoma with blue-grey nests seen through a dermatoscope",
            ),
            aliases=GROUPS["BCC"],
            codes=BASAL_CELL_CARCINOMA_CODES,
        ),
        ClassLabel(
            name="NEV",
            clinical_name="Melanocytic naevus",
            prompts=(
                "a dermoscopy image of a melanocytic nevus",
                "a dermoscopic photograph of a blue, Clark, Spitz or congenital nevus",
                "a symmetric melanocytic naevus with a regular pigment network",
            ),
            aliases=("nevus", "naevus", *GROUPS["NEV"]),
            codes=NAEVUS_CODES,
        ),
        # No code: in situ, invasive and metastatic melanoma together.
        ClassLabel(
            name="MEL",
            clinical_name="Melanoma",
            prompts=(
                "a dermoscopy image of a melanoma",
                "a dermoscopic photograph of a malignant melanoma with a blue-whitish veil",
                "an asymmetric, many-coloured melanoma with an atypical pigment network",
            ),
            aliases=GROUPS["MEL"],
        ),
        ClassLabel(
            name="MISC",
            clinical_name="Other lesion: dermatofibroma, lentigo, melanosis or vascular lesion",
            prompts=(
                "a dermoscopy image of a dermatofibroma or a vascular lesion",
                "a dermoscopic photograph of a lentigo or melanosis",
                "a benign lesion that is neither naevus nor keratosis seen through a dermatoscope",
            ),
            aliases=GROUPS["MISC"],
        ),
        ClassLabel(
            name="SK",
            clinical_name="Seborrhoeic keratosis",
            prompts=(
                "a dermoscopy image of a seborrheic keratosis",
                "a dermoscopic photograph of a seborrhoeic keratosis with milia-like cysts",
                "a waxy, stuck-on seborrhoeic keratosis with comedo-like openings",
            ),
            aliases=("seborrhoeic keratosis", *GROUPS["SK"]),
            codes=SEBORRHOEIC_KERATOSIS_CODES,
        ),
    ),
    layout=(
        "meta/meta.csv: case_num, diagnosis, seven_point_score, …, location, sex, clinic, derm, case_id",
        "meta/train_indexes.csv, meta/valid_indexes.csv, meta/test_indexes.csv: indexes",
        "images/<folder>/*.jpg",
    ),
    group_key="case, which is one lesion",
    site_key="",
    subgroup_columns=("sex", "localisation"),
    licence="for research and education only, by the terms that are agreed to before the download",
    citation=(
        "J. Kawahara, S. Daneshvar, G. Argenziano, G. Hamarneh, Seven-point checklist and skin lesion classification "
        "using multitask multimodal neural nets, IEEE Journal of Biomedical and Health Informatics 23(2), 2019"
    ),
    obtain="request it on the Derm7pt page of Simon Fraser University; give the folder that holds meta and images",
    signature=("meta/train_indexes.csv",),
    read=read_derm7pt,
)
