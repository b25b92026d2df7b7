from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.isic_2019 import ISIC_2019, source_of

from .skin_trees import by_stem, images, listed, one_hot, reasons, table

COLUMNS = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
# image, class, age, place, lesion, sex
ROWS = (
    ("ISIC_0000000", "NV", "55", "anterior torso", "", "female"),
    ("ISIC_0000002_downsampled", "MEL", "30", "", "", ""),
    ("ISIC_0024306", "NV", "45", "head/neck", "HAM_0000550", "male"),
    ("ISIC_0024307", "NV", "45", "head/neck", "HAM_0000550", "male"),
    ("ISIC_0053453", "SCC", "85", "palms/soles", "BCN_0000001", "female"),
    ("ISIC_0011402", "BKL", "", "", "MSK4_0011402", ""),
    ("ISIC_0060000", "AK", "", "", "", ""),
    ("ISIC_0060001", "UNK", "", "", "BCN_0000002", ""),
)


def tree(root: Path) -> Path:
    table(root / TRUTH, ("image", *COLUMNS), [(image, *one_hot(COLUMNS, name)) for image, name, *_ in ROWS])
    table(
        root / METADATA,
        ("image", "age_approx", "anatom_site_general", "lesion_id", "sex"),
        [(image, age, place, lesion, sex) for image, _, age, place, lesion, sex in reversed(ROWS)],
    )
    images(root / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input", [f"{row[0]}.jpg" for row in ROWS])
    return root


def test_lesions_sources_and_subgroups(tmp_path: Path) -> None:
    listing = listed(ISIC_2019, tree(tmp_path))
    items = by_stem(listing)
    assert {stem: ISIC_2019.class_names[item.label] for stem, item in items.items()} == {
        row[0]: row[1] for row in ROWS[:-1]
    }
    assert {stem: (item.group, item.site) for stem, item in items.items()} == {
        "ISIC_0000000": (None, "msk"),
        "ISIC_0000002_downsampled": (None, "msk"),
        "ISIC_0024306": ("lesion_id:HAM_0000550", "ham10000"),
        "ISIC_0024307": ("lesion_id:HAM_0000550", "ham10000"),
        "ISIC_0053453": ("lesion_id:BCN_0000001", "bcn20000"),
        "ISIC_0011402": ("lesion_id:MSK4_0011402", "msk"),
        "ISIC_0060000": (None, "unknown"),
    }
    assert dict(items["ISIC_0053453"].subgroups) == {
        "sex": "female",
        "age_band": "80+",
        "localisation": "palms/soles",
        "source": "bcn20000",
    }
    assert dict(items["ISIC_0060000"].subgroups) == {}
    assert reasons(listing) == {"ISIC_0060001.jpg": "marked UNK, which is no class"}
    groups = {record.group for record in cohort_of(listing, allow_empty=True).records}
    assert "lesion_id:HAM_0000550" in groups


def test_metadata_cells_can_be_the_site_column(tmp_path: Path) -> None:
    root = tree(tmp_path)
    listing = listed(ISIC_2019, root, "NV", "SCC")
    with pytest.raises(Exception, match="did you mean 'anatom_site_general'"):
        cohort_of(listing, site_column="anatom_site")
    sites = {record.site for record in cohort_of(listing, site_column="anatom_site_general", allow_empty=True).records}
    assert sites == {"anterior torso", "head/neck", "palms/soles"}


def test_without_metadata_groups_are_unknown_but_names_still_tell_some_sources(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / METADATA).unlink()
    items = by_stem(listed(ISIC_2019, root))
    assert {item.group for item in items.values()} == {None}
    assert items["ISIC_0000002_downsampled"].site == "msk"
    assert items["ISIC_0024306"].site == "unknown"


def test_a_table_without_the_unknown_column(tmp_path: Path) -> None:
    root = tree(tmp_path)
    table(root / TRUTH, ("image", *COLUMNS[:-1]), [(ROWS[0][0], *one_hot(COLUMNS[:-1], "NV"))])
    (root / METADATA).unlink()
    assert set(by_stem(listed(ISIC_2019, root))) == {"ISIC_0000000"}


@pytest.mark.parametrize(
    ("image", "lesion", "source"),
    [
        ("ISIC_0024305", "", "msk"),
        ("ISIC_0024306", "", None),
        ("ISIC_0070000_downsampled", "", "msk"),
        ("ISIC_0000001", "ham_1", "ham10000"),
        ("ISIC_0000001", "XYZ_1", None),
        ("photo", "", None),
    ],
)
def test_source_by_prefix_and_id(image: str, lesion: str, source: str | None) -> None:
    assert source_of(image, lesion) == source
