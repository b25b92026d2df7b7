"""The coordinator's certificate authority: it signs the requests of sites, and makes keys for the coordinator only."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ....privacy.atomic import make_private, write_atomic
from .certificates import (
    SERVER,
    CertificateError,
    check_machine_name,
    key_fits,
    new_key,
    private_pem,
    read_certificate,
    read_request,
)

_ORGANISATION = "wardround"
_SKEW = dt.timedelta(minutes=5)


class Authority:
    """The coordinator's certificate authority. Made by `create` or `load`; its key never leaves its folder."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key, self._certificate = key, certificate
        self.pem: bytes = certificate.public_bytes(Encoding.PEM)

    @classmethod
    def create(cls, folder: Path, project: str, *, days: int = 3650, now: dt.datetime | None = None) -> Authority:
        """Make an authority: ``folder/ca.key`` (mode 0600) and ``folder/ca.crt``.

        Raises:
            CertificateError: there is one already; replacing it would make every kit worthless.
            OSError: as the file system reports it.
        """
        make_private(folder)
        if (folder / "ca.key").exists() or (folder / "ca.crt").exists():
            raise CertificateError(
                "this folder holds an authority already", where=str(folder), remedy="Use it, or choose another folder."
            )
        now = now or _now()
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(f"{project[:40]} authority")
        certificate = (
            _builder(name, name, key.public_key(), key.public_key(), now - _SKEW, now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .sign(key, hashes.SHA384())
        )
        write_atomic(folder / "ca.key", private_pem(key))
        write_atomic(folder / "ca.crt", certificate.public_bytes(Encoding.PEM))
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority that `create` made.

        Raises:
            CertificateError: its files are missing, unreadable, or do not belong together.
        """
        try:
            key_pem, pem = (folder / "ca.key").read_bytes(), (folder / "ca.crt").read_bytes()
        except OSError as error:
            raise CertificateError(
                f"the authority cannot be read: {error.strerror}", where=str(folder), remedy="Restore it from a backup."
            ) from None
        if not key_fits(key_pem, pem):
            raise CertificateError("the authority's key and certificate do not belong together", where=str(folder))
        key = load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError("the authority's key is of a kind that it does not make", where=str(folder))
        return cls(key, read_certificate(pem))

    def sign_site(self, csr_pem: bytes, site: str, *, days: int = 398, now: dt.datetime | None = None) -> bytes:
        """A site's certificate, PEM. Nothing but the key is taken over from the request.

        Raises:
            CertificateError: the request is not this site's, not signed by its own key, weak, or asks for more.
        """
        check_machine_name(site)
        request, key = read_request(csr_pem, site)
        if [(part.oid, part.value) for part in request.subject] != [(NameOID.COMMON_NAME, site)]:
            raise CertificateError(
                f"the request is for {request.subject.rfc4514_string()[:80]!r}, not for {site!r}",
                remedy="Ask the site for a request under its own name.",
            )
        if list(request.extensions) or list(request.attributes):
            raise CertificateError(
                f"the request of {site!r} asks for more than a certificate of its name",
                remedy="Have the site make its request with this program.",
            )
        return self._leaf(_name(site), key, [], days, now)

    def sign_server(
        self, hosts: Sequence[str], *, days: int = 398, now: dt.datetime | None = None
    ) -> tuple[bytes, bytes]:
        """The server's new key and certificate, PEM, for the host names and addresses at which sites reach it."""
        key = new_key()
        names = [_host(host) for host in dict.fromkeys((*hosts, "localhost"))]
        return private_pem(key), self._leaf(_name(SERVER), key.public_key(), names, days, now)

    def sign_admin(
        self, name: str, role: str = "project_admin", *, days: int = 398, now: dt.datetime | None = None
    ) -> tuple[bytes, bytes]:
        """A new key and certificate, PEM, of somebody who may give the server orders under a role of FLARE."""
        key = new_key()
        return private_pem(key), self._leaf(_name(name, role), key.public_key(), [], days, now)

    def _leaf(
        self,
        subject: x509.Name,
        key: rsa.RSAPublicKey,
        names: list[x509.GeneralName],
        days: int,
        now: dt.datetime | None,
    ) -> bytes:
        now = now or _now()
        until = min(now + dt.timedelta(days=days), self._certificate.not_valid_after_utc)
        if until <= now:
            raise CertificateError(
                "the consortium's authority has expired",
                remedy="Found a new consortium and provision every site again.",
            )
        # FLARE's client parent process listens for its own job process under the site's certificate: hence server use.
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = (
            _builder(subject, self._certificate.subject, key, self._key.public_key(), now - _SKEW, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(uses, critical=False)
            .add_extension(x509.SubjectAlternativeName(names or [x509.DNSName(str(common))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA384()).public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    since: dt.datetime,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str, role: str = "") -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.COMMON_NAME, common),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
    ]
    if role:  # where FLARE looks for it
        parts.append(x509.NameAttribute(NameOID.UNSTRUCTURED_NAME, role))
    return x509.Name(parts)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
