"""Phantom studies: who is in them, and how they get to disk."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets.catalog import load_cohort
from wardround.medical_datasets.errors import DataError
from wardround.medical_datasets.synthetic import brain, skin, writer
from wardround.medical_datasets.synthetic.contact_sheet import study_sheet
from wardround.medical_datasets.synthetic.population import (
    UNSEEN_NAME,
    PhantomStudy,
    age_band,
    demo_study,
    planned_images,
    render_planned,
)
from wardround.medical_datasets.synthetic.writer import materialise


def _small(kind: str = "brain", seed: int = 0) -> PhantomStudy:
    return replace(demo_study(kind, sites=2, seed=seed, images_per_site=30), size=40)


@pytest.mark.parametrize("kind", ["brain", "skin"])
def test_a_demo_study_has_training_sites_and_one_unseen(kind: str) -> None:
    study = demo_study(kind, sites=3)
    assert len(study.sites) == 4
    assert study.unseen == UNSEEN_NAME == study.sites[-1].name
    assert len({site.name for site in study.sites}) == 4
    planned = planned_images(study)
    counts = Counter(image.site for image in planned)
    assert set(counts.values()) == {280}
    for site in study.sites:
        assert {image.label for image in planned if image.site == site.name} == set(range(len(study.dataset.classes)))
    assert study.sites[0].appearance != study.sites[1].appearance
    assert study.sites[0].odds != study.sites[1].odds


def test_the_unseen_site_is_the_same_however_many_sites_train() -> None:
    assert demo_study("brain", sites=2).sites[-1] == demo_study("brain", sites=5).sites[-1]
    assert demo_study("brain", sites=2).sites[:2] == demo_study("brain", sites=5).sites[:2]


def test_patients_belong_to_one_site_and_one_class_and_have_one_to_four_pictures() -> None:
    patients = defaultdict(list)
    for image in planned_images(demo_study("brain")):
        patients[image.patient].append(image)
    sizes = Counter(len(images) for images in patients.values())
    assert set(sizes) == {1, 2, 3, 4}
    for images in patients.values():
        assert len({(image.site, image.label, image.age, image.sex) for image in images}) == 1
        assert 18 <= images[0].age <= 92
        assert images[0].sex in {"female", "male"}
        assert images[0].age_band == age_band(images[0].age)


def test_age_bands_have_no_gap() -> None:
    assert [age_band(age) for age in (18, 39, 40, 59, 60, 92)] == ["0-39", "0-39", "40-59", "40-59", "60+", "60+"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "chest"}, "chest"),
        ({"kind": "brain", "sites": 0}, "0 training sites"),
        ({"kind": "brain", "sites": 99}, "99"),
        ({"kind": "brain", "seed": -1}, "-1"),
        ({"kind": "skin", "images_per_site": 27}, "27"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(DataError, match=named) as caught:
        demo_study(**arguments)
    assert caught.value.remedy


def test_a_picture_does_not_depend_on_the_others() -> None:
    study = _small()
    planned = planned_images(study)
    alone = render_planned(study, planned[17])
    for image in planned[:17]:
        render_planned(study, image)
    assert np.array_equal(alone, render_planned(study, planned[17]))
    other = render_planned(_small(seed=1), planned_images(_small(seed=1))[17])
    assert not np.array_equal(alone, other)


@pytest.mark.parametrize("kind", ["brain", "skin"])
def test_materialised_files_are_what_the_cohort_and_the_table_say(kind: str, tmp_path: Path) -> None:
    study = _small(kind)
    seen: list[tuple[int, int]] = []
    cohort = materialise(study, tmp_path / "new" / "phantoms", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (90, 90)
    assert cohort.synthetic
    assert cohort.dataset == study.dataset
    assert len(cohort.records) == 90
    paths = [record.path.relative_to(cohort.root).as_posix() for record in cohort.records]
    assert paths == sorted(paths)
    with (cohort.root / "phantoms.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == paths
    for record, row, path in zip(cohort.records, rows, paths, strict=True):
        site, label, name = path.split("/")
        assert record.site == site == row["site"]
        assert study.dataset.class_names[record.label] == label == row["label"]
        assert record.group == row["patient"] == name.rsplit("-", 1)[0]
        assert record.subgroups == {"age_band": row["age_band"], "sex": row["sex"]}
        with Image.open(record.path) as image:
            assert image.size == (40, 40)
    planned = planned_images(study)
    with Image.open(cohort.records[3].path) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), render_planned(study, planned[3]))
    document = json.loads((cohort.root / "plan.json").read_text())
    assert document["plan"]["synthetic"] is True
    assert document["hash"] == study.plan_hash()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["phantoms"]


def test_the_folder_loader_reads_the_same_cohort(tmp_path: Path) -> None:
    cohort = materialise(_small(), tmp_path / "phantoms")
    read = load_cohort("brain-mri", cohort.root)
    assert read.synthetic
    assert [(r.path, r.label, r.site) for r in read.records] == [(r.path, r.label, r.site) for r in cohort.records]
    # The loader may prefix a group with the kind of key it found; who shares a group must be the same.
    for ours, theirs in zip(cohort.records, read.records, strict=True):
        assert theirs.group.endswith(ours.group)
    assert len({r.group for r in read.records}) == len({r.group for r in cohort.records})
    assert [dict(r.subgroups) for r in read.records] == [dict(r.subgroups) for r in cohort.records]


def test_a_second_call_reads_back_without_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "phantoms"
    first = materialise(_small(), folder)
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}

    def never(*_: object) -> None:
        raise AssertionError("drew again")

    monkeypatch.setattr(writer, "render_planned", never)
    assert materialise(_small(), folder) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == stamps


def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    study = _small("skin")
    materialise(study, tmp_path / "alone", workers=0)
    materialise(study, tmp_path / "together", workers=2)
    alone = {path.relative_to(tmp_path / "alone"): path.read_bytes() for path in (tmp_path / "alone").rglob("*.*")}
    together = {
        path.relative_to(tmp_path / "together"): path.read_bytes() for path in (tmp_path / "together").rglob("*.*")
    }
    assert alone == together


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "phantoms").mkdir()
    assert len(materialise(_small(), tmp_path / "phantoms").records) == 90


def test_another_study_is_refused_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "phantoms"
    materialise(_small(), folder)
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(DataError, match="another study") as caught:
        materialise(_small(seed=1), folder)
    assert str(folder) in caught.value.where
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(DataError, match=r"plan\.json"):
        materialise(_small(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def _damage_remove(folder: Path) -> None:
    next(iter(sorted(folder.rglob("*.png")))).unlink()


def _damage_pixels(folder: Path) -> None:
    victim = next(iter(sorted(folder.rglob("*.png"))))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))


def _damage_table(folder: Path) -> None:
    table = folder / "phantoms.csv"
    table.write_text(table.read_text().replace("female", "male", 1))


def _damage_plan(folder: Path) -> None:
    (folder / "plan.json").write_text("{")


@pytest.mark.parametrize("damage", [_damage_remove, _damage_pixels, _damage_table, _damage_plan])
def test_damage_is_found_on_reading_back(damage: object, tmp_path: Path) -> None:
    folder = tmp_path / "phantoms"
    materialise(_small(), folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(DataError) as caught:
        materialise(_small(), folder)
    assert "remove the folder" in caught.value.remedy


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialise(_small(), tmp_path / "phantoms", stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError) as caught:
        materialise(_small(), tmp_path / "file" / "phantoms")
    assert "phantoms" in caught.value.where


def test_the_plan_hash_sees_every_change() -> None:
    study = _small()
    hashes = {
        study.plan_hash(),
        replace(study, seed=1).plan_hash(),
        replace(study, size=41).plan_hash(),
        replace(study, sites=study.sites[:2]).plan_hash(),
        replace(study, sites=(replace(study.sites[0], images=31), *study.sites[1:])).plan_hash(),
    }
    assert len(hashes) == 5
    assert study.plan_hash() == _small().plan_hash()


def test_a_study_sheet_has_a_row_for_each_site() -> None:
    study = _small("skin")
    sheet = study_sheet(study, each=1)
    assert sheet.shape == (3 * 40, 7 * 40, 3)
    assert all(sheet[row * 40 : (row + 1) * 40].std() > 5 for row in range(3))


def test_what_a_killed_process_left_half_drawn_is_removed_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    folder, old = tmp_path / "phantoms", time.time() - 60
    for name in ("killed00", "working0"):
        (tmp_path / f".phantoms.{name}" / "amber").mkdir(parents=True)
        os.utime(tmp_path / f".phantoms.{name}", (old, old))
    handle = os.open(tmp_path / ".phantoms.working0", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        materialise(_small(), folder)
    finally:
        os.close(handle)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".phantoms.working0", "phantoms"]


def test_the_demos_hospitals_show_large_tumours_mostly_enhanced_and_common_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Any] = []
    for module, name in ((brain, "render_brain"), (skin, "render_skin")):
        monkeypatch.setattr(
            module, name, lambda phantom, rng, size: (drawn.append(phantom), np.zeros((size, size, 3), np.uint8))[1]
        )
    for kind in ("brain", "skin"):
        study = demo_study(kind, sites=2, images_per_site=60)
        for image in planned_images(study):
            render_planned(study, image)
    brains = [phantom for phantom in drawn if isinstance(phantom, brain.BrainPhantom)]
    lesions = [phantom for phantom in drawn if isinstance(phantom, skin.SkinPhantom)]
    assert len(brains) == len(lesions) == 180
    assert 0.75 < np.mean([phantom.contrast == "t1c" for phantom in brains]) < 1.0
    least = {"glioma": 0.22, "meningioma": 0.195, "pituitary": 0.13}
    for phantom in brains:
        if phantom.label == "notumor":
            assert phantom.size == 0.0
        else:  # another slice cuts a tumour at up to 0.8 of its radius
            assert phantom.size >= 0.8 * least[phantom.label]
    for phantom in lesions:
        assert phantom.kind in skin.KINDS[phantom.label][:2]
        assert phantom.size >= 0.85 * 0.45
