from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, TableError, UnknownClassError
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.ham10000 import HAM10000

from ..pictures import save
from .skin_trees import by_stem, images, listed, reasons, table

COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset")
ROWS = (
    ("HAM_0000118", "ISIC_0027419", "bkl", "histo", "80.0", "male", "scalp", "vidir_modern"),
    ("HAM_0000118", "ISIC_0025030", "bkl", "histo", "80.0", "male", "scalp", "vidir_modern"),
    ("HAM_0002730", "ISIC_0026769", "mel", "histo", "", "unknown", "unknown", "rosendahl"),
    ("", "ISIC_0024306", "nv", "follow_up", "45.0", "female", "Lower Extremity", "vidir_molemax"),
    ("HAM_0000001", "ISIC_0024310", "akiec", "consensus", "5", "female", "face", "vienna_dias"),
)


def tree(root: Path, name: str = "HAM10000_metadata.csv", separator: str = ",") -> Path:
    table(root / name, COLUMNS, ROWS, separator=separator)
    images(root / "HAM10000_images_part_1", ["ISIC_0027419.jpg", "ISIC_0025030.JPG", "ISIC_0024310.jpg"])
    images(root / "HAM10000_images_part_2", ["ISIC_0026769.jpg", "ISIC_0024306.jpg"])
    return root


@pytest.mark.parametrize(
    ("name", "separator"),
    [("HAM10000_metadata.csv", ","), ("HAM10000_metadata.tab", "\t"), ("HAM10000_metadata", ",")],
)
def test_the_published_layout(tmp_path: Path, name: str, separator: str) -> None:
    listing = listed(HAM10000, tree(tmp_path, name, separator))
    items = by_stem(listing)
    assert [item.relative for item in listing.items] == sorted(item.relative for item in listing.items)
    assert {stem: HAM10000.class_names[item.label] for stem, item in items.items()} == {
        image: dx for _, image, dx, *_ in ROWS
    }
    assert items["ISIC_0025030"].group == items["ISIC_0027419"].group == "lesion_id:HAM_0000118"
    assert items["ISIC_0024306"].group is None
    assert {item.site for item in items.values()} == {"vidir_modern", "rosendahl", "vidir_molemax", "vienna_dias"}
    assert dict(items["ISIC_0027419"].subgroups) == {
        "sex": "male",
        "age_band": "80+",
        "localisation": "scalp",
        "source": "vidir_modern",
    }
    assert dict(items["ISIC_0026769"].subgroups) == {"source": "rosendahl"}
    assert items["ISIC_0024306"].subgroups["localisation"] == "lower extremity"
    assert items["ISIC_0024310"].cells["dx_type"] == "consensus"
    assert items["ISIC_0024310"].where.endswith(f"{name}, row 6")
    assert set(COLUMNS) == set(listing.columns)
    assert not listing.skipped


def test_the_kaggle_copy_has_no_source_and_every_part_twice(tmp_path: Path) -> None:
    table(tmp_path / "HAM10000_metadata.csv", COLUMNS[:-1], [row[:-1] for row in ROWS])
    names = [f"{row[1]}.jpg" for row in ROWS]
    for folder in ("HAM10000_images_part_1", "ham10000_images_part_1"):
        for seed, name in enumerate(names):
            save(tmp_path / folder / name, seed)
    (tmp_path / "hmnist_28_28_RGB.csv").write_text("pixel0\n1\n", encoding="utf-8")
    listing = listed(HAM10000, tmp_path)
    assert {item.relative for item in listing.items} == {f"HAM10000_images_part_1/{name}" for name in names}
    assert {item.site for item in listing.items} == {None}
    assert len(listing.skipped) == 5
    assert {skipped.reason for skipped in listing.skipped} == {"a copy of another file of its name"}
    assert {skipped.of for skipped in listing.skipped} == {f"HAM10000_images_part_1/{name}" for name in names}


def test_an_image_without_a_lesion_is_compared_with_all(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for seed, name in enumerate(["1/ISIC_0027419.jpg", "1/ISIC_0025030.JPG", "2/ISIC_0026769.jpg"]):
        save(root / f"HAM10000_images_part_{name}", seed)
    save(root / "HAM10000_images_part_2" / "ISIC_0024306.jpg", 5)
    save(root / "HAM10000_images_part_1" / "ISIC_0024310.jpg", 5)
    cohort = cohort_of(listed(HAM10000, root), allow_empty=True)
    group = {record.path.stem: record.group for record in cohort.records}
    assert group["ISIC_0024306"] == group["ISIC_0024310"] == "lesion_id:HAM_0000001"
    assert len(set(group.values())) == 3


def test_masks_and_other_images_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    images(root / "HAM10000_segmentations_lesion_tschandl", ["ISIC_0027419_segmentation.png"])
    assert reasons(listed(HAM10000, root)) == {"ISIC_0027419_segmentation.png": "not listed in HAM10000_metadata.csv"}


def test_a_truncated_image_is_listed_and_found_when_it_is_decoded(tmp_path: Path) -> None:
    root = tree(tmp_path)
    damaged = root / "HAM10000_images_part_2" / "ISIC_0026769.jpg"
    damaged.write_bytes(damaged.read_bytes()[:40])
    cohort = cohort_of(listed(HAM10000, root), allow_empty=True)
    assert [item.path for item in cohort.skipped] == [damaged]
    assert len(cohort.records) == 4


def test_missing_image_unknown_class_and_double_row_are_all_reported(tmp_path: Path) -> None:
    root = tree(tmp_path)
    rows = [
        *ROWS,
        ("HAM_9", "ISIC_0030001", "nv", "", "", "", "", ""),
        ("HAM_9", "ISIC_0030002", "nv", "", "", "", "", ""),
        ("HAM_1", "ISIC_0024306", "nv", "", "", "", "", ""),
        ("HAM_1", "ISIC_0024310.jpg", "nevuss", "", "", "", "", ""),
        ("HAM_1", "ISIC_0030003", "", "", "", "", "", ""),
    ]
    table(root / "HAM10000_metadata.csv", COLUMNS, rows)
    problems = listed(HAM10000, root).problems
    words = [f"{type(problem).__name__}: {problem}" for problem in problems]
    assert len(words) == 4
    assert any("2 of 10 rows name an image that is not there" in text and "'ISIC_0030001'" in text for text in words)
    assert any("two rows name one image" in text and "row 9, and row 5" in text for text in words)
    assert any(text.startswith("UnknownClassError: the label 'nevuss'") and "'nv'" in text for text in words)
    assert any("names no class" in text and "row 11" in text for text in words)
    with pytest.raises((TableError, UnknownClassError)):
        cohort_of(listed(HAM10000, root))


def test_classes_that_are_not_wanted_need_no_files(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "HAM10000_images_part_1" / "ISIC_0024310.jpg").unlink()
    assert len(listed(HAM10000, root).problems) == 1
    listing = listed(HAM10000, root, "mel", "nevus")
    assert set(by_stem(listing)) == {"ISIC_0026769", "ISIC_0024306"}
    assert not listing.skipped


def test_class_folders_without_the_table(tmp_path: Path) -> None:
    for seed, name in enumerate(("mel", "nv")):
        save(tmp_path / "site-a" / name / "a.png", seed)
        save(tmp_path / "site-b" / name / "a.png", 10 + seed)
    listing = listed(HAM10000, tmp_path)
    assert {(item.site, HAM10000.class_names[item.label]) for item in listing.items} == {
        (site, name) for site in ("site-a", "site-b") for name in ("mel", "nv")
    }
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        HAM10000.read(HAM10000, Wanted(tmp_path / "nowhere"))


def test_a_table_without_a_column_is_a_problem(tmp_path: Path) -> None:
    table(tmp_path / "HAM10000_metadata.csv", ("lesion_id", "image", "dx"), [("a", "b", "nv")])
    (problem,) = listed(HAM10000, tmp_path).problems
    assert "no column 'image_id'" in str(problem)
