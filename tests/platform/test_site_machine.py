"""The site's state machine: what it refuses, how it says so, and what no message can make it do."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from wardround.platform import site_machine as site_module
from wardround.platform.adapter_file import METADATA_KEY, AdapterInfo, checksum, dump_adapter, parse_adapter
from wardround.platform.consortium import Consortium, open_consortium
from wardround.platform.engines.local import carry
from wardround.platform.errors import CheckpointError
from wardround.platform.methods.method import TrainingPart
from wardround.platform.progress import PROGRESS_FILE
from wardround.platform.site_machine import FINAL_FILE, Site, round_settings
from wardround.privacy.egress import COORDINATOR, Sealed
from wardround.privacy.errors import Refusal
from wardround.privacy.ledger.log import verify
from wardround.privacy.messages import (
    TO_COORDINATOR,
    TO_SITE,
    Advert,
    AdvertList,
    Limits,
    Message,
    Receipt,
    RefusalNotice,
    RoundEnd,
    RoundStart,
    StudyEnd,
    decode,
    encode,
)

NAME = "site-1"
LARGE = Limits(100, 10**6, 10**6)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STAGES = ("round-start", "advert-list", "share-delivery", "survivor-set", "unmask-request", "round-end")


@pytest.fixture
def consortium(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> Iterator[Consortium]:
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as opened:
        yield opened


@pytest.fixture
def site(consortium: Consortium) -> Site:
    return consortium.sites[NAME]


def hold(consortium: Consortium, parcels: Sequence[Sealed], tag: str) -> bytes:
    """Carry parcels until one of type ``tag`` is due at the first site; that one is not delivered but returned."""
    queue = deque((COORDINATOR, parcel) for parcel in parcels)
    while queue:
        sender, parcel = queue.popleft()
        if parcel.peer == NAME and parcel.tag == tag:
            return parcel.wire
        if parcel.peer == COORDINATOR:
            queue.extend((COORDINATOR, answer) for answer in consortium.coordinator.handle(sender, parcel.wire))
        else:
            queue.extend((parcel.peer, answer) for answer in consortium.sites[parcel.peer].handle(parcel.wire))
    raise AssertionError(f"no {tag} came")


def at_stage(consortium: Consortium, tag: str) -> bytes:
    """The message of type ``tag`` that the first site is waiting for, in the round that begins now."""
    coordinator = consortium.coordinator
    if tag == "round-end":
        carry(coordinator, consortium.sites, coordinator.begin())
        return hold(consortium, coordinator.commit(), tag)
    return hold(consortium, coordinator.begin(), tag)


def whole_round(consortium: Consortium) -> list[tuple[str, str, bytes]]:
    """Run one round; every parcel as (sender, receiver, bytes)."""
    seen: list[tuple[str, str, bytes]] = []
    coordinator = consortium.coordinator
    carry(coordinator, consortium.sites, coordinator.begin(), lambda *parcel: seen.append(parcel))
    carry(coordinator, consortium.sites, coordinator.commit(), lambda *parcel: seen.append(parcel))
    return seen


def reply(parcels: tuple[Sealed, ...]) -> Message | None:
    """The one message in an answer, if there is one; never more."""
    assert len(parcels) <= 1
    for parcel in parcels:
        assert type(parcel) is Sealed
        assert parcel.peer == COORDINATOR
        return decode(parcel.wire, TO_COORDINATOR, LARGE)
    return None


def refusal(parcels: tuple[Sealed, ...]) -> RefusalNotice:
    message = reply(parcels)
    assert isinstance(message, RefusalNotice), message
    return message


def changed(wire: bytes, **fields: Any) -> bytes:
    """A message of the coordinator with other fields."""
    return encode(msgspec.structs.replace(decode(wire, TO_SITE, LARGE), **fields))


# --- what a site answers -----------------------------------------------------------------------------------------


def test_a_refusal_holds_codes_and_names_only() -> None:
    assert RefusalNotice.__struct_fields__ == ("session", "site", "code", "stage", "peer")


def test_asked_again_it_answers_with_the_same_bytes(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    first, again = site.handle(start), site.handle(start)
    assert first[0].wire == again[0].wire
    outcomes = [entry["outcome"] for entry in entries(consortium, NAME) if entry["message_type"] == "advert"]
    assert outcomes == ["sent", "retried"]


def entries(consortium: Consortium, owner: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in consortium.ledgers[owner].path.read_bytes().splitlines()]


# --- replays ---------------------------------------------------------------------------------------------------


def test_a_start_of_an_older_round_is_refused_and_costs_the_running_session_nothing(
    consortium: Consortium, site: Site
) -> None:
    old = next(wire for _, to, wire in whole_round(consortium) if to == NAME)
    whole_round(consortium)
    waiting = at_stage(consortium, "advert-list")
    answer = refusal(site.handle(old))
    assert answer.code is Refusal.WRONG_SESSION
    assert answer.session.round == 1
    assert answer.stage == "start"
    assert reply(site.handle(waiting)).__class__.__name__ == "SealedShares"


def test_a_start_of_an_older_attempt_is_refused(consortium: Consortium, site: Site) -> None:
    first = at_stage(consortium, "round-start")
    second = at_stage(consortium, "round-start")
    assert isinstance(reply(site.handle(second)), Advert)
    assert refusal(site.handle(first)).code is Refusal.WRONG_SESSION


def test_a_start_of_the_same_attempt_after_its_end_is_refused(consortium: Consortium, site: Site) -> None:
    start = next(wire for _, to, wire in whole_round(consortium) if to == NAME)
    assert refusal(site.handle(start)).code is Refusal.WRONG_SESSION


def test_the_highest_round_survives_a_restart(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> None:
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        old = next(wire for _, to, wire in whole_round(consortium) if to == NAME)
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        assert refusal(consortium.sites[NAME].handle(old)).code is Refusal.WRONG_SESSION


def test_round_nought_is_no_round(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    session = decode(start, TO_SITE, LARGE).session  # type: ignore[attr-defined]
    wire = changed(start, session=msgspec.structs.replace(session, round=0))
    assert refusal(site.handle(wire)).code is Refusal.WRONG_SESSION


def test_every_message_of_a_finished_round_is_refused_when_replayed(consortium: Consortium, site: Site) -> None:
    seen = [wire for _, to, wire in whole_round(consortium) if to == NAME]
    waiting = at_stage(consortium, "share-delivery")
    for wire in seen:
        message, answer = decode(wire, TO_SITE, LARGE), reply(site.handle(wire))
        if isinstance(message, RoundEnd):  # how its ledger stands, a site says whenever it is asked
            assert isinstance(answer, Receipt)
        else:
            assert answer is None or isinstance(answer, RefusalNotice)
    assert reply(site.handle(waiting)).__class__.__name__ == "MaskedVector"


def test_the_end_of_another_round_does_not_end_this_one(consortium: Consortium, site: Site) -> None:
    old = next(wire for _, to, wire in whole_round(consortium) if to == NAME and wire[2:11] == b"round-end")
    waiting = at_stage(consortium, "advert-list")
    answer = reply(site.handle(old))
    assert isinstance(answer, Receipt)
    assert answer.round == 1
    assert not isinstance(reply(site.handle(waiting)), RefusalNotice)


def test_after_the_end_of_its_round_nothing_of_it_is_answered(consortium: Consortium, site: Site) -> None:
    request = at_stage(consortium, "unmask-request")
    session = decode(request, TO_SITE, LARGE).session  # type: ignore[attr-defined]
    assert isinstance(reply(site.handle(encode(RoundEnd(session, "aborted", bytes(32))))), Receipt)
    assert refusal(site.handle(request)).code is Refusal.OUT_OF_ORDER


# --- other adapters and settings ---------------------------------------------------------------------------------


def damaged_adapters(wire: bytes, backbone: str) -> dict[str, bytes]:
    message = decode(wire, TO_SITE, LARGE)
    assert isinstance(message, RoundStart)
    state, info = parse_adapter(message.adapter, where="test")
    name = next(name for name in state if "running" not in name)
    strange = {"a": torch.zeros(2, dtype=torch.bfloat16)}

    def packed(tensors: dict[str, torch.Tensor], header: object) -> bytes:
        return save(tensors, metadata={METADATA_KEY: rfc8785.dumps(header).decode()})  # type: ignore[arg-type]

    def summed(row: dict[str, object], tensors: dict[str, torch.Tensor] = state) -> dict[str, object]:
        return {**row, "sha256": checksum(tensors, rfc8785.dumps(row))}  # type: ignore[arg-type]

    row: dict[str, object] = {"study": info.study, "method": info.method, "round": 0, "backbone": info.backbone}
    lengths = struct.unpack("<Q", message.adapter[:8])[0]
    return {
        "another study": dump_adapter(state, replace(info, study="00" * 32)),
        "another backbone": dump_adapter(state, replace(info, backbone="cd" * 32)),
        "another method": dump_adapter(state, replace(info, method="fedclip")),
        "another round": dump_adapter(state, replace(info, round=7)),
        "the round as text": packed(state, summed({**row, "round": "0"})),
        "not finite": dump_adapter({**state, name: torch.full_like(state[name], float("nan"))}, info),
        "another shape": dump_adapter({**state, name: torch.zeros(3)}, info),
        "double precision": dump_adapter({**state, name: state[name].double()}, info),
        "a tensor missing": dump_adapter({k: v for k, v in state.items() if k != name}, info),
        "a tensor more": dump_adapter({**state, "more": torch.zeros(1)}, info),
        "empty": b"",
        "truncated": message.adapter[:-1],
        "a flipped bit": message.adapter[:-1] + bytes([message.adapter[-1] ^ 1]),
        "bfloat16": packed(strange, {**row, "sha256": "00" * 32}),
        "a header that is text": packed(state, "text"),
        "a header that is a number": packed(state, 7),
        "a header that is a list": packed(state, []),
        "a header with a key more": packed(state, summed({**row, "more": 1})),
        "a header that nests": message.adapter[:8] + b"[" * lengths,
        "no metadata": save(state),
    }


@pytest.mark.parametrize(
    "fault",
    [
        "another study",
        "another backbone",
        "another method",
        "another round",
        "the round as text",
        "not finite",
        "another shape",
        "double precision",
        "a tensor missing",
        "a tensor more",
        "empty",
        "truncated",
        "a flipped bit",
        "bfloat16",
        "a header that is text",
        "a header that is a number",
        "a header that is a list",
        "a header with a key more",
        "a header that nests",
        "no metadata",
    ],
)
def test_an_adapter_that_is_not_this_rounds_is_refused(
    consortium: Consortium, site: Site, BACKBONE: str, fault: str
) -> None:
    start = at_stage(consortium, "round-start")
    wire = changed(start, adapter=damaged_adapters(start, BACKBONE)[fault])
    answer = refusal(site.handle(wire))
    assert (answer.code, answer.stage, answer.peer) == (Refusal.OTHER_ADAPTER, "start", "")
    # It has not trained, and the honest start still holds.
    assert list(site.folder.glob("update-*")) == []
    assert not (site.folder / PROGRESS_FILE).exists()
    assert isinstance(reply(site.handle(start)), Advert)


@pytest.mark.parametrize(
    "settings_bytes",
    [b"", b"{}", round_settings("00" * 32, 1), b" " + round_settings("00" * 32, 1), b"\xff" * 100],
)
def test_other_settings_are_refused(consortium: Consortium, site: Site, settings_bytes: bytes) -> None:
    start = at_stage(consortium, "round-start")
    assert refusal(site.handle(changed(start, settings=settings_bytes))).code is Refusal.OTHER_ADAPTER


def test_settings_of_another_round_are_refused(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    other = round_settings(consortium.roster.roster.study.hex(), 2)
    assert refusal(site.handle(changed(start, settings=other))).code is Refusal.OTHER_ADAPTER


@pytest.mark.parametrize("purpose", ["evaluation", "class-means", "temperature"])
def test_a_session_of_another_purpose_is_refused(consortium: Consortium, site: Site, purpose: Any) -> None:
    start = at_stage(consortium, "round-start")
    session = decode(start, TO_SITE, LARGE).session  # type: ignore[attr-defined]
    wire = changed(start, session=msgspec.structs.replace(session, purpose=purpose))
    assert refusal(site.handle(wire)).code is Refusal.WRONG_SESSION


def test_another_study_gets_no_answer_at_all(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    session = decode(start, TO_SITE, LARGE).session  # type: ignore[attr-defined]
    assert site.handle(changed(start, session=msgspec.structs.replace(session, study=bytes(32)))) == ()
    assert entries(consortium, NAME)[-1]["outcome"] == "failed"


def test_an_advert_of_a_site_with_another_adapter_is_refused(consortium: Consortium, site: Site) -> None:
    """One site was handed a changed adapter; the others must not add to its update."""
    start = at_stage(consortium, "round-start")
    message = decode(start, TO_SITE, LARGE)
    assert isinstance(message, RoundStart)
    state, info = parse_adapter(message.adapter, where="test")
    dead = dump_adapter({name: torch.zeros_like(tensor) for name, tensor in state.items()}, info)
    adverts = [reply(site.handle(start))]
    adverts.append(reply(consortium.sites["site-2"].handle(changed(start, adapter=dead))))
    adverts.append(reply(consortium.sites["site-3"].handle(start)))
    assert all(isinstance(advert, Advert) for advert in adverts)
    answer = refusal(site.handle(encode(AdvertList(message.session, tuple(adverts)))))  # type: ignore[arg-type]
    assert (answer.code, answer.stage, answer.peer) == (Refusal.OTHER_ADAPTER, "share", "site-2")


def padded(adapter: bytes) -> bytes:
    """The same tensors and header in other bytes: safetensors allows spaces after the header."""
    length = struct.unpack("<Q", adapter[:8])[0]
    return struct.pack("<Q", length + 8) + adapter[8 : 8 + length] + b" " * 8 + adapter[8 + length :]


def test_another_start_of_the_same_session_is_refused(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    adapter = decode(start, TO_SITE, LARGE).adapter  # type: ignore[attr-defined]
    first = site.handle(start)
    assert refusal(site.handle(changed(start, adapter=padded(adapter)))).code is Refusal.CHANGED_REQUEST
    assert site.handle(start)[0].wire == first[0].wire


@pytest.mark.parametrize("restarted", [False, True])
def test_all_attempts_at_a_round_are_about_one_adapter(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, restarted: bool
) -> None:
    """Padding gives the same update another hash; two survivor sets for it would give its site away by subtraction."""
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        assert isinstance(reply(consortium.sites[NAME].handle(at_stage(consortium, "round-start"))), Advert)
        if not restarted:
            refuse_padded(consortium)
    if restarted:
        with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
            refuse_padded(consortium)


def refuse_padded(consortium: Consortium) -> None:
    """The next attempt, with the same adapter in other bytes, is refused; with the same bytes it is not."""
    site, again = consortium.sites[NAME], at_stage(consortium, "round-start")
    adapter = decode(again, TO_SITE, LARGE).adapter  # type: ignore[attr-defined]
    assert parse_adapter(padded(adapter), where="test")[1] == parse_adapter(adapter, where="test")[1]
    assert refusal(site.handle(changed(again, adapter=padded(adapter)))).code is Refusal.OTHER_ADAPTER
    assert isinstance(reply(site.handle(again)), Advert)


def test_a_round_after_the_last_is_refused(consortium: Consortium, site: Site) -> None:
    start = at_stage(consortium, "round-start")
    message = decode(start, TO_SITE, LARGE)
    assert isinstance(message, RoundStart)
    assert site.rounds == 3
    state, info = parse_adapter(message.adapter, where="test")
    wire = changed(
        start,
        session=msgspec.structs.replace(message.session, round=4),
        adapter=dump_adapter(state, replace(info, round=3)),
        settings=round_settings(info.study, 4),
    )
    assert refusal(site.handle(wire)).code is Refusal.WRONG_SESSION
    assert isinstance(reply(site.handle(start)), Advert)


# --- anything at all ---------------------------------------------------------------------------------------------


@SLOW
@given(data=st.binary(max_size=300))
def test_any_bytes_get_a_typed_refusal_or_silence(consortium: Consortium, data: bytes) -> None:
    answer = reply(consortium.sites[NAME].handle(data))
    assert answer is None


@SLOW
@given(data=st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda tail: b"\x93\xabadvert-list" + tail)))
def test_any_bytes_within_a_session_get_a_typed_refusal(consortium: Consortium, data: bytes) -> None:
    site = consortium.sites[NAME]
    if site._session is None:
        at_stage(consortium, "advert-list")
    answer = refusal(site.handle(data))
    assert answer.code is Refusal.MALFORMED
    assert answer.peer == ""


@pytest.mark.parametrize("tag", STAGES)
def test_a_changed_message_gets_a_refusal_and_the_true_one_its_answer(consortium: Consortium, tag: str) -> None:
    site = consortium.sites[NAME]
    wire = at_stage(consortium, tag)
    whole = wire
    if tag == "unmask-request":  # signatures beyond the t that a site needs, it does not look at
        rows, needed = decode(wire, TO_SITE, LARGE).agreements, consortium.roster.roster.thresholds.t  # type: ignore[attr-defined]
        assert len(rows) > needed
        wire = changed(wire, agreements=rows[:needed])
    honest = {
        "advert-list": "SealedShares",
        "share-delivery": "MaskedVector",
        "survivor-set": "Agreement",
        "unmask-request": "UnmaskAnswer",
    }

    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def mutate(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(["flip", "cut", "grow", "swap"]))
        place = data.draw(st.integers(0, len(wire) - 1))
        if kind == "flip":
            changed_wire = wire[:place] + bytes([wire[place] ^ data.draw(st.integers(1, 255))]) + wire[place + 1 :]
        elif kind == "cut":
            changed_wire = wire[:place]
        elif kind == "grow":
            changed_wire = wire + data.draw(st.binary(min_size=1, max_size=8))
        else:
            other = data.draw(st.integers(0, len(wire) - 1))
            low, high = sorted((place, other))
            changed_wire = wire[:low] + wire[high:] + wire[low:high]
        if changed_wire == wire:
            return
        answer = reply(site.handle(changed_wire))
        # A start for a later attempt is a start, an end is an end; of anything else nothing but a refusal may come.
        more = {"round-start": Advert, "round-end": Receipt}
        allowed = (RefusalNotice, more[tag]) if tag in more else (RefusalNotice,)
        assert answer is None or isinstance(answer, allowed)
        if isinstance(answer, RefusalNotice):
            assert answer.peer in ("", *consortium.roster.roster.names)

    mutate()
    if tag in honest:
        answer = site.handle(whole)
        assert reply(answer).__class__.__name__ == honest[tag]
        assert site.handle(whole)[0].wire == answer[0].wire
    assert verify(consortium.ledgers[NAME].path).ok


# --- the end of a study ------------------------------------------------------------------------------------------


def whole_study(consortium: Consortium, site: Site) -> None:
    for _ in range(site.rounds):
        whole_round(consortium)


def test_the_final_adapter_is_kept(consortium: Consortium, site: Site) -> None:
    whole_study(consortium, site)
    carry(consortium.coordinator, consortium.sites, consortium.coordinator.finish())
    kept = (site.folder / FINAL_FILE).read_bytes()
    assert kept == dump_adapter(consortium.coordinator.state, consortium.coordinator.info)


def test_the_end_of_a_study_leaves_one_final_adapter_and_no_update(consortium: Consortium, site: Site) -> None:
    whole_study(consortium, site)
    assert list(site.folder.glob("update-*"))
    coordinator = consortium.coordinator
    carry(coordinator, consortium.sites, coordinator.finish())
    assert list(site.folder.glob("update-*")) == []
    kept = (site.folder / FINAL_FILE).read_bytes()
    other = dump_adapter({name: tensor + 1 for name, tensor in coordinator.state.items()}, coordinator.info)
    assert site.handle(encode(StudyEnd(consortium.roster.roster.study, "completed", other))) == ()
    assert (site.folder / FINAL_FILE).read_bytes() == kept


@pytest.mark.parametrize("content", ["garbage", "another study", "another backbone", "flipped", "empty"])
def test_a_final_adapter_that_is_not_this_studys_is_not_kept(consortium: Consortium, site: Site, content: str) -> None:
    whole_study(consortium, site)
    coordinator = consortium.coordinator
    good = dump_adapter(coordinator.state, coordinator.info)
    adapter = {
        "garbage": b"garbage",
        "another study": dump_adapter(coordinator.state, replace(coordinator.info, study="00" * 32)),
        "another backbone": dump_adapter(coordinator.state, replace(coordinator.info, backbone="00" * 32)),
        "flipped": good[:-1] + bytes([good[-1] ^ 1]),
        "empty": b"",
    }[content]
    assert site.handle(encode(StudyEnd(consortium.roster.roster.study, "completed", adapter))) == ()
    assert not (site.folder / FINAL_FILE).exists()


def test_an_aborted_study_leaves_no_final_adapter(consortium: Consortium, site: Site) -> None:
    whole_study(consortium, site)
    answer = reply(site.handle(encode(StudyEnd(consortium.roster.roster.study, "aborted", b""))))
    assert isinstance(answer, Receipt)
    assert (answer.closing, answer.round) == (True, 3)
    assert not (site.folder / FINAL_FILE).exists()


@pytest.mark.parametrize("status", ["completed", "aborted"])
def test_a_study_that_ends_early_keeps_the_updates_and_no_adapter(
    consortium: Consortium, site: Site, status: Any
) -> None:
    whole_round(consortium)
    before = {path.name: path.read_bytes() for path in site.folder.glob("update-*")}
    adapter = dump_adapter(consortium.coordinator.state, consortium.coordinator.info)
    answer = reply(site.handle(encode(StudyEnd(consortium.roster.roster.study, status, adapter))))
    if status == "aborted":
        assert isinstance(answer, Receipt)
        assert (answer.closing, answer.round) == (True, 1)
    else:
        assert answer is None  # no adapter of the last round: the study goes on
    assert consortium.ledgers[NAME].is_open(consortium.roster.roster.study.hex()) == (status == "completed")
    assert before
    assert {path.name: path.read_bytes() for path in site.folder.glob("update-*")} == before
    assert not (site.folder / FINAL_FILE).exists()


# --- local failures ------------------------------------------------------------------------------------------------


def test_a_site_that_cannot_train_says_so_by_a_code_and_keeps_the_reason(consortium: Consortium, site: Site) -> None:
    part = site.trainer.part
    site.trainer = replace(site.trainer, part=TrainingPart(part.inputs[:1], part.labels[:1]))
    parcels = site.handle(at_stage(consortium, "round-start"))
    assert refusal(parcels).code is Refusal.LOCAL_FAILURE
    assert "1 training record" in site.failure
    assert b"training" not in parcels[0].wire


def test_a_vector_that_cannot_be_encoded_is_a_local_failure(
    consortium: Consortium, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = type(site.trainer).update

    def infinite(self: Any, *arguments: Any) -> Any:
        update = honest(self, *arguments)
        blocks = {name: values.copy() for name, values in update.blocks.items()}
        blocks["adapter"][0] = float("inf")
        return replace(update, blocks=blocks)

    monkeypatch.setattr(type(site.trainer), "update", infinite)
    assert refusal(site.handle(at_stage(consortium, "round-start"))).code is Refusal.LOCAL_FAILURE
    assert site.failure


def rewrite_policy(home: Path, old: str, new: str) -> None:
    text = (home / "policy.toml").read_text()
    assert old in text
    (home / "policy.toml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("message", "stage_tag", "stage"),
    [("masked-vector", "share-delivery", "mask"), ("unmask-answer", "unmask-request", "unmask")],
)
def test_what_the_policy_does_not_list_stays(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, message: str, stage_tag: str, stage: str
) -> None:
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run):
        pass
    rewrite_policy(made.run.homes / NAME, f"\n{message} =", f"\n# {message} =")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        answer = refusal(consortium.sites[NAME].handle(at_stage(consortium, stage_tag)))
        assert (answer.code, answer.stage) == (Refusal.POLICY, stage)
        refused = [entry for entry in entries(consortium, NAME) if entry["outcome"] == "refused"]
        assert [(entry["message_type"], entry["wire_bytes"]) for entry in refused] == [(message, 0)]


def test_a_policy_that_lets_no_refusal_out_keeps_silent(toy: Callable[..., Any], tmp_path: Path, BACKBONE: str) -> None:
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run):
        pass
    rewrite_policy(made.run.homes / NAME, "\nrefusal =", "\n# refusal =")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        site = consortium.sites[NAME]
        at_stage(consortium, "advert-list")
        assert site.handle(b"garbage") == ()
        assert entries(consortium, NAME)[-1]["outcome"] == "refused"


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"round": "x"}', b'{"round": []}', b"\xff"])
def test_damaged_state_stops_the_site_instead_of_starting_anew(
    consortium: Consortium, site: Site, content: bytes
) -> None:
    (site.folder / PROGRESS_FILE).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        site.handle(at_stage(consortium, "round-start"))
    assert PROGRESS_FILE in caught.value.where


def test_the_update_is_on_disk_before_the_advert_leaves(
    consortium: Consortium, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    honest = type(site.gate).release

    def release(self: Any, message: Message, *, peer: str) -> Sealed:
        there.append((site.folder / "update-00001.safetensors").exists() and (site.folder / PROGRESS_FILE).exists())
        return honest(self, message, peer=peer)

    monkeypatch.setattr(type(site.gate), "release", release)
    site.handle(at_stage(consortium, "round-start"))
    assert there == [True]


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """SHA-256 of every vector that a site encoded."""
    seen: list[str] = []
    honest = site_module.encode

    def spy(*arguments: Any) -> Any:
        result = honest(*arguments)
        seen.append(hashlib.sha256(result.words.tobytes()).hexdigest())
        return result

    monkeypatch.setattr(site_module, "encode", spy)
    return seen


def progress(site: Site) -> dict[str, Any]:
    return dict(json.loads((site.folder / PROGRESS_FILE).read_bytes()))


def test_the_vector_of_a_round_is_noted_before_the_advert_leaves_and_is_the_same_in_every_attempt(
    consortium: Consortium, site: Site, vectors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[str] = []
    honest = type(site.gate).release

    def release(self: Any, message: Message, *, peer: str) -> Sealed:
        there.append(progress(site)["vector"])
        return honest(self, message, peer=peer)

    monkeypatch.setattr(type(site.gate), "release", release)
    for attempt in range(3):
        assert isinstance(reply(site.handle(at_stage(consortium, "round-start"))), Advert)
        assert set(progress(site)) == {"round", "attempt", "adapter", "vector"}
        assert (progress(site)["round"], progress(site)["attempt"]) == (1, attempt)
        if attempt == 1:
            (site.folder / "update-00001.safetensors").unlink()  # trained anew, it is the same
    assert there == vectors
    assert len(vectors) == 3
    assert len(set(vectors)) == 1


def test_a_round_is_not_entered_a_second_time_with_another_vector(
    consortium: Consortium, site: Site, vectors: list[str]
) -> None:
    """Sums of both would show by subtraction what training anew had changed."""
    assert isinstance(reply(site.handle(at_stage(consortium, "round-start"))), Advert)
    (site.folder / "update-00001.safetensors").unlink()
    part = site.trainer.part
    site.trainer = replace(site.trainer, part=TrainingPart(part.inputs[1:], part.labels[1:]))
    for _ in range(2):
        answer = refusal(site.handle(at_stage(consortium, "round-start")))
        assert (answer.code, answer.stage) == (Refusal.LOCAL_FAILURE, "start")
        assert "entered with another update" in site.failure
        assert site._session is None
        assert progress(site)["vector"] == vectors[0]
    assert len(set(vectors)) == 2


def test_the_next_round_has_a_vector_of_its_own(consortium: Consortium, site: Site, vectors: list[str]) -> None:
    whole_round(consortium)
    first = progress(site)
    assert isinstance(reply(site.handle(at_stage(consortium, "round-start"))), Advert)
    assert first["vector"] in vectors[:3]
    assert progress(site)["round"] == 2
    assert progress(site)["vector"] == vectors[-1] != first["vector"]


def test_adapter_info_is_part_of_what_a_site_checks() -> None:
    assert set(AdapterInfo.__slots__) == {"study", "method", "round", "backbone"}


@pytest.mark.parametrize("lost", ["survivors.json", "progress.json"])
def test_state_that_is_gone_stops_the_site_instead_of_starting_anew(
    toy: Callable[..., Any], tmp_path: Path, BACKBONE: str, lost: str
) -> None:
    """Without it the site would not know what it has signed, and could sign a second survivor set for a round."""
    made = toy(tmp_path / "run")
    with open_consortium(made.study, made.method, made.data, BACKBONE, made.run) as consortium:
        at_stage(consortium, "unmask-request")
        folder = consortium.sites[NAME].folder
        (folder / "survivors.json").write_bytes(b'{"signed":"set"}')
    (folder / lost).unlink()
    with (
        pytest.raises(CheckpointError) as refused,
        open_consortium(made.study, made.method, made.data, BACKBONE, made.run),
    ):
        pass
    assert refused.value.where == str(folder / lost)
    assert refused.value.remedy
