from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets.catalog import DATASETS, list_images, load_cohort
from wardround.medical_datasets.cohort import Skipped
from wardround.medical_datasets.errors import DatasetLayoutError, TableError
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.quality.check import check, check_listing, outlier_problems
from wardround.medical_datasets.quality.report import Problem, QualityReport
from wardround.medical_datasets.quality.sources import cramers_v

from ..pictures import brain_tree, pattern, save


def codes(report: QualityReport) -> dict[str, tuple[str, int]]:
    return {problem.code: (problem.severity, problem.count) for problem in report.problems}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Thirty-two different images a class."""
    return brain_tree(tmp_path / "brain", per_class=16)


def test_clean_folder_has_no_problem(clean: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check(clean, progress=lambda done, total: seen.append((done, total)))
    assert report.problems == ()
    assert report.exit_code == 0
    assert (report.dataset, report.images, report.readable, report.groups) == ("brain-mri", 128, 128, 128)
    assert report.counts["glioma"] == {"test": 16, "train": 16}
    assert report.test_in_train == (0, 64)
    assert seen == [(i, 128) for i in range(1, 129)]


def test_damage_duplicates_and_leaks_are_found(clean: Path) -> None:
    (clean / "Training" / "glioma" / "image(0).jpg").write_bytes(b"\xff\xd8\xff broken")
    source = clean / "Training" / "glioma" / "image(1).jpg"
    (clean / "Training" / "glioma" / "copy.jpg").write_bytes(source.read_bytes())
    (clean / "Testing" / "glioma" / "leak.jpg").write_bytes(source.read_bytes())
    (clean / "Testing" / "pituitary" / "wrong.jpg").write_bytes(
        (clean / "Testing" / "notumor" / "image(2).jpg").read_bytes()
    )
    save(clean / "Testing" / "meningioma" / "similar.jpg", 5, quality=30)  # the picture of Training/glioma/image(5)
    (clean / "Training" / "glioma" / "scan.nii").write_bytes(b"x")
    report = check(clean)
    assert codes(report) == {
        "unreadable": ("error", 1),
        "same-image-two-classes": ("error", 1),
        "exact-duplicates": ("warning", 1),
        "near-duplicates-across-classes": ("warning", 1),
        "near-duplicates-across-splits": ("warning", 3),
        "other-files": ("info", 1),
    }
    assert report.exit_code == 1
    assert report.test_in_train == (2, 67)
    severities = [problem.severity for problem in report.problems]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    by_code = {problem.code: problem for problem in report.problems}
    assert by_code["unreadable"].names[0].startswith("Training/glioma/image(0).jpg")
    assert "wrong.jpg" in by_code["same-image-two-classes"].names[0]
    assert "2 of 67 test images" in by_code["near-duplicates-across-splits"].message


def test_popcorn_in_an_mri_set_is_an_error(clean: Path) -> None:
    save(clean / "Training" / "glioma" / "one.jpg", pattern(900, colour=True))
    assert codes(check(clean)) == {"colour-images": ("warning", 1)}
    for seed in range(20):
        save(clean / "Training" / "glioma" / f"popcorn{seed}.jpg", pattern(901 + seed, colour=True))
    assert codes(check(clean)) == {"colour-images": ("error", 21)}


def test_grey_pictures_in_a_skin_set(tmp_path: Path) -> None:
    for seed in range(64):
        name = ("mel", "nv")[seed % 2]
        save(tmp_path / name / f"{seed}.png", pattern(seed, colour=seed > 0))
    report = check(load_cohort("ham10000", tmp_path, classes=["mel", "nv"]))
    assert codes(report) == {"grey-images": ("warning", 1)}


def test_classes_and_sizes(tmp_path: Path) -> None:
    root = brain_tree(tmp_path, per_class=16)
    for path in root.rglob("notumor/*"):
        path.unlink()
    for split in ("Training", "Testing"):
        for path in (root / split / "pituitary").iterdir():
            path.unlink()
        (root / split / "pituitary").rmdir()
    for index in range(1, 16):
        (root / "Training" / "meningioma" / f"image({index}).jpg").unlink()
    save(root / "Training" / "glioma" / "small.png", pattern(700, 40))
    save(root / "Training" / "glioma" / "long.png", np.tile(pattern(701), (4, 1, 1)))
    save(root / "Training" / "ependymoma" / "a.png", 702)
    report = check(root, DATASETS["brain-mri"])
    assert codes(report) == {
        "empty-class": ("error", 1),
        "missing-class": ("warning", 1),
        "tiny-class": ("warning", 17),
        "small-images": ("warning", 1),
        "odd-aspect": ("warning", 1),
        "unknown-class": ("error", 1),
    }


def test_table_problems_are_reported_not_raised(clean: Path) -> None:
    (clean / "groups.csv").write_text("path,near_duplicate_group\nTraining/gone.jpg,1\n", encoding="utf-8")
    report = check(clean)
    assert codes(report) == {"table": ("error", 1)}
    assert "gone.jpg" in report.problems[0].message


def test_source_that_tells_the_class_is_reported(tmp_path: Path) -> None:
    lines = ["path,label,lesion_id,source"]
    for seed in range(80):
        name = ("melanoma", "nevus")[seed % 2]
        save(tmp_path / name / f"{seed}.png", pattern(seed, colour=True))
        lines.append(f"{name}/{seed}.png,{name},L{seed // 4},{name[:2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check(load_cohort("isic", tmp_path, classes=["melanoma", "nevus"]))
    assert codes(report) == {"source-confounded": ("warning", 2)}
    assert report.groups == 20


def test_report_is_json_and_repeatable(clean: Path) -> None:
    (clean / "Testing" / "glioma" / "image(0).jpg").write_bytes(b"")
    first, second = check(clean), check(clean)
    assert first == second
    written = json.loads(json.dumps(first.as_dict()))
    assert written["exit_code"] == 1
    assert written["problems"][0]["code"] == "unreadable"
    assert written["test_in_train"] == {"similar": 0, "test": 63}


def test_missing_folder_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        check(tmp_path / "nowhere")


def test_no_class_folder_is_reported_when_the_set_is_named(tmp_path: Path) -> None:
    report = check(tmp_path, DATASETS["isic"])
    assert report.exit_code == 1
    assert "no-class-folder" in codes(report)
    assert report.counts["melanoma"] == {}


@pytest.mark.parametrize(
    ("pairs", "value"),
    [
        ([("a", 0), ("b", 1)] * 10, 1.0),
        ([("a", 0), ("a", 1), ("b", 0), ("b", 1)] * 10, 0.0),
        ([("a", 0), ("a", 1)], 0.0),
        ([], 0.0),
        ([("a", 0)] * 3 + [("a", 1)] + [("b", 0)] + [("b", 1)] * 3, 0.5),
    ],
)
def test_cramers_v(pairs: list[tuple[str, int]], value: float) -> None:
    assert cramers_v(pairs) == pytest.approx(value)


def test_a_few_hundred_images_take_seconds(clean: Path) -> None:
    start = time.process_time()
    check(clean)
    assert time.process_time() - start < 5


def test_only_the_classes_asked_for_are_looked_at(clean: Path) -> None:
    (clean / "Training" / "notumor" / "image(0).jpg").write_bytes(b"")
    save(clean / "Training" / "ependymoma" / "a.png", 702)
    assert codes(check(clean)) == {"unreadable": ("error", 1), "unknown-class": ("error", 1)}
    report = check(clean, classes=["pituitary", "glioma_tumor"])
    assert codes(report) == {"other-files": ("info", 1)}
    assert report.images == 64
    assert list(report.counts) == ["glioma", "pituitary"]


def one(report: QualityReport, code: str) -> Problem:
    (found,) = [problem for problem in report.problems if problem.code == code]
    return found


def test_blank_and_odd_sizes_are_named(clean: Path) -> None:
    for name in ("black", "white"):
        save(clean / "Training" / "glioma" / f"{name}.png", np.full((96, 96, 3), 255 * (name == "white"), np.uint8))
    save(clean / "Testing" / "glioma" / "vast.png", pattern(800, 500))
    report = check(clean)
    assert codes(report) == {"blank-images": ("warning", 2), "odd-size": ("warning", 1)}
    assert one(report, "blank-images").names == ("Training/glioma/black.png", "Training/glioma/white.png")
    assert one(report, "odd-size").names == ("Testing/glioma/vast.png: 500 x 500 pixels",)
    assert report.groups == 128 + 2  # those that show nothing are one group


def test_blank_pictures_of_two_classes_are_no_pairs(clean: Path) -> None:
    save(clean / "Training" / "glioma" / "a.png", np.full((96, 96, 3), 3, np.uint8))
    save(clean / "Testing" / "notumor" / "b.png", np.full((96, 96, 3), 9, np.uint8))
    assert codes(check(clean)) == {"blank-images": ("warning", 2)}


def test_any_modality_has_neither_colour_nor_grey(clean: Path) -> None:
    listing = list_images(DATASETS["brain-mri"], Wanted(clean))
    save(clean / "Training" / "glioma" / "image(0).jpg", pattern(0, colour=True))
    assert "colour-images" in codes(check_listing(listing))
    for modality in ("any", "microscopy"):
        other = replace(listing, dataset=replace(listing.dataset, modality=modality))
        assert codes(check_listing(other)) == {}


def test_the_doubled_label_case(tmp_path: Path) -> None:
    """A folder in which 155 of 2,359 pictures lie in two classes, in small."""
    names = ("melanoma", "nevus")
    for seed in range(80):
        save(tmp_path / names[seed % 2] / f"ISIC_{seed:07d}.jpg", pattern(seed, colour=True))
    doubled = [seed for seed in range(80) if seed % 7 == 0]
    for seed in doubled:
        name = f"ISIC_{seed:07d}.jpg"
        (tmp_path / names[1 - seed % 2] / name).write_bytes((tmp_path / names[seed % 2] / name).read_bytes())
    report = check(tmp_path, DATASETS["isic"], classes=names)
    assert codes(report) == {"same-image-two-classes": ("error", len(doubled))}
    named = {Path(image).name for entry in report.problems[0].entries for image in entry.images}
    assert named == {f"ISIC_{seed:07d}.jpg" for seed in doubled}
    assert all(len(entry.images) == 2 for entry in report.problems[0].entries)
    assert report.groups == 80


def test_the_leak_of_a_constructed_set_is_counted(clean: Path) -> None:
    """Every third test picture of a class is a smaller, re-compressed copy of a training picture."""
    planted = range(0, 16, 3)
    for number in planted:
        shrunk = Image.open(clean / "Training" / "pituitary" / f"image({number}).jpg").resize((70, 70))
        shrunk.save(clean / "Testing" / "pituitary" / f"image({number}).jpg", quality=50)
    report = check(clean)
    assert report.test_in_train == (len(planted), 64)
    pairs = one(report, "near-duplicates-across-splits")
    assert pairs.names == tuple(
        sorted(f"Testing/pituitary/image({k}).jpg = Training/pituitary/image({k}).jpg" for k in planted)
    )
    assert f"{len(planted)} of 64 test images" in pairs.message


def test_near_duplicates_and_groups_across_sites(tmp_path: Path) -> None:
    lines = ["path,near_duplicate_group"]
    for seed in range(128):
        site, name = f"client_{seed // 64}", DATASETS["brain-mri"].class_names[seed % 4]
        save(tmp_path / site / name / f"{seed:03d}.png", seed)
        lines.append(f"{site}/{name}/{seed:03d}.png,{seed % 120}")
    save(tmp_path / "client_1" / "glioma" / "again.jpg", 4, quality=60)
    lines.append("client_1/glioma/again.jpg,4")
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check(tmp_path)
    assert codes(report) == {"near-duplicates-across-sites": ("warning", 1), "groups-across-sites": ("warning", 8)}
    spanning = {entry.images for entry in one(report, "groups-across-sites").entries}
    assert ("client_0/glioma/004.png", "client_1/glioma/124.png", "client_1/glioma/again.jpg") in spanning
    assert report.counts["glioma"] == {"client_0": 16, "client_1": 17}


def test_groups_across_splits(clean: Path) -> None:
    images = sorted(path.relative_to(clean).as_posix() for path in clean.rglob("*.jpg"))
    rows = [f"{path},{'same' if 'image(3)' in path else path}" for path in images]
    (clean / "groups.csv").write_text("path,near_duplicate_group\n" + "\n".join(rows), encoding="utf-8")
    report = check(clean)
    assert codes(report) == {"groups-across-splits": ("warning", 1)}
    assert len(one(report, "groups-across-splits").entries[0].images) == 8


def test_format_and_size_that_tell_the_class(tmp_path: Path) -> None:
    for seed in range(128):
        name = DATASETS["brain-mri"].class_names[seed % 4]
        save(tmp_path / name / f"{seed}.{'png' if seed % 4 == 2 else 'jpg'}", pattern(seed, 96 if seed % 4 < 3 else 80))
    report = check(tmp_path)
    assert codes(report) == {"format-confounded": ("warning", 3)}
    assert "how files were saved" in report.problems[0].message
    assert report.problems[0].names == (".jpg 96 x 96: 64 images", ".png 96 x 96: 32 images", ".jpg 80 x 80: 32 images")


def test_device_and_site_that_tell_the_class(clean: Path) -> None:
    listing = list_images(DATASETS["brain-mri"], Wanted(clean))
    told = tuple(
        replace(item, site=f"s{item.label // 2}", cells={"device": f"D{item.label}"}) for item in listing.items
    )
    assert codes(check_listing(replace(listing, items=told))) == {
        "device-confounded": ("warning", 4),
        "site-confounded": ("warning", 2),
    }


def test_imbalance(tmp_path: Path) -> None:
    for seed in range(650):
        name = "nevus" if seed < 620 else "melanoma"
        save(tmp_path / name / f"{seed}.png", pattern(seed, 64, colour=True))
    assert codes(check(tmp_path, DATASETS["isic"], classes=["nevus", "melanoma"])) == {"imbalance": ("info", 1)}


def test_identifiers_in_names_tables_and_files(clean: Path) -> None:
    folder = clean / "Training" / "glioma"
    (folder / "image(0).jpg").rename(folder / "DOE^JANE.jpg")
    (folder / "image(1).jpg").rename(folder / "19610317-a.jpg")
    (folder / "image(2).jpg").rename(folder / "jane.doe@example.org.jpg")
    (folder / "image(3).jpg").rename(folder / "48213377_2.jpg")
    exif = Image.Exif()
    exif[0x013B] = "Dr Doe"
    Image.fromarray(pattern(900)).save(folder / "image(4).jpg", exif=exif)
    images = sorted(path.relative_to(clean).as_posix() for path in clean.rglob("*.jpg"))
    rows = [f"{path},{number},Jane Doe,1961-03-17" for number, path in enumerate(images)]
    header = "path,near_duplicate_group,Patient_Name,date of birth"
    (clean / "groups.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    report = check(clean)
    assert codes(report) == {
        "identifiers-in-files": ("warning", 1),
        "identifiers-in-names": ("warning", 4),
        "identifiers-in-tables": ("warning", 2),
    }
    assert set(one(report, "identifiers-in-names").names) == {
        "Training/glioma/DOE^JANE.jpg: DICOM name",
        "Training/glioma/19610317-a.jpg: date",
        "Training/glioma/jane.doe@example.org.jpg: e-mail address",
        "Training/glioma/48213377_2.jpg: long number",
    }
    assert one(report, "identifiers-in-tables").names == ("patient_name: names", "date of birth: dates of birth")
    assert one(report, "identifiers-in-files").names == ("Training/glioma/image(4).jpg: artist",)
    said = json.dumps(report.as_dict())
    assert "Jane Doe" not in said
    assert "Dr Doe" not in said
    assert "1961-03-17" not in said


def test_every_name_is_kept_and_said(clean: Path) -> None:
    for number in range(16):
        (clean / "Testing" / "notumor" / f"image({number}).jpg").write_bytes(b"")
    report = check(clean)
    names = one(report, "unreadable").names
    assert len(names) == 16
    assert report.as_dict()["problems"][0]["names"] == list(names)


def test_a_study_reader_that_left_rows_out_is_told_with_its_reasons(clean: Path) -> None:
    listing = list_images(DATASETS["brain-mri"], Wanted(clean))
    skipped = (
        *(Skipped(clean / "gone" / f"{k}.jpg", "no such file") for k in range(3)),
        Skipped(clean / "odd.nii", "NIfTI"),
    )
    problems = (TableError("the table has no column 'label'", where=str(clean / "meta.csv"), remedy="add it"),)
    report = check_listing(replace(listing, skipped=skipped, problems=problems), name="second")
    assert codes(report) == {"table": ("error", 1), "other-files": ("info", 4)}
    assert "3: no such file; 1: NIfTI" in one(report, "other-files").message
    assert one(report, "other-files").names[0] == "gone/0.jpg: no such file"
    assert one(report, "table").message == "the table has no column 'label'. meta.csv. add it"
    assert report.as_dict()["name"] == "second"


def test_nothing_at_all_is_a_report(tmp_path: Path) -> None:
    report = check_listing(list_images(DATASETS["brain-mri"], Wanted(tmp_path)))
    assert codes(report) == {"no-class-folder": ("error", 1), "missing-class": ("warning", 1)}
    assert (report.images, report.readable, report.groups, report.test_in_train) == (0, 0, 0, None)


def test_pictures_unlike_the_rest_are_named_with_their_group() -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate(
        [
            np.array([1.0] + [0.0] * 15) + 0.03 * generator.normal(size=(190, 16)),
            np.array([0.0, 1.0] + [0.0] * 14) + 0.02 * generator.normal(size=(9, 16)),
            np.array([0.0] * 15 + [1.0])[None],
        ]
    )
    features = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    (found,) = outlier_problems([f"{k}.png" for k in range(200)], features)
    assert (found.severity, found.code, found.count) == ("warning", "unlike-the-rest", 10)
    assert {entry.images[0] for entry in found.entries[:9]} == {f"{k}.png" for k in range(190, 199)}
    assert all(entry.note.startswith("one of 9 alike, ") for entry in found.entries[:9])
    assert found.entries[9].images == ("199.png",)
    assert found.entries[9].note.startswith("similarity to the rest ")
    assert list(outlier_problems([f"{k}.png" for k in range(190)], features[:190])) == []
