"""Inputs about the roster, messages and statements, each put to the product."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from operations import Operation, Session, Strict, raw
from wardround.privacy import messages
from wardround.privacy.identity import Identity, SigningContext
from wardround.privacy.secure_aggregation import primitives as p
from wardround.privacy.secure_aggregation import statements
from wardround.privacy.secure_aggregation.roster import LABEL_ROSTER, PinnedRoster, Roster

HERE = Path(__file__).parent
LIMITS = messages.Limits(sites=3, vector_bytes=64, adapter_bytes=64, settings_bytes=64)


@cache
def known_roster(name: str) -> Roster:
    """The roster of the accepted case of this name in roster.json."""
    cases = json.loads((HERE / "roster.json").read_text())["cases"]
    text = next(c["input"]["json"] for c in cases if c["name"] == name and c["expect"] == "accept")
    return Roster.from_bytes(text.encode())


# --- roster --------------------------------------------------------------------------------------------------------


class ReadRoster(Operation, frozen=True, tag="roster"):
    json: str
    gives = ("digest", "weights", "least", "colluding", "wire_bytes")

    def run(self) -> dict[str, Any]:
        roster = Roster.from_bytes(self.json.encode())
        return {
            "digest": roster.digest.hex(),
            "weights": [repr(roster.weight_of(name)) for name in roster.names],
            "least": roster.thresholds.least,
            "colluding": roster.thresholds.colluding,
            "wire_bytes": {purpose: roster.wire_size(purpose) for purpose in roster.vectors},
        }


class RosterSignature(Operation, frozen=True, tag="roster-signature"):
    roster: str
    seed: str
    site: str
    private: bool
    gives = ("statement", "signature")

    def run(self) -> dict[str, Any]:
        roster, identity = known_roster(self.roster), Identity.from_seed(raw(self.seed))
        signature = roster.sign(identity, self.site, private=self.private)
        context = SigningContext(roster.study, bytes(32))
        return {
            "statement": context.statement(LABEL_ROSTER, self.site, [roster.digest]).hex(),
            "signature": signature.hex(),
        }


class RosterPin(Operation, frozen=True, tag="roster-pin"):
    roster: str
    signatures: dict[str, str]
    confirmed: list[str]
    gives = ("confirmed",)

    def run(self) -> dict[str, Any]:
        signatures = {name: raw(row) for name, row in self.signatures.items()}
        pinned = known_roster(self.roster).pin(signatures, self.confirmed)
        return {"confirmed": sorted(pinned.confirmed)}


# --- messages ------------------------------------------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Plain fields in JSON: bytes as {"hex": ...}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return [shown(item) for item in value] if isinstance(value, list | tuple) else value


def unshown(value: Any) -> Any:
    if isinstance(value, dict):
        return raw(value["hex"])
    return [unshown(item) for item in value] if isinstance(value, list) else value


class DecodeMessage(Operation, frozen=True, tag="decode"):
    way: Literal["to-site", "to-coordinator"]
    bytes_: str = msgspec.field(name="bytes")
    gives = ("tag", "fields")

    def run(self) -> dict[str, Any]:
        expected = messages.TO_SITE if self.way == "to-site" else messages.TO_COORDINATOR
        message = messages.decode(raw(self.bytes_), expected, LIMITS)
        tag, *fields = msgspec.to_builtins(message, builtin_types=(bytes,))
        assert tag == messages.tag_of(message)
        return {"tag": tag, "fields": shown(fields)}


class EncodeMessage(Operation, frozen=True, tag="encode"):
    name: str = msgspec.field(name="tag")
    fields: list[Any]
    gives = ("bytes",)

    def run(self) -> dict[str, Any]:
        message = msgspec.convert([self.name, *unshown(self.fields)], messages.BY_TAG[self.name])
        return self.one(messages.encode(message))


# --- statements ----------------------------------------------------------------------------------------------------


class InSession(Operation, frozen=True):
    roster: str
    session: Session

    def pinned(self, confirmed: list[str] | None = None) -> PinnedRoster:
        """The roster, taken as signed by all."""
        roster = known_roster(self.roster)
        keys = {site.name: Ed25519PublicKey.from_public_bytes(raw(site.public_key)) for site in roster.sites}
        return PinnedRoster(roster, frozenset(roster.names if confirmed is None else confirmed), keys)

    def signed(self, seed: str, site: str, label: bytes, *parts: bytes) -> dict[str, Any]:
        context = statements.signing_context(self.pinned(), self.session.id)
        return {
            "statement": context.statement(label, site, parts).hex(),
            "signature": Identity.from_seed(raw(seed)).sign(label, context, site, *parts).hex(),
        }


class AdvertContent(InSession, frozen=True):
    site: str
    channel_key: str
    mask_key: str
    commitment: str
    binding: str

    @property
    def parts(self) -> tuple[bytes, bytes, bytes, bytes]:
        fields = raw(self.channel_key), raw(self.mask_key), raw(self.commitment), raw(self.binding)
        return statements.advert_parts(*fields)


class SignAdvert(AdvertContent, frozen=True, tag="advert"):
    seed: str
    gives = ("statement", "signature")

    def run(self) -> dict[str, Any]:
        return self.signed(self.seed, self.site, p.LABEL_ADVERT, *self.parts)


class CheckAdvert(AdvertContent, frozen=True, tag="advert-check"):
    signature: str
    expected: str
    advert_session: Session | None = None

    def run(self) -> dict[str, Any]:
        own = (self.advert_session or self.session).id
        advert = messages.Advert(own, self.site, *self.parts, raw(self.signature))
        statements.check_advert(advert, self.pinned(), self.session.id, raw(self.expected), "share")
        return {}


class ShareRow(Strict, frozen=True):
    site: str
    box: str
    b_hash: str
    s_hash: str


class Dealing(InSession, frozen=True):
    site: str
    adverts_digest: str
    shares: list[ShareRow]

    @property
    def content(self) -> tuple[bytes, bytes]:
        shares = [messages.SealedShare(r.site, raw(r.box), raw(r.b_hash), raw(r.s_hash)) for r in self.shares]
        return raw(self.adverts_digest), statements.tree_of(shares).root


class SignShares(Dealing, frozen=True, tag="shares"):
    seed: str
    gives = ("root", "statement", "signature")

    def run(self) -> dict[str, Any]:
        return {"root": self.content[1].hex(), **self.signed(self.seed, self.site, p.LABEL_SHARES, *self.content)}


class CheckShares(Dealing, frozen=True, tag="shares-check"):
    signature: str

    def run(self) -> dict[str, Any]:
        where = self.pinned(), self.session.id, "share"
        statements.check_dealing(self.site, self.content, raw(self.signature), *where)
        return {}


class SignVector(InSession, frozen=True, tag="vector-statement"):
    site: str
    vector: str
    seed: str
    gives = ("checksum", "statement", "signature")

    def run(self) -> dict[str, Any]:
        check = p.checksum(self.session.id, self.site, raw(self.vector))
        return {"checksum": check.hex(), **self.signed(self.seed, self.site, p.LABEL_VECTOR, check)}


class CheckVector(InSession, frozen=True, tag="vector"):
    site: str
    vector: str
    checksum: str
    signature: str

    def run(self) -> dict[str, Any]:
        fields = raw(self.vector), raw(self.checksum), raw(self.signature)
        message = messages.MaskedVector(self.session.id, self.site, *fields)
        statements.check_vector(message, self.pinned(), self.session.id, "mask")
        return {}


class Agreed(InSession, frozen=True):
    site: str
    sharers: list[str]
    survivors: list[str]
    adverts_digest: str

    @property
    def content(self) -> tuple[bytes, bytes, bytes]:
        return (
            statements.names_digest(p.LABEL_SHARERS, self.sharers),
            statements.names_digest(p.LABEL_SURVIVORS, self.survivors),
            raw(self.adverts_digest),
        )


class SignAgreement(Agreed, frozen=True, tag="agree"):
    seed: str
    gives = ("statement", "signature")

    def run(self) -> dict[str, Any]:
        return self.signed(self.seed, self.site, p.LABEL_AGREE, *self.content)


class CheckAgreement(Agreed, frozen=True, tag="agree-check"):
    signature: str

    def run(self) -> dict[str, Any]:
        agreement = messages.AgreeSignature(self.site, raw(self.signature))
        statements.check_agreement(agreement, self.content, self.pinned(), self.session.id, "unmask")
        return {}


class OpenedRow(Strict, frozen=True):
    site: str
    kind: Literal["b", "s"]
    share: str


class Answered(InSession, frozen=True):
    site: str
    shares: list[OpenedRow]

    @property
    def opened(self) -> tuple[messages.OpenedShare, ...]:
        return tuple(messages.OpenedShare(row.site, row.kind, raw(row.share)) for row in self.shares)


class SignAnswer(Answered, frozen=True, tag="answer"):
    seed: str
    gives = ("statement", "signature")

    def run(self) -> dict[str, Any]:
        return self.signed(self.seed, self.site, p.LABEL_ANSWER, *statements.answer_parts(self.opened))


class CheckAnswer(Answered, frozen=True, tag="answer-check"):
    signature: str

    def run(self) -> dict[str, Any]:
        answer = messages.UnmaskAnswer(self.session.id, self.site, self.opened, raw(self.signature))
        statements.check_answer(answer, self.pinned(), self.session.id, "unmask")
        return {}


class Sites(InSession, frozen=True, tag="sites"):
    names: list[str]
    confirmed: list[str]

    def run(self) -> dict[str, Any]:
        pinned = self.pinned(self.confirmed)
        statements.check_ordered(self.names, pinned, "share")
        statements.check_enough(self.names, pinned, self.session.id, "share")
        return {}


class Statement(Operation, frozen=True, tag="statement"):
    label: str
    study: str
    roster: str
    session: str
    signer: str
    parts: list[str]
    gives = ("statement",)

    def run(self) -> dict[str, Any]:
        context = SigningContext(raw(self.study), raw(self.roster), raw(self.session))
        return self.one(
            context.statement(f"wardround/v1/{self.label}".encode(), self.signer, list(map(raw, self.parts)))
        )
