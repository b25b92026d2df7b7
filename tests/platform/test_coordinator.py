"""The coordinator's state machine: the sum is exact, and nothing a site sends can stop it or make it release less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform import site_machine as site_module
from wardround.platform.adapter_file import dump_adapter
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.errors import RoundError
from wardround.platform.update import BUFFERS, METRICS
from wardround.privacy.egress import COORDINATOR, Gate, Sealed
from wardround.privacy.ledger.log import verify
from wardround.privacy.messages import TO_COORDINATOR, Limits, decode, encode
from wardround.privacy.secure_aggregation.coordinator import CoordinatorSession
from wardround.privacy.secure_aggregation.unmasking import SecureSum

LARGE = Limits(100, 10**6, 10**6)
FROM_SITES = ("advert", "sealed-shares", "masked-vector", "agreement", "unmask-answer")
Opener = Callable[..., Any]


@pytest.fixture
def opened(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Opener:
    """``opened(sites, **changes)``: a consortium of that many sites, as a context manager."""

    @contextmanager
    def make(sites: int = 3, folder: str = "run", **changes: Any) -> Iterator[Consortium]:
        made = toy(tmp_path / folder, **changes)
        with open_consortium(made.study, made.method, toy_data(sites=sites), BACKBONE, made.run) as consortium:
            yield consortium

    return make


def run_round(
    consortium: Consortium,
    *,
    swap: Callable[[str, str, bytes], list[bytes]] = lambda sender, tag, wire: [wire],
    pick: Callable[[int], int] = lambda waiting: 0,
) -> None:
    """One round by hand. ``swap`` says what really arrives of each site's message, ``pick`` which one comes next."""
    coordinator = consortium.coordinator
    queue: list[tuple[str, str, str, bytes]] = [
        (COORDINATOR, parcel.peer, parcel.tag, parcel.wire) for parcel in coordinator.begin()
    ]
    while queue:
        sender, peer, tag, wire = queue.pop(pick(len(queue)))
        if peer == COORDINATOR:
            answers = [answer for sent in swap(sender, tag, wire) for answer in coordinator.handle(sender, sent)]
            origin = COORDINATOR
        else:
            answers, origin = list(consortium.sites[peer].handle(wire)), peer
        queue += [(origin, parcel.peer, parcel.tag, parcel.wire) for parcel in answers]


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[SecureSum]]:
    """What each site encoded (words, blocks, weight), by its weight's order, and what each session released."""
    encoded: dict[str, Any] = {}
    sums: list[SecureSum] = []
    honest_encode, honest_finish = site_module.encode, CoordinatorSession.finish
    honest_start = site_module.Site._start
    current: list[str] = []

    def start(self: Any, message: Any) -> Any:
        current.append(self.name)
        return honest_start(self, message)

    def spy(parts: Any, blocks: Any, weight: float, rounding: bytes | None) -> Any:
        result = honest_encode(parts, blocks, weight, rounding)
        encoded[current[-1]] = (result.words.copy(), {k: v.copy() for k, v in parts.items()}, blocks, weight)
        return result

    def finish(self: Any) -> SecureSum:
        sums.append(honest_finish(self))
        return sums[-1]

    monkeypatch.setattr(site_module.Site, "_start", start)
    monkeypatch.setattr(site_module, "encode", spy)
    monkeypatch.setattr(CoordinatorSession, "finish", finish)
    return encoded, sums


def signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word


# --- the sum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sites", "weighting"), [(3, "weighted"), (3, "uniform"), (5, "weighted")])
def test_the_released_sum_is_the_plain_sum_of_the_encodings_bit_for_bit(
    opened: Opener, spied: tuple[dict[str, Any], list[SecureSum]], sites: int, weighting: str
) -> None:
    encoded, sums = spied
    with opened(sites, secure_aggregation={"weighting": weighting}) as consortium:
        coordinator = consortium.coordinator
        for _ in range(2):
            before = {name: tensor.clone() for name, tensor in coordinator.state.items()}
            carry(coordinator, consortium.sites, coordinator.begin())
            names = sorted(encoded)
            assert names == sorted(consortium.sites)
            ring = sums[-1].ring
            # In whole Python numbers, one coordinate at a time: the slow way round.
            rows = [encoded[name][0].tolist() for name in names]
            plain = [sum(column) % 2**32 for column in zip(*rows, strict=True)]
            assert ring.tolist() == plain

            # The same adapter in the clear: decode the plain sum, divide by the weights, add to what was sent out.
            blocks = encoded[names[0]][2]
            weight = float(sum(encoded[name][3] for name in names))
            means, position = {}, 0
            for block in blocks:
                words = plain[position : position + block.size]
                means[block.name] = np.array([signed(word) / 2**block.fraction_bits / weight for word in words])
                position += block.size
            expected, position = dict(before), 0
            for name, shape in coordinator.layout.parameters:
                step = means["adapter"][position : position + int(np.prod(shape))].reshape(shape)
                expected[name] = (before[name].double() + torch.from_numpy(step)).float()
                position += int(np.prod(shape))
            position = 0
            for name, width in coordinator.layout.norms:
                first = means[BUFFERS][position : position + width]
                second = means[BUFFERS][position + width : position + 2 * width]
                expected[f"{name}.running_mean"] = torch.from_numpy(first).float()
                expected[f"{name}.running_var"] = torch.from_numpy(np.maximum(second - first**2, 0)).float()
                position += 2 * width
            assert dump_adapter(coordinator.next_state, coordinator.info) == dump_adapter(expected, coordinator.info)
            assert coordinator.outcome is not None
            assert coordinator.outcome.train_loss == means[METRICS][0]
            carry(coordinator, consortium.sites, coordinator.commit())


def test_the_mean_is_the_weighted_mean_of_the_updates(
    opened: Opener, spied: tuple[dict[str, Any], list[SecureSum]]
) -> None:
    encoded, _ = spied
    with opened() as consortium:
        coordinator = consortium.coordinator
        (block,) = coordinator.layout.blocks
        before = coordinator.layout.flatten(block, coordinator.state).astype(np.float64)
        carry(coordinator, consortium.sites, coordinator.begin())
        weights = {name: consortium.roster.roster.weight_of(name) for name in encoded}
        assert len(set(weights.values())) == 3
        mean = sum(weights[name] * encoded[name][1]["adapter"].astype(np.float64) for name in encoded)
        after = coordinator.layout.flatten(block, coordinator.next_state).astype(np.float64)
        # Stochastic or nearest rounding errs by less than one step a site; float32 adds half a unit in the last place.
        step = 3 * 2.0**-20 / sum(weights.values()) + 1e-6
        np.testing.assert_allclose(after - before, mean / sum(weights.values()), rtol=0, atol=step)
        assert np.abs(after - before).max() > 10 * step


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_messages_does_not_matter(opened: Opener, seed: int) -> None:
    with opened() as consortium:
        carry(consortium.coordinator, consortium.sites, consortium.coordinator.begin())
        expected = dump_adapter(consortium.coordinator.next_state, consortium.coordinator.info)
        generator = np.random.default_rng(seed)
        run_round(consortium, pick=lambda waiting: int(generator.integers(waiting)))
        assert dump_adapter(consortium.coordinator.next_state, consortium.coordinator.info) == expected


def test_every_message_twice_changes_nothing(opened: Opener) -> None:
    with opened() as consortium:
        run_round(consortium, swap=lambda sender, tag, wire: [wire, wire])
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released
        assert outcome.survivors == ("site-1", "site-2", "site-3")


def test_bytes_are_counted_as_they_travel(opened: Opener) -> None:
    seen: list[tuple[str, str, bytes]] = []
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin(), lambda *parcel: seen.append(parcel))
        outcome = coordinator.outcome
        assert outcome is not None
        assert outcome.bytes_up == sum(len(wire) for _, to, wire in seen if to == COORDINATOR)
        assert outcome.bytes_down == sum(len(wire) for sender, _, wire in seen if sender == COORDINATOR)
        record = outcome.record(1, {"balanced_accuracy": None})
        assert record["participants"] == ["site-1", "site-2", "site-3"]
        assert record["dropped"] == []
        assert set(record["seconds"]) == {"advertise", "share", "mask", "agree", "unmask", "total"}  # type: ignore[call-overload]


# --- sites that send garbage -----------------------------------------------------------------------------------------


def assert_nothing_was_released(consortium: Consortium) -> None:
    outcome = consortium.coordinator.outcome
    assert outcome is not None
    assert not outcome.released
    assert outcome.survivors == ()
    with pytest.raises(RoundError, match="released nothing"):
        _ = consortium.coordinator.next_state
    with pytest.raises(RoundError):
        consortium.coordinator.commit()
    assert list(consortium.coordinator.checkpoints.folder.glob("round-*")) == []


@pytest.mark.parametrize("tag", FROM_SITES)
def test_garbage_of_one_site_of_three_ends_the_round_or_not_by_its_stage(opened: Opener, tag: str) -> None:
    """Before the masked vector all three are needed; afterwards two answers are enough for the sum of three."""
    with opened() as consortium:
        run_round(
            consortium, swap=lambda sender, kind, wire: [b"garbage"] if (sender, kind) == ("site-2", tag) else [wire]
        )
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        if tag in ("agreement", "unmask-answer"):
            assert outcome.released
            assert outcome.survivors == ("site-1", "site-2", "site-3")
        else:
            assert_nothing_was_released(consortium)
            assert "too-few" in outcome.reason
            assert dict(outcome.dropped)["site-2"][1] == "malformed"
        assert verify(consortium.ledgers[COORDINATOR].path).ok


@pytest.mark.parametrize("tag", FROM_SITES)
def test_garbage_of_one_site_of_five_costs_that_site_only(
    opened: Opener, spied: tuple[dict[str, Any], list[SecureSum]], tag: str
) -> None:
    encoded, sums = spied
    with opened(5) as consortium:
        run_round(
            consortium, swap=lambda sender, kind, wire: [b"\x00"] if (sender, kind) == ("site-4", tag) else [wire]
        )
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released
        summed = set(outcome.survivors)
        late = tag in ("agreement", "unmask-answer")
        assert summed == {"site-1", "site-2", "site-3", "site-5"} | ({"site-4"} if late else set())
        plain = np.sum([encoded[name][0] for name in sorted(summed)], axis=0, dtype=np.uint32)
        np.testing.assert_array_equal(sums[-1].ring, plain)


def test_a_message_in_another_sites_name_costs_the_sender(opened: Opener) -> None:
    stolen: list[bytes] = []

    def swap(sender: str, tag: str, wire: bytes) -> list[bytes]:
        if (sender, tag) == ("site-1", "advert"):
            stolen.append(wire)
        return stolen[:1] if (sender, tag) == ("site-2", "advert") else [wire]

    with opened(5) as consortium:
        run_round(consortium, swap=swap)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released
        assert outcome.survivors == ("site-1", "site-3", "site-4", "site-5")


def test_too_many_garbled_sites_release_nothing(opened: Opener) -> None:
    with opened(5) as consortium:
        assert consortium.roster.roster.thresholds.t == 4
        run_round(
            consortium,
            swap=lambda sender, tag, wire: (
                [b""] if sender in ("site-1", "site-2") and tag == "unmask-answer" else [wire]
            ),
        )
        assert_nothing_was_released(consortium)


def test_a_second_different_message_in_a_stage_leaves_the_first_standing(opened: Opener) -> None:
    def swap(sender: str, tag: str, wire: bytes) -> list[bytes]:
        message = decode(wire, TO_COORDINATOR, LARGE)
        other = encode(msgspec.structs.replace(message, signature=bytes(64)))
        return [wire, other] if sender == "site-1" else [wire]

    with opened() as consortium:
        run_round(consortium, swap=swap)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released
        assert outcome.survivors == ("site-1", "site-2", "site-3")


@pytest.mark.parametrize("tag", FROM_SITES)
def test_any_change_to_a_sites_message_drops_it_or_changes_nothing(
    opened: Opener, spied: tuple[dict[str, Any], list[SecureSum]], tag: str
) -> None:
    encoded, sums = spied
    with opened(rounds=1000) as consortium:

        @settings(max_examples=12, deadline=None)
        @given(data=st.data())
        def attempt(data: st.DataObject) -> None:
            def swap(sender: str, kind: str, wire: bytes) -> list[bytes]:
                if (sender, kind) != ("site-3", tag):
                    return [wire]
                place = data.draw(st.integers(0, len(wire) - 1))
                flip = wire[:place] + bytes([wire[place] ^ data.draw(st.integers(1, 255))]) + wire[place + 1 :]
                return [data.draw(st.sampled_from([flip, wire[:place], wire + flip[:9], b"", b"\x93\xa6advert"]))]

            sums.clear()
            run_round(consortium, swap=swap)
            outcome = consortium.coordinator.outcome
            assert outcome is None or outcome.released == bool(sums)
            if sums:
                plain = np.sum([encoded[name][0] for name in sums[0].survivors], axis=0, dtype=np.uint32)
                np.testing.assert_array_equal(sums[0].ring, plain)
                assert len(sums[0].survivors) == 3
            while not (consortium.coordinator.outcome and consortium.coordinator.outcome.released):
                run_round(consortium)  # honestly: what was damaged once costs no more than a try
            carry(consortium.coordinator, consortium.sites, consortium.coordinator.commit())

        attempt()
        assert verify(consortium.ledgers[COORDINATOR].path).ok


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), sender=st.sampled_from(["site-1", "stranger", ""]))
def test_bytes_outside_a_round_are_noted_and_ignored(shared: Consortium, data: bytes, sender: str) -> None:
    before = shared.ledgers[COORDINATOR].sequence
    assert shared.coordinator.handle(sender, data) == []
    assert shared.ledgers[COORDINATOR].sequence == before + 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Consortium]:
    """One idle consortium for tests that change nothing in it."""
    toy_module = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    made = toy_module.make_toy(tmp_path_factory.mktemp("shared") / "run")
    with open_consortium(made.study, made.method, made.data, toy_module.BACKBONE, made.run) as consortium:
        yield consortium


def test_a_stranger_in_a_round_changes_nothing(opened: Opener) -> None:
    def swap(sender: str, tag: str, wire: bytes) -> list[bytes]:
        assert consortium.coordinator.handle("stranger", wire) == []
        return [wire]

    with opened() as consortium:
        run_round(consortium, swap=swap)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released


# --- attempts ------------------------------------------------------------------------------------------------------


def test_after_an_abort_the_next_attempt_gives_the_same_adapter(opened: Opener) -> None:
    late: list[bytes] = []

    def lose(sender: str, tag: str, wire: bytes) -> list[bytes]:
        if (sender, tag) == ("site-1", "advert"):
            late.append(wire)
            return [b"garbage"]
        return [wire]

    def repeat(sender: str, tag: str, wire: bytes) -> list[bytes]:
        return [late[0], wire] if (sender, tag) == ("site-1", "advert") else [wire]

    with opened() as consortium:
        run_round(consortium, swap=lose)
        assert_nothing_was_released(consortium)
        # The lost answer comes now, in the next attempt: it is late, and no reason to lose the site again.
        run_round(consortium, swap=repeat)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert outcome.released
        after_abort = dump_adapter(consortium.coordinator.next_state, consortium.coordinator.info)
    with opened(folder="fresh") as consortium:
        run_round(consortium)
        assert dump_adapter(consortium.coordinator.next_state, consortium.coordinator.info) == after_abort


def test_no_session_id_comes_twice(opened: Opener) -> None:
    seen = set()
    with opened() as consortium:
        for _ in range(3):
            for parcel in consortium.coordinator.begin():
                message = decode(parcel.wire, site_module.TO_SITE, LARGE)
                seen.add((message.session, parcel.peer))  # type: ignore[attr-defined]
    assert len(seen) == 9


def test_the_checkpoint_is_on_disk_before_sites_hear_of_it(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        carry(coordinator, consortium.sites, coordinator.begin())
        honest = Gate.release_many

        def release(self: Gate, batch: Any) -> list[Sealed]:
            assert (coordinator.checkpoints.folder / "round-00001.safetensors").is_file()
            return honest(self, batch)

        monkeypatch.setattr(Gate, "release_many", release)
        assert len(coordinator.commit()) == 3
        assert coordinator.info.round == 1


def test_a_round_can_be_committed_once(opened: Opener) -> None:
    with opened() as consortium:
        coordinator = consortium.coordinator
        with pytest.raises(RoundError):
            coordinator.commit()
        carry(coordinator, consortium.sites, coordinator.begin())
        coordinator.commit()
        with pytest.raises(RoundError):
            coordinator.commit()


def test_a_site_that_cannot_train_ends_the_round_of_three_clearly(opened: Opener) -> None:
    with opened() as consortium:
        site = consortium.sites["site-2"]
        part = site.trainer.part
        site.trainer = replace(site.trainer, part=type(part)(part.inputs[:1], part.labels[:1]))
        run_round(consortium)
        assert_nothing_was_released(consortium)
        outcome = consortium.coordinator.outcome
        assert outcome is not None
        assert dict(outcome.dropped) == {"site-2": ("advertise", "local-failure")}
