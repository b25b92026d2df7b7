"""The status: always whole, never ahead of its process, and without a word about patients."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wardround.medical_datasets.errors import DataError
from wardround.platform.errors import RoundError
from wardround.platform.service import status_board
from wardround.platform.service.running import Life
from wardround.platform.service.status import StatusError, read_status, seconds_since, stamp
from wardround.platform.service.status_board import StatusBoard

DIGEST = "ab" * 32


def make(path: Path, **options: Any) -> StatusBoard:
    given: dict[str, Any] = {"owner": "amber", "parties": ["coordinator"], **options}
    return StatusBoard(path, "site", "brain", DIGEST, 5, **given)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consortium" / "status.json"


@pytest.fixture
def board(path: Path) -> Iterator[StatusBoard]:
    with make(path) as opened:
        yield opened


def wait_for(check: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def shows(path: Path, **wanted: Any) -> bool:
    seen = read_status(path)
    return seen is not None and all(getattr(seen.status, key) == value for key, value in wanted.items())


def test_before_the_first_start_there_is_none(path: Path) -> None:
    assert read_status(path) is None


def test_what_is_told_is_on_disk_and_private(board: StatusBoard, path: Path) -> None:
    board.state("running")
    board.at(2, "masked-vector")
    board.message("round-start", 1000, "in", "coordinator")
    board.message("masked-vector", 4000, "out", "coordinator")
    board.message("what is this", 1, "out", "coordinator")
    board.message("refusal", 10, "out", "coordinator")
    board.privacy(1.5, 2.5, 1e-5)
    board.work("encoding images", 3, 9)
    wait_for(lambda: shows(path, done=3, refusals=1))
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(path.parent).st_mode & 0o777 == 0o700
    seen = read_status(path)
    assert seen is not None
    assert (seen.life, seen.died, seen.running) == (Life.RUNS, False, True)
    status = seen.status
    assert (status.state, status.round, status.rounds, status.stage) == ("running", 2, 5, "mask")
    assert (status.incoming.bytes, status.incoming.messages) == (1000, {"round-start": 1})
    assert (status.outgoing.bytes, status.outgoing.messages) == (4011, {"masked-vector": 1, "other": 1, "refusal": 1})
    (party,) = status.parties
    assert (party.name, party.standing) == ("coordinator", "present")
    assert seconds_since(party.seen) is not None
    assert status.privacy is not None
    assert (status.privacy.epsilon, status.privacy.left) == (1.5, 2.5)


def test_a_new_stage_is_written_at_once_and_small_news_twice_a_second(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[dict[str, Any]] = []
    monkeypatch.setattr(status_board, "write_atomic", lambda _, data: writes.append(json.loads(data)))
    with make(path) as board:
        wait_for(lambda: bool(writes))
        began, first = time.monotonic(), len(writes)
        while time.monotonic() - began < 1.2:
            board.message("advert", 1, "in", "coordinator")
            time.sleep(0.002)
        assert len(writes) - first <= 3
        time.sleep(0.6)
        assert writes[-1]["incoming"]["messages"]["advert"] > 100  # the last news is not left out
        at = len(writes)
        board.at(1, "advert")
        wait_for(lambda: len(writes) > at, 0.25)
        assert writes[-1]["stage"] == "advertise"


def test_an_idle_process_gives_a_sign_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr(status_board, "PULSE", 0.05)
    monkeypatch.setattr(status_board, "write_atomic", lambda _, data: writes.append(data))
    with make(path):
        wait_for(lambda: len(writes) > 3)


def test_a_full_disk_stops_nobody_and_is_told_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[OSError | None] = []
    full, write = threading.Event(), status_board.write_atomic
    full.set()

    def writing(place: Path, data: bytes) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(place, data)

    monkeypatch.setattr(status_board, "write_atomic", writing)
    with make(path, trouble=told.append) as board:
        for number in range(1, 4):
            board.at(number, "advert")
            time.sleep(0.05)
        assert board.snapshot().round == 3
        wait_for(lambda: len(told) == 1)
        full.clear()
        board.at(4, "advert")
        wait_for(lambda: shows(path, round=4))
        wait_for(lambda: len(told) == 2)
    assert [type(each) for each in told] == [OSError, type(None)]


def test_a_disk_that_hangs_holds_up_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(status_board, "write_atomic", lambda *_: release.wait(20))
    board = make(path)
    try:
        began = time.monotonic()
        for number in range(200):
            board.at(number, "advert")
        assert time.monotonic() - began < 1.0
    finally:
        release.set()
        board.close()


def test_a_process_that_was_killed_is_told_apart(board: StatusBoard, path: Path) -> None:
    wait_for(lambda: shows(path, state="starting"))
    told = json.loads(path.read_bytes())
    for changes, died in (({"started": 1}, True), ({"boot": "before"}, True), ({"namespace": "pid:[9]"}, False)):
        board_file = path.with_name("copy.json")
        board_file.write_text(json.dumps({**told, "process": {**told["process"], **changes}}))
        seen = read_status(board_file)
        assert seen is not None
        assert seen.died is died


def test_an_orderly_end_is_no_death(path: Path) -> None:
    with make(path) as board:
        board.state("running")
        board.at(3, "advert")
    assert shows(path, state="stopped", round=3, stage="", error="")
    told = json.loads(path.read_bytes())
    path.write_text(json.dumps({**told, "process": {**told["process"], "started": 1}}))
    seen = read_status(path)
    assert seen is not None
    assert not seen.died
    board.close()  # twice does no harm


def test_a_complete_study_stays_complete(path: Path) -> None:
    with make(path) as board:
        board.state("complete")
    assert shows(path, state="complete")


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (RoundError("round 3 released nothing in 2 tries: timeout"), "paused", "round 3 released nothing"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/meier_anna.dcm"), "failed", "No space left"),
        (DataError("image meier_anna.dcm of group P-0042 is damaged"), "failed", "DataError"),
        (ValueError("group P-0042 has no label"), "failed", "ValueError"),
    ],
)
def test_a_failure_says_so_without_naming_anybody(path: Path, error: Exception, state: str, words: str) -> None:
    with pytest.raises(type(error)), make(path):
        raise error
    seen = read_status(path)
    assert seen is not None
    assert seen.status.state == state
    assert words in seen.status.error
    for planted in ("meier", "P-0042", "/data"):
        assert planted.encode() not in path.read_bytes()


def test_a_text_of_others_is_scrubbed_and_unknown_parties_are_not_taken_in(board: StatusBoard, path: Path) -> None:
    board.state(
        "failed", "amber: group 'Meier, Anna' in /data/x/0042.dcm is new, PAT_19620304, coordinator 'coordinator'"
    )
    board.party("meier", "present")
    board.message("advert", 1, "in", "P-0042")
    board.at(1, "Meier")
    wait_for(lambda: shows(path, state="failed", round=1))
    text = path.read_text()
    for planted in ("Meier", "meier", "0042", "19620304", "/data"):
        assert planted not in text
    seen = read_status(path)
    assert seen is not None
    assert seen.status.error.startswith("amber: group (…) in (…)")
    assert "'coordinator'" in seen.status.error


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: b"",
        lambda told: b"[]",
        lambda told: b"{" * 100_000,
        lambda told: b" " * 300_000,
        lambda told: json.dumps({**told, "more": 1}).encode(),
        lambda told: json.dumps({**told, "round": -1}).encode(),
        lambda told: json.dumps({**told, "since": "yesterday"}).encode(),
        lambda told: json.dumps({**told, "since": "2026-99-01T00:00:00Z"}).encode(),
        lambda told: json.dumps({**told, "state": "sleeping"}).encode(),
        lambda told: json.dumps({**told, "error": "\x1b[2J all is well"}).encode(),
        lambda told: json.dumps({**told, "owner": "amber\n"}).encode(),
        lambda told: json.dumps({**told, "parties": [{"name": "birch\x9b2J"}]}).encode(),
        lambda told: b"\xff" + json.dumps(told).encode(),
    ],
)
def test_a_damaged_status_is_refused_in_words(board: StatusBoard, path: Path, spoil: Callable[[Any], bytes]) -> None:
    wait_for(lambda: shows(path, state="starting"))
    copy = path.with_name("copy.json")
    copy.write_bytes(spoil(json.loads(path.read_bytes())))
    with pytest.raises(StatusError) as refused:
        read_status(copy)
    assert refused.value.remedy


def test_another_version_and_a_link_are_refused(board: StatusBoard, path: Path) -> None:
    wait_for(lambda: shows(path, state="starting"))
    copy = path.with_name("copy.json")
    told = msgspec.to_builtins(board.snapshot())
    copy.write_bytes(msgspec.json.encode({**told, "format": 2, "new": "thing"}))
    with pytest.raises(StatusError, match="format 2"):
        read_status(copy)
    link = path.with_name("link.json")
    link.symlink_to(path)
    with pytest.raises(StatusError, match="cannot be read"):
        read_status(link)


def test_many_threads_lose_nothing(board: StatusBoard) -> None:
    def tell() -> None:
        for _ in range(100):
            board.message("advert", 2, "in", "coordinator")

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert (board.snapshot().incoming.bytes, board.snapshot().incoming.messages["advert"]) == (1600, 800)


def test_times_are_utc() -> None:
    then = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert stamp(then) == "2026-03-01T12:00:00Z"
    assert seconds_since(stamp(then), at=then + timedelta(minutes=2)) == 120.0
    assert seconds_since("") is None
    assert seconds_since(stamp(then), at=then - timedelta(minutes=2)) == 0.0
