"""Hospitals keep their keys; the coordinator's authority signs nothing but a site's own request."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import (
    SERVER,
    CertificateError,
    Standing,
    check_certificate,
    check_machine_name,
    fingerprint,
    key_fits,
    new_request,
    read_certificate,
    request_fingerprint,
)

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def request_of_alpha() -> tuple[bytes, bytes]:
    return new_request("alpha")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", "demo", now=NOW)


def test_a_sites_certificate_is_for_its_key_and_name(
    authority: Authority, request_of_alpha: tuple[bytes, bytes]
) -> None:
    key, csr = request_of_alpha
    pem = authority.sign_site(csr, "alpha", now=NOW)
    assert key_fits(key, pem)
    checked = check_certificate(pem, authority.pem, name="alpha", now=NOW)
    assert (checked.standing, checked.name) == (Standing.GOOD, "alpha")
    assert checked.until == NOW + 398 * DAY
    constraints = read_certificate(pem).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    assert request_fingerprint(csr) != fingerprint(pem)


def test_validity_is_what_was_asked_for_but_ends_with_the_authority(
    tmp_path: Path, request_of_alpha: tuple[bytes, bytes]
) -> None:
    short = Authority.create(tmp_path, "demo", days=30, now=NOW)
    pem = short.sign_site(request_of_alpha[1], "alpha", now=NOW)
    assert check_certificate(pem, short.pem, now=NOW + 29 * DAY).standing is Standing.GOOD
    assert check_certificate(pem, short.pem, now=NOW + 31 * DAY).standing is Standing.EXPIRED
    with pytest.raises(CertificateError, match="authority has expired"):
        short.sign_site(request_of_alpha[1], "alpha", now=NOW + 31 * DAY)
    ten = short.sign_site(request_of_alpha[1], "alpha", days=10, now=NOW)
    assert check_certificate(ten, short.pem, now=NOW + 11 * DAY).standing is Standing.EXPIRED


def test_the_authority_is_kept_private_loaded_again_and_never_replaced(tmp_path: Path) -> None:
    made = Authority.create(tmp_path / "a", "demo")
    assert stat.S_IMODE((tmp_path / "a" / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert Authority.load(tmp_path / "a").pem == made.pem
    with pytest.raises(CertificateError, match="already"):
        Authority.create(tmp_path / "a", "demo")
    other = Authority.create(tmp_path / "b", "demo")
    (tmp_path / "a" / "ca.crt").write_bytes(other.pem)
    with pytest.raises(CertificateError, match="belong together"):
        Authority.load(tmp_path / "a")
    (tmp_path / "a" / "ca.key").unlink()
    with pytest.raises(CertificateError, match="cannot be read"):
        Authority.load(tmp_path / "a")


Change = Callable[[x509.CertificateSigningRequestBuilder], x509.CertificateSigningRequestBuilder]


def odd_request(
    change: Change = lambda builder: builder,
    name: list[tuple[x509.ObjectIdentifier, str]] | None = None,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    parts = [x509.NameAttribute(oid, value) for oid, value in name or [(NameOID.COMMON_NAME, "alpha")]]
    builder = change(x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts)))
    return builder.sign(key or rsa.generate_private_key(65537, 3072), hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: odd_request(name=[(NameOID.COMMON_NAME, "beta")]), "not for 'alpha'"),
        (lambda: odd_request(name=[(NameOID.COMMON_NAME, SERVER)]), "not for 'alpha'"),
        (
            lambda: odd_request(name=[(NameOID.COMMON_NAME, "alpha"), (NameOID.UNSTRUCTURED_NAME, "project_admin")]),
            "not for 'alpha'",
        ),
        (lambda: odd_request(name=[(NameOID.COMMON_NAME, "alpha"), (NameOID.COMMON_NAME, SERVER)]), "not for 'alpha'"),
        (
            lambda: odd_request(
                lambda builder: builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            ),
            "asks for more",
        ),
        (
            lambda: odd_request(
                lambda builder: builder.add_extension(
                    x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
                )
            ),
            "asks for more",
        ),
        (
            lambda: odd_request(lambda builder: builder.add_attribute(NameOID.UNSTRUCTURED_NAME, b"project_admin")),
            "asks for more",
        ),
        (lambda: odd_request(key=rsa.generate_private_key(65537, 2048)), "not RSA"),
        (lambda: odd_request(key=ec.generate_private_key(ec.SECP256R1())), "not RSA"),
        (lambda: b"", "no signing request"),
        (lambda: b"x" * 100_000, "no signing request"),
        (lambda: odd_request() + odd_request(), "no signing request"),
    ],
)
def test_a_request_that_asks_for_anything_else_is_refused(
    authority: Authority, make: Callable[[], bytes], words: str
) -> None:
    with pytest.raises(CertificateError, match=words):
        authority.sign_site(make(), "alpha")


def test_a_request_with_a_broken_signature_is_refused(
    authority: Authority, request_of_alpha: tuple[bytes, bytes]
) -> None:
    found = x509.load_pem_x509_csr(request_of_alpha[1])
    changed = bytearray(found.public_bytes(Encoding.DER))
    changed[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(changed)).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateError, match="not signed by its own key"):
        authority.sign_site(broken, "alpha")


@pytest.mark.parametrize(
    "name", ["", "A", "a.b", "server", SERVER, "localhost", "coordinator", "a" * 64, "a b", "../a"]
)
def test_names_that_flare_or_we_use_otherwise_are_refused(name: str) -> None:
    with pytest.raises(CertificateError, match="cannot be a site's name"):
        check_machine_name(name)


def test_what_is_wrong_with_a_certificate_is_told(
    authority: Authority, request_of_alpha: tuple[bytes, bytes], tmp_path: Path
) -> None:
    pem = authority.sign_site(request_of_alpha[1], "alpha", now=NOW)
    other = Authority.create(tmp_path / "other", "demo", now=NOW)

    def standing(
        pem: bytes = pem, root: bytes = authority.pem, name: str = "alpha", now: dt.datetime = NOW
    ) -> Standing:
        return check_certificate(pem, root, name=name, now=now).standing

    assert standing() is Standing.GOOD
    assert standing(now=NOW - DAY) is Standing.NOT_YET
    assert standing(now=NOW + 399 * DAY) is Standing.EXPIRED
    assert standing(name="beta") is Standing.OTHER_NAME
    assert standing(root=other.pem) is Standing.OTHER_AUTHORITY
    assert standing(root=pem) is Standing.OTHER_AUTHORITY
    assert standing(pem=b"x") is Standing.UNREADABLE
    assert standing(pem=pem + pem) is Standing.UNREADABLE


def test_the_coordinators_own_keys_are_made_for_it(authority: Authority) -> None:
    key, pem = authority.sign_server(["flare.example.org", "192.0.2.7"])
    assert key_fits(key, pem)
    names = read_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["flare.example.org", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    _, admin = authority.sign_admin("somebody@example.org", "lead")
    roles = read_certificate(admin).subject.get_attributes_for_oid(NameOID.UNSTRUCTURED_NAME)
    assert [role.value for role in roles] == ["lead"]
