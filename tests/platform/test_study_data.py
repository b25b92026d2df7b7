"""From a plan to features: the right rows, and unreadable images left out, counted and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, Record, Skipped
from wardround.platform import study_data as module
from wardround.platform.cohorts import SitePlan, StudyPlan
from wardround.platform.errors import StudyFileError
from wardround.platform.features import FeatureTable
from wardround.platform.study_data import encode_study

WIDTH = 4


class StandIn:
    """A backbone whose features and prompts are known numbers."""

    logit_scale = 7.0

    def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.eye(len(prompts), WIDTH, dtype=np.float32)


def index(*rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(rows, dtype=np.int64)


def plan(root: Path = Path("/pictures"), skipped: tuple[Skipped, ...] = ()) -> StudyPlan:
    """Twenty records, three sites of five (3, 1, 1), an unseen site of three, two reference records."""
    records = tuple(Record(root / f"{i:02d}.png", i % 4, f"patient-{i}") for i in range(20))
    sites = tuple(
        SitePlan(name, index(5 * k, 5 * k + 1, 5 * k + 2), index(5 * k + 3), index(5 * k + 4))
        for k, name in enumerate(("ash", "beech", "cedar"))
    )
    unseen = SitePlan("away", index(), index(), index(15, 16, 17))
    return StudyPlan(Cohort(DATASETS["brain-mri"], root, records, skipped=skipped), sites, unseen, index(18, 19))


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Records that cannot be decoded; the feature of record i is (i, 0, 0, 0)."""
    broken: set[int] = set()

    def encode(paths: Sequence[Path], *_: Any, **__: Any) -> FeatureTable:
        kept = [i for i in range(len(paths)) if i not in broken]
        features = np.zeros((len(kept), WIDTH), dtype=np.float32)
        features[:, 0] = kept
        skipped = tuple((paths[i], "torn") for i in sorted(broken))
        return FeatureTable(features, index(*kept), skipped, ("",) * len(kept))

    monkeypatch.setattr(module, "encode", encode)
    return broken


def encoded(dealt: StudyPlan) -> tuple[module.StudyData, tuple[Skipped, ...]]:
    return encode_study(dealt, StandIn(), Path("/cache"))  # type: ignore[arg-type]


@pytest.mark.parametrize("broken", [(), (0,), (1, 3, 16), (2, 8, 13, 18)])
def test_every_part_gets_its_own_rows_and_only_readable_ones(unreadable: set[int], broken: tuple[int, ...]) -> None:
    unreadable.update(broken)
    data, skipped = encoded(plan())
    assert [skip.path.name for skip in skipped] == [f"{i:02d}.png" for i in broken]
    assert all(skip.reason == "torn" for skip in skipped)
    assert data.unseen is not None
    seen = []
    for site in (*data.sites, data.unseen):
        for part in (site.train, site.validation, site.test):
            assert part.features[:, 0].tolist() == part.rows.tolist()
            assert part.labels.tolist() == [row % 4 for row in part.rows]
            assert part.groups == tuple(f"patient-{row}" for row in part.rows)
            assert len(part) == len(part.rows)
            seen += part.rows.tolist()
    seen += [int(row) for row in data.shared.reference[:, 0]]
    assert sorted(seen) == [i for i in range(20) if i not in broken]
    assert data.reference_n == data.shared.reference.shape[0]
    assert data.shared.scale == 7.0
    assert torch.equal(data.shared.text, torch.eye(4))


def test_files_that_the_loader_left_out_are_named_too(unreadable: set[int]) -> None:
    unreadable.add(4 + 15 - 3)
    loader = Skipped(Path("/pictures/notes.txt"), "no image")
    _, skipped = encoded(plan(skipped=(loader,)))
    assert skipped[0] == loader
    assert len(skipped) == 2


def test_without_an_unseen_site_and_reference(unreadable: set[int]) -> None:
    data, _ = encoded(replace(plan(), unseen=None, reference=index()))
    assert not unreadable
    assert data.unseen is None
    assert data.shared.reference.shape == (0, WIDTH)


@pytest.mark.parametrize("broken", [(5, 6), (9,)])
def test_a_site_that_is_left_with_too_little_is_named(unreadable: set[int], broken: tuple[int, ...]) -> None:
    unreadable.update(broken)
    with pytest.raises(StudyFileError, match="site 'beech' is left with") as caught:
        encoded(plan())
    assert caught.value.remedy


def test_a_reference_set_of_unreadable_images_is_refused_rather_than_left_out(unreadable: set[int]) -> None:
    unreadable.update((18, 19))
    with pytest.raises(StudyFileError, match="none of the 2 reference images") as caught:
        encoded(plan())
    assert caught.value.where == "reference"


def test_real_pictures_with_one_broken_file(tmp_path: Path) -> None:
    import open_clip
    from wardround.platform.backbone import Backbone
    from wardround.platform.preprocessing import Preprocessing

    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**config)
    backbone = Backbone(
        model,
        lambda texts: torch.ones((len(texts), 8), dtype=torch.int64),
        name="tiny",
        weights="random",
        config=config,
        preprocessing=Preprocessing(16, 16, (0.5,) * 3, (0.25,) * 3),
        device=torch.device("cpu"),
    )
    generator = np.random.default_rng(0)
    dealt = plan(tmp_path)
    for record in dealt.cohort.records:
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(record.path)
    dealt.cohort.records[7].path.write_bytes(b"no picture")
    done: list[tuple[int, int]] = []
    data, skipped = encode_study(dealt, backbone, tmp_path / "cache", lambda n, of, _: done.append((n, of)))
    assert [skip.path for skip in skipped] == [dealt.cohort.records[7].path]
    assert data.sites[1].train.rows.tolist() == [5, 6]
    norms = np.linalg.norm(data.sites[0].train.features, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)
    assert done[-1] == (20, 20)
    again, _ = encode_study(dealt, backbone, tmp_path / "cache")
    assert np.array_equal(again.sites[2].train.features, data.sites[2].train.features)
