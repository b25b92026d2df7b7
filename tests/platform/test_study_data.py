"""From a plan to features: the right rows, unreadable images left out and named, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, ImageRef, Record, Skipped
from wardround.platform import encoded as module
from wardround.platform.backbone import Backbone
from wardround.platform.cohorts import SitePlan, StudyPlan
from wardround.platform.errors import StudyFileError
from wardround.platform.features import FeatureTable
from wardround.platform.methods.table import method_of
from wardround.platform.study_data import StudyData, encode_study

WIDTH = 4
Encode = Callable[..., tuple[StudyData, tuple[Skipped, ...]]]


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
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Content hashes of records; one that is not named here has a content of its own."""
    known: dict[int, str] = {}
    monkeypatch.setattr(module.pixels, "content_hash", lambda image: known.get(int(image.path.stem), image.path.stem))
    return known


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch, contents: dict[int, str]) -> set[int]:
    """Records that cannot be decoded; the feature of record i is (i, 0, 0, 0)."""
    assert contents == {}
    broken: set[int] = set()

    def encode(images: Sequence[ImageRef], *_: Any, hash_file: Callable[[Path], str], **__: Any) -> FeatureTable:
        kept = [at for at, image in enumerate(images) if int(image.path.stem) not in broken]
        features = np.zeros((len(kept), WIDTH), dtype=np.float32)
        features[:, 0] = [int(images[at].path.stem) for at in kept]
        skipped = tuple((image, "torn") for image in images if int(image.path.stem) in broken)
        return FeatureTable(features, index(*kept), skipped, tuple(hash_file(images[at]) for at in kept))

    monkeypatch.setattr(module, "encode", encode)
    return broken


@pytest.fixture
def encoded(toy_study: Callable[..., Any]) -> Encode:
    """``encoded(plan, **changes)``: that plan encoded by the stand-in, for the toy study with the keys changed."""

    def encode(dealt: StudyPlan, **changes: Any) -> tuple[StudyData, tuple[Skipped, ...]]:
        study = toy_study(**changes)
        return encode_study(study, method_of(study), dealt, StandIn(), Path("/cache"))  # type: ignore[arg-type]

    return encode


@pytest.mark.parametrize("broken", [(), (0,), (1, 3, 16), (2, 8, 13, 18)])
def test_every_part_gets_its_own_rows_and_only_readable_ones(
    encoded: Encode, unreadable: set[int], broken: tuple[int, ...]
) -> None:
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


def test_files_that_the_loader_left_out_are_named_too(encoded: Encode, unreadable: set[int]) -> None:
    unreadable.add(4 + 15 - 3)
    loader = Skipped(Path("/pictures/notes.txt"), "no image")
    _, skipped = encoded(plan(skipped=(loader,)))
    assert skipped[0] == loader
    assert len(skipped) == 2


def test_without_an_unseen_site_and_reference(encoded: Encode, unreadable: set[int]) -> None:
    data, _ = encoded(replace(plan(), unseen=None, reference=index()))
    assert not unreadable
    assert data.unseen is None
    assert data.shared.reference.shape == (0, WIDTH)


@pytest.mark.parametrize("broken", [(5, 6), (9,)])
def test_a_site_that_is_left_with_too_little_is_named(
    encoded: Encode, unreadable: set[int], broken: tuple[int, ...]
) -> None:
    unreadable.update(broken)
    with pytest.raises(StudyFileError, match="site 'beech' is left with") as caught:
        encoded(plan())
    assert caught.value.remedy


def test_a_reference_set_of_unreadable_images_is_refused_rather_than_left_out(
    encoded: Encode, unreadable: set[int]
) -> None:
    unreadable.update((18, 19))
    with pytest.raises(StudyFileError, match="none of the 2 reference images") as caught:
        encoded(plan())
    assert caught.value.where == "reference"


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Callable[[int], Backbone]) -> Backbone:
    return tiny_backbone(WIDTH)


def drawn_pictures(root: Path) -> StudyPlan:
    """The plan with pictures; record 7 is none."""
    generator = np.random.default_rng(0)
    dealt = plan(root)
    for record in dealt.cohort.records:
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(record.path)
    dealt.cohort.records[7].path.write_bytes(b"no picture")
    return dealt


def test_real_pictures_with_one_broken_file(toy_study: Callable[..., Any], tiny: Backbone, tmp_path: Path) -> None:
    dealt, backbone = drawn_pictures(tmp_path), tiny
    done: list[tuple[int, int]] = []
    study = toy_study()
    method = method_of(study)
    cache = tmp_path / "cache"
    data, skipped = encode_study(study, method, dealt, backbone, cache, lambda n, of, _: done.append((n, of)))
    assert [skip.path for skip in skipped] == [dealt.cohort.records[7].path]
    assert data.sites[1].train.rows.tolist() == [5, 6]
    norms = np.linalg.norm(data.sites[0].train.features, axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)
    assert done[-1] == (20, 20)
    again, _ = encode_study(study, method, dealt, backbone, cache)
    assert np.array_equal(again.sites[2].train.features, data.sites[2].train.features)
    assert data.shared.clip is None
    with pytest.raises(ValueError, match="without its pictures"):
        data.sites[0].train.inputs("pixels")


@pytest.mark.parametrize("method", ["fedavg", "lora"])
def test_methods_that_train_on_pictures_get_them_and_the_clip(
    toy_study: Callable[..., Any], tiny: Backbone, tmp_path: Path, method: str
) -> None:
    study = toy_study(method=method, sites={"feature_shift": 0.5})
    dealt = drawn_pictures(tmp_path)
    data, _ = encode_study(study, method_of(study), dealt, tiny, tmp_path / "cache")
    assert data.shared.clip is not None
    assert data.shared.clip.model is tiny.model
    assert data.unseen is not None
    for site in (*data.sites, data.unseen):
        for part in (site.train, site.validation, site.test):
            pictures = part.inputs("pixels").numpy()
            assert (pictures.dtype, pictures.shape[1:], len(pictures)) == (np.uint8, (16, 16, 3), len(part))
            np.testing.assert_allclose(tiny.encode_images(pictures), part.features, atol=1e-6)
    assert data.shared.reference.shape == (2, WIDTH)


def test_prompt_learning_gets_the_clip_and_no_pictures(
    toy_study: Callable[..., Any], tiny: Backbone, tmp_path: Path
) -> None:
    study = toy_study(method="prompt-fl")
    data, _ = encode_study(study, method_of(study), drawn_pictures(tmp_path), tiny, tmp_path / "cache")
    assert data.shared.clip is not None
    assert data.sites[0].train.pictures is None
    assert len(data.shared.clip.name_tokens) == len(data.cohort.dataset.classes)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompts", [(), ("",), ("a scan", " ")])
def test_a_class_without_a_prompt_is_named(encoded: Encode, unreadable: set[int], prompts: tuple[str, ...]) -> None:
    dealt = plan()
    assert not unreadable
    classes = list(dealt.cohort.dataset.classes)
    classes[2] = replace(classes[2], prompts=prompts)
    dataset = replace(dealt.cohort.dataset, classes=tuple(classes))
    with pytest.raises(StudyFileError, match=f"class '{classes[2].name}' has no prompt") as caught:
        encoded(replace(dealt, cohort=replace(dealt.cohort, dataset=dataset)))
    assert caught.value.where == f"data set '{dataset.key}'"
    assert "sentence" in caught.value.remedy


@pytest.mark.parametrize("tested", [4, 9, 14, 15, 17])
def test_a_reference_image_that_is_tested_on_is_refused_by_its_content(
    encoded: Encode, unreadable: set[int], contents: dict[int, str], tested: int
) -> None:
    """A copy under another name, at a training site or at the unseen one."""
    assert not unreadable
    contents[19] = f"{tested:02d}"
    with pytest.raises(StudyFileError, match="1 images of the reference set are tested on as well") as caught:
        encoded(plan())
    assert caught.value.where == "/pictures/19.png"
    assert "reference.transductive = true" in caught.value.remedy
    data, _ = encoded(plan(), reference={"transductive": True})
    assert data.transductive
    assert data.reference_n == 2


@pytest.mark.parametrize("trained", [0, 3, 7])
def test_a_reference_image_that_is_trained_or_validated_on_is_no_test_image(
    encoded: Encode, unreadable: set[int], contents: dict[int, str], trained: int
) -> None:
    assert not unreadable
    contents[19] = f"{trained:02d}"
    data, _ = encoded(plan())
    assert not data.transductive


def test_a_study_that_allows_a_transductive_run_and_has_none_is_not_called_one(
    encoded: Encode, unreadable: set[int]
) -> None:
    data, _ = encoded(plan(), reference={"transductive": True})
    assert not unreadable
    assert not data.transductive


def test_images_that_cannot_be_read_are_not_alike(encoded: Encode, unreadable: set[int]) -> None:
    """Neither has a content: one of the reference set and one of a test set."""
    unreadable.update((16, 18))
    data, _ = encoded(plan())
    assert not data.transductive
    assert data.reference_n == 1


def test_the_unseen_sites_own_images_as_reference_are_transductive(encoded: Encode, unreadable: set[int]) -> None:
    assert not unreadable
    dealt = replace(plan(), reference=index(15, 16, 17))
    data, _ = encoded(dealt, reference={"source": "unseen", "transductive": True})
    assert data.transductive
    assert data.unseen is not None
    assert np.array_equal(data.shared.reference.numpy(), data.unseen.test.features)


@pytest.mark.parametrize("known", [False, True])
def test_labels_of_the_reference_set_are_given_only_where_the_study_grants_them(
    encoded: Encode, unreadable: set[int], known: bool
) -> None:
    unreadable.add(18)
    data, _ = encoded(plan(), reference={"labels_known": known})
    labels = data.shared.reference_labels
    assert (None if labels is None else labels.tolist()) == ([19 % 4] if known else None)


# --- fewer training images -------------------------------------------------------------------------------------------


def large(counts: tuple[int, ...] = (40, 23, 7, 0), sites: int = 3) -> StudyPlan:
    """Sites with so many training images of each class, a validation and a test image, and no reference set."""
    labels = [c for c, count in enumerate(counts) for _ in range(count)]
    records, parts, at = [], [], 0
    for k in range(sites):
        rows = index(*range(at, at + len(labels)))
        records += [Record(Path(f"/pictures/{at + i:03d}.png"), c, f"p-{at + i}") for i, c in enumerate(labels)]
        records += [Record(Path(f"/pictures/{at + len(labels) + i:03d}.png"), 0, f"q-{at + i}") for i in range(2)]
        at += len(labels) + 2
        parts.append(SitePlan(f"site-{k + 1}", rows, index(at - 2), index(at - 1)))
    return StudyPlan(Cohort(DATASETS["brain-mri"], Path("/pictures"), tuple(records)), tuple(parts), None, index())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(2, 69), counts=st.tuples(*[st.integers(0, 25)] * 4).filter(lambda c: sum(c) >= 70))
def test_the_exact_number_is_drawn_each_class_in_proportion(
    encoded: Encode, unreadable: set[int], most: int, counts: tuple[int, ...]
) -> None:
    assert not unreadable
    data, _ = encoded(large(counts), data={"max_train_images": most})
    for site in data.sites:
        assert len(site.train) == most
        assert site.train.rows.tolist() == sorted(set(site.train.rows.tolist()))
        for c, count in enumerate(counts):
            exact = count * most / sum(counts)
            assert abs(int((site.train.labels == c).sum()) - exact) < 1.0
        assert (len(site.validation), len(site.test)) == (1, 1)


@pytest.mark.parametrize("most", [0, 70, 1000])
def test_none_is_left_out_where_there_are_no_more(encoded: Encode, unreadable: set[int], most: int) -> None:
    assert not unreadable
    data, _ = encoded(large(), data={"max_train_images": most})
    assert [site.train.rows.tolist() for site in data.sites] == [site.train.tolist() for site in large().sites]


def test_which_ones_follows_from_the_seed_and_the_site_and_not_from_their_order(
    encoded: Encode, unreadable: set[int]
) -> None:
    assert not unreadable
    dealt, shuffle = large(), np.random.default_rng(0)
    mixed = replace(dealt, sites=tuple(replace(site, train=shuffle.permutation(site.train)) for site in dealt.sites))
    few = {"max_train_images": 20}

    def drawn(which: StudyPlan, **changes: Any) -> list[list[int]]:
        data, _ = encoded(which, data=few, **changes)
        return [(site.train.rows - which.sites[k].train.min()).tolist() for k, site in enumerate(data.sites)]

    first = drawn(dealt)
    assert drawn(dealt) == first
    assert drawn(mixed) == first
    assert len({tuple(rows) for rows in first}) == 3
    assert drawn(dealt, seed=1) != first


def test_unreadable_images_do_not_count(encoded: Encode, unreadable: set[int]) -> None:
    unreadable.update(range(30))
    data, _ = encoded(large(), data={"max_train_images": 35})
    assert [len(site.train) for site in data.sites] == [35, 35, 35]
    assert data.sites[0].train.rows.min() >= 30
    assert data.sites[0].skipped == 30


def test_a_picture_that_is_trained_on_and_tested_on_under_another_name_is_told(
    contents: dict[int, str], unreadable: set[int], toy_study: Callable[..., Any]
) -> None:
    told: list[str] = []
    study, alone = toy_study(), replace(plan(), reference=index())

    def notes() -> list[str]:
        told.clear()
        encode_study(study, method_of(study), alone, StandIn(), Path("/cache"), None, told.append)  # type: ignore[arg-type]
        return [note for note in told if "byte for byte" in note]

    assert notes() == []
    contents |= {0: "same", 9: "same", 16: "same"}  # trained on at ash; tested on at beech and at the unseen site
    (note,) = notes()
    assert note.startswith("2 pictures")
