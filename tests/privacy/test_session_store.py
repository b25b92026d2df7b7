"""The kept session's file: encrypted, private, replaced whole, set aside when it cannot be opened."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wardround.privacy.errors import DecryptionError, HomeError, KeyStoreError
from wardround.privacy.identity import Identity
from wardround.privacy.session_store import SessionStore

STUDY = hashlib.sha256(b"study").digest()
IDENTITY = Identity.from_seed(bytes(32))
OTHER = Identity.from_seed(bytes([1]) * 32)


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    return SessionStore(tmp_path, IDENTITY, STUDY, os.urandom)


def test_what_was_saved_last_comes_back_until_it_is_erased(store: SessionStore) -> None:
    assert store.load() is None
    store.save(b"one")
    store.save(b"two")
    assert store.load() == b"two"
    store.erase()
    assert store.load() is None
    store.erase()
    assert list(store.folder.iterdir()) == []


def test_the_file_is_private_and_holds_no_plain_byte(store: SessionStore) -> None:
    secret = os.urandom(64)
    store.save(secret)
    assert store.path.stat().st_mode & 0o777 == 0o600
    data = store.path.read_bytes()
    assert not any(secret[i : i + 8] in data for i in range(56))


def test_equal_sessions_are_sealed_differently(store: SessionStore) -> None:
    store.save(b"same")
    first = store.path.read_bytes()
    store.save(b"same")
    assert store.path.read_bytes() != first


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "another study", "another identity"])
def test_what_cannot_be_opened_is_set_aside_and_named(store: SessionStore, damage: str) -> None:
    store.save(b"session")
    good = store.path.read_bytes()
    reader = store
    if damage == "flip":
        store.path.write_bytes(good[:20] + bytes([good[20] ^ 1]) + good[21:])
    elif damage == "cut":
        store.path.write_bytes(good[:-1])
    elif damage == "empty":
        store.path.write_bytes(b"")
    elif damage == "another study":
        reader = SessionStore(store.folder, IDENTITY, bytes(32), os.urandom)
    else:
        reader = SessionStore(store.folder, OTHER, STUDY, os.urandom)
    with pytest.raises(HomeError) as refused:
        reader.load()
    aside = Path(refused.value.where)
    assert aside.name == "session.bin.damaged"
    assert aside.is_file()
    assert refused.value.remedy
    assert reader.load() is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label=st.binary(max_size=20), header=st.binary(max_size=20), plain=st.binary(max_size=200), data=st.data())
def test_only_the_same_identity_label_and_header_open(
    label: bytes, header: bytes, plain: bytes, data: st.DataObject
) -> None:
    sealed = IDENTITY.seal(label, header, plain, os.urandom(12))
    assert IDENTITY.unseal(label, header, sealed) == plain
    place = data.draw(st.integers(0, len(sealed) - 1))
    flipped = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
    for identity, key, head, box in (
        (OTHER, label, header, sealed),
        (IDENTITY, label + b"x", header, sealed),
        (IDENTITY, label, header + b"x", sealed),
        (IDENTITY, label, header, flipped),
        (IDENTITY, label, header, sealed[:place]),
    ):
        with pytest.raises(DecryptionError):
            identity.unseal(key, head, box)


@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_nonce_has_twelve_bytes(size: int) -> None:
    with pytest.raises(KeyStoreError, match="nonce"):
        IDENTITY.seal(b"label", b"", b"plain", bytes(size))
