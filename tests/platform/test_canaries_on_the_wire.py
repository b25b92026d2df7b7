"""Nothing of a patient leaves a site: whole studies on pictures full of canaries, with every byte captured.

What is shown for each study: no canary, no feature, no plaintext update and no key is in any parcel, in any spelling;
every parcel decodes, and every field of it is explained by what everybody may know; masked words look like masks; the
ledgers tell exactly what travelled; and what an auditor gets holds no canary either. Then the converse: with masks off,
or with a canary put into a message on purpose, the same eyes see it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.platform.adapter_file import AdapterInfo
from wardround.privacy import message_types as t
from wardround.privacy import messages as m
from wardround.privacy.errors import DecodeError, Refusal
from wardround.privacy.secure_aggregation.session import SessionId

from . import canary_messages as rules
from .canaries import (
    FIXED,
    FLOATS,
    FULL_NAME,
    PLACES,
    RUN,
    WORDS,
    Detector,
    Planted,
    detector_of,
    plant,
    text_spellings,
)
from .canary_runs import COORDINATOR, Run, run_on

PRIVATE = {"privacy": {"epsilon": 8.0, "delta": 0.05, "class_noise": 2.0}, "facmic": {"normalisation": "layer"}}
FAULTS: dict[str, Any] = {
    "drop": [{"site": site, "round": 2, "stage": "unmask"} for site in ("east", "south")]
    + [{"site": "south", "round": 4, "stage": "mask"}],
    "slow": [{"site": "east", "round": 5, "stage": "advertise", "seconds": 900.0}],
    "lying_coordinator": [
        {"round": 1, "lie": "substituted-key"},
        {"round": 5, "lie": "small-cohort"},
        {"round": 6, "lie": "changed-unmask"},
    ],
    "dishonest_share": [{"site": "west", "round": 3, "kind": "dealt"}],
}
METHODS = ("facmic", "faa-clip", "fedclip", "prompt-fl", "lora", "fedavg", "fedprox", "moon")
STUDIES: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in METHODS},
    "class-means": {"reference": {"source": "class-means"}, "faa_clip": {}, "method": "faa-clip"},
    "private": PRIVATE,
    "packed": {"secure_aggregation": {"bits": 12, "clip": 0.0, "weighting": "uniform"}},
    "faults": {"reference": {"source": "class-means"}, "rounds": 6, "retries": 3, "faults": FAULTS},
    "two-adapters": {
        "method": "fedclip",
        "retries": 0,
        "faults": {"lying_coordinator": [{"round": 2, "lie": "two-adapters"}]},
    },
    "resumed": {"method": "fedclip", "stop_at": 45},
}
EMBEDDED = ("faa-clip", "fedclip", "prompt-fl", "lora", "fedavg")
SLOW: dict[str, dict[str, Any]] = {
    "embedded": {"small": False, "rounds": 1, "training": {"local_epochs": 1}},
    **{f"embedded {name}": {"method": name, "small": False, "rounds": 1} for name in EMBEDDED},
    "embedded private": {**PRIVATE, "small": False},
    "private, image by image": {
        **PRIVATE,
        "privacy": {"epsilon": 8.0, "delta": 0.05, "alignment": "per-record", "fourier_every": 1},
    },
    "private faa-clip": {"method": "faa-clip", **PRIVATE, "facmic": {}, "faa_clip": {"normalisation": "layer"}},
    "private prompts": {"method": "prompt-fl", "privacy": {"epsilon": 8.0, "delta": 0.05}},
    "text adapter, own temperature, local norms": {
        "facmic": {"text_adapter": True, "normalisation": "batch-local"},
        "calibration": {"method": "federated-head"},
        "personalisation": {"fine_tune_epochs": 1},
    },
}
ALL = [*STUDIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
UNFINISHED = ("two-adapters",)
CUT_SHORT = ("two-adapters", "resumed")

Captured = Callable[..., Run]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("canaries"))


@pytest.fixture(scope="module")
def captured(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    """``captured(name, masked=True)``: a study of `STUDIES` or `SLOW`, run once."""
    runs: dict[tuple[str, bool], Run] = {}
    root = tmp_path_factory.mktemp("runs")

    def run(name: str, *, masked: bool = True) -> Run:
        key = (name, masked)
        if key not in runs:
            changes = {**STUDIES, **SLOW}[name]
            short = {} if masked else {"rounds": 1, "retries": 0}
            runs[key] = run_on(planted, root / str(len(runs)), root / "cache", masked=masked, **{**changes, **short})
        return runs[key]

    yield run
    runs.clear()


def vectors_of(run: Run) -> list[m.MaskedVector]:
    return [message for _, _, message in run.messages if isinstance(message, m.MaskedVector)]


# --- (a) no canary, nothing secret ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_no_canary_no_feature_no_update_and_no_key_is_in_any_parcel(captured: Captured, name: str) -> None:
    run = captured(name)
    assert (run.error is not None) == (name in UNFINISHED), run.error
    kinds = {what.split(" x ")[0] for what in run.secrets.keys.values()}
    assert {"the seed of an identity", "the seed of a ledger key", "a derived key", "a share"} <= kinds
    assert len(run.secrets.words) >= len(vectors_of(run)) > 0
    found = {wire[:20]: run.everything.search(wire) for wire in run.different}
    assert {start: finds for start, finds in found.items() if finds} == {}


# --- (b) every field is explained -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_every_parcel_decodes_and_holds_only_what_everybody_may_know(captured: Captured, name: str) -> None:
    run = captured(name)
    wrong = [
        (sender, receiver, found)
        for sender, receiver, wire in run.parcels
        if (found := rules.complaints(sender, receiver, wire, run.known))
    ]
    if name == "two-adapters":  # the liar's dead adapter is one more, and nothing else
        assert {tuple(found) for _, _, found in wrong} == {("RoundStart.adapter",)}
        assert {receiver for _, receiver, _ in wrong} == set(run.roster.names[1:])
    else:
        assert wrong == []


@pytest.mark.parametrize("name", ALL)
def test_masked_words_look_like_masks_one_by_one_in_pairs_and_in_sum(captured: Captured, name: str) -> None:
    """In pairs: a mask that served twice would cancel. In sum: pair masks cancel, and self masks must remain."""
    run = captured(name)
    roster = run.roster
    by_session: dict[Any, list[list[tuple[Any, int]]]] = {}
    every = []
    for vector in vectors_of(run):
        parts = [(values, ring) for values, ring, _ in rules.stretches(vector.vector, roster, vector.session.purpose)]
        by_session.setdefault(vector.session, []).append(parts)
        every.append((vector.session.purpose, parts))
        assert rules.uniformity(parts) > rules.LEAST
    assert every
    assert rules.uniformity([part for _, parts in every for part in parts]) > rules.LEAST
    large = sum(values.size for values, _ in every[0][1]) > 100_000
    for at, (purpose, one) in enumerate(every):
        others = [other for kind, other in every[at + 1 :] if kind == purpose]
        for other in others[:1] if large else others:
            assert rules.uniformity(_combined(one, other, -1)) > rules.LEAST
    for together in by_session.values():
        total = together[0]
        for other in together[1:]:
            total = _combined(total, other, 1)
        assert rules.uniformity(total) > rules.LEAST


def _combined(one: list[tuple[Any, int]], other: list[tuple[Any, int]], sign: int) -> list[tuple[Any, int]]:
    """Sums or differences in the ring."""
    pairs = zip(one, other, strict=True)
    return [((a + np.uint32(sign % 2**32) * b) & np.uint32(2**ring - 1), ring) for (a, ring), (b, _) in pairs]


SHOWN_BY = {
    **dict.fromkeys(set(m.BY_TAG) - {"refusal"}, "fedclip"),
    "refusal": "faults",
}
"""A study in which each type of message occurs."""
NEVER: list[str] = []
"""Types that cannot occur in any study."""


def test_every_type_of_message_was_looked_at(captured: Captured) -> None:
    assert sorted(set(m.BY_TAG) - set(SHOWN_BY)) == NEVER
    for tag, name in SHOWN_BY.items():
        assert tag in captured(name).tags, f"{tag} does not occur in {name}"
    faults = captured("faults")
    codes = {message.code for _, _, message in faults.messages if isinstance(message, m.RefusalNotice)}
    assert {Refusal.BAD_SIGNATURE, Refusal.UNOPENABLE_SHARE, Refusal.TOO_FEW, Refusal.CHANGED_REQUEST} <= codes
    assert {vector.session.purpose for vector in vectors_of(faults)} == {
        "update",
        "class-means",
        "temperature",
        "evaluation",
    }
    assert max(vector.session.attempt for vector in vectors_of(faults)) > 0
    outcomes = {entry["outcome"] for party in parties(faults) for entry in entries(faults, party)}
    assert {"sent", "retried", "received"} <= outcomes
    kinds = {share.kind for _, _, each in faults.messages if isinstance(each, m.UnmaskAnswer) for share in each.shares}
    assert kinds == {"b", "s"}


# --- (c) the converse: what leaks is seen ---------------------------------------------------------------------------


WITHOUT_MASKS = [*METHODS, "class-means", "private", "packed", pytest.param("embedded", marks=pytest.mark.slow)]


@pytest.mark.parametrize("name", WITHOUT_MASKS)
def test_without_masks_the_update_of_every_site_is_found(captured: Captured, name: str) -> None:
    run = captured(name, masked=False)
    assert run.error is not None  # what the coordinator makes of it is no sum
    updates, vectors = run.updates(), vectors_of(run)
    assert {vector.site for vector in vectors} == set(run.roster.names)
    for vector in vectors:
        finds = updates.search(m.encode(vector), deep=False)
        assert finds
        assert all(find.what.startswith(("encoded words", "packed words")) for find in finds)
        assert run.everything.search(m.encode(vector), deep=False)
    parts = [
        (values, ring)
        for vector in vectors
        for values, ring, _ in rules.stretches(vector.vector, run.roster, vector.session.purpose)
    ]
    few = sum(values.size for values, _ in parts) < rules.FEWEST
    assert few == (name == "class-means")  # 66 numbers of each site
    assert few or rules.uniformity(parts) < rules.LEAST


def test_a_mask_that_serves_twice_and_a_sum_without_self_masks_are_seen() -> None:
    draw = np.random.default_rng(4)
    mask = draw.integers(0, 2**32, 5000, dtype=np.uint32)
    one, other = (draw.integers(0, 2**12, 5000, dtype=np.uint32) for _ in range(2))
    assert rules.uniformity([(one + mask, 32)]) > rules.LEAST
    assert rules.uniformity(_combined([(one + mask, 32)], [(other + mask, 32)], -1)) < rules.LEAST
    assert rules.uniformity(_combined([(one + mask, 32)], [(other - mask, 32)], 1)) < rules.LEAST


SESSION = SessionId(b"\x11" * 32, 1, "update")
FREE: dict[str, Callable[[bytes], m.Message]] = {
    "round-start adapter": lambda data: m.RoundStart(SESSION, data, b"{}"),
    "round-start settings": lambda data: m.RoundStart(SESSION, b"", data),
    "study-end adapter": lambda data: m.StudyEnd(b"\x11" * 32, "completed", data),
    "masked-vector vector": lambda data: m.MaskedVector(SESSION, "a", data, bytes(16), bytes(64)),
    "cosigned leaves": lambda data: m.Cosigned(b"\x11" * 32, 1, False, 1, bytes(32), data, ()),
    "sealed-shares box": lambda data: m.SealedShares(
        SESSION, "a", (t.SealedShare("b", data, bytes(32), bytes(32)),), bytes(64)
    ),
    "receipt received": lambda data: _receipt(tuple(data[at : at + 400] for at in range(0, len(data), 400))),
    "advert list signature": lambda data: m.AdvertList(SESSION, (_advert(data),)),
}
"""Makers of messages with anything at all in one field, as a faulty product could make them."""


def _advert(signature: bytes) -> m.Advert:
    return m.Advert(SESSION, "a", bytes(32), bytes(32), bytes(32), bytes(32), signature)


def _receipt(received: tuple[bytes, ...]) -> m.Receipt:
    zeros, signature = bytes(32), bytes(64)
    return m.Receipt(zeros, 1, False, "a", 1, zeros, signature, zeros, 0, b"", 0, received, signature)


@pytest.fixture(scope="module")
def eyes(planted: Planted) -> tuple[Detector, dict[str, np.ndarray[Any, Any]]]:
    """A detector of everything planted, of a row of features, of an update, of its words and of a key."""
    draw = np.random.default_rng(9)
    feature = draw.normal(size=64).astype(np.float32)
    known = {
        "features": feature / np.linalg.norm(feature),
        "update": (draw.normal(size=500) * 1e-3).astype(np.float32),
        "words": draw.integers(-4000, 4000, size=500).astype(np.int32).view(np.uint32),
    }
    detector = Detector()
    detector.take(detector_of(planted))
    detector.add_values("features", known["features"], {**FLOATS, **FIXED})
    detector.add_values("update", known["update"], FLOATS)
    detector.add_values("words", known["words"], WORDS)
    detector.add_secret("key", bytes(range(100, 132)))
    return detector, known


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_canary_in_any_field_at_any_place_in_any_spelling_is_found(eyes: Any, data: st.DataObject) -> None:
    detector, _ = eyes
    text = data.draw(st.sampled_from([*PLACES.values(), FULL_NAME]))
    spelt = data.draw(st.sampled_from([needle for each in text_spellings(text).values() for needle in each]))
    around = st.binary(max_size=150)
    content = data.draw(around) + spelt + data.draw(around)
    wire = m.encode(data.draw(st.sampled_from(list(FREE.values())))(content))
    assert detector.search(wire)


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "hexadecimal": lambda data: data.hex().encode(),
    "zlib": zlib.compress,
    "zlib, stored": lambda data: zlib.compress(data, 0),
    "gzip": gzip.compress,
    "gzip in base64": lambda data: base64.b64encode(gzip.compress(data)),
}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_run_of_8_values_in_any_format_and_packing_is_found(eyes: Any, data: st.DataObject) -> None:
    detector, known = eyes
    name, formats = data.draw(
        st.sampled_from([("features", {**FLOATS, **FIXED}), ("update", FLOATS), ("words", WORDS)])
    )
    how = data.draw(st.sampled_from(list(formats)))
    start = data.draw(st.integers(0, len(known[name]) - RUN))
    run = formats[how](known[name])[start : start + RUN].tobytes()
    packed = data.draw(st.sampled_from(list(PACKINGS.values())))(run)
    content = data.draw(st.binary(max_size=40)) + packed + data.draw(st.binary(max_size=40))
    wire = m.encode(data.draw(st.sampled_from(list(FREE.values())))(content))
    assert any(find.what.startswith(name) for find in detector.search(wire))


def test_features_as_a_list_of_decimal_numbers_are_found(eyes: Any) -> None:
    detector, known = eyes
    text = json.dumps({"features": [float(value) for value in known["features"][40:60]]}).encode()
    assert detector.search(m.encode(m.RoundStart(SESSION, b"", text)))


def test_every_single_canary_is_found_wherever_it_is_put(eyes: Any, planted: Planted) -> None:
    detector, _ = eyes
    makers = list(FREE.values())
    contents = [text.encode() for text in planted.strings if any(word in text for word in PLACES.values())]
    contents += [hashlib.sha256(text.encode()).digest() for text in planted.strings]
    contents += [hashlib.md5(text.encode()).hexdigest().encode() for text in planted.strings]  # noqa: S324
    contents += [hashlib.sha256(file).hexdigest().encode() for file in planted.files]
    contents += [*planted.pixels, *planted.files, bytes(range(100, 132)), bytes(range(104, 128))]
    missed = [
        content[:40]
        for number, content in enumerate(contents)
        if not detector.search(m.encode(makers[number % len(makers)](b"\x07" * (number % 11) + content)))
    ]
    assert missed == []
    assert len(contents) > 900


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=4000))
def test_what_is_no_canary_raises_no_alarm(eyes: Any, data: bytes) -> None:
    detector, _ = eyes
    assert detector.search(m.encode(m.RoundStart(SESSION, data, b"{}"))) == []


@pytest.mark.parametrize("tag", sorted(m.BY_TAG))
def test_a_canary_in_a_real_message_is_refused_or_complained_of(captured: Captured, tag: str) -> None:
    """Every field of a captured message of every type, with something else in it."""
    run = captured(SHOWN_BY[tag])
    message = next(each for _, _, each in run.messages if m.tag_of(each) == tag)
    sender, receiver = next((a, b) for a, b, each in run.messages if each is message)
    assert rules.complaints(sender, receiver, m.encode(message), run.known) == []
    for name in message.__struct_fields__:
        for value in _smuggled(getattr(message, name)):
            wire = m.encode(msgspec.structs.replace(message, **{name: value}))
            try:
                found = rules.complaints(sender, receiver, wire, run.known)
            except DecodeError:
                found = ["refused"]
            assert found, f"{name} = {value!r}"


def _smuggled(value: Any) -> list[Any]:
    """Values of the same type that hold what they should not."""
    word = PLACES["patient"]
    if isinstance(value, bool):
        return [2]
    if isinstance(value, bytes):
        return [value + b"!", value[:-1]] if value else [word.encode()]
    if isinstance(value, int):
        return [value + 1_000_000, -1]
    if isinstance(value, str):
        return [word]
    if isinstance(value, tuple):
        return [(*value, word), (*value, word.encode())]
    if isinstance(value, msgspec.Struct):
        return [
            msgspec.structs.replace(value, **{name: inner})
            for name in value.__struct_fields__
            for inner in _smuggled(getattr(value, name))
        ]
    raise TypeError(f"nothing is known to put into a {type(value).__name__}")


def test_a_field_or_a_type_without_a_rule_is_complained_of(captured: Captured) -> None:
    parts = {kind for kind in vars(t).values() if isinstance(kind, type) and issubclass(kind, t._Part)}
    assert set(rules.RULES) == {*m.BY_TAG.values(), *(parts - {t._Part}), SessionId}
    known = captured("fedclip").known

    class Wider(m.RoundEnd, frozen=True, tag="round-end"):
        patient: str = "a"

    class Grown(m.Agreement, frozen=True, tag="agreement"):
        pass

    session = next(message.session for _, _, message in captured("fedclip").messages if isinstance(message, m.Advert))
    assert list(rules.complaints_of(Wider(session, "aborted", bytes(32)), known)) == ["Wider is a type without rules"]
    assert list(rules.complaints_of(Grown(session, "east", bytes(64)), known)) == ["Grown is a type without rules"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(rules.RULES, Wider, rules.RULES[m.RoundEnd])
        (found,) = rules.complaints_of(Wider(session, "aborted", bytes(32)), known)
    assert "patient" in found


def test_an_adapter_with_anything_beside_its_tensors_is_complained_of(captured: Captured) -> None:
    run = captured("fedclip")
    sender, receiver, start = next(each for each in run.messages if isinstance(each[2], m.RoundStart))
    state, info = rules.parse_adapter(start.adapter, where="here")
    name = next(iter(state))
    changed = {**state, name: state[name] + 1e-3}
    for adapter in (
        rules.dump_adapter({**state, PLACES["file"]: state[name].clone()}, info),
        rules.dump_adapter(changed, info),
        rules.dump_adapter(state, AdapterInfo(info.study, PLACES["patient"], info.round, info.backbone)),
    ):
        wire = m.encode(msgspec.structs.replace(start, adapter=adapter))
        assert rules.complaints(sender, receiver, wire, run.known) == ["RoundStart.adapter"]


# --- (d) what an auditor gets ---------------------------------------------------------------------------------------


def auditors_files(run: Run) -> list[Path]:
    """Ledgers, checkpoints, proofs, receipts, rosters, policies and budgets, of homes and of their copies."""
    folders = [run.folder.coordinator, *run.folder.homes.iterdir(), *run.folder.root.glob("sites/*")]
    names = ("ledger.jsonl", "policy.toml", "budget.json", "checkpoints/*", "rosters/*", "class-means.json")
    return [path for folder in folders for name in names for path in sorted(folder.glob(name)) if path.is_file()]


@pytest.mark.parametrize("name", ALL)
def test_what_an_auditor_gets_holds_no_canary(captured: Captured, name: str) -> None:
    run = captured(name)
    files = auditors_files(run)
    kinds = {path.name if path.suffix != ".tlog-proof" else path.suffix for path in files}
    assert {"ledger.jsonl", "policy.toml", ".tlog-proof"} <= kinds
    assert ("latest.txt" in kinds) == (run.error is None)
    parts = [path.read_bytes() for path in files]
    parts += [run.folder.rounds.read_bytes()]
    whole = b"\n".join(dict.fromkeys(parts))
    assert run.everything.search(whole) == []
    assert run.everything.search(whole + b'{"peer":"' + PLACES["patient"].encode() + b'"}')


# --- (e) the ledgers tell exactly what travelled --------------------------------------------------------------------


def parties(run: Run) -> list[str]:
    return [COORDINATOR, *run.roster.names]


def entries(run: Run, party: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.ledger(party).read_bytes().splitlines()]


@pytest.mark.parametrize("name", ALL)
def test_ledgers_and_wire_agree_to_the_byte(captured: Captured, name: str) -> None:
    run = captured(name)
    for party in parties(run):
        told = [
            (entry["peer"], entry["message_type"], entry["wire_bytes"], entry["wire_sha256"])
            for entry in entries(run, party)
            if entry["direction"] == "out" and entry["outcome"] in ("sent", "retried")
        ]
        seen = [
            (receiver, m.tag_of(message), len(wire), hashlib.sha256(wire).hexdigest())
            for (sender, receiver, wire), (_, _, message) in zip(run.parcels, run.messages, strict=True)
            if sender == party
        ]
        assert seen
        if name in CUT_SHORT:  # what was let out when the run stopped, and never carried, is in the ledger alone
            assert not Counter(seen) - Counter(told)
        else:
            assert Counter(seen) == Counter(told)
            assert sum(size for *_, size, _ in told) == sum(size for *_, size, _ in seen)


@pytest.mark.parametrize("name", ["fedclip", "class-means", "faults"])
def test_what_arrived_is_in_the_receivers_ledger(captured: Captured, name: str) -> None:
    run = captured(name)
    for party in parties(run):
        told = Counter(
            (entry["peer"], entry["wire_sha256"])
            for entry in entries(run, party)
            if entry["direction"] == "in" and entry["outcome"] == "received"
        )
        seen = Counter(
            (sender, hashlib.sha256(wire).hexdigest()) for sender, receiver, wire in run.parcels if receiver == party
        )
        assert not told - seen
        if name == "faults" and party != COORDINATOR:  # the network lost what was for a site that was away
            assert sum(told.values()) > sum(seen.values()) / 2
        else:
            assert told == seen
