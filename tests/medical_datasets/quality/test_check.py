from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from wardround.medical_datasets.catalog import DATASETS, load_cohort
from wardround.medical_datasets.errors import DatasetLayoutError
from wardround.medical_datasets.quality.check import check
from wardround.medical_datasets.quality.report import QualityReport
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
