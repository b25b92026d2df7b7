from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.catalog import load_cohort
from wardround.medical_datasets.class_folders import list_class_folders
from wardround.medical_datasets.cohort import Cohort, Dataset, Picture
from wardround.medical_datasets.errors import DatasetLayoutError, EmptyClassError, TableError
from wardround.medical_datasets.joined import Source, join
from wardround.medical_datasets.listing import Item, Listing, Wanted
from wardround.medical_datasets.readers.dicom_tags import patient_group
from wardround.medical_datasets.reading import DIRECT
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.splits import dirichlet_sites, split_by_group
from wardround.medical_datasets.stable_splits import extend_sites, extend_split, stable_split

from .pictures import brain_tree, save

TWO = replace(HAM10000, key="two", classes=(HAM10000.classes[4], HAM10000.classes[5]))  # mel, nv
HOSPITAL = replace(TWO, key="csv")
SKIN = replace(TWO, key="isic-2019")


def item(relative: str, label: int = 0, **cells: str) -> Item:
    group = next((f"{column}:{cells[column]}" for column in ("patient_id", "lesion_id") if column in cells), None)
    return Item(relative, label, group=group, site=cells.get("site"), cells=cells, where=f"table, {relative}")


def source(name: str, root: Path, items: Sequence[Item], dataset: Dataset = HOSPITAL, **more: object) -> Source:
    """A source whose pictures are made where they are not there yet."""
    for index, each in enumerate(items):
        if not (root / each.relative).exists():
            save(root / each.relative, hash_of(name) + index)
    columns = tuple(dict.fromkeys(column for each in items for column in each.cells))
    return Source(name, Listing(root, dataset, tuple(items), columns=columns), (0, 1), **more)  # type: ignore[arg-type]


def hash_of(name: str) -> int:
    return sum(ord(letter) for letter in name) * 1000


def groups(cohort: Cohort) -> dict[str, str]:
    return {record.path.relative_to(cohort.root).as_posix(): record.group for record in cohort.records}


def reasons(cohort: Cohort) -> dict[str, str]:
    return {skipped.path.relative_to(cohort.root).as_posix(): skipped.reason for skipped in cohort.skipped}


def test_two_hospitals_do_not_share_a_patient_by_number(tmp_path: Path) -> None:
    north = source("north", tmp_path / "a", [item("1.png", 0, patient_id="17"), item("2.png", 1, patient_id="18")])
    south = source(
        "south", tmp_path / "b", [item("1.png", 1, patient_id="17"), item("2.png", 0, lesion_id="IL_0000001")]
    )
    cohort = join(TWO, [north, south])
    assert groups(cohort) == {
        "a/1.png": "patient_id:north/17",
        "a/2.png": "patient_id:north/18",
        "b/1.png": "patient_id:south/17",
        "b/2.png": "lesion_id:south/IL_0000001",
    }
    assert cohort.root == tmp_path
    assert [record.label for record in cohort.records] == [0, 1, 1, 0]
    assert [record.subgroups["source"] for record in cohort.records] == ["north", "north", "south", "south"]
    assert cohort.dataset.subgroup_columns[-1] == "source"
    assert cohort.dataset.class_names == ("mel", "nv")


def test_archive_ids_are_one_lesion_and_one_picture_everywhere(tmp_path: Path) -> None:
    ham = source(
        "ham",
        tmp_path / "ham",
        [
            item("ISIC_0000001.jpg", 0, lesion_id="HAM_0000001"),
            item("ISIC_0000002.jpg", 1, lesion_id="HAM_0000002"),
            item("ISIC_0000006.jpg", 1, lesion_id="17"),
        ],
        replace(TWO, key="ham10000"),
    )
    skin = source(
        "skin",
        tmp_path / "skin",
        [
            item("ISIC_0000001_downsampled.jpg", 1, lesion_id="HAM_0000001"),
            item("ISIC_0000002.jpg", 1, lesion_id="HAM_0000002"),
            item("ISIC_0000003.jpg", 0, lesion_id="HAM_0000002"),
            item("ISIC_0000004.jpg", 0, lesion_id="17"),
        ],
        SKIN,
    )
    cohort = join(TWO, [ham, skin])
    assert groups(cohort) == {
        "ham/ISIC_0000001.jpg": "lesion_id:HAM_0000001",
        "ham/ISIC_0000002.jpg": "lesion_id:HAM_0000002",
        "ham/ISIC_0000006.jpg": "lesion_id:ham/17",  # not an id of the archive
        "skin/ISIC_0000003.jpg": "lesion_id:HAM_0000002",
        "skin/ISIC_0000004.jpg": "lesion_id:skin/17",
    }
    assert reasons(cohort) == {
        "skin/ISIC_0000001_downsampled.jpg": (
            "the same picture is in ham, where it is kept; the class there is 'mel', here 'nv'"
        ),
        "skin/ISIC_0000002.jpg": "the same picture is in ham, where it is kept",
    }
    # The order of sources is the order of precedence.
    assert "ham/ISIC_0000001.jpg" in reasons(join(TWO, [skin, ham]))


def test_what_a_skipped_copy_tells_of_its_lesion_is_not_lost(tmp_path: Path) -> None:
    first = source("first", tmp_path / "a", [item("ISIC_0000001.jpg", 0)], SKIN)
    second = source(
        "second",
        tmp_path / "b",
        [
            item("x.jpg", 0, image_id="ISIC_0000001", lesion_id="IL_0000009"),
            item("y.jpg", 1, image_id="ISIC_0000002", lesion_id="IL_0000009", patient_id="IP_0000003"),
        ],
        SKIN,
    )
    # The copy of picture 1 says that its lesion is that of picture 2, and picture 2's patient is known.
    assert groups(join(TWO, [first, second])) == {
        "a/ISIC_0000001.jpg": "patient_id:IP_0000003",
        "b/y.jpg": "patient_id:IP_0000003",
    }


def test_all_names_of_joined_groups_are_told(tmp_path: Path) -> None:
    for name, seed in (("a/1.png", 1), ("a/2.png", 2), ("b/1.jpg", 1)):
        save(tmp_path / name, seed)
    first = source("first", tmp_path / "a", [item("1.png", 0, lesion_id="IL_0000009"), item("2.png", 1)], SKIN)
    second = source("second", tmp_path / "b", [item("1.jpg", 0)], HOSPITAL)
    third = source("third", tmp_path / "c", [item("x.png", 1, lesion_id="IL_0000009", patient_id="IP_0000001")], SKIN)
    cohort = join(TWO, [first, second, third])
    found = groups(cohort)
    assert found["a/1.png"] == found["b/1.jpg"] == found["c/x.png"] == "patient_id:IP_0000001"
    mark = DIRECT.content_hash(tmp_path / "b/1.jpg")[:32]
    expected = ("lesion_id:IL_0000009", "patient_id:IP_0000001", f"similar:{mark}")
    assert cohort.aliases == {"patient_id:IP_0000001": expected}


def test_editions_of_brats_do_not_meet(tmp_path: Path) -> None:
    old = source("old", tmp_path / "a", [item("BraTS2021_00000_t1ce.png", 0, patient_id="BraTS2021_00000")])
    new = source("new", tmp_path / "b", [item("c/BraTS-GLI-00000-000-t1c.png", 1, patient_id="BraTS-GLI-00000")])
    with pytest.raises(DatasetLayoutError, match=r"2021 \(source 'old'\) and 2023 or later \(source 'new'\)"):
        join(TWO, [old, new])
    assert len(join(TWO, [old], allow_empty=True).records) == 1


def test_a_picture_made_from_an_archive_picture_is_joined_and_kept(tmp_path: Path) -> None:
    first = source("first", tmp_path / "a", [item("ISIC_0000001.jpg", 0, lesion_id="IL_0000009")], SKIN)
    second = source("second", tmp_path / "b", [item("ISIC_0000001_turned.jpg", 1, patient_id="p")], HOSPITAL)
    assert groups(join(TWO, [first, second])) == {
        "a/ISIC_0000001.jpg": "patient_id:second/p",
        "b/ISIC_0000001_turned.jpg": "patient_id:second/p",
    }


def test_one_unknown_group_compares_all_sources(tmp_path: Path) -> None:
    a = [item("1.png", 0, patient_id="1"), item("2.png", 1, patient_id="2")]
    b = [item("1.png", 1, patient_id="1"), item("2.png", 1, patient_id="2")]
    for root, seeds in (("a", (1, 2)), ("b", (1, 3))):
        for name, seed in zip(("1.png", "2.png"), seeds, strict=True):
            save(tmp_path / root / name, seed, compress_level=1 + (root == "b"))
    known = join(TWO, [source("a", tmp_path / "a", a), source("b", tmp_path / "b", b)])
    assert len(set(groups(known).values())) == 4
    save(tmp_path / "b/3.png", 9)
    unknown = join(TWO, [source("a", tmp_path / "a", a), source("b", tmp_path / "b", [*b, item("3.png", 0)])])
    found = groups(unknown)
    assert found["a/1.png"] == found["b/1.png"] == "patient_id:a/1"
    assert found["b/3.png"].startswith("similar:")
    assert unknown.aliases == {"patient_id:a/1": ("patient_id:a/1", "patient_id:b/1")}
    assert not known.aliases
    assert len(set(found.values())) == 4


def test_classes_left_out_and_damaged_files_are_named(tmp_path: Path) -> None:
    brain_tree(tmp_path / "kaggle", 2)
    listing = list_class_folders(BRAIN_MRI, Wanted(tmp_path / "kaggle"))
    (tmp_path / "kaggle/Training/glioma/image(0).jpg").write_bytes(b"GIF or not")
    target = replace(BRAIN_MRI, classes=(BRAIN_MRI.classes[2], BRAIN_MRI.classes[0]))
    cohort = join(target, [Source("kaggle", listing, (1, None, 0, None))])
    assert [record.label for record in cohort.records] == [1, 1, 0, 0, 1, 0, 0]
    said = reasons(cohort)
    assert said["Testing/meningioma/image(0).jpg"] == (
        "the class 'meningioma' of kaggle is left out by the class map (4 images)"
    )
    assert len(said) == 9
    assert "image(0)" not in said["Training/glioma/image(0).jpg"]
    assert cohort.root == tmp_path / "kaggle"


def test_one_source_with_every_class_is_the_cohort_that_loading_gives(tmp_path: Path) -> None:
    """The joined way beside the plain one."""
    brain_tree(tmp_path, 2)
    save(tmp_path / "Testing/glioma/again.jpg", 0, quality=60)
    plain = load_cohort("brain-mri", tmp_path)
    joined = join(BRAIN_MRI, [Source("k", list_class_folders(BRAIN_MRI, Wanted(tmp_path)), (0, 1, 2, 3))])
    assert [(r.path, r.label, r.site) for r in plain.records] == [(r.path, r.label, r.site) for r in joined.records]
    assert [r.group for r in plain.records] == [r.group for r in joined.records]
    assert plain.aliases == joined.aliases
    (names,) = plain.aliases.values()
    assert len(names) == 2


def test_the_same_file_in_two_sources_is_read_once(tmp_path: Path) -> None:
    all_of_it = source("all", tmp_path, [item("part/1.png", 0, patient_id="1"), item("2.png", 1, patient_id="2")])
    part = source("part", tmp_path / "part", [item("1.png", 0, patient_id="1")])
    cohort = join(TWO, [all_of_it, part])
    assert set(groups(cohort)) == {"part/1.png", "2.png"}
    assert reasons(cohort) == {"part/1.png": "the same picture is in all, where it is kept"}
    assert [skipped.of for skipped in cohort.skipped] == ["part/1.png"]


def test_a_hospital_has_one_numbering_in_all_its_exports(tmp_path: Path) -> None:
    def export(name: str, site: str, items: list[Item]) -> Source:
        return source(name, tmp_path / name, items, site=site)

    digest = patient_group("19").partition(":")[2]
    tagged = Item("3.png", 0, group=f"patient_id:{digest}", where="tags")
    clusters = [Item("4.png", 0, group="near_duplicate_group:1", cells={}, where="table")]
    cohort = join(
        TWO,
        [
            export("ct", "alder", [item("1.png", 0, patient_id="17"), item("2.png", 1, patient_id="18"), *clusters]),
            export("mr", "alder", [Item("1.png", 1, group="patient:17", where="t"), tagged, *clusters]),
            export("jpeg", "alder", [item("5.png", 0, patient_id="19"), item("6.png", 0, lesion_id="4")]),
            export("south", "birch", [item("1.png", 1, patient_id="17")]),
            source("public", tmp_path / "public", [item("1.png", 1, patient_id="17")]),
        ],
    )
    found = groups(cohort)
    # Equal identifiers of one site, also as `patient` beside `patient_id` and as the digest that DICOM tags give.
    assert found["ct/1.png"] == found["mr/1.png"] == "patient:alder/17"
    assert found["mr/3.png"] == found["jpeg/5.png"]
    assert found["mr/3.png"] in ("patient_id:alder/19", f"patient_id:alder/{digest}")
    assert found["ct/2.png"] == "patient_id:alder/18"
    assert found["jpeg/6.png"] == "lesion_id:alder/4"
    assert found["ct/4.png"] == "near_duplicate_group:ct/1"
    assert found["mr/4.png"] == "near_duplicate_group:mr/1"
    assert found["south/1.png"] == "patient_id:birch/17"
    assert found["public/1.png"] == "patient_id:public/17"
    assert len(set(found.values())) == 8


def test_a_row_tells_its_own_patient_beside_that_of_its_group(tmp_path: Path) -> None:
    """Row 2 was put into the group of patient 17; another export knows its own patient, 18."""
    joined = Item("2.png", 1, group="patient_id:17", cells={"patient_id": "18"}, where="t")
    first = source("a", tmp_path / "a", [item("1.png", 0, patient_id="17"), joined], site="x")
    second = source("b", tmp_path / "b", [item("1.png", 0, patient_id="18")], site="x")
    assert set(groups(join(TWO, [first, second])).values()) == {"patient_id:x/17"}


def test_files_of_the_same_bytes_are_one_picture_also_through_a_link(tmp_path: Path) -> None:
    first = source("first", tmp_path / "a", [item("1.png", 0, patient_id="1"), item("2.png", 1, patient_id="2")])
    (tmp_path / "b").mkdir()
    shutil.copyfile(tmp_path / "a/1.png", tmp_path / "b/copy.png")
    (tmp_path / "b/link.png").symlink_to(tmp_path / "a/2.png")
    items = [
        item("copy.png", 1, patient_id="8"),
        item("link.png", 1, patient_id="9"),
        item("new.png", 0, patient_id="8"),
    ]
    cohort = join(TWO, [first, source("second", tmp_path / "b", items)])
    # What the copy tells of its patient counts: the picture that is new is of patient 1.
    assert groups(cohort) == {
        "a/1.png": "patient_id:first/1",
        "a/2.png": "patient_id:first/2",
        "b/new.png": "patient_id:first/1",
    }
    assert reasons(cohort) == {
        "b/copy.png": "the same picture is in first, where it is kept; the class there is 'mel', here 'nv'",
        "b/link.png": "the same picture is in first, where it is kept",
    }
    assert [skipped.of for skipped in cohort.skipped] == ["1.png", "2.png"]


def test_only_files_of_a_size_that_another_source_has_are_hashed(tmp_path: Path) -> None:
    hashed: list[str] = []

    class Counting:
        check_header = staticmethod(DIRECT.check_header)
        read_grey_thumbnail = staticmethod(DIRECT.read_grey_thumbnail)

        def content_hash(self, image: Picture) -> str:
            hashed.append(str(image).removeprefix(f"{tmp_path}/"))
            return DIRECT.content_hash(image)

    save(tmp_path / "a/1.png", 1)
    for name in ("a/2.png", "b/1.png"):  # of one size, and not alike
        save(tmp_path / name, 2)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data + name.encode())
    a = [item("1.png", 0, patient_id="1"), item("2.png", 1, patient_id="2")]
    sources = [source("a", tmp_path / "a", a), source("b", tmp_path / "b", [item("1.png", 1, patient_id="1")])]
    assert (tmp_path / "a/1.png").stat().st_size != (tmp_path / "a/2.png").stat().st_size
    cohort = join(TWO, sources, reader=Counting())
    assert sorted(hashed) == ["a/2.png", "b/1.png"]
    assert len(set(groups(cohort).values())) == len(cohort.records) == 3


def test_two_pictures_of_the_same_bytes_within_one_source_stay(tmp_path: Path) -> None:
    save(tmp_path / "a/1.png", 1)
    for name in ("a/2.png", "b/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(tmp_path / "a/1.png", tmp_path / name)
    items = [item("1.png", 0, patient_id="1"), item("2.png", 1, patient_id="2")]
    alone = join(TWO, [source("a", tmp_path / "a", items)])
    assert len(set(groups(alone).values())) == 2
    both = join(TWO, [source("a", tmp_path / "a", items), source("b", tmp_path / "b", [item("x.png", 0)])])
    assert groups(both) == {"a/1.png": "patient_id:a/1", "a/2.png": "patient_id:a/1"}
    assert set(reasons(both)) == {"b/x.png"}


def test_a_repeated_id_within_one_source_is_one_group_and_stays(tmp_path: Path) -> None:
    items = [item("mel/ISIC_0000001.jpg", 0, lesion_id="IL_1"), item("nv/ISIC_0000001.jpg", 1, lesion_id="IL_2")]
    cohort = join(TWO, [source("isic", tmp_path, items, replace(TWO, key="isic"))])
    assert len(set(groups(cohort).values())) == 1
    assert len(cohort.records) == 2


def test_sites_come_from_the_source_the_items_or_a_column(tmp_path: Path) -> None:
    items = [
        item("1.png", 0, patient_id="1", site="x", clinic="k1"),
        item("2.png", 1, patient_id="2", site="y", clinic=""),
    ]
    for more, expected in (({}, ["x", "y"]), ({"site": "all"}, ["all", "all"])):
        assert [r.site for r in join(TWO, [source("s", tmp_path, items, **more)]).records] == expected
    with pytest.raises(TableError, match="'clinic' is empty"):
        join(TWO, [source("s", tmp_path, items, site_column="clinic")])
    with pytest.raises(TableError, match="did you mean 'clinic'"):
        join(TWO, [source("s", tmp_path, items, site_column="clinik")])


def test_phantoms_among_the_sources_make_the_cohort_synthetic(tmp_path: Path) -> None:
    real = source("real", tmp_path / "a", [item("1.png", 0, patient_id="1")])
    drawn = source("drawn", tmp_path / "b", [item("1.png", 1, patient_id="1")])
    drawn = replace(drawn, listing=replace(drawn.listing, synthetic=True))
    assert join(TWO, [real, drawn]).synthetic
    assert not join(TWO, [real], allow_empty=True).synthetic


def test_what_is_asked_of_files_is_asked_of_the_reader(tmp_path: Path) -> None:
    asked: list[str] = []

    class Remembering:
        content_hash = staticmethod(DIRECT.content_hash)

        def check_header(self, image: Picture) -> None:
            asked.append(f"header {image}")

        def read_grey_thumbnail(self, image: Picture) -> np.ndarray:
            asked.append(f"thumbnail {image}")
            return DIRECT.read_grey_thumbnail(image)

    items = [item("1.png", 0, patient_id="1"), item("2.png", 1)]
    join(TWO, [source("s", tmp_path, items)], reader=Remembering())
    assert sorted(asked) == [f"{what} {tmp_path}/{k}.png" for what in ("header", "thumbnail") for k in (1, 2)]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    good = source("s", tmp_path, [item("1.png", 0, patient_id="1")])
    fault = TableError("the table has no rows", where="labels.csv", remedy="fill it")
    cases: list[tuple[list[Source], type[Exception], str]] = [
        ([], DatasetLayoutError, "no source"),
        ([good, good], DatasetLayoutError, "two sources are called 's'"),
        ([replace(good, site="a/b")], DatasetLayoutError, "'a/b' cannot be the name of a site here"),
        ([good, replace(good, name="t", site="s")], DatasetLayoutError, "'s' cannot be the name of a site here"),
        ([replace(good, name="a/b")], DatasetLayoutError, "'a/b' cannot be"),
        ([replace(good, name="")], DatasetLayoutError, "cannot be"),
        ([replace(good, labels=(0,))], DatasetLayoutError, "does not fit 2 classes"),
        ([replace(good, labels=(0, 2))], DatasetLayoutError, "does not fit"),
        ([replace(good, listing=replace(good.listing, problems=(fault,)))], TableError, "source 's', labels.csv"),
        ([good], EmptyClassError, "no readable image of 'nv' in any of s"),
    ]
    for sources, kind, words in cases:
        with pytest.raises(kind, match=words):
            join(TWO, sources)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures for each of three sources; the property below draws what their tables say."""
    root = tmp_path_factory.mktemp("shelf")
    for name in ("ham", "skin", "clinic"):
        for number in range(14):
            save(root / name / f"{number}.png", number, compress_level=1)
    return root


LESIONS = ("HAM_0000001", "HAM_0000002", "IL_0000003", "a/4", *map(str, range(5, 30)))
PICTURES = (*[""] * 16, *(f"ISIC_{number:07d}" for number in range(8)))
PATIENTS = (*[""] * 12, "IP_0000001", "7", "8", "9")


def told(seed: int) -> list[Item]:
    """What a table says of fourteen pictures: ids are the archive's, or the source's own."""
    generator = np.random.default_rng(seed)
    found = []
    for number in range(14):
        lesion, picture, patient = (str(generator.choice(each)) for each in (LESIONS, PICTURES, PATIENTS))
        cells = {"lesion_id": lesion, "image_id": picture} | ({"patient_id": patient} if patient else {})
        found.append(item(f"{number}.png", number % 2, **cells))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 2))
def test_no_group_of_a_joined_cohort_is_on_two_sides(shelf: Path, seed: int, n_sites: int) -> None:
    ham, skin, clinic = (told(3 * seed + number) for number in range(3))
    cohort = join(
        TWO,
        [
            source("ham", shelf / "ham", ham, replace(TWO, key="ham10000")),
            source("skin", shelf / "skin", skin, SKIN),
            source("clinic", shelf / "clinic", clinic, HOSPITAL),
        ],
    )
    said = {
        f"{name}/{each.relative}": each
        for name, items in (("ham", ham), ("skin", skin), ("clinic", clinic))
        for each in items
    }
    assert len(cohort.records) + len(cohort.skipped) == len(said)
    labels = np.array([record.label for record in cohort.records])
    names = [record.group for record in cohort.records]
    rows_of = {path: row for row, path in enumerate(groups(cohort))}

    # What must share a group, said slowly: any id of the archive in common, or the source's own group in common.
    for (one, first), (two, second) in itertools.combinations(said.items(), 2):
        if one not in rows_of or two not in rows_of:
            continue
        same_source = one.split("/")[0] == two.split("/")[0]
        family = not one.startswith("clinic") and not two.startswith("clinic")
        shared = {
            column
            for column in ("lesion_id", "patient_id")
            if first.cells.get(column) == second.cells.get(column) and "_000" in first.cells.get(column, "")
        }
        same_picture = first.cells["image_id"] and first.cells["image_id"] == second.cells["image_id"]
        if same_picture:
            assert same_source  # the copy in a later source is gone
        if (same_source and first.group == second.group) or (family and shared) or same_picture:
            assert names[rows_of[one]] == names[rows_of[two]]
    own = {name for name in names if name.startswith(("patient_id:clinic/", "lesion_id:clinic/"))}
    assert all(name.count("/") <= 2 for name in own)

    assume(len(set(names)) >= 3 * n_sites)
    site = dirichlet_sites(labels, names, n_sites, 0.6, seed, min_groups=3)
    assert (extend_sites(labels, names, dict(zip(names, site.tolist(), strict=True)), n_sites, seed) == site).all()
    for number in range(n_sites):
        rows = np.flatnonzero(site == number)
        here = [names[row] for row in rows]
        for split in (split_by_group, stable_split):
            made = split(labels[rows], here, (0.5, 0.25, 0.25), seed)
            again = extend_split(labels[rows], here, {here[0]: 0}, (0.5, 0.25, 0.25), seed)
            for result in (made, again):
                held = [{here[row] for row in side} for side in (result.train, result.validation, result.test)]
                assert sum(len(each) for each in held) == len(set(here))
