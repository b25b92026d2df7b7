"""TLS keys, requests and certificates: hospitals make their own keys and check what they are given.

These keys authenticate machines to FLARE and nothing more: what a site says in a round is signed by its identity key
(``privacy/identity.py``), which no certificate replaces.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from ....privacy.egress import COORDINATOR
from ...errors import PlatformError

SERVER = "wardround-server"
"""What the coordinator's server is called in its certificate; every site expects this name."""
_KEY_BITS = 3072
_LARGEST_KEY_BITS = 8192
_EXPONENT = 65537
_PEM_BYTES = 64 * 1024
_SITE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_RESERVED = frozenset({SERVER, "server", "localhost", COORDINATOR})


class CertificateError(PlatformError):
    """A certificate, request or key that cannot be made, read or trusted."""


class Standing(enum.StrEnum):
    """What is right or wrong with a certificate."""

    GOOD = "good"
    UNREADABLE = "unreadable"
    OTHER_AUTHORITY = "other-authority"
    OTHER_NAME = "other-name"
    NOT_YET = "not-yet-valid"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Checked:
    """A certificate that was looked at.

    Attributes:
        standing: the first thing that is wrong with it, or ``GOOD``.
        name: whom it is for; empty when it is unreadable.
        since, until: when it is valid, UTC; None when it is unreadable.
    """

    standing: Standing
    name: str = ""
    since: dt.datetime | None = None
    until: dt.datetime | None = None


def check_machine_name(site: str) -> None:
    """Refuse a name that FLARE cannot carry: it takes dots for a hierarchy of its own.

    Raises:
        CertificateError: the name cannot be used.
    """
    if not _SITE.fullmatch(site) or site in _RESERVED:
        raise CertificateError(
            f"{site!r} cannot be a site's name over FLARE",
            remedy="Use lower-case letters, digits, '_' and '-', at most 63, no dots, and no reserved name "
            f"({', '.join(sorted(_RESERVED))}).",
        )


def new_request(site: str) -> tuple[bytes, bytes]:
    """A site's TLS key, and the request that its coordinator is to sign.

    Returns:
        The private key as unencrypted PEM, which must stay at the site in a file of mode 0600; the request as PEM.

    Raises:
        CertificateError: the name cannot be used.
    """
    check_machine_name(site)
    key = new_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)]))
        .sign(key, hashes.SHA256())
    )
    return private_pem(key), request.public_bytes(Encoding.PEM)


def fingerprint(pem: bytes) -> str:
    """SHA-256 of a certificate, 64 hexadecimal digits: what people compare out of band.

    Raises:
        CertificateError: it is no certificate.
    """
    return sha256(read_certificate(pem).public_bytes(Encoding.DER)).hexdigest()


def request_fingerprint(pem: bytes) -> str:
    """SHA-256 of the key that a request is about, 64 hexadecimal digits; the signed certificate keeps that key.

    Raises:
        CertificateError: it is no request.
    """
    return sha256(_der(read_request(pem, "a request")[1])).hexdigest()


def read_certificate(pem: bytes) -> x509.Certificate:
    """The one certificate in ``pem``.

    Raises:
        CertificateError: there is none, or more than one.
    """
    try:
        if len(pem) > _PEM_BYTES or pem.count(b"-----BEGIN ") != 1:
            raise ValueError
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("not one certificate in PEM") from None


def key_fits(key_pem: bytes, certificate_pem: bytes) -> bool:
    """Whether the private key is the certificate's.

    Raises:
        CertificateError: the certificate cannot be read, or the key cannot.
    """
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("not an unencrypted private key in PEM") from None
    return _der(key.public_key()) == _der(read_certificate(certificate_pem).public_key())


def check_certificate(pem: bytes, authority_pem: bytes, *, name: str | None = None, now: dt.datetime) -> Checked:
    """Look at a certificate as ``doctor --kit`` does.

    Args:
        pem: the certificate.
        authority_pem: the authority that must have signed it, itself checked by its fingerprint.
        name: whom it must be for; None for anybody.
        now: the time to check at, with a time zone.
    """
    try:
        found, authority = read_certificate(pem), read_certificate(authority_pem)
        names = [str(part.value) for part in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (CertificateError, ValueError):
        return Checked(Standing.UNREADABLE)
    since, until = found.not_valid_before_utc, found.not_valid_after_utc
    shown = names[0] if len(names) == 1 else ""
    standing = Standing.GOOD
    if not _signed_by(found, authority):
        standing = Standing.OTHER_AUTHORITY
    elif not shown or (name is not None and shown != name):
        standing = Standing.OTHER_NAME
    elif now < max(since, authority.not_valid_before_utc):
        standing = Standing.NOT_YET
    elif now > min(until, authority.not_valid_after_utc):
        standing = Standing.EXPIRED
    return Checked(standing, shown, since, min(until, authority.not_valid_after_utc))


def read_request(pem: bytes, site: str) -> tuple[x509.CertificateSigningRequest, rsa.RSAPublicKey]:
    """A request that is signed by its own key, and that key, which is strong enough; its names are not looked at.

    Raises:
        CertificateError: it is not such a request.
    """
    try:
        if len(pem) > _PEM_BYTES or pem.count(b"-----BEGIN ") != 1:
            raise ValueError
        request = x509.load_pem_x509_csr(pem)
        signed = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise CertificateError(f"what {site!r} sent is no signing request in PEM") from None
    if not signed:
        raise CertificateError(f"the request of {site!r} is not signed by its own key")
    if not isinstance(key, rsa.RSAPublicKey) or not (
        _KEY_BITS <= key.key_size <= _LARGEST_KEY_BITS and key.public_numbers().e == _EXPONENT
    ):
        raise CertificateError(
            f"the request of {site!r} is for a key that is not RSA of {_KEY_BITS} to {_LARGEST_KEY_BITS} bits",
            remedy="Have the site make its request with this program.",
        )
    return request, key


def _signed_by(found: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        found.verify_directly_issued_by(authority)
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return constraints.ca


def new_key() -> rsa.RSAPrivateKey:
    """A TLS key."""
    # FLARE signs jobs and tokens with RSA-PSS, so that no other kind of key works.
    return rsa.generate_private_key(public_exponent=_EXPONENT, key_size=_KEY_BITS)


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _der(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
