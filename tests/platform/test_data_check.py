from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from wardround.medical_datasets.cohort import Picture
from wardround.medical_datasets.errors import DatasetLayoutError
from wardround.medical_datasets.quality.report import QualityReport
from wardround.medical_datasets.synthetic.population import demo_study, planned_images, render_planned
from wardround.platform.data_check import check_source, embedded_encoder, folder_source, study_sources
from wardround.platform.errors import StudyFileError
from wardround.platform.features import Progress
from wardround.platform.study_file import parse_study
from wardround.platform.watching import Silent

from .foreign_pictures import KINDS, foreign


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 phantom slices in class folders; tests add to a copy."""
    root = tmp_path_factory.mktemp("phantoms") / "brain"
    study = demo_study("brain", sites=1, seed=5, images_per_site=80)
    for number, image in enumerate(planned_images(study)):
        path = root / study.dataset.class_names[image.label] / f"slice{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render_planned(study, image)).save(path)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def strangers(report: QualityReport) -> set[str]:
    return {
        name
        for problem in report.problems
        if problem.code == "unlike-the-rest"
        for entry in problem.entries
        for name in entry.images
    }


def test_popcorn_among_mri_is_named_and_nothing_else(phantoms: Path, cache: Path, tmp_path: Path) -> None:
    encode = embedded_encoder(cache)
    assert strangers(check_source(folder_source(phantoms), encode=encode, watcher=Silent()).report) == set()
    root = tmp_path / "brain"
    shutil.copytree(phantoms, root)
    planted = set()
    for count, kind in zip((12, 1, 2, 3), KINDS, strict=True):
        for seed in range(count):
            name = f"pituitary/{kind}{seed}.png"
            Image.fromarray(foreign(kind, seed)).save(root / name)
            planted.add(name)
    report = check_source(folder_source(root), encode=encode, watcher=Silent()).report
    assert strangers(report) == planted
    assert report.exit_code == 0
    assert strangers(check_source(folder_source(root), encode=None, watcher=Silent()).report) == set()


def test_features_are_asked_for_the_classes_that_are_looked_at(phantoms: Path) -> None:
    asked: list[str] = []

    def encode(images: Sequence[Picture], progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        asked.extend(str(image) for image in images)
        features = np.tile(np.eye(8, dtype=np.float32)[0], (len(images) - 1, 1))
        return np.arange(1, len(images)), features  # the first could not be read

    study = parse_study(
        {"name": "s", "data": {"dataset": "brain-mri", "path": str(phantoms), "classes": ["glioma", "meningioma"]}},
        where=phantoms / "study.toml",
    )
    (source,) = study_sources(study, phantoms / "study.toml")
    checked = check_source(source, encode=encode, watcher=Silent())
    assert list(checked.report.counts) == ["glioma", "meningioma"]
    assert len(asked) == checked.report.images
    assert {Path(name).parent.name for name in asked} == {"glioma", "meningioma"}


def test_few_images_are_not_encoded(phantoms: Path, tmp_path: Path) -> None:
    for folder in phantoms.iterdir():
        (tmp_path / folder.name).mkdir()
        for path in sorted(folder.iterdir())[:3]:
            shutil.copy(path, tmp_path / folder.name)

    def encode(images: Sequence[Picture], progress: Progress) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        raise AssertionError("12 images do not say what is usual")

    report = check_source(folder_source(tmp_path), encode=encode, watcher=Silent()).report
    assert report.images == 12
    (said,) = [problem for problem in report.problems if problem.code == "foreign-not-looked-for"]
    assert said.severity == "info"
    assert "12 readable images are too few" in said.message
    assert "60" in said.message
    without = check_source(folder_source(tmp_path), encode=None, watcher=Silent()).report
    assert said.code not in {problem.code for problem in without.problems}


def test_joined_sources_are_checked_one_by_one(phantoms: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(phantoms, other)
    sources = [{"dataset": "brain-mri", "path": str(root)} for root in (phantoms, other)]
    study = parse_study(
        {"name": "s", "data": {"dataset": "brain-mri", "source": "joined", "sources": sources}},
        where=tmp_path / "study.toml",
    )
    found = list(study_sources(study, tmp_path / "study.toml"))
    assert [source.listing.root for source in found] == [phantoms, other]
    reports = [check_source(source, encode=None, watcher=Silent()).report for source in found]
    assert [report.images for report in reports] == [160, 160]
    assert all(report.name for report in reports)
    assert reports[0].name != reports[1].name


def test_sites_are_those_of_the_studys_column(tmp_path: Path) -> None:
    lines = ["path,near_duplicate_group,hospital"]
    for seed in range(8):
        name = ("glioma", "meningioma")[seed % 2]
        path = tmp_path / name / f"{seed}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(foreign("popcorn", seed)).save(path)
        lines.append(f"{name}/{seed}.png,{seed},{'amber' if seed < 4 else ''}")
    (tmp_path / "groups.csv").write_text("\n".join(lines), encoding="utf-8")
    study = parse_study(
        {
            "name": "s",
            "data": {"dataset": "brain-mri", "path": str(tmp_path)},
            "sites": {"partition": "column", "column": "hospital"},
        },
        where=tmp_path / "study.toml",
    )
    (source,) = study_sources(study, tmp_path / "study.toml")
    report = check_source(source, encode=None, watcher=Silent()).report
    assert report.counts["glioma"] == {"all": 2, "amber": 2}


def test_what_cannot_be_checked_is_refused(tmp_path: Path) -> None:
    study = parse_study(
        {"name": "s", "data": {"dataset": "brain-mri", "source": "phantoms"}}, where=tmp_path / "study.toml"
    )
    with pytest.raises(StudyFileError, match="generates its images"):
        list(study_sources(study, tmp_path / "study.toml"))
    with pytest.raises(DatasetLayoutError, match="brain-mr1"):
        folder_source(tmp_path, dataset="brain-mr1")
    with pytest.raises(DatasetLayoutError):
        folder_source(tmp_path / "nowhere", dataset="brain-mri")
