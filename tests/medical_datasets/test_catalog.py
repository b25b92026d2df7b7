from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from wardround.medical_datasets.catalog import DATASETS, find_dataset, load_cohort, recognise
from wardround.medical_datasets.cohort import normalise_name
from wardround.medical_datasets.errors import (
    DatasetLayoutError,
    EmptyClassError,
    TableError,
    UnknownClassError,
)

from .pictures import brain_tree, save
from .readers.dicom_files import dataset, grey
from .readers.dicom_files import write as dicom

BRAIN = ("glioma", "meningioma", "notumor", "pituitary")


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("key", DATASETS)
def test_descriptors_are_complete_and_unambiguous(key: str) -> None:
    dataset = DATASETS[key]
    assert dataset.key == key
    spellings: dict[str, str] = {}
    for index, label in enumerate(dataset.classes):
        assert len(set(label.prompts)) == len(label.prompts) >= 3
        assert all(4 <= len(prompt.split()) <= 25 for prompt in label.prompts)
        for spelling in (label.name, *label.aliases):
            assert spellings.setdefault(normalise_name(spelling), label.name) == label.name
            assert dataset.class_index(spelling.upper().replace(" ", "_")) == index


def test_class_order_is_fixed() -> None:
    assert DATASETS["brain-mri"].class_names == BRAIN
    assert DATASETS["ham10000"].class_names == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert list(DATASETS["isic"].class_names) == sorted(DATASETS["isic"].class_names)
    assert len(DATASETS["isic"].classes) == 9


@pytest.mark.parametrize("variant", ["plain", "tumor"])
def test_both_kaggle_layouts_give_the_same_labels(tmp_path: Path, variant: str) -> None:
    cohort = load_cohort("brain-mri", brain_tree(tmp_path, variant=variant))
    assert len(cohort.records) == 24
    for record in cohort.records:
        folder = normalise_name(record.path.parent.name)
        assert folder.startswith(cohort.dataset.class_names[record.label])
        assert record.site is None
    relatives = [record.path.relative_to(tmp_path).as_posix() for record in cohort.records]
    assert relatives == sorted(relatives)
    assert not cohort.synthetic
    assert not cohort.skipped


def test_plain_class_folders_and_odd_spellings(tmp_path: Path) -> None:
    for seed, name in enumerate(["Glioma_Tumor", "MENINGIOMA", "No Tumour", "pituitary-adenoma"]):
        save(tmp_path / name / "deep" / "x.PNG", seed)
    cohort = load_cohort("brain-mri", tmp_path)
    assert [record.label for record in cohort.records] == [0, 1, 2, 3]


def test_facmic_clients_become_sites(tmp_path: Path) -> None:
    seed = itertools.count()
    for client in range(4):
        for name in ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"):
            save(tmp_path / f"client_{client}" / name / "a.jpg", next(seed))
    cohort = load_cohort("brain-mri", tmp_path)
    assert {record.site for record in cohort.records} == {"client_0", "client_1", "client_2", "client_3"}
    alone = load_cohort("brain-mri", tmp_path / "client_3")
    assert {record.site for record in alone.records} == {None}


def test_one_folder_around_everything_is_no_site(tmp_path: Path) -> None:
    brain_tree(tmp_path / "Brain Tumor MRI" / "archive", per_class=1)
    cohort = load_cohort("brain-mri", tmp_path)
    assert len(cohort.records) == 8
    assert {record.site for record in cohort.records} == {None}


def test_a_table_gives_groups_without_decoding(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=2)
    images = sorted(root.rglob("*.jpg"))
    rows = [f"{p.relative_to(root)},{i // 2}" for i, p in enumerate(images)]
    write(root / "groups.csv", "path,near_duplicate_group", *rows)
    images[3].write_bytes(images[3].read_bytes()[:-300])  # damage that only decoding finds
    cohort = load_cohort("brain-mri", root)
    assert [record.group for record in cohort.records] == [f"near_duplicate_group:{i // 2}" for i in range(16)]


def test_without_a_table_similar_images_share_a_group(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=3)
    save(root / "Testing" / "glioma" / "copy.png", 0)  # the picture of Training/glioma/image(0).jpg
    broken = root / "Testing" / "glioma" / "image(0).jpg"
    broken.write_bytes(broken.read_bytes()[:-300])
    cohort = load_cohort("brain-mri", root)
    groups = {record.path.relative_to(root).as_posix(): record.group for record in cohort.records}
    assert groups["Testing/glioma/copy.png"] == groups["Training/glioma/image(0).jpg"]
    assert len(set(groups.values())) == 23
    assert [item.path for item in cohort.skipped] == [broken]
    assert "truncated" in cohort.skipped[0].reason


def test_isic_metadata_gives_lesions_sources_and_sites(tmp_path: Path) -> None:
    lines = ["path,label,isic_id,lesion_id,source,sex,age_approx"]
    cells = [
        "HAM_1,ham10000,female,55",
        "HAM_1,ham10000,F,55.0",
        ",bcn,male,85",
        ",bcn,unknown,",
        ",bcn,,",
        ",ham10000,,",
    ]
    for index, rest in enumerate(cells):
        name = ("melanoma", "nevus")[index % 2]
        save(tmp_path / name / f"ISIC_000000{index}.jpg", index)
        lesion, more = rest.split(",", 1)
        lines.append(f"{name}/ISIC_000000{index}.jpg,{name},ISIC_000000{index},{lesion},{more}")
    (tmp_path / "metadata.csv").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    cohort = load_cohort("isic", tmp_path, classes=["nevus", "mel"])
    assert cohort.dataset.class_names == ("melanoma", "nevus")
    found = {r.path.stem[-1]: (r.label, r.group, dict(r.subgroups), r.site) for r in cohort.records}
    assert found == {
        "0": (0, "lesion_id:HAM_1", {"sex": "female", "age_band": "40-59", "source": "ham10000"}, None),
        "1": (1, "lesion_id:HAM_1", {"sex": "female", "age_band": "40-59", "source": "ham10000"}, None),
        "2": (0, "isic_id:ISIC_0000002", {"sex": "male", "age_band": "80+", "source": "bcn"}, None),
        "3": (1, "isic_id:ISIC_0000003", {"source": "bcn"}, None),
        "4": (0, "isic_id:ISIC_0000004", {"source": "bcn"}, None),
        "5": (1, "isic_id:ISIC_0000005", {"source": "ham10000"}, None),
    }
    sites = load_cohort("isic", tmp_path, classes=["nevus", "mel"], site_column="source")
    assert [record.site for record in sites.records] == ["ham10000", "bcn", "bcn", "ham10000", "bcn", "ham10000"]


def test_one_isic_id_in_two_folders_is_one_group(tmp_path: Path) -> None:
    save(tmp_path / "Train" / "nevus" / "ISIC_0000001.jpg", 1)
    save(tmp_path / "Test" / "melanoma" / "ISIC_0000001_downsampled.jpg", 2)
    save(tmp_path / "Test" / "melanoma" / "ISIC_0000002.jpg", 3)
    records = load_cohort("isic", tmp_path, classes=["melanoma", "nevus"]).records
    assert records[0].group == records[2].group != records[1].group


def test_phantoms_are_marked_and_keep_their_patients(tmp_path: Path) -> None:
    lines = ["path,label,patient,site,age,sex"]
    for seed, (site, name) in enumerate(itertools.product(["site-a", "unseen"], ["bkl", "mel"])):
        save(tmp_path / site / name / f"{seed}.png", seed)
        lines.append(f"{site}/{name}/{seed}.png,{name},p{seed % 2},{site},31,male")
    write(tmp_path / "phantoms.csv", *lines)
    cohort = load_cohort("ham10000", tmp_path, classes=["mel", "bkl"])
    assert cohort.synthetic
    assert [record.site for record in cohort.records] == ["site-a", "site-a", "unseen", "unseen"]
    assert [record.group for record in cohort.records] == ["patient:p0", "patient:p1"] * 2
    assert dict(cohort.records[0].subgroups) == {"sex": "male", "age_band": "20-39"}


def test_damaged_and_foreign_files_are_skipped_and_named(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=2)
    (root / "Training" / "glioma" / "empty.jpg").write_bytes(b"")
    (root / "Training" / "glioma" / "words.png").write_bytes(b"hello")
    (root / "Training" / "glioma" / "scan.dcm").write_bytes(b"\0" * 200)
    (root / "Training" / "glioma" / "notes.docx").write_bytes(b"x")
    save(root / "loose.jpg", 900)
    for quiet in ("README.md", "Training/LICENSE", "Training/glioma/.DS_Store", "Training/glioma/Thumbs.db"):
        (root / quiet).write_bytes(b"x")
    save(root / "__MACOSX" / "glioma" / "._a.jpg", 901)
    cohort = load_cohort("brain-mri", root)
    assert len(cohort.records) == 16
    reasons = {item.path.name: item.reason for item in cohort.skipped}
    assert set(reasons) == {"empty.jpg", "words.png", "scan.dcm", "notes.docx", "loose.jpg"}
    assert "0 bytes" in reasons["empty.jpg"]
    assert "DICOM" in reasons["scan.dcm"]
    assert "outside" in reasons["loose.jpg"]


def test_images_without_a_row_are_left_out_and_named(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    images = sorted(root.rglob("*.jpg"))
    write(root / "groups.csv", "path,near_duplicate_group", *[f"{p.relative_to(root)},1" for p in images])
    extra = save(root / "Training" / "glioma" / "new.jpg", 77)
    cohort = load_cohort("brain-mri", root)
    assert len(cohort.records) == 8
    assert [(item.path, item.reason) for item in cohort.skipped] == [(extra, "not listed in groups.csv")]


def test_missing_folder_and_file_for_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match=r"does not exist.*nowhere.*Training"):
        load_cohort("brain-mri", tmp_path / "nowhere")
    with pytest.raises(DatasetLayoutError, match="is a file"):
        load_cohort("brain-mri", write(tmp_path / "file", "x"))


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(DatasetLayoutError, match=r"'brain_mri'.*did you mean 'brain-mri'"):
        find_dataset("brain_mri")


def test_no_class_folder_says_what_was_found_and_expected(tmp_path: Path) -> None:
    save(tmp_path / "gliomma" / "a.jpg", 1)
    save(tmp_path / "cats" / "a.jpg", 2)
    with pytest.raises(DatasetLayoutError) as caught:
        load_cohort("brain-mri", tmp_path)
    message = str(caught.value)
    for words in ("'cats'", "'gliomma' may mean 'glioma'", "glioma, meningioma, notumor, pituitary"):
        assert words in message
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetLayoutError, match="no folders"):
        load_cohort("brain-mri", tmp_path / "void")


def test_unknown_class_folder_is_named_with_the_nearest(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    save(root / "Training" / "menigioma" / "a.jpg", 50)
    for classes in (None, ["glioma", "meningioma"]):
        with pytest.raises(UnknownClassError, match=r"menigioma.*did you mean 'meningioma'.*classes"):
            load_cohort("brain-mri", root, classes=classes)


def test_naming_the_classes_leaves_other_folders_out(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    other = save(root / "Training" / "metastasis" / "a.jpg", 50)
    with pytest.raises(UnknownClassError, match="metastasis"):
        load_cohort("brain-mri", root)
    cohort = load_cohort("brain-mri", root, classes=["pituitary", "glioma"])
    assert cohort.dataset.class_names == ("glioma", "pituitary")
    assert {record.label: record.path.parent.name for record in cohort.records} == {0: "glioma", 1: "pituitary"}
    assert [item.path for item in cohort.skipped] == [other]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["glioma", "pituitry"], "'pituitry'.*did you mean 'pituitary'"),
        (["glioma", "Glioma_Tumor"], "second time"),
    ],
)
def test_bad_choice_of_classes(tmp_path: Path, classes: list[str], words: str) -> None:
    with pytest.raises(UnknownClassError, match=words):
        load_cohort("brain-mri", brain_tree(tmp_path, per_class=1), classes=classes)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(EmptyClassError, match="at least 2"):
        load_cohort("brain-mri", brain_tree(tmp_path, per_class=1), classes=["glioma"])


@pytest.mark.parametrize("how", ["no folder", "empty folder", "only damaged"])
def test_empty_class_says_what_to_write(tmp_path: Path, how: str) -> None:
    root = brain_tree(tmp_path, per_class=1)
    for path in root.rglob("*"):
        if path.is_file() and path.parent.name == "notumor":
            if how == "only damaged":
                path.write_bytes(b"")
            else:
                path.unlink()
    if how == "no folder":
        for split in ("Training", "Testing"):
            (root / split / "notumor").rmdir()
    with pytest.raises(EmptyClassError) as caught:
        load_cohort("brain-mri", root)
    assert 'classes = ["glioma", "meningioma", "pituitary"]' in str(caught.value)
    assert ("there is no folder" in str(caught.value)) == (how == "no folder")
    cohort = load_cohort("brain-mri", root, allow_empty=True)
    assert cohort.dataset.class_names == BRAIN
    assert {record.label for record in cohort.records} == {0, 1, 3}
    assert len(load_cohort("brain-mri", root, classes=["glioma", "meningioma", "pituitary"]).records) == 6


def test_class_inside_another_class_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "glioma" / "meningioma" / "a.jpg", 1)
    with pytest.raises(DatasetLayoutError, match="inside the class folder"):
        load_cohort("brain-mri", tmp_path)


GOOD = ("Training/glioma/image(0).jpg,glioma,g1", "Training/meningioma/image(0).jpg,meningioma,g2")


@pytest.mark.parametrize(
    ("header", "extra", "error", "words"),
    [
        ("path,label,near_dup_group", (), TableError, "no column 'near_duplicate_group'.*rename.*'near_dup_group'"),
        (
            "path,label,near_duplicate_group",
            ("Training/gone.jpg,glioma,g3", "b.jpg,glioma,g3"),
            TableError,
            r"2 of 4 rows name a file that does not exist.*'Training/gone\.jpg'.*row 4",
        ),
        (
            "path,label,near_duplicate_group",
            ("Testing/glioma/image(0).jpg,astrocytoma,g3",),
            UnknownClassError,
            "'astrocytoma'.*row 4",
        ),
        (
            "path,label,near_duplicate_group",
            ("Testing/glioma/image(0).jpg,no_tumor,g3",),
            TableError,
            "table says 'notumor', the folder says 'glioma'.*row 4",
        ),
        ("path,label,near_duplicate_group", (GOOD[0],), TableError, "already in row 2.*row 4"),
        ("path,label,near_duplicate_group", ("../glioma/a.jpg,glioma,g3",), TableError, "below the table"),
        ("path,label,near_duplicate_group", ("Testing/glioma/image(0).jpg,glioma",), TableError, "2 cells.*row 4"),
        ("path,label,near_duplicate_group", (), TableError, "6 of 8 images have no row"),
    ],
)
def test_bad_tables_name_the_row(
    tmp_path: Path, header: str, extra: tuple[str, ...], error: type[Exception], words: str
) -> None:
    root = brain_tree(tmp_path, per_class=1)
    write(root / "groups.csv", header, *GOOD, *extra)
    with pytest.raises(error, match=words):
        load_cohort("brain-mri", root)


def test_table_without_rows_or_not_text(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    write(root / "groups.csv", "path,near_duplicate_group")
    with pytest.raises(TableError, match="no rows"):
        load_cohort("brain-mri", root)
    (root / "groups.csv").write_bytes(b"path,near_duplicate_group\n\xff\xfe,1\n")
    with pytest.raises(TableError, match="UTF-8"):
        load_cohort("brain-mri", root)


def test_semicolons_backslashes_and_two_tables(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    images = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.jpg"))]
    groups = [name.replace("/", "\\") + f";{i // 2}" for i, name in enumerate(images)]
    write(root / "groups.csv", "Path;near_duplicate_group", *groups)
    meta = [f"{name},{name.split('/')[1]},scanner-{i % 2}" for i, name in enumerate(images)]
    write(root / "metadata.csv", "path,label,scanner", *meta)
    cohort = load_cohort("brain-mri", root, site_column="scanner")
    assert [record.site for record in cohort.records] == ["scanner-0", "scanner-1"] * 4
    assert [record.group[-1] for record in cohort.records] == ["0", "0", "1", "1", "2", "2", "3", "3"]


def test_site_column_must_exist_and_be_filled(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    with pytest.raises(TableError, match="there is no table"):
        load_cohort("brain-mri", root, site_column="hospital")
    images = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.jpg"))]
    write(root / "groups.csv", "path,near_duplicate_group,hospital", *[f"{name},1," for name in images])
    with pytest.raises(TableError, match="did you mean 'hospital'"):
        load_cohort("brain-mri", root, site_column="hospitl")
    with pytest.raises(TableError, match="is empty for"):
        load_cohort("brain-mri", root, site_column="hospital")


def test_recognise_prefers_names_over_aliases(tmp_path: Path) -> None:
    for seed, name in enumerate(("melanoma", "nevus", "vascular lesion")):
        save(tmp_path / "isic" / name / "a.jpg", seed)
    for seed, name in enumerate(("mel", "nv", "vasc")):
        save(tmp_path / "ham" / name / "a.jpg", seed)
    assert recognise(tmp_path / "isic").key == "isic"
    assert recognise(tmp_path / "ham").key == "ham10000"
    assert recognise(brain_tree(tmp_path / "brain", per_class=1)).key == "brain-mri"
    save(tmp_path / "cats" / "tabby" / "a.jpg", 1)
    with pytest.raises(DatasetLayoutError, match="tabby"):
        recognise(tmp_path / "cats")


def test_a_link_to_the_parent_folder_ends(tmp_path: Path) -> None:
    root = brain_tree(tmp_path / "data", per_class=1)
    (root / "Training" / "glioma" / "again").symlink_to(root / "Training" / "glioma")
    assert len({record.label for record in load_cohort("brain-mri", root).records}) == 4


def test_pipes_and_dead_links_are_skipped_not_opened(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=1)
    os.mkfifo(root / "Training" / "glioma" / "pipe.jpg")
    (root / "Training" / "glioma" / "dead.jpg").symlink_to(root / "nowhere.jpg")
    cohort = load_cohort("brain-mri", root)
    assert [item.path.name for item in cohort.skipped] == ["dead.jpg", "pipe.jpg"]
    assert len(cohort.records) == 8


def test_where_every_class_is_empty_the_reason_is_said(tmp_path: Path) -> None:
    for name in BRAIN:
        write(tmp_path / name / "a.jpg", "no picture")
        write(tmp_path / name / "b.jpg", "no picture")
    (tmp_path / "glioma" / "a.jpg").write_bytes(b"")
    with pytest.raises(EmptyClassError) as caught:
        load_cohort("brain-mri", tmp_path)
    assert "classes = [" not in str(caught.value)
    assert "; 7 files were left out: " in caught.value.what


def test_images_left_out_for_burned_in_text_are_said_with_the_key_that_takes_them(tmp_path: Path) -> None:
    lines = ["path,label"]
    for number, label in enumerate(("ill", "well", "well")):
        tags = {"PatientID": f"P{number}", "BurnedInAnnotation": "YES"}
        dicom(dataset(grey((8, 8)), **tags), tmp_path / f"{number}.dcm")
        lines.append(f"{number}.dcm,{label}")
    write(tmp_path / "labels.csv", *lines)
    for key in ("csv", "dicom-folder"):
        with pytest.raises(EmptyClassError) as caught:
            load_cohort(key, tmp_path, classes=["ill", "well"])
        assert "; 3 files were left out: " in caught.value.what
        assert "burned" in caught.value.what
        assert "set burned_in = true" in caught.value.remedy
        assert "classes = [" not in str(caught.value)
    save(tmp_path / "3.png", 1)
    write(tmp_path / "labels.csv", *lines, "3.png,well")
    with pytest.raises(EmptyClassError) as caught:
        load_cohort("csv", tmp_path, classes=["ill", "well"])
    assert "set burned_in = true" in caught.value.remedy


def test_a_patient_counts_for_every_row_of_a_lesion_in_class_folders(tmp_path: Path) -> None:
    for number, name in enumerate(("glioma", "glioma", "meningioma", "notumor", "pituitary")):
        save(tmp_path / name / f"{number}.png", number)
    write(
        tmp_path / "metadata.csv",
        "path,label,patient,patient_id,lesion_id",
        "glioma/0.png,glioma,P1,,L1",
        "glioma/1.png,glioma,,,L1",
        "meningioma/2.png,meningioma,,P1,",
        "notumor/3.png,notumor,P2,,L2",
        "pituitary/4.png,pituitary,P3,,L2",
    )
    group = [record.group for record in load_cohort("brain-mri", tmp_path).records]
    assert group == ["patient:P1", "patient:P1", "patient:P1", "patient:P2", "patient:P3"]
