"""A study's split as a file: exported, used again, extended; and each site's own part, named in its ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.catalog import DATASETS
from wardround.medical_datasets.cohort import Cohort, Record
from wardround.medical_datasets.errors import SplitError
from wardround.medical_datasets.split_file import read_split, write_split
from wardround.platform.cohorts import StudyPlan, deal, plan_split
from wardround.platform.config import Study
from wardround.platform.consortium import open_consortium
from wardround.platform.study_split import SPLIT_FILE, keep_split, own_split
from wardround.privacy.errors import HomeError
from wardround.privacy.ledger.reading import read_entries

Make = Callable[..., Study]
Places = dict[str, tuple[str, str]]
COLUMN: dict[str, Any] = {"partition": "column", "unseen": "away"}
SITES = ("ash", "beech", "cedar", "away")
RULES = pytest.mark.parametrize("rule", ["balanced", "stable"])


def cohort(groups: int, *, first: int = 0, sites: tuple[str, ...] = SITES) -> Cohort:
    """One to three records a group, the label that of the group; the same number is the same group in any cohort."""
    rows = []
    for group in range(first, first + groups):
        draw = np.random.default_rng(group)
        label, site = int(draw.integers(0, 4)), sites[int(draw.integers(0, len(sites)))]
        for at in range(int(draw.integers(1, 4))):
            rows.append(Record(Path(f"{group:05d}-{at}.png"), label, f"patient_id:{group}", site))
    return Cohort(DATASETS["brain-mri"], Path("/pictures"), tuple(rows))


def places(plan: StudyPlan) -> Places:
    """Site and side of every group; no group has two."""
    found: Places = {}
    piles = [(site.name, side, getattr(site, side)) for site in plan.sites for side in ("train", "validation", "test")]
    piles += [("", "reference", plan.reference)]
    piles += [] if plan.unseen is None else [(plan.unseen.name, "test", plan.unseen.test)]
    for site, side, rows in piles:
        for row in rows.tolist():
            assert found.setdefault(plan.cohort.records[row].group, (site, side)) == (site, side)
    return found


def with_file(study: Study, path: Path) -> Study:
    return study.model_copy(update={"data": study.data.model_copy(update={"split_file": str(path)})})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rule=st.sampled_from(["balanced", "stable"]),
    partition=st.sampled_from(["dirichlet", "column"]),
    reference=st.sampled_from(["none", "fraction"]),
    more=st.integers(0, 60),
    seed=st.integers(0, 50),
)
def test_a_split_that_is_used_again_moves_no_group_however_many_are_added(
    tmp_path: Path, toy_study: Make, rule: str, partition: str, reference: str, more: int, seed: int
) -> None:
    study = toy_study(
        method="fedclip",
        seed=seed,
        data={"split_rule": rule},
        sites={"partition": partition, "unseen": "away"},
        reference={"source": reference},
    )
    before = deal(study, cohort(120))
    path = tmp_path / "split.json"
    write_split(plan_split(study, before), path)
    grown = deal(with_file(study, path), cohort(120 + more))
    known, now = places(before), places(grown)
    assert {group: now[group] for group in known} == known
    assert len(now) == 120 + more
    added = {side for group, (_, side) in now.items() if group not in known and side != "reference"}
    assert len(added) >= 2 or more <= 40  # dealt out, and not put on one side
    again = plan_split(with_file(study, path), grown)
    assert (again == read_split(path)) == (more == 0)


@RULES
def test_the_order_of_records_changes_no_split(toy_study: Make, rule: str) -> None:
    study = toy_study(method="fedclip", data={"split_rule": rule}, sites=COLUMN, reference={"source": "fraction"})
    made = cohort(80)
    assert places(deal(study, made)) == places(deal(study, replace(made, records=made.records[::-1])))


def test_a_stable_split_moves_few_groups_even_without_its_file(toy_study: Make) -> None:
    moved = {}
    for rule in ("balanced", "stable"):
        study = toy_study(method="fedclip", data={"split_rule": rule}, sites=COLUMN, reference={"source": "none"})
        before, now = places(deal(study, cohort(900))), places(deal(study, cohort(990)))
        moved[rule] = sum(now[group] != place for group, place in before.items())
    assert moved["stable"] < 30 < moved["balanced"]


def test_a_split_of_other_sites_or_classes_is_refused(tmp_path: Path, toy_study: Make) -> None:
    study = toy_study(method="fedclip", sites={"partition": "dirichlet"}, reference={"source": "none"})
    path = tmp_path / "split.json"
    write_split(plan_split(study, deal(study, cohort(120))), path)
    with pytest.raises(SplitError, match="the study has site-1, site-2, site-3, site-4, unseen"):
        deal(
            with_file(toy_study(method="fedclip", sites={"count": 4}, reference={"source": "none"}), path), cohort(120)
        )
    fewer = replace(cohort(120), dataset=replace(DATASETS["brain-mri"], classes=DATASETS["brain-mri"].classes[:3]))
    with pytest.raises(SplitError, match="class"):
        deal(with_file(study, path), fewer)


def test_a_group_that_is_at_another_site_now_is_named(tmp_path: Path, toy_study: Make) -> None:
    study = toy_study(method="fedclip", sites=COLUMN, reference={"source": "none"})
    made = cohort(80)
    path = tmp_path / "split.json"
    write_split(plan_split(study, deal(study, made)), path)
    first = next(record for record in made.records if record.site == "ash")
    records = tuple(replace(each, site="beech") if each.group == first.group else each for each in made.records)
    with pytest.raises(SplitError, match="the first was at ash and is at beech"):
        deal(with_file(study, path), replace(made, records=records))


def kept(folder: Path, study: Study, plan: StudyPlan, parts: Any, ledger: str = "") -> str:
    return keep_split(folder, partial(own_split, study, plan.cohort, "ash", parts), None, ledger)


def test_a_site_keeps_its_part_and_holds_later_ones_against_it(tmp_path: Path, toy_study: Make) -> None:
    study = toy_study(method="fedclip", sites=COLUMN, reference={"source": "none"})
    plan = deal(study, cohort(80))
    site = plan.sites[0]
    assert site.name == "ash"
    parts = (site.train, site.validation, site.test)
    first = kept(tmp_path, study, plan, parts)
    assert kept(tmp_path, study, plan, parts, first) == first
    assert read_split(tmp_path / SPLIT_FILE).sha256 == first
    assert b"patient_id" not in (tmp_path / SPLIT_FILE).read_bytes()
    group = plan.cohort.records[site.test[-1]].group
    moved = np.array([row for row in site.test.tolist() if plan.cohort.records[row].group == group])
    swapped = (np.append(site.train, moved), site.validation, np.setdiff1d(site.test, moved))
    with pytest.raises(HomeError, match="new or on another side"):
        kept(tmp_path, study, plan, swapped)
    foreign = (np.append(site.train, plan.sites[1].train[0]), site.validation, site.test)
    with pytest.raises(HomeError, match="1 groups of images are new"):
        kept(tmp_path, study, plan, foreign)


def test_a_part_that_is_not_the_ledgers_is_refused(tmp_path: Path, toy_study: Make) -> None:
    study = toy_study(method="fedclip", sites=COLUMN, reference={"source": "none"})
    plan = deal(study, cohort(80))
    site = plan.sites[0]
    parts = (site.train, site.validation, site.test)
    first = kept(tmp_path, study, plan, parts)
    (tmp_path / SPLIT_FILE).unlink()
    with pytest.raises(HomeError, match="is gone, which its ledger names"):
        kept(tmp_path, study, plan, parts, first)
    assert not (tmp_path / SPLIT_FILE).exists()
    swapped = (site.test, site.validation, site.train)
    assert kept(tmp_path, study, plan, swapped) != first
    with pytest.raises(HomeError, match="is not the one that its ledger names"):
        kept(tmp_path, study, plan, swapped, first)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rule=st.sampled_from(["balanced", "stable"]),
    partition=st.sampled_from(["dirichlet", "column"]),
    gone=st.sets(st.integers(0, 119), max_size=6),
    seed=st.integers(0, 50),
)
def test_a_study_goes_on_when_files_of_patients_were_deleted(
    tmp_path_factory: pytest.TempPathFactory,
    toy_study: Make,
    rule: str,
    partition: str,
    gone: set[int],
    seed: int,
) -> None:
    sites = {"partition": partition, "unseen": "away"}
    study = toy_study(
        method="fedclip", seed=seed, data={"split_rule": rule}, sites=sites, reference={"source": "fraction"}
    )
    before, folder = deal(study, cohort(120)), tmp_path_factory.mktemp("state")
    whole = plan_split(study, before)
    records = tuple(each for each in before.cohort.records if int(each.group.partition(":")[2]) not in gone)
    known = places(before)
    left = {place for group, place in known.items() if int(group.partition(":")[2]) not in gone}
    assume(left == set(known.values()))  # a site without any test image cannot go on
    after = deal(study, replace(before.cohort, records=records), whole)
    assert all(known[group] == place for group, place in places(after).items())
    for was, now in zip(before.sites, after.sites, strict=True):
        (folder / was.name).mkdir()
        for plan, site in ((before, was), (after, now)):
            own = partial(own_split, study, plan.cohort, site.name, (site.train, site.validation, site.test))
            assert keep_split(folder / was.name, own, whole.of_site(was.name), "") == whole.of_site(was.name).sha256


def test_the_split_of_each_site_stands_in_its_ledger_by_hash(tmp_path: Path, toy: Any, BACKBONE: str) -> None:
    made = toy(tmp_path, reference={"source": "none"}, method="fedclip")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run):
        pass
    homes = sorted(path for path in made.run.homes.iterdir() if path.is_dir())
    assert len(homes) == 3
    for home in homes:
        (opened,) = [entry for entry in read_entries(home / "ledger.jsonl") if entry.kind == "open"]
        (split,) = home.rglob(SPLIT_FILE)
        assert opened.facts is not None
        assert opened.facts["split"] == read_split(split).sha256
        assert list(read_split(split).sites) == [home.name]
