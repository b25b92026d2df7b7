from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from wardround.medical_datasets.errors import DatasetLayoutError, EmptyClassError, UnknownClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.domains import DOMAINS

from ..pictures import save


def read(root: Path, *classes: str) -> Listing:
    return DOMAINS.read(DOMAINS, Wanted(root, classes or None))


def tree(root: Path, *folders: str) -> Path:
    for number, folder in enumerate(folders):
        save(root / folder / "1.jpg", number)
    return root


def test_pacs(tmp_path: Path) -> None:
    sites = ("art_painting", "cartoon", "photo", "sketch")
    tree(tmp_path, *(f"{site}/{name}" for site in sites for name in ("dog", "elephant", "guitar")))
    listing = read(tmp_path, "guitar", "dog")
    assert not listing.problems
    assert listing.dataset.class_names == ("guitar", "dog")
    assert [(item.relative, item.site, item.label) for item in listing.items] == [
        (f"{site}/{name}/1.jpg", site, label) for site in sites for name, label in (("dog", 1), ("guitar", 0))
    ]
    assert {skipped.path.relative_to(tmp_path).as_posix(): skipped.reason for skipped in listing.skipped} == {
        f"{site}/elephant/1.jpg": "the folder 'elephant' is none of the classes asked for" for site in sites
    }
    assert len(cohort_of(listing).records) == 8


def test_office_home_names_become_site_names(tmp_path: Path) -> None:
    tree(tmp_path, "Real World/Alarm_Clock", "Real World/Bike", "Clipart/Bike", "Art/Alarm_Clock", "Product/Bike")
    listing = read(tmp_path, "alarm clock", "bike")
    assert not listing.problems
    assert {item.relative.split("/")[0]: item.site for item in listing.items} == {
        "Real World": "real_world",
        "Clipart": "clipart",
        "Art": "art",  # lacks a class, which one site may
        "Product": "product",
    }


def test_vlcs_parts_of_a_split(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *(f"{site}/{part}/{name}" for site in ("CALTECH", "SUN") for part in ("train", "val") for name in "01"),
    )
    listing = read(tmp_path, "0", "1")
    assert not listing.problems
    assert {(item.site, item.split) for item in listing.items} == {
        (site, part) for site in ("caltech", "sun") for part in ("train", "validation")
    }


def test_names_that_are_alike_are_other_classes(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{site}/grade_{grade}" for site in "ab" for grade in (2, 3, 4)))
    listing = read(tmp_path, "grade_2", "grade_4")
    assert not listing.problems
    assert [item.label for item in listing.items] == [0, 1, 0, 1]
    assert all("'grade_3' is none of the classes asked for (is it 'grade_" in s.reason for s in listing.skipped)
    assert len(listing.skipped) == 2


def test_a_misspelt_folder_is_a_problem_that_says_what_was_meant(tmp_path: Path) -> None:
    tree(tmp_path, "a/benign", "a/malignant", "b/bengin", "b/malignant", "c/bengin")
    (problem,) = read(tmp_path, "benign", "malignant").problems
    assert isinstance(problem, UnknownClassError)
    assert problem.where == str(tmp_path / "b/bengin")
    assert "did you mean 'benign'?" in problem.remedy


def test_without_classes_in_the_study_a_check_sees_those_of_the_folders(tmp_path: Path) -> None:
    listing = read(tree(tmp_path, "a/well", "a/ill", "b/train/ill", "b/test/well"))
    assert [type(problem) for problem in listing.problems] == [EmptyClassError]
    assert listing.dataset.class_names == ("ill", "well")
    assert [(item.site, item.label) for item in listing.items] == [("a", 0), ("a", 1), ("b", 1), ("b", 0)]


@pytest.mark.parametrize(
    ("folder", "site"),
    [
        ("Krankenhaus Süd", "krankenhaus_sud"),
        (unicodedata.normalize("NFD", "Krankenhaus Süd"), "krankenhaus_sud"),
        ('Ärzte "Nord"', "arzte_nord"),
        ("Großstadt", "grossstadt"),
        ("Ål - Øst", "al_st"),
        ("北", "北"),  # refused by name where sites are checked
    ],
)
def test_accents_are_dropped_from_names_of_sites(tmp_path: Path, folder: str, site: str) -> None:
    listing = read(tree(tmp_path, f"{folder}/ill", "other/well"), "ill", "well")
    assert {item.site for item in listing.items} == {site, "other"}


def test_sites_that_are_one_without_accents_are_refused_with_both_names(tmp_path: Path) -> None:
    tree(tmp_path, *(f"Klinik {letter}/ill" for letter in "äöüa"))
    with pytest.raises(DatasetLayoutError, match="'Klinik a', 'Klinik ä' are one site's name, 'klinik_a'"):
        cohort_of(read(tmp_path, "ill", "well"))


def test_a_link_that_leads_back_up_is_skipped_by_name(tmp_path: Path) -> None:
    root = tree(tmp_path / "data", "a/ill", "a/well", "b/ill")
    (tmp_path / "store").mkdir()
    for link, target in {
        "a/ill/up": root,
        "a/well/here": root / "a/well",
        "b/again": root / "b",
        "a/over": tmp_path,
        "b/store": tmp_path / "store",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "store" / "back").symlink_to(root)
    save(tmp_path / "store" / "well" / "2.jpg", 2)
    listing = read(root, "ill", "well")
    assert not listing.problems
    found = [item.relative for item in listing.items]
    assert found == ["a/ill/1.jpg", "a/well/1.jpg", "b/ill/1.jpg", "b/store/well/2.jpg"]
    left = {item.path.relative_to(root).as_posix(): item.reason for item in listing.skipped}
    assert set(left) == {"a/ill/up", "a/well/here", "b/again", "a/over", "b/store/back"}
    assert set(left.values()) == {"a link to a folder that holds it, which is not followed"}


def test_folders_of_patients_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    tree(tmp_path, "a/ill/p1", "a/ill/p2", "b/well/p1", "b/other/p3/left")
    listing = read(tmp_path, "ill", "well")
    assert not listing.problems
    assert [item.relative for item in listing.items] == ["a/ill/p1/1.jpg", "a/ill/p2/1.jpg", "b/well/p1/1.jpg"]
    assert [skipped.path.name for skipped in listing.skipped] == ["1.jpg"]


def test_a_class_that_no_site_has_is_refused_with_the_cohort(tmp_path: Path) -> None:
    listing = read(tree(tmp_path, "a/ill", "b/well", "b/fine"), "ill", "fien")
    with pytest.raises(EmptyClassError, match="no readable image of 'fien'"):
        cohort_of(listing)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("ill", "well", "b/ill"), "class folder 'ill' lies in no site's folder"),
        (("train/ill", "test/well"), "'test' is a part of a split and no site"),
        (("pacs/photo/ill", "pacs/sketch/well"), "all sites lie in the folder 'pacs': photo, sketch.*give .*pacs"),
        (("My Clinic/ill", "my_clinic/well"), "'My Clinic', 'my_clinic' are one site's name, 'my_clinic'"),
        (("a/none", "b/other"), "no site has a folder of a class.*none, other"),
        (("a", "b"), "no site has a folder of a class.*folders are none"),
    ],
)
def test_a_folder_that_holds_no_sites_is_a_problem(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    listing = read(tree(tmp_path, *folders), "ill", "well")
    with pytest.raises(DatasetLayoutError, match=words):
        cohort_of(listing)


def test_the_study_must_name_the_classes(tmp_path: Path) -> None:
    tree(tmp_path, "a/ill", "b/well")
    with pytest.raises(EmptyClassError, match='classes = \\["ill", "well"\\]'):
        cohort_of(read(tmp_path))
    with pytest.raises(UnknownClassError, match="named twice"):
        read(tmp_path, "ill", "ILL")
    with pytest.raises(DatasetLayoutError, match="cannot be listed"):
        read(tmp_path / "none", "ill", "well")


def test_tables_give_groups_and_copies_across_sites_are_joined(tmp_path: Path) -> None:
    tree(tmp_path, "a/ill", "a/well", "b/ill", "b/other")
    save(tmp_path / "b/well/1.jpg", 0, quality=70)  # a's ill picture
    group = {
        record.path.relative_to(tmp_path).as_posix(): record.group
        for record in cohort_of(read(tmp_path, "ill", "well")).records
    }
    assert group["a/ill/1.jpg"] == group["b/well/1.jpg"]
    assert len(set(group.values())) == 3
    rows = ["path,label,patient_id,sex,age"]
    rows += [f"{name}/1.jpg,{name[2:]},{name[2:]},f,50" for name in ("a/ill", "a/well", "b/ill", "b/well", "b/other")]
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    cohort = cohort_of(read(tmp_path, "ill", "well"))
    assert [record.group for record in cohort.records] == [f"patient_id:{name}" for name in ("ill", "well") * 2]
    assert dict(cohort.records[0].subgroups) == {"sex": "female", "age_band": "40-59"}
