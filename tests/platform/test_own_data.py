"""What a machine of a deployment reads is, row for row, what the same study gives its site in one process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.medical_datasets.synthetic import population
from wardround.platform.adapter_file import AdapterInfo, dump_adapter
from wardround.platform.backbone import Backbone
from wardround.platform.cohorts import StudyPlan, deal
from wardround.platform.config import Study
from wardround.platform.consortium import Consortium
from wardround.platform.coordinator_side import open_coordinator, standing
from wardround.platform.engines.local import SimulatedLine
from wardround.platform.enrolment import draw_roster, enrol_together
from wardround.platform.errors import StudyFileError
from wardround.platform.faults import SimulatedClock
from wardround.platform.federation import federate
from wardround.platform.figures_loop import sum_figures
from wardround.platform.forgetting import find_group, forget
from wardround.platform.held_home import hold
from wardround.platform.means_loop import sum_class_means
from wardround.platform.methods.table import method_of
from wardround.platform.own_data import (
    check_deployable,
    deployed_dataset,
    members,
    own_data,
    own_plan,
    shared_without_data,
)
from wardround.platform.round_loop import run_rounds
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_side import count_of, open_site
from wardround.platform.study_cohort import read_cohort
from wardround.platform.study_data import StudyData, encode_study
from wardround.platform.study_file import parse_study
from wardround.platform.terms import figures_of, start_state, study_layout, terms_of
from wardround.platform.watching import Silent
from wardround.privacy.home import SiteHome
from wardround.privacy.identity import Identity
from wardround.privacy.ledger.log import Ledger

from ..medical_datasets.pictures import save

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
NAMES = ("east", "north", "south", "west")
SEEDS = {name: 1000 * place for place, name in enumerate((*NAMES, "public"), 1)}


def tabled(folder: Path, site: str, patients: int, classes: tuple[str, ...] = CLASSES, columns: str = "sex") -> None:
    """A table with a column of patients, two pictures each, and a column of subgroups."""
    lines = [f"path,label,patient,{columns}"]
    for at in range(2 * patients):
        patient = at // 2
        save(folder / f"p{at}.png", SEEDS[site] + at)
        lines.append(f"p{at}.png,{classes[patient % len(classes)]},P{patient},{('female', 'male')[patient % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def foldered(folder: Path, site: str, pictures: int) -> None:
    """A folder a class, and nothing that says whose a picture is."""
    for at in range(pictures):
        save(folder / CLASSES[at % 4] / f"{at}.png", SEEDS[site] + at)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tables, of which one lacks a class, one folder a class, and a public set."""
    root = tmp_path_factory.mktemp("hospitals")
    tabled(root / "east", "east", 20)
    tabled(root / "north", "north", 15, CLASSES[:3], columns="ward")
    tabled(root / "south", "south", 18)
    foldered(root / "west", "west", 40)
    foldered(root / "public", "public", 16)
    return root


def joined(root: Path, *names: str, **changes: Any) -> Study:
    """The study of these hospitals."""
    sources = [
        {"dataset": "brain-mri" if name in ("west", "public") else "csv", "path": str(root / name), "site": name}
        for name in names or NAMES
    ]
    values: dict[str, Any] = {
        "name": "joined",
        "method": "facmic",
        "rounds": 2,
        "data": {"dataset": "brain-mri", "source": "joined", "sources": sources, "split": (0.6, 0.2, 0.2)},
        "sites": {"partition": "column", "unseen": ""},
        "reference": {"source": "class-means"},
        "training": {"lr": 1e-3, "batch_size": 8},
        "device": "cpu",
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=root / "study.toml")


def phantoms(**changes: Any) -> Study:
    """A study of phantoms; without one that is left out, these have an unseen site."""
    values: dict[str, Any] = {
        "name": "drawn",
        "method": "facmic",
        "rounds": 2,
        "data": {"dataset": "brain-mri", "source": "phantoms", "images_per_site": 28},
        "sites": {"count": 3},
        "reference": {"source": "class-means"},
        "device": "cpu",
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return parse_study(values, where=Path("/study.toml"))


def only(study: Study, *names: str) -> Study:
    """The study as a hospital has it: paths of its own sources alone."""
    sources = tuple(
        source if source.site in names else source.model_copy(update={"path": "/not/on/this/machine"})
        for source in study.data.sources
    )
    return study.model_copy(update={"data": study.data.model_copy(update={"sources": sources})})


def parts_of(plan: StudyPlan, name: str) -> dict[str, list[tuple[str, int, str, str | None]]]:
    """Path, label, group and site of every record of a site, by part and in order; and of the reference set."""
    site = next(site for site in plan.sites if site.name == name)
    rows = {"train": site.train, "validation": site.validation, "test": site.test, "reference": plan.reference}
    records = plan.cohort.records
    return {
        part: [(str(records[i].path), records[i].label, records[i].group, records[i].site) for i in at]
        for part, at in rows.items()
    }


def assert_same_plans(study: Study, folder: Path) -> None:
    whole = deal(study, read_cohort(study, folder))
    assert members(study) == tuple(site.name for site in whole.sites)
    for name in members(study):
        own = own_plan(only(study, name, study.reference.site), name, folder)
        assert [site.name for site in own.sites] == [name]
        assert own.unseen is None
        mine, theirs = parts_of(own, name), parts_of(whole, name)
        if study.reference.source in ("class-means", "none"):
            assert mine["reference"] == []
        assert mine == theirs


# --- the same records -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("rule", ["stable", "balanced"])
def test_a_hospital_splits_its_pictures_as_one_process_does(hospitals: Path, seed: int, rule: str) -> None:
    assert_same_plans(joined(hospitals, seed=seed, data={"split_rule": rule}), hospitals)


def test_a_public_set_is_read_by_every_hospital(hospitals: Path) -> None:
    study = joined(hospitals, *NAMES, "public", reference={"source": "site", "site": "public"})
    assert members(study) == NAMES
    assert_same_plans(study, hospitals)


def test_a_hospital_that_takes_no_part_is_not_read(hospitals: Path) -> None:
    study = joined(hospitals, sites={"partition": "column", "unseen": "west"})
    assert members(study) == ("east", "north", "south")
    assert_same_plans(study, hospitals)
    with pytest.raises(StudyFileError, match="'west' is no site of this study that trains"):
        own_plan(study, "west", hospitals)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    sizes=st.tuples(*[st.integers(8, 14)] * 3),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.1, 0.3)]),
    repeated=st.booleans(),
)
def test_any_hospitals_of_any_sizes(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    sizes: tuple[int, ...],
    fractions: tuple[float, float, float],
    repeated: bool,
) -> None:
    """A hospital may have several sources, between those of others."""
    root = tmp_path_factory.mktemp("any")
    names = ("south", "east", "north")
    for name, patients in zip(names, sizes, strict=True):
        tabled(root / name, name, patients, CLASSES if name != "north" else CLASSES[1:])
    study = joined(root, *names, seed=seed, data={"split": fractions})
    if repeated:
        tabled(root / "more", "west", 6)
        more = study.data.sources[0].model_copy(update={"path": str(root / "more")})
        data = study.data.model_copy(update={"sources": (*study.data.sources, more)})
        study = study.model_copy(update={"data": data})
    assert_same_plans(study, root)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "reference",
    [{"source": "class-means"}, {"source": "fraction"}, {"source": "site", "site": "last"}],
    ids=["class-means", "fraction", "site"],
)
@pytest.mark.parametrize("dataset", ["brain-mri", "ham10000"])
def test_phantoms_are_drawn_alike_everywhere(tmp_path: Path, reference: dict[str, str], dataset: str) -> None:
    kind: Any = "brain" if dataset == "brain-mri" else "skin"
    drawn = population.demo_study(kind, sites=4, seed=5, images_per_site=28)
    last = [site.name for site in drawn.sites if site.name != drawn.unseen][-1]
    chosen = {key: last if value == "last" else value for key, value in reference.items()}
    assert_same_plans(phantoms(seed=5, data={"dataset": dataset}, reference=chosen), tmp_path)


# --- what cannot be deployed ----------------------------------------------------------------------------------------


def sources(*rows: dict[str, str]) -> dict[str, Any]:
    return {"sources": [{"dataset": "csv", "path": "x", **row} for row in rows]}


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"data": sources({"site": "a"}, {"site": "b"})}, "sites", "2 sites take part: a, b"),
        ({"data": sources({"site": "a"}, {"site": "b"}, {})}, "data.sources.2.site", "names no site"),
        ({"sites": {"partition": "column", "unseen": "elsewhere"}}, "sites.unseen", "'elsewhere' is the site of no"),
        ({"sites": {"left_out": "nobody"}}, "sites.left_out", "'nobody' is the site of no source"),
        ({"faults": {"drop": [{"site": "east", "round": 1, "stage": "mask"}]}}, "faults", "for a simulation"),
        ({"data": {"split_file": "split.json"}}, "data.split_file", "marks of every hospital"),
        ({"reference": {"source": "fraction"}}, "reference.source", "takes images out"),
        ({"method": "fedclip", "reference": {"source": "fraction"}}, "reference.source", "takes images out"),
        (
            {
                "sites": {"partition": "column", "unseen": "west"},
                "reference": {"source": "unseen", "transductive": True},
            },
            "reference.source",
            "takes images out",
        ),
        (
            {"facmic": {"normalisation": "batch-local"}, "reference": {"source": "site", "site": "west"}},
            "facmic.normalisation",
            "needs the reference images",
        ),
        ({"reference": {"source": "site", "site": "museum"}}, "reference.site", "'museum' is the site of no source"),
        (
            {"sites": {"partition": "dirichlet"}, "reference": {"source": "site", "site": "west"}},
            "sites.partition",
            "are dealt out",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused(hospitals: Path, changes: dict[str, Any], where: str, words: str) -> None:
    study = joined(hospitals, **changes)
    for look in (check_deployable, lambda each: own_plan(each, "east", hospitals)):
        with pytest.raises(StudyFileError, match=words) as refused:
            look(study)
        assert refused.value.where == where
        assert refused.value.remedy


def test_other_kinds_of_studies_cannot_be_deployed(hospitals: Path) -> None:
    folder = {"dataset": "brain-mri", "path": "x"}
    study = parse_study({"name": "one", "rounds": 1, "data": folder}, where=Path("/study.toml"))
    for look in (members, check_deployable):
        with pytest.raises(StudyFileError, match="does not say which hospital holds what") as refused:
            look(study)
        assert refused.value.where == "data.source"
    unseen = {"source": "unseen", "transductive": True}
    with pytest.raises(StudyFileError, match="takes images out"):
        check_deployable(phantoms(reference=unseen))
    check_deployable(phantoms(reference={"source": "fraction"}))
    check_deployable(joined(hospitals))


def test_a_reference_site_that_is_not_used_trains_as_in_one_process(hospitals: Path) -> None:
    study = joined(hospitals, reference={"source": "class-means", "site": "west"})
    assert members(study) == NAMES
    assert_same_plans(study, hospitals)


def test_classes_come_from_the_study_alone(hospitals: Path) -> None:
    three = ("east", "north", "south")
    named = {"dataset": "csv", "classes": CLASSES, "prompts": {"glioma": ["a tumour", "another"]}}
    study = joined(hospitals, *three, data=named)
    assert deployed_dataset(study).classes == read_cohort(study, hospitals).dataset.classes
    assert deployed_dataset(study).classes[0].prompts == ("a tumour", "another")
    with pytest.raises(StudyFileError, match="has no classes of its own") as refused:
        deployed_dataset(joined(hospitals, *three, data={"dataset": "csv"}))
    assert refused.value.where == "data.classes"
    with pytest.raises(StudyFileError, match="is no site of this study that trains"):
        own_plan(joined(hospitals), "nobody", hospitals)


# --- the same features ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny_backbone: Callable[[int], Backbone]) -> Backbone:
    return tiny_backbone(16)


def whole_data(study: Study, backbone: Backbone, folder: Path) -> StudyData:
    return encode_study(study, method_of(study), deal(study, read_cohort(study, folder)), backbone, folder / "cache")[0]


def own_of(study: Study, name: str, backbone: Backbone, folder: Path, note: Any = lambda _: None) -> StudyData:
    """A hospital's data, with a cache and a home of its own."""
    plan = own_plan(only(study, name, study.reference.site), name, folder / "drawn")
    home, cache = folder / "homes" / name, folder / f"cache of {name}"
    return own_data(study, method_of(study), backbone, plan, home, cache, note=note).data


def assert_same_data(study: Study, backbone: Backbone, folder: Path) -> None:
    whole = whole_data(study, backbone, folder)
    for site in whole.sites:
        own = own_of(study, site.name, backbone, folder)
        (mine,) = own.sites
        assert mine.name == site.name
        assert count_of(study, mine) == count_of(study, site)
        for part in ("train", "validation", "test"):
            a, b = getattr(mine, part), getattr(site, part)
            assert np.array_equal(a.features, b.features)
            assert np.array_equal(a.labels, b.labels)
            assert a.groups == b.groups
            assert (a.pictures is None) == (b.pictures is None)
            assert a.pictures is None or np.array_equal(a.pictures, b.pictures)
            mine_of, theirs = own.cohort.records, whole.cohort.records
            assert [mine_of[i].path.name for i in a.rows] == [theirs[i].path.name for i in b.rows]
        assert torch.equal(own.shared.text, whole.shared.text)
        assert torch.equal(own.shared.reference, whole.shared.reference)
        assert own.cohort.dataset.classes == whole.cohort.dataset.classes == deployed_dataset(study).classes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": {"max_train_images": 11}},
        {"sites": {"partition": "column", "unseen": "", "feature_shift": 0.7}},
        {"method": "fedavg", "reference": {"source": "none"}},
    ],
    ids=["plain", "subset", "cameras", "pictures"],
)
def test_a_hospitals_features_are_those_of_one_process(
    hospitals: Path, tiny: Backbone, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert_same_data(joined(hospitals, **changes), tiny, tmp_path)


def test_features_with_a_public_set(hospitals: Path, tiny: Backbone, tmp_path: Path) -> None:
    study = joined(hospitals, *NAMES, "public", reference={"source": "site", "site": "public"})
    assert_same_data(study, tiny, tmp_path)
    own = own_of(study, "east", tiny, tmp_path)
    assert own.reference_n == 16


@pytest.mark.parametrize("source", ["class-means", "fraction"])
def test_features_of_phantoms(tiny: Backbone, tmp_path: Path, source: str) -> None:
    study = phantoms(reference={"source": source}, sites={"count": 3, "feature_shift": 0.4})
    assert_same_data(study, tiny, tmp_path)
    # Pictures of others are drawn, but not encoded.
    own = own_of(study, members(study)[0], tiny, tmp_path)
    held = sum(len(part) for site in own.sites for part in (site.train, site.validation, site.test))
    assert len(own.cohort.records) == held + own.reference_n


def test_a_subgroup_column_that_one_hospital_has_not_got(hospitals: Path, tiny: Backbone, tmp_path: Path) -> None:
    """One process takes it where some hospital has the column; the hospital without it takes part as well."""
    study = joined(hospitals, "east", "north", "south", evaluation={"subgroups": ["sex: female, male"]})
    whole_data(study, tiny, tmp_path)
    told: list[str] = []
    own_of(study, "north", tiny, tmp_path, told.append)
    assert any("'sex'" in line for line in told)
    told.clear()
    own_of(study, "east", tiny, tmp_path, told.append)
    assert not any("'sex'" in line for line in told)


# --- the same adapter -----------------------------------------------------------------------------------------------


def composed(study: Study, backbone: Backbone, folder: Path) -> bytes:
    """The study on machines of their own, but for the wires: every hospital reads its own, the coordinator nothing."""
    method, fingerprint = method_of(study), backbone.fingerprint
    run = RunFolder.create(folder / "run", study)
    shared = shared_without_data(study, method, backbone)
    layout, classes = study_layout(study, method, shared), len(deployed_dataset(study).classes)
    keys = {name: Identity.from_seed(name.encode().ljust(32, b".")) for name in (*members(study), "coordinator")}
    own = {name: own_of(study, name, backbone, folder) for name in members(study)}
    counts = {name: count_of(study, data.sites[0]) for name, data in own.items()}
    of_sites = {name: keys[name] for name in own}
    figures = figures_of(study, layout, classes=classes, sites=len(own))
    roster = draw_roster(
        study,
        method,
        layout,
        {name: key.public_key for name, key in of_sites.items()},
        counts,
        keys["coordinator"].public_key,
        figures,
    )
    pinned = enrol_together(roster, of_sites)
    clock = SimulatedClock()
    with ExitStack() as stack:
        sides = {}
        for name, data in own.items():
            terms = terms_of(study, method, data.shared, pinned, fingerprint, classes=classes)
            home = stack.enter_context(SiteHome.open(folder / "homes", name))
            sides[name] = open_site(stack, terms, home, keys[name], data, data.sites[0])
        terms = terms_of(study, method, shared, pinned, fingerprint, classes=classes)
        info = AdapterInfo(study.digest(), method.name, 0, fingerprint)
        at = standing(terms.start, layout, info, run.coordinator, remembers=False)
        coordinator, ledger = open_coordinator(stack, terms, run, keys["coordinator"], at, clock, begun=False)
        ledgers: dict[str, Ledger] = {"coordinator": ledger}
        sites = {name: side.site for name, side in sides.items()}
        consortium = Consortium(coordinator, sites, {}, ledgers, {}, pinned, {}, terms.figures)
        line, names = SimulatedLine(clock), deployed_dataset(study).class_names
        if coordinator.means_due:
            sum_class_means(study, names, consortium, run, Silent(), line)
        run_rounds(study, method, None, consortium, run, Silent(), line)
        sum_figures(study, names, consortium, run, Silent(), line)
        return dump_adapter(coordinator.state, coordinator.info)


def in_one_process(study: Study, backbone: Backbone, folder: Path) -> bytes:
    run = RunFolder.create(folder / "run", study)
    data = whole_data(study, backbone, folder)
    done = federate(study, method_of(study), data, backbone.fingerprint, run, Silent())
    return dump_adapter(done.state, done.info)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "fedclip", "reference": {"source": "none"}, "evaluation": {"federated": False}},
    ],
    ids=["class means and figures", "fedclip"],
)
def test_both_ways_end_with_one_adapter(
    hospitals: Path, tiny: Backbone, tmp_path: Path, changes: dict[str, Any]
) -> None:
    study = joined(hospitals, **changes)
    assert composed(study, tiny, tmp_path / "many") == in_one_process(study, tiny, tmp_path / "one")


def test_both_ways_end_with_one_adapter_and_a_public_set(hospitals: Path, tiny: Backbone, tmp_path: Path) -> None:
    study = joined(hospitals, *NAMES, "public", reference={"source": "site", "site": "public"})
    assert composed(study, tiny, tmp_path / "many") == in_one_process(study, tiny, tmp_path / "one")


@pytest.mark.parametrize("method", ["facmic", "fedclip", "fedavg"])
def test_the_coordinator_starts_without_data_where_the_sites_start(
    hospitals: Path, tiny: Backbone, tmp_path: Path, method: str
) -> None:
    reference = "class-means" if method == "facmic" else "none"
    study = joined(hospitals, "east", "north", "south", method=method, reference={"source": reference})
    made, whole = method_of(study), whole_data(study, tiny, tmp_path).shared
    shared = shared_without_data(study, made, tiny)
    assert torch.equal(shared.text, whole.text)
    assert shared.scale == whole.scale
    assert shared.reference.shape == (0, 16)
    assert (shared.clip is None) == (whole.clip is None)
    assert study_layout(study, made, shared) == study_layout(study, made, whole)
    one, other = start_state(study, made, shared), start_state(study, made, whole)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# --- withdrawn groups -----------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of one hospital, used before."""
    with SiteHome.open(tmp_path / "homes", "east") as made:
        Identity.create(made.identity, b"a passphrase that is long")
        return made.folder


@pytest.mark.parametrize("told", [False, True], ids=["before the request", "after it"])
def test_withdrawn_patients_are_left_out(
    hospitals: Path, tiny: Backbone, tmp_path: Path, home: Path, told: bool
) -> None:
    study = joined(hospitals)
    before = own_of(study, "east", tiny, tmp_path).sites[0]
    patient = before.train.groups[0]
    if told:
        with SiteHome.open(home.parent, "east") as made:
            (made.state(study.digest()) / "request.json").write_bytes(b"{}")
    with hold(home) as held:
        assert held.signed == ([study.digest()] if told else [])
        found = find_group(held, study, patient, tmp_path / "cache of east")
        forget(held, found, tmp_path / "cache of east")
    notes: list[str] = []
    after = own_of(study, "east", tiny, tmp_path, notes.append).sites[0]
    assert patient not in {*after.train.groups, *after.validation.groups, *after.test.groups}
    assert len(after.train.labels) == len(before.train.labels) - 2
    assert count_of(study, after) == count_of(study, before) - (0 if told else 2)
    assert "east: 2 images of withdrawn groups are left out" in notes
