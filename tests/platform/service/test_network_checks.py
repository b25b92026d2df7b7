"""Reaching the coordinator: every way in which it can fail is told apart, against real TLS on loopback."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from wardround.platform.engines.nvflare.authority import Authority
from wardround.platform.engines.nvflare.certificates import new_request
from wardround.platform.engines.nvflare.kits import CERTIFICATE, KEY, ROOT
from wardround.platform.service import network_checks
from wardround.platform.service.network_checks import reach_check
from wardround.privacy.atomic import make_private, write_atomic

OLD = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
Serve = Callable[[socket.socket], None]


@functools.cache
def request_of_amber() -> tuple[bytes, bytes]:
    return new_request("amber")


@dataclass(frozen=True)
class Place:
    """An authority, a kit of a site, and the server's key and certificate."""

    folder: Path
    authority: Authority

    @property
    def kit(self) -> Path:
        return self.folder / "kit"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    def make_kit(self, authority: Authority, now: dt.datetime | None = None) -> None:
        key, request = request_of_amber()
        make_private((self.kit / KEY).parent)
        write_atomic(self.kit / KEY, key)
        write_atomic(self.kit / CERTIFICATE, authority.sign_site(request, "amber", now=now))
        write_atomic(self.kit / ROOT, self.authority.pem)

    def make_server(self, authority: Authority, hosts: list[str], now: dt.datetime | None = None) -> None:
        key, certificate = authority.sign_server(hosts, now=now)
        write_atomic(self.server, key + certificate)

    def speaks_tls(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Serve:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        context.load_verify_locations(cadata=self.authority.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = version

        def serve(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

        return serve


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All is well here; keys take seconds, so they are made once."""
    folder = tmp_path_factory.mktemp("made")
    found = Place(folder, Authority.create(folder / "authority", "project", now=OLD))
    found.make_kit(found.authority)
    found.make_server(found.authority, ["127.0.0.1"])
    return found


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """A copy, to be spoiled."""
    shutil.copytree(made.folder, tmp_path / "place")
    return Place(tmp_path / "place", made.authority)


@contextlib.contextmanager
def listening(serve: Serve) -> Iterator[int]:
    """One connection after the other is served, until the test ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    connection.settimeout(5)
                    with connection, contextlib.suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(timeout=10)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_coordinator_that_answers(place: Place, version: ssl.TLSVersion) -> None:
    with listening(place.speaks_tls(version)) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert check.sound, check
    assert "TLSv1" in check.found


def test_nobody_listens(place: Place, a_free_port: Callable[[], int]) -> None:
    check = reach_check("127.0.0.1", a_free_port(), place.kit)
    assert "refuses connections" in check.found
    assert "wardround coordinator start" in check.remedy


def test_a_firewall_that_drops(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> socket.socket:
        raise TimeoutError

    monkeypatch.setattr(network_checks.socket, "create_connection", silent)
    check = reach_check("127.0.0.1", 1, place.kit)
    assert "cannot be reached: no answer" in check.found
    assert "Ask the IT" in check.remedy


def test_a_server_of_another_authority(place: Place, tmp_path: Path) -> None:
    """The kit is stale, or somebody stands in between."""
    place.make_server(Authority.create(tmp_path / "other", "project"), ["127.0.0.1"])
    with listening(place.speaks_tls()) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "not signed by the authority in this site's kit" in check.found
    assert "stale" in check.remedy
    assert "wardround site join KIT" in check.remedy


def test_a_server_whose_certificate_has_expired(place: Place) -> None:
    place.make_server(place.authority, ["127.0.0.1"], now=OLD)
    with listening(place.speaks_tls()) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "has expired" in check.found
    assert "clock" in check.remedy
    assert "--renew coordinator" in check.remedy


def test_a_server_whose_certificate_is_not_valid_yet(place: Place) -> None:
    place.make_server(place.authority, ["127.0.0.1"], now=dt.datetime.now(dt.UTC) + dt.timedelta(days=9))
    with listening(place.speaks_tls()) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "not valid yet" in check.found
    assert "timedatectl" in check.remedy


def test_a_server_of_another_name(place: Place) -> None:
    place.make_server(place.authority, ["elsewhere.example"])
    with listening(place.speaks_tls()) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "another host name" in check.found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_does_not_take_this_sites_certificate(
    place: Place, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    place.make_kit(Authority.create(tmp_path / "other", "project"))
    with listening(place.speaks_tls(version)) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "does not know the authority of this site's certificate" in check.found
    place.make_kit(place.authority, now=OLD)
    with listening(place.speaks_tls(version)) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "this site's certificate has expired" in check.found
    assert "new kit" in check.remedy


def test_something_else_listens(place: Place) -> None:
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "does not speak TLS" in check.found
    assert "proxy" in check.remedy


def test_one_that_hangs_up(place: Place) -> None:
    with listening(lambda connection: None) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert not check.sound
    assert check.remedy


def test_one_that_says_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_checks, "TIMEOUT", 0.3)
    silence = threading.Event()
    with listening(lambda connection: bool(silence.wait(1.0)) and None) as port:
        check = reach_check("127.0.0.1", port, place.kit)
    assert "broke off the handshake: no answer" in check.found


def test_a_kit_that_cannot_be_used(place: Place) -> None:
    (place.kit / KEY).write_text("no key")
    check = reach_check("127.0.0.1", 1, place.kit)
    assert "cannot be used" in check.found
    assert "site join" in check.remedy
