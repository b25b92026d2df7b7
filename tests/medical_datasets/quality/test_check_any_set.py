"""Data sets that are no class folders: a DICOM folder with a table, one file of many pictures, a table of paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from wardround.medical_datasets.catalog import DATASETS, list_images
from wardround.medical_datasets.listing import Wanted
from wardround.medical_datasets.quality.check import check_listing
from wardround.medical_datasets.quality.report import QualityReport

from ..pictures import pattern, save
from .dicom_files import dicom


def codes(report: QualityReport) -> dict[str, tuple[str, int]]:
    return {problem.code: (problem.severity, problem.count) for problem in report.problems}


def test_a_dicom_folder(tmp_path: Path) -> None:
    lines = ["path,label"]
    for number in range(64):
        name = f"im{number:03d}.dcm"
        elements = {
            "PatientID": f"P{number // 2}",
            "Manufacturer": "Maker",
            "StudyInstanceUID": f"1.2.3.4.5.{number // 2}",
        }
        if number == 3:
            elements |= {"PatientName": "Doe^Jane", "PatientBirthDate": "19610317"}
        if number == 5:
            elements["BurnedInAnnotation"] = "YES"
        if number == 7:
            elements["secondary"] = "yes"
        dicom(tmp_path / name, pattern(number, 80)[:, :, 0], **elements)
        lines.append(f"{name},{'tumour' if number % 2 else 'none'}")
    (tmp_path / "im063.dcm").write_bytes((tmp_path / "im063.dcm").read_bytes()[:-1000])
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check_listing(list_images(DATASETS["dicom-folder"], Wanted(tmp_path, burned_in=True)))
    assert codes(report) == {
        "unreadable": ("error", 1),
        "burned-in": ("warning", 1),
        "burned-in-unknown": ("warning", 1),
        "identifiers-in-files": ("warning", 63),
        "classes-not-named": ("info", 1),
    }
    said = json.dumps(report.as_dict())
    for number, code in ((5, "burned-in"), (7, "burned-in-unknown"), (3, "identifiers-in-files")):
        (problem,) = [each for each in report.problems if each.code == code]
        assert any(name.startswith(f"im{number:03d}.dcm") for name in problem.names)
    (inside,) = [each for each in report.problems if each.code == "identifiers-in-files"]
    assert "(patient's identifier in 63, patient's name in 1, date of birth in 1)" in inside.message
    assert inside.names[3] == "im003.dcm: patient's name, patient's identifier, date of birth"
    assert "Jane" not in said
    assert "1961" not in said
    assert (report.images, report.readable, report.groups) == (64, 63, 32)


def test_one_file_of_many_pictures(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for part, first in (("train", 0), ("val", 300), ("test", 400)):
        count = 220 if part == "train" else 40
        arrays[f"{part}_images"] = np.stack([pattern(first + k, 28, colour=True) for k in range(count)])
        arrays[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 7
    arrays["test_images"][:6] = arrays["train_images"][:6]
    arrays["test_labels"][:6] = arrays["train_labels"][:6]
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    report = check_listing(list_images(DATASETS["dermamnist"], Wanted(tmp_path)))
    found = codes(report)
    assert found["near-duplicates-across-splits"] == ("warning", 6)
    assert found["small-images"] == ("warning", 300)
    assert set(found) == {"near-duplicates-across-splits", "small-images"}
    assert report.test_in_train == (6, 40)
    (pairs,) = [each for each in report.problems if each.code == "near-duplicates-across-splits"]
    assert all(name.count("dermamnist.npz#") == 2 for name in pairs.names)


def test_a_table_of_paths(tmp_path: Path) -> None:
    lines = ["path,label,patient_id,email"]
    for seed in range(62):
        save(tmp_path / "pictures" / f"{seed}.png", pattern(seed, colour=seed % 2 == 0))
        lines.append(f"pictures/{seed}.png,{('a', 'b')[seed % 2]},{seed},x@example.org")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    report = check_listing(list_images(DATASETS["csv"], Wanted(tmp_path, ("a", "b"))))
    assert codes(report) == {"identifiers-in-tables": ("warning", 1)}
    assert report.counts == {"a": {"all": 31}, "b": {"all": 31}}
