"""The grid: which cells there are, that each is a study of its own, and that all of a seed share splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.medical_datasets.class_folders import list_class_folders
from wardround.medical_datasets.cohort import ClassLabel, Cohort, Dataset, Record
from wardround.platform.cohorts import StudyPlan, deal
from wardround.platform.compare.grid import Request, fold_names, own_fold, parse_methods, plan_grid
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.study_file import parse_study

FILE = Path("/study.toml")
PHANTOMS = {"dataset": "brain-mri", "source": "phantoms", "images_per_site": 24}


def study_of(**changes: Any) -> Study:
    values: dict[str, Any] = {"name": "small", "rounds": 20, "data": {"dataset": "brain-mri", "path": "nowhere"}}
    return parse_study({**values, **changes}, where=FILE)


def cohort(images: int = 400) -> Cohort:
    labels = tuple(ClassLabel(name, name, (name,)) for name in ("ash", "beech", "cedar", "dune"))
    dataset = Dataset(
        "toy", "Toy", "brain-mri", labels, (), "tree", "", (), "none", "none", "drawn", read=list_class_folders
    )
    records = tuple(
        Record(Path(f"/{i}.png"), i % 4, f"g{i // 2}", ("north", "east", "south", "west")[i // 2 % 4])
        for i in range(images)
    )
    return Cohort(dataset, Path("/"), records)


def parts(plan: StudyPlan) -> dict[str, list[list[int]]]:
    return {s.name: [s.train.tolist(), s.validation.tolist(), s.test.tolist()] for s in plan.sites}


def test_methods_are_read_from_a_list_with_commas() -> None:
    assert parse_methods(" facmic, zero-shot,facmic,") == ("facmic", "zero-shot")
    with pytest.raises(StudyFileError, match="did you mean 'facmic'"):
        parse_methods("facmik")
    with pytest.raises(StudyFileError, match="no method"):
        parse_methods(" , ")


def test_the_grid_is_methods_by_seeds() -> None:
    cells = plan_grid(Request(study_of(seed=7), FILE, ("zero-shot", "facmic"), seeds=2))
    assert [cell.key.identifier for cell in cells] == [
        "zero-shot__seed-7__out-unseen",
        "facmic__seed-7__out-unseen",
        "zero-shot__seed-8__out-unseen",
        "facmic__seed-8__out-unseen",
    ]
    assert [cell.study.seed for cell in cells] == [7, 7, 8, 8]
    assert [cell.study.method for cell in cells] == ["zero-shot", "facmic"] * 2
    assert [cell.rounds for cell in cells] == [0, 20, 0, 20]
    assert {cell.study.name for cell in cells} == {"small"}
    assert cells[1].study.digest() == study_of(seed=7, method="facmic").digest()


@pytest.mark.parametrize(
    ("changes", "in_data", "folds"),
    [
        ({}, (), ["site-1", "site-2", "site-3", "unseen"]),
        ({"sites": {"unseen": "", "count": 4}}, (), ["site-1", "site-2", "site-3", "site-4"]),
        ({"sites": {"partition": "column", "unseen": "north"}}, ("north", "b", "c", "d"), ["b", "c", "d", "north"]),
        (
            {
                "sites": {"partition": "column", "unseen": "north"},
                "reference": {"source": "site", "site": "public"},
            },
            ("north", "b", "c", "d", "public"),
            ["b", "c", "d", "north"],
        ),
        ({"data": PHANTOMS}, (), ["amber", "birch", "cedar", "harbour"]),
        (
            {"data": PHANTOMS, "reference": {"source": "site", "site": "amber"}},
            (),
            ["birch", "cedar", "dune", "harbour"],
        ),
    ],
)
def test_every_site_is_left_out_in_turn(changes: dict[str, Any], in_data: tuple[str, ...], folds: list[str]) -> None:
    study = study_of(**changes)
    cells = plan_grid(Request(study, FILE, ("facmic",), leave_one_out=True), in_data)
    assert [cell.key.fold for cell in cells] == folds
    # The study's own unseen site is the same cell with and without --leave-one-out.
    own = own_fold(study)
    for cell in cells:
        assert cell.study.sites.left_out == ("" if cell.key.fold == own else cell.key.fold)
    if own:
        (plain,) = plan_grid(Request(study, FILE, ("facmic",)), in_data)
        assert [plain.key, plain.study.digest()] in [[cell.key, cell.study.digest()] for cell in cells]


def test_too_few_sites_to_leave_one_out() -> None:
    with pytest.raises(StudyFileError, match="fewer than 3 train"):
        fold_names(study_of(sites={"unseen": ""}), ())


def test_cells_of_a_seed_share_splits_and_reference_set() -> None:
    cells = plan_grid(Request(study_of(), FILE, ("zero-shot", "fedavg", "facmic"), seeds=2, leave_one_out=True))
    seen: dict[tuple[int, str], list[list[int]]] = {}
    references: dict[int, list[int]] = {}
    for cell in cells:
        plan = deal(cell.study, cohort())
        reference = references.setdefault(cell.key.seed, plan.reference.tolist())
        assert plan.reference.tolist() == reference
        for site, rows in parts(plan).items():
            assert seen.setdefault((cell.key.seed, site), rows) == rows
        assert plan.unseen is not None
        assert plan.unseen.name == cell.key.fold
    assert references[0] != references[1]
    assert seen[0, "site-1"] != seen[1, "site-1"]
    assert np.concatenate([np.concatenate(rows) for (s, _), rows in seen.items() if s == 0]).size > 300


def test_methods_that_train_on_pictures_get_what_the_study_grants_them() -> None:
    grants = {"pixel_rounds": 3, "pixel_images": 50, "pixel_seeds": 1}
    cells = plan_grid(Request(study_of(compare=grants), FILE, ("lora", "facmic"), seeds=2, leave_one_out=True))
    lora = [cell for cell in cells if cell.key.method == "lora"]
    assert [cell.key.identifier for cell in lora] == ["lora__seed-0__out-unseen"]
    assert (lora[0].study.rounds, lora[0].study.data.max_train_images) == (3, 50)
    assert len(cells) == 1 + 8
    assert all(cell.study.rounds == 20 for cell in cells if cell.key.method == "facmic")
    generous = plan_grid(
        Request(
            study_of(compare={**grants, "pixel_seeds": 9, "pixel_leave_one_out": True, "pixel_rounds": 99}),
            FILE,
            ("lora",),
            seeds=2,
            leave_one_out=True,
        )
    )
    assert len(generous) == 8
    assert {cell.study.rounds for cell in generous} == {20}
    fewer = study_of(compare=grants, data={"dataset": "brain-mri", "path": "nowhere", "max_train_images": 30})
    assert plan_grid(Request(fewer, FILE, ("lora",)))[0].study.data.max_train_images == 30
    whole = study_of(compare={**grants, "pixel_images": 0})
    assert plan_grid(Request(whole, FILE, ("lora",)))[0].study.data.max_train_images == 0


def test_pictures_without_an_unseen_site_are_trained_on_all_sites() -> None:
    study = study_of(sites={"unseen": "", "count": 4})
    cells = plan_grid(Request(study, FILE, ("lora", "fedclip"), leave_one_out=True))
    assert [cell.key.fold for cell in cells if cell.key.method == "lora"] == [""]
    assert [cell.key.fold for cell in cells if cell.key.method == "fedclip"] == ["site-1", "site-2", "site-3", "site-4"]
    assert cells[-1].key.identifier == "lora__seed-0__out"


def test_a_cell_that_cannot_be_is_refused_by_name() -> None:
    study = study_of(reference={"source": "class-means"})
    with pytest.raises(StudyFileError, match=r"facmic, normalisation batch-local, seed 0.*batch-local"):
        plan_grid(Request(study, FILE, ("facmic",), "normalisation"))


def test_scripted_faults_stay_where_they_can_happen() -> None:
    drop = [{"round": r, "site": s, "stage": "mask"} for r, s in ((1, "site-1"), (19, "site-1"), (2, "site-2"))]
    study = study_of(faults={"drop": drop}, compare={"pixel_rounds": 5})
    cells = plan_grid(Request(study, FILE, ("lora", "facmic"), leave_one_out=True))
    faults = {cell.key.identifier: [(f.round, f.site) for f in cell.study.faults.drop] for cell in cells}
    assert faults["lora__seed-0__out-unseen"] == [(1, "site-1"), (2, "site-2")]
    assert faults["facmic__seed-0__out-site-1"] == [(2, "site-2")]
    assert len(faults["facmic__seed-0__out-unseen"]) == 3
