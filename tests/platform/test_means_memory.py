"""No door for a second sum of class means, nor for other means: what sites and coordinator refuse."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from wardround.platform.adapter_file import dump_adapter, parse_adapter
from wardround.platform.class_means import CLASS_MEANS, CLASS_SUMS, PURPOSE
from wardround.platform.consortium import Consortium
from wardround.platform.engines.local import SimulatedLine, carry
from wardround.platform.errors import CheckpointError, RoundError
from wardround.platform.faults import SimulatedClock
from wardround.platform.lost_state import SURVIVORS_FILE
from wardround.platform.means_loop import sum_class_means
from wardround.platform.means_memory import MEANS_FILE
from wardround.platform.progress import PROGRESS_FILE
from wardround.platform.site_machine import FINAL_FILE, Site
from wardround.platform.watching import Silent
from wardround.privacy.egress import COORDINATOR
from wardround.privacy.errors import LedgerError, Refusal, RosterError
from wardround.privacy.ledger.evidence import FOLDER, Evidence, EvidenceStore
from wardround.privacy.messages import (
    TO_SITE,
    Advert,
    AdvertList,
    MaskedVector,
    Receipt,
    RefusalNotice,
    RoundEnd,
    StudyEnd,
    decode,
    encode,
)

from .means_toy import (
    EVEN,
    LARGE,
    NAME,
    WIDTH,
    Made,
    builder,
    changed,
    files_of,
    hold,
    refusal,
    reply,
    sum_means,
    swapped,
    whole_round,
    with_means,
)


@pytest.fixture
def make(toy: Callable[..., Any], toy_data: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Callable[..., Made]:
    return builder(toy, toy_data, tmp_path, BACKBONE)


# --- a malicious coordinator at a site ---------------------------------------------------------------------------


@pytest.fixture
def opened(make: Callable[..., Made]) -> Iterator[tuple[Made, Consortium, Site]]:
    made = make()
    with made.open() as consortium:
        yield made, consortium, consortium.sites[NAME]


Opened = tuple[Made, Consortium, Site]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"round": 2}, Refusal.WRONG_SESSION),
        ({"round": 0}, Refusal.WRONG_SESSION),
        ({"sequence": 1}, Refusal.WRONG_SESSION),
        ({"purpose": "evaluation"}, Refusal.WRONG_SESSION),
        ({"purpose": "temperature"}, Refusal.WRONG_SESSION),
        ({"purpose": "update"}, Refusal.WRONG_SESSION),  # no round before the sum
        ({"settings": b"{}"}, Refusal.OTHER_ADAPTER),
        ({"adapter": b""}, Refusal.OTHER_ADAPTER),
    ],
    ids=str,
)
def test_another_start_than_that_of_the_sum_is_refused_and_leaves_no_trace(
    opened: Opened, fields: dict[str, Any], code: Refusal
) -> None:
    _, consortium, site = opened
    start = hold(consortium, "round-start")
    answer = refusal(site.handle(changed(start, **fields)))
    assert (answer.code, answer.stage) == (code, "start")
    assert files_of(site).keys() == {"roster.json", "split.json"}
    assert isinstance(reply(site.handle(start)), Advert)


def test_means_in_the_start_of_their_own_sum_are_refused(opened: Opened) -> None:
    _, consortium, site = opened
    start = hold(consortium, "round-start")

    def told(means: torch.Tensor) -> torch.Tensor:
        means[0, 0] = 1.0
        return means

    assert refusal(site.handle(with_means(start, told))).code is Refusal.OTHER_ADAPTER
    assert isinstance(reply(site.handle(start)), Advert)


def test_a_start_that_came_before_is_refused(opened: Opened) -> None:
    _, consortium, site = opened
    first, second = hold(consortium, "round-start"), hold(consortium, "round-start")
    assert isinstance(reply(site.handle(second)), Advert)
    assert refusal(site.handle(first)).code is Refusal.WRONG_SESSION
    session: Any = decode(second, TO_SITE, LARGE)
    assert isinstance(reply(site.handle(encode(RoundEnd(session.session, "aborted", bytes(32))))), Receipt)
    assert refusal(site.handle(second)).code is Refusal.WRONG_SESSION


def test_another_adapter_in_another_attempt_is_refused(opened: Opened) -> None:
    _, consortium, site = opened
    start = hold(consortium, "round-start")
    assert isinstance(reply(site.handle(start)), Advert)
    message: Any = decode(start, TO_SITE, LARGE)
    state, info = parse_adapter(message.adapter, where="test")
    other = dump_adapter({**state, "adapter.project_in.bias": state["adapter.project_in.bias"] + 1e-6}, info)
    assert refusal(site.handle(changed(start, attempt=7, adapter=other))).code is Refusal.OTHER_ADAPTER
    assert json.loads(files_of(site)[MEANS_FILE])["attempt"] == 0
    assert isinstance(reply(site.handle(changed(start, attempt=8))), Advert)


def test_other_class_sums_in_another_attempt_are_refused_also_after_a_restart(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        start = hold(consortium, "round-start")
        assert isinstance(reply(consortium.sites[NAME].handle(start)), Advert)
        kept = json.loads(files_of(consortium.sites[NAME])[MEANS_FILE])["vector"]
    first = made.data.sites[0]
    features = first.train.features.copy()
    features[0] = -features[0]  # one picture of one patient is another
    touched = replace(first, train=replace(first.train, features=features))
    other = replace(made.data, sites=(touched, *made.data.sites[1:]))
    with made.open(other) as consortium:
        site = consortium.sites[NAME]
        assert refusal(site.handle(changed(start, attempt=1))).code is Refusal.LOCAL_FAILURE
        assert "first attempt" in site.failure
        assert json.loads(files_of(site)[MEANS_FILE])["vector"] == kept
    with made.open() as consortium:
        assert isinstance(reply(consortium.sites[NAME].handle(changed(start, attempt=2))), Advert)


def test_after_a_round_was_entered_no_sum_is_begun_and_the_round_keeps_its_keys(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        first = hold(consortium, "round-start")
        sum_means(consortium)
        site = consortium.sites[NAME]
        waiting = hold(consortium, "advert-list")
        before = files_of(site)
        for attempt in (0, 1, 99, 2**32 - 1):
            assert refusal(site.handle(changed(first, attempt=attempt))).code is Refusal.WRONG_SESSION
        assert files_of(site) == before
        assert reply(site.handle(waiting)).__class__.__name__ == "SealedShares"
    with made.open() as consortium:
        assert refusal(consortium.sites[NAME].handle(changed(first, attempt=99))).code is Refusal.WRONG_SESSION


def test_attempts_of_the_sum_and_of_round_one_are_counted_apart(opened: Opened) -> None:
    _, consortium, site = opened
    for _ in range(3):
        start = hold(consortium, "round-start")
    assert isinstance(reply(site.handle(start)), Advert)
    assert json.loads(files_of(site)[MEANS_FILE])["attempt"] == 2
    assert PROGRESS_FILE not in files_of(site)
    sum_means(consortium)
    means = json.loads(files_of(site)[MEANS_FILE])
    assert means["attempt"] == 3
    update: Any = decode(hold(consortium, "advert-list"), TO_SITE, LARGE)
    assert (update.session.purpose, update.session.round, update.session.attempt) == ("update", 1, 0)
    assert json.loads(files_of(site)[PROGRESS_FILE])["attempt"] == 0
    kept = json.loads(files_of(site)[MEANS_FILE])
    assert {**kept, "means": None} == {**means, "means": None}
    hold(consortium, "advert-list")
    assert json.loads(files_of(site)[PROGRESS_FILE])["attempt"] == 1
    assert json.loads(files_of(site)[MEANS_FILE]) == kept
    assert consortium.coordinator.checkpoints.next_attempt(1) == 2
    assert consortium.coordinator.checkpoints.next_attempt(1, PURPOSE) == 4


@pytest.mark.parametrize("tag", ["advert-list", "share-delivery", "survivor-set"])
def test_a_sum_over_one_site_fewer_is_refused_at_every_stage(make: Callable[..., Made], tag: str) -> None:
    made = make(counts=(*EVEN, (11, 11, 11), (12, 12, 12)))
    with made.open() as consortium:
        wire = hold(consortium, tag)
        message: Any = decode(wire, TO_SITE, LARGE)
        (rows,) = [name for name in message.__struct_fields__ if name != "session"]
        fewer = changed(wire, **{rows: getattr(message, rows)[:-1]})
        site = consortium.sites[NAME]
        assert refusal(site.handle(fewer)).code is Refusal.WRONG_COHORT
        assert SURVIVORS_FILE in files_of(site)
        assert json.loads(files_of(site)[SURVIVORS_FILE]) == {}
        assert not isinstance(reply(site.handle(wire)), RefusalNotice)


def scaled(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(means: torch.Tensor) -> torch.Tensor:
        means[0] *= factor
        return means

    return change


@pytest.mark.parametrize("factor", [0.5, 1.0001, 3.0, 1e-6])
def test_means_that_are_no_unit_vectors_are_refused(opened: Opened, factor: float) -> None:
    _, consortium, site = opened
    sum_means(consortium)
    start = hold(consortium, "round-start")
    before = files_of(site)
    assert refusal(site.handle(with_means(start, scaled(factor)))).code is Refusal.OTHER_ADAPTER
    assert files_of(site) == before
    assert isinstance(reply(site.handle(start)), Advert)


@pytest.mark.parametrize("change", [swapped, torch.zeros_like, scaled(-1.0)], ids=["swapped", "zeros", "turned"])
def test_other_means_in_a_later_round_are_refused_also_after_a_restart(make: Callable[..., Made], change: Any) -> None:
    made = make()
    with made.open() as consortium:
        sum_means(consortium)
        whole_round(consortium)
        start = hold(consortium, "round-start")
        before = files_of(consortium.sites[NAME])
        assert refusal(consortium.sites[NAME].handle(with_means(start, change))).code is Refusal.OTHER_ADAPTER
    with made.open() as consortium:
        site = consortium.sites[NAME]
        assert refusal(site.handle(with_means(start, change))).code is Refusal.OTHER_ADAPTER
        assert files_of(site) == before
        assert isinstance(reply(site.handle(start)), Advert)


def test_other_means_in_another_attempt_at_round_one_are_refused(opened: Opened) -> None:
    _, consortium, site = opened
    sum_means(consortium)
    start = hold(consortium, "round-start")
    assert isinstance(reply(site.handle(start)), Advert)
    assert refusal(site.handle(with_means(changed(start, attempt=5), swapped))).code is Refusal.OTHER_ADAPTER


def test_other_means_with_the_final_adapter_are_not_kept(opened: Opened) -> None:
    _, consortium, site = opened
    sum_means(consortium)
    for _ in range(2):
        whole_round(consortium)
    (end,) = [parcel.wire for parcel in consortium.coordinator.finish() if parcel.peer == NAME]
    assert site.handle(with_means(end, swapped)) == ()
    assert not (site.folder / FINAL_FILE).exists()
    answer, message = reply(site.handle(end)), decode(end, TO_SITE, LARGE)
    assert isinstance(answer, Receipt)
    assert answer.closing
    assert isinstance(message, StudyEnd)
    assert (site.folder / FINAL_FILE).read_bytes() == message.adapter


def test_other_means_to_one_site_end_the_round_at_all_others(opened: Opened) -> None:
    _, consortium, site = opened
    sum_means(consortium)
    starts = {parcel.peer: parcel.wire for parcel in consortium.coordinator.begin()}
    adverts = [reply(consortium.sites[name].handle(starts[name])) for name in ("site-1", "site-3")]
    told: Any = reply(consortium.sites["site-2"].handle(with_means(starts["site-2"], swapped)))
    listed = tuple(sorted([*adverts, told], key=lambda advert: advert.site))  # type: ignore[union-attr]
    answer = refusal(site.handle(encode(AdvertList(told.session, listed))))  # type: ignore[arg-type]
    assert (answer.code, answer.stage, answer.peer) == (Refusal.OTHER_ADAPTER, "share", "site-2")


def test_every_message_of_the_sum_is_refused_when_replayed_in_round_one(opened: Opened) -> None:
    _, consortium, site = opened
    seen: list[bytes] = []
    sum_means(consortium, lambda sender, peer, wire: seen.append(wire) if peer == NAME else None)
    waiting = hold(consortium, "share-delivery")
    for wire in seen:
        message, answer = decode(wire, TO_SITE, LARGE), reply(site.handle(wire))
        if isinstance(message, RoundEnd):  # how its ledger stands, a site says whenever it is asked
            assert isinstance(answer, Receipt)
        else:
            assert answer is None or isinstance(answer, RefusalNotice)
    assert reply(site.handle(waiting)).__class__.__name__ == "MaskedVector"


def test_after_the_sum_every_ledger_is_cosigned(opened: Opened) -> None:
    _, consortium, _ = opened
    sum_means(consortium)
    (kept,) = EvidenceStore(consortium.homes[NAME].folder / FOLDER).paths()
    evidence = Evidence.parse(kept.read_bytes(), where=str(kept))
    assert len(evidence.proof.checkpoint.signatures) == 1 + len(consortium.sites)
    assert consortium.coordinator.cosigning is not None
    assert consortium.coordinator.cosigning.notes == []


# --- the coordinator ---------------------------------------------------------------------------------------------


def test_late_messages_of_the_sum_cost_nobody_the_round(opened: Opened) -> None:
    _, consortium, _ = opened
    late: list[tuple[str, bytes]] = []
    for _ in range(2):  # attempts of the sum with higher numbers than that of the round
        hold(consortium, "advert-list")
    sum_means(consortium, lambda sender, peer, wire: late.append((sender, wire)) if peer == COORDINATOR else None)
    coordinator = consortium.coordinator
    parcels = list(coordinator.begin())
    for sender, wire in late:
        assert list(coordinator.handle(sender, wire)) == []
    carry(coordinator, consortium.sites, parcels)
    assert coordinator.outcome is not None
    assert coordinator.outcome.released
    assert coordinator.outcome.dropped == {}


@pytest.mark.parametrize("purpose", ["class-means", "evaluation", "temperature"])
def test_a_vector_of_a_sum_that_the_study_does_not_have_is_an_entry_and_changes_nothing(
    make: Callable[..., Made], purpose: Any
) -> None:
    made = make(reference={"source": "fraction"})
    with made.open() as consortium:
        coordinator = consortium.coordinator
        parcels = list(coordinator.begin())
        start: Any = decode(parcels[0].wire, TO_SITE, LARGE)
        session = msgspec.structs.replace(start.session, purpose=purpose)
        stray = encode(MaskedVector(session, NAME, bytes(8), bytes(16), bytes(64)))
        assert list(coordinator.handle(NAME, stray)) == []
        carry(coordinator, consortium.sites, parcels)
        assert coordinator.outcome is not None
        assert coordinator.outcome.released
        assert coordinator.outcome.dropped == {}


def test_a_roster_that_asks_for_class_means_of_another_study_is_refused(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        site = consortium.sites[NAME]
        layout = replace(site.trainer.layout, constants={})
        with pytest.raises(RosterError, match="class means"):
            replace(site, trainer=replace(site.trainer, layout=layout))


def test_a_sum_that_no_images_have_is_not_released(make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(retries=0)
    with made.open() as consortium:
        trainer = consortium.trainers["site-2"]
        honest = type(trainer).class_sums

        def garbage(self: Any) -> Any:
            vector = honest(self)
            return {**vector, CLASS_SUMS: np.full(3 * WIDTH, 27.0)} if self.site == "site-2" else vector

        monkeypatch.setattr(type(trainer), "class_sums", garbage)
        line = SimulatedLine(SimulatedClock(), None, None)
        with pytest.raises(RoundError, match="out-of-bound"):
            sum_class_means(made.toy.study, made.classes, consortium, made.toy.run, Silent(), line)
        assert consortium.coordinator.means_due


def test_a_lost_or_changed_record_of_the_means_is_named(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        sum_means(consortium)
        hold(consortium, "advert-list")  # sites have entered round 1
    path = made.toy.run.coordinator / "checkpoint" / "round-00000.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="checksum"), made.open():
        pass
    tensors, info = read_adapter_bytes(good)
    path.write_bytes(dump_adapter({**tensors, CLASS_MEANS: 2 * tensors[CLASS_MEANS]}, info))
    with pytest.raises(CheckpointError, match="norm"), made.open():
        pass
    path.write_bytes(dump_adapter({name: t for name, t in tensors.items() if name != CLASS_MEANS}, info))
    with pytest.raises(CheckpointError, match="missing"), made.open():
        pass
    path.unlink()
    with pytest.raises(CheckpointError, match="gone"), made.open():
        pass
    path.write_bytes(good)
    made.run()


def read_adapter_bytes(data: bytes) -> Any:
    return parse_adapter(data, where="test")


def test_a_lost_checkpoint_before_any_round_is_made_again_alike(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        sum_means(consortium)
    path = made.toy.run.coordinator / "checkpoint" / "round-00000.safetensors"
    good = path.read_bytes()
    path.unlink()
    with made.open() as consortium:
        sum_means(consortium)
    assert path.read_bytes() == good
    assert json.loads((made.state() / MEANS_FILE).read_bytes())["attempt"] == 1


@pytest.mark.parametrize("lost", [MEANS_FILE, SURVIVORS_FILE, PROGRESS_FILE])
def test_a_site_whose_memory_is_gone_stops(make: Callable[..., Made], lost: str) -> None:
    made = make()
    with made.open() as consortium:
        sum_means(consortium)
    if lost != PROGRESS_FILE:
        kept = (made.state() / lost).read_bytes()
        (made.state() / lost).unlink()
        with pytest.raises(CheckpointError) as caught, made.open():
            pass
        assert caught.value.where.endswith(lost)
        (made.state() / lost).write_bytes(kept)
    with made.open() as consortium:
        whole_round(consortium)
    (made.state() / lost).unlink()
    with pytest.raises(CheckpointError) as caught, made.open():
        pass
    assert caught.value.where.endswith(lost)


def test_so_does_one_that_gave_its_sums_but_signed_no_set(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        coordinator, other = consortium.coordinator, consortium.sites["site-2"]
        queue = deque((COORDINATOR, parcel) for parcel in coordinator.begin())
        while coordinator.outcome is None:
            if not queue:
                queue.extend((COORDINATOR, parcel) for parcel in coordinator.expire())
                continue
            sender, parcel = queue.popleft()
            if parcel.peer == COORDINATOR:
                queue.extend((COORDINATOR, answer) for answer in coordinator.handle(sender, parcel.wire))
            elif parcel.peer != other.name or parcel.tag in ("round-start", "advert-list", "share-delivery"):
                queue.extend((parcel.peer, answer) for answer in consortium.sites[parcel.peer].handle(parcel.wire))
        coordinator.commit()
        whole_round(consortium)
    state = made.state("site-2")
    signed = json.loads((state / SURVIVORS_FILE).read_bytes())
    assert signed
    assert not any(PURPOSE in key for key in signed)
    (state / MEANS_FILE).unlink()
    with pytest.raises(CheckpointError) as caught, made.open():
        pass
    assert caught.value.where.endswith(MEANS_FILE)


@pytest.mark.parametrize("content", ["", "[]", '{"attempt":"0"}', '{"attempt":true}', '{"more":1}', '{"means":7}'])
def test_a_damaged_memory_of_the_sum_stops_the_site(make: Callable[..., Made], content: str) -> None:
    made = make()
    with made.open() as consortium:
        start = hold(consortium, "round-start")
        site = consortium.sites[NAME]
        site.handle(start)
        (site.folder / MEANS_FILE).write_text(content)
        with pytest.raises(CheckpointError):
            site.handle(changed(start, attempt=9))


def test_the_ledger_of_a_begun_sum_may_not_be_lost(make: Callable[..., Made]) -> None:
    made = make()
    with made.open() as consortium:
        sum_means(consortium)
    for whose in (made.toy.run.homes / NAME, made.toy.run.coordinator):
        ledger = whose / "ledger.jsonl"
        kept = ledger.read_bytes()
        ledger.unlink()
        with pytest.raises(LedgerError, match="does not know it"), made.open():
            pass
        ledger.write_bytes(kept)
