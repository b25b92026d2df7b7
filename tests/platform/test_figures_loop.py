"""Figures of the final model as secure sums: exact, once, over the whole cohort, and whatever else happens null."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from wardround.evaluation.calibration.temperature import fit_federated, grid_nll_sums
from wardround.evaluation.metrics import figures
from wardround.platform.adapter_file import parse_adapter
from wardround.platform.assessment import trained
from wardround.platform.engines.local import SimulatedLine, carry
from wardround.platform.errors import CheckpointError, RunFolderError
from wardround.platform.faults import SimulatedClock
from wardround.platform.federation import Federated, assess_federated, federate
from wardround.platform.figures_loop import erase_sums
from wardround.platform.held_out import EVALUATION, TEMPERATURE
from wardround.platform.held_out_memory import HELD_OUT_FILE
from wardround.platform.watching import Silent
from wardround.privacy import atomic
from wardround.privacy.ledger.log import verify
from wardround.privacy.messages import MaskedVector, RoundStart, StudyEnd

from .means_toy import ALIGNED, EVEN, LARGE, Made, Notes, with_counts
from .means_toy import decode as _decode

Make = Callable[..., Made]


@pytest.fixture
def make(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Make:
    def made(name: str = "run", data: Any = None, **changes: Any) -> Made:
        evaluation = {"federated": True, **changes.pop("evaluation", {})}
        given = {"rounds": 1, **changes, "evaluation": evaluation}
        return Made(toy(tmp_path / name, **given), data or unsure(toy_data()), BACKBONE)

    return made


def unsure(data: Any) -> Any:
    """The toy's data with every fourth validation label wrong, so that there is a temperature to find."""

    def changed(site: Any) -> Any:
        labels = site.validation.labels.copy()
        labels[::4] = (labels[::4] + 1) % 3
        return replace(site, validation=replace(site.validation, labels=labels))

    return replace(data, sites=tuple(changed(site) for site in data.sites))


def decoded(wire: bytes) -> Any:
    from wardround.privacy.messages import TO_COORDINATOR, TO_SITE

    for kinds in (TO_SITE, TO_COORDINATOR):
        try:
            return _decode(wire, kinds, LARGE)
        except Exception:  # noqa: S112 - of the two directions one fits
            continue
    raise AssertionError("a parcel of no known type")


def logits_of(made: Made, result: Federated, part: str) -> tuple[Any, Any]:
    predict = trained(made.toy.method, result.state, made.data.shared)
    parts = [getattr(site, part) for site in made.data.sites]
    logits = [predict(each.inputs(made.toy.method.consumes)) for each in parts]
    return np.concatenate(logits), np.concatenate([each.labels for each in parts])


def test_the_sums_are_the_pooled_figures(make: Make) -> None:
    made = make()
    result = made.run()
    assert result.figures is not None
    assert result.figures.reasons == {}
    summed, temperature = result.figures.summed, result.figures.temperature
    assert summed is not None
    assert temperature is not None
    held_out, truth = logits_of(made, result, "validation")
    assert temperature == fit_federated(grid_nll_sums(held_out, truth))
    logits, labels = logits_of(made, result, "test")
    expected = figures(logits, labels, temperature=temperature, classes=made.classes)
    found = summed.figures()
    for name in ("n", "accuracy", "balanced_accuracy", "macro_f1", "ece", "classwise_ece", "brier", "nll"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-6), name
    auroc = summed.macro_auroc
    assert auroc is not None
    assert expected.macro_auroc is not None
    assert abs(auroc.value - expected.macro_auroc) <= auroc.bound + 1e-12
    matrix = np.zeros((len(made.classes),) * 2, dtype=np.int64)
    np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)
    assert (summed.confusion == matrix).all()
    assert summed.fields["scores"].sum() <= len(logits_of(made, result, "validation")[1])
    assessed = assess_federated(made.toy.method, made.data, result)
    assert assessed.temperature == temperature
    assert assessed.together.balanced_accuracy == pytest.approx(found.balanced_accuracy)


def test_each_sum_is_one_session_over_all_sites_about_the_final_adapter(make: Make) -> None:
    made, starts, vectors, ends = make(), [], [], []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        message = decoded(wire)
        if isinstance(message, RoundStart) and message.session.purpose != "update":
            starts.append((peer, message))
        if isinstance(message, MaskedVector):
            vectors.append((sender, message.session.purpose))
        if isinstance(message, StudyEnd):
            ends.append(message.adapter)

    made.run(tap)
    assert [start.session.purpose for _, start in starts] == [TEMPERATURE] * 3 + [EVALUATION] * 3
    assert {start.session.round for _, start in starts} == {1}
    assert {start.adapter for _, start in starts} == set(ends)
    for purpose in (TEMPERATURE, EVALUATION):
        assert sorted(sender for sender, of in vectors if of == purpose) == ["site-1", "site-2", "site-3"]
    assert len({start.settings for _, start in starts}) == 2


def test_class_means_and_figures_go_together(make: Make, toy_data: Callable[..., Any]) -> None:
    made = make(data=with_counts(toy_data(), EVEN), **ALIGNED)
    result = made.run()
    assert result.figures is not None
    assert result.figures.summed is not None


def test_subgroups_are_counted_over_sites(make: Make, toy_data: Callable[..., Any]) -> None:
    data = toy_data()
    sexes = ("female", "male", "")
    records = tuple(
        replace(record, subgroups=MappingProxyType({"sex": sexes[i % 3]} if sexes[i % 3] else {}))
        for i, record in enumerate(data.cohort.records)
    )
    made = make(
        data=replace(data, cohort=replace(data.cohort, records=records)),
        evaluation={"subgroups": ["sex: female, male"]},
    )
    result = made.run()
    assert result.figures is not None
    assert result.figures.summed is not None
    totals = result.figures.summed.fields["total_0"].sum(axis=1)
    rows = np.concatenate([site.test.rows for site in made.data.sites])
    here = [records[row].subgroups.get("sex", "") for row in rows]
    expected = [here.count(sex) for sex in ("female", "male", "?", "")]
    assert totals.tolist() == expected


@pytest.mark.parametrize(
    "changes", [{"evaluation": {"federated": False}}, {"privacy": {"epsilon": 8.0, "delta": 1e-3, "unit": "record"}}]
)
def test_where_none_are_to_be_made_none_are(make: Make, changes: dict[str, Any]) -> None:
    made = make(method="fedclip", **changes)
    with made.open() as consortium:
        assert set(consortium.roster.roster.vectors) == {"update"}
        assert consortium.figures == {}


def test_a_model_with_a_temperature_of_its_own_gets_none_fitted(make: Make) -> None:
    made = make(calibration={"method": "federated-head"})
    result = made.run()
    assert result.figures is not None
    assert result.figures.summed is not None
    assert result.figures.temperature is None
    with made.open() as consortium:
        assert TEMPERATURE not in consortium.roster.roster.vectors


# --- faults ----------------------------------------------------------------------------------------------------------


class Away:
    """A network that loses everything for one site once a sum of a purpose has begun, some number of times."""

    def __init__(self, site: str, purpose: str, coordinator: Any, clock: SimulatedClock, tries: int) -> None:
        self.site, self.purpose, self.coordinator, self.clock, self.tries = site, purpose, coordinator, clock, tries

    def reaches(self, site: str, tag: str) -> bool:
        lost = site == self.site and self.coordinator.purpose == self.purpose and tag != "study-end"
        return not (lost and self.coordinator.position[1] < self.tries)

    def delay(self, site: str, tag: str) -> float:
        return 0.0

    def now(self) -> float:
        return self.clock()

    def wait_until(self, when: float) -> None:
        self.clock.put_forward(when)


def run_without(made: Made, monkeypatch: pytest.MonkeyPatch, purpose: str, tries: int) -> tuple[Federated, list[str]]:
    from wardround.platform import federation

    notes, honest = Notes(), federation.sum_figures

    def without(study: Any, classes: Any, consortium: Any, run: Any, watch: Any, line: SimulatedLine) -> Any:
        network = Away("site-2", purpose, consortium.coordinator, line.clock, tries)
        return honest(study, classes, consortium, run, watch, SimulatedLine(line.clock, network, line.tap))

    monkeypatch.setattr(federation, "sum_figures", without)
    return made.run(watch=notes), notes.texts


@pytest.mark.parametrize("purpose", [TEMPERATURE, EVALUATION])
def test_a_site_that_stays_away_leaves_the_figure_unknown_and_the_study_ends(
    make: Make, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    made = make(retries=1)
    result, notes = run_without(made, monkeypatch, purpose, 99)
    assert result.figures is not None
    assert set(result.figures.reasons) == {purpose}
    assert (result.figures.summed is None) == (purpose == EVALUATION)
    assert (result.figures.temperature is None) == (purpose == TEMPERATURE)
    assert any("are not known" in note for note in notes)
    # Nobody looks in the clear instead.
    assert assess_federated(made.toy.method, made.data, result).temperature == result.figures.temperature
    record = json.loads(made.toy.run.held_out.read_bytes())
    assert "values" not in record[purpose]


def test_a_site_that_comes_back_is_in_the_sum(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    result, notes = run_without(make(retries=2), monkeypatch, EVALUATION, 1)
    assert result.figures is not None
    assert result.figures.summed is not None
    assert any("tried again" in note for note in notes)


def test_a_policy_that_lets_no_figures_out_is_kept_to(make: Make) -> None:
    made = make(retries=0, method="fedclip")
    with made.open() as consortium:
        policy = consortium.homes["site-1"].policy
    text = policy.read_text()
    # With no metrics at all it would take part in no round either, for the mean loss is one: a purpose is taken out.
    policy.write_text(text.replace('"temperature", "evaluation"', '"temperature"'))
    assert policy.read_text() != text
    result = made.run()
    assert result.figures is not None
    assert set(result.figures.reasons) == {EVALUATION}


def test_a_garbage_vector_ends_the_figure_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from wardround.platform import held_out

    honest, asked = held_out.HeldOut.vector, []

    def garbage(self: Any, purpose: Any, *rest: Any) -> Any:
        asked.append(purpose)
        found = honest(self, purpose, *rest)
        if purpose == EVALUATION and asked.count(EVALUATION) == 1:
            found[held_out.FIGURES] = found[held_out.FIGURES] + 5
        return found

    monkeypatch.setattr(held_out.HeldOut, "vector", garbage)
    notes = Notes()
    result = make(retries=2).run(watch=notes)
    assert result.figures is not None
    assert result.figures.summed is None
    assert "contradict" in result.figures.reasons[EVALUATION]
    assert asked.count(EVALUATION) == 3  # once a site: what is out of bounds is not asked again


@pytest.mark.parametrize("answer", [np.inf, 1e13, 3e8])
def test_a_model_with_absurd_answers_ends_the_figures_and_not_the_site(
    make: Make, monkeypatch: pytest.MonkeyPatch, answer: float
) -> None:
    """Not finite, no logits, or so wrong that the sum of the likelihoods does not fit the vector."""
    from wardround.platform import held_out

    class Absurd:
        def __init__(self, method: Any) -> None:
            self.method, self.consumes = method, method.consumes

        def __getattr__(self, name: str) -> Any:
            return getattr(self.method, name)

        def logits(self, module: Any, inputs: Any, shared: Any) -> Any:
            found = self.method.logits(module, inputs, shared)
            return torch.zeros_like(found).index_fill_(1, torch.tensor([0]), answer)

    before = held_out.HeldOut._logits
    monkeypatch.setattr(
        held_out.HeldOut, "_logits", lambda self, *rest: before(replace(self, method=Absurd(self.method)), *rest)
    )
    made = make(retries=0)
    result = made.run()
    assert result.figures is not None
    assert result.figures.summed is None
    assert EVALUATION in result.figures.reasons


def test_likelihoods_of_no_images_are_no_temperature(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from wardround.platform import held_out

    honest = held_out.temperature_fields

    def skewed(logits: Any, labels: Any, bits: int) -> Any:
        found = honest(logits, labels, bits)
        nll = np.full(64, 1e4)
        nll[7] = 0.0
        return {**found, "nll": nll}

    monkeypatch.setattr(held_out, "temperature_fields", skewed)
    result = make().run()
    assert result.figures is not None
    assert result.figures.temperature is None
    assert "no images" in result.figures.reasons[TEMPERATURE]


# --- stops -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The power goes: nothing catches it."""


def parcels_of(made: Made) -> list[tuple[str, str]]:
    """(purpose, type) of every parcel of a whole run, in order."""
    seen: list[tuple[str, str]] = []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        message = decoded(wire)
        seen.append((getattr(getattr(message, "session", None), "purpose", ""), type(message).__name__))

    made.run(tap)
    return seen


QUICK = {(TEMPERATURE, "UnmaskAnswer"), (EVALUATION, "MaskedVector"), (EVALUATION, "UnmaskRequest"), ("", "StudyEnd")}
PLACES = [
    *(
        (purpose, kind, which)
        for purpose in (TEMPERATURE, EVALUATION)
        for kind, which in (
            ("RoundStart", 0),
            ("Advert", 1),
            ("MaskedVector", 2),
            ("SurvivorSet", 1),
            ("Agreement", 1),
            ("UnmaskRequest", 0),
            ("UnmaskAnswer", 2),
        )
    ),
    ("", "StudyEnd", 0),
    ("", "StudyEnd", 2),
]
WANTED = [pytest.param(*place, marks=[] if place[:2] in QUICK else [pytest.mark.slow]) for place in PLACES]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    module = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    folder = tmp_path_factory.mktemp("whole")

    def made(name: str) -> Made:
        toy = module.make_toy(folder / name, rounds=1, evaluation={"federated": True})
        return Made(toy, unsure(module.make_data()), module.BACKBONE)

    seen, again = parcels_of(made("a")), made("b")
    return seen, again.run()


@pytest.mark.parametrize(("purpose", "kind", "which"), WANTED)
def test_killed_at_a_parcel_and_resumed_the_figures_are_the_same(
    make: Make, whole: Any, purpose: str, kind: str, which: int
) -> None:
    seen, untouched = whole
    places = [place for place, parcel in enumerate(seen) if parcel == (purpose, kind)]
    made, count = make(rounds=1), [0]
    vectors: list[tuple[str, str, bytes]] = []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        message = decoded(wire)
        if isinstance(message, MaskedVector):
            vectors.append((sender, str(message.session), hashlib.sha256(wire).digest()))
        count[0] += 1
        if count[0] == places[which] + 1:
            raise Killed

    with pytest.raises(Killed):
        made.run(tap)
    result = made.run(tap)
    assert result.figures is not None
    assert result.figures.temperature == untouched.figures.temperature
    assert result.figures.summed is not None
    for name, values in untouched.figures.summed.fields.items():
        assert (result.figures.summed.fields[name] == values).all(), name
    assert all(torch.equal(result.state[name], tensor) for name, tensor in untouched.state.items())
    assert all(verify(path).problem == "" for path in made.toy.run.root.rglob("ledger.jsonl"))
    assert list((made.toy.run.coordinator / "unfinished").rglob("*.bin")) == []
    # No session of a site ever masked two different vectors.
    assert len({(site, session) for site, session, _ in vectors}) == len(set(vectors))
    if kind in ("UnmaskRequest", "UnmaskAnswer"):
        sessions = {session for _, session, _ in vectors if f"/{purpose}/" in session}
        assert len(sessions) == 1  # once all had signed, the same session is finished


RECORD = "coordinator/held-out.json"
WRITES = {
    "before a site has entered": (HELD_OUT_FILE, 1, False),
    "after a site has entered": (HELD_OUT_FILE, 1, True),
    "after a site has kept its vector": (HELD_OUT_FILE, 2, True),
    "before the coordinator's record": (RECORD, 1, False),
    "after the coordinator's record": (RECORD, 1, True),
    "before the second record": (RECORD, 2, False),
    "after the second record": (RECORD, 2, True),
}
MARKED = [pytest.param(key, marks=[] if key.startswith("after the") else [pytest.mark.slow]) for key in WRITES]


@pytest.mark.parametrize("place", MARKED)
def test_killed_around_a_write_and_resumed_the_figures_are_the_same(
    make: Make, whole: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, count, after = WRITES[place]
    made, seen, honest = make(rounds=1), [0], atomic.os.replace

    def watched(source: Any, target: Any) -> None:
        at_coordinator = Path(target).parent.name == "coordinator"
        hit = Path(target).name == Path(name).name and at_coordinator == name.startswith("coordinator/")
        seen[0] += hit
        if hit and seen[0] == count and not after:
            raise Killed
        honest(source, target)
        if hit and seen[0] == count:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", watched)
        with pytest.raises(Killed):
            made.run()
    result = made.run()
    assert result.figures is not None
    assert result.figures.temperature == whole[1].figures.temperature
    assert result.figures.summed is not None
    for field, values in whole[1].figures.summed.fields.items():
        assert (result.figures.summed.fields[field] == values).all(), field


def test_a_run_that_was_begun_without_figures_goes_on_without_them(make: Make, toy: Callable[..., Any]) -> None:
    made = make(rounds=1, evaluation={"federated": False})
    with made.open() as consortium:
        carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
    plain = made.toy.study.evaluation.model_copy(update={"federated": True})
    study = made.toy.study.model_copy(update={"evaluation": plain})
    assert study.digest() == made.toy.study.digest()
    result = federate(study, made.toy.method, made.data, made.backbone, made.toy.run, Silent())
    assert result.figures is None


def test_an_older_checkpoint_after_the_figures_is_refused(make: Make) -> None:
    made = make(rounds=2)
    made.run()
    for path in sorted(made.toy.run.coordinator.glob("checkpoint/round-*.safetensors"))[-1:]:
        path.unlink()
    with pytest.raises(CheckpointError, match="sums after the last round"), made.open():
        pass


def test_a_damaged_record_is_named(make: Make) -> None:
    made = make(rounds=1)
    made.run()
    made.toy.run.held_out.write_text("{}")
    with pytest.raises(RunFolderError, match="damaged"):
        made.run()


def test_what_is_published_is_kept_no_longer_in_exact_numbers(make: Make) -> None:
    made = make(rounds=1)
    made.run()
    assert "values" in json.loads(made.toy.run.held_out.read_bytes())[EVALUATION]
    assert made.toy.run.held_out.stat().st_mode & 0o077 == 0
    erase_sums(made.toy.run)
    record = json.loads(made.toy.run.held_out.read_bytes())
    assert all("values" not in found for key, found in record.items() if key != "adapter")
    parse_adapter((made.state() / "adapter.safetensors").read_bytes(), where="the final adapter")
