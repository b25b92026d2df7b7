from __future__ import annotations

from pathlib import Path

import pytest
from wardround.medical_datasets.errors import DatasetLayoutError
from wardround.medical_datasets.listing import Listing, Wanted
from wardround.medical_datasets.loading import cohort_of
from wardround.medical_datasets.sets.brain_mri import BRAIN_MRI
from wardround.medical_datasets.sets.facmic_brain import FACMIC_BRAIN, UNSEEN

from ..pictures import brain_tree, save

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")


def clients(root: Path, numbers: range = range(4), name: str = "client_{}") -> Path:
    for number in numbers:
        for at, folder in enumerate(CLASSES):
            save(root / name.format(number) / folder / "1.jpg", 10 * number + at)
    return root


def read(root: Path) -> Listing:
    return FACMIC_BRAIN.read(FACMIC_BRAIN, Wanted(root))


def test_each_client_is_a_site(tmp_path: Path) -> None:
    listing = read(clients(tmp_path))
    assert not listing.problems
    assert {item.relative.split("/")[0] for item in listing.items if item.site == UNSEEN} == {"client_3"}
    for item in listing.items:
        client, folder, _ = item.relative.split("/")
        assert item.site == client
        assert CLASSES[item.label] == folder
        assert item.split is None
    cohort = cohort_of(listing)
    assert sorted({str(record.site) for record in cohort.records}) == [f"client_{k}" for k in range(4)]
    assert len(cohort.records) == 16


def test_training_and_testing_below_the_clients(tmp_path: Path) -> None:
    for number in range(2):
        brain_tree(tmp_path / f"client_{number}", 1, variant="tumor", first_seed=20 * number)
    listing = read(tmp_path)
    assert not listing.problems
    assert {(item.site, item.split) for item in listing.items} == {
        (f"client_{k}", part) for k in range(2) for part in ("train", "test")
    }


@pytest.mark.parametrize("name", ["Client_{}", "client-{}", "CLIENT 0{}", "client{}"])
def test_other_spellings_are_the_same_sites(tmp_path: Path, name: str) -> None:
    assert {item.site for item in read(clients(tmp_path, name=name)).items} == {f"client_{k}" for k in range(4)}


@pytest.mark.parametrize("below", ["", "client_2"])
def test_one_client_alone_keeps_its_name(tmp_path: Path, below: str) -> None:
    """What a hospital holds: the folder of its own client, given from outside or inside."""
    clients(tmp_path, range(2, 3))
    listing = read(tmp_path / below)
    assert not listing.problems
    assert {item.site for item in listing.items} == {"client_2"}


def test_images_outside_the_clients_are_a_problem(tmp_path: Path) -> None:
    clients(tmp_path)
    save(tmp_path / "more/no_tumor/1.jpg", 99)
    (problem,) = read(tmp_path).problems
    assert isinstance(problem, DatasetLayoutError)
    assert "1 of 17 images lie in no client's folder" in str(problem)
    assert "more/no_tumor/1.jpg" in str(problem)


def test_a_picture_at_two_clients_is_one_group(tmp_path: Path) -> None:
    clients(tmp_path)
    save(tmp_path / "client_3/no_tumor/copy.jpg", 0, quality=70)  # client_0's first picture
    group = {record.path.relative_to(tmp_path).as_posix(): record.group for record in cohort_of(read(tmp_path)).records}
    assert group["client_3/no_tumor/copy.jpg"] == group["client_0/glioma_tumor/1.jpg"]


def test_it_is_the_brain_mri_set_in_other_folders() -> None:
    assert FACMIC_BRAIN.classes is BRAIN_MRI.classes
    assert FACMIC_BRAIN.grey
    assert FACMIC_BRAIN.signature == ()
    assert "client_3 is the unseen site" in FACMIC_BRAIN.site_key
