"""Inputs about primitives, labels, masks and shares, each put to the product."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from operations import Operation, RefusedError, Session, Strict, private_key, raw
from wardround.privacy import messages
from wardround.privacy.identity import Identity, verifies
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation import shamir, statements
from wardround.privacy.secure_aggregation.session import SessionId, bind, transcript

# --- primitives ----------------------------------------------------------------------------------------------------


class Bare:
    """A context in which a statement is its first part, so that the product signs the messages of RFC 8032."""

    def statement(self, label: bytes, signer: str, parts: tuple[bytes, ...]) -> bytes:
        return parts[0]


class X25519(Operation, frozen=True, tag="x25519"):
    private: str
    public: str
    gives = ("shared",)

    def run(self) -> dict[str, Any]:
        public = raw(self.public)
        try:
            shared = p.exchange(private_key(self.private), public)
        except ValueError:
            assert len(public) != 32 or p.is_low_order(public)
            raise
        assert not p.is_low_order(public)
        return self.one(shared)


class X25519Public(Operation, frozen=True, tag="x25519-public"):
    private: str
    gives = ("public",)

    def run(self) -> dict[str, Any]:
        return self.one(private_key(self.private).public_key().public_bytes_raw())


class X25519Iterated(Operation, frozen=True, tag="x25519-iterated"):
    iterations: int
    gives = ("result",)

    def run(self) -> dict[str, Any]:
        k = u = (9).to_bytes(32, "little")
        for _ in range(self.iterations):
            k, u = p.exchange(X25519PrivateKey.from_private_bytes(k), u), k
        return self.one(k)


class Ed25519Sign(Operation, frozen=True, tag="ed25519-sign"):
    seed: str
    message: str
    gives = ("public", "signature")

    def run(self) -> dict[str, Any]:
        identity = Identity.from_seed(raw(self.seed))
        signature = identity.sign(b"", Bare(), "", raw(self.message))  # type: ignore[arg-type]
        return {"public": identity.public_key.hex(), "signature": signature.hex()}


class Ed25519Verify(Operation, frozen=True, tag="ed25519-verify"):
    public: str
    message: str
    signature: str

    def run(self) -> dict[str, Any]:
        public = Ed25519PublicKey.from_public_bytes(raw(self.public))
        if not verifies(public, raw(self.signature), b"", Bare(), "", raw(self.message)):  # type: ignore[arg-type]
            raise RefusedError("bad-signature")
        return {}


class Hkdf(Operation, frozen=True, tag="hkdf"):
    secret: str
    info: str
    gives = ("key",)

    def run(self) -> dict[str, Any]:
        return self.one(p.derive(raw(self.secret), raw(self.info)))


# --- labels --------------------------------------------------------------------------------------------------------


class Transcript(Operation, frozen=True, tag="transcript"):
    parts: list[str]
    gives = ("bytes",)

    def run(self) -> dict[str, Any]:
        return self.one(transcript(*map(raw, self.parts)))


class SessionBytes(Operation, frozen=True, tag="session"):
    session: Session
    gives = ("bytes",)

    def run(self) -> dict[str, Any]:
        return self.one(self.session.id.to_bytes())


class SelfMaskKey(Operation, frozen=True, tag="self-mask-key"):
    b: str
    session: Session
    site: str
    gives = ("key",)

    def run(self) -> dict[str, Any]:
        return self.one(p.self_mask_key(raw(self.b), self.session.id, self.site))


class PairMaskKey(Operation, frozen=True, tag="pair-mask-key"):
    private: str
    public: str
    session: Session
    one_name: str = msgspec.field(name="one")
    other_name: str = msgspec.field(name="other")
    gives = ("key",)

    def run(self) -> dict[str, Any]:
        keys = private_key(self.private), raw(self.public)
        return self.one(p.pair_mask_key(*keys, self.session.id, self.one_name, self.other_name))


class Channel(Operation, frozen=True):
    shared: str
    session: Session
    sender: str
    to: str
    sender_key: str
    recipient_key: str

    def sealer(self) -> p.Sealer:
        keys = raw(self.sender_key), raw(self.recipient_key)
        return p.Sealer(raw(self.shared), self.session.id, self.sender, self.to, keys)


class Seal(Channel, frozen=True, tag="seal"):
    plain: str
    gives = ("box",)

    def run(self) -> dict[str, Any]:
        return self.one(self.sealer().seal(raw(self.plain)))


class Open(Channel, frozen=True, tag="open"):
    box: str
    gives = ("plain",)

    def run(self) -> dict[str, Any]:
        return self.one(self.sealer().open(raw(self.box)))


class Commitment(Operation, frozen=True, tag="commitment"):
    session: Session
    site: str
    b: str
    gives = ("commitment",)

    def run(self) -> dict[str, Any]:
        return self.one(p.commitment(self.session.id, self.site, raw(self.b)))


class ShareHash(Operation, frozen=True, tag="share-hash"):
    session: Session
    dealer: str
    to: str
    kind: str
    share: str
    gives = ("hash",)

    def run(self) -> dict[str, Any]:
        return self.one(p.share_hash(self.session.id, self.dealer, self.to, self.kind, raw(self.share)))


class ShareLeaf(Operation, frozen=True, tag="share-leaf"):
    to: str
    box: str
    b_hash: str
    s_hash: str
    gives = ("leaf",)

    def run(self) -> dict[str, Any]:
        return self.one(p.share_leaf(self.to, raw(self.box), raw(self.b_hash), raw(self.s_hash)))


class Checksum(Operation, frozen=True, tag="checksum"):
    session: Session
    site: str
    vector: str
    gives = ("checksum",)

    def run(self) -> dict[str, Any]:
        return self.one(p.checksum(self.session.id, self.site, raw(self.vector)))


class BindingDigest(Operation, frozen=True, tag="binding"):
    adapter: str
    settings: str
    gives = ("binding",)

    def run(self) -> dict[str, Any]:
        return self.one(bind(raw(self.adapter), raw(self.settings)).digest)


class RoundingKey(Operation, frozen=True, tag="rounding-key"):
    session: Session
    site: str
    gives = ("key",)

    def run(self) -> dict[str, Any]:
        return self.one(p.rounding_key(self.session.id, self.site))


class NamesDigest(Operation, frozen=True, tag="names-digest"):
    label: Literal["sharers", "survivors"]
    names: list[str]
    gives = ("digest",)

    def run(self) -> dict[str, Any]:
        label = {"sharers": p.LABEL_SHARERS, "survivors": p.LABEL_SURVIVORS}[self.label]
        return self.one(statements.names_digest(label, self.names))


class AdvertRow(Strict, frozen=True):
    site: str
    channel_key: str
    mask_key: str
    commitment: str
    binding: str
    signature: str

    def message(self, session: SessionId) -> messages.Advert:
        fields = (self.channel_key, self.mask_key, self.commitment, self.binding, self.signature)
        return messages.Advert(session, self.site, *map(raw, fields))


class AdvertsDigest(Operation, frozen=True, tag="adverts-digest"):
    session: Session
    adverts: list[AdvertRow]
    gives = ("digest",)

    def run(self) -> dict[str, Any]:
        return self.one(statements.adverts_digest([row.message(self.session.id) for row in self.adverts]))


class StoreSeal(Operation, frozen=True, tag="store-seal"):
    seed: str
    label: str
    header: str
    plain: str
    nonce: str
    gives = ("sealed",)

    def run(self) -> dict[str, Any]:
        assert self.label.encode() == p.LABEL_STORE
        identity = Identity.from_seed(raw(self.seed))
        return self.one(identity.seal(p.LABEL_STORE, raw(self.header), raw(self.plain), raw(self.nonce)))


class StoreOpen(Operation, frozen=True, tag="store-open"):
    seed: str
    label: str
    header: str
    sealed: str
    gives = ("plain",)

    def run(self) -> dict[str, Any]:
        identity = Identity.from_seed(raw(self.seed))
        return self.one(identity.unseal(self.label.encode(), raw(self.header), raw(self.sealed)))


# --- masks and shares ----------------------------------------------------------------------------------------------


class Masks(Operation, frozen=True, tag="masks"):
    size: int
    initial: int
    add: list[str]
    subtract: list[str]
    at: list[int]
    gives = ("words", "sha256")

    def run(self) -> dict[str, Any]:
        add, subtract = list(map(raw, self.add)), list(map(raw, self.subtract))
        total = np.full(self.size, self.initial, dtype="<u4")
        p.apply_masks(total, add, subtract)
        assert (total == self.counter_mode(add, subtract)).all()
        self.compare(raw(messages.sha256_hex(total.tobytes())))
        return {"words": [int(total[i]) for i in self.at], "sha256": messages.sha256_hex(total.tobytes())}

    def counter_mode(self, add: list[bytes], subtract: list[bytes]) -> np.ndarray:
        """The same by AES-256-CTR from nonce || 00000002."""
        total = np.full(self.size, self.initial, dtype="<u4")
        for keys, sign in ((add, 1), (subtract, -1)):
            for key in keys:
                stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(12) + b"\0\0\0\2")).encryptor()
                words = np.frombuffer(stream.update(bytes(4 * self.size)), dtype="<u4")
                total = total + words if sign > 0 else total - words
        return total


class ShareAt(Strict, frozen=True):
    point: int
    share: str


class Combine(Operation, frozen=True, tag="combine"):
    shares: list[ShareAt]
    gives = ("secret",)

    def run(self) -> dict[str, Any]:
        weights = shamir.weights_at_zero([row.point for row in self.shares])
        return self.one(shamir.combine([raw(row.share) for row in self.shares], weights))


class Split(Operation, frozen=True, tag="split"):
    secret: str
    threshold: int
    points: list[int]
    random: str
    gives = ("shares", "drawn")

    def run(self) -> dict[str, Any]:
        asked: list[int] = []

        def draw(count: int) -> bytes:
            asked.append(count)
            return raw(self.random)

        shares = shamir.split(raw(self.secret), self.threshold, self.points, draw)
        return {"shares": [share.hex() for share in shares], "drawn": sum(asked)}
