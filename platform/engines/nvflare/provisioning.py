"""Makes the FLARE start-up kits of a consortium at the coordinator, without ever holding a site's private key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ....privacy.atomic import canonical_json, make_private, write_atomic
from .authority import Authority
from .certificates import CertificateError, check_machine_name, fingerprint
from .hardening import Machine as Machine
from .hardening import admin_files, server_files

ADMIN = "coordinator@wardround.invalid"
"""Who submits jobs, as FLARE names users; a reserved domain, so that nobody takes it for an address."""
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A consortium's kits.

    Attributes:
        server, admin: folders of the coordinator's own kits.
        sites: for each site the files of its kit, by path: its certificate, the authority's, and the server's
            address. No private key, which only the site has, and no setting of FLARE, for the site writes its own.
        authority: SHA-256 of the authority's certificate, which people confirm out of band.
    """

    server: Path
    admin: Path
    sites: Mapping[str, Mapping[str, bytes]]
    authority: str


def provision(
    folder: Path, project: str, machine: Machine, csrs: Mapping[str, bytes], *, days: int = 398
) -> Provisioned:
    """Make what is missing, and every site's kit. Certificates that were made before stay as they are.

    Args:
        folder: of the consortium at the coordinator, made with mode 0700; it holds ``authority/``, ``server/``,
            ``admin/`` and ``sites/``.
        project: the consortium's name.
        machine: where the server is reached. A changed one makes new server files, and kits that sites need again.
        csrs: the signing request of each site, PEM. A site that asks again with another key gets a new certificate.
        days: how long new certificates are valid.

    Raises:
        CertificateError: a name, request or address that cannot be used.
        OSError: as the file system reports it.
    """
    check_place(project, machine)
    for site in csrs:
        check_machine_name(site)
        if site == machine.host:
            raise CertificateError(f"{site!r} is the server's own name", remedy="Choose another name for the site.")
    make_private(folder)
    place = folder / "authority"
    authority = Authority.load(place) if (place / "ca.key").exists() else Authority.create(place, project)
    kits = {site: _site(folder / "sites" / site, authority, csr, site, days) for site, csr in sorted(csrs.items())}
    server, admin = folder / "server", folder / "admin"
    _server(server, authority, machine, days)
    if not (admin / "startup" / "client.crt").exists():
        key, certificate = authority.sign_admin(ADMIN, days=days)
        write_files(admin, {"startup/client.key": key, "startup/client.crt": certificate})
    root = {"startup/rootCA.pem": authority.pem}
    write_files(server, {**root, **server_files(project, machine, str(server.absolute()))})
    write_files(admin, {**root, **admin_files(project, ADMIN, machine)})
    files = {
        site: {
            "kit.json": description(project, site, machine),
            "startup/client.crt": certificate,
            **root,
        }
        for site, certificate in kits.items()
    }
    return Provisioned(server, admin, files, fingerprint(authority.pem))


def renew(folder: Path, machine: Machine, *, days: int = 398) -> None:
    """Give the server and the coordinator's admin new keys and certificates under the same authority.

    Raises:
        CertificateError: the authority is missing, broken or has expired.
        OSError: as the file system reports it.
    """
    authority = Authority.load(folder / "authority")
    key, certificate = authority.sign_server([machine.host], days=days)
    write_files(folder / "server", {"startup/server.key": key, "startup/server.crt": certificate})
    key, certificate = authority.sign_admin(ADMIN, days=days)
    write_files(folder / "admin", {"startup/client.key": key, "startup/client.crt": certificate})


def description(project: str, site: str, machine: Machine) -> bytes:
    """``kit.json``: the facts from which a site makes every other file by itself."""
    facts = {
        "admin_port": machine.admin_port,
        "format": 1,
        "host": machine.host,
        "port": machine.port,
        "project": project,
        "site": site,
    }
    return canonical_json(facts) + b"\n"


def check_place(project: str, machine: Machine) -> None:
    """Refuse a consortium's name or address that would not be what it seems in FLARE's files.

    Raises:
        CertificateError: one of them cannot be used.
    """
    if not _PROJECT.fullmatch(project):
        raise CertificateError(
            f"{project[:80]!r} cannot be a consortium's name",
            remedy="Use lower-case letters, digits, '_' and '-', at most 63.",
        )
    if not _HOST.fullmatch(machine.host):
        raise CertificateError(
            f"{machine.host[:80]!r} is no host name or IPv4 address", remedy="Give the name at which sites reach it."
        )
    for port in (machine.port, machine.admin_port):
        if type(port) is not int or not 1 <= port <= 65535:
            raise CertificateError(f"{port!r} is no port", remedy="Give a number from 1 to 65535.")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a kit's files, each mode 0600 in folders of mode 0700.

    Raises:
        OSError: as the file system reports it.
    """
    for path, content in files.items():
        make_private((folder / path).parent)
        write_atomic(folder / path, content)


def _server(folder: Path, authority: Authority, machine: Machine, days: int) -> None:
    place = folder / "startup" / "server.crt"
    hosts = folder / "hosts"
    if place.exists() and hosts.exists() and hosts.read_text() == machine.host:
        return
    key, certificate = authority.sign_server([machine.host], days=days)
    write_files(folder, {"startup/server.key": key, "startup/server.crt": certificate, "hosts": machine.host.encode()})


def _site(folder: Path, authority: Authority, csr: bytes, site: str, days: int) -> bytes:
    place, asked = folder / "client.crt", folder / "request.pem"
    if place.exists() and asked.exists() and asked.read_bytes() == csr:
        return place.read_bytes()
    certificate = authority.sign_site(csr, site, days=days)
    write_files(folder, {"client.crt": certificate, "request.pem": csr})
    return certificate
