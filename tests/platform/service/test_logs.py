"""The log: lines for machines, and nothing that is on no list gets in, whoever hands it in."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from wardround.medical_datasets.errors import DataError
from wardround.platform.service import logs
from wardround.platform.service.board_watcher import BoardWatcher
from wardround.platform.service.logs import EventLog
from wardround.platform.service.status_board import StatusBoard
from wardround.privacy.errors import ProtocolError, Refusal

DIGEST = "cd" * 32
PLANTED = ("Meier", "P-0042", "/data/meier.dcm", "-----BEGIN PRIVATE KEY-----", "pat-0042")


def lines(path: Path, *, ends: bool = False) -> list[dict[str, Any]]:
    """What was written; without the process' start and end, which every log has."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in found if ends or not line["event"].startswith("process-")]


def make(folder: Path) -> EventLog:
    return EventLog(folder, side="coordinator", owner="coordinator", digest=DIGEST, parties=["amber", "birch"])


def test_an_event_is_a_line(tmp_path: Path) -> None:
    with make(tmp_path / "logs") as log:
        log.event("message", type="masked-vector", bytes=4000, direction="in", party="amber")
    assert [each["event"] for each in lines(log.path, ends=True)] == ["process-started", "message", "process-ended"]
    (line,) = lines(log.path)
    assert line["time"].endswith("Z")
    assert (line["event"], line["type"], line["bytes"], line["party"]) == ("message", "masked-vector", 4000, "amber")
    assert (line["study"], line["side"], line["level"]) == (DIGEST, "coordinator", "info")
    assert os.stat(log.path).st_mode & 0o777 == 0o600
    assert os.stat(log.path.parent).st_mode & 0o777 == 0o700


def test_what_is_on_no_list_is_dropped(tmp_path: Path) -> None:
    with make(tmp_path) as log:
        for name in logs.FIELDS:
            for planted in PLANTED:
                log.event("message", **{name: planted})
        for planted in PLANTED:
            log.event("message", party=planted, file=planted, text=planted, group=planted)
            log.event(planted)
        log.event("round-done", round=True, seconds=float("nan"), sites=2**60, bytes=1.5, count="3")
        try:
            raise DataError(f"group {PLANTED[1]} in {PLANTED[2]} is damaged")
        except DataError as error:
            log.error(error)
        log.error(OSError(errno.ENOSPC, "full", PLANTED[2]))
        log.error(ProtocolError(PLANTED[0], code=Refusal.CORRUPTED, stage="mask", site="amber"))
        log.error(ValueError(PLANTED[1]))
    text = log.path.read_text()
    for planted in PLANTED:
        assert planted not in text
    found = lines(log.path)
    alike = {"time", "level", "event", "side", "owner", "study", "software"}
    errors = [line for line in found if line["event"] == "error"]
    assert all(set(line) == alike for line in found if line["event"] != "error")
    assert [line["error"] for line in errors] == ["DataError", "OSError", "other", "other"]
    assert errors[1]["errno"] == errno.ENOSPC
    assert errors[2]["code"] == "corrupted"


def test_records_of_other_loggers_do_not_pass(tmp_path: Path) -> None:
    """The handler is safe on any logger: a library's record, or one with an exception, leaves nothing."""
    with make(tmp_path) as log:
        other = logging.Logger("somebody")
        other.addHandler(log.handler)
        other.error("cannot read %s", PLANTED[2])
        other.warning(PLANTED[0])
        try:
            raise ValueError(PLANTED[1])
        except ValueError:
            other.exception("error", extra={"wardround": {"party": PLANTED[4], "file": PLANTED[2], "round": 3}})
        other.error("error", extra={"wardround": PLANTED})
    text = log.path.read_text()
    for planted in PLANTED:
        assert planted not in text
    assert [line.get("round") for line in lines(log.path)] == [3, None]


def test_nothing_of_ours_goes_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(0), make(tmp_path) as log:
        log.event("note")
    assert caplog.records == []


def test_files_are_rotated_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2000)
    before = os.umask(0o000)
    try:
        with make(tmp_path) as log:
            for number in range(200):
                log.event("stage", round=number)
    finally:
        os.umask(before)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["events.jsonl", *(f"events.jsonl.{n}" for n in (1, 2, 3, 4))]
    assert all(path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size <= 2000 for path in files)
    assert lines(files[0])[-1]["round"] == 199


def test_a_full_disk_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = make(tmp_path)
    try:
        with monkeypatch.context() as full:
            full.setattr(logs._PrivateFile, "_open", refuse)
            log.event("note")
            log.event("note")
        assert log.lost == 2
        log.event("note")
    finally:
        log.close()
    assert len(lines(log.path)) == 1
    assert capfd.readouterr().err == ""


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "events.jsonl").symlink_to(victim)
    with make(tmp_path) as log:
        log.event("note")
        assert log.lost == 2
    assert victim.read_text() == ""


class Person:
    """Looks on, and remembers."""

    brief = True

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def stage(self, title: str) -> None:
        self.told.append(("stage", title))

    def progress(self, done: int, total: int, unit: str, rate: float | None = None) -> None:
        self.told.append(("progress", done))

    def round_done(self, record: Any, total: int) -> None:
        self.told.append(("round", record["round"]))

    def note(self, text: str) -> None:
        self.told.append(("note", text))


def test_the_watcher_tells_all_three(tmp_path: Path) -> None:
    person = Person()
    with (
        make(tmp_path) as log,
        StatusBoard(tmp_path / "status.json", "coordinator", "s", DIGEST, 5, parties=["amber", "birch"]) as board,
    ):
        watcher = BoardWatcher(board, log, person)
        assert watcher.brief
        watcher.stage("rounds")
        watcher.progress(1, 4, "images")
        watcher.state("running")
        watcher.state("running")
        watcher.at(1, "advert")
        watcher.at(1, "advert")
        watcher.party("amber", "present")
        watcher.party("birch", "absent")
        watcher.party("birch", "absent")
        watcher.message("masked-vector", 9, "in", "amber")
        watcher.note(f"left out: {PLANTED[2]}")
        watcher.round_done(
            {
                "round": 1,
                "participants": ["amber"],
                "dropped": [{"site": "birch", "stage": "mask", "reason": "timeout"}],
                "seconds": {"total": 2.5},
            },
            5,
        )
        log.status_trouble(OSError(errno.ENOSPC, "full"))
        log.status_trouble(None)
        watcher.privacy(1.0, 2.0, 1e-5)
        status = board.snapshot()
    assert {party.name: party.standing for party in status.parties} == {"amber": "present", "birch": "dropped"}
    assert (status.round, status.stage, status.work, status.done, status.total) == (1, "end", "rounds", 1, 4)
    assert [line["event"] for line in lines(log.path)] == [
        "work",
        "state",
        "stage",
        "party",
        "party",
        "message",
        "note",
        "round-done",
        "status-not-written",
        "status-written-again",
        "budget",
    ]
    done = next(line for line in lines(log.path) if line["event"] == "round-done")
    assert (done["sites"], done["dropped"], done["seconds"], done["ending"]) == (1, 1, 2.5, "released")
    assert PLANTED[2] not in log.path.read_text()
    assert person.told[-2:] == [("note", f"left out: {PLANTED[2]}"), ("round", 1)]
