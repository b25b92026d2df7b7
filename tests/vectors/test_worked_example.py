"""The worked example of docs/protocol.md, computed by the second implementation: each figure stands in the document."""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("slow_reference_of_example", HERE / "slow_reference.py")
assert _spec is not None
assert _spec.loader is not None
ref = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(ref)

TEXT = (HERE.parents[1] / "docs" / "protocol.md").read_text().split("## Worked example")[1]
CLOSED_UP = re.sub(r"\s", "", TEXT)
NAMES = ["a", "b", "c", "d", "e"]
STUDY = bytes.fromhex("11" * 32)
SESSION = {"study": STUDY.hex(), "round": 1, "purpose": "update", "sequence": 0, "attempt": 2}
S = ref.session_bytes(SESSION)
RING = 11


def secret(name: str, tens: int) -> bytes:
    """32 times the byte whose hexadecimal digits are ``tens`` and the site's number."""
    return bytes.fromhex(f"{tens}{NAMES.index(name) + 1}" * 32)


BLOCK = {"name": "update", "size": 5, "clip": "0.75", "fraction_bits": 7, "weighted": True, "bits": 8}
ROSTER = {
    "cohort": 3,
    "differential_privacy": False,
    "evaluation_cohort": NAMES,
    "sites": [
        {"name": name, "public_key": ref.ed25519_public(secret(name, 0)).hex(), "samples": 100} for name in NAMES
    ],
    "study": STUDY.hex(),
    "threshold": 4,
    "vectors": {"update": [{key: "yes" if value is True else str(value) for key, value in BLOCK.items()}]},
    "version": 1,
    "w_max": "4.0",
    "weighting": "uniform",
}
BINDING = ref.digest(
    "binding", ref.sha256(b"adapter"), ref.sha256(b'{"round":1,"study":"' + STUDY.hex().encode() + b'"}')
)


def signature(name: str, label: str, *content: bytes) -> bytes:
    return ref.ed25519_sign(secret(name, 0), ref.statement(label, ROSTER, SESSION, name, *content))


def advert(name: str) -> dict:
    keys = ref.x25519_public(secret(name, 1)), ref.x25519_public(secret(name, 2))
    content = (*keys, ref.digest("commit-b", S, name.encode(), secret(name, 3)), BINDING)
    values = (*content, signature(name, "advert", *content))
    fields = ("channel_key", "mask_key", "commitment", "binding", "signature")
    return {"site": name, **{field: value.hex() for field, value in zip(fields, values, strict=True)}}


ADVERTS = [advert(name) for name in NAMES]


def self_mask(name: str) -> bytes:
    return ref.hkdf(secret(name, 3), ref.transcript(ref.LABEL + b"self-mask", S, name.encode(), b"update"))


def pair_mask(one: str, other: str) -> bytes:
    shared = ref.x25519(secret(one, 2), ref.x25519_public(secret(other, 2)))
    low, high = sorted((one, other))
    return ref.hkdf(shared, ref.transcript(ref.LABEL + b"pair-mask", S, low.encode(), high.encode(), b"update"))


def written(*values: bytes) -> None:
    for value in values:
        for start in range(0, len(value), 32):  # the document breaks a signature into two lines
            assert value[start : start + 32].hex() in CLOSED_UP


def test_roster() -> None:
    assert ref.canonical(ROSTER).decode() in CLOSED_UP
    assert f"one line of {len(ref.canonical(ROSTER))} bytes" in TEXT
    written(ref.sha256(ref.canonical(ROSTER)), ref.ed25519_sign(secret("a", 0), ref.roster_statement(ROSTER, "a")))


def test_adverts() -> None:
    written(BINDING, *(bytes.fromhex(value) for key, value in ADVERTS[0].items() if key != "site"))
    written(ref.adverts_digest(ADVERTS))
    fields = [bytes.fromhex(value) for key, value in ADVERTS[0].items() if key != "site"]
    wire = ref.msgpack(["advert", [STUDY, 1, "update", 0, 2], "a", *fields])
    assert f"advert, {len(wire)} bytes" in TEXT


def test_keys() -> None:
    first = pair_mask("a", "b")
    written(ref.x25519(secret("a", 2), ref.x25519_public(secret("b", 2))), first, ref.key_stream(first, 20))
    written(self_mask("a"))
    names = (ref.LABEL + b"seal-shares", S, b"a", b"b")
    keys = ref.x25519_public(secret("a", 1)), ref.x25519_public(secret("b", 1))
    written(ref.hkdf(ref.x25519(secret("a", 1), keys[1]), ref.transcript(*names, *keys)))


def test_share() -> None:
    share = ref.share_bytes(ref.polynomial([int.from_bytes(secret("a", 3), "big"), 3, 2, 1], 5))
    written(share, ref.digest("share-hash", S, b"a", b"e", b"b", share))


def test_vector() -> None:
    rounding = ref.digest("rounding", ref.session_bytes({**SESSION, "attempt": 0}), b"a")
    stream = ref.digest("rounding", rounding, b"update")
    written(rounding, stream)
    assert "".join(map(str, ref.mask_words(stream, 5))) in CLOSED_UP
    values = [struct.unpack("<f", struct.pack("<f", x))[0] for x in (0.1, -0.1, 0.75, -2.0, 0.003)]
    words, clipped = ref.encode_block(BLOCK, values, 1.0, rounding)
    assert clipped == 1
    assert "".join(str(ref.signed(word, 32)) for word in words) in CLOSED_UP
    assert "".join(f"{word % 2**RING:03x}" for word in words) in CLOSED_UP
    written(ref.pack(words, RING)[:6])
    pairs = [ref.mask_words(pair_mask("a", other), 5) for other in NAMES[1:]]  # a is the lowest: all are added
    columns = zip(words, ref.mask_words(self_mask("a"), 5), *pairs, strict=True)
    masked = [sum(column) % 2**RING for column in columns]
    assert "".join(map(str, masked)) in CLOSED_UP
    vector = ref.pack(masked, RING)
    check = ref.checksum(SESSION, "a", vector)
    assert len(vector) == 44
    written(vector[:7], check, signature("a", "masked-vector", check))


def test_agreement() -> None:
    sets = ref.names_digest("sharers", NAMES), ref.names_digest("survivors", NAMES)
    written(signature("a", "agree", *sets, ref.adverts_digest(ADVERTS)))
