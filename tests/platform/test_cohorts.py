"""Dealing records out: whole groups, nothing twice, nothing lost, at least three sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, Record
from wardround.medical_datasets.errors import DataError, SplitError
from wardround.platform.cohorts import StudyPlan, deal, reference_overlap
from wardround.platform.config import Study
from wardround.platform.errors import StudyFileError
from wardround.platform.study_cohort import phantom_study, read_cohort

Make = Callable[..., Study]
SITES = ("ash", "beech", "cedar", "public", "away")
COLUMN: dict[str, Any] = {"partition": "column", "unseen": "away"}


def cohort(records: int = 300, seed: int = 0, sites: tuple[str, ...] | None = None) -> Cohort:
    """Groups of one to four records, each group at one site."""
    generator = np.random.default_rng(seed)
    rows: list[Record] = []
    group = 0
    while len(rows) < records:
        site = None if sites is None else sites[group % len(sites)]
        for _ in range(int(generator.integers(1, 5))):
            label = int(generator.integers(0, 4))
            rows.append(Record(Path(f"{len(rows):04d}.png"), label, f"patient-{group}", site))
        group += 1
    return Cohort(DATASETS["brain-mri"], Path("/pictures"), tuple(rows[:records]))


def parts(plan: StudyPlan) -> dict[str, list[int]]:
    """Every pile of records by name."""
    piles = {"reference": plan.reference.tolist()}
    for site in plan.sites:
        for side in ("train", "validation", "test"):
            piles[f"{site.name}/{side}"] = getattr(site, side).tolist()
    if plan.unseen is not None:
        piles["unseen"] = plan.unseen.test.tolist()
    return piles


def check(plan: StudyPlan) -> None:
    """Every record in exactly one pile, every group in exactly one pile."""
    piles = parts(plan)
    everything = sorted(row for pile in piles.values() for row in pile)
    assert everything == list(range(len(plan.cohort.records)))
    owner: dict[str, str] = {}
    for name, pile in piles.items():
        for row in pile:
            group = plan.cohort.records[row].group
            assert owner.setdefault(group, name) == name, f"{group} is in {owner[group]} and in {name}"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    count=st.integers(3, 6),
    alpha=st.sampled_from([0.05, 0.6, 100.0]),
    fraction=st.sampled_from([0.05, 0.3]),
    unseen=st.sampled_from(["", "away"]),
)
def test_dealt_out_by_group_with_nothing_lost(
    toy_study: Make, seed: int, count: int, alpha: float, fraction: float, unseen: str
) -> None:
    study = toy_study(
        seed=seed, sites={"count": count, "alpha": alpha, "unseen": unseen}, reference={"fraction": fraction}
    )
    plan = deal(study, cohort(seed=seed))
    check(plan)
    assert [site.name for site in plan.sites] == [f"site-{i + 1}" for i in range(count)]
    assert all(len(part) for part in parts(plan).values())
    assert (plan.unseen is None) == (unseen == "")


def test_the_unseen_site_is_only_tested_on(toy_study: Make) -> None:
    plan = deal(toy_study(), cohort())
    assert plan.unseen is not None
    assert plan.unseen.name == "unseen"
    assert len(plan.unseen.test)
    assert not len(plan.unseen.train)
    assert not len(plan.unseen.validation)
    assert "unseen" not in [site.name for site in plan.sites]


def test_the_same_study_deals_the_same_and_another_seed_does_not(toy_study: Make) -> None:
    data = cohort()
    assert parts(deal(toy_study(), data)) == parts(deal(toy_study(), data))
    assert parts(deal(toy_study(), data)) != parts(deal(toy_study(seed=1), data))


def test_the_reference_fraction_and_the_split_are_met(toy_study: Make) -> None:
    plan = deal(toy_study(reference={"fraction": 0.2}, sites={"alpha": 1000.0}), cohort(2000))
    assert len(plan.reference) == pytest.approx(400, rel=0.1)
    for site in plan.sites:
        whole = len(site.train) + len(site.validation) + len(site.test)
        assert len(site.train) == pytest.approx(0.8 * whole, rel=0.1)


def test_columns_keep_sites_whole_and_a_site_may_be_the_reference(toy_study: Make) -> None:
    data = cohort(500, sites=SITES)
    study = toy_study(sites=COLUMN, reference={"source": "site", "site": "public"})
    plan = deal(study, data)
    check(plan)
    assert [site.name for site in plan.sites] == ["ash", "beech", "cedar"]
    for site in plan.sites:
        rows = [*site.train, *site.validation, *site.test]
        assert {data.records[row].site for row in rows} == {site.name}
    assert {data.records[row].site for row in plan.reference} == {"public"}
    assert plan.unseen is not None
    assert {data.records[row].site for row in plan.unseen.test} == {"away"}


@pytest.mark.parametrize("rule", ["stable", "balanced"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), shared=st.floats(0.0, 0.5))
def test_no_group_is_trained_on_at_one_site_and_tested_on_at_another(
    toy_study: Make, rule: str, seed: int, shared: float
) -> None:
    draw = np.random.default_rng(seed)
    rows = list(cohort(200, seed, SITES).records)
    for record in list(rows):
        if draw.random() < shared:  # the same patient somewhere else as well
            rows.append(replace(record, path=Path(f"again-{len(rows)}.png"), site=SITES[draw.integers(0, 5)]))
    data = replace(cohort(), records=tuple(rows))
    study = toy_study(sites=COLUMN, data={"split_rule": rule}, method="fedclip", reference={"source": "none"})
    plan = deal(study, data)
    sides: dict[str, set[str]] = {}
    for name, pile in parts(plan).items():
        for row in pile:
            sides.setdefault(data.records[row].group, set()).add(name.partition("/")[2] or name)
    assert max(len(found) for found in sides.values()) == 1
    left_out = len(rows) - sum(len(pile) for pile in parts(plan).values())
    assert (left_out > 0) == any("left out" in note for note in plan.notes)
    assert plan.unseen is not None
    trained = {data.records[row].group for site in plan.sites for row in (*site.train, *site.validation, *site.test)}
    assert not trained & {data.records[row].group for row in plan.unseen.test}


def test_what_was_done_about_groups_at_several_sites_is_said(toy_study: Make) -> None:
    clean = cohort(sites=SITES)
    study = toy_study(sites=COLUMN, reference={"source": "site", "site": "public"})
    assert deal(study, clean).notes == ()
    assert reference_overlap(deal(study, clean)) == 0
    moved = {"patient-0": "away", "patient-1": "public", "patient-4": "ash"}  # one picture of each, elsewhere as well
    rows = list(clean.records)
    for group, site in moved.items():
        mine = [index for index, record in enumerate(rows) if record.group == group]
        assert rows[mine[0]].site != site
        extra = replace(rows[mine[0]], path=Path(f"copy-of-{group}.png"), site=site)
        rows.append(extra)
    plan = deal(study, replace(clean, records=tuple(rows)))
    assert reference_overlap(plan) == 1
    lost = 1 + sum(record.group == "patient-4" and record.site == "away" for record in rows)
    assert any(note.startswith(f"{lost} images of away are of groups that a training") for note in plan.notes)
    assert reference_overlap(deal(toy_study(), clean)) == 0


def test_without_an_unseen_name_every_column_trains(toy_study: Make) -> None:
    plan = deal(toy_study(sites={**COLUMN, "unseen": ""}), cohort(500, sites=SITES))
    assert plan.unseen is None
    assert [site.name for site in plan.sites] == sorted(SITES)


def test_no_reference_set(toy_study: Make) -> None:
    plan = deal(toy_study(reference={"source": "none"}, facmic={"adaptation_weight": 0.0}), cohort())
    check(plan)
    assert len(plan.reference) == 0


@pytest.mark.parametrize("left_out", ["ash", "beech", "public"])
def test_a_site_that_is_left_out_takes_no_part_and_the_unseen_one_trains(toy_study: Make, left_out: str) -> None:
    data = cohort(500, sites=SITES)
    plan = deal(toy_study(sites={**COLUMN, "left_out": left_out}), data)
    check(plan)
    assert plan.unseen is not None
    assert plan.unseen.name == left_out
    assert [site.name for site in plan.sites] == sorted(set(SITES) - {left_out})
    assert (len(plan.unseen.train), len(plan.unseen.validation)) == (0, 0)


def test_leaving_a_dealt_site_out_changes_nobody_elses_pictures(toy_study: Make) -> None:
    data = cohort(500)
    whole = deal(toy_study(), data)
    for name in ("site-1", "site-2", "site-3", "unseen"):
        plan = deal(toy_study(sites={"left_out": name}), data)
        assert plan.unseen is not None
        assert plan.unseen.name == name
        assert np.array_equal(plan.reference, whole.reference)
        before = {site.name: site for site in whole.sites}
        for site in plan.sites:
            if site.name in before:
                assert np.array_equal(site.train, before[site.name].train)
        check(plan)


def test_a_left_out_site_that_is_not_there_is_named(toy_study: Make) -> None:
    with pytest.raises(StudyFileError, match="'nowhere' is no site of the data") as caught:
        deal(toy_study(sites={"left_out": "nowhere"}), cohort())
    assert caught.value.where == "sites.left_out"
    assert "site-1, site-2, site-3" in caught.value.remedy


def test_leaving_one_of_three_out_leaves_too_few(toy_study: Make) -> None:
    with pytest.raises(StudyFileError, match="2 training site"):
        deal(toy_study(sites={"left_out": "site-1", "unseen": ""}), cohort())


@pytest.mark.parametrize("left_out", ["", "site-2"])
def test_the_unseen_sites_own_images_as_reference_are_its_test_images(toy_study: Make, left_out: str) -> None:
    reference = {"source": "unseen", "transductive": True}
    plan = deal(toy_study(reference=reference, sites={"left_out": left_out}), cohort())
    assert plan.unseen is not None
    assert plan.unseen.name == (left_out or "unseen")
    assert np.array_equal(plan.reference, plan.unseen.test)
    assert len(plan.reference)
    check(replace(plan, reference=plan.reference[:0]))


def test_class_means_take_no_image_from_anybody(toy_study: Make) -> None:
    plan = deal(toy_study(reference={"source": "class-means"}), cohort())
    check(plan)
    assert len(plan.reference) == 0


def test_fewer_than_three_sites_are_refused(toy_study: Make) -> None:
    with pytest.raises(StudyFileError, match=r"2 training site\(s\): ash, beech; .* at least 3") as caught:
        deal(toy_study(sites=COLUMN), cohort(sites=("ash", "beech", "away")))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sites": {**COLUMN, "unseen": "nowhere"}}, "sites.unseen"),
        ({"sites": COLUMN, "reference": {"source": "site", "site": "nowhere"}}, "reference.site"),
    ],
)
def test_a_site_that_is_not_there_is_named_with_those_that_are(
    toy_study: Make, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(StudyFileError, match="'nowhere' is no site") as caught:
        deal(toy_study(**changes), cohort(sites=SITES))
    assert caught.value.where == said
    assert "ash, away, beech" in caught.value.remedy


def test_columns_without_a_site_are_refused(toy_study: Make) -> None:
    with pytest.raises(StudyFileError, match="273 of 273 images name no site"):
        deal(toy_study(sites=COLUMN), cohort())


@pytest.mark.parametrize("name", ["../up", "North Wing", "coordinator", ""])
def test_a_site_name_that_cannot_be_a_folder_or_a_peer_is_refused(toy_study: Make, name: str) -> None:
    with pytest.raises(StudyFileError):
        deal(toy_study(sites=COLUMN), cohort(sites=("ash", "beech", "cedar", "away", name)))


def test_a_site_with_too_few_groups_is_named(toy_study: Make) -> None:
    data = cohort(300, sites=("ash", "beech", "cedar", "away"))
    few = Cohort(data.dataset, data.root, tuple(r for r in data.records if r.site != "ash" or r.group == "patient-0"))
    study = toy_study(sites=COLUMN, reference={"source": "none"}, facmic={"adaptation_weight": 0.0})
    with pytest.raises(SplitError, match="groups cannot fill") as caught:
        deal(study, few)
    assert caught.value.where == "site 'ash'"


def test_an_unknown_data_set_is_named_with_the_known_ones(toy_study: Make, tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="unknown data set 'nope'") as caught:
        read_cohort(toy_study(data={"dataset": "nope"}), tmp_path)
    assert "brain-mri" in caught.value.remedy


def test_a_missing_folder_writes_nothing(toy_study: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_cohort(toy_study(data={"path": str(tmp_path / "absent")}), tmp_path / "phantoms")
    assert list(tmp_path.iterdir()) == []


def test_phantoms_are_drawn_where_asked_and_dealt(toy_study: Make, tmp_path: Path) -> None:
    base = {"data": {"source": "phantoms", "path": "", "images_per_site": 24}, "sites": {"count": 3}}
    names = [site.name for site in phantom_study(toy_study(**base)).sites]
    assert len(names) == 4
    reference = {"source": "site", "site": "dune"}
    with_reference = toy_study(**{**base, "sites": {"count": 3, "unseen": "harbour"}, "reference": reference})
    assert len(phantom_study(with_reference).sites) == 5  # its reference site is one more
    told: list[tuple[int, int]] = []
    drawn = read_cohort(with_reference, tmp_path / "phantoms", lambda done, total: told.append((done, total)))
    assert drawn.synthetic
    assert len(drawn.records) == 120
    assert told[-1] == (120, 120)
    plan = deal(with_reference, drawn)
    check(plan)
    assert len(plan.sites) == 3
    assert {drawn.records[row].site for row in plan.reference} == {"dune"}
