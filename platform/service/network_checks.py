"""Before a start: does the coordinator's address lead to the coordinator, and is its port free at the coordinator?

A hospital connects once, shakes hands under TLS with its own certificate, sends nothing and hangs up.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from pathlib import Path

from ..doctor import Check
from ..engines.nvflare.kits import CERTIFICATE, KEY, ROOT
from .running import Life
from .status import read_status

TIMEOUT = 5.0
"""Seconds for a connection, and for the handshake."""
_VERDICT = 0.7
"""Seconds in which a server says that it does not take a certificate; under TLS 1.3 it does so after the handshake."""
_STALE = (
    "This kit is stale, or leads elsewhere. Ask the coordinator whether its authority or address has changed, and join "
    "again with the kit that it sends: wardround site join KIT"
)
_CLOCKS = "The coordinator renews its own: wardround consortium provision --renew coordinator"
_EXPIRED, _NOT_YET, _HOST, _ADDRESS = 10, 9, 62, 64  # OpenSSL's X509_V_ERR_… numbers


def host_check(host: str) -> Check:
    """Whether the host's name has an address."""
    try:
        found = sorted({str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else "no name"
        return Check(
            "host name",
            False,
            f"{host} has no address here: {words}",
            "Compare the name with the invitation; ask the IT whether this machine's name server knows it",
        )
    return Check("host name", True, f"{host} is {', '.join(found)}")


def reach_check(host: str, port: int, kit: Path) -> Check:
    """Whether the coordinator's server answers, and is the one that the kit is for.

    Args:
        host, port: where it is reached. kit: FLARE's folder of this site, with key and certificates.
    """
    name, place = "coordinator", f"{host}:{port}"
    try:
        context = ssl.create_default_context(cafile=str(kit / ROOT))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(kit / CERTIFICATE, kit / KEY)
    except (OSError, ssl.SSLError):
        return Check(
            name, False, "key or certificates of the kit cannot be used", "Join again: wardround site join KIT"
        )
    try:
        connection = socket.create_connection((host, port), timeout=TIMEOUT)
    except ConnectionRefusedError:
        return Check(
            name,
            False,
            f"{place} refuses connections: no server listens there, or a firewall rejects them",
            "Ask the coordinator whether it runs (wardround coordinator start); if so, ask the IT to let this machine "
            f"connect to TCP {place}",
        )
    except OSError as error:
        words = "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        return Check(
            name,
            False,
            f"{place} cannot be reached: {words}",
            f"Ask the IT to let this machine connect to TCP {place}, without a proxy that opens TLS",
        )
    with connection:
        return _shake_hands(name, place, host, connection, context)


def port_check(name: str, port: int, status: Path) -> Check:
    """Whether the coordinator's server can listen at a port.

    Args:
        name: of the check. port: to listen at. status: of the coordinator, which may be running.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
            listener.listen(1)
        except OSError as error:
            seen = read_status(status)
            if error.errno == errno.EADDRINUSE and seen is not None and seen.life is Life.RUNS:
                return Check(
                    name, True, f"{port}, in use by the coordinator itself (process {seen.status.process.pid})"
                )
            if error.errno == errno.EADDRINUSE:
                return Check(
                    name,
                    False,
                    f"{port} is taken by another process",
                    f"Find it with: ss -ltnp 'sport = :{port}', and end it. Another port takes a new consortium: "
                    "hospitals have this one in their invitation",
                )
            return Check(
                name,
                False,
                f"{port} cannot be listened at: {error.strerror}",
                "Ports below 1024 need a right of their own (AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit)",
            )
    return Check(name, True, f"{port} is free")


def _shake_hands(name: str, place: str, host: str, connection: socket.socket, context: ssl.SSLContext) -> Check:
    try:
        with context.wrap_socket(connection, server_hostname=host) as secured:
            secured.settimeout(_VERDICT)
            # Where the server waits for the first word, it has taken the certificate.
            with contextlib.suppress(TimeoutError):
                if not secured.recv(1):
                    raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection at once")
            version, until = secured.version(), (secured.getpeercert() or {}).get("notAfter", "?")
            return Check(name, True, f"{place} answers under {version}; its certificate is valid until {until}")
    except ssl.SSLCertVerificationError as error:
        return _their_certificate(name, place, error)
    except ssl.SSLError as error:
        return _our_certificate(name, place, error.reason or "")
    except OSError as error:
        words = "no answer" if isinstance(error, TimeoutError) else error.strerror or type(error).__name__
        return Check(
            name,
            False,
            f"{place} took the connection and broke off the handshake: {words}",
            "Something between may open or block TLS: ask the IT for a direct way, or the coordinator for its log",
        )


def _their_certificate(name: str, place: str, error: ssl.SSLCertVerificationError) -> Check:
    match error.verify_code:
        case code if code == _EXPIRED:
            found, remedy = "has expired, by this machine's clock", f"Look at this machine's clock. {_CLOCKS}"
        case code if code == _NOT_YET:
            found, remedy = (
                "is not valid yet, by this machine's clock",
                "Look at this machine's clock: timedatectl status",
            )
        case code if code in (_HOST, _ADDRESS):
            found, remedy = "is for another host name", f"Compare the address with the invitation. {_CLOCKS}"
        case _:
            found, remedy = "was not signed by the authority in this site's kit", _STALE
    return Check(name, False, f"the certificate of {place} {found}", remedy)


def _our_certificate(name: str, place: str, reason: str) -> Check:
    """OpenSSL's name of the alert that the server sent, or of what was received instead of TLS."""
    if "EXPIRED" in reason:
        found, remedy = "this site's certificate has expired, by its clock", "Ask it for a new kit, and join with it"
    elif "UNKNOWN_CA" in reason or "BAD_CERTIFICATE" in reason or "CERTIFICATE_UNKNOWN" in reason:
        found, remedy = "it does not know the authority of this site's certificate", _STALE
    elif "WRONG_VERSION_NUMBER" in reason or "UNKNOWN_PROTOCOL" in reason or "HTTP_REQUEST" in reason:
        found = "what listens there does not speak TLS"
        remedy = "Compare the address with the invitation; ask the IT whether a proxy is in between"
    else:
        found = f"the handshake failed ({reason.lower().replace('_', ' ') or 'no reason given'})"
        remedy = "Ask the coordinator for its server's log. " + _STALE
    return Check(name, False, f"{place}: {found}", remedy)
