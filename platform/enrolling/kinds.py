"""The kinds of documents that people carry, as strict types; `documents` signs, writes, reads and checks them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

FORMAT = 1
FEWEST_SAMPLES = 11
"""Training images, or units, with which a hospital may ask to take part: a smaller number would say much of few."""

Hash = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
PublicKey = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Signature = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
SiteName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,62}\Z")]
Host = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\Z")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Pem = Annotated[str, msgspec.Meta(max_length=64 * 1024)]


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="invitation"):
    """Asks hospitals to take part; signed by the coordinator.

    Attributes:
        study: the study as `portable.portable` makes it. study_hash: its SHA-256.
        coordinator: raw Ed25519 public key, hexadecimal.
        host, port, admin_port: where the coordinator's server is reached.
        created: UTC seconds since 1970.
    """

    study: dict[str, Any]
    study_hash: Hash
    coordinator: PublicKey
    host: Host
    port: Port
    admin_port: Port
    created: Seconds
    format: int = FORMAT


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="request"):
    """A hospital asks to take part; signed by the site.

    Attributes:
        study_hash, invitation_sha256: what it answers (`Signed.sha256` of the invitation).
        site: its name. public_key: of its identity, hexadecimal.
        samples: training images, or units under differential privacy.
        csr: signing request for its TLS key, PEM.
        backbone: fingerprint of the frozen CLIP that it has.
    """

    study_hash: Hash
    invitation_sha256: Hash
    site: SiteName
    public_key: PublicKey
    samples: Count
    csr: Pem
    backbone: Hash
    format: int = FORMAT


class Kit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="kit"):
    """What a hospital gets back; signed by the coordinator. It holds no setting: a site writes its own.

    Attributes:
        study_hash, invitation_sha256: as in the request. site: whose kit it is.
        roster: the roster's JSON, not signed by anybody yet.
        authority, certificate: the consortium's authority and the site's certificate, PEM.
        created: UTC seconds since 1970.
    """

    study_hash: Hash
    invitation_sha256: Hash
    site: SiteName
    roster: str
    authority: Pem
    certificate: Pem
    created: Seconds
    format: int = FORMAT


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="approval"):
    """A hospital's consent: its signature over the roster; signed by the site.

    Attributes:
        study_hash: of the study. site: who consents.
        roster_sha256: hash of the roster. roster_signature: of `Roster.sign`, hexadecimal.
    """

    study_hash: Hash
    site: SiteName
    roster_sha256: Hash
    roster_signature: Signature
    format: int = FORMAT


class SignedRoster(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="signed-roster"):
    """The roster with every site's signature; signed by the coordinator.

    Attributes:
        study_hash: of the study. roster: its JSON. signatures: of the sites over it, by name, hexadecimal.
    """

    study_hash: Hash
    roster: str
    signatures: dict[SiteName, Signature]
    format: int = FORMAT


Document = Invitation | Request | Kit | Approval | SignedRoster
Kind = TypeVar("Kind", bound=Document)
WORDS: dict[type, str] = {
    Invitation: "an invitation",
    Request: "a request to take part",
    Kit: "a kit",
    Approval: "an approval",
    SignedRoster: "a signed roster",
}
"""What each kind is called in messages."""
