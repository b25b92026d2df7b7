"""Features of a dealt-out cohort through each site's camera: the right pictures, and cache entries of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wardround.medical_datasets import pixels
from wardround.medical_datasets.camera_shift import CameraShift
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, Record
from wardround.platform.backbone import Backbone
from wardround.platform.cohorts import SitePlan, StudyPlan
from wardround.platform.encoded import Encoded, encode_plan
from wardround.platform.features import encode

COPY, BROKEN = 7, 12  # record 7 (at beech) has the bytes of record 2 (at ash); record 12 (at cedar) is no picture


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Callable[[int], Backbone]) -> Backbone:
    return tiny_backbone(4)


def index(*rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(rows, dtype=np.int64)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """Sites ash (0-4), beech (5-9) and cedar (10-14), an unseen one (15-17), a reference set (18, 19)."""
    root, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    records = tuple(Record(root / f"{i:02d}.png", i % 4, f"patient-{i}") for i in range(20))
    for record in records:
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(record.path)
    records[COPY].path.write_bytes(records[2].path.read_bytes())
    records[BROKEN].path.write_bytes(b"no picture")
    sites = tuple(
        SitePlan(name, index(5 * k, 5 * k + 1, 5 * k + 2), index(5 * k + 3), index(5 * k + 4))
        for k, name in enumerate(("ash", "beech", "cedar"))
    )
    unseen = SitePlan("away", index(), index(), index(15, 16, 17))
    return StudyPlan(Cohort(DATASETS["ham10000"], root, records), sites, unseen, index(18, 19))


OWNERS = ["ash"] * 5 + ["beech"] * 5 + ["cedar"] * 5 + ["away"] * 3 + [""] * 2


def expected(plan: StudyPlan, backbone: Backbone, strength: float, folder: Path) -> dict[int, np.ndarray]:  # type: ignore[type-arg]
    """Every record's feature, from pictures that were shifted beforehand and stored."""
    folder.mkdir(exist_ok=True)
    rows = [row for row in range(20) if row != BROKEN]
    for row in rows:
        camera = CameraShift(OWNERS[row], strength if OWNERS[row] else 0.0, colour=True)
        shifted = camera(pixels.read_rgb(plan.cohort.records[row].path))
        Image.fromarray(shifted).save(folder / f"{row:02d}.png")
    table = encode([folder / f"{row:02d}.png" for row in rows], backbone, cache=folder / "cache")
    return dict(zip(rows, table.features, strict=True))


def assert_features(found: Encoded, wanted: dict[int, np.ndarray]) -> None:  # type: ignore[type-arg]
    rows = found.readable(np.arange(20))
    assert rows.tolist() == sorted(wanted)
    assert np.array_equal(found.features_of(rows), np.stack([wanted[row] for row in rows.tolist()]))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_each_site_sees_its_pictures_through_its_own_camera(
    plan: StudyPlan, backbone: Backbone, tmp_path: Path, strength: float
) -> None:
    found = encode_plan(plan, backbone, strength, tmp_path / "cache")
    wanted = expected(plan, backbone, strength, tmp_path / "shifted")
    assert_features(found, wanted)
    assert [skip.path for skip in found.skipped] == [plan.cohort.records[BROKEN].path]
    alike = np.array_equal(wanted[2], wanted[COPY])
    assert alike == (strength == 0.0)  # one file at two sites is two pictures as soon as cameras differ


def test_the_reference_set_has_the_camera_of_nobody(plan: StudyPlan, backbone: Backbone, tmp_path: Path) -> None:
    shifted, plain = (encode_plan(plan, backbone, s, tmp_path / "cache") for s in (0.8, 0.0))
    assert np.array_equal(shifted.features_of(plan.reference), plain.features_of(plan.reference))
    for site in (*plan.sites, plan.unseen):
        assert site is not None
        rows = shifted.readable(site.test)
        assert not np.array_equal(shifted.features_of(rows), plain.features_of(rows))


def test_a_reference_set_of_the_unseen_sites_own_images_has_the_unseen_sites_camera(
    plan: StudyPlan, backbone: Backbone, tmp_path: Path
) -> None:
    assert plan.unseen is not None
    transductive = replace(plan, reference=plan.unseen.test)
    found = encode_plan(transductive, backbone, 0.8, tmp_path / "cache")
    wanted = expected(plan, backbone, 0.8, tmp_path / "shifted")
    assert np.array_equal(found.features_of(index(15, 16, 17)), np.stack([wanted[row] for row in (15, 16, 17)]))


def test_cameras_have_cache_entries_of_their_own(plan: StudyPlan, backbone: Backbone, tmp_path: Path) -> None:
    """One cache for all strengths, in whatever order: never another one's feature."""
    cache = tmp_path / "cache"
    fresh = {s: encode_plan(plan, backbone, s, tmp_path / f"fresh {s}") for s in (0.0, 0.3, 0.9)}
    for strength in (0.9, 0.0, 0.3, 0.9, 0.0):
        found = encode_plan(plan, backbone, strength, cache)
        assert np.array_equal(found.features, fresh[strength].features)
        assert np.array_equal(found.place, fresh[strength].place)
    grey = replace(plan, cohort=replace(plan.cohort, dataset=DATASETS["brain-mri"]))
    other = encode_plan(grey, backbone, 0.9, cache)
    assert np.array_equal(other.features, encode_plan(grey, backbone, 0.9, tmp_path / "fresh grey").features)
    assert not np.array_equal(other.features, fresh[0.9].features)


@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_contents_are_those_of_the_files_whatever_the_camera(
    plan: StudyPlan, backbone: Backbone, tmp_path: Path, strength: float
) -> None:
    found = encode_plan(plan, backbone, strength, tmp_path / "cache")
    files = [hashlib.sha256(record.path.read_bytes()).hexdigest() for record in plan.cohort.records]
    assert found.contents_of(np.arange(20)) == ["" if row == BROKEN else files[row] for row in range(20)]
    assert found.contents[2] == found.contents[COPY]


@pytest.mark.parametrize(("dataset", "colour"), [("ham10000", True), ("brain-mri", False)])
def test_grey_modalities_have_grey_cameras(
    plan: StudyPlan, backbone: Backbone, tmp_path: Path, dataset: str, colour: bool
) -> None:
    changed = replace(plan, cohort=replace(plan.cohort, dataset=DATASETS[dataset]))
    found = encode_plan(changed, backbone, 0.5, tmp_path / "cache")
    assert [camera.site for camera in found.cameras] == OWNERS
    assert {camera.colour for camera in found.cameras} == {colour}
    assert {camera.strength for camera in found.cameras[:18]} == {0.5}
    assert {camera.strength for camera in found.cameras[18:]} == {0.0}


@pytest.mark.parametrize("strength", [0.0, 0.6])
def test_pictures_are_prepared_through_the_same_camera(
    plan: StudyPlan, backbone: Backbone, tmp_path: Path, strength: float
) -> None:
    found = encode_plan(plan, backbone, strength, tmp_path / "cache")
    rows = index(2, COPY, 16, 19)
    pictures = found.pictures_of(rows, backbone)
    assert (pictures.shape, pictures.dtype) == ((4, 16, 16, 3), np.uint8)
    assert np.array_equal(pictures[0], pictures[1]) == (strength == 0.0)
    np.testing.assert_allclose(backbone.encode_images(pictures), found.features_of(rows), atol=1e-6)
    assert found.pictures_of(index(), backbone).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("strength", [0.0, 0.6])
def test_progress_goes_up_to_all_images(plan: StudyPlan, backbone: Backbone, tmp_path: Path, strength: float) -> None:
    told: list[tuple[int, int]] = []
    encode_plan(plan, backbone, strength, tmp_path / "cache", lambda done, total, _: told.append((done, total)))
    assert {total for _, total in told} == {20}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (20, 20)


def test_a_damaged_cache_is_told_once_for_each_shard(plan: StudyPlan, backbone: Backbone, tmp_path: Path) -> None:
    first = encode_plan(plan, backbone, 0.0, tmp_path / "cache")
    (shard,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    notes: list[str] = []
    again = encode_plan(plan, backbone, 0.0, tmp_path / "cache", note=notes.append)
    assert np.array_equal(again.features, first.features)
    assert len(notes) == 1
    assert shard.name in notes[0]
