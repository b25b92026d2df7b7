"""The sum of class means in whole toy studies: right, once, over everybody, and written down without a count."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from wardround.platform import coordinator as coordinator_module
from wardround.platform import site_machine as site_module
from wardround.platform.adapter_file import AdapterInfo, dump_adapter, parse_adapter, read_adapter
from wardround.platform.class_means import CLASS_COUNTS, CLASS_MEANS, CLASS_SUMS, FEWEST, PURPOSE, with_proxies
from wardround.platform.consortium import Consortium
from wardround.platform.engines.local import SimulatedLine
from wardround.platform.errors import RoundError
from wardround.platform.faults import ScriptedNetwork, SimulatedClock
from wardround.platform.means_loop import sum_class_means
from wardround.platform.means_memory import MEANS_FILE
from wardround.platform.results import model_card
from wardround.platform.site_machine import FINAL_FILE
from wardround.platform.terms import start_state
from wardround.platform.training import Carried, derive_seed, train_locally
from wardround.platform.update import Update
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import Refusal
from wardround.privacy.ledger.log import verify
from wardround.privacy.messages import (
    TO_SITE,
    RoundEnd,
    decode,
    encode,
)

from .means_toy import EVEN, LARGE, NAME, WIDTH, Made, Notes, builder, changed, hold, refusal, sum_means, whole_round


@pytest.fixture
def make(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Callable[..., Made]:
    return builder(toy, toy_data, tmp_path, BACKBONE)


# --- the sum is right, and what is made of it --------------------------------------------------------------------


def test_the_federations_means_are_those_of_all_images_on_one_heap(make: Callable[..., Made]) -> None:
    made = make(counts=((7, 3, 12), (8, 4, 9), (9, 3, 40)))
    with made.open() as consortium:
        sum_means(consortium)
        means = consortium.coordinator.constants[CLASS_MEANS]
        x = np.concatenate([site.train.features for site in made.data.sites]).astype(np.float64)
        y = np.concatenate([site.train.labels for site in made.data.sites])
        for c, count in enumerate((24, 10, 61)):
            assert (y == c).sum() == count
            mean = x[y == c].mean(axis=0)
            expected = mean / np.linalg.norm(mean) if count >= FEWEST else np.zeros(WIDTH)
            assert np.allclose(means[c].numpy(), expected, atol=1e-6)
        assert not means[1].any()
        assert consortium.coordinator.info.round == 0


def test_every_start_and_the_end_of_the_study_carry_the_same_means(make: Callable[..., Made]) -> None:
    made, seen = make(), []

    def tap(sender: str, peer: str, wire: bytes) -> None:
        if sender == COORDINATOR:
            message: Any = decode(wire, TO_SITE, LARGE)
            if hasattr(message, "adapter"):
                state, info = parse_adapter(message.adapter, where="test")
                session = getattr(message, "session", None)
                seen.append((session.purpose if session else "end", info.round, state[CLASS_MEANS]))

    result = made.run(tap)
    assert [(purpose, number) for purpose, number, _ in seen] == [
        *[(PURPOSE, 0)] * 3,
        *[("update", 0)] * 3,
        *[("update", 1)] * 3,
        *[("end", 2)] * 3,
    ]
    assert not any(means.any() for purpose, _, means in seen if purpose == PURPOSE)
    later = [means for purpose, _, means in seen if purpose != PURPOSE]
    assert all(torch.equal(means, later[0]) for means in later)
    assert later[0].any()
    # They are no part of the model.
    assert CLASS_MEANS not in result.state
    assert CLASS_MEANS in read_adapter(made.state() / FINAL_FILE)[0]


def test_the_end_of_the_sum_names_the_bytes_of_the_first_round(make: Callable[..., Made]) -> None:
    seen: list[Any] = []
    with make().open() as consortium:
        sum_means(consortium, lambda sender, peer, wire: seen.append((sender, wire)))
        (end, *_) = [decode(wire, TO_SITE, LARGE) for sender, wire in seen if wire[2:11] == b"round-end"]
        start: Any = decode(hold(consortium, "round-start"), TO_SITE, LARGE)
        assert isinstance(end, RoundEnd)
        assert site_module.sha256(start.adapter).digest() == end.adapter_sha256
        assert start.session.round == end.session.round == 1


@pytest.mark.parametrize("method", ["facmic", "faa-clip"])
def test_a_sites_update_is_one_that_aligned_to_its_own_moved_images(make: Callable[..., Made], method: str) -> None:
    made = make(method=method)
    with made.open() as consortium:
        sum_means(consortium)
        constants = consortium.coordinator.constants
        start = start_state(made.toy.study, made.toy.method, made.data.shared)
        trainer = consortium.trainers[NAME]

        def trained(shared: Any) -> dict[str, Any]:
            result = train_locally(
                made.toy.method,
                start,
                trainer.part,
                shared,
                made.toy.study.training,
                seed=derive_seed(made.toy.study.digest(), NAME, made.toy.study.seed, 1),
                carried=Carried(),
                held_out=trainer.held_out,
            )
            return dict(Update.between(trainer.layout, start, result.state, result.loss).blocks)

        whole_round(consortium)
        sent = trainer.update(1, {**start, **constants}, site_module.sha256(b"").hexdigest())
        aligned = trained(with_proxies(made.data.shared, trainer.part, constants))
        plain = trained(made.data.shared)
        assert all(np.array_equal(sent.blocks[name], aligned[name]) for name in aligned)
        assert not np.array_equal(sent.blocks["adapter"], plain["adapter"])


def test_sites_whose_classes_were_all_left_out_train_without_alignment(make: Callable[..., Made]) -> None:
    made = make(counts=((3, 3, 3), (3, 3, 3), (3, 3, 4)))
    plain = make("plain", counts=((3, 3, 3), (3, 3, 3), (3, 3, 4)), reference={"source": "fraction"})
    result = made.run()
    assert result.omitted == ("ash", "beech", "cedar")
    # The other study's hash, and with it the order of batches, is another; so the seed is taken from this one.
    with plain.open() as consortium:
        for trainer in consortium.trainers.values():
            object.__setattr__(trainer, "study", made.toy.study)
        whole_round(consortium)
        whole_round(consortium)
        assert all(torch.equal(consortium.coordinator.state[name], tensor) for name, tensor in result.state.items())


def test_class_counts_are_summed_exactly_and_only_the_sum_is_seen(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[Any] = []

    honest = coordinator_module.means_of

    def spy(total: Any, *rest: Any) -> Any:
        totals.append(total)
        return honest(total, *rest)

    monkeypatch.setattr(coordinator_module, "means_of", spy)
    made = make(counts=((0, 11, 5), (0, 0, 7), (300, 2, 1)))
    with made.open() as consortium:
        sum_means(consortium)
    (total,) = totals
    assert total[CLASS_COUNTS].tolist() == [300.0, 13.0, 13.0]
    assert total[CLASS_SUMS].shape == (3 * WIDTH,)


def test_a_sites_own_model_holds_no_means(make: Callable[..., Made]) -> None:
    made = make(personalisation={"fine_tune_epochs": 1}, rounds=1)
    result = made.run()
    assert set(result.personal) == {"site-1", "site-2", "site-3"}
    assert all(own.keys() == result.state.keys() for own in result.personal.values())


def test_a_server_with_momentum_moves_the_adapter_and_not_the_means(make: Callable[..., Made]) -> None:
    made = make(server={"optimiser": "fedadam", "lr": 0.01})
    with made.open() as consortium:
        sum_means(consortium)
        means = consortium.coordinator.constants[CLASS_MEANS]
        whole_round(consortium)
        assert not any(CLASS_MEANS in name for name in consortium.coordinator.memory)
    with made.open() as consortium:  # moments and means are read back apart
        assert torch.equal(consortium.coordinator.constants[CLASS_MEANS], means)
        whole_round(consortium)
        assert CLASS_MEANS not in consortium.coordinator.state


# --- what is written down ----------------------------------------------------------------------------------------


def test_the_record_says_who_and_which_and_no_count(make: Callable[..., Made]) -> None:
    made, watch = make(counts=((7, 3, 12), (8, 4, 9), (9, 3, 40))), Notes()
    result = made.run(watch=watch)
    record = json.loads(made.toy.run.class_means.read_bytes())
    assert set(record) == {"cohort", "classes", "omitted", "bytes_up", "bytes_down", "seconds"}
    assert record["cohort"] == ["site-1", "site-2", "site-3"]
    assert record["classes"] == ["ash", "beech", "cedar"]
    assert record["omitted"] == ["beech"]
    assert record["bytes_up"] > 0
    assert record["bytes_down"] > 0
    assert result.omitted == ("beech",)
    assert any("summed, once" in text and "beech" in text for text in watch.texts)
    assert [line["round"] for line in made.toy.run.read_rounds()] == [1, 2]
    entries = [json.loads(line) for line in (made.toy.run.homes / NAME / "ledger.jsonl").read_bytes().splitlines()]
    vectors = [entry for entry in entries if entry["message_type"] == "masked-vector"]
    assert [entry["message_id"].split("/")[1:5] for entry in vectors] == [
        ["1", PURPOSE, "0", "0"],
        ["1", "update", "0", "0"],
        ["2", "update", "0", "0"],
    ]
    assert all(verify(path).ok for path in made.toy.run.root.rglob("ledger.jsonl"))


def test_no_file_of_the_run_folder_holds_a_count(make: Callable[..., Made]) -> None:
    counts = ((10_007, 1_009, 5), (10_009, 1_013, 3), (9_973, 1_019, 2))
    made = make(counts=counts, training={"lr": 1e-3, "batch_size": 256}, rounds=1)
    assert made.run().omitted == ("cedar",)
    numbers = {number for own in (*counts, map(sum, zip(*counts, strict=True))) for number in own if number > 100}
    rare = np.concatenate([site.train.features[site.train.labels == 2] for site in made.data.sites])
    sums = rare.astype(np.float64).sum(axis=0)
    scales = [2.0**f for f in range(31)]
    patterns = {struct.pack(kind, value) for value in sums for kind in ("<d", "<f")}
    patterns |= {struct.pack("<i", round(v * s)) for v in sums for s in scales if 2**20 < abs(v * s) < 2**31}
    patterns |= {struct.pack(kind, count) for count in numbers for kind in ("<d", "<q", ">q")}
    either = b"|".join(str(number).encode() for number in numbers)
    text = re.compile(rb"(?<![0-9a-fA-F.])(" + either + rb")(\.0)?(?![0-9a-fA-F.])")
    looked = 0
    for path in made.toy.run.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            looked += 1
            assert not any(pattern in content for pattern in patterns), path
            if path.suffix in (".json", ".jsonl", ".toml"):
                found = text.search(content)
                assert found is None, (path, found)
    assert looked > 20
    means = read_adapter(made.toy.run.coordinator / "checkpoint" / "round-00001.safetensors")[0][CLASS_MEANS]
    assert not means[2].any()


def test_the_model_card_names_what_was_left_out(make: Callable[..., Made], toy_results: Callable[..., Any]) -> None:
    made = make()
    card = model_card(replace(toy_results(made.toy), omitted=("beech",)))
    assert card["reference"]["source"] == "class-means"
    assert card["reference"]["omitted"] == ["beech"]
    other = make("other", reference={"source": "fraction"})
    assert "omitted" not in model_card(toy_results(other.toy))["reference"]


# --- studies without it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"reference": {"source": "fraction"}}, {"facmic": {"adaptation_weight": 0.0}}])
def test_a_study_that_aligns_to_nothing_of_the_kind_is_as_before(
    make: Callable[..., Made], changes: dict[str, Any]
) -> None:
    made = make(**changes)
    with made.open() as consortium:
        study, roster = made.toy.study, consortium.roster.roster
        assert set(roster.vectors) == {"update"}
        assert b"class" not in roster.to_bytes()
        assert 'purposes = ["update"]' in (made.toy.run.homes / NAME / "policy.toml").read_text()
        coordinator = consortium.coordinator
        assert coordinator.layout.constants == {}
        assert not coordinator.means_due
        start: Any = decode(hold(consortium, "round-start"), TO_SITE, LARGE)
        info = AdapterInfo(study.digest(), "facmic", 0, made.backbone)
        assert start.adapter == dump_adapter(start_state(study, made.toy.method, made.data.shared), info)
        assert start.session.purpose == "update"
        answer = refusal(consortium.sites[NAME].handle(changed(encode(start), purpose=PURPOSE)))
        assert answer.code is Refusal.WRONG_SESSION
        assert not (consortium.sites[NAME].folder / MEANS_FILE).exists()
    names = {path.name for path in made.toy.run.root.rglob("*")}
    assert not any("class-means" in name for name in names)


def test_a_study_with_it_asks_policies_for_both_sums(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        for path in made.toy.run.root.rglob("policy.toml"):
            assert 'purposes = ["update", "class-means"]' in path.read_text()
        blocks = {block.name: block for block in consortium.roster.roster.blocks(PURPOSE)}
        assert blocks[CLASS_SUMS].clip == blocks[CLASS_COUNTS].clip == 30.0  # the largest training count
        assert (blocks[CLASS_SUMS].size, blocks[CLASS_COUNTS].size) == (3 * WIDTH, 3)
        assert not blocks[CLASS_SUMS].weighted


def test_limits_fit_the_longer_vector(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        roster, limits = consortium.roster.roster, consortium.coordinator.limits
        assert limits.vector_bytes == max(roster.wire_size("update"), roster.wire_size(PURPOSE))


def test_a_site_whose_policy_does_not_allow_it_gives_nothing(make: Callable[..., Made]) -> None:
    made = make(retries=0)
    with made.open():
        pass
    policy = made.toy.run.homes / NAME / "policy.toml"
    policy.write_text(policy.read_text().replace('["update", "class-means"]', '["update"]'))
    with pytest.raises(RoundError, match="class means") as caught:
        made.run()
    assert NAME in caught.value.where
    assert "policy" in caught.value.where
    entries = [json.loads(line) for line in (made.toy.run.homes / NAME / "ledger.jsonl").read_bytes().splitlines()]
    assert [entry["rule"] for entry in entries if entry["outcome"] == "refused"] == ["aggregation.purposes"]
    assert not any(entry["message_type"] == "masked-vector" for entry in entries)


# --- everybody or nobody -----------------------------------------------------------------------------------------


@dataclass
class Away(ScriptedNetwork):
    """A site is silent from a stage of the sum of class means on, in its first tries."""

    site: str = "site-2"
    stage: str = "advertise"
    tries: int = 1

    def reaches(self, site: str, tag: str) -> bool:
        order = ("round-start", "advert-list", "share-delivery", "survivor-set", "unmask-request", "round-end")
        order += ("batch", "cosigned")
        stages = ("advertise", "share", "mask", "agree", "unmask")
        number, attempt = self.coordinator.position
        gone = number == 0 and attempt < self.tries and order.index(tag) >= stages.index(self.stage)
        return not (gone and site == self.site)


def away(made: Made, consortium: Consortium, clock: SimulatedClock, **fields: Any) -> SimulatedLine:
    return SimulatedLine(clock, Away(made.toy.study.faults, consortium.coordinator, clock, **fields), None)


@pytest.mark.parametrize("stage", ["advertise", "share", "mask", "agree", "unmask"])
def test_without_one_site_nothing_is_summed_and_with_it_all_is(
    make: Callable[..., Made], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors: list[bytes] = []
    honest = site_module.encode

    def spy(parts: Any, *rest: Any) -> Any:
        result = honest(parts, *rest)
        if CLASS_SUMS in parts:
            vectors.append(result.words.tobytes())
        return result

    monkeypatch.setattr(site_module, "encode", spy)
    made, clock, watch = make(counts=(*EVEN, (11, 11, 11))), SimulatedClock(), Notes()
    with made.open(clock=clock) as consortium:
        line = away(made, consortium, clock, stage=stage)
        sum_class_means(made.toy.study, made.classes, consortium, made.toy.run, watch, line)
        # Three of four are enough for a round, not for this. From the set on all vectors are in, and t answers suffice.
        before_the_set = stage in ("advertise", "share", "mask")
        assert any("wrong-cohort" in text for text in watch.texts) is before_the_set
        assert json.loads(made.toy.run.class_means.read_bytes())["cohort"] == list(consortium.sites)
        assert len(set(vectors)) == 4  # of each site one vector, in every attempt
        attempts = json.loads((made.state("site-3") / MEANS_FILE).read_bytes())["attempt"]
        assert attempts == (1 if before_the_set else 0)
        whole_round(consortium)


def test_a_site_that_stays_away_pauses_the_study_and_its_return_ends_the_pause(make: Callable[..., Made]) -> None:
    made, clock = make(retries=1), SimulatedClock()
    with made.open(clock=clock) as consortium:
        line = away(made, consortium, clock, tries=99)
        with pytest.raises(RoundError, match="class means were not summed in 2 tries") as caught:
            sum_class_means(made.toy.study, made.classes, consortium, made.toy.run, Silent(), line)
        assert "site-2 (advertise: timeout)" in caught.value.where
        assert "--resume" in caught.value.remedy
        assert not made.toy.run.class_means.exists()
        assert consortium.coordinator.checkpoints.newest(study=made.toy.study.digest(), backbone=made.backbone) is None
    paused = made.run()
    undisturbed = make("undisturbed").run()
    assert dump_adapter(paused.state, paused.info) != b""
    assert all(torch.equal(paused.state[name], tensor) for name, tensor in undisturbed.state.items())


def test_update_rounds_after_it_lose_sites_as_before(make: Callable[..., Made]) -> None:
    drop = {"drop": [{"site": "site-4", "round": 1, "stage": "mask"}]}
    made = make(counts=(*EVEN, (11, 11, 11)), faults=drop)
    made.run()
    first, second = made.toy.run.read_rounds()
    assert first["released"]
    assert first["participants"] == ["site-1", "site-2", "site-3"]
    assert second["participants"] == ["site-1", "site-2", "site-3", "site-4"]
    assert json.loads(made.toy.run.class_means.read_bytes())["cohort"] == second["participants"]


def test_scripted_faults_of_round_one_are_not_played_in_the_sum(make: Callable[..., Made]) -> None:
    faults = {
        "dishonest_share": [{"site": "site-3", "round": 1, "kind": "dealt"}],
        "lying_coordinator": [{"round": 1, "lie": "small-cohort"}],
    }
    made = make(counts=(*EVEN, (11, 11, 11)), faults=faults)
    made.run()
    assert json.loads((made.state() / MEANS_FILE).read_bytes())["attempt"] == 0


def test_what_is_not_protected_a_round_without_a_site_beside_the_class_sums(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threat model says so: with BatchNorm's moments of the others, the lost site's mean feature comes out."""
    totals: list[Any] = []

    honest = coordinator_module.means_of

    def spy(total: Any, *rest: Any) -> Any:
        totals.append({name: values.copy() for name, values in total.items()})
        return honest(total, *rest)

    monkeypatch.setattr(coordinator_module, "means_of", spy)
    drop = {"drop": [{"site": "site-4", "round": 1, "stage": "advertise"}]}
    made = make(counts=(*EVEN, (2, 4, 24)), faults=drop, rounds=1, training={"lr": 1e-6, "batch_size": 8})
    state = made.run().state
    assert made.toy.run.read_rounds()[0]["participants"] == ["site-1", "site-2", "site-3"]
    weight, bias = (state[f"adapter.project_in.{name}"].double().numpy() for name in ("weight", "bias"))
    others = np.linalg.solve(weight, state["adapter.norm.running_mean"].double().numpy() - bias)
    counted = sum(len(site.train) for site in made.data.sites[:3])
    guess = (totals[0][CLASS_SUMS].reshape(3, WIDTH).sum(axis=0) - counted * others) / 30
    assert np.allclose(guess, made.data.sites[3].train.features.mean(axis=0, dtype=np.float64), atol=1e-2)
