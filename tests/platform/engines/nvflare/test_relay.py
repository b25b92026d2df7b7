"""Frames over a Unix socket: whole or not at all, from this user only, and from who can read its private files."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wardround.platform.engines.nvflare.frames import Answer, Beat, Codec, Hand, RelayError
from wardround.platform.engines.nvflare.listener import Listener
from wardround.platform.engines.nvflare.relay import Link, connect, secret_path

KINDS = (Hand, Beat)
NUMBER = bytes(range(16))
OPEN: list[Any] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever a test opened is closed after it."""
    yield
    while OPEN:
        OPEN.pop().close()


def kept(*ends: Any) -> Any:
    OPEN.extend(ends)
    return ends if len(ends) > 1 else ends[0]


def linked() -> tuple[Link, socket.socket]:
    """A link, and the bare socket at its other end."""
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    kept(a, b)
    return kept(Link(a, KINDS)), b


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "p" / "relay.sock"


@pytest.fixture
def listener(path: Path) -> Iterator[Listener]:
    made = Listener(path, KINDS, limit=4_000_000)
    yield made
    made.close()


def pair(listener: Listener) -> tuple[Link, Link]:
    """Both ends of one link."""
    ours = kept(connect(listener.path, KINDS))
    theirs = listener.accept(5.0)
    assert theirs is not None
    return ours, kept(theirs)


def test_frames_arrive_whole_and_in_order_both_ways(listener: Listener) -> None:
    ours, theirs = pair(listener)
    large = Hand(NUMBER, os.urandom(3_000_000))
    sender = threading.Thread(target=lambda: [ours.send(large), ours.send(Beat(True))])
    sender.start()
    assert theirs.receive(5.0) == large
    assert theirs.receive(5.0) == Beat(True)
    theirs.send(Beat(False))
    assert ours.receive(5.0) == Beat(False)
    sender.join(5.0)
    assert ours.receive(0.01) is None


def test_a_frame_that_is_slow_to_come_is_not_lost() -> None:
    link, b = linked()
    body = Codec.encode(Beat(True))
    data = len(body).to_bytes(4, "big") + body
    for at in range(len(data) - 1):
        b.sendall(data[at : at + 1])
        assert link.receive(0.0) is None
    b.sendall(data[-1:])
    assert link.receive(5.0) == Beat(True)


@pytest.mark.parametrize("cut", [0, 2, 4, 9])
def test_a_peer_that_dies_at_any_byte_is_gone(cut: int) -> None:
    link, b = linked()
    b.sendall((100).to_bytes(4, "big")[:cut] + b"x" * max(0, cut - 4))
    b.close()
    with pytest.raises(RelayError, match="gone"):
        link.receive(5.0)
    assert link.closed
    with pytest.raises(RelayError, match="gone"):
        link.send(Beat(True))


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x92\xa4beat\xc3\xc3", b"\x93\xa4beat\xc3\xc3", b"\x92\xa4beat\x01", b"\x92\xa4stop\xc3"]
)
def test_what_is_no_frame_ends_the_link(body: bytes) -> None:
    link, b = linked()
    b.sendall(len(body).to_bytes(4, "big") + body)
    with pytest.raises(RelayError):
        link.receive(5.0)
    assert link.closed


def test_a_frame_of_another_kind_is_refused(listener: Listener) -> None:
    ours, theirs = pair(listener)
    ours.send(Answer(NUMBER, (b"x",)))
    with pytest.raises(RelayError, match="no frame of its kind"):
        theirs.receive(5.0)


def test_too_large_is_refused_on_either_side(listener: Listener) -> None:
    ours, theirs = pair(listener)
    with pytest.raises(RelayError, match="larger than"):
        theirs.send(Hand(NUMBER, bytes(4_000_001)))
    theirs.send(Beat(True))  # nothing of it was sent, so the link lives
    assert ours.receive(5.0) == Beat(True)
    threading.Thread(target=lambda: _try(ours, Hand(NUMBER, bytes(4_100_000))), daemon=True).start()
    with pytest.raises(RelayError, match="announced"):
        theirs.receive(5.0)


def _try(link: Link, frame: Hand) -> None:
    try:
        link.send(frame)
    except RelayError:
        link.close()


def test_who_cannot_show_the_secret_gets_no_link(listener: Listener) -> None:
    stranger = socket.socket(socket.AF_UNIX)
    stranger.connect(str(listener.path))
    stranger.sendall(bytes(32))
    assert listener.accept(5.0) is None
    stranger.close()
    assert secret_path(listener.path).stat().st_mode & 0o777 == 0o600
    assert listener.path.stat().st_mode & 0o777 == 0o600
    assert listener.path.parent.stat().st_mode & 0o777 == 0o700


def test_who_shows_the_secret_byte_by_byte_is_not_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardround.platform.engines.nvflare.listener.PROOF_SECONDS", 0.4)
    stranger, ended = kept(socket.socket(socket.AF_UNIX)), threading.Event()
    stranger.connect(str(listener.path))

    def drip() -> None:
        for byte in secret_path(listener.path).read_bytes():  # each comes in time; all of them take 3 seconds
            with contextlib.suppress(OSError):
                stranger.send(bytes([byte]))
            if ended.wait(0.1):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    assert listener.accept(5.0) is None
    assert time.monotonic() - began < 2.0
    ended.set()
    dripping.join(5.0)
    pair(listener)


def test_another_user_gets_no_link(path: Path) -> None:
    listener = Listener(path, KINDS, uid=os.geteuid() + 1)
    link = kept(connect(path, KINDS))
    assert listener.accept(5.0) is None
    with pytest.raises(RelayError):
        link.receive(5.0)
    listener.close()
    a, _ = kept(*socket.socketpair(socket.AF_UNIX))
    with pytest.raises(RelayError, match="belongs to user"):
        Link(a, KINDS, uid=os.geteuid() + 1)


def test_what_a_killed_process_left_is_replaced_and_what_is_alive_is_not(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    listener = Listener(path, KINDS)
    with pytest.raises(RelayError, match="another process listens"):
        Listener(path, KINDS)
    listener.accept(2.5)  # the probe
    pair(listener)
    listener.close()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(RelayError, match="a file is where"):
        Listener(path, KINDS)
    assert path.read_text() == "mine"


def test_a_long_path_and_an_open_folder_are_refused_in_words(tmp_path: Path, path: Path) -> None:
    with pytest.raises(RelayError, match="107"):
        Listener(tmp_path / ("x" * 120) / "s", KINDS)
    path.parent.mkdir(mode=0o755)
    path.parent.chmod(0o755)
    with pytest.raises(RelayError, match="chmod 700"):
        Listener(path, KINDS)
    with pytest.raises(RelayError, match="chmod 700"):
        connect(path, KINDS)
    path.parent.chmod(0o700)
    with pytest.raises(RelayError, match="nobody listens"):
        connect(path, KINDS)


def test_too_many_open_files_end_no_listener(listener: Listener) -> None:
    ours = kept(connect(listener.path, KINDS))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))  # what is open stays so
    try:
        assert listener.accept(5.0) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    theirs = listener.accept(5.0)
    assert theirs is not None
    kept(theirs)
    ours.send(Beat(True))
    assert theirs.receive(5.0) == Beat(True)


def test_who_waits_for_a_link_is_woken_when_the_listener_is_closed(listener: Listener) -> None:
    ended: list[bool] = []

    def wait() -> None:
        with pytest.raises(RelayError):
            listener.accept()
        ended.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    listener.close()
    thread.join(5.0)
    assert ended == [True]
