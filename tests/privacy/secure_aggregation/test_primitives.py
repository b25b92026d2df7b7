"""Known answers for the primitives as this protocol calls them, and the key stream against AES-CTR."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import DecryptionError
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation.session import SessionId, transcript

SESSION = SessionId(bytes(range(32)), 3, "update", 0, 1)
ALICE = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"
BOB_PUBLIC = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


@pytest.mark.parametrize("words", [1, 5, 32_767, 32_768, 32_769, 100_003])
def test_masks_are_the_aes_ctr_stream_from_nonce_and_counter_two(words):
    keys = [bytes([i]) * 32 for i in range(4)]
    streams = [
        np.frombuffer(
            Cipher(algorithms.AES(key), modes.CTR(bytes(12) + b"\0\0\0\2")).encryptor().update(bytes(4 * words)),
            dtype="<u4",
        ).astype(np.int64)
        for key in keys
    ]
    total = np.zeros(words, dtype=np.uint32)
    p.apply_masks(total, keys[:1], [])
    assert (total == streams[0]).all()
    p.apply_masks(total, keys[1:2], keys[2:])
    assert (total == (streams[0] + streams[1] - streams[2] - streams[3]) % 2**32).all()
    p.apply_masks(total, keys[2:], keys[:2])
    assert not total.any()


def test_x25519_rfc_7748_section_6_1():
    alice = X25519PrivateKey.from_private_bytes(bytes.fromhex(ALICE))
    secret = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert p.exchange(alice, bytes.fromhex(BOB_PUBLIC)).hex() == secret


def test_hkdf_rfc_5869_test_case_3():
    okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert p.derive(bytes.fromhex("0b" * 22), b"").hex() == okm


def test_hkdf_by_its_definition():
    info = transcript(b"label", b"more")
    extracted = hmac.new(bytes(32), b"secret", hashlib.sha256).digest()
    assert p.derive(b"secret", info) == hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_pair_mask_key_is_the_same_from_both_sides_and_new_in_each_session():
    one, other = (X25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    publics = [key.public_key().public_bytes_raw() for key in (one, other)]
    key = p.pair_mask_key(one, publics[1], SESSION, "a", "b")
    assert key == p.pair_mask_key(other, publics[0], SESSION, "b", "a")
    others = {
        p.pair_mask_key(one, publics[1], SessionId(SESSION.study, 4, "update", 0, 1), "a", "b"),
        p.pair_mask_key(one, publics[1], SessionId(SESSION.study, 3, "evaluation", 0, 1), "a", "b"),
        p.pair_mask_key(one, publics[1], SESSION, "a", "c"),
        p.self_mask_key(p.exchange(one, publics[1]), SESSION, "a"),
    }
    assert len(others | {key}) == 5


def test_a_box_opens_only_in_its_direction_and_session():
    keys = (b"k" * 32, b"l" * 32)
    box = p.Sealer(bytes(32), SESSION, "a", "b", keys).seal(b"shares")
    assert p.Sealer(bytes(32), SESSION, "a", "b", keys).open(box) == b"shares"
    later = SessionId(SESSION.study, 4, "update", 0, 1)
    for wrong in (
        p.Sealer(bytes(32), SESSION, "b", "a", keys),
        p.Sealer(bytes(32), later, "a", "b", keys),
        p.Sealer(b"\1" * 32, SESSION, "a", "b", keys),
        p.Sealer(bytes(32), SESSION, "a", "b", keys[::-1]),
    ):
        with pytest.raises(DecryptionError):
            wrong.open(box)
    for damaged in (b"", box[:-1], box + b"\0", bytes([box[0] ^ 1]) + box[1:]):
        with pytest.raises(DecryptionError) as error:
            p.Sealer(bytes(32), SESSION, "a", "b", keys).open(damaged)
        assert str(error.value) == "decryption failed"


def test_labels_are_distinct():
    labels = [value for name, value in vars(p).items() if name.startswith("LABEL_")]
    assert len(labels) == len(set(labels)) == 17


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_transcripts_of_different_parts_differ(one, other):
    assert (transcript(*one) == transcript(*other)) == (one == other)


def test_checksum_sees_any_flipped_bit_and_the_sender():
    vector = bytes(range(256))
    whole = p.checksum(SESSION, "a", vector)
    assert len(whole) == 16
    assert p.checksum(SESSION, "b", vector) != whole
    for bit in range(0, 2048, 5):
        changed = bytearray(vector)
        changed[bit // 8] ^= 1 << bit % 8
        assert p.checksum(SESSION, "a", bytes(changed)) != whole
