from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from wardround.medical_datasets.cohort import Dataset, normalise_name
from wardround.medical_datasets.errors import DatasetLayoutError, TableError, UnknownClassError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.pixels import read_rgb
from wardround.medical_datasets.sets import medmnist
from wardround.medical_datasets.sets.ham10000 import HAM10000
from wardround.medical_datasets.sets.medmnist import MAX_IMAGES, MEDMNIST, REFUSED

BY_KEY = {dataset.key: dataset for dataset in MEDMNIST}
COUNTS = {"train": 11, "val": 3, "test": 4}


def arrays(dataset: Dataset, side: int = 28, colour: bool = False) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(len(dataset.classes))
    found: dict[str, NDArray[Any]] = {}
    for split, count in COUNTS.items():
        shape = (count, side, side, 3) if colour else (count, side, side)
        found[f"{split}_images"] = generator.integers(0, 256, size=shape).astype(np.uint8)
        found[f"{split}_labels"] = (np.arange(count) % len(dataset.classes)).astype(np.uint8)[:, None]
    return found


def listed(dataset: Dataset, root: Path, classes: tuple[str, ...] | None = None) -> Listing:
    return dataset.read(dataset, Wanted(root=root, classes=classes))


def test_the_sets_and_their_classes_in_the_official_order() -> None:
    assert {key: len(dataset.classes) for key, dataset in BY_KEY.items()} == {
        "dermamnist": 7,
        "pathmnist": 9,
        "octmnist": 4,
        "pneumoniamnist": 2,
        "retinamnist": 5,
        "breastmnist": 2,
        "bloodmnist": 8,
        "tissuemnist": 8,
        "organamnist": 11,
        "organcmnist": 11,
        "organsmnist": 11,
    }
    derma = BY_KEY["dermamnist"]
    assert derma.class_names == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert all(label in HAM10000.classes for label in derma.classes)
    assert BY_KEY["pathmnist"].class_index("colorectal adenocarcinoma epithelium") == 8
    assert BY_KEY["breastmnist"].class_index("malignant") == 0
    assert BY_KEY["breastmnist"].class_index("normal, benign") == 1
    assert BY_KEY["octmnist"].class_names[2:] == ("drusen", "normal")
    assert [BY_KEY["retinamnist"].class_index(str(grade)) for grade in range(5)] == [0, 1, 2, 3, 4]
    assert BY_KEY["organsmnist"].class_names[3:7] == ("heart", "kidney-left", "kidney-right", "liver")
    assert BY_KEY["tissuemnist"].class_index("Collecting Duct, Connecting Tubule") == 0


@pytest.mark.parametrize("key", BY_KEY)
def test_descriptors_are_complete_and_unambiguous(key: str) -> None:
    dataset = BY_KEY[key]
    spellings: dict[str, str] = {}
    for index, label in enumerate(dataset.classes):
        assert len(set(label.prompts)) == len(label.prompts) >= 3
        assert all(4 <= len(prompt.split()) <= 25 for prompt in label.prompts)
        assert all(code.code.isdigit() and code.display for code in label.codes if code.system == "SNOMED CT")
        for spelling in (label.name, *label.aliases):
            assert spellings.setdefault(normalise_name(spelling), label.name) == label.name
            assert dataset.class_index(spelling) == index
    assert dataset.licence == ("CC BY-NC 4.0" if key == "dermamnist" else "CC BY 4.0")


@pytest.mark.parametrize(("key", "colour"), [("dermamnist", True), ("pneumoniamnist", False), ("organamnist", False)])
def test_the_published_file(tmp_path: Path, key: str, colour: bool) -> None:
    dataset = BY_KEY[key]
    held = arrays(dataset, colour=colour)
    np.savez_compressed(tmp_path / f"{key}.npz", **held)
    listing = listed(dataset, tmp_path)
    assert len(listing.items) == 18
    assert [item.part for item in listing.items] == sorted(item.part for item in listing.items)
    names = {"train": "train", "val": "validation", "test": "test"}
    for item in listing.items:
        array, number = item.part.split("/")
        split = array.split("_")[0]
        assert item.split == names[split]
        assert item.label == held[f"{split}_labels"][int(number), 0]
        assert item.group is None
        picture = held[array][int(number)]
        assert (read_rgb(item.image(listing.root)) == (picture if colour else picture[:, :, None])).all()
    parts = [item.part for item in listing.items if item.split == "train"]
    assert parts == [f"train_images/{number:02}" for number in range(11)]


def test_near_duplicates_become_groups(tmp_path: Path) -> None:
    dataset = BY_KEY["dermamnist"]
    held = arrays(dataset, colour=True)
    held["test_images"][2] = held["train_images"][7]  # a lesion on both sides of the supplied split
    np.savez_compressed(tmp_path / "dermamnist.npz", **held)
    cohort = cohort_of(listed(dataset, tmp_path))
    groups = {record.part: record.group for record in cohort.records}
    assert len(groups) == 18
    assert groups["test_images/2"] == groups["train_images/07"]
    assert len(set(groups.values())) == 17


def test_the_largest_size_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    dataset = BY_KEY["bloodmnist"]
    for name, side in (("bloodmnist.npz", 28), ("bloodmnist_64.npz", 64), ("bloodmnist_128.npz", 128)):
        np.savez_compressed(tmp_path / name, **arrays(dataset, side, colour=True))
    np.savez_compressed(tmp_path / "retinamnist.npz", **arrays(BY_KEY["retinamnist"], colour=True))
    np.savez_compressed(tmp_path / "chestmnist.npz", train_images=np.zeros((1, 28, 28), dtype=np.uint8))
    listing = listed(dataset, tmp_path)
    assert {item.relative for item in listing.items} == {"bloodmnist_128.npz"}
    assert {item.path.name: item.reason.split(",")[0] for item in listing.skipped} == {
        "bloodmnist.npz": "bloodmnist_128.npz has the same images",
        "bloodmnist_64.npz": "bloodmnist_128.npz has the same images",
        "retinamnist.npz": "not a file of bloodmnist",
        "chestmnist.npz": "ChestMNIST gives an image several of 14 findings",
    }
    alone = listed(dataset, tmp_path / "bloodmnist_64.npz")
    assert alone.root == tmp_path
    assert {item.relative for item in alone.items} == {"bloodmnist_64.npz"}
    assert read_rgb(alone.items[0].image(alone.root)).shape == (64, 64, 3)


def test_kept_classes(tmp_path: Path) -> None:
    dataset = BY_KEY["octmnist"]
    np.savez_compressed(tmp_path / "octmnist.npz", **arrays(dataset))
    cohort = cohort_of(listed(dataset, tmp_path, ("normal", "CNV")), classes=("normal", "CNV"))
    assert cohort.dataset.class_names == ("choroidal neovascularization", "normal")
    assert {record.label for record in cohort.records} == {0, 1}


def test_files_that_contradict_themselves(tmp_path: Path) -> None:
    dataset = BY_KEY["breastmnist"]

    def fault(**changed: Any) -> Listing:
        held = {**arrays(dataset), **changed}
        np.savez_compressed(
            tmp_path / "breastmnist.npz", **{name: each for name, each in held.items() if each is not None}
        )
        return listed(dataset, tmp_path)

    over = np.array([0, 2, 255], dtype=np.uint8)[:, None]
    several = np.zeros((3, 14), dtype=np.uint8)
    volumes = np.zeros((3, 28, 28, 28), dtype=np.uint8)
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UnknownClassError, "2 labels are out of range, the first is 2 of image 1", {"val_labels": over}),
        (TableError, "2 labels for 3 images", {"val_labels": np.zeros((2, 1), dtype=np.uint8)}),
        (TableError, "14 labels an image", {"val_labels": several}),
        (TableError, "the labels are float64", {"val_labels": np.zeros((3, 1))}),
        (TableError, "pickled objects", {"val_labels": np.array([[0], [1], [None]], dtype=object)}),
        (TableError, "three-dimensional", {"val_images": volumes}),
        (DatasetLayoutError, "no array 'val_images'", {"val_images": None}),
    ]
    for kind, words, changed in cases:
        listing = fault(**changed)
        assert len(listing.items) == 15  # a check can look at the rest
        assert len(listing.problems) == 1
        with pytest.raises(kind, match=words):
            cohort_of(listing)
    assert len(fault(val_labels=np.array([0, 1, 0], dtype=np.uint8)).items) == 18
    (tmp_path / "breastmnist.npz").write_bytes(b"PK\3\4")
    with pytest.raises(TableError, match="no whole npz"):
        cohort_of(listed(dataset, tmp_path))


def test_more_images_than_any_published_set_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = BY_KEY["breastmnist"]
    held = arrays(dataset)
    held["train_images"] = np.zeros((MAX_IMAGES + 1, 1, 1), dtype=np.uint8)
    held["train_labels"] = np.zeros(MAX_IMAGES + 1, dtype=np.uint8)
    np.savez_compressed(tmp_path / "breastmnist.npz", **held)
    read: list[str] = []
    whole = medmnist.small_array

    def noted(path: Path, name: str) -> NDArray[Any]:
        read.append(name)
        return whole(path, name)

    monkeypatch.setattr(medmnist, "small_array", noted)
    listing = listed(dataset, tmp_path)
    assert len(listing.items) == 7
    assert [problem.what for problem in listing.problems] == [
        "the file claims more than 262144 images: 262145 in train"
    ]
    assert read == ["val_labels", "test_labels"]
    monkeypatch.setattr(medmnist, "MAX_IMAGES", 17)  # of all parts together, which have 11, 3 and 4
    np.savez_compressed(tmp_path / "breastmnist.npz", **arrays(dataset))
    listing = listed(dataset, tmp_path)
    assert len(listing.items) == 14
    assert [problem.what for problem in listing.problems] == ["the file claims more than 17 images: 4 in test"]
    with pytest.raises(TableError, match="more than 17 images"):
        cohort_of(listing)


def test_folders_without_the_set(tmp_path: Path) -> None:
    dataset = BY_KEY["dermamnist"]
    with pytest.raises(DatasetLayoutError, match="does not exist"):
        listed(dataset, tmp_path / "gone")
    with pytest.raises(DatasetLayoutError, match=r"no dermamnist\.npz"):
        listed(dataset, tmp_path)
    np.savez(tmp_path / "chestmnist_64.npz", train_images=np.zeros((1, 64, 64), dtype=np.uint8))
    with pytest.raises(DatasetLayoutError, match="several of 14 findings"):
        listed(dataset, tmp_path)
    with pytest.raises(DatasetLayoutError, match="several of 14 findings"):
        listed(dataset, tmp_path / "chestmnist_64.npz")
    assert "organmnist3d" in REFUSED


@pytest.mark.parametrize("key", BY_KEY)
def test_the_signature_tells_the_set(tmp_path: Path, key: str) -> None:
    for name in (f"{key}.npz", f"{key}_224.npz"):
        (tmp_path / name).write_bytes(b"")
        fits = [data.key for data in MEDMNIST if any(any(tmp_path.glob(pattern)) for pattern in data.signature)]
        assert fits == [key]
        (tmp_path / name).unlink()
