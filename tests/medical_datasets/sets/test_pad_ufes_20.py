from __future__ import annotations

from pathlib import Path

import numpy as np
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.pixels import read_rgb
from wardround.medical_datasets.sets.pad_ufes_20 import PAD_UFES_20

from ..pictures import pattern, save
from .skin_trees import by_stem, images, listed, table

COLUMNS = [
    "patient_id",
    "lesion_id",
    "smoke",
    "drink",
    "background_father",
    "background_mother",
    "age",
    "pesticide",
    "gender",
    "skin_cancer_history",
    "cancer_history",
    "has_piped_water",
    "has_sewage_system",
    "fitspatrick",
    "region",
    "diameter_1",
    "diameter_2",
    "diagnostic",
    "itch",
    "grew",
    "hurt",
    "changed",
    "bleed",
    "elevation",
    "img_id",
    "biopsed",
]


def row(patient: str, image: str, diagnostic: str, **cells: str) -> list[str]:
    known = {"patient_id": patient, "lesion_id": "880", "img_id": image, "diagnostic": diagnostic, **cells}
    return [known.get(column, "") for column in COLUMNS]


def test_the_published_layout(tmp_path: Path) -> None:
    assert len(COLUMNS) == 26
    rows = [
        row(
            "PAT_46",
            "PAT_46_881_14.png",
            "BCC",
            age="55",
            gender="FEMALE",
            fitspatrick="3.0",
            region="NECK",
            smoke="False",
        ),
        row("PAT_46", "PAT_46_882_15.png", "SCC", age="55", gender="FEMALE", fitspatrick="3.0", region="NECK"),
        row("PAT_1516", "PAT_1516_1765_530.png", "NEV", age="8"),
        row("PAT_2", "PAT_2_3_4.PNG", "ACK", gender="MALE", fitspatrick="", region="UNK"),
    ]
    table(tmp_path / "metadata.csv", COLUMNS, rows)
    images(tmp_path / "imgs_part_1", ["PAT_46_881_14.png", "PAT_46_882_15.png"])
    images(tmp_path / "imgs_part_2" / "imgs_part_2", ["PAT_1516_1765_530.png"])
    images(tmp_path / "imgs_part_3", ["PAT_2_3_4.png"])
    listing = listed(PAD_UFES_20, tmp_path)
    items = by_stem(listing)
    assert {stem: (PAD_UFES_20.class_names[item.label], item.group) for stem, item in items.items()} == {
        "PAT_46_881_14": ("BCC", "patient_id:PAT_46"),
        "PAT_46_882_15": ("SCC", "patient_id:PAT_46"),
        "PAT_1516_1765_530": ("NEV", "patient_id:PAT_1516"),
        "PAT_2_3_4": ("ACK", "patient_id:PAT_2"),
    }
    assert dict(items["PAT_46_881_14"].subgroups) == {
        "sex": "female",
        "age_band": "40-59",
        "localisation": "neck",
        "skin_type": "III",
    }
    assert dict(items["PAT_1516_1765_530"].subgroups) == {"age_band": "0-19"}
    assert items["PAT_46_881_14"].cells["smoke"] == "False"
    assert not listing.skipped


def test_pictures_with_an_alpha_channel_are_read(tmp_path: Path) -> None:
    table(
        tmp_path / "metadata.csv", COLUMNS, [row("PAT_1", "PAT_1_1_1.png", "MEL"), row("PAT_2", "PAT_2_1_1.png", "SEK")]
    )
    colours = pattern(1, 32, colour=True)
    opaque = np.dstack([colours, np.full((32, 32), 255, dtype=np.uint8)])
    save(tmp_path / "imgs_part_1" / "PAT_1_1_1.png", opaque)
    save(tmp_path / "imgs_part_1" / "PAT_2_1_1.png", pattern(2, 32, colour=True))
    cohort = cohort_of(listed(PAD_UFES_20, tmp_path), allow_empty=True)
    assert np.array_equal(read_rgb(cohort.records[0].image), colours)


def test_the_column_of_skin_types_keeps_its_spelling(tmp_path: Path) -> None:
    columns = ["fitzpatrick" if column == "fitspatrick" else column for column in COLUMNS]
    table(tmp_path / "metadata.csv", columns, [row("PAT_1", "a.png", "MEL")])
    (problem,) = listed(PAD_UFES_20, tmp_path).problems
    assert "no column 'fitspatrick'" in str(problem)
    assert "rename the column 'fitzpatrick'" in str(problem)
