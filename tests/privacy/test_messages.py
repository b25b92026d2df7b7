"""The codec: exact round trips, and a typed refusal for anything else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import DecodeError, Refusal
from wardround.privacy.message_types import MAX_STEPS
from wardround.privacy.messages import (
    BY_TAG,
    MAX_DEPTH,
    MAX_RECEIVED,
    STAGE,
    TO_COORDINATOR,
    TO_SITE,
    Advert,
    AdvertList,
    Agreement,
    AgreeSignature,
    Batch,
    Cosignature,
    Cosigned,
    DeliveredShare,
    Limits,
    LogHead,
    MaskedVector,
    OpenedShare,
    Receipt,
    RefusalNotice,
    RoundEnd,
    RoundStart,
    SealedShare,
    SealedShares,
    ShareDelivery,
    SiteCosignature,
    StudyEnd,
    SurvivorSet,
    UnmaskAnswer,
    UnmaskRequest,
    decode,
    encode,
    schema_of,
    tag_of,
)
from wardround.privacy.secure_aggregation.session import SessionId

LIMITS = Limits(sites=5, vector_bytes=64, adapter_bytes=100, settings_bytes=100)
S = SessionId(bytes(range(32)), 7, "evaluation", 1, 2)
H, SIG = b"h" * 32, b"s" * 64
ADVERT = Advert(S, "a", H, H, H, H, SIG)
EXAMPLES = (
    RoundStart(S, b"adapter", b"{}"),
    AdvertList(S, (ADVERT, ADVERT)),
    ShareDelivery(S, (DeliveredShare("a", b"x" * 82, H, H, H * 3, SIG),)),
    SurvivorSet(S, ("a", "b")),
    UnmaskRequest(S, ("a", "b"), (AgreeSignature("a", SIG),)),
    RoundEnd(S, "released", H),
    StudyEnd(H, "completed", b"adapter"),
    ADVERT,
    SealedShares(S, "a", (SealedShare("b", b"x" * 82, H, H), SealedShare("a", b"", H, H)), SIG),
    MaskedVector(S, "a", bytes(64), b"c" * 16, SIG),
    Agreement(S, "a", SIG),
    UnmaskAnswer(S, "a", (OpenedShare("b", "s", b"z" * 33),), SIG),
    RefusalNotice(S, "a", Refusal.TOO_FEW, "share", ""),
    Receipt(H, 7, True, "a", 900, H, SIG, H, 300, H * 3, 17, (H, H), SIG),
    Batch(H, 7, False, 900, H, SIG, H * 2, LogHead(H, H, SIG), H * 2, 300, H * 3, (H,), SIG),
    Cosignature(H, 7, True, 900, H, "a", 1_700_000_000, SIG),
    Cosigned(H, 7, False, 900, H, H * 6, (SiteCosignature("a", 1, SIG), SiteCosignature("b", 2, SIG))),
)
ALL = TO_SITE + TO_COORDINATOR
WIRES = [encode(message) for message in EXAMPLES]


@pytest.mark.parametrize("message", EXAMPLES, ids=tag_of)
def test_round_trip(message):
    assert decode(encode(message), [type(message)], LIMITS) == message


def test_every_type_has_an_example_a_stage_and_a_limit():
    assert {tag_of(m) for m in EXAMPLES} == set(BY_TAG) == set(STAGE)
    assert all(LIMITS.of(tag) > 0 for tag in BY_TAG)


@pytest.mark.parametrize("message", EXAMPLES, ids=tag_of)
def test_only_expected_types_come_in(message):
    others = [kind for kind in ALL if kind is not type(message)]
    with pytest.raises(DecodeError, match="not expected"):
        decode(encode(message), others, LIMITS)


@pytest.mark.parametrize("message", EXAMPLES, ids=tag_of)
def test_truncated_oversized_and_trailing(message):
    wire = encode(message)
    for cut in range(0, len(wire), max(1, len(wire) // 40)):
        with pytest.raises(DecodeError):
            decode(wire[:cut], ALL, LIMITS)
    with pytest.raises(DecodeError):
        decode(wire + b"\0", ALL, LIMITS)
    with pytest.raises(DecodeError, match="more than"):
        decode(wire + bytes(100_000), ALL, LIMITS)


def test_the_size_is_checked_before_anything_is_decoded():
    wire = encode(MaskedVector(S, "a", bytes(10_000), b"c" * 16, SIG))
    with pytest.raises(DecodeError, match="more than the 576 allowed"):
        decode(wire, ALL, LIMITS)


def test_other_encodings_of_the_same_message_are_refused():
    raw = msgspec.msgpack.decode(encode(RoundEnd(S, "released", H)))
    assert decode(msgspec.msgpack.encode(raw), ALL, LIMITS) == RoundEnd(S, "released", H)
    wire = encode(RoundEnd(S, "released", H))
    position = wire.index(b"\x07\xaaevaluation")  # the round, 7, as a one-byte integer; 0xcc 0x07 says the same in two
    with pytest.raises(DecodeError, match="canonical"):
        decode(wire[:position] + b"\xcc\x07" + wire[position + 1 :], ALL, LIMITS)


@pytest.mark.parametrize(
    "raw",
    [
        ["round-end", [H, 0, "update", 0, 0], "released", H[:31]],
        ["round-end", [H, 0, "update", 0, 0], "maybe", H],
        ["round-end", [H, -1, "update", 0, 0], "released", H],
        ["round-end", [H, 2**32, "update", 0, 0], "released", H],
        ["round-end", [H, 0, "gossip", 0, 0], "released", H],
        ["round-end", [H, 0, "update", 0, 0], "released", H, "extra"],
        ["round-end", [H, 0, "update", 0, 0], "released"],
        ["round-end", [H, 0.0, "update", 0, 0], "released", H],
        ["refusal", [H, 0, "update", 0, 0], "a", "free text about a patient", "share", ""],
        ["refusal", [H, 0, "update", 0, 0], "A Site", "too-few", "share", ""],
        ["refusal", [H, 0, "update", 0, 0], "a", "too-few", "share", "Jane Doe"],
        ["agreement", [H, 0, "update", 0, 0], "a\n", SIG],
        ["cosignature", H, 0, 1, 900, H, "a", 1, SIG],
        ["cosignature", H, 0, True, 2**32, H, "a", 1, SIG],
        ["cosignature", H, 0, True, 900, H, "a", 2**40, SIG],
        ["cosignature", H, 0, True, 900, H, "a", -1, SIG],
        ["cosignature", H, 0, True, 900, H, "A Site", 1, SIG],
        ["receipt", H, 0, False, "a", 9, H, SIG, H, 0, b"x" * (32 * MAX_STEPS + 1), 0, [], SIG],
        ["receipt", H, 0, False, "a", 9, H, SIG, H[:31], 0, b"", 0, [], SIG],
        ["receipt", H, 0, False, "a", 9, H, SIG, H, 0, b"", 0, [H] * (MAX_RECEIVED + 1), SIG],
        ["receipt", H, 0, False, "a", 9, H, SIG, H, 0, b"", 0, ["free text about a patient"], SIG],
        ["cosigned", H, 0, False, 9, H, b"", [["a", 1, SIG, "extra"]]],
        ["batch", H, 0, False, 9, H, SIG, H, [H, H], H, 0, b"", [], SIG],
        ["nonsense", 1],
        [],
        {},
        7,
    ],
)
def test_fields_out_of_range(raw):
    with pytest.raises(DecodeError):
        decode(msgspec.msgpack.encode(raw), ALL, LIMITS)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"\x91" * 400)
@example(b"\x94\xa9round-end" + b"\x91" * 380)
@example(b"\x94\xa9round-end" + b"\xdd\xff\xff\xff\xff")
@example(b"\x94\xa9round-end" + b"\xc6\xff\xff\xff\xff")
def test_any_bytes_give_a_typed_refusal(data):
    with pytest.raises(DecodeError):
        decode(data, ALL, LIMITS)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(WIRES), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_messages_are_refused_or_are_other_valid_messages(wire, edits):
    data = bytearray(wire)
    for position, value in edits:
        data[position % len(data)] = value
    try:
        message = decode(bytes(data), ALL, LIMITS)
    except DecodeError:
        return
    assert encode(message) == bytes(data)


def test_schema_shows_shapes_and_no_values():
    rows = schema_of(MaskedVector(S, "a", bytes(64), b"c" * 16, SIG))
    assert {"name": "vector", "dtype": "uint32", "shape": [16], "nbytes": 64} in rows
    assert "sss" not in str(rows)


def test_limits_have_room_for_the_longest_names_and_largest_numbers():
    n, name = 20, "s" * 64
    last = SessionId(b"\xff" * 32, 2**32 - 1, "class-means", 2**32 - 1, 2**32 - 1)
    limits = Limits(sites=n, vector_bytes=40, adapter_bytes=10, settings_bytes=10)
    advert = Advert(last, name, H, H, H, H, SIG)
    most, path, tree = 2**32 - 1, bytes(32 * MAX_STEPS), bytes(32 * MAX_DEPTH)
    fullest = (
        RoundStart(last, bytes(10), bytes(10)),
        AdvertList(last, (advert,) * n),
        ShareDelivery(last, (DeliveredShare(name, bytes(82), H, H, bytes(32 * MAX_DEPTH), SIG),) * n),
        SurvivorSet(last, (name,) * n),
        UnmaskRequest(last, (name,) * n, (AgreeSignature(name, SIG),) * n),
        RoundEnd(last, "released", H),
        StudyEnd(H, "completed", bytes(10)),
        advert,
        SealedShares(last, name, (SealedShare(name, bytes(82), H, H),) * n, SIG),
        MaskedVector(last, name, bytes(40), b"c" * 16, SIG),
        Agreement(last, name, SIG),
        UnmaskAnswer(last, name, (OpenedShare(name, "b", bytes(33)),) * n, SIG),
        RefusalNotice(last, name, Refusal.SECOND_SURVIVOR_SET, "advertise", name),
        Receipt(H, most, True, name, most, H, SIG, H, most, path, most, (H,) * MAX_RECEIVED, SIG),
        Batch(H, most, True, most, H, SIG, tree, LogHead(H, H, SIG), tree, most, path, (H,) * MAX_RECEIVED, SIG),
        Cosignature(H, most, True, most, H, name, 2**40 - 1, SIG),
        Cosigned(H, most, True, most, H, H * (n + 1), (SiteCosignature(name, 2**40 - 1, SIG),) * n),
    )
    assert {type(message) for message in fullest} == set(ALL)
    for message in fullest:
        assert decode(encode(message), ALL, limits) == message
