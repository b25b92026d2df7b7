"""The key with which a party signs its ledger's checkpoints: kept encrypted, vouched for by its identity, replaceable.

The identity is in rosters that others signed, so it stays. The ledger key is used every round; it can be replaced at
any time, and whoever stole an older one can sign nothing that comes after.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..atomic import write_atomic
from ..errors import DecryptionError, KeyStoreError
from ..identity import Identity
from .chain import Chain
from .checkpoints import Checkpoint, signed
from .entries import Record
from .evidence import EvidenceStore
from .key_entries import certificate, origin_of
from .log import Ledger

LABEL_STORED = b"wardround/v1/ledger-key-file"
KEY_FILE = "ledger-key.bin"
SEED_BYTES = 32


class LedgerKey:
    """An Ed25519 key that signs checkpoints of one ledger. No export, no pickle."""

    __slots__ = ("_private", "identity", "public_key")

    def __init__(self, seed: bytes, identity: Identity) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._private.public_key().public_bytes_raw()
        self.identity = identity

    @property
    def origin(self) -> str:
        """The ledger's name in checkpoints."""
        return origin_of(self.identity.public_key)

    def sign(self, text: bytes) -> bytes:
        """Sign the text of a checkpoint; 64 bytes.

        Raises:
            KeyStoreError: the text is no checkpoint of this ledger; this key signs nothing else.
        """
        if not text.startswith(self.origin.encode() + b"\n"):
            raise KeyStoreError("a ledger key signs checkpoints of its own ledger only")
        return self._private.sign(text)

    def entry(self, chain: Chain, before: LedgerKey | None) -> Record:
        """The entry by which this key takes over at the chain's end.

        Args:
            chain: where the ledger stands.
            before: the key in force, which signs too; None for the first, or where it is lost.
        """
        old = chain.keys.keys[-1][1] if chain.keys.keys else b""
        signed = certificate(self.identity.public_key, chain.sequence, chain.head, old, self.public_key)
        facts: dict[str, str | int] = {
            "public_key": self.public_key.hex(),
            "identity": self.identity.public_key.hex(),
            "signature": (self.identity.sign_transcript(signed) + self._private.sign(signed)).hex(),
        }
        if before is not None:
            facts["previous_signature"] = before._private.sign(signed).hex()
        return Record(kind="key", study="", outcome="noted", facts=facts)

    def __repr__(self) -> str:
        return "LedgerKey()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a ledger key cannot be pickled or copied")


def open_key(
    folder: Path, identity: Identity, ledger: Ledger, random: Callable[[int], bytes] = os.urandom
) -> LedgerKey:
    """The key in force of a ledger, made and written into the ledger where there is none.

    The file may hold two keys for a moment, the one in force and the next: which one is in force the ledger says.

    Args:
        folder: of ``ledger-key.bin``, which is encrypted under the identity; mode 0600.
        identity: the owner's.
        ledger: open.
        random: 32 secret uniform bytes (``os.urandom``).

    Raises:
        KeyStoreError: the file is damaged, of another identity, or does not hold the key that is in force. `rotate`
            with ``lost=True`` makes another, which `verify` will name.
        LedgerError: the ledger cannot be written, or is another identity's.
    """
    keys, path = _load(folder / KEY_FILE, identity), folder / KEY_FILE
    current = ledger.chain.keys.keys[-1][1] if ledger.chain.keys.keys else None
    if current is None:
        fresh = keys[-1] if keys else _make(path, identity, (), random)
        ledger.append_key(lambda chain: fresh.entry(chain, None))
        return fresh
    found = next((key for key in keys if key.public_key == current), None)
    if found is None:
        raise KeyStoreError(
            "the key that signs this ledger is missing or damaged",
            where=str(path),
            remedy="Restore the file from a backup, or replace the key: wardround site rotate-key --lost",
        )
    if len(keys) > 1 and found is keys[-1]:
        _store(path, identity, (found,))  # a stop came between the entry of this key and the removal of the old one
    return found


def sign_latest(ledger: Ledger, key: LedgerKey, store: EvidenceStore) -> None:
    """Keep a checkpoint over the whole ledger, signed by its own key: what comes after it, others will cosign.

    Raises:
        LedgerError, OSError: the ledger or the disk refuses.
    """
    size, _ = ledger.sync()
    checkpoint = Checkpoint(key.origin, size, ledger.chain.tree.root(size))
    store.save_latest(signed(checkpoint, key.origin, key.sign, key.public_key))


def rotate(
    folder: Path,
    identity: Identity,
    ledger: Ledger,
    *,
    lost: bool = False,
    random: Callable[[int], bytes] = os.urandom,
) -> LedgerKey:
    """Let a new key take over from the next entry on; the old one is removed.

    Args:
        folder, identity, ledger, random: as `open_key`.
        lost: the key in force is gone, so the identity vouches alone; the ledger shows that.

    Raises:
        KeyStoreError, LedgerError: as `open_key`.
    """
    before = None if lost else open_key(folder, identity, ledger, random)
    path = folder / KEY_FILE
    fresh = _make(path, identity, () if before is None else (before,), random)
    ledger.append_key(lambda chain: fresh.entry(chain, before))
    _store(path, identity, (fresh,))
    return fresh


def _load(path: Path, identity: Identity) -> list[LedgerKey]:
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyStoreError(f"the ledger key cannot be read: {error.strerror}", where=str(path)) from None
    try:
        plain = identity.unseal(LABEL_STORED, origin_of(identity.public_key).encode(), sealed)
    except DecryptionError:
        return []  # whoever needs the key says so
    return [LedgerKey(plain[i : i + SEED_BYTES], identity) for i in range(0, len(plain), SEED_BYTES)]


def _make(path: Path, identity: Identity, before: tuple[LedgerKey, ...], random: Callable[[int], bytes]) -> LedgerKey:
    fresh = LedgerKey(random(SEED_BYTES), identity)
    _store(path, identity, (*before, fresh))
    return fresh


def _store(path: Path, identity: Identity, keys: tuple[LedgerKey, ...]) -> None:
    plain = b"".join(key._private.private_bytes_raw() for key in keys)
    sealed = identity.seal(LABEL_STORED, origin_of(identity.public_key).encode(), plain, os.urandom(12))
    try:
        write_atomic(path, sealed)
    except OSError as error:
        raise KeyStoreError(f"the ledger key cannot be written: {error.strerror}", where=str(path)) from None
