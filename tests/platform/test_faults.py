"""Rounds in which things go wrong, as a study scripts them: the right adapter in the end, or a clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wardround.platform.adapter_file import AdapterInfo, dump_adapter
from wardround.platform.consortium import layout_of, open_consortium
from wardround.platform.engines.local import SimulatedLine
from wardround.platform.enrolment import draw_roster
from wardround.platform.errors import RoundError
from wardround.platform.faults import ScriptedNetwork, SimulatedClock
from wardround.platform.methods.facmic import Facmic
from wardround.platform.round_loop import run_rounds
from wardround.platform.run_folder import RunFolder
from wardround.platform.server import apply_mean
from wardround.platform.terms import start_state
from wardround.platform.trainer import LocalTrainer
from wardround.platform.watching import Silent
from wardround.privacy.atomic import make_private
from wardround.privacy.identity import Identity
from wardround.privacy.messages import sha256_hex
from wardround.privacy.secure_aggregation.encoding import decode_sum, encode
from wardround.privacy.secure_aggregation.primitives import rounding_key
from wardround.privacy.secure_aggregation.session import SessionId

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclass
class Notes(Silent):
    """Remembers what a person would have been told."""

    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


@dataclass
class Ran:
    """A study of five toy sites after its rounds."""

    study: Any
    data: Any
    run: RunFolder
    adapter: bytes
    records: list[dict[str, Any]]
    notes: list[str]

    @property
    def released(self) -> list[dict[str, Any]]:
        return [record for record in self.records if record["released"]]


class Player:
    """Runs toy studies with faults, and works out by plain sums what they should have given."""

    def __init__(
        self, root: Path, make_study: Callable[..., Any], make_data: Callable[..., Any], backbone: str
    ) -> None:
        self.root, self.make_study, self.make_data, self.backbone = root, make_study, make_data, backbone

    def play(self, name: str = "run", *, sites: int = 5, error: bool = False, **values: Any) -> Ran:
        study, data = self.make_study(**values), self.make_data(sites=sites)
        folder = self.root / name
        run = RunFolder(folder) if folder.exists() else RunFolder.create(folder, study)
        clock, watch = SimulatedClock(), Notes()
        with open_consortium(study, Facmic(), data, self.backbone, run, clock) as consortium:
            network = ScriptedNetwork(study.faults, consortium.coordinator, clock) if study.faults else None
            line = SimulatedLine(clock, network, None)
            if error:
                with pytest.raises(RoundError) as paused:
                    run_rounds(study, Facmic(), data, consortium, run, watch, line)
                watch.note(str(paused.value))
            else:
                run_rounds(study, Facmic(), data, consortium, run, watch, line)
            adapter = dump_adapter(consortium.coordinator.state, consortium.coordinator.info)
        return Ran(study, data, run, adapter, run.read_rounds(), watch.texts)

    def reference(self, ran: Ran, rounds: int) -> bytes:
        """The adapter after ``rounds`` rounds from plain sums of the encodings of each round's participants."""
        study, data, method = ran.study, ran.data, Facmic()
        layout = layout_of(method, data.shared)
        keys = {site.name: Identity.from_seed(site.name.encode().ljust(32)).public_key for site in data.sites}
        roster = draw_roster(study, method, layout, keys, {site.name: len(site.train) for site in data.sites})
        trainers = {}
        for site in data.sites:
            folder = self.root / "reference" / site.name
            make_private(folder)
            for left in folder.iterdir():
                left.unlink()
            trainers[site.name] = LocalTrainer(
                site.name,
                study,
                method,
                layout,
                site.train.training(),
                site.validation.training(),
                data.shared,
                folder,
            )
        state = start_state(study, method, data.shared)
        blocks = roster.blocks("update")
        for record in ran.released[:rounds]:
            number = record["round"]
            digest = sha256_hex(
                dump_adapter(state, AdapterInfo(study.digest(), method.name, number - 1, self.backbone))
            )
            total = np.zeros(roster.size("update"), dtype=np.uint32)
            for name in self._trained(ran, number):
                update = trainers[name].update(number, state, digest)
                key = rounding_key(SessionId(roster.study, number, "update"), name)
                words = encode(update.blocks, blocks, roster.weight_of(name), key).words
                if name in record["participants"]:
                    total += words
            weights = [roster.weight_of(name) for name in record["participants"]]
            values = decode_sum(total, blocks, weights, len(roster.sites))
            state, _ = apply_mean(layout, state, {name: value / sum(weights) for name, value in values.items()})
        return dump_adapter(state, AdapterInfo(study.digest(), method.name, rounds, self.backbone))

    @staticmethod
    def _trained(ran: Ran, number: int) -> list[str]:
        """Sites that the round's opening reached in some try: they train even where their vector did not arrive."""
        tries = [record for record in ran.records if record["round"] == number]
        lost = [{d["site"] for d in record["dropped"] if d["stage"] == "advertise"} for record in tries]
        return [site.name for site in ran.data.sites if not all(site.name in gone for gone in lost)]


@pytest.fixture
def player(tmp_path: Path, toy_study: Callable[..., Any], toy_data: Callable[..., Any], BACKBONE: str) -> Player:
    return Player(tmp_path, toy_study, toy_data, BACKBONE)


def test_the_reference_is_right_where_nothing_goes_wrong(player: Player) -> None:
    ran = player.play(rounds=3)
    assert ran.adapter == player.reference(ran, 3)
    assert [record["attempt"] for record in ran.records] == [0, 0, 0]


@pytest.mark.parametrize("stage", ["advertise", "share", "mask", "agree", "unmask"])
def test_a_site_dropped_at_any_stage_is_named_and_the_round_goes_on(player: Player, stage: str) -> None:
    ran = player.play(rounds=2, faults={"drop": [{"site": "site-2", "round": 1, "stage": stage}]})
    first, second = ran.records
    assert first["dropped"] == [{"site": "site-2", "stage": stage, "reason": "timeout"}]
    assert ("site-2" in first["participants"]) == (stage in ("agree", "unmask"))
    assert first["waited"] == pytest.approx(ran.study.round_timeout, abs=5)
    assert second["dropped"] == []
    assert len(second["participants"]) == 5
    assert any("site-2" in note and stage in note for note in ran.notes)
    assert ran.adapter == player.reference(ran, 2)


@pytest.mark.parametrize(("seconds", "late"), [(5.0, False), (50.0, True)])
def test_a_slow_site_is_waited_for_as_long_as_the_study_says(player: Player, seconds: float, late: bool) -> None:
    slow = [{"site": "site-4", "round": 1, "stage": "mask", "seconds": seconds}]
    ran = player.play(rounds=1, round_timeout=20.0, faults={"slow": slow})
    assert ("site-4" in ran.records[0]["participants"]) == (not late)
    assert ran.records[0]["waited"] == pytest.approx(20.0 if late else 5.0, abs=1.5)
    assert ran.adapter == player.reference(ran, 1)


def test_a_dropped_site_hears_nothing_of_the_end_of_its_round(player: Player) -> None:
    ran = player.play(rounds=3, faults={"drop": [{"site": "site-2", "round": 2, "stage": "mask"}]})
    heard = [
        json.loads(line)["round"]
        for line in (ran.run.homes / "site-2" / "ledger.jsonl").read_text().splitlines()
        if '"message_type":"round-end"' in line
    ]
    assert heard == [1, 3]


def test_too_few_release_nothing_and_the_round_is_tried_again(player: Player) -> None:
    drop = [{"site": f"site-{i}", "round": 2, "stage": "mask"} for i in (1, 3)]
    ran = player.play(rounds=3, faults={"drop": drop})
    assert [(r["round"], r["attempt"], r["released"]) for r in ran.records] == [
        (1, 0, True),
        (2, 0, False),
        (2, 1, True),
        (3, 0, True),
    ]
    failed = ran.records[1]
    assert failed["reason"].startswith("too-few at stage mask")
    assert failed["participants"] == []
    assert failed["train_loss"] is None
    assert {d["site"] for d in failed["dropped"]} == {"site-1", "site-3"}
    assert ran.adapter == player.reference(ran, 3)


def test_after_all_retries_the_run_pauses_and_goes_on_when_the_sites_are_back(player: Player) -> None:
    drop = [{"site": "site-1", "round": 2, "stage": "mask", "attempts": 9}]
    ran = player.play(sites=3, rounds=3, retries=1, error=True, faults={"drop": drop})
    assert [(r["round"], r["released"]) for r in ran.records] == [(1, True), (2, False), (2, False)]
    assert "paused" in ran.notes[-1]
    assert "When the sites are back" in ran.notes[-1]
    assert "site-1 (mask: timeout)" in ran.notes[-1]
    ran = player.play(sites=3, rounds=3, retries=1)
    assert [r["round"] for r in ran.released] == [1, 2, 3]
    assert ran.adapter == player.reference(ran, 3)
    assert ran.adapter == player.play("undisturbed", sites=3, rounds=3).adapter


def test_after_a_signed_set_the_same_session_is_asked_again(player: Player) -> None:
    """Three of five are silent at the end: the set stands, no new keys are drawn, and the next try takes it up."""
    drop = [{"site": f"site-{i}", "round": 1, "stage": "unmask"} for i in (1, 2, 3)]
    ran = player.play(rounds=1, faults={"drop": drop})
    assert [(r["attempt"], r["released"]) for r in ran.records] == [(0, False), (0, True)]
    assert len(ran.records[1]["participants"]) == 5
    assert ran.adapter == player.reference(ran, 1)


@pytest.mark.parametrize("lie", ["substituted-key", "small-cohort", "changed-unmask"])
def test_a_lie_is_refused_by_every_site_and_the_honest_try_gives_the_right_adapter(player: Player, lie: str) -> None:
    ran = player.play(rounds=2, faults={"lying_coordinator": [{"round": 1, "lie": lie}]})
    code = {"substituted-key": "bad-signature", "small-cohort": "too-few", "changed-unmask": "changed-request"}[lie]
    lied = ran.records[0]
    assert not lied["released"]
    assert {d["reason"].split(" ")[0] for d in lied["dropped"]} == {code}
    assert len(lied["dropped"]) == 5
    assert any(f"lied, as scripted: {lie}" in note for note in ran.notes)
    assert [r["round"] for r in ran.released] == [1, 2]
    assert ran.adapter == player.reference(ran, 2)


@pytest.mark.parametrize("lie", ["two-adapters", "two-survivor-sets"])
def test_a_lie_that_splits_the_sites_ends_in_a_clear_refusal_and_no_share_leaves(player: Player, lie: str) -> None:
    ran = player.play(rounds=3, error=True, faults={"lying_coordinator": [{"round": 2, "lie": lie}]})
    assert [r["round"] for r in ran.released] == [1]
    assert "round 2 released nothing in 3 tries" in ran.notes[-1]
    assert "Sites refuse" in ran.notes[-1]  # nobody is away, so waiting mends nothing
    assert "are back" not in ran.notes[-1]
    assert ran.adapter == player.reference(ran, 1)
    for site in ran.data.sites:
        text = (ran.run.homes / site.name / "ledger.jsonl").read_text()
        sent = [line for line in text.splitlines() if '"direction":"out"' in line and '"round":2,' in line]
        assert sent
        assert not any('"message_type":"unmask-answer"' in line for line in sent)


def test_a_dealer_of_unopenable_shares_is_named_and_left_out_of_the_next_try(player: Player) -> None:
    cheat = [{"site": "site-3", "round": 1, "kind": "dealt"}]
    ran = player.play(rounds=2, faults={"dishonest_share": cheat})
    refused, without, whole = ran.records
    assert not refused["released"]
    assert refused["dropped"] == [{"site": "site-1", "stage": "mask", "reason": "unopenable-share (site-3)"}]
    assert "site-3 is accused" in refused["reason"]
    assert without["participants"] == ["site-1", "site-2", "site-4", "site-5"]
    assert len(whole["participants"]) == 5
    assert ran.adapter == player.reference(ran, 2)


def test_without_retries_an_accused_dealer_stays_and_its_victim_drops(player: Player) -> None:
    cheat = [{"site": "site-3", "round": 1, "kind": "dealt"}]
    ran = player.play(rounds=1, retries=0, faults={"dishonest_share": cheat})
    assert ran.records[0]["participants"] == ["site-2", "site-3", "site-4", "site-5"]
    assert ran.adapter == player.reference(ran, 1)


def test_a_wrong_opened_share_names_its_site_and_changes_nothing(player: Player) -> None:
    ran = player.play(rounds=1, faults={"dishonest_share": [{"site": "site-3", "round": 1, "kind": "opened"}]})
    assert ran.records[0]["dropped"] == [{"site": "site-3", "stage": "unmask", "reason": "dishonest-share"}]
    assert len(ran.records[0]["participants"]) == 5
    assert ran.adapter == player.reference(ran, 1)


def test_a_dealer_of_another_secret_is_named_and_the_same_set_is_tried_again(player: Player) -> None:
    ran = player.play(rounds=1, faults={"dishonest_share": [{"site": "site-3", "round": 1, "kind": "secret"}]})
    failed, released = ran.records
    assert failed["reason"].startswith("dishonest-dealer at stage finish")
    assert failed["reason"].endswith("(site-3)")
    assert released["attempt"] == 1
    assert released["participants"] == [f"site-{i}" for i in range(1, 6)]
    assert ran.adapter == player.reference(ran, 1)


def test_twenty_rounds_with_a_random_dropout_every_second_one_and_a_lying_coordinator(player: Player) -> None:
    draw = np.random.default_rng(20)
    stages = ["advertise", "share", "mask", "agree", "unmask"]
    drop = [
        {"site": f"site-{draw.integers(1, 6)}", "round": number, "stage": stages[draw.integers(5)]}
        for number in range(2, 21, 2)
    ]
    lies = [{"round": 7, "lie": "small-cohort"}, {"round": 11, "lie": "substituted-key"}]
    ran = player.play(rounds=20, faults={"drop": drop, "lying_coordinator": lies})
    assert [r["round"] for r in ran.released] == list(range(1, 21))
    assert {r["round"] for r in ran.records if not r["released"]} == {7, 11}
    assert {r["round"] for r in ran.released if r["dropped"]} == set(range(2, 21, 2))
    assert ran.adapter == player.reference(ran, 20)


@pytest.mark.parametrize("bits", [16, 12])
def test_a_packed_study_with_a_dropout_gives_the_plain_sum_of_its_encodings(player: Player, bits: int) -> None:
    ran = player.play(
        rounds=2,
        secure_aggregation={"bits": bits, "clip": 0.0, "weighting": "uniform"},
        faults={"drop": [{"site": "site-5", "round": 2, "stage": "mask"}]},
    )
    assert ran.adapter == player.reference(ran, 2)


def test_faults_and_patience_are_not_part_of_what_sites_agree_on(player: Player) -> None:
    plain = player.make_study(rounds=4)
    other = player.make_study(
        rounds=4, retries=7, round_timeout=3.0, faults={"drop": [{"site": "site-1", "round": 1, "stage": "mask"}]}
    )
    assert plain.digest() == other.digest()
    assert not plain.faults
    assert other.faults
