"""A patient withdraws in the middle of a study: nothing of them is trained on again, and nobody is told who it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from wardround.medical_datasets.pixels import content_hash
from wardround.platform import feature_cache, forgetting, private_site, simulation, trainer
from wardround.platform.cohorts import deal
from wardround.platform.config import Study
from wardround.platform.demo_study import demo_study_values
from wardround.platform.errors import CheckpointError, RunFolderError, StudyFileError
from wardround.platform.feature_cache import cache_files, cached_names, read_shard
from wardround.platform.forgetting import Removed, UnknownGroupError, find_group, forget, settle, study_of
from wardround.platform.held_home import HeldHome, hold
from wardround.platform.private_plan import units_of
from wardround.platform.run_folder import RunFolder
from wardround.platform.simulation import simulate
from wardround.platform.study_cohort import read_cohort
from wardround.platform.study_data import Part
from wardround.platform.study_file import parse_study
from wardround.platform.watching import Silent
from wardround.platform.withdrawn import check_left_out, withdrawn_records
from wardround.privacy.errors import HomeError, LedgerError
from wardround.privacy.forgotten import Forgotten
from wardround.privacy.home import SiteHome
from wardround.privacy.ledger.log import verify

SITE, ROUNDS = "amber", 4


class Killed(BaseException):
    """Like SIGKILL, for everything that would catch an exception."""


class PauseAfter(Silent):
    """Stops a run after a round was released."""

    def __init__(self, number: int) -> None:
        self.number = number

    def round_done(self, record: Any, total: int) -> None:
        if record["round"] == self.number:
            raise Killed


def study_with(**changes: Any) -> Study:
    """A small study of phantoms at three sites."""
    values = demo_study_values("brain", method="facmic", sites=3, rounds=ROUNDS, seed=3)
    values["data"]["images_per_site"] = 24
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return parse_study(values, where=Path("study"))


PLAIN = study_with()
PRIVATE = study_with(facmic={"normalisation": "layer"}, privacy={"epsilon": 8.0, "delta": 1e-3, "class_noise": 5.0})


@dataclass(frozen=True)
class World:
    """A run that paused after its second round, with a cache of its own."""

    run: RunFolder
    cache: Path
    study: Study

    @property
    def home(self) -> Path:
        return self.run.homes / SITE

    @property
    def plan(self) -> Any:
        return deal(self.study, read_cohort(self.study, self.run.phantoms))

    def patient(self, part: str = "train") -> str:
        """The site's first patient in a part."""
        plan = self.plan
        site = next(site for site in plan.sites if site.name == SITE)
        return str(plan.cohort.records[int(getattr(site, part)[0])].group)

    def images(self, patient: str) -> set[str]:
        return {content_hash(record.path) for record in self.plan.cohort.records if record.group == patient}

    def forget(self, patient: str) -> Removed:
        with hold(self.home) as held:
            study, file = study_of(held, None)
            return forget(held, find_group(held, study, patient, self.cache, where=str(file)), self.cache)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.home / "ledger.jsonl").read_bytes().splitlines()]

    def noted(self) -> list[dict[str, Any]]:
        return [entry["facts"] for entry in self.entries() if entry["kind"] == "forget"]

    def rows(self) -> dict[str, bytes]:
        """Every row of the cache, by its name; each shard must verify."""
        found = {}
        for path in cache_files(self.cache):
            key, hashes, features = shard_of(path)
            assert read_shard(path.read_bytes(), key)
            found |= {name.tobytes().hex(): row.tobytes() for name, row in zip(hashes, features, strict=True)}
        return found

    def resume(self) -> RunFolder:
        return simulate(self.study, self.run.root, resume=True, cache=self.cache)

    def copy(self, to: Path) -> World:
        shutil.copytree(self.run.root, to / "run")
        shutil.copytree(self.cache, to / "cache")
        return World(RunFolder(to / "run"), to / "cache", self.study)


def shard_of(path: Path) -> Any:
    shard = feature_cache._own_shard(path)
    assert shard is not None
    return shard


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without baselines and dossier, which take most of a small study's time."""
    without_figures(monkeypatch)


def without_figures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        simulation, "assess_study", lambda *arguments: {"federated": None, "zero_shot": None, "local_only": None}
    )
    patch.setattr(simulation, "write_results", lambda run, results, previous=None: run.summary.write_text("{}"))


def paused(folder: Path, study: Study) -> World:
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        with pytest.raises(Killed):
            simulate(study, folder / "run", cache=folder / "cache", watcher=PauseAfter(2))
    return World(RunFolder(folder / "run"), folder / "cache", study)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    return paused(tmp_path_factory.mktemp("plain"), PLAIN)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> World:
    return paused(tmp_path_factory.mktemp("private"), PRIVATE)


@pytest.fixture
def world(plain: World, tmp_path: Path) -> World:
    return plain.copy(tmp_path)


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Tensor]]:
    """What every local training is given from now on."""
    seen: list[torch.Tensor] = []
    plainly, privately = trainer.train_locally, private_site.train_privately

    def one(method: Any, start: Any, part: Any, *more: Any, held_out: Any = None, **options: Any) -> Any:
        seen.extend([part.inputs, *([held_out.inputs] if held_out is not None else [])])
        return plainly(method, start, part, *more, held_out=held_out, **options)

    def other(work: Any, method: Any, start: Any, part: Any, *more: Any, **options: Any) -> Any:
        seen.append(part.inputs)
        return privately(work, method, start, part, *more, **options)

    monkeypatch.setattr(trainer, "train_locally", one)
    monkeypatch.setattr(private_site, "train_privately", other)
    return seen


def in_any(feature: bytes, seen: list[torch.Tensor]) -> bool:
    return any(row.tobytes() == feature for inputs in seen for row in inputs.numpy())


# --- the whole way --------------------------------------------------------------------------------------------------


def check_whole(world: World, trained_on: list[torch.Tensor]) -> None:
    patient = world.patient()
    images, before = world.images(patient), world.rows()
    roster = world.home / "state" / world.study.digest() / "roster.json"
    signed = roster.read_bytes()
    assert images <= set(before)

    done = world.forget(patient)
    assert done.rows == len(images)
    assert done.noted
    after = world.rows()
    assert after == {name: row for name, row in before.items() if name not in images}
    assert [facts["records"] for facts in world.noted()] == [len(images)]

    run = world.resume()
    assert run.summary.is_file()
    assert [record["round"] for record in run.read_rounds()] == list(range(1, ROUNDS + 1))
    assert all(len(record["participants"]) == 3 for record in run.read_rounds())
    assert len(trained_on) >= 2 * 3
    assert not any(in_any(before[image], trained_on) for image in images)
    others = set(before) - images
    assert sum(in_any(before[name], trained_on) for name in others) > 20  # it is seen when it is there
    assert roster.read_bytes() == signed
    assert set(world.rows()) == set(after)  # nothing of the patient was encoded again
    assert verify(world.home / "ledger.jsonl").ok


def test_a_withdrawn_patient_is_in_no_later_round(world: World, trained_on: list[torch.Tensor]) -> None:
    check_whole(world, trained_on)


@pytest.mark.slow
def test_the_same_under_differential_privacy_and_nothing_of_the_budget_changes(
    private: World, tmp_path: Path, trained_on: list[torch.Tensor]
) -> None:
    world = private.copy(tmp_path / "forgotten")
    undisturbed = private.copy(tmp_path / "undisturbed")
    undisturbed.resume()
    trained_on.clear()
    check_whole(world, trained_on)

    def statement(of: World) -> Any:
        return json.loads((of.home / "budget.json").read_bytes())["budget"]["charges"], [
            (entry["rule"], entry["stage"], {k: v for k, v in entry["dp"].items() if k != "sha256"})
            for entry in of.entries()
            if entry["kind"] == "budget"
        ]

    charges, told = statement(world)
    expected_charges, expected_told = statement(undisturbed)
    assert told == expected_told
    assert without_results(charges) == without_results(expected_charges)
    assert without_results(charges)


def without_results(charges: Any) -> Any:
    """Charges but for the hashes of what they gave, in which fresh noise shows."""
    return [{key: value for key, value in charge.items() if key in ("study", "key", "release")} for charge in charges]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_patient_of_another_part_is_left_out_of_it(world: World, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = world.patient(part)
    seen: list[Any] = []
    real = simulation.federate
    monkeypatch.setattr(simulation, "federate", lambda *a: seen.append(a[2]) or real(*a))  # type: ignore[func-returns-value]
    world.forget(patient)
    world.resume()
    site = next(site for site in seen[0].sites if site.name == SITE)
    dealt = next(site for site in world.plan.sites if site.name == SITE)
    images = len(world.images(patient))
    assert patient not in {*site.train.groups, *site.validation.groups, *site.test.groups}
    assert len(getattr(site, part)) == len(getattr(dealt, part)) - images
    assert len(site.train) == len(dealt.train)
    assert site.skipped == 0


def test_a_study_that_is_begun_later_does_not_count_the_patient(world: World) -> None:
    patient = world.patient()
    world.forget(patient)
    later = study_with(name="later")
    found = withdrawn_records(world.run.homes, world.plan, later)
    now = withdrawn_records(world.run.homes, world.plan, PLAIN)
    rows = [n for n, record in enumerate(world.plan.cohort.records) if record.group == patient]
    assert sorted(found.gone) == sorted(now.kept_in_number) == rows
    assert len(found.kept_in_number) == len(now.gone) == 0
    assert found.notes == (f"{SITE}: {len(rows)} images of withdrawn groups are left out",)
    # Begun now, its roster does not count the patient; what is withdrawn after that stays in its number.
    signed = world.home / "state" / later.digest()
    signed.mkdir()
    (signed / "roster.json").write_text("{}")
    assert sorted(withdrawn_records(world.run.homes, world.plan, later).gone) == rows
    other = next(r.group for r in world.plan.cohort.records if r.site == SITE and r.group != patient)
    world.forget(other)
    found = withdrawn_records(world.run.homes, world.plan, later)
    assert sorted(found.gone) == rows
    assert {world.plan.cohort.records[row].group for row in found.kept_in_number} == {other}


def test_an_image_is_known_by_content_under_another_name(world: World) -> None:
    patient = world.patient()
    world.forget(patient)
    plan = world.plan
    renamed = replace(
        plan.cohort,
        records=tuple(replace(r, group="moved") if r.group == patient else r for r in plan.cohort.records),
    )
    found = withdrawn_records(world.run.homes, replace(plan, cohort=renamed), PLAIN)
    assert {renamed.records[row].group for row in found.rows} == {"moved"}
    with pytest.raises(HomeError, match="withdrawn group were about to be used"):
        check_left_out(world.home, plan.cohort, found.rows)
    check_left_out(world.home, plan.cohort, found.others(np.arange(len(plan.cohort.records))))


@pytest.mark.parametrize(("unit", "count"), [("patient", 3), ("record", 6)])
def test_a_withdrawn_unit_stays_without_rows(unit: str, count: int) -> None:
    study = study_with(facmic={"normalisation": "layer"}, privacy={"epsilon": 8.0, "unit": unit})
    rows = np.arange(4)
    part = Part(rows, np.zeros((4, 2), np.float32), rows, ("a", "b", "a", "b"), withdrawn=("c", "c"))
    units = units_of(study, part)
    assert units.count == count
    assert units.owners.tolist() == ([0, 1, 0, 1] if unit == "patient" else [0, 1, 2, 3])
    assert len(part) == 6
    assert part.training().inputs.shape == (4, 2)
    assert units_of(study, replace(part, withdrawn=())).count == (2 if unit == "patient" else 4)


def test_a_picture_that_could_never_be_decoded_is_not_in_the_number(world: World, tmp_path: Path) -> None:
    world.forget(world.patient())
    plan = world.plan
    found = withdrawn_records(world.run.homes, plan, PLAIN)
    rows = np.arange(len(plan.cohort.records))
    assert sorted(rows[found.counted(plan.cohort, rows)]) == sorted(found.kept_in_number)
    broken, damaged = tmp_path / "broken.png", int(found.kept_in_number[0])
    broken.write_bytes(b"no picture")
    records = list(plan.cohort.records)
    records[damaged] = replace(records[damaged], path=broken)
    counted = found.counted(replace(plan.cohort, records=tuple(records)), rows)
    assert sorted(rows[counted]) == sorted(set(found.kept_in_number) - {damaged})


# --- nobody is named ------------------------------------------------------------------------------------------------


def test_no_file_names_the_patient(world: World) -> None:
    patient = world.patient()
    world.forget(patient)
    world.resume()
    names = [patient.encode(), *(image.encode() for image in world.images(patient))]
    names += [bytes.fromhex(image) for image in world.images(patient)]
    looked = 0
    for folder in (world.home, world.run.coordinator, world.cache):
        for path in folder.rglob("*"):
            if path.is_file():
                looked += 1
                content = path.read_bytes()
                assert not any(name in content for name in names), path
    assert looked > 10
    for name in ("forgotten.json", "forgotten.key"):
        assert (world.home / name).stat().st_mode & 0o777 == 0o600
    plain = hashlib.sha256(patient.encode()).hexdigest()
    assert plain.encode() not in (world.home / "forgotten.json").read_bytes()


def test_what_is_refused_names_nobody_but_near_ones_are_at_hand(world: World) -> None:
    patient = world.patient()
    with hold(world.home) as held, pytest.raises(UnknownGroupError) as refused:
        find_group(held, PLAIN, patient + "x", world.cache)
    assert patient in refused.value.near
    assert "amber-" not in str(refused.value)
    other = next(r.group for r in world.plan.cohort.records if r.site == "birch")
    with hold(world.home) as held, pytest.raises(UnknownGroupError):
        find_group(held, PLAIN, other, world.cache)  # of another site
    assert world.noted() == []


# --- again, and after a crash ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_can_be_asked_for_again(world: World) -> None:
    patient = world.patient()
    world.forget(patient)
    before = (world.home / "forgotten.json").read_bytes()
    assert world.forget(patient) == Removed()
    assert len(world.noted()) == 1
    assert (world.home / "forgotten.json").read_bytes() == before
    # Another program has encoded the images again.
    simulate(PLAIN, world.run.root.parent / "another", cache=world.cache)
    assert world.images(patient) <= set(world.rows())
    again = world.forget(patient)
    assert again.rows == len(world.images(patient))
    assert again.noted
    assert len(world.noted()) == 2
    assert not world.images(patient) & set(world.rows())
    assert len(Forgotten.read(world.home).withdrawals) == 1


STEPS: dict[str, tuple[Any, str, int]] = {
    "before the list": (Forgotten, "_written", 1),
    "before the cache": (forgetting, "remove_rows", 1),
    "before the state": (forgetting, "_clear_state", 1),
    "before an update is rewritten": (forgetting, "write_atomic", 1),
    "before the ledger": (HeldHome, "note_once", 1),
    "before the end": (Forgotten, "_written", 2),
}


def dying(place: Any, name: str, nth: int, *, after: bool) -> None:
    """Let this process kill itself around the n-th call of a function."""
    real, calls = getattr(place, name), [0]

    def call(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if calls[0] == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, staticmethod(call) if name == "_written" else call)


def killed_child(work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["at", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_too_much_is_forgotten_and_nothing_is_noted_undone(
    world: World, step: str, after: bool
) -> None:
    patient = world.patient()
    images, before = world.images(patient), world.rows()
    whole = world.copy(world.run.root.parent / "whole")
    whole.forget(patient)

    def work() -> None:
        dying(*STEPS[step], after=after)
        world.forget(patient)

    killed_child(work)
    known = Forgotten.read(world.home)
    if world.noted():
        assert not images & set(world.rows())
    if set(world.rows()) != set(before):
        assert known.withdrawals
    if step == "before the list" and not after:
        assert known.withdrawals == ()
        world.forget(patient)
    else:
        assert known.pending is not None or (step == "before the end" and after)
        assert sorted(withdrawn_records(world.run.homes, world.plan, PLAIN).rows) == [
            n for n, record in enumerate(world.plan.cohort.records) if record.group == patient
        ]
        with hold(world.home) as held:
            settle(held, world.cache)  # without being told whom it is about
    assert world.rows() == whole.rows() == {name: row for name, row in before.items() if name not in images}
    assert world.noted() == whole.noted()
    assert len(world.noted()) == 1
    assert Forgotten.read(world.home).pending is None
    assert state_of(world) == state_of(whole)
    with hold(world.home) as held:
        assert settle(held, world.cache) == Removed()
    assert verify(world.home / "ledger.jsonl").ok


def state_of(world: World) -> dict[str, bytes]:
    folder = world.home / "state" / world.study.digest()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- stored state ---------------------------------------------------------------------------------------------------


def test_the_update_of_the_round_stays_and_moments_go(world: World) -> None:
    folder = world.home / "state" / PLAIN.digest()
    newest = load((folder / "update-00002.safetensors").read_bytes())
    assert any(name.startswith("moment.") for name in newest)
    assert (folder / "update-00001.safetensors").is_file()
    done = world.forget(world.patient())
    assert (done.updates, done.moments) == (1, 1)
    assert not (folder / "update-00001.safetensors").exists()
    kept = load((folder / "update-00002.safetensors").read_bytes())
    assert {name for name in newest if name not in kept} == {n for n in newest if n.startswith("moment.")}
    assert all(torch.equal(kept[name], newest[name]) for name in kept if name != "checksum")


def test_a_round_that_was_entered_is_tried_again_with_the_same_vector(tmp_path: Path) -> None:
    """Stopped when a site's masked vector is on its way: the retry after a withdrawal is about the same one."""
    parcels: list[tuple[str, bytes]] = []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        parcels.append((sender, wire))
        if sender == SITE and len([s for s, _ in parcels if s == SITE]) == 3:
            raise Killed

    with pytest.raises(Killed):
        simulate(PLAIN, tmp_path / "run", cache=tmp_path / "cache", tap=tap)
    world = World(RunFolder(tmp_path / "run"), tmp_path / "cache", PLAIN)
    progress = world.home / "state" / PLAIN.digest() / "progress.json"
    vector = json.loads(progress.read_bytes())["vector"]
    patient = world.patient()
    world.forget(patient)
    vectors = []

    class Watching(Silent):
        def round_done(self, record: Any, total: int) -> None:
            vectors.append((record["participants"], json.loads(progress.read_bytes())["vector"]))

    simulate(PLAIN, world.run.root, resume=True, cache=world.cache, watcher=Watching())
    assert vectors[0][1] == vector
    assert SITE in vectors[0][0]
    assert vectors[1][1] != vector


def test_what_a_private_study_stored_stays_as_it_was_sealed(private: World, tmp_path: Path) -> None:
    world = private.copy(tmp_path)
    before = state_of(world)
    assert "class-sums.safetensors" in before
    done = world.forget(world.patient())
    assert (done.updates, done.moments) == (0, 0)
    assert state_of(world) == before


def test_a_damaged_update_stops_it_before_anything_is_done(world: World) -> None:
    path = world.home / "state" / PLAIN.digest() / "update-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = world.rows()
    with pytest.raises(CheckpointError, match="damaged"):
        world.forget(world.patient())
    assert world.rows() == before
    assert Forgotten.read(world.home).withdrawals == ()


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_home_or_a_run_that_is_in_use_is_left_alone(world: World) -> None:
    with SiteHome.open(world.run.homes, SITE), pytest.raises(HomeError, match="in use by process"):
        world.forget(world.patient())
    with world.run.locked(), pytest.raises(RunFolderError, match="another process is working"):
        world.forget(world.patient())
    assert world.noted() == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "key", "gone", "swapped"])
def test_a_list_that_cannot_be_believed_stops_all_training(world: World, damage: str) -> None:
    world.forget(world.patient())
    path, key = world.home / "forgotten.json", world.home / "forgotten.key"
    content = path.read_bytes()
    if damage == "flipped":
        path.write_bytes(
            content.replace(b'"state":', b'"stete":') if b'"state":' in content else content[:80] + b"0" + content[81:]
        )
    elif damage == "cut":
        path.write_bytes(content[:-9])
    elif damage == "key":
        key.unlink()
    elif damage == "gone":
        path.unlink()
    else:
        key.write_bytes(bytes(32))
    with pytest.raises(HomeError, match="list of withdrawn groups"):
        world.resume()
    with pytest.raises(HomeError, match="list of withdrawn groups"):
        world.forget(world.patient())


def test_what_is_no_home_is_refused_and_not_made(world: World, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", world.run.root, world.run.homes):
        with pytest.raises(HomeError), hold(path):
            pass
    assert not (tmp_path / "nowhere").exists()


def test_a_home_without_its_ledger_is_refused(world: World) -> None:
    (world.home / "ledger.jsonl").unlink()
    with pytest.raises(LedgerError, match="gone"):
        world.forget(world.patient())
    assert Forgotten.read(world.home).withdrawals == ()


def test_a_study_must_be_this_sites_and_have_images(world: World, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / SITE
    shutil.copytree(world.home, moved)
    with hold(moved) as held:
        with pytest.raises(RunFolderError, match="lies in no run"):
            study_of(held, None)
        study, _ = study_of(held, world.run.study)
        with pytest.raises(StudyFileError, match="synthetic"):
            find_group(held, study, "amber-p000", world.cache)
    strange = world.run.homes / "strange"
    shutil.copytree(world.home, strange)
    with hold(strange) as held, pytest.raises(StudyFileError, match="'strange' is no training site"):
        find_group(held, PLAIN, "amber-p000", world.cache)


@pytest.mark.slow
def test_rows_through_a_sites_own_camera_are_found(tmp_path: Path) -> None:
    study = study_with(sites={"feature_shift": 0.5})
    world = paused(tmp_path, study)
    patient, before = world.patient(), cached_names(world.cache)
    assert not world.images(patient) & before  # they go by another name
    done = world.forget(patient)
    assert done.rows == len(world.images(patient)) == len(before) - len(cached_names(world.cache))
    world.resume()
    assert len(cached_names(world.cache)) == len(before) - done.rows
