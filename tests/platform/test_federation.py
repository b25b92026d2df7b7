"""Adapter methods through the real protocol: what is averaged, what never leaves, what each site has in the end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load
from scipy.special import log_softmax
from wardround.platform import domain, trainer
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.adapters import State, load_state, set_statistics, state_of
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.federation import Federated, _name_those_without, assess_federated, federate
from wardround.platform.marks import marks_of
from wardround.platform.methods.adapted_clip import AdaptedClip
from wardround.platform.methods.fedclip import FedClip
from wardround.platform.methods.method import Method
from wardround.platform.run_folder import RunFolder
from wardround.platform.site_machine import FINAL_FILE
from wardround.platform.study_data import Part, SiteData, StudyData
from wardround.platform.terms import start_state
from wardround.platform.trainer import PERSONAL_FILE, LocalTrainer
from wardround.platform.training import predict_logits
from wardround.platform.update import BUFFERS, METRICS
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.messages import TO_COORDINATOR, TO_SITE, Limits, decode, tag_of

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def small_classifier(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A domain classifier of eight hidden units, and one thread: the toys are too small for two."""
    monkeypatch.setattr(domain, "HIDDEN", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Opened:
    """A consortium with what it was opened for."""

    made: Any
    consortium: Consortium

    @property
    def method(self) -> Method:
        return self.made.method  # type: ignore[no-any-return]

    def begin(self) -> None:
        carry(self.consortium.coordinator, self.consortium.sites, self.consortium.coordinator.begin())

    def commit(self) -> None:
        carry(self.consortium.coordinator, self.consortium.sites, self.consortium.coordinator.commit())

    def updates(self, number: int, sent: State) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Every site's stored update of a round that is under way; asked again, a site does not train."""
        info = self.consortium.coordinator.info
        digest = hashlib.sha256(dump_adapter(sent, info)).hexdigest()
        return {name: dict(own.update(number, sent, digest).blocks) for name, own in self.consortium.trainers.items()}


@pytest.fixture
def opened(toy: Make, tmp_path: Path, BACKBONE: str) -> Iterator[Callable[..., Opened]]:
    """``opened(folder, data=None, **changes)``: a toy's consortium, closed at the end of the test."""
    with ExitStack() as stack:

        def make(folder: str = "run", data: StudyData | None = None, **changes: Any) -> Opened:
            made = toy(tmp_path / folder, **changes)
            made = replace(made, data=data or made.data)
            parts = (made.study, made.method, made.data, BACKBONE, made.run)
            return Opened(made, stack.enter_context(open_consortium(*parts)))

        yield make


def unequal(data: StudyData, sizes: tuple[int, ...] = (11, 24, 40), shift: float = 1.5) -> StudyData:
    """Sites of very different sizes, whose features lie around different middles."""
    draw = np.random.default_rng(5)

    def moved(site: SiteData, size: int) -> SiteData:
        x = draw.normal(size=(size, 16)) + shift * draw.normal(size=16)
        x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        labels = np.arange(size, dtype=np.int64) % 3
        part = Part(np.arange(size, dtype=np.int64), x, labels, tuple(f"{site.name}-{i}" for i in range(size)))
        return replace(site, train=part)

    return replace(data, sites=tuple(moved(site, size) for site, size in zip(data.sites, sizes, strict=True)))


# --- the mean --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "norms"),
    [
        ("facmic", {}, 1),
        ("faa-clip", {}, 1),
        ("facmic", {"text_adapter": True}, 2),
        ("facmic", {"depth": 8}, 1),  # the second norm sees what each site's own first one leaves
    ],
)
def test_federated_batch_norm_is_that_of_the_pooled_data(
    opened: Callable[..., Opened], toy_data: Make, method: str, options: dict[str, Any], norms: int
) -> None:
    """Sites of unequal sizes and means, one round through the protocol: equal to its fixed point.

    A step of 1e-12 moves no float32 weight, so that all sites see their images through one projection. FAA-CLIP's own
    mean is plain; weighted by size it is the pooled data's too.
    """
    table = {method.replace("-", "_"): options}
    found = opened(
        data=unequal(toy_data()),
        method=method,
        training={"lr": 1e-12, "weight_decay": 0.0},
        secure_aggregation={"weighting": "weighted"},
        **table,
    )
    data = found.made.data
    sent = start_state(found.made.study, found.method, data.shared)
    found.begin()
    after = found.consortium.coordinator.next_state
    module = found.method.new_module(data.shared, 0)
    assert isinstance(module, AdaptedClip)
    load_state(module, sent, without=found.method.local)
    pooled = torch.cat([site.train.inputs("features") for site in data.sites])
    set_statistics(module.adapter, pooled)
    if module.text_adapter is not None:
        set_statistics(module.text_adapter, data.shared.text)
    expected = state_of(module)
    bits = {block.name: block.fraction_bits for block in found.consortium.roster.roster.blocks("update")}
    # Each site's rounding errs by half a step of a weighted number; the variance takes in the mean's error too.
    step = 3 * 2.0 ** -bits[BUFFERS] + 1e-7
    names = [name for name in after if "norm.running" in name]
    assert len(names) == 2 * norms
    for name in names:
        np.testing.assert_allclose(after[name].numpy(), expected[name].numpy(), rtol=0, atol=3 * step)
    # The toy is not blind: neither the sites' plain mean nor the mean of their variances would pass.
    own = [site.train.inputs("features") for site in data.sites]
    variances = []
    for part in own:
        set_statistics(module.adapter, part)
        variances.append(state_of(module)["adapter.norm.running_var"].numpy())
    weights = [len(part) / len(pooled) for part in own]
    wrong = sum(w * v for w, v in zip(weights, variances, strict=True))
    assert np.abs(wrong - expected["adapter.norm.running_var"].numpy()).max() > 1e-3


def muddled(data: StudyData) -> StudyData:
    """Every third validation image gets a wrong label: a model that is right of all of them needs no temperature."""

    def part(old: Part) -> Part:
        wrong = np.arange(len(old)) % 3 == 0
        return replace(old, labels=np.where(wrong, (old.labels + 1) % 3, old.labels))

    return replace(data, sites=tuple(replace(site, validation=part(site.validation)) for site in data.sites))


WEIGHTED, PLAIN = (11 / 75, 24 / 75, 40 / 75), (1 / 3, 1 / 3, 1 / 3)


@pytest.mark.parametrize(
    ("method", "weighting", "shares"),
    [
        ("fedclip", "paper", WEIGHTED),
        ("facmic", "paper", WEIGHTED),
        ("faa-clip", "paper", PLAIN),
        ("faa-clip", "weighted", WEIGHTED),
        ("facmic", "uniform", PLAIN),
    ],
)
def test_the_next_adapter_is_the_mean_that_the_methods_paper_or_the_study_takes(
    opened: Callable[..., Opened], toy_data: Make, method: str, weighting: str, shares: tuple[float, ...]
) -> None:
    found = opened(
        data=muddled(unequal(toy_data())),
        method=method,
        secure_aggregation={"weighting": weighting},
        calibration={"method": "federated-head"},
    )
    roster = found.consortium.roster.roster
    total = sum(roster.weight_of(name) for name in roster.names)
    assert [roster.weight_of(name) / total for name in roster.names] == pytest.approx(shares)
    for number in (1, 2):
        sent = dict(found.consortium.coordinator.state)
        found.begin()
        updates = found.updates(number, sent)
        after = found.consortium.coordinator.next_state
        for block in found.consortium.coordinator.layout.blocks:
            mean = sum(s * updates[n][block.name].astype(np.float64) for n, s in zip(roster.names, shares, strict=True))
            flat = np.concatenate([(after[t].double() - sent[t].double()).numpy().ravel() for t, _ in block.tensors])
            np.testing.assert_allclose(flat, mean, rtol=0, atol=2e-6, err_msg=block.name)
            assert np.abs(mean).max() > 1e-4, block.name
        found.commit()


def test_a_temperature_travels_as_a_block_of_its_own_and_is_never_cut(
    opened: Callable[..., Opened], toy_data: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where every site goes from one end of the range to the other in a round, beside a narrow clip."""
    ends = iter([math.log(20.0)] * 3 + [math.log(0.05)] * 3)
    monkeypatch.setattr("wardround.platform.training.fit_log_temperature", lambda *_: next(ends))
    found = opened(
        data=muddled(unequal(toy_data())),
        method="fedclip",
        calibration={"method": "federated-head"},
        secure_aggregation={"clip": 0.01, "w_max": 16.0, "bits": 12},
    )
    blocks = {block.name: block for block in found.consortium.roster.roster.blocks("update")}
    assert list(blocks) == ["log_temperature", "adapter", METRICS]
    assert (blocks["log_temperature"].size, blocks["log_temperature"].bits) == (1, 32)
    for expected in (math.log(20.0), math.log(0.05)):
        found.begin()
        for site in found.consortium.sites.values():
            assert site.clipped.get("log_temperature", 0) == 0
        after = float(found.consortium.coordinator.next_state["log_temperature"])
        assert after == pytest.approx(expected, abs=1e-5)
        found.commit()


def test_a_federated_temperature_lowers_the_loss_of_held_out_images_where_the_adapter_is_overconfident(
    opened: Callable[..., Opened], toy_data: Make
) -> None:
    data = muddled(toy_data())
    found = opened(data=data, method="fedclip", calibration={"method": "federated-head"})
    for _ in range(3):
        found.begin()
        found.commit()
    state = dict(found.consortium.coordinator.state)
    cold = {**state, "log_temperature": torch.zeros(1)}

    def loss(tensors: State) -> float:
        values = []
        for site in data.sites:
            logits = predict_logits(found.method, tensors, site.validation.inputs("features"), data.shared).numpy()
            values += (-log_softmax(logits, axis=1)[np.arange(len(logits)), site.validation.labels]).tolist()
        return math.fsum(values) / len(values)

    assert float(state["log_temperature"]) > 0.1
    assert loss(state) < loss(cold) - 0.05


# --- what never leaves -----------------------------------------------------------------------------------------------

KEPT = {
    "facmic, norms at the site": ("facmic", {"normalisation": "batch-local"}, ("adapter.norm.",)),
    "faa-clip": ("faa-clip", {}, ("domain.",)),
    "faa-clip, all at the site": (
        "faa-clip",
        {"normalisation": "batch-local", "depth": 8},
        ("domain.", "adapter.norm"),
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_is_local_is_in_no_block_no_update_and_no_adapter(opened: Callable[..., Opened], case: str) -> None:
    method, options, prefixes = KEPT[case]
    found = opened(method=method, **{method.replace("-", "_"): options})
    start = state_of(found.method.new_module(found.made.data.shared, 0))
    local = {name for name in start if name.startswith(prefixes)}
    assert local
    sent = sum(t.numel() for name, t in start.items() if name not in local and "running" not in name)
    buffers = sum(t.numel() for name, t in start.items() if name not in local and "running" in name)
    blocks = {block.name: block.size for block in found.consortium.roster.roster.blocks("update")}
    assert blocks == {"adapter": sent, **({BUFFERS: buffers} if buffers else {}), METRICS: 1}
    for number in (1, 2):
        before = dict(found.consortium.coordinator.state)
        assert before.keys() == start.keys() - local
        found.begin()
        for update in found.updates(number, before).values():
            assert {name: len(values) for name, values in update.items()} == blocks
        found.commit()
    for own in found.consortium.trainers.values():
        stored = load((own.folder / "update-00002.safetensors").read_bytes())
        assert {name.removeprefix("local.") for name in stored if name.startswith("local.")} == local


def test_a_shared_domain_classifier_is_a_block_and_is_averaged(opened: Callable[..., Opened]) -> None:
    found = opened(method="faa-clip", faa_clip={"domain_classifier": "shared"})
    blocks = [block.name for block in found.consortium.roster.roster.blocks("update")]
    assert blocks == ["adapter", "domain", BUFFERS, METRICS]
    before = dict(found.consortium.coordinator.state)
    found.begin()
    after = found.consortium.coordinator.next_state
    assert not torch.equal(before["domain.layers.0.weight"], after["domain.layers.0.weight"])


# --- each site's own model -------------------------------------------------------------------------------------------


def federated(made: Any, fingerprint: str, tap: Any = None) -> Federated:
    return federate(made.study, made.method, made.data, fingerprint, made.run, Silent(), tap)


@pytest.mark.parametrize("method", ["facmic", "faa-clip"])
def test_with_norms_at_the_sites_each_predicts_with_its_own_and_the_unseen_one_with_the_reference_sets(
    toy: Make, tmp_path: Path, BACKBONE: str, method: str
) -> None:
    made = toy(tmp_path / "run", method=method, **{method.replace("-", "_"): {"normalisation": "batch-local"}})
    data = made.data
    result = federated(made, BACKBONE)
    assert result.personal.keys() == {"site-1", "site-2", "site-3"}
    assessed = assess_federated(made.method, data, result)
    statistics = {}
    for site in data.sites:
        own = result.personal[site.name]
        logits = predict_logits(made.method, own, site.test.inputs("features"), data.shared).numpy()
        assert np.array_equal(assessed.sites[site.name].logits, logits)
        module = made.method.new_module(data.shared, 0)
        # The final adapter's projection is the federation's; the norm's moments are those of the site's last training.
        assert torch.equal(own["adapter.project_in.weight"], result.state["adapter.project_in.weight"])
        load_state(module, {k: v for k, v in own.items() if not k.startswith("domain.")}, without=("domain.",))
        statistics[site.name] = own["adapter.norm.running_mean"]
    assert not torch.equal(statistics["site-1"], statistics["site-2"])
    assert data.unseen is not None
    assert assessed.unseen is not None
    away = predict_logits(made.method, result.state, data.unseen.test.inputs("features"), data.shared).numpy()
    assert np.array_equal(assessed.unseen.logits, away)
    hidden = (
        data.shared.reference @ result.state["adapter.project_in.weight"].T + result.state["adapter.project_in.bias"]
    )
    whole = {**result.state, "adapter.norm.running_mean": hidden.mean(dim=0)}
    whole |= {"adapter.norm.running_var": hidden.var(dim=0, unbiased=False)}
    whole |= {"adapter.norm.weight": torch.ones(16), "adapter.norm.bias": torch.zeros(16)}
    by_hand = predict_logits(made.method, whole, data.unseen.test.inputs("features"), data.shared).numpy()
    np.testing.assert_allclose(away, by_hand, atol=1e-4)


def test_a_temperature_in_the_adapter_is_the_only_one(toy: Make, tmp_path: Path, BACKBONE: str) -> None:
    made = toy(tmp_path / "run", method="fedclip", rounds=2, calibration={"method": "federated-head"})
    made = replace(made, data=muddled(made.data))
    result = federated(made, BACKBONE)
    assert float(result.state["log_temperature"]) != 0.0
    assessed = assess_federated(made.method, made.data, result)
    assert assessed.temperature is None
    assert all(prediction.temperature is None for prediction in assessed.sites.values())
    assert assessed.unseen is not None
    assert assessed.unseen.temperature is None
    bare = {**result.state, "log_temperature": torch.zeros(1)}
    site = made.data.sites[0]
    cold = predict_logits(made.method, bare, site.test.inputs("features"), made.data.shared).numpy()
    warm = cold / math.exp(float(result.state["log_temperature"]))
    np.testing.assert_allclose(assessed.sites[site.name].logits, warm, rtol=1e-6)


def test_a_method_without_a_temperature_of_its_own_gets_one_fitted_whatever_the_study_says(
    toy: Make, tmp_path: Path, BACKBONE: str
) -> None:
    """As methods that train the whole CLIP: they have no such number to send."""
    made = toy(tmp_path / "run", method="fedclip", rounds=1, calibration={"method": "federated-head"})
    wrong = [np.arange(len(site.validation)) % 4 == 0 for site in made.data.sites]
    sites = tuple(
        replace(
            site,
            validation=replace(
                site.validation, labels=np.where(at, (site.validation.labels + 1) % 3, site.validation.labels)
            ),
        )
        for site, at in zip(made.data.sites, wrong, strict=True)
    )
    made = replace(made, method=FedClip(), data=replace(made.data, sites=sites))
    result = federated(made, BACKBONE)
    assert "log_temperature" not in result.state
    assessed = assess_federated(made.method, made.data, result, looks=True)
    assert assessed.temperature is not None
    assert assess_federated(made.method, made.data, result).temperature is None  # nobody summed, and nobody looks
    assert all(prediction.temperature is not None for prediction in assessed.sites.values())


def test_fine_tuning_leaves_the_global_adapter_untouched_and_sends_nothing(
    toy: Make, tmp_path: Path, BACKBONE: str
) -> None:
    made = toy(tmp_path / "run", rounds=2, personalisation={"fine_tune_epochs": 3})
    seen: list[tuple[str, str, bytes]] = []
    result = federated(made, BACKBONE, lambda *parcel: seen.append(parcel))
    ends = [at for at, (_, _, wire) in enumerate(seen) if b"study-end" in wire[:24]]
    assert len(ends) == 3
    after = [
        (sender, tag_of(decode(wire, TO_SITE + TO_COORDINATOR, Limits(100, 10**7, 10**7))))
        for sender, _, wire in seen[ends[0] :]
    ]
    names = [site.name for site in made.data.sites]
    assert after == [
        *[(COORDINATOR, "study-end")] * 3,
        *[(name, "receipt") for name in names],
        *[(COORDINATOR, "batch")] * 3,
        *[(name, "cosignature") for name in names],
        *[(COORDINATOR, "cosigned")] * 3,
    ]
    info = result.info
    final = dump_adapter(result.state, info)
    for site in made.data.sites:
        folder = made.run.homes / site.name / "state" / made.study.digest()
        assert (folder / FINAL_FILE).read_bytes() == final
        own = result.personal[site.name]
        assert any(not torch.equal(own[name], result.state[name]) for name in result.state)
        assert sorted(path.name for path in folder.glob("*.safetensors")) == [FINAL_FILE, PERSONAL_FILE]
    assert len({own["adapter.project_in.weight"].numpy().tobytes() for own in result.personal.values()}) == 3
    checkpoint = made.run.coordinator / "checkpoint" / "round-00002.safetensors"
    assert checkpoint.read_bytes() == final


class Notes(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_site_without_a_model_of_its_own_is_named_and_answered_for_by_the_federation(
    toy: Make, tmp_path: Path, BACKBONE: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, watch = LocalTrainer.keep_personal, Notes()
    monkeypatch.setattr(
        LocalTrainer, "keep_personal", lambda self, final: None if self.site == "site-2" else keep(self, final)
    )
    made = toy(tmp_path / "run", rounds=1, personalisation={"fine_tune_epochs": 1})
    result = federate(made.study, made.method, made.data, BACKBONE, made.run, watch)
    assert [text for text in watch.said if "of its own" in text] == [
        "site 'site-2' has no model of its own: the federation's answers for it"
    ]
    assessed = assess_federated(made.method, made.data, result)
    assert assessed.own == ("site-1", "site-3")
    site = made.data.sites[1]
    logits = predict_logits(made.method, result.state, site.test.inputs("features"), made.data.shared).numpy()
    assert np.array_equal(assessed.sites["site-2"].logits, logits)
    assert marks_of(made.study, made.method, made.data, assessed).without == ("site-2",)


def test_why_a_site_has_no_model_of_its_own_is_said_where_it_is_known() -> None:
    watch = Notes()

    def sites(value: Any) -> dict[str, Any]:
        return dict.fromkeys(("a", "b", "c"), value)

    consortium: Any = SimpleNamespace(
        trainers={**sites(SimpleNamespace(has_personal=True)), "d": SimpleNamespace(has_personal=False)},
        sites={**sites(SimpleNamespace(failure="")), "b": SimpleNamespace(failure="the loss is not finite")},
    )
    _name_those_without(consortium, {"a": {}, "b": None, "c": None, "d": None}, watch)
    assert watch.said == [
        "site 'b' has no model of its own: the federation's answers for it (the loss is not finite)",
        "site 'c' has no model of its own: the federation's answers for it",
    ]


# --- killed at the end -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


def whole_run(made: Any, fingerprint: str) -> dict[str, bytes]:
    """Run what is left of a study, to its end; each site's own model as bytes."""
    federated(made, fingerprint)
    folders = {site.name: made.run.homes / site.name / "state" / made.study.digest() for site in made.data.sites}
    for folder in folders.values():
        assert list(folder.glob("update-*")) == []
    return {name: (folder / PERSONAL_FILE).read_bytes() for name, folder in folders.items()}


@pytest.mark.parametrize(
    "place", ["before it is written", "before updates are forgotten", "after the first is forgotten"]
)
def test_killed_at_the_end_each_site_still_has_its_own_model_made_once(
    toy: Make, tmp_path: Path, BACKBONE: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    changes = {
        "rounds": 2,
        "method": "faa-clip",
        "faa_clip": {"normalisation": "batch-local"},
        "personalisation": {"fine_tune_epochs": 1},
    }
    expected = whole_run(toy(tmp_path / "untouched", **changes), BACKBONE)
    made = toy(tmp_path / "killed", **changes)
    written: list[bytes] = []
    with monkeypatch.context() as patch:
        write, forget = trainer.write_atomic, LocalTrainer.forget

        def writes(path: Path, content: bytes) -> None:
            if path.name == PERSONAL_FILE and place == "before it is written":
                raise Killed
            write(path, content)
            if path.name == PERSONAL_FILE:
                written.append(content)

        def forgets(self: LocalTrainer) -> None:
            if place == "before updates are forgotten":
                raise Killed
            forget(self)
            raise Killed

        patch.setattr(trainer, "write_atomic", writes)
        patch.setattr(LocalTrainer, "forget", forgets)
        with pytest.raises(Killed):
            federated(made, BACKBONE)
        assert len(written) == (place != "before it is written")
    assert whole_run(made, BACKBONE) == expected
    assert made.study.digest() == toy(tmp_path / "again", **changes).study.digest()
    assert all(content in expected.values() for content in written)


def test_a_finished_federation_is_gone_through_again_without_training(
    toy: Make, tmp_path: Path, BACKBONE: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = toy(tmp_path / "run", rounds=2, personalisation={"fine_tune_epochs": 1})
    first = federated(made, BACKBONE)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(trainer, "train_locally", never)
    again = federated(replace(made, run=RunFolder(made.run.root)), BACKBONE)
    assert dump_adapter(again.state, again.info) == dump_adapter(first.state, first.info)
    for name, own in first.personal.items():
        assert all(torch.equal(again.personal[name][tensor], value) for tensor, value in own.items())
